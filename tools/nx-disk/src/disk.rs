//! A disk image behind a volatile cache: what is not flushed is in memory alone, and a cut decides its fate.
//!
//! Invariants:
//! - A flush that was honest leaves nothing in the cache: the file holds every write that came before it.
//! - A cut touches no sector that was not written since.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a sector: nothing smaller is read, written or torn.
pub const SECTOR: usize = 512;
/// Versions of sectors that the cache holds at the most (64 MiB): a full cache goes to the file by itself, as that
/// of a real disk does, and that is not a flush.
pub const CACHE_SECTORS_MAX: usize = 128 * 1024;

type Sector = [u8; SECTOR];

/// What the disk does when it is asked to flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Flush {
    /// Everything written before becomes durable
    #[default]
    Honest,
    /// Nothing: a disk that lies, which the proofs must find
    DoesNothing,
}

/// What a cut did to the writes that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Units that hold the newest that was written to them.
    pub landed: u64,
    /// Units that hold what was there before.
    pub dropped: u64,
    /// Units whose sectors hold different versions.
    pub torn: u64,
}

/// An image with a volatile cache.
#[derive(Debug)]
pub struct Disk {
    file: File,
    length: u64,
    unit: u64,
    flush: Flush,
    /// All versions of each unflushed sector, oldest first.
    cache: BTreeMap<u64, Vec<Sector>>,
    cached: usize,
}

/// Random bits from a seed: splitmix64.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

impl Disk {
    /// Opens an image of whole sectors. `unit` is what a cut may tear at the most: a power of two of at least a
    /// sector.
    pub fn open(path: &Path, unit: u32, flush: Flush) -> io::Result<Disk> {
        let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        if length == 0 || !length.is_multiple_of(SECTOR as u64) {
            return wrong(format!("an image has whole sectors of 512 bytes; this has {length} bytes"));
        }
        if !unit.is_power_of_two() || (unit as usize) < SECTOR {
            return wrong(format!("a unit is a power of two of at least 512 bytes, not {unit}"));
        }
        let cache = BTreeMap::new();
        Ok(Disk { file, length, unit: unit.into(), flush, cache, cached: 0 })
    }

    /// Bytes of the image.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that a cut may tear at the most.
    pub fn unit(&self) -> u32 {
        self.unit as u32
    }

    /// The sectors of a range, if it is one of whole sectors within the image.
    fn sectors(&self, offset: u64, bytes: usize) -> io::Result<std::ops::Range<u64>> {
        let end = offset.checked_add(bytes as u64).filter(|end| *end <= self.length);
        let sector = SECTOR as u64;
        match end {
            Some(end) if offset.is_multiple_of(sector) && end.is_multiple_of(sector) => {
                Ok(offset / sector..end / sector)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Reads what was last written, flushed or not. A range that is not of whole sectors within the image is
    /// `InvalidInput`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let sectors = self.sectors(offset, buffer.len())?;
        let first = sectors.start;
        self.file.read_exact_at(buffer, offset)?;
        for (at, versions) in self.cache.range(sectors) {
            let part = buffer.chunks_exact_mut(SECTOR).nth((at - first) as usize);
            if let Some((part, newest)) = part.zip(versions.last()) {
                part.copy_from_slice(newest);
            }
        }
        Ok(())
    }

    /// Writes into the cache. A range that is not of whole sectors within the image is `InvalidInput`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        for (at, sector) in self.sectors(offset, data.len())?.zip(data.as_chunks::<SECTOR>().0) {
            self.cache.entry(at).or_default().push(*sector);
            self.cached += 1;
        }
        if self.cached > CACHE_SECTORS_MAX { self.land_all() } else { Ok(()) }
    }

    /// Makes durable what was written, unless this disk lies. "Durable" outlives the cuts of this program; the
    /// host itself is not asked to flush.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.flush {
            Flush::Honest => self.land_all(),
            Flush::DoesNothing => Ok(()),
        }
    }

    fn land_all(&mut self) -> io::Result<()> {
        for (at, versions) in &self.cache {
            if let Some(newest) = versions.last() {
                self.file.write_all_at(newest, at * SECTOR as u64)?;
            }
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.cache.clear();
        self.cached = 0;
    }

    /// Cuts the power: of what was not flushed some units land, some do not, some in parts, whatever their order
    /// was. The same seed and the same writes give the same image.
    pub fn cut(&mut self, seed: u64) -> io::Result<Losses> {
        let mut random = Random(seed);
        let mut losses = Losses::default();
        let mut units: BTreeMap<u64, Vec<(u64, &[Sector])>> = BTreeMap::new();
        for (at, versions) in &self.cache {
            units.entry(at * SECTOR as u64 / self.unit).or_default().push((*at, versions));
        }
        // One cut in four treats all units alike: nothing landed, or everything did.
        let all_alike = random.below(8);
        for sectors in units.values() {
            let fate = if all_alike < 2 { all_alike } else { random.below(4) };
            for (at, versions) in sectors {
                let landed = match fate {
                    0 => None,
                    1 => versions.last(),
                    // One past the newest means the old one: every version is as likely as any other.
                    _ => versions.get(random.below(versions.len() as u64 + 1) as usize),
                };
                if let Some(sector) = landed {
                    self.file.write_all_at(sector, at * SECTOR as u64)?;
                }
            }
            match fate {
                0 => losses.dropped += 1,
                1 => losses.landed += 1,
                _ => losses.torn += 1,
            }
        }
        self.forget();
        Ok(losses)
    }
}
