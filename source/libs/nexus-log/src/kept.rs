//! Which decisions must be durable before whoever took them answers, and how that is known.
//!
//! Who decides calls nobody, so the journal tells of it in the ring's own page: up to which word of the stream all
//! that is critical is durable. A journal that dies, or gives records up, counts as another keeper from then on, and
//! what waited for the one before is never told of as durable: a successor cannot know it.

use crate::audit::Decision;
use crate::memory::{Memory, Ordering};

/// What is critical when it is allowed, by how the action begins, and why. What is denied changes nothing, and what
/// happens many times a second would wait for the medium each time: both are merely recorded.
pub const CRITICAL: [(&str, &str); 3] = [
    ("policy.admin", "another policy is in force: every decision after it depends on it"),
    ("device.mmio.", "a device is handed to a process, which reaches the world by it"),
    ("identity.", "the device's key is made, replaced or given up: who it is from then on"),
];

/// Whether a decision must be durable before its action is answered.
pub fn is_critical(decision: Decision, action: &[u8]) -> bool {
    decision == Decision::Allow && CRITICAL.iter().any(|(begin, _)| action.starts_with(begin.as_bytes()))
}

/// A place in an audit ring, and who kept it when the record before it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditMark {
    head: u32,
    keeper: u32,
}

/// What is known of a critical record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It is durable.
    Durable,
    /// It is being made so.
    Waiting,
    /// Nobody makes it so: there is no store, or no journal, or it gave up. It may be made so later, which is told to
    /// nobody.
    NotDurable,
}

/// Looks at what the journal says of a ring.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    memory: Memory<'a>,
    keeper: u32,
}

impl<'a> Watch<'a> {
    /// Of this ring.
    pub fn new(memory: Memory<'a>) -> Self {
        let mut watch = Watch { memory, keeper: 0 };
        watch.look();
        watch
    }

    /// Who keeps now: to be called before what is waited for is written.
    pub fn look(&mut self) {
        self.keeper = self.memory.counters.kept.keeper.load(Ordering::Acquire);
    }

    /// The end of what is written now.
    pub fn mark(&self) -> AuditMark {
        AuditMark { head: self.memory.counters.written.head.load(Ordering::Acquire), keeper: self.keeper }
    }

    /// What became of all that is critical up to a place.
    pub fn keeping(&self, mark: AuditMark) -> Keeping {
        let kept = &self.memory.counters.kept;
        // The place first: what another keeper says comes after its number, which is then seen.
        let until = kept.until.load(Ordering::Acquire);
        let is_same = kept.keeper.load(Ordering::Acquire) == mark.keeper && mark.keeper & 1 == 1;
        match (is_same, (until.wrapping_sub(mark.head) as i32) >= 0) {
            (false, _) => Keeping::NotDurable,
            (true, true) => Keeping::Durable,
            (true, false) => Keeping::Waiting,
        }
    }
}
