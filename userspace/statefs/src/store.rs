//! The store: what it is made of, how it is made and opened.

use crate::checkpoint::Checkpoint;
use crate::damage::{Damage, DamageLog};
use crate::device::BlockDevice;
use crate::error::Error;
use crate::format::{Geometry, SUPERBLOCKS, SegmentHead, Superblock};
use crate::group::GroupKind;
use crate::index::{Index, Operations};
use crate::limits::KEYS_MAX_DEVICE;
use crate::pending::{Pending, sector_buffer};
use crate::quota::{Bounds, Quota, Usage};
use crate::replay::{self, Loaded, LogEnd};
use crate::segments::Segments;
use alloc::vec::Vec;

/// Random bits for salts: from the device's entropy source, never shown to a client.
#[derive(Debug, Clone, Copy)]
pub struct Entropy(pub [u64; 4]);

impl Entropy {
    /// The next 64 bits: xoshiro256**, seeded anew at every opening.
    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

/// A deliberate fault of the engine. Each has to be found by the campaigns.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutant {
    /// The engine as it is.
    #[default]
    None,
    /// Groups are never flushed.
    FlushDropped,
    /// The answer is given before the flush.
    AcknowledgedBeforeFlush,
    /// The superblock is written in the same flush window as the last group of its checkpoint.
    SuperblockBeforeData,
    /// Replay forgets a deletion as soon as it has seen it.
    TombstoneDroppedEarly,
    /// What a checkpoint will free is taken from its beginning on, before its superblock is durable.
    SegmentReusedBeforeFreed,
    /// What a superblock frees is taken at once, while an opening may still need the superblock before it.
    SegmentReusedTooEarly,
    /// An opening builds on what it reads, be it durable or not.
    OpenedWithoutFlush,
    /// An opening that dropped something, or could not read it, serves before that is settled.
    OpenedUnsettled,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Randomness for salts; different at every opening.
    pub entropy: Entropy,
    /// Keys at the most.
    pub keys_max: u64,
    /// Shares of prefixes.
    pub quotas: Vec<Quota>,
    /// Never write to the device.
    pub read_only: bool,
    /// The deliberate fault to run with.
    #[cfg(feature = "mutants")]
    pub mutant: Mutant,
}

impl Options {
    /// Options for the device: 65,536 keys, no quotas.
    pub fn new(entropy: Entropy) -> Options {
        Options {
            entropy,
            keys_max: KEYS_MAX_DEVICE as u64,
            quotas: Vec::new(),
            read_only: false,
            #[cfg(feature = "mutants")]
            mutant: Mutant::None,
        }
    }
}

/// What the store did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes written to the device, padding, commit records, heads and superblocks included.
    pub bytes_written: u64,
    /// Bytes of keys and values that clients stored. Write amplification is the quotient.
    pub client_bytes: u64,
    /// Groups written.
    pub groups: u64,
    /// Flushes.
    pub flushes: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Bytes of values that compaction moved.
    pub bytes_moved: u64,
    /// Segments taken.
    pub segments_taken: u64,
    /// Groups that the opening replayed.
    pub replay_groups: u64,
    /// Bytes that the opening read from the log.
    pub replay_bytes: u64,
    /// Values or groups found damaged.
    pub corrupt: u64,
}

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Live bytes as quotas count them: value + 8 · (record header + key).
    pub bytes: u64,
    /// The bound of `bytes`.
    pub bytes_max: u64,
    /// Keys.
    pub keys: u64,
    /// The bound of `keys`.
    pub keys_max: u64,
    /// Segments in all.
    pub segments: u32,
    /// Segments that may be taken.
    pub segments_free: u32,
    /// Segments that an opening would replay.
    pub segments_in_log: u32,
    /// Bytes of live records in their segments. Space amplification is `segments · segment / this`.
    pub bytes_live: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// The state of a store towards writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Ready,
    /// What the opening found is served; the first change begins the incarnation.
    Opened,
    /// A write or flush failed: replay before the next `Ok`.
    NeedsReplay,
    /// Damage has to be accepted, or reading is all that was asked for.
    ReadOnly,
}

/// A store on a device.
pub struct Store<D> {
    pub(crate) device: D,
    pub(crate) options: Options,
    pub(crate) superblock: Superblock,
    pub(crate) index: Index,
    pub(crate) operations: Operations,
    pub(crate) usage: Usage,
    pub(crate) segments: Segments,
    pub(crate) end: LogEnd,
    /// The segment being filled and its next unit.
    pub(crate) current: Option<(SegmentHead, u32)>,
    /// What the newest durable group was for.
    pub(crate) newest_kind: GroupKind,
    pub(crate) pending: Pending,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) damage: DamageLog,
    pub(crate) counters: Counters,
    pub(crate) mode: Mode,
    pub(crate) hole: bool,
    pub(crate) sectors: Vec<u8>,
    #[cfg(feature = "mutants")]
    pub(crate) flush_owed: bool,
}

