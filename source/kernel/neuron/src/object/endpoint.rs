//! An endpoint: where callers and receivers meet.
//!
//! States: open or sealed. Invariant: callers and receivers never wait at the same time (a message that
//! can be delivered is delivered by whoever comes second). Created and owned by who supervises; servers
//! only receive, so it outlives them. `generation` goes up when a receiver's process dies: plain
//! capabilities go on, badged sessions of the older generation are over.

use super::process::Process;
use super::thread::{Queue, Thread};
use crate::memory::list::LinksOf;
use crate::memory::{Granule, Id, Links, List, Memory, Object};
use crate::sync;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use nexus_abi::capability::Qos;
use nexus_abi::limits::REGISTER_BYTES;
use nexus_abi::message::Header;

/// It is over for good.
const SEALED: u32 = 1;
/// It takes more than what fits into registers.
const LONG: u32 = 2;
/// It was sealed, and who waits there has still to be told so.
const SEALING: u32 = 4;

/// What an endpoint is made of.
pub struct Endpoint {
    /// Calls that wait to be received, oldest first.
    pub callers: List<Thread, Queue>,
    /// Threads that wait for an arrival, oldest first.
    pub receivers: List<Thread, Queue>,
    /// Threads that wait for an arrival other than a call.
    pub listeners: List<Thread, Queue>,
    /// Posts that wait to be received, oldest first.
    pub posts: List<Post, Waiting>,
    /// Sessions whose last capability is gone and whose end was not yet received.
    pub gone: List<Session, Gone>,
    /// Receivers must not rank above this, callers must.
    pub rank: u32,
    /// Bytes that a message may have.
    pub max_bytes: u32,
    /// Capabilities that a message may carry.
    pub max_capabilities: u32,
    /// How often a receiver's process died.
    pub generation: u32,
    /// The receiver's process that died last.
    ended: Option<Id<Process>>,
    /// [`SEALED`], [`LONG`], [`SEALING`].
    flags: u32,
    /// Which kind a receive looks at first next time: fairness between posts and calls.
    pub calls_first: bool,
}

impl Endpoint {
    /// An open endpoint at which nobody waits.
    pub fn new(rank: u32, max_bytes: u32, max_capabilities: u32) -> Self {
        Endpoint {
            callers: List::new(),
            receivers: List::new(),
            listeners: List::new(),
            posts: List::new(),
            gone: List::new(),
            rank,
            max_bytes,
            max_capabilities,
            generation: 1,
            ended: None,
            flags: if max_bytes > REGISTER_BYTES as u32 || max_capabilities > 0 { LONG } else { 0 },
            calls_first: true,
        }
    }

    /// Whether it is open and nothing is there to be received.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        let waiting = self.callers.first_granule() | self.posts.first_granule() | self.gone.first_granule();
        waiting | (self.flags & SEALED) == 0
    }

    /// Whether what comes may not fit into registers.
    #[inline]
    pub fn is_long(&self) -> bool {
        self.flags & LONG != 0
    }

    /// Whether it is over for good.
    #[inline]
    pub fn is_sealed(&self) -> bool {
        self.flags & SEALED != 0
    }

    /// Ends it for good.
    pub fn seal(&mut self) {
        self.flags |= SEALED;
    }

    /// Whether it was sealed and somebody who waits there has still to be told.
    pub fn is_sealing(&self) -> bool {
        self.flags & SEALING != 0
    }

    /// Says whether somebody has still to be told that it was sealed.
    pub fn set_sealing(&mut self, is_sealing: bool) {
        self.flags = if is_sealing { self.flags | SEALING } else { self.flags & !SEALING };
    }

    /// A receiver's process died: once, however many capabilities to receive it had. Generations that could not be told
    /// apart do not begin: then it is over for good.
    pub fn begin_generation(&mut self, ended: Id<Process>) {
        if self.ended.replace(ended) == Some(ended) {
            return;
        }
        match self.generation.checked_add(1) {
            Some(next) => self.generation = next,
            None => self.seal(),
        }
    }

    /// Whether what came through a session of this generation (0: through none) is over, because a receiver's process
    /// died since.
    #[inline]
    pub fn is_over(&self, session: u32) -> bool {
        session != 0 && session != self.generation
    }

    /// Takes a thread that waits for an arrival: one that only listens, if there is one.
    pub fn pop_any(&mut self, memory: &Memory) -> Option<Id<Thread>> {
        self.listeners.pop_front(memory).or_else(|| self.receivers.pop_front(memory))
    }
}

