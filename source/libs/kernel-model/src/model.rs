//! Messages and capabilities as a small state machine: what the contract promises, without the kernel.
//!
//! [`crate::Lockstep`] runs it beside a kernel, event by event.
//! Everything is a number in a map; nothing here knows of frames, locks or tables.
//!
//! Where to start reading: [`Event`], [`Answer`], [`Model::step`].
//!
//! Long because it is one state machine.

mod delivery;
mod ending;
mod lease;
mod plain;
mod urgency;

pub(crate) use delivery::ROOM;
pub(crate) use lease::{Lease, LeaseCopy, Lent};
pub(crate) use plain::{Info, PERIODS, Plain, Status};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use nexus_abi::capability::Qos;
use nexus_abi::limits::DERIVATIONS_MAX;
use nexus_abi::records::{STATE_EXITED, STATE_KILLED};
use nexus_abi::{Error, Kind, Rights};

/// Capabilities are numbered through, over all processes; no number is used twice.
pub(crate) type CapId = u32;
/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;
/// Posts that one capability may have under way.
const CREDIT: u32 = 4;

/// What a capability names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// An endpoint, by its place in [`Model::endpoints`].
    Endpoint(usize),
    /// A notification, by its place in [`Model::notifications`].
    Notification(usize),
    /// Memory, by its place in the order in which it was created.
    Memory(usize),
    /// A process, by its place.
    Process(usize),
    /// A thread, by its place.
    Thread(usize),
    /// The right to create processes of these service ids, the first and the last.
    Identities(u64, u64),
    /// The right to raise threads up to a class.
    Urgency(u64),
    /// The right to look at the system.
    Control,
    /// The answer owed to a thread for its call of this sequence.
    Reply(usize, u64),
}

impl Object {
    /// Of which kind its capabilities are.
    pub fn kind(self) -> Kind {
        match self {
            Object::Endpoint(_) => Kind::Endpoint,
            Object::Notification(_) => Kind::Notification,
            Object::Memory(_) => Kind::Vmo,
            Object::Process(_) => Kind::Process,
            Object::Thread(_) => Kind::Thread,
            Object::Identities(..) => Kind::ProcessAuthority,
            Object::Urgency(_) => Kind::QosAuthority,
            Object::Control => Kind::SystemControl,
            Object::Reply(..) => Kind::Reply,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Cap {
    pub(crate) holder: usize,
    pub(crate) object: Object,
    pub(crate) rights: Rights,
    pub(crate) badge: u64,
    pub(crate) session: Option<usize>,
    pub(crate) parent: Option<CapId>,
    /// Newest first.
    pub(crate) children: Vec<CapId>,
    pub(crate) frozen: bool,
    /// Posts under way.
    pub(crate) posts: u32,
    /// Whether it counts among its holder's open calls: a Reply that came by message does not.
    pub(crate) open_call: bool,
}

/// A capability that a message is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub(crate) cap: CapId,
    pub(crate) rights: Rights,
    pub(crate) moved: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Message {
    pub(crate) tag: u64,
    /// The call names no buffers: what it sends, and what it can take, are registers.
    pub(crate) plain: bool,
    pub(crate) bytes: u32,
    pub(crate) caps: Vec<Sent>,
    /// What a call lends.
    pub(crate) leases: Vec<Lent>,
}

/// What a thread waits for.
#[derive(Clone, Debug)]
pub enum Wait {
    /// It runs.
    Nothing,
    /// That its call is received.
    Calling {
        /// Where.
        endpoint: usize,
        /// What it sends.
        message: Message,
        /// The capability that it calls through.
        via: CapId,
        /// The capability's badge.
        badge: u64,
        /// And its session.
        session: Option<usize>,
    },
    /// The answer to a call that was received.
    Called,
    /// Any arrival at an endpoint.
    Receiving(usize),
    /// An arrival that is no call: its process owes as many answers as it may.
    Listening(usize),
    /// One of these bits of a notification.
    Bits(usize, u64),
    /// Time alone.
    Sleeping,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Whose it is.
    pub process: usize,
    /// Whether its process is alive.
    pub alive: bool,
    /// What it waits for.
    pub wait: Wait,
    /// The epoch at which it waits no longer.
    pub deadline: u64,
    /// Whether it has an entry for the Reply of the next call.
    pub(crate) reserved: bool,
    pub(crate) bound: Option<usize>,
    /// It named no buffers for what it waits for.
    pub(crate) plain: bool,
    /// The capability through which it receives.
    pub(crate) receives_via: CapId,
    /// Tells one call from the next.
    pub(crate) sequence: u64,
    /// What its call lends.
    pub(crate) leases: Vec<Lease>,
    /// Its own class.
    pub(crate) class: Qos,
    /// At which it runs.
    pub urgency: Qos,
    /// Who owes the answer to its call.
    pub(crate) served_by: Option<usize>,
    /// The endpoint that it received from last.
    pub(crate) serves: Option<usize>,
}

/// A process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Whether it was not killed.
    pub alive: bool,
    pub(crate) rank: u32,
    /// Entries of its table, without those of its open calls.
    pub used: u32,
    pub(crate) used_max: u32,
    /// Calls that it has not answered, or has room reserved for.
    pub open_calls: u32,
    pub(crate) open_calls_max: u32,
    /// Threads that wait for something else than a call, in the order in which they began to.
    pub(crate) listeners: VecDeque<usize>,
    /// How it ended, and its last word.
    pub(crate) state: u32,
    pub(crate) exit_code: u64,
}

/// Memory by pages.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) owner: usize,
    pub(crate) pages: u64,
    /// What is not zero, by offset.
    pub(crate) words: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug)]
