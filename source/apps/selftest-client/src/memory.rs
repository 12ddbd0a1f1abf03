//! Memory: never writable and executable, no pointer that the kernel follows blindly, no window overstepped.

use crate::{Subject, expect, trying};
use alloc::string::String;
use core::hint::black_box;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::{Buffers, Header, Registers};
use nexus_abi::records::FaultCause;
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall, system};

/// In the upper half: the kernel's.
const KERNEL: u64 = 0xffff_ffc0_0000_0000;
/// User memory where nothing is mapped.
const NOWHERE: u64 = 0x30_0000_0000;
/// Pages that the recipe gives the clock for memory of its own.
const DEVICE_PAGES: usize = 16;
/// Bytes that no register holds: they must be fetched from memory.
const IN_MEMORY: u32 = 128;

/// No mapping is writable and executable, neither when it is made nor later; data does not run, code is not
/// written.
pub fn write_xor_execute(subject: &Subject<'_>) -> Result<(), String> {
    let vmo = trying("creating memory", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
    let at = trying("finding addresses", subject.environment.addresses(PAGE_SIZE))?;
    let both = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    // SAFETY: the range was just handed out and nothing else uses it.
    let mapped = unsafe { system::vmo_map(Handle::NONE, vmo, at, 0, PAGE_SIZE, both) };
    expect("mapping writable and executable", mapped, Err(Error::WriteExecute))?;
    // SAFETY: as above.
    let mapped =
        unsafe { system::vmo_map(Handle::NONE, vmo, at, 0, PAGE_SIZE, Rights::READ | Rights::WRITE) };
    trying("mapping writable", mapped)?;
    // SAFETY: as above.
    let changed = unsafe { system::vmo_protect(Handle::NONE, at, both) };
    expect("making it executable too", changed, Err(Error::WriteExecute))?;
    // SAFETY: as above.
    trying("unmapping", unsafe { system::vmo_unmap(Handle::NONE, at) })?;
    trying("closing", system::cap_close(vmo))?;
    crate::restarts::run_faulty(subject, "execute-data", FaultCause::ExecuteFault).map(drop)?;
    crate::restarts::run_faulty(subject, "write-code", FaultCause::WriteFault).map(drop)
}

/// Addresses of the kernel, of nothing, of read-only memory and around the end of the address space are
/// refused as `Fault`, in plain calls and in messages.
pub fn user_pointer_guard(subject: &Subject<'_>) -> Result<(), String> {
    let vmo = trying("creating memory", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
    let read_only = core::ptr::from_ref(subject.environment.page()) as u64;
    for (what, address) in [
        ("the kernel's memory", KERNEL),
        ("unmapped memory", NOWHERE),
        ("read-only memory", read_only),
        ("the end of the address space", u64::MAX - 8),
        ("the end of user memory", nexus_abi::limits::USER_END - 8),
        ("address 0", 0),
    ] {
        // SAFETY: none of these addresses is memory that this program writes; the kernel must refuse.
        let read = unsafe { system::raw(SystemCall::VmoRead, [vmo.0, 0, address, 64, 0, 0]) };
        expect(&alloc::format!("reading to {what}"), read, Err(Error::Fault))?;
        // SAFETY: as above.
        let queried = unsafe { system::raw(SystemCall::CapQuery, [vmo.0, address, 0, 0, 0, 0]) };
        expect(&alloc::format!("querying to {what}"), queried, Err(Error::Fault))?;
    }
    trying("closing", system::cap_close(vmo))?;
    let mut registers = Registers { header: Header::new(1, IN_MEMORY, 0), ..Registers::default() };
    let mut buffers = Buffers { send_address: black_box(KERNEL), ..Buffers::default() };
    let deadline = subject.deadline().ticks();
    // SAFETY: the address is not of this program's memory; the kernel must refuse before it does anything.
    let called = unsafe { system::call(subject.peer_endpoint, &mut registers, Some(&mut buffers), deadline) };
    expect("sending the kernel's memory", called, Err(Error::Fault))?;
    trying("a call after it", subject.peer.whoami(&(), subject.deadline())).map(drop)
}

/// A device's window maps as far as it reaches, never executable, and only by its capability.
pub fn mmio_map_refused(subject: &Subject<'_>) -> Result<(), String> {
    let device = trying("the device", subject.environment.needed("device.mmio.rtc", Kind::DeviceMmio))?;
    let bytes = trying("the query", system::cap_query(device))?.bytes;
    let whole = usize::try_from(bytes).map_err(|_| String::from("the window has no sensible size"))?;
    let at = trying("finding addresses", subject.environment.addresses(2 * whole))?;
    let both = Rights::READ | Rights::WRITE;
    let map = |capability, offset, length, protection| {
        // SAFETY: the range was just handed out and nothing else uses it.
        unsafe { system::mmio_map(capability, at, offset, length, protection) }
    };
    expect("beyond the window", map(device, bytes, PAGE_SIZE, both), Err(Error::OutOfRange))?;
    expect("more than the window", map(device, 0, whole + PAGE_SIZE, both), Err(Error::OutOfRange))?;
    expect("executable", map(device, 0, whole, both | Rights::EXECUTE), Err(Error::WriteExecute))?;
    expect("without a capability", map(Handle::NONE, 0, whole, both), Err(Error::InvalidHandle))?;
    let vmo = trying("creating memory", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
    expect("by another kind of capability", map(vmo, 0, PAGE_SIZE, both), Err(Error::WrongKind))?;
    trying("closing", system::cap_close(vmo))?;
    // That it is refused for those reasons alone is seen by what is not refused.
    trying("the window itself", map(device, 0, whole, both))?;
    // SAFETY: just mapped; the first register of this clock is its time and may be read at any moment.
    let time = unsafe { core::ptr::with_exposed_provenance::<u32>(at as usize).read_volatile() };
    expect("whether the clock stands at zero", time == 0, false)?;
    // SAFETY: nothing uses the mapping any more.
    trying("unmapping", unsafe { system::vmo_unmap(Handle::NONE, at) })
}

/// Memory for a device is zeroed, where it says, never executable, bounded by what the device may have, and not
/// given back by whoever could still have the device write to it. Ordinary memory does not tell where it is.
pub fn device_memory(subject: &Subject<'_>) -> Result<(), String> {
    let device = trying("the device", subject.environment.needed("device.mmio.rtc", Kind::DeviceMmio))?;
    let ordinary = trying("creating memory", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
    let told = system::dma_address(ordinary);
    expect("where ordinary memory is", told, Err(Error::NotPermitted))?;
    trying("closing", system::cap_close(ordinary))?;
    let promised = DEVICE_PAGES * PAGE_SIZE;
    let too_much = system::dma_create(device, promised + PAGE_SIZE).map(drop);
    expect("more than the device may have", too_much, Err(Error::NoMemory))?;
    let memory = trying("memory for the device", system::dma_create(device, promised))?;
    let address = trying("where it is", system::dma_address(memory))?;
    expect("whether it begins with a page", address.is_multiple_of(PAGE_SIZE as u64), true)?;
    let at = trying("finding addresses", subject.environment.addresses(promised))?;
    let map = |protection| {
        // SAFETY: the range was just handed out and nothing else uses it.
        unsafe { system::vmo_map(Handle::NONE, memory, at, 0, promised, protection) }
    };
    expect("executable", map(Rights::READ | Rights::EXECUTE), Err(Error::NotPermitted))?;
    trying("mapping it", map(Rights::READ | Rights::WRITE))?;
    // SAFETY: just mapped with this size; nothing else has it.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut::<u8>(at as usize), promised)
    };
    expect("its first bytes that are not zero", bytes.iter().position(|&byte| byte != 0), None)?;
    bytes.fill(0x5a);
    expect("its size", system::vmo_resize(memory, PAGE_SIZE), Err(Error::NotPermitted))?;
    // SAFETY: nothing uses the mapping any more.
    trying("unmapping", unsafe { system::vmo_unmap(Handle::NONE, at) })?;
    trying("closing it", system::cap_close(memory))?;
    // The device was not reset: what it had counts as its own, and only init may say otherwise.
    expect("memory after that", system::dma_create(device, PAGE_SIZE).map(drop), Err(Error::NoMemory))?;
    let info = trying("the query", system::cap_query(device))?;
    expect("pages in quarantine", info.badge, DEVICE_PAGES as u64)?;
    let claimed = system::dma_release(device, system::DeviceReset::Done);
    expect("claiming a reset", claimed, Err(Error::NotPermitted))
}

/// Memory grows and shrinks as far as nobody sees what would go, and what is new is zero.
pub fn resize(subject: &Subject<'_>) -> Result<(), String> {
    let vmo = trying("creating memory", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
    trying("writing", system::vmo_write(vmo, 0, b"stays"))?;
    trying("growing", system::vmo_resize(vmo, 40 * PAGE_SIZE))?;
    let last = 39 * PAGE_SIZE as u64;
    trying("writing at the end", system::vmo_write(vmo, last, b"goes"))?;
    let at = trying("finding addresses", subject.environment.addresses(40 * PAGE_SIZE))?;
    // SAFETY: the range was just handed out and nothing else uses it.
    let mapped = unsafe { system::vmo_map(Handle::NONE, vmo, at, 0, 40 * PAGE_SIZE, Rights::READ) };
    trying("mapping", mapped)?;
    expect("shrinking under a mapping", system::vmo_resize(vmo, PAGE_SIZE), Err(Error::Busy))?;
    // SAFETY: nothing uses the mapping.
    trying("unmapping", unsafe { system::vmo_unmap(Handle::NONE, at) })?;
    trying("shrinking", system::vmo_resize(vmo, PAGE_SIZE))?;
    let mut bytes = [0xff; 5];
    expect("reading beyond", system::vmo_read(vmo, last, &mut bytes), Err(Error::OutOfRange))?;
    trying("growing again", system::vmo_resize(vmo, 40 * PAGE_SIZE))?;
    trying("reading what came back", system::vmo_read(vmo, last, &mut bytes))?;
    expect("what came back", bytes, [0; 5])?;
    trying("reading what stayed", system::vmo_read(vmo, 0, &mut bytes))?;
    expect("what stayed", bytes, *b"stays")?;
    trying("closing", system::cap_close(vmo))
}
