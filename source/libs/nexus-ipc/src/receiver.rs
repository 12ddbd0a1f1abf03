//! The server's side: waiting for arrivals, answering at once or later.

use crate::answer::{Answer, close};
use crate::message::{Message, MessageError};
use crate::refusals::{Refusals, Refused, Teller};
use crate::{Access, Deadline, Heartbeat, Leases, Status};
use alloc::boxed::Box;
use alloc::vec::Vec;
use nexus_abi::limits::{MESSAGE_BYTES_MAX, MESSAGE_CAPABILITIES_MAX, REGISTER_BYTES, REGISTER_WORDS};
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

/// Whose registers these are, after a `recv`.
#[inline(always)]
fn caller(registers: &Registers) -> Caller {
    let (service_id, process_id, badge) = (registers.deadline, registers.process_id, registers.buffers);
    Caller { service_id, process_id, badge }
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
    pub(crate) reply: Handle,
    pub(crate) header: Header,
    pub(crate) words: [u64; 8],
    pub(crate) bytes: Vec<u8>,
    /// Of the capabilities that came with the call, how many have found an owner.
    claimed: usize,
    /// Of a receiver's: the messages that were refused.
    refusals: Option<Box<Refusals>>,
}

impl Pending {
    /// The status and payload that wait to be sent, if any: what a simulated exchange looks at.
    pub fn answer(&self) -> Option<(u16, &[u8])> {
        let length = self.header.bytes();
        let payload = if length <= REGISTER_BYTES { self.words.as_bytes() } else { &self.bytes };
        (!self.reply.is_none()).then(|| (self.header.label(), payload.get(..length).unwrap_or(&[])))
    }

    /// The registers that say it; afterwards none waits.
    #[inline(always)]
    fn take(&mut self) -> Registers {
        let reply = core::mem::take(&mut self.reply);
        Registers { header: self.header, reply, words: self.words, ..Registers::default() }
    }

    /// Refuses a message with the next wait, and counts that.
    #[cold]
    fn refuse(&mut self, reply: Handle, status: Status, caller: Caller) {
        self.set(reply, status, ());
        if let Some(refusals) = &mut self.refusals {
            refusals.count(status, caller);
        }
    }

    #[inline(always)]
    pub(crate) fn set<M: Message>(&mut self, reply: Handle, status: Status, message: M) {
        self.reply = reply;
        // All words travel: none may hold what somebody else was answered.
        clear(&mut self.words);
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

/// A function of its own, for this crate is compiled for speed and those that use it for size: eight stores.
#[inline(never)]
fn clear(words: &mut [u64; REGISTER_WORDS]) {
    *words = [0; REGISTER_WORDS];
}

/// Where a request's bytes are.
enum Payload<'a> {
    /// Where they stay.
    Slice(&'a [u8]),
    /// So many of them, in words.
    Words(&'a [u64; REGISTER_WORDS], usize),
    /// In the receiver's buffer, which a message may take along.
    Buffer(&'a mut Vec<u8>),
}

/// A call that was received.
pub struct Call<'a> {
    caller: Caller,
    operation: u16,
    payload: Payload<'a>,
    reply: Handle,
    came: &'a [Handle],
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
        Call { caller, operation, payload: Payload::Slice(payload), reply, came: &[], pending }
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
            Payload::Words(words, length) => words.as_bytes().get(..*length).unwrap_or(&[]),
            Payload::Buffer(bytes) => bytes,
        }
    }

    /// The request.
    #[inline(always)]
    pub fn request<Q: Message>(&mut self) -> Result<Q, MessageError> {
        match &mut self.payload {
            Payload::Slice(bytes) => Q::decode(bytes),
            Payload::Words(words, length) => {
                // A copy, which is known to be aligned: the message is read in words.
                let words = **words;
                Q::decode(words.as_bytes().get(..*length).ok_or(MessageError::Malformed)?)
            }
            Payload::Buffer(bytes) if Q::BYTES_MAX > REGISTER_BYTES => Q::from_buffer(bytes),
            Payload::Buffer(_) => Err(MessageError::Malformed),
        }
    }

    /// What the caller lends, until it is answered.
    pub fn leases(&self) -> Leases<'_> {
        Leases::new(self.reply)
    }

