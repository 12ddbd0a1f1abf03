//! What a server of decisions keeps: the table in force, its epoch, how often each bounded line was used, counts,
//! and the record of what was decided.

use crate::{Action, Decision, Overlay, OverlayError, Reason, Table, is_resource};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Where decisions are recorded. Room is made sure of before a decision is made.
pub trait Audit {
    /// Whether the next record will find room.
    fn has_room(&mut self) -> bool;

    /// Keeps a record. It is called only when there was room.
    fn keep(&mut self, record: &Record<'_>);
}

/// One decision. It holds no secret: who, what, to what, and what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, in ticks of the clock.
    pub ticks: u64,
    /// Who asked.
    pub asker: u64,
    /// Whom it is about.
    pub subject: u64,
    /// The subject's name, if a line is about it.
    pub name: Option<&'a str>,
    /// What it wanted to do.
    pub action: Action,
    /// To what.
    pub resource: &'a str,
    /// What was said.
    pub reason: Reason,
    /// File and line that decided.
    pub rule: Option<(&'a str, u16)>,
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.reason == Reason::Allowed { "allow" } else { "deny" };
        write!(formatter, "{word} {} ", self.action)?;
        match self.name {
            Some(name) => formatter.write_str(name)?,
            None => write!(formatter, "{:016x}", self.subject)?,
        }
        if !self.resource.is_empty() {
            write!(formatter, " {}", self.resource)?;
        }
        if self.asker != self.subject {
            write!(formatter, " asked by {:016x}", self.asker)?;
        }
        match self.rule {
            Some((file, line)) => write!(formatter, ": {} ({file}:{line})", self.reason),
            None => write!(formatter, ": {}", self.reason),
        }
    }
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allowed, or why not.
    pub reason: Reason,
    /// The epoch of the table that says so.
    pub epoch: u64,
    /// The place of the line that decided; `None`: no line did.
    pub rule: Option<usize>,
    /// Whether it stays true for as long as the epoch does: it need not be recorded each time, nor counted.
    pub lasts: bool,
}

/// Why a question gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is asked in somebody else's name.
    Spoofed,
    /// It is asked on behalf of another, without `policy.delegate`.
    NotDelegated,
    /// No action has the number, or no resource the bytes.
    Malformed,
}

/// Why a pushed overlay is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Whoever pushes does not hold `policy.admin`.
    NotAdmin(Reason),
    /// What is pushed.
    Overlay(OverlayError),
    /// It could not be kept for a successor, so it is not in force either.
    NotKept,
}

impl fmt::Display for PushError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::NotAdmin(reason) => write!(formatter, "policy.admin: {reason}"),
            PushError::Overlay(error) => write!(formatter, "{error}"),
            PushError::NotKept => formatter.write_str("it could not be kept"),
        }
    }
}

/// What was asked so far. Counts stop at their highest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions that were allowed.
    pub allowed: u64,
    /// Questions that were denied.
    pub denied: u64,
    /// Of those, denied because there was no room to record them.
    pub unrecorded: u64,
    /// Questions in another's name, or on another's behalf without the right to.
    pub refused: u64,
    /// Messages and questions that are none.
    pub malformed: u64,
    /// Overlays that were not taken.
    pub overlays_refused: u64,
    /// Records that were kept.
    pub recorded: u64,
}

/// The server's state.
pub struct Judge<A> {
    base: Table,
    table: Table,
    sequence: u64,
    epoch: u64,
    ticks_per_second: u64,
    /// Of each line, what is left of its bound, in ticks, and when that was.
    credits: Vec<(u64, u64)>,
    counts: Counts,
    audit: A,
}

impl<A: Audit> Judge<A> {
    /// A judge with the image's table, at this epoch.
    pub fn new(table: Table, epoch: u64, ticks_per_second: u64, audit: A) -> Self {
        let credits = full(&table, ticks_per_second);
        let (base, counts) = (table.clone(), Counts::default());
        Judge { base, table, sequence: 0, epoch, ticks_per_second, credits, counts, audit }
    }

    /// The table in force.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Which table is in force: it rises whenever another one is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sequence of the overlay in force; 0: none is.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Where decisions are recorded.
    pub fn audit(&mut self) -> &mut A {
        &mut self.audit
    }

    /// A message came that is no question.
    pub fn count_malformed(&mut self) {
        count(&mut self.counts.malformed);
    }

    /// Answers a question about the asker itself. `subject` is who it says it is.
    pub fn check(
        &mut self,
        asker: u64,
        subject: u64,
        action: u16,
        resource: &[u8],
        ticks: u64,
    ) -> Result<Verdict, Refusal> {
        let (action, resource) = self.understood(action, resource)?;
        if asker != subject {
            count(&mut self.counts.refused);
            self.record(asker, subject, action, resource, Reason::Spoofed, None, ticks);
            return Err(Refusal::Spoofed);
        }
        Ok(self.decide(asker, subject, action, resource, ticks))
    }

    /// Answers a question on behalf of another, to whoever holds `policy.delegate`.
    pub fn check_for(
        &mut self,
        asker: u64,
        subject: u64,
        action: u16,
        resource: &[u8],
        ticks: u64,
    ) -> Result<Verdict, Refusal> {
        let (action, resource) = self.understood(action, resource)?;
        let right = self.table.decide(asker, Action::PolicyDelegate, "");
        let (mut reason, rate) = (right.reason, right.rule.map_or(0, |(_, rule)| rule.rate));
        let rule = right.rule.map(|(place, _)| place);
        if reason == Reason::Allowed && rate > 0 && !self.spend(rule, rate, ticks) {
            reason = Reason::TooOften;
        }
        if reason != Reason::Allowed {
            count(&mut self.counts.refused);
            self.record(asker, asker, Action::PolicyDelegate, "", reason, rule, ticks);
            return Err(Refusal::NotDelegated);
        }
        Ok(self.decide(asker, subject, action, resource, ticks))
    }

