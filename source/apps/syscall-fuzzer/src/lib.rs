//! Makes system calls with arguments drawn from the table's grammar, good and bad, and checks that every
//! answer is one that the table names. An ordinary process with an ordinary quota: whatever it does, the
//! kernel and everybody else go on.
//!
//! `run syscall-fuzzer SEED CALLS` at the prompt; the same seed makes the same calls. Where to start
//! reading: [`fuzz`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod draw;

use alloc::vec::Vec;
use draw::{Arena, Random};
use nexus_abi::calls::{SYSTEM_CALLS, Specification};
use nexus_abi::message::{Buffers, Header, Registers};
use nexus_abi::{Error, Handle, SystemCall, system};
use nexus_rt::{Environment, error, info};

/// Calls between two lines of progress.
const PROGRESS: u64 = 200_000;
/// Handles that are kept; the oldest are closed.
const HANDLES_MAX: usize = 48;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    environment.ready();
    let mut words = environment.page().arguments().split_ascii_whitespace();
    let mut number = |default| words.next().map_or(Some(default), |word| word.parse().ok());
    let (Some(seed), Some(calls)) = (number(1), number(PROGRESS)) else {
        error!("syscall-fuzzer: `run syscall-fuzzer SEED CALLS` takes two numbers");
        return 1;
    };
    let given = environment.page().entries().map(|(_, entry)| entry.handle).collect();
    match fuzz(given, seed, calls) {
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

/// An answer that the table does not name.
struct Finding {
    place: u64,
    name: &'static str,
    arguments: [u64; 6],
    error: Error,
}

/// Makes so many calls; yields how many were not refused.
fn fuzz(given: Vec<Handle>, seed: u64, calls: u64) -> Result<u64, Finding> {
    let mut state = State { random: Random::new(seed), arena: Arena::new(), given, own: Vec::new() };
    let mut answered = 0;
    for place in 1..=calls {
        let call = state.random.one_of(SYSTEM_CALLS);
        if ends_the_fuzzer(call.call) {
            continue;
        }
        let arguments = state.arguments(call);
        let outcome = if call.message {
            state.message(call.call, arguments)
        } else {
            // SAFETY: addresses come from the arena, whose memory is for this alone, or are refused.
            unsafe { system::raw(call.call, arguments) }
        };
        match outcome {
            Ok(value) => {
                answered += 1;
                state.keep(call, value);
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

/// Calls whose success ends the fuzzer or the machine.
fn ends_the_fuzzer(call: SystemCall) -> bool {
    matches!(call, SystemCall::ThreadExit | SystemCall::ProcessExit | SystemCall::ThreadCreate)
}

struct State {
    random: Random,
    arena: Arena,
    given: Vec<Handle>,
    own: Vec<Handle>,
}

impl State {
    fn arguments(&mut self, call: &Specification) -> [u64; 6] {
        let mut arguments = [0; 6];
        for (place, (_, form)) in arguments.iter_mut().zip(call.arguments) {
            *place = draw::argument(&mut self.random, &self.arena, *form, &self.own, &self.given);
        }
        if call.call == SystemCall::CapRevoke {
            // Revoking what its own heap or log derives from would only end the fuzzer.
            let own = if self.own.is_empty() { Handle::NONE } else { *self.random.one_of(&self.own) };
            arguments[0] = own.0;
        }
        arguments
    }

    fn message(&mut self, call: SystemCall, arguments: [u64; 6]) -> nexus_abi::Result<u64> {
        let random = &mut self.random;
        let bytes = random.size(80_000) as u32;
        let header = Header::new(random.next() as u16, bytes, random.below(6) as u8);
        let mut registers = Registers {
            header,
            words: core::array::from_fn(|_| random.next()),
            reply: Handle(arguments[2]),
            ..Registers::default()
        };
        let mut buffers = Buffers {
            send_address: self.arena.address(random),
            receive_address: self.arena.address(random),
            receive_bytes: random.size(70_000),
            ..Buffers::default()
        };
        for transfer in &mut buffers.send_capabilities {
            transfer.handle = draw::handle(random, &self.own, &self.given);
            transfer.rights = draw::rights(random);
            transfer.mode = random.below(3) as u32;
        }
        let with_buffers = random.below(4) != 0;
        let buffers = with_buffers.then_some(&mut buffers);
        let target = Handle(arguments[0]);
        let deadline = random.soon();
        // SAFETY: as for `raw`: the addresses are the arena's or refused.
        let outcome = unsafe {
            match call {
                SystemCall::Call => system::call(target, &mut registers, buffers, deadline),
                SystemCall::Receive => system::recv(target, &mut registers, buffers, deadline),
                SystemCall::Reply => system::reply(&mut registers, buffers),
                SystemCall::ReplyReceive => system::reply_recv(target, &mut registers, buffers, deadline),
                _ => system::post(target, registers.header, registers.words),
            }
        };
        outcome.map(|()| 0)
    }

    /// Keeps a handle that a call gave; closes one when there are too many.
    fn keep(&mut self, call: &Specification, value: u64) {
        let gives_a_handle = matches!(
            call.call,
            SystemCall::EndpointCreate
                | SystemCall::EndpointMint
                | SystemCall::NotificationCreate
                | SystemCall::CapDup
                | SystemCall::VmoCreate
                | SystemCall::ProcessCreate
                | SystemCall::TimerCreate
        );
        if !gives_a_handle {
            return;
        }
        self.own.push(Handle(value));
        if self.own.len() > HANDLES_MAX {
            let place = self.random.below(self.own.len() as u64) as usize;
            // It may be stale already: the fuzzer closes at random.
            let _ = system::cap_close(self.own.swap_remove(place));
        }
    }
}
