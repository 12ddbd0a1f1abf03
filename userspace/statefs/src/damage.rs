//! What was found damaged: reported, counted, never silent.

use crate::limits::DAMAGE_REPORTS_MAX;
use alloc::vec::Vec;

/// One finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A superblock is unreadable or fails its CRC. Ordinary after a power cut inside a checkpoint.
    SuperblockDamaged {
        /// 0 or 1.
        slot: u8,
    },
    /// A superblock that was acknowledged is lost; the store is complete, but read-only until accepted.
    SuperblockLost {
        /// Its generation.
        generation: u64,
    },
    /// A head of a segment is lost, or both; its groups tell what it said.
    SegmentHeadDamaged {
        /// The segment.
        segment: u32,
    },
    /// A group is complete, but not all of its copies of header and commit record are.
    CommitCopyLost {
        /// The group's epoch.
        epoch: u64,
    },
    /// An acknowledged group is damaged: each of its keys answers `Corrupt`.
    GroupCorrupt {
        /// The group's epoch.
        epoch: u64,
        /// Records in it.
        keys: u32,
    },
    /// A value fails its CRC or cannot be read: its key answers `Corrupt`.
    PayloadCorrupt {
        /// Version of the value.
        version: u64,
    },
    /// Acknowledged groups are missing, their keys unknown.
    Hole {
        /// Newest epoch before the hole.
        after: u64,
        /// Epoch that was acknowledged and is missing.
        missing: u64,
    },
    /// A superblock names an epoch as acknowledged that the log does not reach: the disk lost what it had
    /// acknowledged.
    LostDurable {
        /// The epoch that was acknowledged.
        frontier: u64,
        /// The newest that is there.
        newest: u64,
    },
    /// The newest group was incomplete and not proven to be acknowledged: it is dropped.
    TailDropped {
        /// Its epoch.
        epoch: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// The log is longer than the bound.
    ReplayOverBound {
        /// Segments in the log.
        segments: u32,
    },
    /// No segment is free for the new incarnation: the store is read-only.
    NoRoomToOpen,
}

/// The findings since the store was opened.
#[derive(Debug, Clone, Default)]
pub struct DamageLog {
    reports: Vec<Damage>,
    count: u64,
}

impl DamageLog {
    pub(crate) fn report(&mut self, damage: Damage) {
        self.count += 1;
        if self.reports.len() < DAMAGE_REPORTS_MAX {
            self.reports.push(damage);
        }
    }

    /// The first findings, at most [`DAMAGE_REPORTS_MAX`].
    pub fn reports(&self) -> &[Damage] {
        &self.reports
    }

    /// All findings, those included that were not kept.
    pub fn count(&self) -> u64 {
        self.count
    }
}
