//! The audit rings. Decisions stay in their ring until they are durable, so that a journal that dies leaves them to its
//! successor; who wrote what is critical is told when it is durable, or that it will not be told.

use crate::sources::mapped;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use journal::{Journal, Whereabouts};
use nexus_abi::image::INIT;
use nexus_abi::{Handle, Kind, system};
use nexus_log::{AuditConsumer, AuditItem, Mark, is_critical};
use nexus_rt::{Environment, KEPT_BIT, SetupError};

/// What may stay taken of a ring for as long as nothing in it is critical: one part in so many. Who decides next must
/// find room.
const HELD_PART: u32 = 4;
/// The same where something is critical.
const HELD_CRITICAL_PART: u32 = 2;

/// Where a decision stands: in which ring, and from where to where.
#[derive(Clone, Copy)]
pub struct Held {
    ring: usize,
    begin: Mark,
    end: Mark,
    is_critical: bool,
}

/// One ring.
struct Audit {
    name: String,
    consumer: AuditConsumer<'static>,
    /// Rings for its writer.
    bell: Handle,
    /// Rings for init, which waits for decisions of others.
    init: Handle,
    /// Decisions that are not durable yet, with their numbers, in the order of the ring.
    held: VecDeque<(u64, Held)>,
}

/// All of them.
pub struct Audits {
    rings: Vec<Audit>,
    /// Whether what is critical is made durable.
    keeps: bool,
}

impl Audits {
    /// Maps every audit ring that this process was handed. For now nothing is made durable.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        let bell = |name: &str| environment.needed(&format!("kept/{name}"), Kind::Notification);
        let init = bell(INIT)?;
        let mut rings = Vec::new();
        for (name, vmo) in environment.capabilities("audit/", Kind::Vmo) {
            let consumer = AuditConsumer::new(mapped(environment, vmo)?);
            rings.push(Audit { name: name.into(), consumer, bell: bell(name)?, init, held: VecDeque::new() });
        }
        let mut audits = Audits { rings, keeps: true };
        audits.set_keeping(false);
        Ok(audits)
    }

    /// What the journals before this one took out of the rings: decisions, and times without a slot.
    pub fn before(&self) -> (u64, u64) {
        let sum = |count: fn(&AuditConsumer<'static>) -> u32| {
            self.rings.iter().map(|audit| u64::from(count(&audit.consumer))).sum()
        };
        (sum(AuditConsumer::taken), sum(AuditConsumer::refused))
    }

    /// Takes at most so many items out of each ring; yields whether there may be more.
    pub fn take(&mut self, items: usize, mut taken: impl FnMut(&str, AuditItem, Held)) -> bool {
        let mut is_cut_short = false;
        for (ring, audit) in self.rings.iter_mut().enumerate() {
            let mut count = 0;
            while count < items {
                let begin = audit.consumer.mark();
                let Some(item) = audit.consumer.take() else { break };
                let is_critical = matches!(&item, AuditItem::Record(record) if is_critical(record.decision, record.action()));
                taken(&audit.name, item, Held { ring, begin, end: audit.consumer.mark(), is_critical });
                count += 1;
            }
            is_cut_short |= count == items;
        }
        is_cut_short
    }

    /// A decision was given this number.
    pub fn hold(&mut self, id: u64, held: Held) {
        if let Some(audit) = self.rings.get_mut(held.ring).filter(|_| self.keeps) {
            audit.held.push_back((id, held));
        }
    }

    /// Gives the rings back what was taken, up to the first that is held, or all of it where that is too much.
    pub fn release(&mut self) {
        self.rings.iter_mut().for_each(Audit::release);
    }

    /// Whether somebody may wait for something to be durable.
    pub fn have_critical(&self) -> bool {
        self.rings.iter().any(Audit::has_critical)
    }

    /// Decisions that a successor would find in their rings.
    pub fn held(&self) -> u64 {
        self.rings.iter().map(|audit| audit.held.len() as u64).sum()
    }

    /// Whether what is critical is made durable.
    pub fn are_kept(&self) -> bool {
        self.keeps
    }

    /// From now on what is critical is made durable, or is not; what waited until now is given up.
    pub fn set_keeping(&mut self, keeps: bool) {
        if self.keeps || keeps {
            self.rings.iter_mut().for_each(|audit| audit.set_keeping(keeps));
        }
        self.keeps = keeps;
    }

    /// Tells who waits what became durable.
    pub fn tell_kept(&mut self, journal: &Journal) {
        self.rings.iter_mut().for_each(|audit| audit.tell_kept(journal));
    }
}

impl Audit {
    fn has_critical(&self) -> bool {
        self.held.iter().any(|(_, held)| held.is_critical)
    }

    fn release(&mut self) {
        self.give_back();
        if self.held.is_empty() || !self.consumer.holds_more_than_one_in(HELD_PART) {
            return;
        }
        if !self.has_critical() {
            self.held.clear();
            self.give_back();
        } else if self.consumer.holds_more_than_one_in(HELD_CRITICAL_PART) {
            self.set_keeping(true);
        }
    }

    fn give_back(&self) {
        let first = self.held.front().map(|(_, held)| held.begin);
        self.consumer.release(first.unwrap_or_else(|| self.consumer.mark()));
    }

    fn set_keeping(&mut self, keeps: bool) {
        self.held.clear();
        self.consumer.set_keeping(keeps);
        self.give_back();
        self.ring();
    }

    fn tell_kept(&mut self, journal: &Journal) {
        let mut until = None;
        while let Some(&(id, held)) = self.held.front() {
            match journal.whereabouts(id) {
                Whereabouts::Stored => until = Some(held.end),
                Whereabouts::Waiting => break,
                Whereabouts::Gone if held.is_critical => return self.set_keeping(true),
                Whereabouts::Gone => {}
            }
            self.held.pop_front();
        }
        if let Some(until) = until {
            self.consumer.set_kept(until);
            self.give_back();
            self.ring();
        }
    }

    fn ring(&self) {
        // A writer that is not there has nothing to hear.
        let _ = system::notification_signal(self.bell, KEPT_BIT);
        let _ = system::notification_signal(self.init, KEPT_BIT);
    }
}
