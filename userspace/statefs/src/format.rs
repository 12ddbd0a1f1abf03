//! Superblock, segment head and geometry, as drawn in RFC-0001, sections 1 to 3.

use crate::checksum::salted;
use crate::error::Error;
use crate::limits::{COUNTER_END, GROUP_BYTES_MAX, REPLAY_SEGMENTS_MAX};
use alloc::vec;
use alloc::vec::Vec;

/// Version of the format that this engine reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Superblocks at the start of the device, in units.
pub(crate) const SUPERBLOCKS: u64 = 2;
const SUPERBLOCK_MAGIC: &[u8; 8] = b"NXSTATFS";
const FREE_MAP: usize = 112;
const SEGMENT_MAGIC: &[u8; 4] = b"SFSG";

/// Bytes at an offset; zeros where there are none. Callers check lengths by magic and CRC first.
pub(crate) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut value = [0; N];
    if let Some(found) = bytes.get(offset..).and_then(|rest| rest.get(..N)) {
        value.copy_from_slice(found);
    }
    value
}

#[cfg_attr(not(feature = "host"), inline(never))]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(bytes, offset))
}

/// Called on the device, where its byte by byte would stand in every place that reads a header.
#[cfg_attr(not(feature = "host"), inline(never))]
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(bytes, offset))
}

/// Writes a field into a buffer that its maker has sized.
#[cfg_attr(not(feature = "host"), inline(never))]
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// The shape of a store: fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a unit: a power of two, 4096 to 65,536, at least the physical block.
    pub unit: u32,
    /// Units of a segment: 8 to 4096.
    pub segment_units: u32,
    /// Segments: 16 to 30,000.
    pub segments: u32,
}

impl Geometry {
    /// A geometry for a device: segments of 1 MiB, smaller ones where fewer than 32 of them would fit.
    pub fn for_device(length: u64, physical_block: u32) -> Result<Geometry, Error> {
        let unit = physical_block.max(4096);
        let mut segment_units = (1 << 20) / unit.min(1 << 17);
        while segment_units > 8 && length / (u64::from(segment_units) * u64::from(unit)) < 32 {
            segment_units /= 2;
        }
        Geometry::with_segment_units(length, unit, segment_units)
    }

    /// As many segments of this size as fit.
    pub fn with_segment_units(length: u64, unit: u32, segment_units: u32) -> Result<Geometry, Error> {
        let segment = u64::from(unit).checked_mul(u64::from(segment_units)).filter(|bytes| *bytes > 0);
        let room = length.saturating_sub(SUPERBLOCKS * u64::from(unit));
        let most = u64::from(unit).saturating_sub(116).saturating_mul(8).min(30_000);
        let segments = (room / segment.ok_or(Error::Geometry)?).min(most);
        let geometry = Geometry { unit, segment_units, segments: segments as u32 };
        if geometry.is_legal() { Ok(geometry) } else { Err(Error::Geometry) }
    }

    fn is_legal(&self) -> bool {
        self.unit.is_power_of_two()
            && (4096..=65_536).contains(&self.unit)
            && (8..=4096).contains(&self.segment_units)
            && (16..=30_000).contains(&self.segments)
            && self.free_map_bytes() <= self.unit as usize - 116
    }

    fn free_map_bytes(&self) -> usize {
        self.segments.div_ceil(8) as usize
    }

    /// Bytes of a unit.
    pub(crate) fn unit_bytes(&self) -> usize {
        self.unit as usize
    }

    /// Bytes of a segment.
    pub(crate) fn segment_bytes(&self) -> usize {
        self.unit as usize * self.segment_units as usize
    }

    /// Bytes of a segment that groups can use.
    pub(crate) fn usable_bytes(&self) -> usize {
        self.unit as usize * (self.segment_units as usize - 2)
    }

    /// Bytes of the largest group.
    pub(crate) fn group_bytes_max(&self) -> usize {
        self.usable_bytes().min(GROUP_BYTES_MAX)
    }

    /// Bytes of the largest group that a checkpoint fills: as many of them fill a segment as it takes of the largest.
    pub(crate) fn checkpoint_group_bytes_max(&self) -> usize {
        let units = self.segment_units as usize - 2;
        let groups = units.div_ceil(self.group_bytes_max() / self.unit_bytes());
        units / groups * self.unit_bytes()
    }

    /// Offset of a segment on the device, in bytes.
    pub(crate) fn segment_offset(&self, segment: u32) -> u64 {
        (SUPERBLOCKS + u64::from(segment) * u64::from(self.segment_units)) * u64::from(self.unit)
    }

    /// Bytes of a device that holds this.
    pub fn device_bytes(&self) -> u64 {
        self.segment_offset(self.segments)
    }

    /// Segments that replay reads at the most.
    pub(crate) fn replay_bound(&self) -> u32 {
        (self.segments / 2).min(REPLAY_SEGMENTS_MAX)
    }
}

/// The root of a generation: where replay starts, what was acknowledged, which segments are free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub geometry: Geometry,
    pub store_id: [u8; 16],
    pub salt: u64,
    pub generation: u64,
    pub replay_start: u64,
    pub frontier: u64,
    pub incarnation: u64,
    pub next_version: u64,
    pub next_segment_generation: u64,
    pub base_epoch: u64,
    pub base_crc: u32,
    pub free: Vec<bool>,
}

