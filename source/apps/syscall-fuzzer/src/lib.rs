//! Makes system calls drawn from the grammar of `nexus-abi`, good and bad, and checks that every answer is one
//! that the table names. An ordinary process with an ordinary quota: whatever it does, the kernel and
//! everybody else go on.
//!
//! `run syscall-fuzzer SEED CALLS` at the prompt; the same seed makes the same calls. `nx fuzz syscalls` runs it
//! after the fuzzer of the kernel's core on the host, which draws from the same grammar. Where to start
//! reading: [`fuzz`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::vec::Vec;
use nexus_abi::calls::Specification;
use nexus_abi::grammar::{Caller, Known, LEASES_OFFSET, Places, Random, any_call, given_kind};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall, system};
use nexus_rt::{Environment, error, info};

/// Calls between two lines of progress.
const PROGRESS: u64 = 200_000;
/// Capabilities that are kept; the oldest are closed.
const KNOWN_MAX: usize = 48;
/// Ticks that a wait may take.
const PATIENCE: u64 = 500;
/// Processes of a system that has just begun have lower numbers.
const PROCESSES_END: u64 = 16;
/// The largest transfer, and two pages.
const ARENA_BYTES: usize = 64 * 1024 + 2 * PAGE_SIZE;
/// Where the fuzzer has its memory: nothing of the runtime's is there.
const PLACES: Places = Places {
    arena: 0x27_0000_0000,
    read_only: 0x27_1000_0000,
    edge: 0x27_0000_0000 + ARENA_BYTES as u64,
    maps: 0x28_0000_0000,
};

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    environment.ready();
    let mut words = environment.page().arguments().split_ascii_whitespace();
    let mut number = |default| words.next().map_or(Some(default), |word| word.parse().ok());
    let (Some(seed), Some(calls)) = (number(1), number(PROGRESS)) else {
        error!("syscall-fuzzer: `run syscall-fuzzer SEED CALLS` takes two numbers");
        return 1;
    };
    let given = environment.page().entries().filter_map(|(_, entry)| {
        let kind = u8::try_from(entry.kind).ok().and_then(Kind::from_number)?;
        // What it says goes through memory that it was given: random bytes there would be its last words.
        (kind != Kind::Vmo).then_some(Known { handle: entry.handle, kind })
    });
    // The heap's first memory comes with this, so before anything is guessed at.
    let given: Vec<Known> = given.collect();
    let prepared = map_memory().and_then(|()| system::notification_create()).map_err(Finding::of_memory);
    // Below the first entry that is free stands what the runtime lives on.
    let outcome = prepared.and_then(|free| fuzz(given, free.index(), seed, calls));
    match outcome {
        Ok(answers) => {
            info!("syscall-fuzzer: seed {seed}, {calls} calls, {answers} of them answered without an error");
            0
        }
        Err(finding) => {
            let Finding { place, name, arguments, error } = finding;
            error!("syscall-fuzzer: FAIL seed {seed} call {place}: {name} {arguments:x?} answered {error}");
            1
        }
    }
}

/// Memory for calls to read and write, with nothing behind it, and a page that may only be read.
fn map_memory() -> nexus_abi::Result<()> {
    let mappings = [
        (PLACES.arena, ARENA_BYTES, Rights::READ | Rights::WRITE),
        (PLACES.read_only, PAGE_SIZE, Rights::READ),
    ];
    for (address, bytes, protection) in mappings {
        let memory = system::vmo_create(Handle::NONE, bytes)?;
        // SAFETY: nothing is mapped there, and no reference is ever made to what is there now.
        unsafe { system::vmo_map(Handle::NONE, memory, address, 0, bytes, protection)? };
        // The mapping stays; without a capability no random call takes it away.
        system::cap_close(memory)?;
    }
    Ok(())
}

/// An answer that the table does not name.
struct Finding {
    place: u64,
    name: &'static str,
    arguments: [u64; 6],
    error: Error,
}

impl Finding {
    fn of_memory(error: Error) -> Self {
        Finding { place: 0, name: "its own memory", arguments: [0; 6], error }
    }
}

/// Makes so many calls; yields how many were not refused.
fn fuzz(given: Vec<Known>, guess_from: u32, seed: u64, calls: u64) -> Result<u64, Finding> {
    let mut random = Random::new(seed);
    let mut known = given.clone();
    let mut answered = 0;
    for place in 1..=calls {
        let call = any_call(&mut random);
        if ends_the_fuzzer(call.call) {
            continue;
        }
        let now = system::ticks();
        let caller = Caller {
            places: &PLACES,
            known: &known,
            guess_from,
            processes_end: PROCESSES_END,
            now,
            patience: PATIENCE,
        };
        let mut arguments = caller.arguments(&mut random, call);
        if call.call == SystemCall::CapRevoke {
            // Revoking what its own heap derives from would only end the fuzzer.
            let own = known.get(given.len()..).and_then(|own| random.one_of(own));
            arguments[0] = own.map_or(Handle::NONE, |own| own.handle).0;
        }
        match make(&mut random, &caller, call, arguments) {
            Ok(value) => {
                answered += 1;
                if let Some(kind) = given_kind(call.call) {
                    keep(&mut random, &mut known, given.len(), Known { handle: Handle(value), kind });
                }
            }
            Err(error) if call.errors.iter().any(|(named, _)| *named == error) => {}
            Err(error) => return Err(Finding { place, name: call.name, arguments, error }),
        }
        if place % PROGRESS == 0 {
            info!("syscall-fuzzer: {place} calls");
        }
    }
    Ok(answered)
}

/// Calls whose success ends the fuzzer, or begins a thread that knows nothing of it.
fn ends_the_fuzzer(call: SystemCall) -> bool {
    matches!(call, SystemCall::ThreadExit | SystemCall::ProcessExit | SystemCall::ThreadCreate)
}

fn make(
    random: &mut Random,
    caller: &Caller<'_>,
    call: &Specification,
    arguments: [u64; 6],
) -> nexus_abi::Result<u64> {
    if call.message {
        let (mut registers, buffers) = caller.message(random, arguments);
        put(0, buffers);
        put(LEASES_OFFSET, caller.leases(random));
        // SAFETY: the addresses are of memory that is for this alone, or are refused.
        return unsafe { system::raw_message(call.call, &mut registers) }.map(|()| registers.header.0);
    }
    if call.call == SystemCall::ProcessCreate {
        put(0, caller.parameters(random));
    }
    // SAFETY: as above.
    unsafe { system::raw(call.call, arguments) }
}

/// Puts a structure into the arena, at a multiple of 8 bytes in its first page.
fn put<T>(offset: u64, value: T) {
    // SAFETY: the arena is mapped for good, begins at a page, is larger than any structure, and is reached in
    // no other way than this and by the kernel.
    unsafe { core::ptr::write_volatile((PLACES.arena + offset) as *mut T, value) }
}

/// Keeps a capability; closes one when there are too many.
fn keep(random: &mut Random, known: &mut Vec<Known>, given: usize, new: Known) {
    known.push(new);
    if known.len() > given + KNOWN_MAX {
        let place = given + random.below(KNOWN_MAX as u64) as usize;
        // It may be stale already: the fuzzer closes at random.
        let _ = system::cap_close(known.swap_remove(place).handle);
    }
}
