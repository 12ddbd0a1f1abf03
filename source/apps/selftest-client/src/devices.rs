//! Devices: registers by an exact window, and what the driver of the entropy device gives.

use crate::{Subject, announce_restart, expect, trying};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use mmio::Window;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, Handle, Kind, Rights, system};
use nexus_ipc::CallError;
use nexus_proto::init::{ServiceEntry, ServiceState, Target};
use nexus_proto::rng::{ENTROPY_BYTES_MAX, Request, RngError};

/// What the first register of a virtio slot holds: "virt".
const VIRTIO_MAGIC: u32 = 0x7472_6976;
/// Time between two looks at what init says.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Bytes of a key.
const KEY_BYTES: u64 = 32;

fn slot(subject: &Subject<'_>) -> Result<Handle, String> {
    trying("the slot", subject.environment.needed("device.mmio.slot", Kind::DeviceMmio))
}

/// The registers of the slot that init handed over are mapped by its capability, and they are a slot's.
pub fn mmio_map(subject: &Subject<'_>) -> Result<(), String> {
    let (registers, bytes) = trying("mapping the slot", subject.environment.map_device(slot(subject)?))?;
    expect("the bytes that are mapped", bytes, PAGE_SIZE)?;
    // SAFETY: just mapped for good with this size, and no driver has an empty slot.
    let window = unsafe { Window::new(registers, bytes) };
    expect("the first register", window.read_u32(0), VIRTIO_MAGIC)
}

/// A query of the slot tells what init handed over: a window of one page, to be mapped and nothing else.
pub fn query_mmio(subject: &Subject<'_>) -> Result<(), String> {
    let device = slot(subject)?;
    let info = trying("the query", system::cap_query(device))?;
    expect("the kind", info.kind, Kind::DeviceMmio as u32)?;
    expect("the rights", info.rights, Rights::MAP.bits())?;
    expect("the bytes", info.bytes, PAGE_SIZE as u64)?;
    expect("whether the base begins a page", info.base.is_multiple_of(PAGE_SIZE as u64), true)?;
    expect("whether there is a base", info.base == 0, false)?;
    expect("another page of memory", system::dma_create(device, PAGE_SIZE).map(drop), Err(Error::NoMemory))
}

fn rngd(subject: &Subject<'_>) -> Result<ServiceEntry, String> {
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    services.entries.into_iter().find(|entry| entry.name == "rngd").ok_or("init does not list rngd".into())
}

/// The driver, once init has heard that it is up: a call may be answered before that.
fn up_again(subject: &Subject<'_>) -> Result<ServiceEntry, String> {
    let deadline = subject.deadline();
    loop {
        let entry = rngd(subject)?;
        if entry.state == ServiceState::Up {
            return Ok(entry);
        }
        if deadline.has_passed() {
            return Err(format!("rngd is {:?}", entry.state));
        }
        subject.environment.sleep(LOOK_AGAIN);
    }
}

/// So many random bytes.
pub fn draw(subject: &Subject<'_>, bytes: u64) -> Result<alloc::vec::Vec<u8>, CallError<RngError>> {
    subject.rng.entropy(&Request { bytes }, subject.deadline()).map(|answer| answer.0)
}

/// Whether this machine has an entropy device; where it has none, that nobody is given bytes in its stead.
pub fn has_entropy(subject: &Subject<'_>) -> Result<bool, String> {
    if rngd(subject)?.state != ServiceState::NoDevice {
        return Ok(true);
    }
    let refused = draw(subject, KEY_BYTES);
    expect("asking without a device", refused, Err(CallError::Kernel(Error::Sealed)))?;
    Ok(false)
}

/// Bytes come, as many as were asked for, not all equal, and others the second time.
pub fn entropy(subject: &Subject<'_>) -> Result<(), String> {
    let first = trying("the first bytes", draw(subject, KEY_BYTES))?;
    expect("how many came", first.len() as u64, KEY_BYTES)?;
    expect("whether all are equal", first.iter().all(|byte| Some(byte) == first.first()), false)?;
    let second = trying("the second bytes", draw(subject, KEY_BYTES))?;
    expect("whether they come again", first == second, false)?;
    let most = trying("the most at once", draw(subject, ENTROPY_BYTES_MAX as u64))?;
    expect("how many came at the most", most.len(), ENTROPY_BYTES_MAX)
}

/// More than a request may ask for, and nothing at all, are refused for those reasons.
pub fn entropy_oversized(subject: &Subject<'_>) -> Result<(), String> {
    let oversized = Err(CallError::Service(RngError::Oversized));
    expect("one too many", draw(subject, ENTROPY_BYTES_MAX as u64 + 1), oversized.clone())?;
    expect("far too many", draw(subject, u64::MAX), oversized)?;
    expect("none", draw(subject, 0), Err(CallError::Service(RngError::Empty)))?;
    trying("a request after them", draw(subject, 1)).map(drop)
}

/// The driver is killed with its device under way: whoever asks next is answered by its successor, which has the
/// device's memory again, since the device was reset and read back.
pub fn driver_restart(subject: &Subject<'_>) -> Result<(), String> {
    let before = rngd(subject)?;
    trying("bytes before", draw(subject, KEY_BYTES))?;
    announce_restart("rngd");
    trying("killing rngd", subject.init.kill(&Target::Name("rngd".into()), subject.deadline()))?;
    trying("bytes after", draw(subject, KEY_BYTES))?;
    let after = up_again(subject)?;
    expect("its restarts", after.restarts, before.restarts + 1)?;
    match after.process_id == before.process_id {
        true => Err(format!("it is still process {}", after.process_id)),
        false => Ok(()),
    }
}