    /// The right to answer another call, which came with this one. `Malformed`: none did.
    pub fn handed_on<B, F>(&mut self) -> Result<Answer<B, F>, MessageError> {
        let (&first, rest) = self.came.split_first().ok_or(MessageError::Malformed)?;
        let answer = Answer::of_reply(first).ok_or(MessageError::Malformed)?;
        self.came = rest;
        self.pending.claimed += 1;
        Ok(answer)
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

    /// Refuses with the next wait; counted, and told of once in a while.
    pub fn refuse(mut self, status: Status) {
        let (reply, caller) = (self.take_reply(), self.caller);
        self.pending.refuse(reply, status, caller);
    }

    /// How many messages before this one were refused for this reason.
    pub fn refused_before(&self, refused: Refused) -> u64 {
        self.pending.refusals.as_ref().map_or(0, |refusals| refusals.all(refused))
    }

    /// Keeps the right to answer for later.
    pub fn keep<A, E>(mut self) -> Answer<A, E> {
        Answer::new(self.take_reply())
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

/// One thread's loop over one endpoint.
pub struct Receiver {
    endpoint: Handle,
    access: Option<Access>,
    max_bytes: usize,
    /// What a message of at most 64 bytes says.
    words: [u64; REGISTER_WORDS],
    /// Room for larger ones: `max_bytes` of capacity while this waits.
    received: Vec<u8>,
    takes_capabilities: bool,
    /// What it says of itself to its supervisor, if that wants to know.
    heartbeat: Option<Heartbeat>,
    /// Capabilities that came with the last call; what nobody claims is closed before the next wait.
    came: [Handle; MESSAGE_CAPABILITIES_MAX],
    pending: Pending,
}

impl Receiver {
    /// A receiver for an endpoint that takes messages of at most `max_bytes`.
    ///
    /// With an access table it refuses whoever is not in it; without one the capability alone decides. What it refuses
    /// is counted ([`Call::refused_before`]).
    pub fn new(endpoint: Handle, max_bytes: usize, access: Option<Access>) -> Self {
        let max_bytes = if max_bytes <= REGISTER_BYTES { 0 } else { max_bytes.min(MESSAGE_BYTES_MAX) };
        let came = [Handle::NONE; MESSAGE_CAPABILITIES_MAX];
        let pending = Pending { refusals: Some(Box::default()), ..Pending::default() };
        let (words, received) = ([0; REGISTER_WORDS], Vec::new());
        let (takes_capabilities, heartbeat) = (false, None);
        Receiver {
            endpoint,
            access,
            max_bytes,
            words,
            received,
            takes_capabilities,
            heartbeat,
            came,
            pending,
        }
    }

    /// The same, of a server whose supervisor hears that it lives.
    pub fn with_heartbeat(self, heartbeat: Option<Heartbeat>) -> Self {
        Receiver { heartbeat, ..self }
    }

    /// The same, which has somebody told of what it refuses: once for each class in an interval of ticks.
    pub fn telling(mut self, interval: u64, teller: Teller) -> Self {
        if let Some(refusals) = &mut self.pending.refusals {
            refusals.tell(interval, teller);
        }
        self
    }

    /// The same, for an endpoint whose messages carry capabilities.
    pub fn taking_capabilities(self) -> Self {
        Receiver { takes_capabilities: true, ..self }
    }

    /// Sends the answer that waits, if one does, and waits for what comes next.
    #[inline(always)]
    pub fn next(&mut self, deadline: Deadline) -> Result<Event<'_>, Error> {
        let in_registers = self.max_bytes == 0 && !self.takes_capabilities;
        if !in_registers || self.pending.reply.is_none() || self.pending.header.bytes() > REGISTER_BYTES {
            return self.next_of_any_size(None, deadline);
        }
        // What travels in registers needs no buffers, and kernel and program are faster for it.
        let mut registers = self.pending.take();
        let (reply, until) = (registers.reply, self.sign_or(deadline));
        // SAFETY: there are no buffers.
        let outcome = unsafe { system::reply_recv(self.endpoint, &mut registers, None, until.ticks()) };
        let is_call = registers.header.arrival() == Some(Arrival::Call);
        if outcome.is_err() || !is_call || !self.is_allowed(&registers) {
            let arrived = match outcome {
                Ok(()) => Ok(registers),
                Err(error) => self.after_refused(reply, error, None, until),
            };
            return self.next_of_any_size(Some(arrived), deadline);
        }
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.stir();
        }
        self.words = registers.words;
        Ok(self.call(registers.header, registers.reply, caller(&registers)))
    }

    /// As [`Receiver::next`], of whatever may come; something may have `arrived` already.
    #[inline(never)]
    fn next_of_any_size(
        &mut self,
        mut arrived: Option<Result<Registers, Error>>,
        deadline: Deadline,
    ) -> Result<Event<'_>, Error> {
        loop {
            let until = self.sign_or(deadline);
            let arrived = arrived.take().unwrap_or_else(|| self.wait_with_buffers(until));
            if let Some(heartbeat) = &mut self.heartbeat {
                if matches!(arrived, Err(Error::TimedOut)) && until < deadline && !deadline.has_passed() {
                    heartbeat.quiet();
                    continue;
                }
                heartbeat.stir();
            }
            let registers = match arrived {
                Ok(registers) => registers,
                Err(Error::TimedOut) => return Ok(Event::TimedOut),
                Err(error) => return Err(error),
            };
            let caller = caller(&registers);
            match registers.header.arrival() {
                Some(Arrival::Bits) => return Ok(Event::Bits(registers.words[0])),
                Some(Arrival::BadgeGone) => return Ok(Event::BadgeGone(caller.badge)),
                Some(Arrival::Post) => return Ok(Event::Post { caller, label: registers.header.label() }),
                Some(Arrival::Call) if !self.is_allowed(&registers) => {
                    self.pending.refuse(registers.reply, Status::NotPermitted, caller);
                }
                Some(Arrival::Call) => {
                    self.words = registers.words;
                    return Ok(self.call(registers.header, registers.reply, caller));
                }
                None => return Err(Error::Unsupported),
            }
        }
    }

