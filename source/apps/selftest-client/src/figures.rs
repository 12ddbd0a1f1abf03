//! Figures of calls, for who asked for them by the boot argument `bench=calls`. The machine is then one
//! where an instruction takes a nanosecond of its time (`-icount shift=0`), whatever the computer does.
//!
//! Round trips are between two processes: `raw` without any stub, `typed` through those of `nexus-ipc` on both
//! sides.

use crate::tight::{Bell, Tight};
use crate::{Subject, trying};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use nexus_abi::limits::REGISTER_BYTES;
use nexus_abi::{Error, system};
use nexus_ipc::Bytes;
use nexus_log::memory::Counters;
use nexus_log::{Memory, Producer, Written};
use nexus_proto::policy::{ALLOWED, Question};
use nexus_proto::{bell, bulk, meter};
use nexus_rt::{Key, Level, Value, info};

/// The operation of `bench-peer` and `bench-bulk` that sends everything back.
const ECHO: u16 = 1;
/// The operation of `bench-bulk` that answers without a byte.
const TAKE: u16 = 2;
/// The operation of `bench-peer` that sends everything back, and uses floating point before.
const ECHO_WITH_FLOAT: u16 = 3;
/// A figure is the median of so many batches of rounds: what comes in between, a timer or the console, is in few.
const BATCHES: usize = 21;
/// Rounds of a batch. One tick of the clock is 100 instructions, so the mean of a batch is exact to one.
const BATCH_ROUNDS: u32 = 100;
/// A message as it is written: 32 bytes that begin a word, behind one that does not.
#[repr(C, align(8))]
struct Message {
    text: [u8; 32],
    misaligned: [u8; 33],
}

static MESSAGE: Message =
    Message { text: *b"the block was read a second time", misaligned: *b"-the block was read a second time" };
/// What its numbers are called.
const BYTES: Key = Key::new("bytes");
const REST: Key = Key::new("rest");
/// Payload bytes of the echoed messages.
const SIZES: [usize; 4] = [64, 512, 4096, 65_536];

/// Measures and tells every figure.
pub fn tell(subject: &Subject<'_>) -> Result<(), String> {
    let empty = trying("a notification", system::notification_create())?;
    each(subject, "call/notification_poll", || match system::notification_poll(empty, 1) {
        Err(Error::WouldBlock) => Ok(()),
        other => Err(format!("an empty notification yields {other:?}")),
    })?;
    each(subject, "call/notification_signal", || {
        system::notification_signal(empty, 1).map_err(|error| format!("signal: {error}"))
    })?;
    each(subject, "call/thread_yield", || {
        system::thread_yield();
        Ok(())
    })?;
    records(subject)?;
    raw(subject)?;
    signals(subject)?;
    decisions(subject)?;
    crate::interrupts::tell(subject)?;
    let ping = nexus_proto::pong::Ping { number: 1 };
    each(subject, "ipc/typed/roundtrip/8/cross", || {
        subject.pong.ping(&ping, subject.deadline()).map(drop).map_err(|error| format!("ping: {error}"))
    })?;
    for size in SIZES {
        let message = Bytes(vec![0x5a; size]);
        each(subject, &format!("ipc/typed/roundtrip/{size}/cross"), || {
            subject
                .peer
                .echo(&message, subject.deadline())
                .map(drop)
                .map_err(|error| format!("echo: {error}"))
        })?;
    }
    Ok(())
}

/// A record into a log ring of its own, which nobody reads and so nobody is rung for: 32 bytes as they are, which begin
/// a word or not, with two numbers and without.
fn records(subject: &Subject<'_>) -> Result<(), String> {
    let words: Vec<AtomicU32> = (0..1024).map(|_| AtomicU32::new(0)).collect();
    let counters = Counters::default();
    let memory = Memory::new(&counters, &words).ok_or("the ring is none")?;
    let mut producer = Producer::new(memory);
    let mut number = 0;
    let texts = [("", &MESSAGE.text[..]), ("-misaligned", &MESSAGE.misaligned[1..])];
    for (name, text) in texts {
        let mut is_lost = false;
        // Looked at when all are written: this is about the writing.
        let mut look = |written| is_lost |= written != Written::Kept(0);
        each(subject, &format!("log/append/32-and-two-numbers{name}"), || {
            number += 1;
            let fields = [(&BYTES, Value::Unsigned(number)), (&REST, Value::Unsigned(7))];
            look(producer.write(Level::Info, number, b"", text, &fields));
            Ok(())
        })?;
        each(subject, &format!("log/append/32{name}"), || {
            look(producer.write(Level::Info, 0, b"", text, &[]));
            Ok(())
        })?;
        crate::expect("whether one was not written", is_lost, false)?;
    }
    Ok(())
}

