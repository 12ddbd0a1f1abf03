//! The other ends of the figures: send every message back as it came, or swallow it, and answer signals, in the
//! tightest loops that there are, so that what is counted is the kernel and not a program. One program, several
//! services: which one it is says its name.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::format;
use alloc::vec;
use nexus_abi::limits::FOREVER;
use nexus_abi::message::{Buffers, Header, Registers};
use nexus_abi::{Error, Handle, Kind, system};
use nexus_proto::{bell, bulk, meter};
use nexus_rt::{Environment, SetupError, error, info};

/// The bit that ends [`answer_signals`].
const LAST: u64 = 1 << 1;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let outcome = match environment.name() {
        "bench-bulk" => serve(environment, bulk::REFERENCE.endpoint).map(|endpoint| {
            let mut room = vec![0u8; bulk::BULK_BYTES_MAX];
            let address = room.as_mut_ptr() as u64;
            let buffers = Buffers {
                send_address: address,
                receive_address: address,
                receive_bytes: room.len() as u64,
                ..Buffers::default()
            };
            send_back(endpoint, &raw const buffers as u64)
        }),
        "bench-bell" => serve(environment, bell::REFERENCE.endpoint).map(answer_signals),
        _ => serve(environment, meter::REFERENCE.endpoint).map(|endpoint| send_back(endpoint, 0)),
    };
    match outcome {
        Ok(error) => error!("{}: {error}", environment.name()),
        Err(reason) => error!("{}: {reason}", environment.name()),
    }
    1
}

/// Whoever may call its endpoint may call it for everything: that is decided by the label alone.
fn serve(environment: &Environment, endpoint: &str) -> Result<Handle, SetupError> {
    let endpoint = environment.needed(&format!("serve/{endpoint}"), Kind::Endpoint)?;
    info!("{}: ready", environment.name());
    environment.ready();
    Ok(endpoint)
}

/// Takes two notifications and answers each signal of the first by one of the second.
#[allow(unsafe_code)]
fn answer_signals(endpoint: Handle) -> Error {
    let attempt = || -> Result<(), Error> {
        let (mut registers, mut buffers) = (Registers::default(), Buffers::default());
        // SAFETY: the buffers name no memory but themselves.
        unsafe { system::recv(endpoint, &mut registers, Some(&mut buffers), FOREVER)? };
        let [first, second, ..] = buffers.received_capabilities;
        registers.header = Header::default();
        // SAFETY: without buffers.
        unsafe { system::reply(&mut registers, None)? };
        while system::notification_wait(first, u64::MAX, FOREVER)? != LAST {
            system::notification_signal(second, 1)?;
        }
        system::cap_close(first)?;
        system::cap_close(second)
    };
    loop {
        if let Err(error) = attempt() {
            return error;
        }
    }
}

/// Answers each call with itself, or with nothing where its label is 2, until that fails; where its label is 3 a
/// floating-point register is changed before. `buffers` is their
/// address, or 0.
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
fn send_back(endpoint: Handle, buffers: u64) -> Error {
    let error: u64;
    // SAFETY: `recv`, then `reply_recv` for ever, with buffers that the caller owns and does not touch meanwhile;
    // all registers that the kernel may change are declared.
    unsafe {
        core::arch::asm!(
            "li a7, {receive}",
            "j 3f",
            "2:",
            "srli s2, a1, 49",
            "beqz s2, 3f",
            "srli s2, a1, 48",
            "andi s2, s2, 1",
            "bnez s2, 4f",
            "li a1, 0",
            "j 3f",
            "4:",
            "fmv.d.x ft0, s2",
            "3:",
            "mv a0, s3",
            "mv a3, s4",
            "li t5, -1",
            "ecall",
            "li a7, {reply_receive}",
            "beqz a0, 2b",
            receive = const nexus_abi::SystemCall::Receive as u64,
            reply_receive = const nexus_abi::SystemCall::ReplyReceive as u64,
            in("s3") endpoint.0,
            in("s4") buffers,
            out("s2") _,
            out("a0") error,
            clobber_abi("C"),
        );
    }
    Error::from_number(error).unwrap_or(Error::UnknownCall)
}

/// Only the machine has figures.
#[cfg(not(target_os = "none"))]
fn send_back(_: Handle, _: u64) -> Error {
    Error::Unsupported
}
