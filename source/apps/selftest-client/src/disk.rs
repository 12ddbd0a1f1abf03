//! The disk: a partition through its session, and nothing beyond it.

use crate::{Subject, announce_restart, expect, trying};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use nexus_abi::{Error, system};
use nexus_ipc::{CallError, Lent};
use nexus_proto::block::{BLOCK_BYTES, BlockError, Client, Extent, Geometry, HAS_CACHE, TRANSFER_BLOCKS_MAX};
use nexus_proto::init::{ServiceState, Target};

/// Blocks that are written and read back: more than one request of the device takes, and no multiple of one.
const BLOCKS: u64 = 77;
/// Where they begin: not at the beginning of anything.
const FIRST: u64 = 13;
/// Attempts to open a partition that its last session has just left.
const ATTEMPTS: u32 = 1000;

/// Whether this machine has a disk; where it has none, that nobody opens anything.
pub fn has_disk(subject: &Subject<'_>) -> Result<bool, String> {
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    let driver = services.entries.iter().find(|entry| entry.name == "virtioblkd");
    if driver.is_some_and(|entry| entry.state != ServiceState::NoDevice) {
        return Ok(true);
    }
    let refused = subject.block.scratch(&(), subject.deadline()).map(drop);
    expect("opening without a disk", refused, Err(CallError::Kernel(Error::Sealed)))?;
    Ok(false)
}

fn open(subject: &Subject<'_>) -> Result<Client, String> {
    for _ in 0..ATTEMPTS {
        match subject.block.scratch(&(), subject.deadline()) {
            Err(CallError::Service(BlockError::Busy)) => {}
            outcome => return trying("opening", outcome),
        }
    }
    Err("the partition stays busy".into())
}

fn close(session: Client) -> Result<(), String> {
    trying("closing the session", system::cap_close(session.endpoint()))
}

/// Bytes that no other block has.
fn pattern(blocks: u64, salt: u8) -> Vec<u8> {
    (0..blocks as usize * BLOCK_BYTES).map(|at| (at / BLOCK_BYTES) as u8 ^ at as u8 ^ salt).collect()
}

fn read(
    subject: &Subject<'_>,
    session: Client,
    first: u64,
    blocks: u64,
) -> Result<Vec<u8>, CallError<BlockError>> {
    let mut bytes = vec![0xee; blocks as usize * BLOCK_BYTES];
    session.read(&Extent { first, blocks }, [Lent::write(&mut bytes)], subject.deadline())?;
    Ok(bytes)
}

fn write(
    subject: &Subject<'_>,
    session: Client,
    first: u64,
    bytes: &[u8],
) -> Result<(), CallError<BlockError>> {
    let blocks = (bytes.len() / BLOCK_BYTES) as u64;
    session.write(&Extent { first, blocks }, [Lent::read(bytes)], subject.deadline())
}

fn geometry(subject: &Subject<'_>, session: Client) -> Result<Geometry, String> {
    trying("the geometry", session.geometry(&(), subject.deadline()))
}

/// What is written to a partition is read back, whole and in its place, and a flush is answered.
pub fn partition(subject: &Subject<'_>) -> Result<(), String> {
    let session = open(subject)?;
    let geometry = geometry(subject, session)?;
    expect("whether the device has a cache", geometry.flags & HAS_CACHE, HAS_CACHE)?;
    expect("whether units are whole pages", geometry.unit_bytes.is_multiple_of(4096), true)?;
    let around = trying("reading before", read(subject, session, FIRST - 1, BLOCKS + 2))?;
    let written = pattern(BLOCKS, 0x5a);
    trying("writing", write(subject, session, FIRST, &written))?;
    trying("flushing", session.flush(&(), subject.deadline()))?;
    let back = trying("reading back", read(subject, session, FIRST - 1, BLOCKS + 2))?;
    expect("whether the blocks are as written", back[BLOCK_BYTES..][..written.len()] == written[..], true)?;
    expect("whether the block before is as it was", back[..BLOCK_BYTES] == around[..BLOCK_BYTES], true)?;
    let end = back.len() - BLOCK_BYTES;
    expect("whether the block behind is as it was", back[end..] == around[end..], true)?;
    let most = pattern(TRANSFER_BLOCKS_MAX, 0xa5);
    trying("writing the most at once", write(subject, session, 128, &most))?;
    let back = trying("reading the most at once", read(subject, session, 128, TRANSFER_BLOCKS_MAX))?;
    expect("whether the most is as written", back == most, true)?;
    close(session)
}

/// What may not be asked is refused, each for its reason.
pub fn refusals(subject: &Subject<'_>) -> Result<(), String> {
    let service = |error| Err(CallError::Service(error));
    let forbidden = subject.block.state(&(), subject.deadline()).map(drop);
    expect("opening another's partition", forbidden, Err(CallError::NotPermitted))?;
    let unopened = subject.block.geometry(&(), subject.deadline()).map(drop);
    expect("asking without a session", unopened, service(BlockError::NotOpen))?;
    let session = open(subject)?;
    let second = subject.block.scratch(&(), subject.deadline()).map(drop);
    expect("opening it twice", second, service(BlockError::Busy))?;
    let end = geometry(subject, session)?.blocks;
    let reading = |first, blocks| read(subject, session, first, blocks).map(drop);
    expect("reading the last block", reading(end - 1, 1), Ok(()))?;
    for (first, blocks) in [(end, 1), (end - 1, 2), (u64::MAX, 1)] {
        expect("reading beyond the end", reading(first, blocks), service(BlockError::OutOfRange))?;
    }
    let mut one = pattern(1, 0);
    let nothing = Extent { first: 0, blocks: 0 };
    let nothing = session.read(&nothing, [Lent::write(&mut one)], subject.deadline());
    expect("reading nothing", nothing, service(BlockError::BadLength))?;
    let too_long = session.write(
        &Extent { first: 0, blocks: TRANSFER_BLOCKS_MAX + 1 },
        [Lent::read(&one[..1])],
        subject.deadline(),
    );
    expect("writing too much", too_long, service(BlockError::BadLength))?;
    let short = pattern(1, 0);
    let extent = Extent { first: 0, blocks: 2 };
    let short = session.write(&extent, [Lent::read(&short)], subject.deadline());
    expect("writing more than is lent", short, service(BlockError::BadLease))?;
    let frozen = pattern(1, 0);
    let extent = Extent { first: 0, blocks: 1 };
    let frozen = session.read(&extent, [Lent::read(&frozen)], subject.deadline());
    expect("reading into what may not be written", frozen, service(BlockError::BadLease))?;
    close(session)
}

/// The driver is killed: its session is over, and what was flushed is there for the next.
pub fn restart(subject: &Subject<'_>) -> Result<(), String> {
    let session = open(subject)?;
    let written = pattern(BLOCKS, 0x33);
    trying("writing", write(subject, session, FIRST, &written))?;
    trying("flushing", session.flush(&(), subject.deadline()))?;
    announce_restart("virtioblkd");
    trying("killing it", subject.init.kill(&Target::Name("virtioblkd".into()), subject.deadline()))?;
    let over = read(subject, session, FIRST, BLOCKS).map(drop);
    // A call that waited while the driver died reaches its successor, which does not know the session.
    match over {
        Err(CallError::Kernel(Error::PeerGone) | CallError::Service(BlockError::NotOpen)) => {}
        other => return Err(format!("reading through the old session: {other:?}")),
    }
    close(session)?;
    let session = open(subject)?;
    let back = trying("reading from its successor", read(subject, session, FIRST, BLOCKS))?;
    expect("whether the blocks are as written", back == written, true)?;
    close(session)
}
