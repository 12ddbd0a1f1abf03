//! Opening the store, or saying in one line why there is none. Nothing is ever formatted here.

use crate::partition::Partition;
use crate::seeds::Seeds;
use alloc::vec;
use core::time::Duration;
use nexus_proto::block;
use nexus_proto::state::NoStore;
use nexus_rt::Environment;
use state_service::quotas;
use statefs::{BlockDevice, Entropy, Error, Options, Store};

/// Times that a disk which fails while it is opened is tried.
const ATTEMPTS: u32 = 5;
/// Time between them.
const PAUSE: Duration = Duration::from_millis(200);
/// Keys that the store may have here: each takes about 90 bytes of memory.
pub const KEYS_MAX: u64 = 16_384;
/// Bytes of the largest segment that there is memory for: it is read as a whole.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;
/// What both superblocks begin with.
const MAGIC: &[u8] = b"NXSTATFS";
/// Bytes at the beginning of a partition that are looked at to tell an empty one from a foreign one.
const LOOKED_AT: usize = 8192;

/// Opens the store. Without entropy for its salts it is opened to be read alone.
pub fn open(environment: &Environment, seeds: &mut Option<Seeds<'_>>) -> Result<Store<Partition>, NoStore> {
    let mut attempt = 1;
    loop {
        let opened = attempt_to_open(environment, seeds);
        if opened.as_ref().err() != Some(&NoStore::DeviceFailed) || attempt == ATTEMPTS {
            return opened;
        }
        attempt += 1;
        environment.sleep(PAUSE);
    }
}

fn attempt_to_open(
    environment: &Environment,
    seeds: &mut Option<Seeds<'_>>,
) -> Result<Store<Partition>, NoStore> {
    let driver = environment.to_call(block::REFERENCE.endpoint).map_err(|_| NoStore::NoDisk)?;
    let mut partition = Partition::open(block::Client::new(driver), environment.clock())?;
    let entropy = seeds.as_mut().and_then(entropy);
    let options = Options {
        keys_max: KEYS_MAX,
        quotas: quotas(),
        read_only: entropy.is_none(),
        #[cfg(feature = "mutants")]
        mutant: match environment.has_argument("mutant=early-answer") {
            true => statefs::Mutant::AcknowledgedBeforeFlush,
            false => statefs::Mutant::None,
        },
        ..Options::new(entropy.unwrap_or(Entropy([0; 4])))
    };
    look_first(&mut partition)?;
    Store::open(partition, options).map_err(reason)
}

fn entropy(seeds: &mut Seeds<'_>) -> Option<Entropy> {
    Some(Entropy([seeds.next()?, seeds.next()?, seeds.next()?, seeds.next()?]))
}

/// Whether the partition holds a store that there is memory for.
fn look_first(partition: &mut Partition) -> Result<(), NoStore> {
    let mut beginning = vec![0; LOOKED_AT];
    match partition.read(0, &mut beginning) {
        Ok(()) => {}
        Err(_) if !partition.is_reachable() => return Err(NoStore::DeviceFailed),
        // The engine knows what to do with blocks that cannot be read.
        Err(_) => return Ok(()),
    }
    if beginning.iter().all(|&byte| byte == 0) {
        return Err(NoStore::Blank);
    }
    if segment_bytes(&beginning) > SEGMENT_BYTES_MAX { Err(NoStore::TooLarge) } else { Ok(()) }
}

/// Bytes of a segment of the store that begins so, by either superblock; 0 where there is none. The places are those
/// of RFC-0001, section 2, and never change.
fn segment_bytes(beginning: &[u8]) -> u64 {
    let superblocks = beginning.chunks_exact(LOOKED_AT / 2).filter(|block| block.starts_with(MAGIC));
    let word = |block: &[u8], at: usize| {
        let bytes = block.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    superblocks.map(|block| word(block, 12) * word(block, 16)).max().unwrap_or(0)
}

fn reason(error: Error) -> NoStore {
    match error {
        Error::Foreign => NoStore::Foreign,
        Error::NewerFormat { .. } => NoStore::NewerFormat,
        Error::Truncated | Error::Geometry => NoStore::Truncated,
        Error::SuperblockLost => NoStore::SuperblockLost,
        Error::UnitTooSmall => NoStore::UnitTooSmall,
        _ => NoStore::DeviceFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_segments_is_read_from_whichever_superblock_is_there() {
        let mut beginning = [0; LOOKED_AT];
        assert_eq!(segment_bytes(&beginning), 0);
        beginning[4096..4104].copy_from_slice(MAGIC);
        beginning[4108..4112].copy_from_slice(&4096u32.to_le_bytes());
        beginning[4112..4116].copy_from_slice(&128u32.to_le_bytes());
        assert_eq!(segment_bytes(&beginning), 512 * 1024);
        beginning[..8].copy_from_slice(MAGIC);
        beginning[12..20].fill(0xff);
        assert_eq!(segment_bytes(&beginning), u64::from(u32::MAX) * u64::from(u32::MAX));
    }
}