pub struct Post {
    pub(crate) from: usize,
    pub(crate) via: CapId,
    pub(crate) badge: u64,
    pub(crate) session: Option<usize>,
    pub(crate) tag: u64,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) owner: usize,
    /// Whether it exists.
    pub alive: bool,
    pub(crate) rank: u32,
    pub(crate) max_bytes: u32,
    pub(crate) max_caps: u32,
    pub(crate) generation: u32,
    pub(crate) sealed: bool,
    pub(crate) callers: VecDeque<usize>,
    pub(crate) receivers: VecDeque<usize>,
    pub(crate) listeners: VecDeque<usize>,
    pub(crate) posts: VecDeque<Post>,
    /// Sessions whose end nobody has heard of.
    pub(crate) gone: VecDeque<usize>,
    pub(crate) calls_first: bool,
    /// Who received from it last.
    pub(crate) server: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) owner: usize,
    pub(crate) endpoint: usize,
    pub(crate) badge: u64,
    pub(crate) generation: u32,
    pub(crate) references: u32,
    pub(crate) alive: bool,
}

/// A notification.
#[derive(Clone, Debug)]
pub struct Notification {
    pub(crate) owner: usize,
    /// Whether it exists.
    pub alive: bool,
    pub(crate) bits: u64,
    pub(crate) waiter: Option<usize>,
    pub(crate) bound: Option<usize>,
}

/// What happens; the first number is the thread that does it.
#[derive(Clone, Debug)]
pub enum Event {
    Call {
        thread: usize,
        via: CapId,
        message: Message,
        deadline: u64,
    },
    Receive {
        thread: usize,
        via: CapId,
        plain: bool,
        deadline: u64,
    },
    Reply {
        thread: usize,
        reply: CapId,
        message: Message,
    },
    ReplyReceive {
        thread: usize,
        via: CapId,
        reply: CapId,
        message: Message,
        deadline: u64,
    },
    Post {
        thread: usize,
        via: CapId,
        message: Message,
    },
    Signal {
        thread: usize,
        notification: CapId,
        bits: u64,
    },
    Poll {
        thread: usize,
        notification: CapId,
        mask: u64,
    },
    LeaseCopy {
        thread: usize,
        copy: LeaseCopy,
    },
    Wait {
        thread: usize,
        notification: CapId,
        mask: u64,
        deadline: u64,
    },
    Bind {
        thread: usize,
        notification: Option<CapId>,
    },
    Copy {
        thread: usize,
        cap: CapId,
        rights: Rights,
    },
    Mint {
        thread: usize,
        cap: CapId,
        badge: u64,
        rights: Rights,
    },
    Close {
        thread: usize,
        cap: CapId,
    },
    Seal {
        thread: usize,
        cap: CapId,
    },
    Revoke {
        thread: usize,
        cap: CapId,
    },
    /// A process ends; its capabilities are closed in this order.
    Kill {
        process: usize,
        order: Vec<CapId>,
    },
    /// A thread waits for time alone.
    Sleep {
        thread: usize,
        deadline: u64,
    },
    /// A thread ends its process; the capabilities are closed in this order.
    Exit {
        thread: usize,
        order: Vec<CapId>,
        code: u64,
    },
    /// A call that wakes nobody.
    Plain {
        thread: usize,
        call: Plain,
    },
    /// The clock goes on to the next deadline.
    TimePasses,
}

