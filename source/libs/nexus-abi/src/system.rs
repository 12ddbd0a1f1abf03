//! The calls as functions: one a system call, with nothing in between.
//!
//! On the machine each is one `ecall`. On a host there is no kernel: calls go to the [`host::Backend`]
//! that the current thread installed (the simulator does), and answer `Unsupported` without one.

use crate::calls::SystemCall;
use crate::capability::{Handle, Rights};
use crate::error::{Error, Result};
use crate::message::{Buffers, Header, Registers};
use crate::records::{CapabilityInfo, FaultReport, ProcessParameters, ProcessStatus, RingLevel, SystemInfo};
use zerocopy::{FromZeros, IntoBytes};

#[cfg(all(target_arch = "riscv64", target_os = "none"))]
#[path = "system/riscv64.rs"]
mod machine;

#[cfg(not(all(target_arch = "riscv64", target_os = "none")))]
#[path = "system/host.rs"]
pub mod host;
#[cfg(not(all(target_arch = "riscv64", target_os = "none")))]
use host as machine;

pub use machine::ticks;

fn invoke(call: SystemCall, arguments: [u64; 6]) -> Result<u64> {
    let (error, value) = machine::plain(call, arguments);
    outcome(error).map(|()| value)
}

#[inline(always)]
fn invoke_message(call: SystemCall, registers: &mut Registers) -> Result<()> {
    machine::message(call, registers);
    outcome(registers.target)
}

/// A number that is neither 0 nor a known error can only come from a newer kernel.
#[inline(always)]
fn outcome(number: u64) -> Result<()> {
    match number {
        0 => Ok(()),
        _ => Err(Error::from_number(number).unwrap_or(Error::Unsupported)),
    }
}

fn handle(value: u64) -> Handle {
    Handle(value)
}

#[inline(always)]
fn address(buffers: Option<&mut Buffers>) -> u64 {
    buffers.map_or(0, |buffers| core::ptr::from_mut(buffers) as u64)
}

/// Makes any call with any arguments: for self-tests and fuzzers, which try what no other function here lets
/// them try.
///
/// # Safety
/// Whatever addresses the arguments hold, the kernel may read and write there what the call says.
pub unsafe fn raw(call: SystemCall, arguments: [u64; 6]) -> Result<u64> {
    invoke(call, arguments)
}

/// As [`raw`], for a call that uses the registers of a message.
///
/// # Safety
/// As [`raw`], also of the addresses in the buffers that `registers` names.
pub unsafe fn raw_message(call: SystemCall, registers: &mut Registers) -> Result<()> {
    invoke_message(call, registers)
}

/// Makes a call. `registers.header` and `words` are the message going in and the answer coming back.
///
/// # Safety
/// The addresses inside `buffers` must be of memory that the caller may have read and overwritten.
#[inline(always)]
pub unsafe fn call(
    endpoint: Handle,
    registers: &mut Registers,
    buffers: Option<&mut Buffers>,
    deadline: u64,
) -> Result<()> {
    registers.target = endpoint.0;
    registers.buffers = address(buffers);
    registers.deadline = deadline;
    invoke_message(SystemCall::Call, registers)
}

/// Waits for an arrival.
///
/// # Safety
/// As [`call`].
#[inline(always)]
pub unsafe fn recv(
    endpoint: Handle,
    registers: &mut Registers,
    buffers: Option<&mut Buffers>,
    deadline: u64,
) -> Result<()> {
    registers.target = endpoint.0;
    registers.buffers = address(buffers);
    registers.deadline = deadline;
    invoke_message(SystemCall::Receive, registers)
}

/// Answers the call that `registers.reply` names.
///
/// # Safety
/// As [`call`].
#[inline(always)]
pub unsafe fn reply(registers: &mut Registers, buffers: Option<&mut Buffers>) -> Result<()> {
    registers.buffers = address(buffers);
    invoke_message(SystemCall::Reply, registers)
}

/// Answers the call that `registers.reply` names and waits for the next arrival.
///
/// # Safety
/// As [`call`].
#[inline(always)]
pub unsafe fn reply_recv(
    endpoint: Handle,
    registers: &mut Registers,
    buffers: Option<&mut Buffers>,
    deadline: u64,
) -> Result<()> {
    registers.target = endpoint.0;
    registers.buffers = address(buffers);
    registers.deadline = deadline;
    invoke_message(SystemCall::ReplyReceive, registers)
}

