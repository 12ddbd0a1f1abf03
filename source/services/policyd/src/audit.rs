//! Where decisions are recorded: policyd's own audit ring, which the journal reads.

use alloc::string::String;
use core::time::Duration;
use nexus_rt::{Audit, AuditLog, Decision, Environment, SetupError, Several};
use policy::{Entry, Merging, Sink};

/// Time in which denials of one kind are told of together.
const WINDOW: Duration = Duration::from_secs(1);
/// What a record says is wanted that tells of several things.
const SEVERAL: &str = "several";

/// The ring.
pub struct Ring(AuditLog);

/// The record of decisions.
pub type Trail = Merging<Ring>;

/// Takes the ring that the recipe gives, and what a predecessor owed.
pub fn open(environment: &Environment) -> Result<Trail, SetupError> {
    let ring = Ring(AuditLog::open(environment)?);
    let (count, now) = (ring.0.owed(), environment.clock().now());
    let inherited = Entry {
        subject: environment.page().service_id,
        action: None,
        resource: String::new(),
        is_allowed: false,
        rule: String::from("of a policyd that died"),
        count,
        since: now,
        until: now,
    };
    let length = environment.clock().ticks(WINDOW);
    Ok(Merging::new(ring, length, (count > 0).then_some(inherited)))
}

impl Ring {
    /// The ring, to learn what of it is durable.
    pub fn log(&self) -> &AuditLog {
        &self.0
    }
}

impl Sink for Ring {
    fn has_room(&mut self) -> bool {
        // A slot that is not used leaves no trace; one that is not there is counted by the ring.
        self.0.reserve().is_some()
    }

    fn has_spare_room(&self) -> bool {
        self.0.has_spare_room()
    }

    fn write(&mut self, entry: &Entry, owed: u32) {
        let Some(slot) = self.0.reserve() else { return };
        let audit = Audit {
            subject: entry.subject,
            action: entry.action.map_or(SEVERAL, |action| action.name()),
            resource: &entry.resource,
            decision: if entry.is_allowed { Decision::Allow } else { Decision::Deny },
            rule: &entry.rule,
        };
        match owed {
            0 => slot.commit(&audit),
            _ => slot.commit_several(
                entry.until,
                &audit,
                Several { count: entry.count, since: entry.since, owed },
            ),
        }
    }

    fn owe(&mut self) {
        self.0.owe();
    }
}
