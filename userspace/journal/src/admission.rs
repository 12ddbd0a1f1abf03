//! What is sent to the journal by a message: whether it is kept, and if not, why.

use crate::text::is_field;
use alloc::collections::BTreeMap;

/// Bytes of a record's scope.
pub const SCOPE_BYTES_MAX: usize = 64;
/// Bytes of a record's message.
pub const MESSAGE_BYTES_MAX: usize = 256;
/// Bytes of a record's fields.
pub const FIELDS_BYTES_MAX: usize = 512;
/// The highest level: trace.
pub const LEVEL_MAX: u8 = 4;
/// Records that one sender may send in a second.
pub const RATE_MAX: u32 = 24;
/// Senders that are counted within a second; further ones wait for the next.
pub const SENDERS_MAX: usize = 64;
/// Seconds in which a class of refusals is told of once.
const TELL_SECONDS: u64 = 10;

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// It says what may not be said.
    InvalidArgs = 0,
    /// It is longer than it may be.
    OverLimit = 1,
    /// Its sender sent too much within a second.
    RateLimited = 2,
}

impl Reject {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Reject::InvalidArgs => "invalid_args",
            Reject::OverLimit => "over_limit",
            Reject::RateLimited => "rate_limited",
        }
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// How serious it says it is.
    pub level: u8,
    /// What part of its sender it is of.
    pub scope: &'a str,
    /// What it says.
    pub message: &'a str,
    /// `key=value` lines.
    pub fields: &'a str,
}

/// The state of refusals: who sent how much, what was refused, what was told.
#[derive(Debug)]
pub struct Admission {
    ticks_per_second: u64,
    second: u64,
    senders: BTreeMap<u64, u32>,
    rejected: [u64; 3],
    told: [Option<u64>; 3],
}

impl Admission {
    /// Nobody has sent anything.
    pub fn new(ticks_per_second: u64) -> Self {
        let ticks_per_second = ticks_per_second.max(1);
        Admission { ticks_per_second, second: 0, senders: BTreeMap::new(), rejected: [0; 3], told: [None; 3] }
    }

    /// Whether what this sender sent is kept. Every attempt counts against its rate, so refusals are not free.
    pub fn admit(&mut self, sender: u64, now: u64, sent: &Sent<'_>) -> Result<(), Reject> {
        self.count(sender, now)?;
        if sent.scope.len() > SCOPE_BYTES_MAX
            || sent.message.len() > MESSAGE_BYTES_MAX
            || sent.fields.len() > FIELDS_BYTES_MAX
        {
            return Err(Reject::OverLimit);
        }
        let is_text = |text: &str| !text.chars().any(char::is_control);
        let is_valid = sent.level <= LEVEL_MAX
            && is_text(sent.scope)
            && is_text(sent.message)
            && sent.fields.split_terminator('\n').all(|line| is_text(line) && is_field(line));
        if is_valid { Ok(()) } else { Err(Reject::InvalidArgs) }
    }

    fn count(&mut self, sender: u64, now: u64) -> Result<(), Reject> {
        let second = now / self.ticks_per_second;
        if second != self.second {
            (self.second, self.senders) = (second, BTreeMap::new());
        }
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&sender) {
            return Err(Reject::RateLimited);
        }
        let count = self.senders.entry(sender).or_default();
        *count = count.saturating_add(1);
        if *count > RATE_MAX { Err(Reject::RateLimited) } else { Ok(()) }
    }

    /// Counts a refusal; yields whether it is to be told of, which is once in a while for each class.
    pub fn reject(&mut self, reject: Reject, now: u64) -> bool {
        let place = reject as usize;
        if let Some(count) = self.rejected.get_mut(place) {
            *count = count.saturating_add(1);
        }
        let Some(told) = self.told.get_mut(place) else { return false };
        let interval = self.ticks_per_second.saturating_mul(TELL_SECONDS);
        let is_due = told.is_none_or(|told| now.saturating_sub(told) >= interval);
        if is_due {
            *told = Some(now);
        }
        is_due
    }

    /// How much was refused, by class.
    pub fn rejected(&self) -> [u64; 3] {
        self.rejected
    }
}