/// Copies out of memory that a caller lends.
pub fn lease_read(reply: Handle, index: u32, offset: u64, to: &mut [u8]) -> Result<()> {
    let arguments = [reply.0, index.into(), offset, to.as_mut_ptr() as u64, to.len() as u64, 0];
    invoke(SystemCall::LeaseCopy, arguments).map(drop)
}

/// Copies into memory that a caller lends.
pub fn lease_write(reply: Handle, index: u32, offset: u64, from: &[u8]) -> Result<()> {
    let arguments = [reply.0, index.into(), offset, from.as_ptr() as u64, from.len() as u64, 1];
    invoke(SystemCall::LeaseCopy, arguments).map(drop)
}

/// Tells how many bytes a caller lends, and what for.
pub fn lease_query(reply: Handle, index: u32) -> Result<(u64, Rights)> {
    let value = invoke(SystemCall::LeaseQuery, [reply.0, index.into(), 0, 0, 0, 0])?;
    let right = |bit: u32, right: Rights| if value >> bit & 1 == 1 { right } else { Rights::empty() };
    Ok((value & !(0b11 << 62), right(63, Rights::WRITE) | right(62, Rights::READ)))
}

/// Leaves a message of at most 64 bytes.
pub fn post(endpoint: Handle, header: Header, words: [u64; 8]) -> Result<()> {
    let mut registers = Registers { target: endpoint.0, header, words, ..Registers::default() };
    invoke_message(SystemCall::Post, &mut registers)
}

/// Creates an endpoint.
pub fn endpoint_create(rank: u32, max_bytes: usize, max_caps: usize) -> Result<Handle> {
    let arguments = [rank.into(), max_bytes as u64, max_caps as u64, 0, 0, 0];
    invoke(SystemCall::EndpointCreate, arguments).map(handle)
}

/// Makes a badged copy of an endpoint.
pub fn endpoint_mint(endpoint: Handle, badge: u64, rights: Rights) -> Result<Handle> {
    invoke(SystemCall::EndpointMint, [endpoint.0, badge, rights.bits().into(), 0, 0, 0]).map(handle)
}

/// Ends an endpoint for good.
pub fn endpoint_seal(endpoint: Handle) -> Result<()> {
    invoke(SystemCall::EndpointSeal, [endpoint.0, 0, 0, 0, 0, 0]).map(drop)
}

/// Creates a notification.
pub fn notification_create() -> Result<Handle> {
    invoke(SystemCall::NotificationCreate, [0; 6]).map(handle)
}

/// Sets bits of a notification.
pub fn notification_signal(notification: Handle, bits: u64) -> Result<()> {
    invoke(SystemCall::NotificationSignal, [notification.0, bits, 0, 0, 0, 0]).map(drop)
}

/// Waits for one of the bits in `mask`; yields those that were set.
pub fn notification_wait(notification: Handle, mask: u64, deadline: u64) -> Result<u64> {
    invoke(SystemCall::NotificationWait, [notification.0, mask, deadline, 0, 0, 0])
}

/// Takes the bits in `mask` that are set.
pub fn notification_poll(notification: Handle, mask: u64) -> Result<u64> {
    invoke(SystemCall::NotificationPoll, [notification.0, mask, 0, 0, 0, 0])
}

/// Binds a notification to the calling thread; [`Handle::NONE`] unbinds.
pub fn notification_bind(notification: Handle) -> Result<()> {
    invoke(SystemCall::NotificationBind, [notification.0, 0, 0, 0, 0, 0]).map(drop)
}

/// Makes a copy of a capability with at most these rights.
pub fn cap_dup(capability: Handle, rights: Rights) -> Result<Handle> {
    invoke(SystemCall::CapDup, [capability.0, rights.bits().into(), 0, 0, 0, 0]).map(handle)
}

/// Makes a copy of an authority over the service ids, or the classes from 0, `first` to `last`.
pub fn authority_narrow(authority: Handle, first: u64, last: u64) -> Result<Handle> {
    invoke(SystemCall::AuthorityNarrow, [authority.0, first, last, 0, 0, 0]).map(handle)
}