/// How a thread's call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Failed(Error),
    Value(u64),
    /// This value, also when it is 0.
    Exactly(u64),
    /// A new capability, of its own process or of the one that it was put into.
    New(CapId),
    /// The first capability to a new object.
    Created(CapId),
    /// A word in its memory.
    Word(u64),
    /// What there is to tell of a capability.
    Info(Info),
    /// That, and who holds it.
    Holder(usize, Info),
    /// What there is to tell of a process.
    Status(Status),
    Call {
        from: usize,
        badge: u64,
        tag: u64,
        bytes: u32,
        caps: Vec<CapId>,
        /// How many ranges it lends.
        leases: usize,
        reply: CapId,
    },
    Post {
        from: usize,
        badge: u64,
        tag: u64,
    },
    Bits(u64),
    BadgeGone(u64),
    Reply {
        tag: u64,
        bytes: u32,
        caps: Vec<CapId>,
    },
}

/// Who was answered what, by one event.
pub(crate) type Answers = Vec<(usize, Answer)>;

/// Everything that there is, and what happens to it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// In the order of their creation, as all of these.
    pub processes: Vec<Process>,
    /// Those of the first process come first.
    pub threads: Vec<Thread>,
    /// Where calls and posts go.
    pub endpoints: Vec<Endpoint>,
    /// Where bits are signalled.
    pub notifications: Vec<Notification>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) memories: Vec<Memory>,
    pub(crate) caps: BTreeMap<CapId, Cap>,
    /// The epoch: deadlines are counted in these.
    pub now: u64,
    next_cap: CapId,
    answers: Answers,
    /// Threads that receive anew, and their deadlines.
    repeats: VecDeque<(usize, u64)>,
}

impl Model {
    pub(crate) fn add_process(&mut self, rank: u32, used_max: u32, open_calls_max: u32) -> usize {
        let process = Process { alive: true, rank, used_max, open_calls_max, ..Process::default() };
        self.processes.push(process);
        self.processes.len() - 1
    }

    pub(crate) fn add_thread(&mut self, process: usize) -> usize {
        self.threads.push(Thread {
            process,
            alive: true,
            wait: Wait::Nothing,
            deadline: NEVER,
            reserved: false,
            bound: None,
            plain: false,
            receives_via: 0,
            sequence: 0,
            leases: Vec::new(),
            class: Qos::Normal,
            urgency: Qos::Normal,
            served_by: None,
            serves: None,
        });
        self.threads.len() - 1
    }

    pub(crate) fn add_endpoint(&mut self, owner: usize, rank: u32, max_bytes: u32, max_caps: u32) -> CapId {
        self.endpoints.push(Endpoint {
            owner,
            alive: true,
            rank,
            max_bytes,
            max_caps,
            generation: 1,
            sealed: false,
            callers: VecDeque::new(),
            receivers: VecDeque::new(),
            listeners: VecDeque::new(),
            posts: VecDeque::new(),
            gone: VecDeque::new(),
            calls_first: true,
            server: None,
        });
        let object = Object::Endpoint(self.endpoints.len() - 1);
        self.add_cap(owner, object, nexus_abi::Kind::Endpoint.rights(), None)
    }

