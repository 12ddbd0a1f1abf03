//! A thread: registers, urgency, and the one thing that it waits for.
//!
//! States: see [`State`]. A thread is on at most one list (a run queue, an endpoint's callers or receivers)
//! and in at most one place of the deadline heap. A call that waits lives here: its message stays in the
//! registers and memory of the caller until it is delivered, so waiting allocates nothing. What it lends
//! is remembered here until it is answered.

use super::endpoint::Endpoint;
use super::notification::Notification;
use super::process::Process;
use crate::memory::list::LinksOf;
use crate::memory::{Granule, Id, Links, Object};
use crate::sync;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use hart_locks::Claim;
use nexus_abi::capability::Qos;
use nexus_abi::limits::{FOREVER, LEASES_MAX, MESSAGE_CAPABILITIES_MAX};
use nexus_abi::message::{Buffers, CapabilityTransfer, RECEIVED_CAPABILITIES_OFFSET};
use nexus_abi::{Handle, Rights};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// User registers while the thread does not run, and what the machine needs to go on with it.
#[derive(Clone)]
#[repr(C)]
pub struct Context {
    /// `x1` to `x31` at their own index; index 0 holds the program counter.
    pub registers: [u64; 32],
    /// Floating-point registers and `fcsr`; valid when `float_used` is not 0.
    pub float: [u64; 33],
    /// 1 once the thread has used floating point.
    pub float_used: u64,
}

impl Default for Context {
    fn default() -> Self {
        Context { registers: [0; 32], float: [0; 33], float_used: 0 }
    }
}

/// Register numbers of the message words, in order: `a4 a5 a6 t0 t1 t2 t3 t4`.
const WORDS: [usize; 8] = [14, 15, 16, 5, 6, 7, 28, 29];
const A0: usize = 10;
/// Bytes of the instruction that makes a system call.
const CALL_BYTES: u64 = 4;
const T5: usize = 30;
const T6: usize = 31;

impl Context {
    /// The program counter.
    pub fn program_counter(&self) -> u64 {
        self.registers[0]
    }

    /// Sets the program counter.
    pub fn set_program_counter(&mut self, address: u64) {
        self.registers[0] = address;
    }

    /// Has the system call that was just stepped over made anew.
    pub fn repeat_call(&mut self) {
        self.registers[0] -= CALL_BYTES;
    }

    /// Steps over the instruction of a system call.
    #[inline]
    pub fn step_over_call(&mut self) {
        self.registers[0] += CALL_BYTES;
    }

    /// Argument `a0` to `a7`.
    #[inline]
    pub fn argument(&self, index: usize) -> u64 {
        self.registers[A0 + index]
    }

    /// Sets `a0` to `a7`.
    #[inline]
    pub fn set_argument(&mut self, index: usize, value: u64) {
        self.registers[A0 + index] = value;
    }

    /// The deadline of a message call (`t5`).
    #[inline]
    pub fn deadline(&self) -> u64 {
        self.registers[T5]
    }

    /// Sets who sent what is delivered (`t5`, `t6`).
    #[inline]
    pub fn set_sender(&mut self, service_id: u64, process_id: u64) {
        self.registers[T5] = service_id;
        self.registers[T6] = process_id;
    }

    /// The eight payload words.
    #[inline]
    pub fn words(&self) -> [u64; 8] {
        WORDS.map(|register| self.registers[register])
    }

    /// Sets the eight payload words.
    #[inline]
    pub fn set_words(&mut self, words: [u64; 8]) {
        for (register, word) in WORDS.into_iter().zip(words) {
            self.registers[register] = word;
        }
    }
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs or is in a run queue.
    Ready,
    /// Its call waits at the endpoint to be received.
    Calling(Id<Endpoint>),
    /// Its call was received; somebody owes the answer.
    Called,
    /// It waits for an arrival.
    Receiving(Id<Endpoint>),
    /// It waits for an arrival other than a call: its process holds as many open calls as it may.
    Listening(Id<Endpoint>),
    /// It waits for bits of a mask.
    Waiting(Id<Notification>, u64),
    /// It waits for its deadline only.
    Sleeping,
    /// It is over.
    Ended,
}

