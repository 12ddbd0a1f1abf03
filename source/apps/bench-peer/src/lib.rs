//! The other end of the figures of messages: sends every message back as it came, in the tightest loop that
//! there is, so that what is counted is the kernel and not a program.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::format;
use nexus_abi::{Error, Handle, Kind};
use nexus_proto::meter;
use nexus_rt::{Environment, SetupError, error, info};

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    match serve(environment) {
        Ok(error) => error!("bench-peer: {error}"),
        Err(reason) => error!("bench-peer: {reason}"),
    }
    1
}

/// Whoever may call its endpoint may call it for everything: there is one operation.
fn serve(environment: &Environment) -> Result<Error, SetupError> {
    let endpoint = environment.needed(&format!("serve/{}", meter::REFERENCE.endpoint), Kind::Endpoint)?;
    info!("bench-peer: ready");
    environment.ready();
    Ok(send_back(endpoint))
}

/// Answers each call with itself, until that fails.
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
fn send_back(endpoint: Handle) -> Error {
    let error: u64;
    // SAFETY: `recv`, then `reply_recv` for ever, without buffers: the kernel reads and writes registers alone,
    // and all that it may change are declared.
    unsafe {
        core::arch::asm!(
            "li a7, {receive}",
            "2:",
            "mv a0, {endpoint}",
            "li a3, 0",
            "li t5, -1",
            "ecall",
            "li a7, {reply_receive}",
            "beqz a0, 2b",
            receive = const nexus_abi::SystemCall::Receive as u64,
            reply_receive = const nexus_abi::SystemCall::ReplyReceive as u64,
            endpoint = in(reg) endpoint.0,
            out("a0") error,
            clobber_abi("C"),
        );
    }
    Error::from_number(error).unwrap_or(Error::UnknownCall)
}

/// Only the machine has figures.
#[cfg(not(target_os = "none"))]
fn send_back(_: Handle) -> Error {
    Error::Unsupported
}
