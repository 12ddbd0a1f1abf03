//! What is decided about the identity: written down before it is done, and durable before anybody hears of it.

use core::time::Duration;
use identity::RECORD_KEY;
use nexus_ipc::{Clock, Deadline};
use nexus_proto::keystore::NoIdentity;
use nexus_rt::{Audit, AuditLog, AuditMark, Decision, Environment, Keeping, SetupError, info};

/// The first key is made.
pub const CREATE: &str = "identity.create";
/// An identity is given up.
pub const RESET: &str = "identity.reset";
/// By which rule either is done, beside the policy's word, which `policyd` writes down.
const RULE: &str = "keystored";
/// Time in which the journal makes a record durable. Neither it nor the store calls this service, so it may wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where decisions are written down.
pub struct Decisions {
    log: AuditLog,
    clock: Clock,
    /// The last one, until it was seen to.
    last: Option<AuditMark>,
}

impl Decisions {
    /// The audit ring of this service.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        Ok(Decisions { log: AuditLog::open(environment)?, clock: environment.clock(), last: None })
    }

    /// Writes down that this is done for somebody; where there is no room for the record it is not to be done.
    pub fn write(&mut self, action: &str, subject: u64) -> Result<(), NoIdentity> {
        let slot = self.log.reserve().ok_or(NoIdentity::Unavailable)?;
        slot.commit(&Audit { subject, action, resource: RECORD_KEY, decision: Decision::Allow, rule: RULE });
        self.last = Some(self.log.mark());
        Ok(())
    }

    /// Waits until what was written is durable: to be called before anybody hears of what was done. Where nobody makes it
    /// durable, or not in time, that is told, and what was done stands (ADR 0012).
    pub fn settle(&mut self) {
        let Some(mark) = self.last.take() else { return };
        let due = Deadline::after(&self.clock, PATIENCE);
        if self.log.wait_kept(mark, due) != Keeping::Durable {
            info!("keystored: the record of what was done to the identity is not durable yet");
        }
    }
}