/// What is reached without the lock: who is waited for, and how urgently.
#[derive(Default)]
pub struct EndpointShared {
    /// How many calls of each class wait, 16 bits a class.
    waiting: AtomicU64,
    /// Raw id of the thread that received from it last.
    pub server: AtomicU64,
    ending: Links,
}

/// The links of endpoints that nobody holds, or that were sealed, and that have still to be emptied.
pub struct Ending;
impl LinksOf<Endpoint> for Ending {
    fn links(shared: &EndpointShared) -> &Links {
        &shared.ending
    }
}

impl EndpointShared {
    /// One more call of this class waits.
    pub fn count(&self, class: Qos) {
        self.waiting.fetch_add(1 << (CLASS_BITS * class as u32), Relaxed);
    }

    /// One call of this class waits no longer.
    pub fn uncount(&self, class: Qos) {
        self.waiting.fetch_sub(1 << (CLASS_BITS * class as u32), Relaxed);
    }

    /// The class of the most urgent call that waits.
    pub fn most_urgent(&self) -> Option<Qos> {
        let waiting = self.waiting.load(Relaxed);
        waiting.checked_ilog2().and_then(|bit| Qos::from_number((bit / CLASS_BITS).into()))
    }
}

/// Bits of the count of one class: there are fewer threads in the system than they can count.
const CLASS_BITS: u32 = 16;
const _: () = assert!(nexus_abi::limits::THREADS_MAX < 1 << CLASS_BITS);

impl Object for Endpoint {
    const SLAB: u8 = 2;
    const NAME: &'static str = "endpoint";
    type Level = sync::Object;
    type Shared = EndpointShared;
    fn reset(shared: &EndpointShared) {
        shared.waiting.store(0, Relaxed);
        shared.server.store(0, Relaxed);
        shared.ending.reset();
    }
}

/// A message of register size that waits to be received. The sender's account holds it.
pub struct Post {
    /// Where it waits.
    pub endpoint: Id<Endpoint>,
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub words: [u64; 8],
    /// The badge of the capability that it came through.
    pub badge: u64,
    /// The endpoint's generation that the badge belongs to; 0: it has none.
    pub session: u32,
    /// Who sent it.
    pub service_id: u64,
    /// And from which process.
    pub process_id: u64,
    /// The entry whose credit it uses, and that entry's generation.
    pub via: (Granule, u32),
}

/// The links of waiting posts.
pub struct Waiting;
impl LinksOf<Post> for Waiting {
    fn links(shared: &Links) -> &Links {
        shared
    }
}

impl Object for Post {
    const SLAB: u8 = 9;
    const NAME: &'static str = "post";
    type Level = sync::Backing;
    type Shared = Links;
    fn reset(shared: &Links) {
        shared.reset();
    }
}

/// The life of one badge: counted by the capabilities that carry it. Its storage, taken when it was
/// minted, is what the report of its end needs.
pub struct Session {
    /// Whose badge it is.
    pub endpoint: Id<Endpoint>,
    /// The badge.
    pub badge: u64,
    /// The endpoint's generation when it was minted.
    pub generation: u32,
}

/// The links of sessions whose end waits to be received.
pub struct Gone;
impl LinksOf<Session> for Gone {
    fn links(shared: &Links) -> &Links {
        shared
    }
}

impl Object for Session {
    const SLAB: u8 = 10;
    const NAME: &'static str = "session";
    type Level = sync::Backing;
    type Shared = Links;
    fn reset(shared: &Links) {
        shared.reset();
    }
}
