//! The client's side of a call.

use crate::message::{Message, MessageError};
use crate::{Answer, Deadline, Lent, Status};
use alloc::vec::Vec;
use core::fmt;
use nexus_abi::limits::{LEASES_MAX, REGISTER_BYTES};
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::{Error, Handle, Rights, system};
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

/// Makes one call and waits for its answer, until `deadline`.
#[inline]
pub fn call<Q: Message, A: Message, E: Message>(
    endpoint: Handle,
    operation: u16,
    retry: Retry,
    request: &Q,
    deadline: Deadline,
) -> Result<A, CallError<E>> {
    let mut attempt = 1;
    loop {
        let outcome = if Q::BYTES_MAX.max(A::BYTES_MAX).max(E::BYTES_MAX) <= REGISTER_BYTES {
            call_in_registers(endpoint, operation, request, deadline)
        } else {
            call_with_buffers(endpoint, operation, request, Along::NOTHING, deadline)
        };
        if !is_repeated(retry, &outcome, &mut attempt, deadline) {
            return outcome;
        }
    }
}

/// As [`call`], and lends memory until it returns.
pub fn call_lending<Q: Message, A: Message, E: Message>(
    endpoint: Handle,
    operation: u16,
    retry: Retry,
    request: &Q,
    leases: &[Lent<'_>],
    deadline: Deadline,
) -> Result<A, CallError<E>> {
    let mut attempt = 1;
    loop {
        let along = Along { leases, moved: Handle::NONE };
        let outcome = call_with_buffers(endpoint, operation, request, along, deadline);
        if !is_repeated(retry, &outcome, &mut attempt, deadline) {
            return outcome;
        }
    }
}

/// Why a call that hands an answer on failed, and the right to answer where it is still the caller's.
pub struct NotHandedOn<E, A, F> {
    /// What became of the call.
    pub error: CallError<E>,
    /// `None`: whoever received it has it, or dropped it.
    pub answer: Option<Answer<A, F>>,
}

impl<E: fmt::Debug, A, F> fmt::Display for NotHandedOn<E, A, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

/// As [`call`], and moves the right to answer another call to whoever receives this one. It is never repeated.
pub fn call_handing_on<Q: Message, A: Message, E: Message, B, F>(
    endpoint: Handle,
    operation: u16,
    request: &Q,
    answer: Answer<B, F>,
    deadline: Deadline,
) -> Result<A, NotHandedOn<E, B, F>> {
    let reply = answer.into_reply();
    let along = Along { leases: &[], moved: reply };
    call_with_buffers(endpoint, operation, request, along, deadline).map_err(|error| {
        // Until the moment of delivery it stays, under the same handle; afterwards that handle is stale.
        NotHandedOn { error, answer: Answer::of_reply(reply) }
    })
}

/// Whether a call with this outcome is made once more, after so many attempts.
#[inline(always)]
fn is_repeated<A, E>(
    retry: Retry,
    outcome: &Result<A, CallError<E>>,
    attempt: &mut u32,
    deadline: Deadline,
) -> bool {
    let died = matches!(outcome, Err(CallError::Kernel(Error::PeerGone)));
    if !died || retry == Retry::Once || *attempt == ATTEMPTS_MAX || deadline.has_passed() {
        return false;
    }
    *attempt += 1;
    true
}

/// What goes along with the bytes of a call.
struct Along<'a> {
    leases: &'a [Lent<'a>],
    /// A Reply; none is [`Handle::NONE`].
    moved: Handle,
}

impl Along<'_> {
    const NOTHING: Along<'static> = Along { leases: &[], moved: Handle::NONE };
}

impl<E> CallError<E> {
    /// What a request that could not be encoded says.
    pub(crate) fn of_request(error: MessageError) -> Self {
        match error {
            MessageError::TooLarge => CallError::RequestTooLarge,
            MessageError::Malformed => CallError::RequestMalformed,
        }
    }
}

/// A call of which nothing can be larger than the registers: it touches no memory.
#[inline(always)]
fn call_in_registers<Q: Message, A: Message, E: Message>(
    endpoint: Handle,
    operation: u16,
    request: &Q,
    deadline: Deadline,
) -> Result<A, CallError<E>> {
    let mut registers = Registers::default();
    let length = request.encode(registers.words.as_mut_bytes()).map_err(CallError::of_request)?;
    registers.header = Header::new(operation, length as u32, 0);
    // SAFETY: there are no buffers.
    unsafe { system::call(endpoint, &mut registers, None, deadline.ticks()) }.map_err(CallError::Kernel)?;
    let payload = registers.words.as_bytes().get(..registers.header.bytes());
    decoded(registers.header.label(), payload.ok_or(CallError::AnswerMalformed)?)
}

