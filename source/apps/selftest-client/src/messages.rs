//! Messages: contents, deadlines, identity, permission.

use crate::{Subject, expect, trying};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{Error, service_id};
use nexus_ipc::{Bytes, CallError};
use nexus_proto::peer::Identity;

/// Payloads around every border: registers, pages, the largest message.
const SIZES: [usize; 13] = [0, 1, 8, 63, 64, 65, 511, 512, 4095, 4096, 4097, 65_535, 65_536];
/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(100);

/// Sends each size and gets the same bytes back.
pub fn payload_roundtrip(subject: &Subject<'_>) -> Result<(), String> {
    for size in SIZES {
        let sent = Bytes(pattern(size));
        let came = trying(&format!("{size} bytes"), subject.peer.echo(&sent, subject.deadline()))?;
        if came != sent {
            let wrong = came.0.iter().zip(&sent.0).position(|(came, sent)| came != sent);
            return Err(format!(
                "of {size} bytes {} came back, the first difference at {wrong:?}",
                came.0.len()
            ));
        }
    }
    Ok(())
}

/// Bytes that differ from place to place and from size to size.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|place| (place.wrapping_mul(31) ^ (place >> 8) ^ size) as u8).collect()
}

/// A call that is never answered ends at its deadline, not before and not as anything else.
pub fn deadline_timeout(subject: &Subject<'_>) -> Result<(), String> {
    let deadline = subject.environment.deadline(SHORT);
    let outcome = subject.peer.hold(&(), deadline);
    expect("the outcome", outcome, Err(CallError::Kernel(Error::TimedOut)))?;
    expect("whether the deadline had passed", deadline.has_passed(), true)?;
    trying("a call after it", subject.peer.whoami(&(), subject.deadline())).map(drop)
}

/// The process number that the server is told is this process's, by init's list.
pub fn sender_pid(subject: &Subject<'_>) -> Result<(), String> {
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    let own = services.entries.iter().find(|entry| entry.name == subject.environment.name());
    let own = own.ok_or("init does not list this process")?;
    expect("the sender's process", identity(subject)?.process_id, own.process_id)
}

/// The service id that the server is told is this service's.
pub fn sender_service_id(subject: &Subject<'_>) -> Result<(), String> {
    let own = service_id("selftest-client");
    expect("the start page's service id", subject.environment.page().service_id, own)?;
    expect("the sender's service id", identity(subject)?.service_id, own)
}

fn identity(subject: &Subject<'_>) -> Result<Identity, String> {
    trying("whoami", subject.peer.whoami(&(), subject.deadline()))
}

/// An operation that the recipe does not name is refused, though the endpoint may be called.
pub fn operation_refused(subject: &Subject<'_>) -> Result<(), String> {
    let outcome = subject.peer.forbidden(&(), subject.deadline());
    expect("the outcome", outcome, Err(CallError::NotPermitted))
}