/// What the thread's own message call brought along: valid while the call is under way.
#[derive(Clone, Copy, Default)]
pub struct Outgoing {
    /// The caller's buffers, as they were when it called.
    pub buffers: BufferHead,
    /// Whether there are any.
    pub has_buffers: bool,
    /// Entries of the capabilities that are sent.
    pub capabilities: [Granule; MESSAGE_CAPABILITIES_MAX],
    /// The endpoint capability's badge.
    pub badge: u64,
    /// The endpoint's generation that the badge belongs to; 0: the call has no badge.
    pub session: u32,
    /// The entry that the call went through and its generation, for revocation.
    pub via: (Granule, u32),
    /// How far a long payload was copied, and to or from whom.
    pub progress: Progress,
    /// Raw id of the thread whose message stands in part in this one's buffer, as far as its copy came; 0: nobody's.
    pub part_of: u64,
    /// Memory that the call lends.
    pub leases: [Lease; LEASES_MAX],
    /// How many of them there are.
    pub lease_count: usize,
}

/// The part of [`Buffers`] that the kernel reads: all but the handles that came.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BufferHead {
    /// As in [`Buffers`].
    pub send_address: u64,
    /// As in [`Buffers`].
    pub receive_address: u64,
    /// As in [`Buffers`].
    pub receive_bytes: u64,
    /// As in [`Buffers`].
    pub leases: u64,
    /// As in [`Buffers`].
    pub send_capabilities: [CapabilityTransfer; MESSAGE_CAPABILITIES_MAX],
}

const _: () = assert!(
    size_of::<BufferHead>() as u64 == RECEIVED_CAPABILITIES_OFFSET
        && core::mem::offset_of!(BufferHead, leases) == core::mem::offset_of!(Buffers, leases)
        && core::mem::offset_of!(BufferHead, send_capabilities)
            == core::mem::offset_of!(Buffers, send_capabilities)
);

/// Memory that a call lends until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Whose memory it is, if not the caller's own: the thread whose open call, of this `wait_sequence`,
    /// lent it to the caller.
    pub lent: Option<(Id<Thread>, u64)>,
    /// First address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// READ and WRITE, as the borrower may.
    pub access: Rights,
}

/// How far a copy between two threads has come.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Raw id of the other thread.
    pub peer: u64,
    /// The other thread's `wait_sequence` then.
    pub sequence: u64,
    /// Bytes copied.
    pub bytes: usize,
}

/// What a thread is made of.
pub struct Thread {
    /// Its registers.
    pub context: Context,
    /// Whose it is.
    pub process: Id<Process>,
    /// Who is charged for the time that it runs: its own process, or the one at the root of the chain of
    /// calls that it works for.
    pub payer: Id<Process>,
    /// What it does.
    pub state: State,
    /// Its own class.
    pub qos: Qos,
    /// When its wait ends.
    pub deadline: u64,
    /// The message that it sends or can take.
    pub message: Outgoing,
    /// The notification whose bits end its `recv`.
    pub bound: Option<Id<Notification>>,
    /// The endpoint that it received from last.
    pub serves: Option<Id<Endpoint>>,
    /// The entry reserved for the Reply of the next call it receives; 0: none.
    pub reply_entry: Granule,
    /// The handle of the Reply to the call that it received last. A handle is given once; so until this thread answers
    /// or receives again nobody changes that entry beside it.
    pub owes: Handle,
    /// Goes up with each wait: tells one call, or one receive, from the next.
    pub wait_sequence: u64,
}