/// Round trips without any stub: one way with an empty answer, or both ways.
fn raw(subject: &Subject<'_>) -> Result<(), String> {
    let endpoint = |name| trying(name, subject.environment.to_call(name));
    let (meter, bulk) = (endpoint(meter::REFERENCE.endpoint)?, endpoint(bulk::REFERENCE.endpoint)?);
    let memory = vec![0x5a; bulk::BULK_BYTES_MAX + 8];
    let mut room = memory.clone();
    let mut tight = |name: &str, endpoint, label, bytes: usize, skew: usize| {
        let deadline = subject.deadline().ticks();
        let uses_float = label == ECHO_WITH_FLOAT;
        let call = Tight { endpoint, label, bytes: bytes as u32, deadline, uses_float };
        let is_large = bytes > REGISTER_BYTES;
        let sent = if is_large { &memory[skew..] } else { &[] };
        median(subject, name, |rounds| {
            let outcome = crate::tight::calls(&call, rounds.into(), sent, &mut room[skew..]);
            outcome.map_err(|error| format!("{name}: {error}"))
        })
    };
    for bytes in [0, 8, 32, 64] {
        tight(&format!("ipc/raw/roundtrip/{bytes}/cross"), meter, ECHO, bytes, 0)?;
    }
    tight("ipc/raw/roundtrip/0-float/cross", meter, ECHO_WITH_FLOAT, 0, 0)?;
    for bytes in [512, 4096, 65_536] {
        tight(&format!("ipc/raw/oneway/{bytes}/cross"), bulk, TAKE, bytes, 0)?;
        tight(&format!("ipc/raw/roundtrip/{bytes}/cross"), bulk, ECHO, bytes, 0)?;
    }
    tight("ipc/raw/oneway/4096-misaligned/cross", bulk, TAKE, 4096, 3)
}

/// A question to the policy, and one whose answer is kept.
fn decisions(subject: &Subject<'_>) -> Result<(), String> {
    let (own, action) = (nexus_abi::service_id("selftest-client"), policy::Action::RngEntropy);
    let question = Question::new(own, action.number(), "").ok_or("the question")?;
    each(subject, "policy/check/uncached", || {
        let verdict = trying("asking", subject.policy.check(&question, subject.deadline()))?;
        crate::expect("the decision", verdict.decision, ALLOWED)
    })?;
    let mut kept = trying("the policy", nexus_policy::Policy::open(subject.environment))?;
    each(subject, "policy/check/cached", || trying("asking", kept.may(own, action, "", subject.deadline())))
}

/// A signal to a waiting thread of another process, and one back.
fn signals(subject: &Subject<'_>) -> Result<(), String> {
    let endpoint = trying("the bell", subject.environment.to_call(bell::REFERENCE.endpoint))?;
    let bell = trying("the bell", Bell::new(endpoint, subject.deadline().ticks()))?;
    each(subject, "signal/roundtrip/cross", || trying("a signal", bell.round()))?;
    trying("the bell's end", bell.end())
}

/// The median of what a deed costs.
fn each(
    subject: &Subject<'_>,
    name: &str,
    mut deed: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    median(subject, name, |rounds| (0..rounds).try_for_each(|_| deed()))
}

/// Tells the median of what a round costs.
fn median(
    subject: &Subject<'_>,
    name: &str,
    mut rounds: impl FnMut(u32) -> Result<(), String>,
) -> Result<(), String> {
    // The first rounds touch pages and fill slabs.
    rounds(8)?;
    let clock = subject.environment.clock();
    let mut batches = [0; BATCHES];
    for batch in &mut batches {
        let before = clock.now();
        rounds(BATCH_ROUNDS)?;
        *batch = clock.duration(clock.now() - before).as_nanos() / u128::from(BATCH_ROUNDS);
    }
    batches.sort_unstable();
    info!("BENCH: {name} {} instructions", batches[BATCHES / 2]);
    Ok(())
}