    /// Until when to wait: until the next sign of life is due, if that is before the deadline.
    #[inline(always)]
    fn sign_or(&self, deadline: Deadline) -> Deadline {
        self.heartbeat.as_ref().map_or(deadline, |heartbeat| heartbeat.limit(deadline))
    }

    /// Whether who called may ask for this operation.
    #[inline(always)]
    fn is_allowed(&self, registers: &Registers) -> bool {
        let (service_id, operation) = (registers.deadline, registers.header.label());
        self.access.as_ref().is_none_or(|access| access.allows(service_id, operation))
    }

    /// The call that arrived, with its small payload in `words`.
    #[inline(always)]
    fn call(&mut self, header: Header, reply: Handle, caller: Caller) -> Event<'_> {
        let payload = match header.bytes() {
            length if length <= REGISTER_BYTES => Payload::Words(&self.words, length),
            _ => Payload::Buffer(&mut self.received),
        };
        let came = self.came.get(..header.capabilities()).unwrap_or(&[]);
        let (operation, pending) = (header.label(), &mut self.pending);
        Event::Call(Call { caller, operation, payload, reply, came, pending })
    }

    #[inline(never)]
    fn wait_with_buffers(&mut self, deadline: Deadline) -> Result<Registers, Error> {
        if self.takes_capabilities {
            self.close_unclaimed();
        }
        self.received.clear();
        self.received.reserve_exact(self.max_bytes);
        let mut buffers = Buffers {
            send_address: self.pending.bytes.as_ptr() as u64,
            receive_address: self.received.as_mut_ptr() as u64,
            receive_bytes: self.received.capacity() as u64,
            ..Buffers::default()
        };
        let registers = if self.pending.reply.is_none() {
            self.receive(Some(&mut buffers), deadline)?
        } else {
            let mut registers = self.pending.take();
            let reply = registers.reply;
            let (endpoint, until) = (self.endpoint, deadline.ticks());
            // SAFETY: the addresses are those of our own two buffers, which nothing else borrows.
            match unsafe { system::reply_recv(endpoint, &mut registers, Some(&mut buffers), until) } {
                Ok(()) => registers,
                Err(error) => self.after_refused(reply, error, Some(&mut buffers), deadline)?,
            }
        };
        let count = registers.header.capabilities().min(MESSAGE_CAPABILITIES_MAX);
        self.came[..count].copy_from_slice(&buffers.received_capabilities[..count]);
        let length = registers.header.bytes();
        if length > REGISTER_BYTES && length <= self.received.capacity() {
            // SAFETY: the kernel has written so many bytes of a message that does not fit the registers.
            unsafe { self.received.set_len(length) };
        }
        Ok(registers)
    }

    /// The answer could not be given (its caller lent too little room, say): ends that call and goes on waiting.
    /// Closing a Reply that was used is refused and changes nothing.
    #[cold]
    #[inline(never)]
    fn after_refused(
        &self,
        reply: Handle,
        error: Error,
        buffers: Option<&mut Buffers>,
        deadline: Deadline,
    ) -> Result<Registers, Error> {
        match error {
            Error::TooLarge | Error::NoSlots | Error::Fault | Error::StaleHandle | Error::PeerGone => {
                close(reply);
                self.receive(buffers, deadline)
            }
            error => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn receive(&self, buffers: Option<&mut Buffers>, deadline: Deadline) -> Result<Registers, Error> {
        let mut registers = Registers::default();
        // SAFETY: the addresses are those of our own two buffers, which nothing else borrows.
        unsafe { system::recv(self.endpoint, &mut registers, buffers, deadline.ticks())? };
        Ok(registers)
    }

    /// Closes what came with the last call and is nobody's.
    fn close_unclaimed(&mut self) {
        let claimed = core::mem::take(&mut self.pending.claimed);
        for (place, handle) in self.came.iter_mut().enumerate() {
            let handle = core::mem::take(handle);
            if place >= claimed {
                close(handle);
            }
        }
    }
}