impl<D: BlockDevice> Store<D> {
    /// Makes an empty store; whatever the device held is gone.
    pub fn format(device: &mut D, geometry: Geometry, entropy: Entropy) -> Result<(), Error> {
        let mut entropy = entropy;
        replay::check_device(device, &geometry)?;
        let mut store_id = [0; 16];
        store_id[..8].copy_from_slice(&entropy.next().to_le_bytes());
        store_id[8..].copy_from_slice(&entropy.next().to_le_bytes());
        let mut superblock = Superblock {
            geometry,
            store_id,
            salt: entropy.next(),
            generation: 1,
            replay_start: 1,
            frontier: 0,
            incarnation: 0,
            next_version: 1,
            next_segment_generation: 1,
            base_epoch: 0,
            base_crc: 0,
            free: alloc::vec![true; geometry.segments as usize],
        };
        for segment in 0..geometry.segments {
            let head =
                SegmentHead { segment, generation: 0, salt: entropy.next(), incarnation: 0, frontier: 0 };
            let bytes = head.encode(&superblock);
            let first = geometry.segment_offset(segment);
            device.write(first, &bytes)?;
            device.write(first + (geometry.segment_bytes() - geometry.unit_bytes()) as u64, &bytes)?;
        }
        device.flush()?;
        for generation in [1, SUPERBLOCKS] {
            superblock.generation = generation;
            device.write((generation % 2) * u64::from(geometry.unit), &superblock.encode())?;
            device.flush()?;
        }
        Ok(())
    }

    /// Opens the store on a device: replays its log; all that it then answers is durable. A new incarnation begins
    /// with the first change, or at once where the opening had to decide something (RFC-0001, 6.3). A store with
    /// damage that has to be accepted, or without room, opens read-only.
    pub fn open(mut device: D, options: Options) -> Result<Store<D>, Error> {
        let loaded = load(&mut device, &options)?;
        let geometry = loaded.superblock.geometry;
        let mut store = Store {
            pending: Pending::new(geometry.group_bytes_max(), loaded.superblock.salt),
            usage: Usage::new(&options.quotas),
            segments: Segments::new(geometry.segments),
            superblock: loaded.superblock.clone(),
            index: Index::default(),
            operations: Operations::default(),
            end: loaded.end,
            current: None,
            newest_kind: GroupKind::Data,
            checkpoint: None,
            damage: DamageLog::default(),
            counters: Counters::default(),
            mode: Mode::ReadOnly,
            hole: false,
            sectors: sector_buffer(),
            #[cfg(feature = "mutants")]
            flush_owed: false,
            device,
            options,
        };
        store.adopt(loaded)?;
        Ok(store)
    }

    /// Takes over what replay found, and begins a new incarnation.
    fn adopt(&mut self, loaded: Loaded) -> Result<(), Error> {
        self.usage = loaded.usage;
        self.superblock = loaded.superblock;
        self.index = loaded.index;
        self.operations = loaded.operations;
        self.segments = loaded.segments;
        self.end = loaded.end;
        self.current = loaded.append;
        self.hole = loaded.hole;
        self.newest_kind = loaded.newest_kind;
        self.pending.clear();
        self.checkpoint = None;
        for report in loaded.damage.reports() {
            self.damage.report(*report);
        }
        self.counters.flushes += u64::from(!self.options.read_only);
        self.counters.replay_groups += loaded.groups;
        self.counters.replay_bytes += loaded.bytes;
        self.mode = Mode::ReadOnly;
        if loaded.must_accept || self.options.read_only {
            return Ok(());
        }
        let Some((_, _, takes_a_segment)) = self.place_for_alone() else {
            self.damage.report(Damage::NoRoomToOpen);
            return Ok(());
        };
        // A segment that is taken may hold what a dead process wrote for a group: half written over, its heads lost,
        // it would be found.
        let may_wait = is_settled(loaded.settled, &self.options) && !takes_a_segment;
        if may_wait && !self.checkpoint_presses() {
            self.mode = Mode::Opened;
            return Ok(());
        }
        self.begin_incarnation()
    }

