//! Calls that are answered at once and wake nobody: capabilities handed over and looked at, memory, classes,
//! budgets, objects that are created.

use super::{Answer, CapId, Memory, Model, Object};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use nexus_abi::capability::Qos;
use nexus_abi::limits::{
    MESSAGE_BYTES_MAX, MESSAGE_CAPABILITIES_MAX, PAGE_SIZE, RANK_MAX, TRANSFER_BYTES_MAX, VMO_PAGES_MAX,
};
use nexus_abi::records::{STATE_ALIVE, STATE_KILLED};
use nexus_abi::{Error, Kind, Rights};

const PAGE: u64 = PAGE_SIZE as u64;
/// A period of a budget that every machine of ours allows, in ticks; one that is too short and one that is too long
/// for every one.
pub(crate) const PERIODS: [u64; 3] = [1_000_000, 100, 200_000_000];

/// One of these calls.
#[derive(Clone, Debug)]
pub enum Plain {
    Transfer {
        process: CapId,
        cap: CapId,
        rights: Rights,
    },
    Query {
        cap: CapId,
    },
    /// `order` is what stands in the tables from the place on that is asked for, entry by entry.
    Holders {
        control: CapId,
        process: usize,
        cap: CapId,
        holder: usize,
        first: u32,
        order: Vec<CapId>,
    },
    List {
        control: CapId,
        process: usize,
        first: u32,
        order: Vec<CapId>,
    },
    Status {
        process: CapId,
    },
    Class {
        thread: Option<CapId>,
    },
    SetClass {
        thread: Option<CapId>,
        class: u64,
        authority: Option<CapId>,
    },
    Budget {
        process: CapId,
        ticks: u64,
        period: u64,
    },
    Narrow {
        authority: CapId,
        first: u64,
        last: u64,
    },
    Resize {
        memory: CapId,
        bytes: u64,
    },
    Read {
        memory: CapId,
        offset: u64,
        bytes: u64,
    },
    Write {
        memory: CapId,
        offset: u64,
        bytes: u64,
        word: u64,
    },
    LeaseQuery {
        reply: CapId,
        index: usize,
    },
    CreateEndpoint {
        rank: u32,
        bytes: u32,
        caps: u32,
    },
    CreateNotification,
    CreateMemory {
        bytes: u64,
    },
    /// The killed process's capabilities are closed in this order.
    Kill {
        process: CapId,
        order: Vec<CapId>,
        code: u64,
    },
}

/// What there is to tell of a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub(crate) cap: CapId,
    pub(crate) object: Object,
    pub(crate) rights: Rights,
    pub(crate) badge: u64,
    pub(crate) bytes: u64,
    /// Its object is gone.
    pub(crate) is_gone: bool,
}

/// What there is to tell of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub(crate) process: usize,
    pub(crate) state: u32,
    pub(crate) exit_code: u64,
    pub(crate) rank: u32,
    pub(crate) threads: u32,
    pub(crate) capabilities: u32,
}

