//! Typed clients and servers over the system calls.
//!
//! What it is: messages that know their largest size ([`Message`]), one declaration a service from which
//! client, server trait, dispatch, limits and reference text come ([`service!`]), deadlines on every call
//! ([`Deadline`]), the client's side of a call ([`call`]) and the server's loop ([`Receiver`]).
//! What it is not: it declares no service (`nexus-proto` does) and holds no right.
//!
//! Invariants:
//! - bytes from the other side are decoded or refused, never trusted, and never panic;
//! - a call is repeated after `PeerGone` only where the declaration says `idempotent`, and never beyond its
//!   deadline or [`ATTEMPTS_MAX`];
//! - memory that a call lends is borrowed until the call returns, and the kernel ends what is lent with it;
//! - a [`Receiver`] with an access table answers `NotPermitted` to whoever is not named in it for that
//!   operation, by the service id that the kernel reports;
//! - what is refused before the service sees it is counted, and told of once for each class and interval.
//!
//! Where to start reading: [`service!`], then [`Receiver::next`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod access;
mod answer;
mod client;
mod clock;
mod heartbeat;
mod lease;
mod message;
mod receiver;
mod refusals;
mod service;
mod session;

pub use access::{Access, AccessEntry};
pub use answer::Answer;
pub use client::{ATTEMPTS_MAX, CallError, NotHandedOn, Retry, call, call_handing_on, call_lending};
pub use clock::{Clock, Deadline};
pub use heartbeat::{ALIVE_LABEL, BEAT, Heartbeat, RESTING_LABEL};
pub use lease::{Leases, Lent, LentMemory};
pub use message::{Bytes, Message, MessageError};
pub use receiver::{Call, Caller, Event, Pending, Receiver};
pub use refusals::{Refused, TELL_INTERVAL, Tally, Teller};
pub use service::{OperationReference, ServiceReference};
pub use session::call_opening;

/// What an answer's label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// The payload is the answer.
    Ok = 0,
    /// The payload is the service's own error.
    ServiceError = 1,
    /// The request's bytes are not what the operation takes.
    Malformed = 2,
    /// The service has no operation of this number.
    UnknownOperation = 3,
    /// The sender is not allowed this operation.
    NotPermitted = 4,
    /// The server could not put its answer into a message.
    AnswerTooLarge = 5,
}

impl Status {
    /// The status with this number.
    #[inline(always)]
    pub const fn from_number(number: u16) -> Option<Status> {
        Some(match number {
            0 => Status::Ok,
            1 => Status::ServiceError,
            2 => Status::Malformed,
            3 => Status::UnknownOperation,
            4 => Status::NotPermitted,
            5 => Status::AnswerTooLarge,
            _ => return None,
        })
    }
}

#[doc(hidden)]
pub mod reexports {
    pub use alloc::vec::Vec;
    pub use nexus_abi;
    pub use postcard;
    pub use zerocopy;
}
