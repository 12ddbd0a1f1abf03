//! A service's audit ring: its decisions, each with a slot that was reserved before it.

use crate::environment::Environment;
use crate::logger::target::DOORBELL_BIT;
use crate::setup::SetupError;
use nexus_abi::{Handle, Kind, Rights, system};
use nexus_ipc::Deadline;
use nexus_log::{AuditMark, AuditProducer, AuditSlot, Keeping, Memory, RING_BYTES, Several};

/// The bit by which the journal tells that what is critical is durable, or will not be.
pub const KEPT_BIT: u64 = 1;

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
/// A *critical* decision ([`nexus_log::CRITICAL`]) is to be durable before whoever asked is answered. Who may wait does it
/// so; who must go on answering meanwhile binds [`AuditLog::kept_bell`] and looks at [`AuditLog::keeping`] when it rings.
///
/// ```no_run
/// # use nexus_rt::{Audit, AuditLog, Decision, Keeping};
/// # fn example(audit: &mut AuditLog, deadline: nexus_ipc::Deadline) -> Option<bool> {
/// let slot = audit.reserve()?;
/// let (subject, action, resource, rule) = (7, "identity.create", "", "keystored");
/// slot.commit(&Audit { subject, action, resource, decision: Decision::Allow, rule });
/// let is_durable = audit.wait_kept(audit.mark(), deadline) == Keeping::Durable;
/// # Some(is_durable)
/// # }
/// ```
pub struct AuditLog {
    producer: AuditProducer<'static>,
    doorbell: Handle,
    kept_bell: Handle,
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
        let kept_bell = environment.needed("audit-kept", Kind::Notification)?;
        let base = environment.map_memory(ring, RING_BYTES, Rights::READ.union(Rights::WRITE))?;
        // SAFETY: just mapped for good, with this size, and only this value knows the address.
        let memory = unsafe { Memory::from_mapped(base) };
        Ok(AuditLog { producer: AuditProducer::new(memory), doorbell, kept_bell })
    }

    /// Where the decision ends that was written down last.
    pub fn mark(&self) -> AuditMark {
        self.producer.mark()
    }

    /// Whether all that is critical up to there is durable.
    pub fn keeping(&self, mark: AuditMark) -> Keeping {
        self.producer.watch().keeping(mark)
    }

    /// What rings, with [`KEPT_BIT`], when that may have changed.
    pub fn kept_bell(&self) -> Handle {
        self.kept_bell
    }

    /// Waits until all that is critical up to there is durable or will not be told of as that; `Waiting`: it is not
    /// known when the deadline has passed. Only for a service that neither the journal nor the store calls: their
    /// answer would wait for its own.
    pub fn wait_kept(&self, mark: AuditMark, deadline: Deadline) -> Keeping {
        loop {
            let keeping = self.keeping(mark);
            let has_rung = || system::notification_wait(self.kept_bell, KEPT_BIT, deadline.ticks()).is_ok();
            if keeping != Keeping::Waiting || !has_rung() {
                return keeping;
            }
        }
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
