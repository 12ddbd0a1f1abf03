//! The sequential throughput of `virtioblkd`, as a share of what this emulator lets anybody read: the same bytes are read
//! from a second disk by a bare driver of one's own, which does nothing but ask its device whether it has finished, and
//! through `virtioblkd`, in turn. With `bench=disk` among the boot arguments, on a machine with two disks.
//!
//! The bare driver keeps every slot of the device busy, waits for no interrupt, and copies nothing: what it reads stays
//! where the device has put it; then once more with a copy into memory of its own. Whoever asks `virtioblkd` has the bytes in memory of its own. Of several rounds the
//! fastest counts, of either: a busy computer makes a round slower and none faster.
//!
//! Where to start reading: [`measure`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::fmt::Display;
use core::time::Duration;
use driver_kit::DeviceMemory;
use nexus_abi::limits::PAGE_SIZE;
use nexus_ipc::Lent;
use nexus_proto::block::{self, BLOCK_BYTES, Extent, TRANSFER_BLOCKS_MAX};
use nexus_rt::{Environment, error, info};
use virtio_blk::{BlockDevice, DEVICE, DMA_PAGES, Outcome, Request, SLOT_BYTES};

/// Blocks that a round reads, from the first on.
const ROUND_BLOCKS: u64 = 4 * TRANSFER_BLOCKS_MAX;
/// Bytes that one call moves.
const CALL_BYTES: usize = TRANSFER_BLOCKS_MAX as usize * BLOCK_BYTES;
/// Rounds, of each kind.
const ROUNDS: usize = 20;
/// Time that one call may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    match measure(environment) {
        Ok(()) => 0,
        Err(reason) => {
            error!("bench-disk: FAIL {reason}");
            1
        }
    }
}

fn told(error: impl Display) -> String {
    format!("{error}")
}

fn measure(environment: &Environment) -> Result<(), String> {
    let (transport, _) = driver_kit::open(environment, "blk", DEVICE, DMA_PAGES).map_err(told)?;
    let mut device = BlockDevice::<DeviceMemory>::open(transport).map_err(told)?;
    environment.ready();
    let driver = block::Client::new(environment.to_call("block").map_err(told)?);
    let session =
        driver.scratch(&(), environment.deadline(PATIENCE)).map_err(|error| format!("{error:?}"))?;
    let geometry = session.geometry(&(), environment.deadline(PATIENCE));
    let blocks = geometry.map_err(|error| format!("{error:?}"))?.blocks.min(ROUND_BLOCKS);
    if blocks % TRANSFER_BLOCKS_MAX != 0 || blocks == 0 {
        return Err(format!("the partition has {blocks} blocks"));
    }
    let mut room = vec![0; CALL_BYTES + PAGE_SIZE];
    let memory = whole_pages(&mut room).ok_or("no memory that begins with a page")?;
    let [mut bare, mut copied, mut served] = [u64::MAX; 3];
    for _ in 0..ROUNDS {
        bare = bare.min(time(environment, || poll(&mut device, blocks, None))?);
        copied = copied.min(time(environment, || poll(&mut device, blocks, Some(&mut *memory)))?);
        served = served.min(time(environment, || ask(environment, &session, blocks, memory))?);
    }
    for (name, ticks) in [("polling", bare), ("polling-and-copying", copied), ("virtioblkd", served)] {
        let seconds = environment.clock().duration(ticks.max(1)).as_nanos().max(1);
        let rate = u128::from(blocks) * BLOCK_BYTES as u128 * 1_000_000_000 / 1024 / seconds;
        info!("BENCH: block/read/{name} {rate} KiB/s");
    }
    info!("BENCH: block/read/share {} percent", bare.saturating_mul(100) / served.max(1));
    info!("bench-disk: measured");
    Ok(())
}

/// As much of this memory as one call moves, from the beginning of a page: what the device fills begins with one too, so
/// that the kernel copies page by page.
fn whole_pages(room: &mut [u8]) -> Option<&mut [u8]> {
    let skip = room.as_ptr().align_offset(PAGE_SIZE);
    room.get_mut(skip..)?.get_mut(..CALL_BYTES)
}

/// Ticks that a deed takes.
fn time(environment: &Environment, deed: impl FnOnce() -> Result<(), String>) -> Result<u64, String> {
    let begun = environment.clock().now();
    deed().map(|()| environment.clock().now().saturating_sub(begun))
}

/// Reads so many blocks by nothing but asking whether the device has finished, and copies them once if there is where to.
fn poll(
    device: &mut BlockDevice<DeviceMemory>,
    blocks: u64,
    mut memory: Option<&mut [u8]>,
) -> Result<(), String> {
    let in_slot = (SLOT_BYTES / BLOCK_BYTES) as u64;
    let mut next = 0;
    while next < blocks || device.count_under_way() > 0 {
        let before = next;
        while next < blocks
            && let Some(slot) = device.free_slot()
        {
            let count = in_slot.min(blocks - next);
            let request = Request::Read { first: next, bytes: count as usize * BLOCK_BYTES };
            device.submit(slot, request).map_err(told)?;
            next += count;
        }
        if next > before {
            device.kick();
        }
        while let Some((slot, outcome)) = device.take().map_err(told)? {
            if outcome != Outcome::Done {
                return Err(format!("the device answered {outcome:?}"));
            }
            let to =
                memory.as_mut().and_then(|memory| memory.get_mut(slot * SLOT_BYTES..)?.get_mut(..SLOT_BYTES));
            if let (Some(to), Some(buffer)) = (to, device.buffer(slot)) {
                to.copy_from_slice(buffer);
            }
        }
    }
    Ok(())
}

/// Reads so many blocks through the driver, as many at a time as one call moves.
fn ask(
    environment: &Environment,
    session: &block::Client,
    blocks: u64,
    memory: &mut [u8],
) -> Result<(), String> {
    for first in (0..blocks).step_by(TRANSFER_BLOCKS_MAX as usize) {
        let extent = Extent { first, blocks: TRANSFER_BLOCKS_MAX };
        let outcome = session.read(&extent, [Lent::write(memory)], environment.deadline(PATIENCE));
        outcome.map_err(|error| format!("reading at {first}: {error:?}"))?;
    }
    Ok(())
}
