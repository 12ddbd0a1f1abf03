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
