//! What a call lends to whoever works for it: memory, the right to answer, urgency.

use crate::{Subject, expect, trying};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::time::Duration;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::{Buffers, Header, Lease, Registers};
use nexus_abi::{Error, Handle, Rights, service_id, system};
use nexus_ipc::{CallError, Lent, Status};
use nexus_proto::helper::{self, Number};
use nexus_proto::{busy, slow};

/// Bytes that are lent: sixteen times what one copy may have.
const LENT_BYTES: usize = 1024 * 1024;
/// Bytes in the middle of them that are lent on.
const MIDDLE_BYTES: usize = 100_000;
/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(100);
/// Turns that the helper gives away. Between two of them somebody of the same class has one.
const TURNS: u64 = 256;
/// The hart of everybody who takes part in that, by the recipe.
const FIRST_HART: u64 = 1;
/// Every hart that there is.
const ANY_HART: u64 = u64::MAX;
/// The operation `invert` of the peer.
const INVERT: u16 = 6;

/// A server copies out of what it is lent and into it, lends a part on, and keeps nothing of it.
pub fn lease(subject: &Subject<'_>) -> Result<(), String> {
    let byte = |place: usize| (place.wrapping_mul(31) ^ place >> 12) as u8;
    let mut memory: vec::Vec<u8> = (0..LENT_BYTES).map(byte).collect();
    let outcome = subject.peer.invert(&(), [Lent::write(&mut memory)], subject.deadline());
    expect("turning all over", outcome, Ok(Number { number: 0 }))?;
    let wrong = (0..LENT_BYTES).find(|&place| memory[place] != !byte(place));
    expect("the first byte that is not turned over", wrong, None)?;

    let request = Number { number: MIDDLE_BYTES as u64 };
    let outcome = subject.peer.delegate(&request, [Lent::write(&mut memory)], subject.deadline());
    expect("turning the middle over", outcome, Ok(Number { number: 0 }))?;
    let begin = (LENT_BYTES - MIDDLE_BYTES) / 2;
    let middle = begin..begin + MIDDLE_BYTES;
    let right = |place| if middle.contains(&place) { byte(place) } else { !byte(place) };
    let wrong = (0..LENT_BYTES).find(|&place| memory[place] != right(place));
    expect("the first byte that is not as it was lent on", wrong, None)?;

    let outcome = subject.peer.invert(&(), [Lent::read(&memory)], subject.deadline());
    expect("writing what may be read", outcome, Ok(Number { number: Error::NotPermitted as u64 }))?;
    hole(subject)?;

    let deadline = subject.environment.deadline(SHORT);
    let outcome = subject.peer.keep(&(), [Lent::write(&mut memory)], deadline);
    expect("a call that is kept", outcome, Err(CallError::Kernel(Error::TimedOut)))?;
    let outcome = subject.peer.recall(&(), subject.deadline());
    expect("reading after its end", outcome, Ok(Number { number: Error::PeerGone as u64 }))
}

/// Memory that ends before what is lent does: the server is told `Fault`, and its call is open for the answer.
#[allow(unsafe_code)]
fn hole(subject: &Subject<'_>) -> Result<(), String> {
    let vmo = trying("memory", system::vmo_create(Handle::NONE, PAGE_SIZE))?;
    let memory = subject.environment.map_memory(vmo, PAGE_SIZE, Rights::READ.union(Rights::WRITE));
    let memory = trying("mapping it", memory)?;
    let rights = Rights::READ.union(Rights::WRITE).bits();
    let lease = Lease { address: memory as u64, bytes: 2 * PAGE_SIZE as u64, rights, ..Lease::default() };
    let mut buffers = Buffers { leases: core::ptr::from_ref(&lease) as u64, ..Buffers::default() };
    let mut registers =
        Registers { header: Header::new(INVERT, 0, 0).with_leases(1), ..Registers::default() };
    let deadline = subject.deadline().ticks();
    // SAFETY: what is lent is memory that nothing else uses, and a page behind it that is not there.
    let outcome =
        unsafe { system::call(subject.peer_endpoint, &mut registers, Some(&mut buffers), deadline) };
    trying("lending a hole", outcome)?;
    expect("the answer's label", registers.header.label(), Status::Ok as u16)?;
    expect("what the server was told", registers.words[0], Error::Fault as u64)?;
    trying("closing the memory", system::cap_close(vmo))
}

/// A call is answered by a program that was never asked.
pub fn reply_handed_on(subject: &Subject<'_>) -> Result<(), String> {
    for number in [0, u64::MAX, 1 << 40] {
        let outcome = subject.peer.forward(&Number { number }, subject.deadline());
        let number = number ^ service_id("selftest-helper");
        expect("the answer", outcome, Ok(Number { number }))?;
    }
    Ok(())
}

/// Whoever works for a normal caller gives as many turns to a busy program of the same class as it gives away.
/// With an urgent caller behind that one, it and whom it waits for are above the busy program, which is then only
/// kept from starving. What is compared are turns, and all that take part in them take them on one hart, so neither the
/// speed of the machine matters nor a hart that stands still for a while.
pub fn urgency(subject: &Subject<'_>) -> Result<(), String> {
    trying("staying on one hart", system::thread_set_affinity(Handle::NONE, FIRST_HART))?;
    let outcome = turns_of_urgent_and_not(subject);
    trying("running anywhere", system::thread_set_affinity(Handle::NONE, ANY_HART))?;
    outcome
}

fn turns_of_urgent_and_not(subject: &Subject<'_>) -> Result<(), String> {
    let client = |name| trying(name, subject.environment.to_call(name));
    let clients = Clients {
        busy: busy::Client::new(client("busy")?),
        helper: helper::Client::new(client("helper")?),
        slow: slow::Client::new(client("slow")?),
    };
    let beside = clients
        .turns(subject, |clients| trying("waiting beside", clients.helper.done(&(), subject.deadline())))?;
    let behind = clients.turns(subject, |clients| {
        trying("the work's begin", clients.helper.begun(&(), subject.deadline()))?;
        trying("waiting behind", subject.peer.whoami(&(), subject.deadline())).map(drop)
    })?;
    if beside < TURNS / 2 || behind > TURNS / 4 {
        return Err(format!(
            "a busy program had {beside} turns while {TURNS} were given away, and {behind} in the way of \
             an urgent caller"
        ));
    }
    Ok(())
}

struct Clients {
    busy: busy::Client,
    helper: helper::Client,
    slow: slow::Client,
}

impl Clients {
    /// Turns of the busy program while the helper gives its own away and this thread waits.
    fn turns(
        &self,
        subject: &Subject<'_>,
        wait: impl FnOnce(&Self) -> Result<(), String>,
    ) -> Result<u64, String> {
        trying("the busy one", self.busy.start(&(), subject.deadline()))?;
        trying("the slow one", self.slow.begin(&Number { number: TURNS }, subject.deadline()))?;
        wait(self)?;
        Ok(trying("the busy one's turns", self.busy.stop(&(), subject.deadline()))?.number)
    }
}
