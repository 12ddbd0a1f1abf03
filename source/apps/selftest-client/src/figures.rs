//! Figures of calls, for who asked for them by the boot argument `bench=calls`. The machine is then one
//! where an instruction takes a nanosecond of its time (`-icount shift=0`), whatever the computer does.
//!
//! Round trips go through the typed stubs of `nexus-ipc` on both sides, between two processes.

use crate::{Subject, trying};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use nexus_abi::{Error, system};
use nexus_ipc::Bytes;
use nexus_rt::info;

/// Rounds that a figure is the mean of.
const ROUNDS: u32 = 1_000;
/// Payload bytes of the echoed messages.
const SIZES: [usize; 4] = [64, 512, 4096, 65_536];

/// Measures and tells every figure.
pub fn tell(subject: &Subject<'_>) -> Result<(), String> {
    let empty = trying("a notification", system::notification_create())?;
    mean(subject, "call/notification_poll", || match system::notification_poll(empty, 1) {
        Err(Error::WouldBlock) => Ok(()),
        other => Err(format!("an empty notification yields {other:?}")),
    })?;
    mean(subject, "call/notification_signal", || {
        system::notification_signal(empty, 1).map_err(|error| format!("signal: {error}"))
    })?;
    mean(subject, "call/thread_yield", || {
        system::thread_yield();
        Ok(())
    })?;
    let meter = trying("the meter", subject.environment.to_call(nexus_proto::meter::REFERENCE.endpoint))?;
    for bytes in [0, 8, 32, 64] {
        let deadline = subject.deadline().ticks();
        let tight = |rounds| {
            crate::tight::calls(meter, bytes, rounds, deadline).map_err(|error| format!("meter: {error}"))
        };
        tight(8)?;
        let clock = subject.environment.clock();
        let before = clock.now();
        tight(ROUNDS.into())?;
        told(&format!("ipc/raw/roundtrip/{bytes}/cross"), clock.duration(clock.now() - before));
    }
    let ping = nexus_proto::pong::Ping { number: 1 };
    mean(subject, "ipc/typed/roundtrip/8/cross", || {
        subject.pong.ping(&ping, subject.deadline()).map(drop).map_err(|error| format!("ping: {error}"))
    })?;
    for size in SIZES {
        let message = Bytes(vec![0x5a; size]);
        mean(subject, &format!("ipc/typed/roundtrip/{size}/cross"), || {
            subject
                .peer
                .echo(&message, subject.deadline())
                .map(drop)
                .map_err(|error| format!("echo: {error}"))
        })?;
    }
    Ok(())
}

fn mean(
    subject: &Subject<'_>,
    name: &str,
    mut deed: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    // The first rounds touch pages and fill slabs.
    for _ in 0..8 {
        deed()?;
    }
    let clock = subject.environment.clock();
    let before = clock.now();
    for _ in 0..ROUNDS {
        deed()?;
    }
    told(name, clock.duration(clock.now() - before));
    Ok(())
}

/// Tells the mean of all rounds.
fn told(name: &str, all: core::time::Duration) {
    let instructions = all.as_nanos() / u128::from(ROUNDS);
    info!("BENCH: {name} {instructions} instructions");
}