    pub(crate) fn add_notification(&mut self, owner: usize) -> CapId {
        self.notifications.push(Notification { owner, alive: true, bits: 0, waiter: None, bound: None });
        let object = Object::Notification(self.notifications.len() - 1);
        self.add_cap(owner, object, nexus_abi::Kind::Notification.rights(), None)
    }

    /// A new entry of a process's table, below `parent`.
    pub(crate) fn add_cap(
        &mut self,
        holder: usize,
        object: Object,
        rights: Rights,
        parent: Option<CapId>,
    ) -> CapId {
        self.next_cap += 1;
        let (badge, session) = parent.map_or((0, None), |parent| {
            let parent = &self.caps[&parent];
            (parent.badge, parent.session)
        });
        if let Some(session) = session {
            self.sessions[session].references += 1;
        }
        let cap = Cap {
            holder,
            object,
            rights,
            badge,
            session,
            parent,
            children: Vec::new(),
            frozen: false,
            posts: 0,
            open_call: false,
        };
        self.caps.insert(self.next_cap, cap);
        if let Some(parent) = parent {
            let new = self.next_cap;
            self.cap(parent).children.insert(0, new);
        }
        self.processes[holder].used += 1;
        self.next_cap
    }

    /// Whether a thread can do something now.
    pub(crate) fn can_act(&self, thread: usize) -> bool {
        self.threads[thread].alive && matches!(self.threads[thread].wait, Wait::Nothing)
    }

    /// Lets one thing happen; yields who was answered what by it.
    pub(crate) fn step(&mut self, event: &Event) -> Answers {
        self.answers.clear();
        if let Some((thread, outcome)) = self.act(event) {
            match outcome {
                Ok(Some(answer)) => self.answers.push((thread, answer)),
                Ok(None) => {}
                Err(error) => self.answers.push((thread, Answer::Failed(error))),
            }
        }
        while let Some((thread, deadline)) = self.repeats.pop_front() {
            if self.threads[thread].alive
                && let Err(error) = self.receive_call(thread, self.threads[thread].receives_via, deadline)
            {
                self.answers.push((thread, Answer::Failed(error)));
            }
        }
        // A call whose time is over already is delivered all the same when somebody waits for it.
        self.end_overdue_waits();
        core::mem::take(&mut self.answers)
    }

    /// A process may owe one more answer: the thread that waited longest for that receives anew.
    fn open_call_freed(&mut self, process: usize) {
        self.processes[process].open_calls -= 1;
        self.wake_listener(process);
    }

    /// The first that waited for a free open call receives anew, if there is one.
    fn wake_listener(&mut self, process: usize) {
        let state = &mut self.processes[process];
        if state.open_calls == state.open_calls_max {
            return;
        }
        let Some(thread) = state.listeners.pop_front() else { return };
        if let Wait::Listening(endpoint) = self.threads[thread].wait {
            self.leave(endpoint, thread);
        }
        self.threads[thread].wait = Wait::Nothing;
        self.repeats.push_back((thread, self.threads[thread].deadline));
    }

    /// Whether a thread waits for something that time can end.
    pub fn has_deadline(&self) -> bool {
        let ends = |thread: &Thread| !matches!(thread.wait, Wait::Nothing) && thread.deadline != NEVER;
        self.threads.iter().any(ends)
    }