/// Puts a copy of a capability into a process; yields the handle that it has there.
pub fn cap_transfer_to(process: Handle, capability: Handle, rights: Rights) -> Result<Handle> {
    let arguments = [process.0, capability.0, rights.bits().into(), 0, 0, 0];
    invoke(SystemCall::CapTransferTo, arguments).map(handle)
}

/// Tells kind, rights and extent of a capability.
pub fn cap_query(capability: Handle) -> Result<CapabilityInfo> {
    filled(|to| invoke(SystemCall::CapQuery, [capability.0, to, 0, 0, 0, 0]))
}

/// Drops a capability.
pub fn cap_close(capability: Handle) -> Result<()> {
    invoke(SystemCall::CapClose, [capability.0, 0, 0, 0, 0, 0]).map(drop)
}

/// Takes back everything that derives from a capability.
pub fn cap_revoke(capability: Handle) -> Result<()> {
    invoke(SystemCall::CapRevoke, [capability.0, 0, 0, 0, 0, 0]).map(drop)
}

/// Creates zeroed memory that belongs to `process` ([`Handle::NONE`]: the caller).
pub fn vmo_create(process: Handle, bytes: usize) -> Result<Handle> {
    invoke(SystemCall::VmoCreate, [process.0, bytes as u64, 0, 0, 0, 0]).map(handle)
}

/// Makes memory larger or smaller.
pub fn vmo_resize(vmo: Handle, bytes: usize) -> Result<()> {
    invoke(SystemCall::VmoResize, [vmo.0, bytes as u64, 0, 0, 0, 0]).map(drop)
}

/// Copies out of memory.
pub fn vmo_read(vmo: Handle, offset: u64, to: &mut [u8]) -> Result<()> {
    let arguments = [vmo.0, offset, to.as_mut_ptr() as u64, to.len() as u64, 0, 0];
    invoke(SystemCall::VmoRead, arguments).map(drop)
}

/// Copies into memory.
pub fn vmo_write(vmo: Handle, offset: u64, from: &[u8]) -> Result<()> {
    let arguments = [vmo.0, offset, from.as_ptr() as u64, from.len() as u64, 0, 0];
    invoke(SystemCall::VmoWrite, arguments).map(drop)
}

/// Maps memory into `process` ([`Handle::NONE`]: the caller).
///
/// # Safety
/// In the caller's own process: nothing may rely on the contents of the range, and whatever is made
/// of it must be unmapped before the range is used otherwise.
pub unsafe fn vmo_map(
    process: Handle,
    vmo: Handle,
    at: u64,
    offset: u64,
    bytes: usize,
    protection: Rights,
) -> Result<()> {
    let arguments = [process.0, vmo.0, at, offset, bytes as u64, protection.bits().into()];
    invoke(SystemCall::VmoMap, arguments).map(drop)
}

/// Removes the mapping that begins at an address.
///
/// # Safety
/// In the caller's own process: nothing may use the range any more.
pub unsafe fn vmo_unmap(process: Handle, at: u64) -> Result<()> {
    invoke(SystemCall::VmoUnmap, [process.0, at, 0, 0, 0, 0]).map(drop)
}

/// Changes the protection of the mapping that begins at an address.
///
/// # Safety
/// In the caller's own process: nothing may use the range in a way that the protection then forbids.
pub unsafe fn vmo_protect(process: Handle, at: u64, protection: Rights) -> Result<()> {
    let arguments = [process.0, at, protection.bits().into(), 0, 0, 0];
    invoke(SystemCall::VmoProtect, arguments).map(drop)
}

/// Creates a process without threads.
pub fn process_create(authority: Handle, parameters: &ProcessParameters) -> Result<Handle> {
    let from = core::ptr::from_ref(parameters) as u64;
    invoke(SystemCall::ProcessCreate, [authority.0, from, 0, 0, 0, 0]).map(handle)
}

/// Starts a thread in `process` ([`Handle::NONE`]: the caller).
///
/// # Safety
/// In the caller's own process: `entry` must be a function that takes `argument` and never returns,
/// and `stack` the end of memory that nothing else uses.
pub unsafe fn thread_create(
    process: Handle,
    entry: u64,
    stack: u64,
    argument: u64,
    qos: u64,
) -> Result<Handle> {
    invoke(SystemCall::ThreadCreate, [process.0, entry, stack, argument, qos, 0]).map(handle)
}

/// Ends the calling thread.
pub fn thread_exit() -> ! {
    let _ = invoke(SystemCall::ThreadExit, [0; 6]);
    machine::abort()
}