impl Superblock {
    /// The unit as it goes to the device.
    pub fn encode(&self) -> Vec<u8> {
        let unit = self.geometry.unit_bytes();
        let mut bytes = vec![0; unit];
        put(&mut bytes, 0, SUPERBLOCK_MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.geometry.unit.to_le_bytes());
        put(&mut bytes, 16, &self.geometry.segment_units.to_le_bytes());
        put(&mut bytes, 20, &self.geometry.segments.to_le_bytes());
        put(&mut bytes, 24, &self.store_id);
        put(&mut bytes, 40, &self.salt.to_le_bytes());
        put(&mut bytes, 48, &self.generation.to_le_bytes());
        put(&mut bytes, 56, &self.replay_start.to_le_bytes());
        put(&mut bytes, 64, &self.frontier.to_le_bytes());
        put(&mut bytes, 72, &self.incarnation.to_le_bytes());
        put(&mut bytes, 80, &self.next_version.to_le_bytes());
        put(&mut bytes, 88, &self.next_segment_generation.to_le_bytes());
        put(&mut bytes, 96, &self.base_epoch.to_le_bytes());
        put(&mut bytes, 104, &self.base_crc.to_le_bytes());
        put(&mut bytes, 108, &(self.geometry.free_map_bytes() as u32).to_le_bytes());
        for (segment, _) in self.free.iter().enumerate().filter(|(_, free)| **free) {
            bytes[FREE_MAP + segment / 8] |= 1 << (segment % 8);
        }
        let crc = salted(0, &bytes[..unit - 4]);
        put(&mut bytes, unit - 4, &crc.to_le_bytes());
        bytes
    }

    /// Reads a superblock out of the bytes that start at its unit (at least 64 KiB, or what the device has).
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Error> {
        if bytes.get(..8) != Some(SUPERBLOCK_MAGIC) {
            return Err(Error::Foreign);
        }
        let geometry = Geometry {
            unit: u32_at(bytes, 12),
            segment_units: u32_at(bytes, 16),
            segments: u32_at(bytes, 20),
        };
        let unit = geometry.unit as usize;
        if !geometry.unit.is_power_of_two() || !(4096..=65_536).contains(&unit) {
            return Err(Error::SuperblockLost);
        }
        let body = bytes.get(..unit - 4).ok_or(Error::SuperblockLost)?;
        if bytes.len() < unit || salted(0, body) != u32_at(bytes, unit - 4) {
            return Err(Error::SuperblockLost);
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            version if version > FORMAT_VERSION => return Err(Error::NewerFormat { version }),
            _ => return Err(Error::SuperblockLost),
        }
        let counters = (48..=96).step_by(8).map(|at| u64_at(bytes, at));
        if !geometry.is_legal() || counters.max() >= Some(COUNTER_END) {
            return Err(Error::SuperblockLost);
        }
        let free = (0..geometry.segments as usize)
            .map(|segment| {
                bytes.get(FREE_MAP + segment / 8).is_some_and(|byte| byte & (1 << (segment % 8)) != 0)
            })
            .collect();
        Ok(Superblock {
            geometry,
            store_id: field(bytes, 24),
            salt: u64_at(bytes, 40),
            generation: u64_at(bytes, 48),
            replay_start: u64_at(bytes, 56),
            frontier: u64_at(bytes, 64),
            incarnation: u64_at(bytes, 72),
            next_version: u64_at(bytes, 80),
            next_segment_generation: u64_at(bytes, 88),
            base_epoch: u64_at(bytes, 96),
            base_crc: u32_at(bytes, 104),
            free,
        })
    }
}

/// The head of a segment in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub segment: u32,
    pub generation: u64,
    pub salt: u64,
    pub incarnation: u64,
    pub frontier: u64,
}

impl SegmentHead {
    /// The head as it goes to the device, one unit long.
    pub fn encode(&self, store: &Superblock) -> Vec<u8> {
        let mut bytes = vec![0; store.geometry.unit_bytes()];
        put(&mut bytes, 0, SEGMENT_MAGIC);
        put(&mut bytes, 4, &self.segment.to_le_bytes());
        put(&mut bytes, 8, &store.store_id);
        put(&mut bytes, 24, &self.generation.to_le_bytes());
        put(&mut bytes, 32, &self.salt.to_le_bytes());
        put(&mut bytes, 40, &self.incarnation.to_le_bytes());
        put(&mut bytes, 48, &self.frontier.to_le_bytes());
        let crc = salted(store.salt, &bytes[..60]);
        put(&mut bytes, 60, &crc.to_le_bytes());
        bytes
    }

    /// The head in these bytes, if they hold a valid one of this segment of this store.
    pub fn decode(bytes: &[u8], segment: u32, store: &Superblock) -> Option<SegmentHead> {
        let valid = bytes.get(..4) == Some(SEGMENT_MAGIC)
            && u32_at(bytes, 4) == segment
            && field::<16>(bytes, 8) == store.store_id
            && bytes.get(..60).map(|body| salted(store.salt, body)) == Some(u32_at(bytes, 60))
            && [24, 40, 48].into_iter().all(|at| u64_at(bytes, at) < COUNTER_END);
        valid.then(|| SegmentHead {
            segment,
            generation: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
            incarnation: u64_at(bytes, 40),
            frontier: u64_at(bytes, 48),
        })
    }
}
