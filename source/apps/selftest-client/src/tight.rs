//! Calls in the tightest loop that there is, so that what is counted is the kernel and not a program.

#[cfg(target_os = "none")]
use nexus_abi::message::Header;
use nexus_abi::{Error, Handle};

/// Makes calls of so many bytes in registers, one after the other; the words are whatever the registers hold.
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
pub fn calls(endpoint: Handle, bytes: u32, rounds: u64, deadline: u64) -> Result<(), Error> {
    let header = Header::new(1, bytes, 0).0;
    let error: u64;
    // SAFETY: calls without buffers: the kernel reads and writes registers alone, and all that it may change
    // are declared.
    unsafe {
        core::arch::asm!(
            "2:",
            "mv a0, {endpoint}",
            "mv a1, {header}",
            "li a3, 0",
            "mv t5, {deadline}",
            "li a7, {call}",
            "ecall",
            "addi s2, s2, -1",
            "bnez a0, 3f",
            "bnez s2, 2b",
            "3:",
            call = const nexus_abi::SystemCall::Call as u64,
            endpoint = in(reg) endpoint.0,
            header = in(reg) header,
            deadline = in(reg) deadline,
            inout("s2") rounds => _,
            out("a0") error,
            clobber_abi("C"),
        );
    }
    Error::from_number(error).map_or(Ok(()), Err)
}

/// Only the machine has figures.
#[cfg(not(target_os = "none"))]
pub fn calls(_: Handle, _: u32, _: u64, _: u64) -> Result<(), Error> {
    Err(Error::Unsupported)
}