    /// Where a group without records goes.
    pub(crate) fn place_for_alone(&self) -> Option<(u32, u32, bool)> {
        self.place_for(crate::pending::units_alone(0, 0, self.superblock.geometry.unit_bytes()))
    }

    /// Writes the group that starts an incarnation. Without room for what has to follow the store is read-only.
    pub(crate) fn begin_incarnation(&mut self) -> Result<(), Error> {
        self.submit(GroupKind::Open)?;
        self.mode = Mode::Ready;
        match self.shorten_log() {
            Err(Error::NoSpace) => {
                self.damage.report(Damage::NoRoomToOpen);
                self.mode = Mode::ReadOnly;
                Ok(())
            }
            other => other,
        }
    }

    /// Makes the store ready to write: replays after an I/O error, and begins the incarnation.
    pub(crate) fn get_ready(&mut self) -> Result<(), Error> {
        if self.mode == Mode::NeedsReplay {
            self.recover()?;
        }
        if self.mode == Mode::Opened {
            self.begin_incarnation().inspect_err(|_| self.mode = Mode::NeedsReplay)?;
        }
        if self.mode == Mode::ReadOnly { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Runs the checkpoints that cannot wait at an opening: a machine that dies again and again soon after it
    /// started must not fill the store with incarnations. Two, because what the first frees waits for the
    /// second.
    fn shorten_log(&mut self) -> Result<(), Error> {
        for _ in 0..2 {
            if self.checkpoint_presses() {
                self.checkpoint_now()?;
            }
        }
        Ok(())
    }

    /// Replays after an I/O error, as an opening does.
    pub(crate) fn recover(&mut self) -> Result<(), Error> {
        let loaded = load(&mut self.device, &self.options)?;
        match self.adopt(loaded) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.mode = Mode::NeedsReplay;
                Err(error)
            }
        }
    }

    /// What was found damaged since the opening.
    pub fn damage(&self) -> &DamageLog {
        &self.damage
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.mode == Mode::ReadOnly
    }

    /// What the store did since the opening.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The newest durable epoch, for reports.
    pub fn epoch(&self) -> u64 {
        self.end.epoch
    }

    /// The shape of the store.
    pub fn geometry(&self) -> Geometry {
        self.superblock.geometry
    }

    /// How full the store is.
    pub fn space(&self) -> Space {
        let (bytes, keys) = self.usage.total();
        let bounds = self.bounds();
        Space {
            bytes,
            bytes_max: bounds.bytes,
            keys,
            keys_max: bounds.keys,
            segments: self.superblock.geometry.segments,
            segments_free: self.segments.free(),
            segments_in_log: self.log_segments(),
            bytes_live: self.segments.iter().map(|(_, info)| info.live).sum(),
            segment_bytes: self.superblock.geometry.segment_bytes() as u64,
        }
    }

    /// Bounds of live bytes and keys.
    pub(crate) fn bounds(&self) -> Bounds {
        let geometry = self.superblock.geometry;
        let segments = u64::from((geometry.segments / 2).saturating_sub(4));
        Bounds { bytes: segments * geometry.usable_bytes() as u64, keys: self.options.keys_max }
    }

    /// Segments that an opening would replay.
    pub(crate) fn log_segments(&self) -> u32 {
        let in_log = |info: &&crate::segments::Segment| {
            info.state == crate::segments::SegmentState::Used
                && info.generation >= self.superblock.replay_start
        };
        self.segments.iter().map(|(_, info)| info).filter(in_log).count() as u32
    }

    /// Gives the device back, without sealing.
    pub fn into_device(self) -> D {
        self.device
    }

    /// The device, for tests that arm faults.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }
}

/// Reads what is on the device. Who is going to write flushes first: a process that died may have left groups, or a
/// superblock, that can be read and are not durable, and the first group written here says that they were.
fn load(device: &mut dyn BlockDevice, options: &Options) -> Result<Loaded, Error> {
    if !options.read_only && flushes_first(options) {
        device.flush()?;
    }
    replay::load(device, options)
}

#[cfg(feature = "mutants")]
fn flushes_first(options: &Options) -> bool {
    options.mutant != Mutant::OpenedWithoutFlush
}

#[cfg(feature = "mutants")]
fn is_settled(settled: bool, options: &Options) -> bool {
    settled || options.mutant == Mutant::OpenedUnsettled
}

#[cfg(not(feature = "mutants"))]
fn is_settled(settled: bool, _: &Options) -> bool {
    settled
}

#[cfg(not(feature = "mutants"))]
fn flushes_first(_: &Options) -> bool {
    true
}