    /// What a thread is answered at once; `None` inside: it waits, or was answered already.
    #[allow(clippy::type_complexity)]
    fn act(&mut self, event: &Event) -> Option<(usize, Result<Option<Answer>, Error>)> {
        let done = |result: Result<u64, Error>| result.map(|value| Some(Answer::Value(value)));
        let new = |result: Result<CapId, Error>| result.map(|cap| Some(Answer::New(cap)));
        Some(match event {
            Event::Call { thread, via, message, deadline } => {
                (*thread, self.call(*thread, *via, message, *deadline).map(|()| None))
            }
            Event::Receive { thread, via, plain, deadline } => {
                self.threads[*thread].plain = *plain;
                (*thread, self.receive_call(*thread, *via, *deadline).map(|()| None))
            }
            Event::Reply { thread, reply, message } => {
                (*thread, done(self.reply(*thread, *reply, message).map(|()| 0)))
            }
            Event::ReplyReceive { thread, via, reply, message, deadline } => {
                let outcome = self.reply_receive(*thread, *via, *reply, message, *deadline);
                if outcome.is_err() {
                    self.wake_listener(self.threads[*thread].process);
                }
                (*thread, outcome.map(|()| None))
            }
            Event::Post { thread, via, message } => {
                (*thread, done(self.post(*thread, *via, message).map(|()| 0)))
            }
            Event::Signal { thread, notification, bits } => {
                (*thread, done(self.signal_call(*thread, *notification, *bits).map(|()| 0)))
            }
            Event::Poll { thread, notification, mask } => {
                (*thread, done(self.poll(*thread, *notification, *mask)))
            }
            Event::LeaseCopy { thread, copy } => (*thread, done(self.lease_copy(*thread, copy).map(|()| 0))),
            Event::Wait { thread, notification, mask, deadline } => {
                let outcome = self.wait(*thread, *notification, *mask, *deadline);
                (*thread, outcome.map(|bits| bits.map(Answer::Value)))
            }
            Event::Bind { thread, notification } => {
                (*thread, done(self.bind(*thread, *notification).map(|()| 0)))
            }
            Event::Copy { thread, cap, rights } => (*thread, new(self.copy(*thread, *cap, *rights))),
            Event::Mint { thread, cap, badge, rights } => {
                (*thread, new(self.mint(*thread, *cap, *badge, *rights)))
            }
            Event::Close { thread, cap } => (*thread, done(self.close_call(*thread, *cap).map(|()| 0))),
            Event::Seal { thread, cap } => (*thread, done(self.seal(*thread, *cap).map(|()| 0))),
            Event::Revoke { thread, cap } => (*thread, done(self.revoke(*thread, *cap).map(|()| 0))),
            Event::Sleep { thread, deadline } => {
                if *deadline > self.now {
                    self.begin_wait(*thread, Wait::Sleeping, *deadline);
                    return None;
                }
                (*thread, Ok(Some(Answer::Exactly(0))))
            }
            Event::Exit { thread, order, code } => {
                let process = self.threads[*thread].process;
                self.kill(process, order);
                (self.processes[process].state, self.processes[process].exit_code) = (STATE_EXITED, *code);
                return None;
            }
            Event::Plain { thread, call } => (*thread, self.plain(*thread, call)),
            Event::Kill { process, order } => {
                if self.processes[*process].alive {
                    self.processes[*process].state = STATE_KILLED;
                }
                self.kill(*process, order);
                return None;
            }
            Event::TimePasses => {
                self.time_passes();
                return None;
            }
        })
    }

    fn cap(&mut self, cap: CapId) -> &mut Cap {
        self.caps.get_mut(&cap).expect("a capability that exists")
    }

    fn answer(&mut self, thread: usize, answer: Answer) {
        let state = &mut self.threads[thread];
        (state.wait, state.deadline) = (Wait::Nothing, NEVER);
        state.sequence += 1;
        self.processes[state.process].listeners.retain(|&other| other != thread);
        self.answers.push((thread, answer));
    }

    /// The caller's capability with this number.
    fn held(&self, thread: usize, cap: CapId) -> Result<&Cap, Error> {
        let process = self.threads[thread].process;
        self.caps.get(&cap).filter(|cap| cap.holder == process).ok_or(Error::StaleHandle)
    }

    fn usable(
        &self,
        thread: usize,
        cap: CapId,
        is_kind: fn(&Object) -> bool,
        rights: Rights,
    ) -> Result<&Cap, Error> {
        let cap = self.held(thread, cap)?;
        match cap {
            _ if !is_kind(&cap.object) => Err(Error::WrongKind),
            _ if cap.frozen => Err(Error::StaleHandle),
            _ if !cap.rights.contains(rights) => Err(Error::NotPermitted),
            _ => Ok(cap),
        }
    }

