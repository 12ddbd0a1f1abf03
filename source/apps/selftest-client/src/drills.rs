//! A driver that stalls or hangs: nobody else suffers, and it comes back.

use crate::{Subject, announce_restart, expect, trying};
use alloc::format;
use alloc::string::String;
use nexus_abi::Error;
use nexus_ipc::CallError;
use nexus_proto::init::{ServiceEntry, ServiceState};
use nexus_proto::rng::{ENTROPY_BYTES_MAX, Request};

/// Bytes without fresh entropy after which rngd gives no more, and some: it must have heard its device meanwhile.
const MORE_THAN_ONE_SEED: usize = 1024 * 1024 + 64 * 1024;

fn entry(subject: &Subject<'_>, name: &str) -> Result<ServiceEntry, String> {
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    let found = services.entries.into_iter().find(|entry| entry.name == name);
    found.ok_or_else(|| format!("init does not list {name}"))
}

/// Whether there is a driver to try it with: a second entropy device, and the boot argument for it.
pub fn has_driver(subject: &Subject<'_>) -> Result<bool, String> {
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    let is_driver = |entry: &ServiceEntry| entry.name == "selftest-driver" && entry.state == ServiceState::Up;
    Ok(services.entries.iter().any(is_driver))
}

/// A driver leaves its interrupt unanswered; the interrupts of another one go on, and later its own as well.
pub fn stall(subject: &Subject<'_>) -> Result<(), String> {
    trying("stalling", subject.drill.stall(&(), subject.deadline()))?;
    let before = entry(subject, "rngd")?.process_id;
    let request = Request { bytes: ENTROPY_BYTES_MAX as u64 };
    for _ in 0..MORE_THAN_ONE_SEED / ENTROPY_BYTES_MAX {
        trying("bytes of the other", subject.rng.entropy(&request, subject.deadline()))?;
    }
    expect("whether the other is the same process", entry(subject, "rngd")?.process_id == before, true)?;
    let came = trying("resuming", subject.drill.resume(&(), subject.deadline()))?;
    expect("whether bytes came", came.count == 0, false)
}

/// A driver that hangs is missed, ended and started again, with its device reset: that works as before.
pub fn hang(subject: &Subject<'_>) -> Result<(), String> {
    let before = entry(subject, "selftest-driver")?;
    announce_restart("selftest-driver");
    let ended = subject.drill.hang(&(), subject.deadline());
    expect("what became of the call", ended, Err(CallError::Kernel(Error::PeerGone)))?;
    trying("its successor's device", subject.drill.stall(&(), subject.deadline()))?;
    let came = trying("its successor's interrupt", subject.drill.resume(&(), subject.deadline()))?;
    expect("whether bytes came", came.count == 0, false)?;
    let after = entry(subject, "selftest-driver")?;
    expect("how it ended", after.last_end.as_str(), "killed: no sign of life")?;
    expect("its restarts", after.restarts, before.restarts + 1)
}
