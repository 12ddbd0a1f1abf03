//! The client's side of a call.

use crate::message::{Message, MessageError};
use crate::{Deadline, Status};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use nexus_abi::limits::REGISTER_BYTES;
use nexus_abi::message::{Buffers, Header, Registers};
use nexus_abi::{Error, Handle, system};
use zerocopy::IntoBytes;

/// How often a call that may be repeated is made at the most.
pub const ATTEMPTS_MAX: u32 = 3;

/// Whether a call may be made again when its server died before it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Doing it twice is as good as once.
    Idempotent,
    /// It may have been done: the caller must be told.
    Once,
}

/// Why a call yielded no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// The service refused, in its own words.
    Service(E),
    /// The kernel ended the call: most often `TimedOut` or `PeerGone`.
    Kernel(Error),
    /// The server does not let this caller ask for this.
    NotPermitted,
    /// The server has no such operation.
    UnknownOperation,
    /// The request is larger than its declaration allows.
    RequestTooLarge,
    /// The server could not decode the request.
    RequestMalformed,
    /// The server's answer was too large for a message.
    AnswerTooLarge,
    /// The answer's bytes are not what the declaration says.
    AnswerMalformed,
}

impl<E: fmt::Debug> fmt::Display for CallError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Service(error) => write!(formatter, "{error:?}"),
            CallError::Kernel(error) => write!(formatter, "{error}"),
            CallError::NotPermitted => {
                formatter.write_str("the service does not allow this caller to ask that")
            }
            CallError::UnknownOperation => formatter.write_str("the service has no such operation"),
            CallError::RequestTooLarge => formatter.write_str("the request is too large"),
            CallError::RequestMalformed => formatter.write_str("the service could not read the request"),
            CallError::AnswerTooLarge => formatter.write_str("the answer is too large"),
            CallError::AnswerMalformed => formatter.write_str("the answer cannot be read"),
        }
    }
}

/// Memory for a message: registers' worth on the stack, more on the heap.
pub(crate) enum Room {
    Registers([u8; REGISTER_BYTES]),
    Heap(Vec<u8>),
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        if bytes <= REGISTER_BYTES {
            Room::Registers([0; REGISTER_BYTES])
        } else {
            Room::Heap(vec![0; bytes])
        }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        match self {
            Room::Registers(bytes) => bytes,
            Room::Heap(bytes) => bytes,
        }
    }
}

/// Makes one call and waits for its answer, until `deadline`.
pub fn call<Q: Message, A: Message, E: Message>(
    endpoint: Handle,
    operation: u16,
    retry: Retry,
    request: &Q,
    deadline: Deadline,
) -> Result<A, CallError<E>> {
    let mut sent = Room::new(Q::BYTES_MAX);
    let length = request.encode(sent.bytes()).map_err(|error| match error {
        MessageError::TooLarge => CallError::RequestTooLarge,
        MessageError::Malformed => CallError::RequestMalformed,
    })?;
    let sent = sent.bytes().get(..length).ok_or(CallError::RequestTooLarge)?;
    let mut received = Room::new(A::BYTES_MAX.max(E::BYTES_MAX));
    let mut attempt = 1;
    let (label, length) = loop {
        match exchange(endpoint, operation, sent, received.bytes(), deadline) {
            Err(Error::PeerGone)
                if retry == Retry::Idempotent && attempt < ATTEMPTS_MAX && !deadline.has_passed() =>
            {
                attempt += 1;
            }
            outcome => break outcome.map_err(CallError::Kernel)?,
        }
    };
    let payload = received.bytes().get(..length).ok_or(CallError::AnswerMalformed)?;
    match Status::from_number(label) {
        Some(Status::Ok) => A::decode(payload).map_err(|_| CallError::AnswerMalformed),
        Some(Status::ServiceError) => {
            Err(E::decode(payload).map_or(CallError::AnswerMalformed, CallError::Service))
        }
        Some(Status::Malformed) => Err(CallError::RequestMalformed),
        Some(Status::UnknownOperation) => Err(CallError::UnknownOperation),
        Some(Status::NotPermitted) => Err(CallError::NotPermitted),
        Some(Status::AnswerTooLarge) => Err(CallError::AnswerTooLarge),
        None => Err(CallError::AnswerMalformed),
    }
}

/// One exchange of bytes; yields the answer's label and length. `received` holds at least 64 bytes.
fn exchange(
    endpoint: Handle,
    label: u16,
    sent: &[u8],
    received: &mut [u8],
    deadline: Deadline,
) -> Result<(u16, usize), Error> {
    let mut registers =
        Registers { header: Header::new(label, sent.len() as u32, 0), ..Registers::default() };
    let mut buffers = Buffers {
        send_address: sent.as_ptr() as u64,
        receive_address: received.as_mut_ptr() as u64,
        receive_bytes: received.len() as u64,
        ..Buffers::default()
    };
    if sent.len() <= REGISTER_BYTES {
        registers.words.as_mut_bytes()[..sent.len()].copy_from_slice(sent);
    }
    let registers_suffice = sent.len() <= REGISTER_BYTES && received.len() <= REGISTER_BYTES;
    let buffers = if registers_suffice { None } else { Some(&mut buffers) };
    // SAFETY: the addresses are those of `sent` and `received`, which live and are borrowed until after it.
    unsafe { system::call(endpoint, &mut registers, buffers, deadline.ticks())? };
    let length = registers.header.bytes();
    if length <= REGISTER_BYTES {
        received[..length].copy_from_slice(&registers.words.as_bytes()[..length]);
    }
    Ok((registers.header.label(), length))
}