    fn endpoint_of(&self, thread: usize, cap: CapId, rights: Rights) -> Result<usize, Error> {
        let cap = self.usable(thread, cap, |object| matches!(object, Object::Endpoint(_)), rights)?;
        match cap.object {
            Object::Endpoint(endpoint) => Ok(endpoint),
            _ => Err(Error::WrongKind),
        }
    }

    fn notification_of(&self, thread: usize, cap: CapId, rights: Rights) -> Result<usize, Error> {
        let cap = self.usable(thread, cap, |object| matches!(object, Object::Notification(_)), rights)?;
        match cap.object {
            Object::Notification(n) if self.notifications[n].alive => Ok(n),
            _ => Err(Error::StaleHandle),
        }
    }

    fn is_alive(&self, object: Object) -> bool {
        match object {
            Object::Endpoint(endpoint) => self.endpoints[endpoint].alive,
            Object::Notification(notification) => self.notifications[notification].alive,
            // It goes with who created it.
            Object::Memory(memory) => self.processes[self.memories[memory].owner].alive,
            Object::Reply(thread, _) | Object::Thread(thread) => self.threads[thread].alive,
            // One that has ended stays as long as somebody has a capability to it; authorities have no object.
            Object::Process(_) | Object::Identities(..) | Object::Urgency(_) | Object::Control => true,
        }
    }

    fn is_outlived(&self, cap: &Cap, endpoint: usize) -> bool {
        cap.session.is_some_and(|session| {
            let session = &self.sessions[session];
            !session.alive || session.generation != self.endpoints[endpoint].generation
        })
    }

    /// Whether what came through a session, if through any, is over: a receiver's process died since.
    fn is_over(&self, session: Option<usize>, endpoint: usize) -> bool {
        session
            .is_some_and(|session| self.sessions[session].generation != self.endpoints[endpoint].generation)
    }

    /// Capabilities that name an object.
    pub fn references(&self, object: Object) -> usize {
        self.caps.values().filter(|cap| cap.object == object).count()
    }

    fn copy(&mut self, thread: usize, cap: CapId, rights: Rights) -> Result<CapId, Error> {
        let object = self.attenuated(thread, cap, rights)?;
        let holder = self.threads[thread].process;
        self.check_depth(cap)?;
        self.check_room(holder)?;
        Ok(self.add_cap(holder, object, rights, Some(cap)))
    }

    /// Whether one more may derive from a capability.
    fn check_depth(&self, cap: CapId) -> Result<(), Error> {
        let from = core::iter::successors(Some(cap), |cap| self.caps[cap].parent).count();
        if from > DERIVATIONS_MAX { Err(Error::NoSlots) } else { Ok(()) }
    }

    fn check_room(&self, process: usize) -> Result<(), Error> {
        let process = &self.processes[process];
        if process.used >= process.used_max { Err(Error::NoSlots) } else { Ok(()) }
    }

    /// What a copy with at most these rights names.
    fn attenuated(&self, thread: usize, cap: CapId, rights: Rights) -> Result<Object, Error> {
        let source = self.held(thread, cap)?;
        if source.frozen {
            return Err(Error::StaleHandle);
        }
        if matches!(source.object, Object::Reply(..)) {
            return Err(Error::InvalidArgument);
        }
        if !source.rights.contains(rights) {
            return Err(Error::NotPermitted);
        }
        if self.is_alive(source.object) { Ok(source.object) } else { Err(Error::StaleHandle) }
    }

    fn mint(&mut self, thread: usize, cap: CapId, badge: u64, rights: Rights) -> Result<CapId, Error> {
        let endpoint = self.endpoint_of(thread, cap, Rights::MINT)?;
        let source = self.held(thread, cap)?;
        if badge == 0 || source.badge != 0 || !(Rights::CALL | Rights::POST).contains(rights) {
            return Err(Error::InvalidArgument);
        }
        if !source.rights.contains(rights) {
            return Err(Error::NotPermitted);
        }
        let owner = source.holder;
        if !self.endpoints[endpoint].alive {
            return Err(Error::StaleHandle);
        }
        self.check_depth(cap)?;
        self.check_room(owner)?;
        let generation = self.endpoints[endpoint].generation;
        self.sessions.push(Session { owner, endpoint, badge, generation, references: 1, alive: true });
        let new = self.add_cap(owner, Object::Endpoint(endpoint), rights, Some(cap));
        let session = Some(self.sessions.len() - 1);
        let entry = self.cap(new);
        (entry.badge, entry.session) = (badge, session);
        Ok(new)
    }

