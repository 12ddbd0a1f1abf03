//! Death: of a server with a call open, of a service on request, of a program by its own fault.

use crate::{Subject, announce_fault, announce_restart, expect, trying};
use alloc::format;
use alloc::string::String;
#[cfg(target_os = "none")]
use core::time::Duration;
use nexus_abi::Error;
#[cfg(target_os = "none")]
use nexus_abi::records::STATE_EXITED;
use nexus_abi::records::{FaultCause, STATE_FAULTED};
use nexus_ipc::CallError;
use nexus_proto::init::{Ended, InitError, Run, ServiceState, StartFailure, Target};
use nexus_proto::pong::Ping;

/// Time that thousands of steps may take before they count as failed.
#[cfg(target_os = "none")]
const LOCKSTEP_PATIENCE: Duration = Duration::from_secs(120);
/// More crashes than the recipe's budget for the peer allows.
const CRASHES_MAX: u32 = 10;

/// A server that dies with a call open ends that call as `PeerGone`.
pub fn peer_death(subject: &Subject<'_>) -> Result<(), String> {
    announce_fault("crash", "selftest-peer");
    let outcome = subject.peer.crash(&(), subject.deadline());
    expect("the outcome", outcome, Err(CallError::Kernel(Error::PeerGone)))
}

/// A peer that crashes again and again is given up: its callers are told at once, and init says so.
pub fn crash_loop(subject: &Subject<'_>) -> Result<(), String> {
    for _ in 0..CRASHES_MAX {
        announce_fault("crash", "selftest-peer");
        let outcome = subject.peer.crash(&(), subject.deadline());
        expect("the outcome of the crash", outcome, Err(CallError::Kernel(Error::PeerGone)))?;
        match subject.peer.whoami(&(), subject.deadline()) {
            Ok(_) => {}
            Err(CallError::Kernel(Error::Sealed)) => return given_up(subject),
            Err(other) => return Err(format!("a call after the crash: {other}")),
        }
    }
    Err(format!("after {CRASHES_MAX} crashes it is still restarted"))
}

fn given_up(subject: &Subject<'_>) -> Result<(), String> {
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    let peer = services.entries.iter().find(|entry| entry.name == "selftest-peer");
    expect("its state", peer.map(|peer| peer.state), Some(ServiceState::GivenUp))
}

/// A service that died, and one that was killed, are back, and the same capabilities reach them.
pub fn service_restart(subject: &Subject<'_>) -> Result<(), String> {
    let peer = trying("the peer that crashed", subject.peer.whoami(&(), subject.deadline()))?;
    if peer.generation < 2 {
        return Err(format!("the peer that crashed is of generation {}", peer.generation));
    }
    let ping = |number| trying("pinging", subject.pong.ping(&Ping { number }, subject.deadline()));
    ping(1)?;
    let answered = ping(2)?.answered;
    announce_restart("pong");
    trying("killing pong", subject.init.kill(&Target::Name("pong".into()), subject.deadline()))?;
    let successor = ping(3)?;
    expect("the number that came back", successor.number, 3)?;
    if successor.answered >= answered {
        return Err(format!("pong goes on counting at {}: it was not restarted", successor.answered));
    }
    Ok(())
}

/// A program that writes to the kernel is ended with the right report, and the others go on.
pub fn fault_contained(subject: &Subject<'_>) -> Result<(), String> {
    let ended = run_faulty(subject, "write-kernel", FaultCause::WriteFault)?;
    expect("the address in the report", ended.address, 0xffff_ffc0_0000_0000)?;
    if ended.program_counter == 0 || ended.frames == 0 {
        return Err(format!("the report has pc {:#x} and {} frames", ended.program_counter, ended.frames));
    }
    run_faulty(subject, "stack", FaultCause::WriteFault)?;
    run_faulty(subject, "jump", FaultCause::ExecuteFault)?;
    run_faulty(subject, "illegal", FaultCause::IllegalInstruction)?;
    run_faulty(subject, "divide", FaultCause::Breakpoint)?;
    trying("a call after them", subject.peer.whoami(&(), subject.deadline())).map(drop)
}

/// Whoever asks for a program that cannot be started is told why, each reason by itself.
pub fn spawn_reasons(subject: &Subject<'_>) -> Result<(), String> {
    for (name, refusal) in [
        ("unfit-program", InitError::CouldNotStart(StartFailure::InvalidImage)),
        ("unfit-quota", InitError::CouldNotStart(StartFailure::Quota)),
        ("unfit-table", InitError::CouldNotStart(StartFailure::TableFull)),
        ("pong", InitError::NotOnDemand),
        ("nobody", InitError::Unknown),
    ] {
        let request = Run { name: name.into(), arguments: String::new() };
        let outcome = subject.init.run(&request, subject.deadline());
        expect(&format!("running {name}"), outcome, Err(CallError::Service(refusal)))?;
    }
    // Nothing of them is left in the way of another.
    run_faulty(subject, "illegal", FaultCause::IllegalInstruction).map(drop)
}

/// Real processes make the model's sequences, and are answered as the model has it.
#[cfg(target_os = "none")]
pub fn lockstep(subject: &Subject<'_>) -> Result<(), String> {
    let request = Run { name: "lockstep".into(), arguments: String::new() };
    let deadline = subject.environment.deadline(LOCKSTEP_PATIENCE);
    let ended = trying("running lockstep", subject.init.run(&request, deadline))?;
    expect("its state and exit code", (ended.state, ended.exit_code), (STATE_EXITED.into(), 0))
}

/// Runs `faulty`, which must end by this cause.
pub fn run_faulty(subject: &Subject<'_>, deed: &str, cause: FaultCause) -> Result<Ended, String> {
    announce_fault(deed, "faulty");
    let request = Run { name: "faulty".into(), arguments: deed.into() };
    let ended = trying(deed, subject.init.run(&request, subject.deadline()))?;
    expect(&format!("{deed}: the state"), ended.state, STATE_FAULTED.into())?;
    expect(&format!("{deed}: the cause"), ended.cause, cause as u64)?;
    Ok(ended)
}
