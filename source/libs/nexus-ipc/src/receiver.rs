//! The server's side: waiting for arrivals, answering at once or later.

use crate::message::{Message, MessageError};
use crate::{Access, Deadline, Status};
use alloc::vec::Vec;
use core::marker::PhantomData;
use nexus_abi::limits::{MESSAGE_BYTES_MAX, REGISTER_BYTES, REGISTER_WORDS};
use nexus_abi::message::{Arrival, Buffers, Header, Registers};
use nexus_abi::{Error, Handle, system};
use zerocopy::IntoBytes;

/// Who called, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its service id.
    pub service_id: u64,
    /// Its process's number in this boot.
    pub process_id: u64,
    /// The badge of the capability it called through; 0 is a plain one.
    pub badge: u64,
}

/// What arrived.
pub enum Event<'a> {
    /// A call. Dispatch it, or drop it and its caller gets `PeerGone`.
    Call(Call<'a>),
    /// A post: nobody waits for an answer.
    Post {
        /// Who posted.
        caller: Caller,
        /// What it says.
        label: u16,
    },
    /// Bits of the bound notification.
    Bits(u64),
    /// The last copy of a badged capability is gone.
    BadgeGone(u64),
    /// The deadline passed.
    TimedOut,
}

/// An answer that is sent with the next wait, as one step.
#[derive(Default)]
pub struct Pending {
    reply: Handle,
    header: Header,
    words: [u64; 8],
    bytes: Vec<u8>,
}

impl Pending {
    /// The status and payload that wait to be sent, if any: what a simulated exchange looks at.
    pub fn answer(&self) -> Option<(u16, &[u8])> {
        let length = self.header.bytes();
        let payload = if length <= REGISTER_BYTES { self.words.as_bytes() } else { &self.bytes };
        (!self.reply.is_none()).then(|| (self.header.label(), payload.get(..length).unwrap_or(&[])))
    }

    #[inline(always)]
    fn set<M: Message>(&mut self, reply: Handle, status: Status, message: M) {
        self.reply = reply;
        let encoded = if M::BYTES_MAX <= REGISTER_BYTES {
            message.encode(self.words.as_mut_bytes())
        } else {
            self.fill(message)
        };
        self.header = match encoded {
            Ok(length) => Header::new(status as u16, length as u32, 0),
            Err(_) => Header::new(Status::AnswerTooLarge as u16, 0, 0),
        };
    }

    fn fill<M: Message>(&mut self, message: M) -> Result<usize, MessageError> {
        message.into_buffer(&mut self.bytes)?;
        if self.bytes.len() <= REGISTER_BYTES {
            self.words.as_mut_bytes()[..self.bytes.len()].copy_from_slice(&self.bytes);
        }
        Ok(self.bytes.len())
    }
}

/// Where a request's bytes are.
enum Payload<'a> {
    /// Where they stay.
    Slice(&'a [u8]),
    /// In the receiver's buffer, which a message may take along.
    Buffer(&'a mut Vec<u8>),
}

/// A call that was received.
pub struct Call<'a> {
    caller: Caller,
    operation: u16,
    payload: Payload<'a>,
    reply: Handle,
    pending: &'a mut Pending,
}

impl<'a> Call<'a> {
    /// A call as [`Receiver::next`] makes it; tests and simulators make their own.
    #[inline(always)]
    pub fn new(
        caller: Caller,
        operation: u16,
        payload: &'a [u8],
        reply: Handle,
        pending: &'a mut Pending,
    ) -> Self {
        Call { caller, operation, payload: Payload::Slice(payload), reply, pending }
    }

    /// Who called.
    #[inline(always)]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The number of the operation.
    #[inline(always)]
    pub fn operation(&self) -> u16 {
        self.operation
    }

    /// The request's bytes; none any more where [`Call::request`] took them along.
    pub fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::Slice(bytes) => bytes,
            Payload::Buffer(bytes) => bytes,
        }
    }

    /// The request.
    #[inline(always)]
    pub fn request<Q: Message>(&mut self) -> Result<Q, MessageError> {
        match &mut self.payload {
            Payload::Slice(bytes) => Q::decode(bytes),
            Payload::Buffer(bytes) => Q::from_buffer(bytes),
        }
    }

    /// Answers with the next wait.
    #[inline(always)]
    pub fn answer<A: Message, E: Message>(mut self, outcome: Result<A, E>) {
        let reply = self.take_reply();
        match outcome {
            Ok(answer) => self.pending.set(reply, Status::Ok, answer),
            Err(error) => self.pending.set(reply, Status::ServiceError, error),
        }
    }

    /// Refuses with the next wait.
    pub fn refuse(mut self, status: Status) {
        let reply = self.take_reply();
        self.pending.set(reply, status, ());
    }

    /// Keeps the right to answer for later.
    pub fn keep<A, E>(mut self) -> Answer<A, E> {
        Answer { reply: self.take_reply(), marker: PhantomData }
    }

    #[inline(always)]
    fn take_reply(&mut self) -> Handle {
        core::mem::take(&mut self.reply)
    }
}

impl Drop for Call<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        close(self.reply);
    }
}

/// The right to answer one caller, once, whenever. Dropped unused it ends the call with `PeerGone`.
pub struct Answer<A, E> {
    reply: Handle,
    marker: PhantomData<fn(A, E)>,
}

