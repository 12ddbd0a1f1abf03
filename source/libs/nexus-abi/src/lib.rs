//! The contract between the kernel `neuron` and everything that runs on it.
//!
//! What it is: the one table of system calls ([`calls`]), the kinds and rights of capabilities
//! ([`capability`]), the errors ([`error`]), every structure that crosses the boundary as bytes
//! ([`message`], [`records`], [`start_page`], [`image`]) and, for userland, the thinnest possible
//! functions that make the calls ([`system`]).
//!
//! What it is not: it allocates nothing, retries nothing and knows no service. Typed clients and
//! servers are `nexus-ipc`; process entry and heap are `nexus-rt`.
//!
//! Invariants:
//! - a number, a layout or an error that was released is never given another meaning; `tests/layout.rs`
//!   holds the bytes still, `tests/numbers.rs` the numbers and names;
//! - an initial image or a start page of any bytes is refused or read, never a panic (`tests/untrusted.rs`);
//! - `docs/abi.md` is generated from [`calls::SYSTEM_CALLS`], so it cannot say anything else.
//!
//! Where to start reading: [`calls`].
#![cfg_attr(not(test), no_std)]
#![deny(missing_docs)]

#[cfg(not(target_os = "none"))]
extern crate std;

pub mod calls;
pub mod capability;
pub mod error;
#[cfg(feature = "grammar")]
pub mod grammar;
pub mod image;
pub mod limits;
pub mod message;
pub mod records;
pub mod start_page;
pub mod system;

pub use calls::SystemCall;
pub use capability::{Handle, Kind, Rights};
pub use error::{Error, Result};

/// The service id of a service name: 64-bit FNV-1a over its UTF-8 bytes.
///
/// The id is what the kernel reports as `sender_service_id`; a name is only for people.
pub const fn service_id(name: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = name.as_bytes();
    let mut hash = OFFSET_BASIS;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(PRIME);
        index += 1;
    }
    hash
}