impl Model {
    /// What a call is answered; `None`: the caller is no more.
    pub(super) fn plain(&mut self, thread: usize, call: &Plain) -> Result<Option<Answer>, Error> {
        let value = |()| Answer::Exactly(0);
        Ok(Some(match call {
            Plain::Transfer { process, cap, rights } => {
                Answer::New(self.transfer(thread, *process, *cap, *rights)?)
            }
            Plain::Query { cap } => {
                self.held(thread, *cap)?;
                Answer::Info(self.info(*cap).filter(|info| !info.is_gone).ok_or(Error::StaleHandle)?)
            }
            Plain::Holders { control, process, cap, order, .. } => {
                self.usable(thread, *control, |object| *object == Object::Control, Rights::INSPECT)?;
                self.holder(*process, *cap, order)?
            }
            Plain::List { control, order, .. } => {
                self.usable(thread, *control, |object| *object == Object::Control, Rights::INSPECT)?;
                let first = order.first().ok_or(Error::WouldBlock)?;
                Answer::Info(self.info(*first).ok_or(Error::WouldBlock)?)
            }
            Plain::Status { process } => {
                Answer::Status(self.status(self.process_of(thread, *process, Rights::INSPECT)?))
            }
            Plain::Class { thread: of } => {
                Answer::Exactly(self.threads[self.thread_of(thread, *of)?].class as u64)
            }
            Plain::SetClass { thread: of, class, authority } => {
                self.set_class(thread, *of, *class, *authority).map(value)?
            }
            Plain::Budget { process, ticks, period } => {
                self.budget(thread, *process, *ticks, *period).map(value)?
            }
            Plain::Narrow { authority, first, last } => {
                Answer::New(self.narrow(thread, *authority, *first, *last)?)
            }
            Plain::Resize { memory, bytes } => self.resize(thread, *memory, *bytes).map(value)?,
            Plain::Read { memory, offset, bytes } => {
                let memory = self.reach(thread, *memory, *offset, *bytes, Rights::READ)?;
                Answer::Word(self.memories[memory].words.get(offset).copied().unwrap_or(0))
            }
            Plain::Write { memory, offset, bytes, word } => {
                let memory = self.reach(thread, *memory, *offset, *bytes, Rights::WRITE)?;
                self.memories[memory].words.insert(*offset, *word);
                Answer::Exactly(0)
            }
            Plain::LeaseQuery { reply, index } => Answer::Exactly(self.lease_query(thread, *reply, *index)?),
            Plain::CreateEndpoint { .. } | Plain::CreateNotification | Plain::CreateMemory { .. } => {
                Answer::Created(self.create(thread, call)?)
            }
            Plain::Kill { process, order, code } => {
                let killed = self.process_of(thread, *process, Rights::MANAGE)?;
                if !self.processes[killed].alive {
                    return Err(Error::PeerGone);
                }
                self.kill(killed, order);
                (self.processes[killed].state, self.processes[killed].exit_code) = (STATE_KILLED, *code);
                return Ok(self.threads[thread].alive.then_some(Answer::Exactly(0)));
            }
        }))
    }

    fn process_of(&self, thread: usize, cap: CapId, rights: Rights) -> Result<usize, Error> {
        match self.usable(thread, cap, |object| matches!(object, Object::Process(_)), rights)?.object {
            Object::Process(process) => Ok(process),
            _ => Err(Error::WrongKind),
        }
    }

    pub(super) fn thread_of(&self, thread: usize, cap: Option<CapId>) -> Result<usize, Error> {
        let Some(cap) = cap else { return Ok(thread) };
        let is_thread = |object: &Object| matches!(object, Object::Thread(_));
        match self.usable(thread, cap, is_thread, Rights::MANAGE)?.object {
            Object::Thread(named) if self.threads[named].alive => Ok(named),
            _ => Err(Error::StaleHandle),
        }
    }

    fn transfer(
        &mut self,
        thread: usize,
        process: CapId,
        cap: CapId,
        rights: Rights,
    ) -> Result<CapId, Error> {
        let to = self.process_of(thread, process, Rights::MANAGE)?;
        if !self.processes[to].alive {
            return Err(Error::PeerGone);
        }
        let object = self.attenuated(thread, cap, rights)?;
        self.check_room(to)?;
        Ok(self.add_cap(to, object, rights, Some(cap)))
    }

    fn narrow(&mut self, thread: usize, cap: CapId, first: u64, last: u64) -> Result<CapId, Error> {
        let source = self.held(thread, cap)?;
        let (object, holder, rights) = (source.object, source.holder, source.rights);
        let (least, most) = match object {
            Object::Identities(least, most) => (least, most),
            Object::Urgency(most) => (0, most),
            _ => return Err(Error::WrongKind),
        };
        self.attenuated(thread, cap, rights)?;
        let is_class = matches!(object, Object::Urgency(_));
        if first > last || (is_class && (first > 0 || Qos::from_number(last).is_none())) {
            return Err(Error::InvalidArgument);
        }
        if first < least || last > most {
            return Err(Error::NotPermitted);
        }
        self.check_room(holder)?;
        let narrowed = if is_class { Object::Urgency(last) } else { Object::Identities(first, last) };
        Ok(self.add_cap(holder, narrowed, rights, Some(cap)))
    }

    fn info(&self, id: CapId) -> Option<Info> {
        let cap = self.caps.get(&id)?;
        let (object, rights) = (cap.object, cap.rights);
        let bytes = if let Object::Memory(memory) = object { self.memories[memory].pages * PAGE } else { 0 };
        let is_gone = !self.is_alive(object);
        Some(Info { cap: id, object, rights, badge: cap.badge, bytes, is_gone })
    }

