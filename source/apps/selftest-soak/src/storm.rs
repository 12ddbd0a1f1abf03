//! Everything at once, from every hart: calls of every size, capabilities, leases, badges, signals, late answers and
//! answers by two threads, while what was given is taken back, memory is unmapped, and servers and callers are killed.
//!
//! Who takes part: `storm-gust` and `storm-gale` serve ([`server`]), `storm-caller-N` ([`caller`]) and `storm-mapper`
//! ([`mapper`]) call, `soak-peer` adds up what they did ([`counts`]), `selftest-soak` starts and kills them
//! ([`director`]). Whoever finds something wrong says so in a line with `soak: FAIL` and ends.

pub mod caller;
pub mod counts;
pub mod director;
pub mod mapper;
pub mod pattern;
mod race;
pub mod server;

use nexus_abi::system;

/// Sends back other bytes of the same number.
const ECHO: u16 = 1;
/// Answers after as many ticks as the second word says.
const LATE: u16 = 2;
/// Two threads answer, if the second is there at that moment.
const RACE: u16 = 3;
/// Reads what is lent.
const LEND: u16 = 4;
/// Reads the memory that comes, and hands it back.
const HAND: u16 = 5;
/// Signals the bits of the second word.
const RING: u16 = 6;
/// Gives a badged copy of the endpoint.
const OPEN: u16 = 7;
/// Compares the badge with the second word.
const BADGE: u16 = 8;

/// The answer: all is as it should be.
const DONE: u16 = 0;
/// The answer: the server found what the second word tells ([`Wrong`]).
const WRONG: u16 = 1;
/// The answer: what is lent was not there.
const NOT_THERE: u16 = 2;

/// The answer to [`RACE`]: two threads gave it at the same moment.
const RACED: u16 = 3;

/// What a server finds.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Wrong {
    /// Another byte than was sent, or other bytes than were lent.
    Bytes = 1,
    /// Another badge than it gave.
    Badge = 2,
    /// A call that its kernel should have refused.
    Call = 3,
}

/// From now on the calling thread runs where the bits of a number say, or anywhere.
fn wander(harts: u64) {
    if system::thread_set_affinity(nexus_abi::Handle::NONE, harts & 0xff).is_err() {
        // None of these is online; all of them are no hart's name that is refused.
        let _ = system::thread_set_affinity(nexus_abi::Handle::NONE, u64::MAX);
    }
}