/// A call of any size. Bytes are sent from where they stand; room for the answer is not cleared.
fn call_with_buffers<Q: Message, A: Message, E: Message>(
    endpoint: Handle,
    operation: u16,
    request: &Q,
    along: Along<'_>,
    deadline: Deadline,
) -> Result<A, CallError<E>> {
    let mut encoded = Vec::new();
    let sent = match request.as_bytes() {
        Some(bytes) => bytes,
        None => {
            request.fill(&mut encoded).map_err(CallError::of_request)?;
            &encoded
        }
    };
    if sent.len() > Q::BYTES_MAX {
        return Err(CallError::RequestTooLarge);
    }
    let mut room = Vec::new();
    let answer_max = A::BYTES_MAX.max(E::BYTES_MAX);
    if answer_max > REGISTER_BYTES {
        room.reserve_exact(answer_max);
    }
    let registers =
        exchange(endpoint, operation, sent, along, &mut room, deadline).map_err(CallError::Kernel)?;
    let label = registers.header.label();
    let length = registers.header.bytes();
    if length <= REGISTER_BYTES {
        return decoded(label, &registers.words.as_bytes()[..length]);
    }
    if is_answer(label)? {
        A::from_buffer(&mut room).map_err(|_| CallError::AnswerMalformed)
    } else {
        Err(E::from_buffer(&mut room).map_or(CallError::AnswerMalformed, CallError::Service))
    }
}

/// What an answer with this label and payload says.
#[inline(always)]
pub(crate) fn decoded<A: Message, E: Message>(label: u16, payload: &[u8]) -> Result<A, CallError<E>> {
    if is_answer(label)? {
        A::decode(payload).map_err(|_| CallError::AnswerMalformed)
    } else {
        Err(E::decode(payload).map_or(CallError::AnswerMalformed, CallError::Service))
    }
}

/// Whether the payload is the answer; if not it is the service's error, unless the label says more.
#[inline(always)]
fn is_answer<E>(label: u16) -> Result<bool, CallError<E>> {
    if label == Status::Ok as u16 {
        return Ok(true);
    }
    match Status::from_number(label) {
        Some(Status::Ok | Status::ServiceError) => Ok(false),
        Some(Status::Malformed) => Err(CallError::RequestMalformed),
        Some(Status::UnknownOperation) => Err(CallError::UnknownOperation),
        Some(Status::NotPermitted) => Err(CallError::NotPermitted),
        Some(Status::AnswerTooLarge) => Err(CallError::AnswerTooLarge),
        None => Err(CallError::AnswerMalformed),
    }
}

/// One exchange of bytes. An answer of more than 64 bytes is in `room` afterwards, a smaller one in the words.
fn exchange(
    endpoint: Handle,
    label: u16,
    sent: &[u8],
    along: Along<'_>,
    room: &mut Vec<u8>,
    deadline: Deadline,
) -> Result<Registers, Error> {
    // More leases than a header can count are more than a call may carry: the kernel refuses both.
    let leases = along.leases.len().min(LEASES_MAX + 1) as u8;
    let capabilities = u8::from(!along.moved.is_none());
    let header = Header::new(label, sent.len() as u32, capabilities).with_leases(leases);
    let mut registers = Registers { header, ..Registers::default() };
    if sent.len() <= REGISTER_BYTES {
        registers.words.as_mut_bytes()[..sent.len()].copy_from_slice(sent);
    }
    room.clear();
    let mut buffers = Buffers {
        send_address: sent.as_ptr() as u64,
        receive_address: room.as_mut_ptr() as u64,
        receive_bytes: room.capacity() as u64,
        leases: along.leases.as_ptr() as u64,
        ..Buffers::default()
    };
    buffers.send_capabilities[0] = CapabilityTransfer::moved(along.moved, Rights::empty());
    let in_registers =
        sent.len() <= REGISTER_BYTES && room.capacity() == 0 && leases == 0 && capabilities == 0;
    let buffers = if in_registers { None } else { Some(&mut buffers) };
    // SAFETY: the addresses are those of `sent`, of the capacity of `room` and of what each `Lent` borrows, all
    // until after it; the kernel ends leases with the call.
    unsafe { system::call(endpoint, &mut registers, buffers, deadline.ticks())? };
    let length = registers.header.bytes();
    if length > REGISTER_BYTES && length <= room.capacity() {
        // SAFETY: the kernel has written so many bytes of an answer that does not fit the registers.
        unsafe { room.set_len(length) };
    }
    Ok(registers)
}
