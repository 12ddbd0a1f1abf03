//! Calls in the tightest loop that there is, so that what is counted is the kernel and not a program.

use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::{Error, Handle, Rights, system};

/// What is called, and how often.
pub struct Tight {
    /// Where.
    pub endpoint: Handle,
    /// The operation.
    pub label: u16,
    /// Bytes of each message. At most 64 are whatever the registers hold.
    pub bytes: u32,
    /// The deadline of each call, in ticks.
    pub deadline: u64,
    /// Whether a floating-point register is changed before each call.
    pub uses_float: bool,
}

/// Makes calls, one after the other. Messages of more than 64 bytes are what `sent` begins with, and `room` is
/// for what comes back; with neither the calls have no buffers.
#[allow(unsafe_code)]
pub fn calls(call: &Tight, rounds: u64, sent: &[u8], room: &mut [u8]) -> Result<(), Error> {
    let buffers = Buffers {
        send_address: sent.as_ptr() as u64,
        receive_address: room.as_mut_ptr() as u64,
        receive_bytes: room.len() as u64,
        ..Buffers::default()
    };
    let buffers = if sent.is_empty() { 0 } else { &raw const buffers as u64 };
    let header = Header::new(call.label, call.bytes, 0);
    // SAFETY: the addresses are those of `sent` and `room`, borrowed until after it; the kernel checks that what
    // is sent is readable.
    let error = unsafe {
        match call.uses_float {
            false => repeat::<false>(call.endpoint, header, buffers, call.deadline, rounds),
            true => repeat::<true>(call.endpoint, header, buffers, call.deadline, rounds),
        }
    };
    Error::from_number(error).map_or(Ok(()), Err)
}

/// The loop; yields the number of the error that ended it.
///
/// # Safety
/// `buffers` is 0 or the address of [`Buffers`] whose addresses are of memory that may be overwritten.
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
unsafe fn repeat<const FLOAT: bool>(
    endpoint: Handle,
    header: Header,
    buffers: u64,
    deadline: u64,
    rounds: u64,
) -> u64 {
    let error: u64;
    // SAFETY: the caller's word for what the kernel reads and writes; the registers that it may change are
    // declared, and what goes in stands in others.
    unsafe {
        core::arch::asm!(
            "2:",
            "mv a0, s3",
            "mv a1, s4",
            "mv a3, s5",
            "mv t5, s6",
            ".if {float}",
            "fmv.d.x ft0, s2",
            ".endif",
            "li a7, {call}",
            "ecall",
            "addi s2, s2, -1",
            "bnez a0, 3f",
            "bnez s2, 2b",
            "3:",
            call = const nexus_abi::SystemCall::Call as u64,
            float = const FLOAT as u64,
            in("s3") endpoint.0,
            in("s4") header.0,
            in("s5") buffers,
            in("s6") deadline,
            inout("s2") rounds => _,
            out("a0") error,
            clobber_abi("C"),
        );
    }
    error
}

/// Only the machine has figures.
#[cfg(not(target_os = "none"))]
#[allow(unsafe_code)]
unsafe fn repeat<const FLOAT: bool>(_: Handle, _: Header, _: u64, _: u64, _: u64) -> u64 {
    Error::Unsupported as u64
}

/// Two notifications: somebody in another process answers each signal of the first by one of the second.
pub struct Bell {
    out: Handle,
    back: Handle,
    deadline: u64,
}

impl Bell {
    /// Gives both to whoever serves `bell`.
    #[allow(unsafe_code)]
    pub fn new(endpoint: Handle, deadline: u64) -> Result<Self, Error> {
        let (out, back) = (system::notification_create()?, system::notification_create()?);
        let mut registers = Registers { header: Header::new(1, 0, 2), ..Registers::default() };
        let mut buffers = Buffers::default();
        buffers.send_capabilities[0] = CapabilityTransfer::copy(out, Rights::WAIT);
        buffers.send_capabilities[1] = CapabilityTransfer::copy(back, Rights::SIGNAL);
        // SAFETY: the buffers name no memory but themselves.
        unsafe { system::call(endpoint, &mut registers, Some(&mut buffers), deadline)? };
        Ok(Bell { out, back, deadline })
    }

    /// One signal there and one back.
    pub fn round(&self) -> Result<(), Error> {
        system::notification_signal(self.out, 1)?;
        system::notification_wait(self.back, 1, self.deadline).map(drop)
    }

    /// Ends it.
    pub fn end(self) -> Result<(), Error> {
        system::notification_signal(self.out, 1 << 1)?;
        system::cap_close(self.out)?;
        system::cap_close(self.back)
    }
}