/// Tells the class of a thread ([`Handle::NONE`]: the caller's own), as a number of [`crate::capability::Qos`].
pub fn thread_qos(thread: Handle) -> Result<u64> {
    invoke(SystemCall::ThreadQos, [thread.0, 0, 0, 0, 0, 0])
}

/// Changes the class of a thread ([`Handle::NONE`]: the caller's own); `authority` may be none.
pub fn thread_set_qos(thread: Handle, class: u64, authority: Handle) -> Result<()> {
    invoke(SystemCall::ThreadSetQos, [thread.0, class, authority.0, 0, 0, 0]).map(drop)
}

/// Changes on which harts, one bit each, a thread ([`Handle::NONE`]: the caller's own) may run.
pub fn thread_set_affinity(thread: Handle, harts: u64) -> Result<()> {
    invoke(SystemCall::ThreadSetAffinity, [thread.0, harts, 0, 0, 0, 0]).map(drop)
}

/// Bounds the time that a process is charged to `ticks` of every `period`; 0 and 0 is no bound.
pub fn process_set_budget(process: Handle, ticks: u64, period: u64) -> Result<()> {
    invoke(SystemCall::ProcessSetBudget, [process.0, ticks, period, 0, 0, 0]).map(drop)
}

/// Gives the rest of the turn away.
pub fn thread_yield() {
    let _ = invoke(SystemCall::ThreadYield, [0; 6]);
}

/// Waits until a deadline, in ticks.
pub fn thread_sleep(deadline: u64) {
    let _ = invoke(SystemCall::ThreadSleep, [deadline, 0, 0, 0, 0, 0]);
}

/// Ends the calling process.
pub fn process_exit(code: u64) -> ! {
    let _ = invoke(SystemCall::ProcessExit, [code, 0, 0, 0, 0, 0]);
    machine::abort()
}

/// Ends a process.
pub fn process_kill(process: Handle, code: u64) -> Result<()> {
    invoke(SystemCall::ProcessKill, [process.0, code, 0, 0, 0, 0]).map(drop)
}

/// Tells state and figures of a process.
pub fn process_status(process: Handle) -> Result<ProcessStatus> {
    filled(|to| invoke(SystemCall::ProcessStatus, [process.0, to, 0, 0, 0, 0]))
}

/// Tells how a process faulted.
pub fn process_report(process: Handle) -> Result<FaultReport> {
    filled(|to| invoke(SystemCall::ProcessReport, [process.0, to, 0, 0, 0, 0]))
}

/// Creates a capability for one device's register window; the device may have memory of `dma_pages` pages.
pub fn device_cap_create(authority: Handle, base: u64, bytes: usize, dma_pages: usize) -> Result<Handle> {
    let arguments = [authority.0, base, bytes as u64, dma_pages as u64, 0, 0];
    invoke(SystemCall::DeviceCapCreate, arguments).map(handle)
}

/// Creates memory that a device reaches by itself.
pub fn dma_create(device: Handle, bytes: usize) -> Result<Handle> {
    invoke(SystemCall::DmaCreate, [device.0, bytes as u64, 0, 0, 0, 0]).map(handle)
}

/// Tells the physical address of memory for a device.
pub fn dma_address(vmo: Handle) -> Result<u64> {
    invoke(SystemCall::DmaAddress, [vmo.0, 0, 0, 0, 0, 0])
}

/// What became of the attempt to reset a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum DeviceReset {
    /// It was reset and read back as reset: its quarantined memory may go.
    Done = 0,
    /// It cannot be: it is retired and keeps what it has.
    Failed = 1,
}

/// Ends the quarantine of a device's memory, or retires the device.
pub fn dma_release(device: Handle, outcome: DeviceReset) -> Result<()> {
    invoke(SystemCall::DmaRelease, [device.0, outcome as u64, 0, 0, 0, 0]).map(drop)
}

/// Creates a capability for one interrupt line.
pub fn irq_cap_create(authority: Handle, line: u32) -> Result<Handle> {
    invoke(SystemCall::IrqCapCreate, [authority.0, line.into(), 0, 0, 0, 0]).map(handle)
}