/// What is reached without the lock.
#[derive(Default)]
pub struct ThreadShared {
    queue: Links,
    listening: Links,
    users: Links,
    /// The entry that its call, which waits, came through: granule, and above it the generation.
    pub(super) through: AtomicU64,
    /// Its place in a deadline heap, and which hart's. Guarded by that heap's lock.
    pub heap_place: AtomicU32,
    /// The class at which it runs now: its own, or a higher one that was lent to it. While it is ready it
    /// is in the run queue of this class, while it calls it is counted under it at the endpoint.
    urgency: AtomicU32,
    /// Raw id of the thread that holds the answer to its call.
    pub served_by: AtomicU64,
    /// The `wait_sequence` of its call while that was received and not answered: whoever takes it answers.
    pub open_call: Claim,
    /// Granule of its process.
    pub process: AtomicU32,
    /// The deadline under which it is in the heap.
    pub heap_key: AtomicU64,
    /// Index of the hart in whose run queue it stands, or on which it ran last.
    pub home: AtomicU32,
    /// The harts on which it may run, one bit each.
    pub affinity: AtomicU32,
    /// Those of them that were told of its address space: there a message may have it run at once.
    pub known_on: AtomicU32,
}

/// The links of run queues, and of an endpoint's callers and receivers.
pub struct Queue;
impl LinksOf<Thread> for Queue {
    fn links(shared: &ThreadShared) -> &Links {
        &shared.queue
    }
}

/// The links of a process's threads that wait because it owes as many answers as it may.
pub struct Listening;
impl LinksOf<Thread> for Listening {
    fn links(shared: &ThreadShared) -> &Links {
        &shared.listening
    }
}

/// The links of threads whose calls came through one capability and wait to be received.
pub struct Users;
impl LinksOf<Thread> for Users {
    fn links(shared: &ThreadShared) -> &Links {
        &shared.users
    }
}

impl ThreadShared {
    /// The class at which the thread runs now.
    #[inline]
    pub fn urgency(&self) -> Qos {
        match self.urgency.load(Relaxed) {
            0 => Qos::Idle,
            1 => Qos::Normal,
            2 => Qos::Interactive,
            _ => Qos::PerfBurst,
        }
    }

    /// The number of the class at which the thread runs now.
    #[inline(always)]
    pub fn urgency_number(&self) -> u32 {
        self.urgency.load(Relaxed)
    }

    /// As [`ThreadShared::set_urgency`], by the number of a class that a thread has.
    #[inline(always)]
    pub(crate) fn raise_urgency(&self, class: u32) {
        self.urgency.store(class, Relaxed);
    }

    /// Whether a hart was told of the thread's address space, and may run it.
    #[inline(always)]
    pub fn is_known_on(&self, hart: usize) -> bool {
        self.known_on.load(Relaxed).wrapping_shr(hart as u32) & 1 != 0
    }

    /// Changes it. Whoever does has seen to the list that the thread is counted in.
    #[inline]
    pub fn set_urgency(&self, class: Qos) {
        self.urgency.store(class as u32, Relaxed);
    }
}

impl Object for Thread {
    const SLAB: u8 = 1;
    const NAME: &'static str = "thread";
    type Level = sync::Thread;
    type Shared = ThreadShared;

    fn reset(shared: &ThreadShared) {
        shared.queue.reset();
        shared.listening.reset();
        shared.users.reset();
        shared.through.store(0, Relaxed);
        shared.heap_place.store(0, Relaxed);
        shared.urgency.store(0, Relaxed);
        shared.served_by.store(0, Relaxed);
        shared.open_call.clear();
        shared.process.store(0, Relaxed);
        shared.heap_key.store(FOREVER, Relaxed);
        shared.home.store(0, Relaxed);
        shared.affinity.store(u32::MAX, Relaxed);
        shared.known_on.store(0, Relaxed);
    }
}

impl Thread {
    /// A thread that is ready to begin.
    pub fn new(process: Id<Process>, entry: u64, stack: u64, argument: u64, qos: Qos) -> Self {
        let mut context = Context::default();
        context.set_program_counter(entry);
        context.registers[2] = stack;
        context.set_argument(0, argument);
        Thread {
            context,
            process,
            payer: process,
            state: State::Ready,
            qos,
            deadline: FOREVER,
            message: Outgoing::default(),
            bound: None,
            serves: None,
            reply_entry: 0,
            owes: Handle::NONE,
            wait_sequence: 0,
        }
    }
}