    /// Takes a signed overlay from who holds `policy.admin`, once `keep` has it for a successor; yields the new epoch.
    /// What is not taken changes nothing.
    pub fn push(
        &mut self,
        asker: u64,
        bytes: &[u8],
        ticks: u64,
        keep: impl FnOnce(&[u8]) -> Result<(), ()>,
    ) -> Result<u64, PushError> {
        let right = self.decide(asker, asker, Action::PolicyAdmin, "", ticks);
        if right.reason != Reason::Allowed {
            return Err(PushError::NotAdmin(right.reason));
        }
        let opened = self.opened(bytes).map_err(PushError::Overlay);
        let kept = opened.and_then(|opened| keep(bytes).map(|()| opened).map_err(|()| PushError::NotKept));
        let (overlay, table) = kept.inspect_err(|_| count(&mut self.counts.overlays_refused))?;
        Ok(self.put_in_force(overlay.sequence, table))
    }

    /// Takes an overlay that was taken before, when the server starts again: its signature is verified anew.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<u64, OverlayError> {
        let (overlay, table) = self.opened(bytes)?;
        Ok(self.put_in_force(overlay.sequence, table))
    }

    fn opened(&self, bytes: &[u8]) -> Result<(Overlay, Table), OverlayError> {
        let overlay = Overlay::open(bytes, self.base.overlay_key.as_ref(), self.sequence)?;
        let table = overlay.over(&self.base)?;
        Ok((overlay, table))
    }

    fn put_in_force(&mut self, sequence: u64, table: Table) -> u64 {
        self.credits = full(&table, self.ticks_per_second);
        self.table = table;
        self.sequence = sequence;
        self.epoch = self.epoch.saturating_add(1);
        self.epoch
    }

    fn understood<'q>(&mut self, action: u16, resource: &'q [u8]) -> Result<(Action, &'q str), Refusal> {
        let resource =
            core::str::from_utf8(resource).ok().filter(|word| word.is_empty() || is_resource(word));
        let understood = Action::from_number(action).zip(resource);
        understood.ok_or_else(|| {
            count(&mut self.counts.malformed);
            Refusal::Malformed
        })
    }

    fn decide(&mut self, asker: u64, subject: u64, action: Action, resource: &str, ticks: u64) -> Verdict {
        let Decision { mut reason, rule } = self.table.decide(subject, action, resource);
        let bounded = rule.is_some_and(|(_, rule)| rule.rate > 0);
        let rate = rule.map_or(0, |(_, rule)| rule.rate);
        let rule = rule.map(|(place, _)| place);
        let recorded = action.is_sensitive() || reason != Reason::Allowed || bounded;
        if recorded && !self.audit.has_room() {
            count(&mut self.counts.denied);
            count(&mut self.counts.unrecorded);
            return Verdict { reason: Reason::NoRecord, epoch: self.epoch, rule, lasts: false };
        }
        if reason == Reason::Allowed && bounded && !self.spend(rule, rate, ticks) {
            reason = Reason::TooOften;
        }
        let is_allowed = reason == Reason::Allowed;
        count(if is_allowed { &mut self.counts.allowed } else { &mut self.counts.denied });
        if action.is_sensitive() || !is_allowed {
            self.record(asker, subject, action, resource, reason, rule, ticks);
        }
        Verdict { reason, epoch: self.epoch, rule, lasts: is_allowed && !recorded }
    }

    /// Uses a bounded line once; yields whether its bound allows that. What is not used is kept for a second.
    fn spend(&mut self, rule: Option<usize>, rate: u16, ticks: u64) -> bool {
        let Some(credit) = rule.and_then(|place| self.credits.get_mut(place)) else { return false };
        let price = self.ticks_per_second / u64::from(rate.max(1));
        let earned = credit.0.saturating_add(ticks.saturating_sub(credit.1)).min(self.ticks_per_second);
        let left = earned.checked_sub(price);
        *credit = (left.unwrap_or(earned), ticks);
        left.is_some()
    }

    /// Keeps a record if there is room; whoever must not go on without one has made sure of that.
    #[expect(clippy::too_many_arguments, reason = "they are the record's fields")]
    fn record(
        &mut self,
        asker: u64,
        subject: u64,
        action: Action,
        resource: &str,
        reason: Reason,
        rule: Option<usize>,
        ticks: u64,
    ) {
        if !self.audit.has_room() {
            count(&mut self.counts.unrecorded);
            return;
        }
        let name = self.table.name_of(subject);
        let rule = rule.and_then(|place| self.table.rules.get(place));
        let rule = rule.map(|rule| (self.table.file_of(rule), rule.line));
        self.audit.keep(&Record { ticks, asker, subject, name, action, resource, reason, rule });
        count(&mut self.counts.recorded);
    }
}

/// Every line may be used for a second's worth at once.
fn full(table: &Table, ticks_per_second: u64) -> Vec<(u64, u64)> {
    vec![(ticks_per_second, 0); table.rules.len()]
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