impl<A: Message, E: Message> Answer<A, E> {
    /// Answers now. `PeerGone` tells that the caller gave up meanwhile.
    pub fn send(mut self, outcome: Result<A, E>) -> Result<(), Error> {
        let mut pending = Pending::default();
        match outcome {
            Ok(answer) => pending.set(self.reply, Status::Ok, answer),
            Err(error) => pending.set(self.reply, Status::ServiceError, error),
        }
        let Pending { reply, header, words, bytes } = pending;
        let mut registers = Registers { header, reply, words, ..Registers::default() };
        let mut buffers = Buffers { send_address: bytes.as_ptr() as u64, ..Buffers::default() };
        let buffers = if header.bytes() <= REGISTER_BYTES { None } else { Some(&mut buffers) };
        // SAFETY: the one address is that of `bytes`, which live until after it.
        let outcome = unsafe { system::reply(&mut registers, buffers) };
        if outcome.is_ok() {
            self.reply = Handle::NONE;
        }
        outcome
    }
}

impl<A, E> Drop for Answer<A, E> {
    fn drop(&mut self) {
        close(self.reply);
    }
}

/// Closing a Reply answers its caller with `PeerGone`; one that is gone already needs nothing more.
#[inline(always)]
fn close(reply: Handle) {
    if !reply.is_none() {
        let _ = system::cap_close(reply);
    }
}

/// One thread's loop over one endpoint.
pub struct Receiver {
    endpoint: Handle,
    access: Option<Access>,
    max_bytes: usize,
    /// What a message of at most 64 bytes says.
    words: [u64; REGISTER_WORDS],
    /// Room for larger ones: `max_bytes` of capacity while this waits.
    received: Vec<u8>,
    pending: Pending,
}

impl Receiver {
    /// A receiver for an endpoint that takes messages of at most `max_bytes`.
    ///
    /// With an access table it refuses whoever is not in it; without one the capability alone decides.
    pub fn new(endpoint: Handle, max_bytes: usize, access: Option<Access>) -> Self {
        let max_bytes = if max_bytes <= REGISTER_BYTES { 0 } else { max_bytes.min(MESSAGE_BYTES_MAX) };
        let (words, received) = ([0; REGISTER_WORDS], Vec::new());
        Receiver { endpoint, access, max_bytes, words, received, pending: Pending::default() }
    }

    /// Sends the answer that waits, if one does, and waits for what comes next.
    pub fn next(&mut self, deadline: Deadline) -> Result<Event<'_>, Error> {
        loop {
            let mut registers = Registers::default();
            match self.wait(&mut registers, deadline) {
                Ok(()) => {}
                Err(Error::TimedOut) => return Ok(Event::TimedOut),
                Err(error) => return Err(error),
            }
            let caller = Caller {
                service_id: registers.deadline,
                process_id: registers.process_id,
                badge: registers.buffers,
            };
            let label = registers.header.label();
            match registers.header.arrival() {
                Some(Arrival::Bits) => return Ok(Event::Bits(registers.words[0])),
                Some(Arrival::BadgeGone) => return Ok(Event::BadgeGone(caller.badge)),
                Some(Arrival::Post) => return Ok(Event::Post { caller, label }),
                Some(Arrival::Call) => {
                    if self.access.as_ref().is_some_and(|access| !access.allows(caller.service_id, label)) {
                        self.pending.set(registers.reply, Status::NotPermitted, ());
                        continue;
                    }
                    let length = registers.header.bytes();
                    let payload = if length <= REGISTER_BYTES {
                        self.words = registers.words;
                        Payload::Slice(&self.words.as_bytes()[..length])
                    } else {
                        Payload::Buffer(&mut self.received)
                    };
                    let (reply, pending) = (registers.reply, &mut self.pending);
                    return Ok(Event::Call(Call { caller, operation: label, payload, reply, pending }));
                }
                None => return Err(Error::Unsupported),
            }
        }
    }

    /// `recv`, or `reply_recv` when an answer waits.
    #[inline(always)]
    fn wait(&mut self, registers: &mut Registers, deadline: Deadline) -> Result<(), Error> {
        if self.max_bytes == 0 && self.pending.header.bytes() <= REGISTER_BYTES {
            // What travels in registers needs no buffers, and the kernel is faster for it.
            return self.exchange(registers, None, deadline);
        }
        self.received.clear();
        self.received.reserve_exact(self.max_bytes);
        let mut buffers = Buffers {
            send_address: self.pending.bytes.as_ptr() as u64,
            receive_address: self.received.as_mut_ptr() as u64,
            receive_bytes: self.received.capacity() as u64,
            ..Buffers::default()
        };
        self.exchange(registers, Some(&mut buffers), deadline)?;
        let length = registers.header.bytes();
        if length > REGISTER_BYTES && length <= self.received.capacity() {
            // SAFETY: the kernel has written so many bytes of a message that does not fit the registers.
            unsafe { self.received.set_len(length) };
        }
        Ok(())
    }

    #[inline(always)]
    fn exchange(
        &mut self,
        registers: &mut Registers,
        mut buffers: Option<&mut Buffers>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let reply = core::mem::take(&mut self.pending.reply);
        if !reply.is_none() {
            registers.header = self.pending.header;
            registers.reply = reply;
            registers.words = self.pending.words;
            // SAFETY: the addresses are those of our own two buffers, which nothing else borrows.
            let outcome = unsafe {
                system::reply_recv(self.endpoint, registers, buffers.as_deref_mut(), deadline.ticks())
            };
            match outcome {
                // The answer could not be given (its caller lent too little room, say): end that call and
                // go on waiting. Closing a Reply that was used is refused and changes nothing.
                Err(
                    Error::TooLarge | Error::NoSlots | Error::Fault | Error::StaleHandle | Error::PeerGone,
                ) => {
                    close(reply);
                }
                outcome => return outcome,
            }
        }
        *registers = Registers::default();
        // SAFETY: as above.
        unsafe { system::recv(self.endpoint, registers, buffers, deadline.ticks()) }
    }
}
