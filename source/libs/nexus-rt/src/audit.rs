//! A service's audit ring: its decisions, each with a slot that was reserved before it.

use crate::environment::Environment;
use crate::logger::target::DOORBELL_BIT;
use crate::setup::SetupError;
use nexus_abi::{Handle, Kind, Rights, system};
use nexus_log::{AuditProducer, AuditSlot, Memory, RING_BYTES, Several};

/// Where this process writes its decisions down. Only a service whose recipe says `audits = true` has one.
///
/// ```no_run
/// # fn decide() -> nexus_rt::Decision { nexus_rt::Decision::Deny }
/// # fn example(audit: &mut nexus_rt::AuditLog) -> nexus_rt::Decision {
/// // No slot, no decision: the answer is no, and it is counted.
/// let Some(slot) = audit.reserve() else { return nexus_rt::Decision::Deny };
/// let decision = decide();
/// let (subject, action, resource, rule) = (7, "device.mmio.blk", "", "base.toml:12");
/// slot.commit(&nexus_rt::Audit { subject, action, resource, decision, rule });
/// decision
/// # }
/// ```
pub struct AuditLog {
    producer: AuditProducer<'static>,
    doorbell: Handle,
}

/// Room for one decision; dropped, it leaves no trace.
#[must_use = "a decision without its record is not complete"]
pub struct ReservedAudit<'a> {
    slot: AuditSlot<'a, 'static>,
    doorbell: Handle,
}

impl AuditLog {
    /// Maps this process's audit ring. To be called once.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        let ring = environment.needed("audit-ring", Kind::Vmo)?;
        let doorbell = environment.needed("journal-doorbell", Kind::Notification)?;
        let base = environment.map_memory(ring, RING_BYTES, Rights::READ.union(Rights::WRITE))?;
        // SAFETY: just mapped for good, with this size, and only this value knows the address.
        let memory = unsafe { Memory::from_mapped(base) };
        Ok(AuditLog { producer: AuditProducer::new(memory), doorbell })
    }

    /// Reserves room for a decision. `None`: there is none, which is counted, and the decision must be no.
    pub fn reserve(&mut self) -> Option<ReservedAudit<'_>> {
        let doorbell = self.doorbell;
        self.producer.reserve().map(|slot| ReservedAudit { slot, doorbell })
    }

    /// Whether half of the room would still be free behind another record.
    pub fn has_spare_room(&self) -> bool {
        self.producer.has_spare_room()
    }

    /// Decisions that wait to be told of together, also those of this service's processes before this one.
    pub fn owed(&self) -> u32 {
        self.producer.owed()
    }

    /// One decision more waits to be told of together with others.
    pub fn owe(&mut self) {
        self.producer.owe();
    }
}

impl ReservedAudit<'_> {
    /// Writes the decision down, with the time. Never blocks.
    pub fn commit(self, audit: &nexus_log::Audit<'_>) {
        let rings = self.slot.commit(system::ticks(), audit);
        ring(self.doorbell, rings);
    }

    /// Writes down that it was decided so several times, the last of them at `ticks`. Never blocks.
    pub fn commit_several(self, ticks: u64, audit: &nexus_log::Audit<'_>, several: Several) {
        let rings = self.slot.commit_several(ticks, audit, several);
        ring(self.doorbell, rings);
    }
}

fn ring(doorbell: Handle, is_needed: bool) {
    if is_needed {
        // Without a journal the record waits in the ring, as it would anyway.
        let _ = system::notification_signal(doorbell, DOORBELL_BIT);
    }
}