    fn signal_call(&mut self, thread: usize, cap: CapId, bits: u64) -> Result<(), Error> {
        let notification = self.notification_of(thread, cap, Rights::SIGNAL)?;
        let state = &mut self.notifications[notification];
        state.bits |= bits;
        if let Some(waiter) = state.waiter {
            let Wait::Bits(_, mask) = self.threads[waiter].wait else { return Ok(()) };
            let taken = state.bits & mask;
            if taken != 0 {
                state.bits &= !taken;
                state.waiter = None;
                self.answer(waiter, Answer::Value(taken));
            }
            return Ok(());
        }
        let Some(bound) = state.bound.filter(|_| state.bits != 0) else { return Ok(()) };
        if let Wait::Receiving(endpoint) | Wait::Listening(endpoint) = self.threads[bound].wait {
            self.leave(endpoint, bound);
            let bits = core::mem::take(&mut self.notifications[notification].bits);
            self.answer(bound, Answer::Bits(bits));
        }
        Ok(())
    }

    fn wait(&mut self, thread: usize, cap: CapId, mask: u64, deadline: u64) -> Result<Option<u64>, Error> {
        let notification = match self.notification_of(thread, cap, Rights::WAIT) {
            // What is wrong with the mask is said before the object is looked at.
            Err(Error::StaleHandle) if mask == 0 && self.held(thread, cap).is_ok_and(|cap| !cap.frozen) => {
                return Err(Error::InvalidArgument);
            }
            other => other?,
        };
        if mask == 0 {
            return Err(Error::InvalidArgument);
        }
        let now = self.now;
        let state = &mut self.notifications[notification];
        if state.waiter.is_some() || state.bound.is_some_and(|bound| bound != thread) {
            return Err(Error::Busy);
        }
        let taken = state.bits & mask;
        if taken != 0 {
            state.bits &= !taken;
            return Ok(Some(taken));
        }
        if deadline <= now {
            return Err(Error::TimedOut);
        }
        state.waiter = Some(thread);
        self.begin_wait(thread, Wait::Bits(notification, mask), deadline);
        Ok(None)
    }

    fn poll(&mut self, thread: usize, cap: CapId, mask: u64) -> Result<u64, Error> {
        let notification = self.notification_of(thread, cap, Rights::WAIT)?;
        let bits = &mut self.notifications[notification].bits;
        let taken = *bits & mask;
        *bits &= !taken;
        if taken == 0 { Err(Error::WouldBlock) } else { Ok(taken) }
    }

    fn bind(&mut self, thread: usize, cap: Option<CapId>) -> Result<(), Error> {
        let next = cap.map(|cap| self.notification_of(thread, cap, Rights::WAIT)).transpose()?;
        if let Some(next) = next {
            let state = &mut self.notifications[next];
            if state.waiter.is_some() || state.bound.is_some_and(|bound| bound != thread) {
                return Err(Error::Busy);
            }
            state.bound = Some(thread);
        }
        let before = core::mem::replace(&mut self.threads[thread].bound, next);
        if let Some(before) = before.filter(|&before| Some(before) != next) {
            self.notifications[before].bound = None;
        }
        Ok(())
    }

    fn begin_wait(&mut self, thread: usize, wait: Wait, deadline: u64) {
        let state = &mut self.threads[thread];
        (state.wait, state.deadline) = (wait, deadline);
        state.sequence += 1;
    }

    /// Takes a thread out of an endpoint's queues.
    fn leave(&mut self, endpoint: usize, thread: usize) {
        let endpoint = &mut self.endpoints[endpoint];
        for queue in [&mut endpoint.callers, &mut endpoint.receivers, &mut endpoint.listeners] {
            queue.retain(|&other| other != thread);
        }
    }
}
