//! A medium of units that remembers what was written between flushes, and the images that a cut can leave.

use crate::random::Random;
use statefs::{BlockDevice, DeviceError, SECTOR};
use std::sync::Arc;

/// Bytes of a unit in these proofs.
pub const UNIT: usize = 4096;

/// One unit of a medium.
#[derive(Debug, Clone)]
pub struct Unit {
    data: Arc<[u8]>,
    hash: u64,
    readable: bool,
}

impl Unit {
    fn new(data: Arc<[u8]>) -> Unit {
        let mut hash = 0xCBF2_9CE4_8422_2325u64;
        for word in data.chunks_exact(8) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            hash = (hash.rotate_left(5) ^ u64::from_le_bytes(bytes)).wrapping_mul(0x517C_C1B7_2722_0A95);
        }
        Unit { data, hash, readable: true }
    }
}

/// What went to the medium, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A unit was written.
    Write(usize, Unit),
    /// Everything before is durable.
    Flush,
}

/// A medium; every write is seen at once, and recorded.
#[derive(Debug, Clone)]
pub struct Medium {
    units: Vec<Unit>,
    /// What was written and flushed since [`Medium::record`].
    pub trace: Vec<Event>,
    recording: bool,
    /// Writes and flushes until those of the process at work reach the medium no more.
    life: Option<usize>,
}

/// What became of a unit that was written and not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The write never landed.
    Old,
    /// The write landed.
    New,
    /// Some sectors landed.
    Mixed(u8),
    /// The unit cannot be read.
    Unreadable,
}

impl Medium {
    /// A medium of zeros.
    pub fn new(units: usize) -> Medium {
        let zero = Unit::new(vec![0; UNIT].into());
        Medium { units: vec![zero; units], trace: Vec::new(), recording: false, life: None }
    }

    /// A medium with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Medium {
        let units = bytes.chunks_exact(UNIT).map(|unit| Unit::new(unit.into())).collect();
        Medium { units, trace: Vec::new(), recording: false, life: None }
    }

    /// The image; what is unreadable as zeros.
    pub fn to_bytes(&self) -> Vec<u8> {
        let zeros = [0; UNIT];
        self.units
            .iter()
            .flat_map(|unit| if unit.readable { &unit.data[..] } else { &zeros }.to_vec())
            .collect()
    }

    /// Starts recording.
    pub fn record(mut self) -> Medium {
        self.trace.clear();
        self.recording = true;
        self
    }

    /// The process at work dies after so many more writes and flushes, in the middle of a write of several units
    /// if that is where it is. The power stays: what was written is seen by the next process.
    pub fn die_after(&mut self, steps: usize) {
        self.life = Some(steps);
    }

    /// Another process is at work.
    pub fn revive(&mut self) {
        self.life = None;
    }

    fn live(&mut self) -> Result<(), DeviceError> {
        match &mut self.life {
            Some(0) => Err(DeviceError::Gone),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Units.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether the medium has no units.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// A hash by which equal images are counted once.
    pub fn fingerprint(&self) -> u64 {
        let place = |(at, unit): (usize, &Unit)| {
            let word = unit.hash ^ (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(unit.readable);
            (word ^ (word >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(17)
        };
        self.units.iter().enumerate().map(place).fold(0, u64::wrapping_add)
    }

    /// Lets a written unit take its fate.
    pub fn land(&mut self, at: usize, new: &Unit, fate: Fate) {
        let Some(unit) = self.units.get_mut(at) else { return };
        match fate {
            Fate::Old => {}
            Fate::New => *unit = new.clone(),
            Fate::Unreadable => *unit = Unit { readable: false, ..new.clone() },
            Fate::Mixed(sectors) => {
                let mut data = unit.data.to_vec();
                for sector in (0..UNIT / SECTOR).filter(|sector| sectors & (1 << sector) != 0) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    data[range.clone()].copy_from_slice(&new.data[range]);
                }
                *unit = Unit::new(data.into());
            }
        }
    }

    /// Unreadable units come back, with what was written last; in the trace as a window of its own.
    pub fn heal(&mut self) {
        self.trace.push(Event::Flush);
        for (at, unit) in self.units.iter_mut().enumerate().filter(|(_, unit)| !unit.readable) {
            unit.readable = true;
            self.trace.push(Event::Write(at, unit.clone()));
        }
        self.trace.push(Event::Flush);
    }

    /// What was read for a while cannot be read any more.
    pub fn lose(&mut self, at: usize) {
        if let Some(unit) = self.units.get_mut(at) {
            unit.readable = false;
        }
    }

    /// Whether a unit is unreadable.
    pub fn has_unreadable(&self) -> bool {
        self.units.iter().any(|unit| !unit.readable)
    }

    /// Damages a unit: one bit flips, or it becomes unreadable, or zeros.
    pub fn damage(&mut self, at: usize, random: &mut Random) {
        let Some(unit) = self.units.get_mut(at) else { return };
        match random.below(4) {
            0 => unit.readable = false,
            1 => *unit = Unit::new(vec![0; UNIT].into()),
            _ => {
                let mut data = unit.data.to_vec();
                let used = data.iter().rposition(|byte| *byte != 0).map_or(UNIT, |last| last + 1);
                data[random.below(used)] ^= 1 << random.below(8);
                *unit = Unit::new(data.into());
            }
        }
    }

    /// A unit, as it is; a medium has at least one.
    pub fn unit(&self, at: usize) -> Unit {
        self.units[at].clone()
    }

    /// Whether a unit holds anything.
    pub fn is_used(&self, at: usize) -> bool {
        self.units.get(at).is_some_and(|unit| unit.data.iter().any(|byte| *byte != 0))
    }
}

impl BlockDevice for Medium {
    fn physical_block(&self) -> u32 {
        UNIT as u32
    }

    fn length(&self) -> u64 {
        (self.units.len() * UNIT) as u64
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let (mut at, mut done) = (offset as usize, 0);
        while done < buffer.len() {
            let unit = self.units.get(at / UNIT).ok_or(DeviceError::Range)?;
            if !unit.readable {
                return Err(DeviceError::Io);
            }
            let within = at % UNIT;
            let part = (UNIT - within).min(buffer.len() - done);
            buffer[done..done + part].copy_from_slice(&unit.data[within..within + part]);
            (at, done) = (at + part, done + part);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        assert_eq!((offset as usize % UNIT, data.len() % UNIT), (0, 0), "the engine writes whole units");
        for (at, part) in data.chunks_exact(UNIT).enumerate() {
            self.live()?;
            let at = offset as usize / UNIT + at;
            let unit = Unit::new(part.into());
            if self.recording {
                self.trace.push(Event::Write(at, unit.clone()));
            }
            *self.units.get_mut(at).ok_or(DeviceError::Range)? = unit;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.live()?;
        if self.recording {
            self.trace.push(Event::Flush);
        }
        Ok(())
    }
}