/// Maps pages of a device's window into the caller.
///
/// # Safety
/// As [`vmo_map`].
pub unsafe fn mmio_map(device: Handle, at: u64, offset: u64, bytes: usize, protection: Rights) -> Result<()> {
    let arguments = [device.0, at, offset, bytes as u64, protection.bits().into(), 0];
    invoke(SystemCall::MmioMap, arguments).map(drop)
}

/// Binds an interrupt to bits of a notification and enables it.
pub fn irq_bind(irq: Handle, notification: Handle, bits: u64) -> Result<()> {
    invoke(SystemCall::IrqBind, [irq.0, notification.0, bits, 0, 0, 0]).map(drop)
}

/// Lets an interrupt line interrupt again.
pub fn irq_ack(irq: Handle) -> Result<()> {
    invoke(SystemCall::IrqAck, [irq.0, 0, 0, 0, 0, 0]).map(drop)
}

/// Creates a timer that signals bits of a notification.
pub fn timer_create(notification: Handle, bits: u64) -> Result<Handle> {
    invoke(SystemCall::TimerCreate, [notification.0, bits, 0, 0, 0, 0]).map(handle)
}

/// Sets a timer's deadline.
pub fn timer_arm(timer: Handle, deadline: u64) -> Result<()> {
    invoke(SystemCall::TimerArm, [timer.0, deadline, 0, 0, 0, 0]).map(drop)
}

/// Takes records out of the kernel's ring; yields how many bytes were written.
pub fn ring_read(control: Handle, after: u64, to: &mut [u8]) -> Result<usize> {
    let arguments = [control.0, after, to.as_mut_ptr() as u64, to.len() as u64, 0, 0];
    invoke(SystemCall::RingRead, arguments).map(|bytes| bytes as usize)
}

/// Writes a record into the kernel's ring.
pub fn ring_write(control: Handle, level: RingLevel, text: &str) -> Result<()> {
    let arguments = [control.0, level as u64, text.as_ptr() as u64, text.len() as u64, 0, 0];
    invoke(SystemCall::RingWrite, arguments).map(drop)
}

/// Names the notification that hears of new records in the kernel's ring; yields the sequence of the last record that
/// the kernel has printed.
pub fn ring_bind(control: Handle, notification: Handle, bits: u64) -> Result<u64> {
    invoke(SystemCall::RingBind, [control.0, notification.0, bits, 0, 0, 0])
}

/// Tells the machine's figures.
pub fn system_info(control: Handle) -> Result<SystemInfo> {
    filled(|to| invoke(SystemCall::SystemInfo, [control.0, to, 0, 0, 0, 0]))
}

/// Tells the figures of the process with the lowest number above `after`.
pub fn process_list(control: Handle, after: u64) -> Result<ProcessStatus> {
    filled(|to| invoke(SystemCall::ProcessList, [control.0, after, to, 0, 0, 0]))
}

/// Tells the first capability at or above `index` in a process's table.
pub fn cap_list(control: Handle, process_id: u64, index: u32) -> Result<CapabilityInfo> {
    filled(|to| invoke(SystemCall::CapList, [control.0, process_id, index.into(), to, 0, 0]))
}

/// Tells the next capability to the object that `of` (a process and a handle of its) names, in process `holder`
/// from entry `first` on or in one with a higher number; yields whose it is.
pub fn cap_holders(
    control: Handle,
    of: (u64, Handle),
    holder: u64,
    first: u32,
) -> Result<(u64, CapabilityInfo)> {
    let mut owner = 0;
    let info = filled(|to| {
        owner = invoke(SystemCall::CapHolders, [control.0, of.0, of.1.0, holder, first.into(), to])?;
        Ok(owner)
    })?;
    Ok((owner, info))
}

/// What [`system_reset`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Reset {
    /// Powers the machine off.
    PowerOff = 0,
    /// Starts it again.
    Reboot = 1,
}

/// Powers the machine off or resets it; yields only when that was refused.
pub fn system_reset(control: Handle, mode: Reset) -> Error {
    match invoke(SystemCall::SystemReset, [control.0, mode as u64, 0, 0, 0, 0]) {
        Err(error) => error,
        Ok(_) => Error::Unsupported,
    }
}

/// Has a structure filled in by a call that takes its address.
fn filled<T: FromZeros + IntoBytes>(call: impl FnOnce(u64) -> Result<u64>) -> Result<T> {
    let mut value = T::new_zeroed();
    call(core::ptr::from_mut(&mut value) as u64)?;
    Ok(value)
}