    fn holder(&self, process: usize, cap: CapId, order: &[CapId]) -> Result<Answer, Error> {
        let of = self.caps.get(&cap).filter(|cap| cap.holder == process).ok_or(Error::StaleHandle)?.object;
        let is_same = |other: Object| match of {
            Object::Identities(..) => matches!(other, Object::Identities(..)),
            Object::Urgency(_) => matches!(other, Object::Urgency(_)),
            _ => other == of,
        };
        let next = order.iter().find(|other| is_same(self.caps[other].object)).ok_or(Error::WouldBlock)?;
        let info = self.info(*next).ok_or(Error::WouldBlock)?;
        Ok(Answer::Holder(self.caps[next].holder, info))
    }

    fn status(&self, process: usize) -> Status {
        let state = &self.processes[process];
        let threads = self.threads.iter().filter(|thread| thread.process == process && thread.alive).count();
        Status {
            process,
            state: if state.alive { STATE_ALIVE } else { state.state },
            exit_code: state.exit_code,
            rank: state.rank,
            threads: threads as u32,
            capabilities: if state.alive { state.used + state.open_calls } else { 0 },
        }
    }

    fn budget(&self, thread: usize, process: CapId, ticks: u64, period: u64) -> Result<(), Error> {
        let process = self.process_of(thread, process, Rights::MANAGE)?;
        if !self.processes[process].alive {
            return Err(Error::PeerGone);
        }
        let is_none = ticks == 0 && period == 0;
        if is_none || (ticks > 0 && ticks <= period && period == PERIODS[0]) {
            Ok(())
        } else {
            Err(Error::InvalidArgument)
        }
    }

    fn memory_of(&self, thread: usize, cap: CapId, rights: Rights) -> Result<usize, Error> {
        match self.usable(thread, cap, |object| matches!(object, Object::Memory(_)), rights)?.object {
            Object::Memory(memory) => Ok(memory),
            _ => Err(Error::WrongKind),
        }
    }

    fn pages(bytes: u64) -> Result<u64, Error> {
        match bytes.div_ceil(PAGE) {
            0 => Err(Error::InvalidArgument),
            pages if pages > VMO_PAGES_MAX as u64 => Err(Error::TooLarge),
            pages => Ok(pages),
        }
    }

    fn resize(&mut self, thread: usize, cap: CapId, bytes: u64) -> Result<(), Error> {
        let memory = self.memory_of(thread, cap, Rights::RESIZE)?;
        let pages = Self::pages(bytes)?;
        if !self.is_alive(Object::Memory(memory)) {
            return Err(Error::StaleHandle);
        }
        let state = &mut self.memories[memory];
        state.pages = pages;
        state.words.retain(|&offset, _| offset < pages * PAGE);
        Ok(())
    }

    /// The memory that a copy of so many bytes reaches.
    fn reach(
        &self,
        thread: usize,
        cap: CapId,
        offset: u64,
        bytes: u64,
        right: Rights,
    ) -> Result<usize, Error> {
        let memory = self.memory_of(thread, cap, right)?;
        if bytes > TRANSFER_BYTES_MAX as u64 {
            return Err(Error::TooLarge);
        }
        if !self.is_alive(Object::Memory(memory)) {
            return Err(Error::StaleHandle);
        }
        let end = offset.checked_add(bytes);
        if end.is_some_and(|end| end <= self.memories[memory].pages * PAGE) {
            Ok(memory)
        } else {
            Err(Error::OutOfRange)
        }
    }

    fn create(&mut self, thread: usize, call: &Plain) -> Result<CapId, Error> {
        let process = self.threads[thread].process;
        match call {
            Plain::CreateEndpoint { rank, bytes, caps } => {
                let too_many = *caps as usize > MESSAGE_CAPABILITIES_MAX;
                if *rank > self.processes[process].rank.min(RANK_MAX) || too_many {
                    return Err(Error::InvalidArgument);
                }
                if *bytes as usize > MESSAGE_BYTES_MAX {
                    return Err(Error::TooLarge);
                }
                self.check_room(process)?;
                Ok(self.add_endpoint(process, *rank, *bytes, *caps))
            }
            Plain::CreateMemory { bytes } => {
                let pages = Self::pages(*bytes)?;
                self.check_room(process)?;
                Ok(self.add_memory(process, pages))
            }
            _ => {
                self.check_room(process)?;
                Ok(self.add_notification(process))
            }
        }
    }

    pub(crate) fn add_memory(&mut self, owner: usize, pages: u64) -> CapId {
        self.memories.push(Memory { owner, pages, words: BTreeMap::new() });
        let rights = Kind::Vmo.rights() - Rights::PHYSICAL;
        self.add_cap(owner, Object::Memory(self.memories.len() - 1), rights, None)
    }
}
