//! The server's side: waiting for arrivals, answering at once or later.

use crate::client::Room;
use crate::message::Message;
use crate::{Access, Deadline, Status};
use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;
use nexus_abi::limits::{MESSAGE_BYTES_MAX, REGISTER_BYTES};
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

    fn set<M: Message>(&mut self, reply: Handle, status: Status, message: &M) {
        self.reply = reply;
        let encoded = if M::BYTES_MAX <= REGISTER_BYTES {
            message.encode(self.words.as_mut_bytes())
        } else {
            self.bytes.resize(M::BYTES_MAX, 0);
            message.encode(&mut self.bytes)
        };
        let Ok(length) = encoded else {
            self.header = Header::new(Status::AnswerTooLarge as u16, 0, 0);
            return;
        };
        if M::BYTES_MAX > REGISTER_BYTES && length <= REGISTER_BYTES {
            self.words.as_mut_bytes()[..length].copy_from_slice(&self.bytes[..length]);
        }
        self.header = Header::new(status as u16, length as u32, 0);
    }
}

/// A call that was received.
pub struct Call<'a> {
    caller: Caller,
    operation: u16,
    payload: &'a [u8],
    reply: Handle,
    pending: &'a mut Pending,
}

impl<'a> Call<'a> {
    /// A call as [`Receiver::next`] makes it; tests and simulators make their own.
    pub fn new(
        caller: Caller,
        operation: u16,
        payload: &'a [u8],
        reply: Handle,
        pending: &'a mut Pending,
    ) -> Self {
        Call { caller, operation, payload, reply, pending }
    }

    /// Who called.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The number of the operation.
    pub fn operation(&self) -> u16 {
        self.operation
    }

    /// The request's bytes.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Answers with the next wait.
    pub fn answer<A: Message, E: Message>(mut self, outcome: Result<A, E>) {
        let reply = self.take_reply();
        match outcome {
            Ok(answer) => self.pending.set(reply, Status::Ok, &answer),
            Err(error) => self.pending.set(reply, Status::ServiceError, &error),
        }
    }

    /// Refuses with the next wait.
    pub fn refuse(mut self, status: Status) {
        let reply = self.take_reply();
        self.pending.set(reply, status, &());
    }

    /// Keeps the right to answer for later.
    pub fn keep<A, E>(mut self) -> Answer<A, E> {
        Answer { reply: self.take_reply(), marker: PhantomData }
    }

    fn take_reply(&mut self) -> Handle {
        core::mem::take(&mut self.reply)
    }
}

impl Drop for Call<'_> {
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
        let mut room = Room::new(A::BYTES_MAX.max(E::BYTES_MAX));
        let (status, encoded) = match &outcome {
            Ok(answer) => (Status::Ok, answer.encode(room.bytes())),
            Err(error) => (Status::ServiceError, error.encode(room.bytes())),
        };
        let (status, length) = encoded.map_or((Status::AnswerTooLarge, 0), |length| (status, length));
        let payload = room.bytes().get(..length).unwrap_or(&[]);
        let header = Header::new(status as u16, payload.len() as u32, 0);
        let mut registers = Registers { header, reply: self.reply, ..Registers::default() };
        let mut buffers = Buffers { send_address: payload.as_ptr() as u64, ..Buffers::default() };
        if length <= REGISTER_BYTES {
            registers.words.as_mut_bytes()[..length].copy_from_slice(payload);
        }
        let buffers = if length <= REGISTER_BYTES { None } else { Some(&mut buffers) };
        // SAFETY: the one address is that of `payload`, which lives and is borrowed until after it.
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
fn close(reply: Handle) {
    if !reply.is_none() {
        let _ = system::cap_close(reply);
    }
}

/// One thread's loop over one endpoint.
pub struct Receiver {
    endpoint: Handle,
    access: Option<Access>,
    received: Vec<u8>,
    pending: Pending,
}

impl Receiver {
    /// A receiver for an endpoint that takes messages of at most `max_bytes`.
    ///
    /// With an access table it refuses whoever is not in it; without one the capability alone decides.
    pub fn new(endpoint: Handle, max_bytes: usize, access: Option<Access>) -> Self {
        let received = vec![0; max_bytes.clamp(REGISTER_BYTES, MESSAGE_BYTES_MAX)];
        Receiver { endpoint, access, received, pending: Pending::default() }
    }

    /// Sends the answer that waits, if one does, and waits for what comes next.
    pub fn next(&mut self, deadline: Deadline) -> Result<Event<'_>, Error> {
        loop {
            let registers = match self.wait(deadline) {
                Err(Error::TimedOut) => return Ok(Event::TimedOut),
                outcome => outcome?,
            };
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
                        self.pending.set(registers.reply, Status::NotPermitted, &());
                        continue;
                    }
                    let length = registers.header.bytes().min(self.received.len());
                    if length <= REGISTER_BYTES {
                        self.received[..length].copy_from_slice(&registers.words.as_bytes()[..length]);
                    }
                    let payload = &self.received[..length];
                    return Ok(Event::Call(Call::new(
                        caller,
                        label,
                        payload,
                        registers.reply,
                        &mut self.pending,
                    )));
                }
                None => return Err(Error::Unsupported),
            }
        }
    }

    /// `recv`, or `reply_recv` when an answer waits.
    fn wait(&mut self, deadline: Deadline) -> Result<Registers, Error> {
        let reply = core::mem::take(&mut self.pending.reply);
        let mut buffers = Buffers {
            send_address: self.pending.bytes.as_ptr() as u64,
            receive_address: self.received.as_mut_ptr() as u64,
            receive_bytes: self.received.len() as u64,
            ..Buffers::default()
        };
        // What travels in registers needs none, and the kernel is faster for it.
        let in_registers =
            self.received.len() <= REGISTER_BYTES && self.pending.header.bytes() <= REGISTER_BYTES;
        let mut buffers = (!in_registers).then_some(&mut buffers);
        if !reply.is_none() {
            let mut registers = Registers {
                header: self.pending.header,
                reply,
                words: self.pending.words,
                ..Registers::default()
            };
            // SAFETY: the addresses are those of our own two buffers, which nothing else borrows.
            let outcome = unsafe {
                system::reply_recv(self.endpoint, &mut registers, buffers.as_deref_mut(), deadline.ticks())
            };
            match outcome {
                Ok(()) => return Ok(registers),
                // The answer could not be given (its caller lent too little room, say): end that call and
                // go on waiting. Closing a Reply that was used is refused and changes nothing.
                Err(
                    Error::TooLarge | Error::NoSlots | Error::Fault | Error::StaleHandle | Error::PeerGone,
                ) => {
                    close(reply);
                }
                Err(error) => return Err(error),
            }
        }
        let mut registers = Registers::default();
        // SAFETY: as above.
        unsafe { system::recv(self.endpoint, &mut registers, buffers, deadline.ticks())? };
        Ok(registers)
    }
}
