//! Where decisions are recorded: policyd's own audit ring, which the journal reads.

use alloc::format;
use nexus_rt::{AuditLog, Decision, Environment, SetupError};
use policy::{Audit, Reason, Record};

/// The record of decisions.
pub struct Trail(AuditLog);

impl Trail {
    /// Takes the ring that the recipe gives.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        AuditLog::open(environment).map(Trail)
    }
}

impl Audit for Trail {
    fn has_room(&mut self) -> bool {
        // A slot that is not used leaves no trace; one that is not there is counted by the ring.
        self.0.reserve().is_some()
    }

    fn keep(&mut self, record: &Record<'_>) {
        let Some(slot) = self.0.reserve() else { return };
        let decision = if record.reason == Reason::Allowed { Decision::Allow } else { Decision::Deny };
        // The folder says nothing that a reader does not know, and a record has little room.
        let rule = match record.rule {
            Some((file, line)) => format!("{}:{line}", file.rsplit('/').next().unwrap_or(file)),
            None => format!("{:?}", record.reason),
        };
        let (subject, action, resource) = (record.subject, record.action.name(), record.resource);
        slot.commit(&nexus_rt::Audit { subject, action, resource, decision, rule: &rule });
    }
}
