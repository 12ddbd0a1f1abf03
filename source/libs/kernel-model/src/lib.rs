//! What the kernel's contract promises of messages, capabilities, leases, classes and memory objects, as a small
//! model, and the comparison of a kernel with it, event by event.
//!
//! What it is: [`Lockstep`] draws events out of bytes, has them happen in four processes with two threads each on
//! a [`Bench`], and compares who was answered what. A bench is the kernel's core on a host, or real processes
//! on the machine; the same [`sequence`] makes the same events on both.
//! What it is not: nothing that a running system needs. A difference is a panic that says which.
//!
//! Calls of the table that no event makes, and why: `vmo_map`, `vmo_unmap`, `vmo_protect` and all of devices
//! (`device_cap_create` to `irq_ack`, `dma_create` to `dma_release`), because the model has neither addresses nor
//! devices; `timer_create`, `timer_arm`, `thread_yield` and what a budget does, because its clock has epochs and no
//! order within one; `process_create`, `thread_create`, `thread_exit` and `process_report`, because who there is
//! stays; `ring_read`, `ring_write`, `ring_bind`, `system_info` and `process_list`, because what else the machine does
//! shows in them; `system_reset`; `thread_set_affinity`, because on which hart something happens is not to be seen.
//! [`NOT_MODELLED`] is that list, and [`MODELLED`] the others.
//!
//! Where to start reading: [`Lockstep::step`], then the model.
#![no_std]

extern crate alloc;

mod bench;
mod doing;
mod drawing;
mod model;

pub use bench::{Bench, Late};
pub use model::{Model, Notification, Object, Process, Thread, Wait};

/// Calls that events make.
pub const MODELLED: &[SystemCall] = &[
    SystemCall::Call,
    SystemCall::Receive,
    SystemCall::Reply,
    SystemCall::ReplyReceive,
    SystemCall::Post,
    SystemCall::EndpointCreate,
    SystemCall::EndpointMint,
    SystemCall::EndpointSeal,
    SystemCall::NotificationCreate,
    SystemCall::NotificationSignal,
    SystemCall::NotificationWait,
    SystemCall::NotificationPoll,
    SystemCall::NotificationBind,
    SystemCall::CapDup,
    SystemCall::CapTransferTo,
    SystemCall::CapQuery,
    SystemCall::CapClose,
    SystemCall::CapRevoke,
    SystemCall::VmoCreate,
    SystemCall::VmoRead,
    SystemCall::VmoWrite,
    SystemCall::ThreadSleep,
    SystemCall::ProcessExit,
    SystemCall::ProcessKill,
    SystemCall::ProcessStatus,
    SystemCall::CapList,
    SystemCall::LeaseCopy,
    SystemCall::LeaseQuery,
    SystemCall::VmoResize,
    SystemCall::CapHolders,
    SystemCall::ThreadQos,
    SystemCall::ThreadSetQos,
    SystemCall::ProcessSetBudget,
    SystemCall::AuthorityNarrow,
];
/// Calls that none makes; why stands at the head of this crate.
pub const NOT_MODELLED: &[SystemCall] = &[
    SystemCall::VmoMap,
    SystemCall::VmoUnmap,
    SystemCall::VmoProtect,
    SystemCall::ProcessCreate,
    SystemCall::ThreadCreate,
    SystemCall::ThreadExit,
    SystemCall::ThreadYield,
    SystemCall::ProcessReport,
    SystemCall::DeviceCapCreate,
    SystemCall::IrqCapCreate,
    SystemCall::MmioMap,
    SystemCall::IrqBind,
    SystemCall::IrqAck,
    SystemCall::TimerCreate,
    SystemCall::TimerArm,
    SystemCall::RingRead,
    SystemCall::RingWrite,
    SystemCall::RingBind,
    SystemCall::SystemInfo,
    SystemCall::ProcessList,
    SystemCall::SystemReset,
    SystemCall::ThreadSetAffinity,
    SystemCall::DmaCreate,
    SystemCall::DmaAddress,
    SystemCall::DmaRelease,
];

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use model::{Answer, CapId, Event, Info, Status};
use nexus_abi::capability::Qos;
use nexus_abi::grammar::Random;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::{Arrival, Buffers, Header, Registers};
use nexus_abi::records::{CapabilityInfo, ProcessStatus};
use nexus_abi::{Handle, Kind, Rights, SystemCall};
use zerocopy::IntoBytes;

const PAGE: u64 = PAGE_SIZE as u64;
const LABEL: u16 = 0x4e58;
/// Of each process: its rank, the entries that its table can hold, the calls that it can hold unanswered.
pub const PROCESSES: [(u32, u32, u32); 4] = [(10, 52, 2), (5, 32, 2), (20, 24, 2), (20, 16, 1)];
/// Threads of each process. Thread `n` is of process `n / THREADS`.
pub const THREADS: usize = 2;
/// Where each process has memory for its messages.
pub const SCRATCH: u64 = 0x10_0000;
/// Pages at [`SCRATCH`].
pub const SCRATCH_PAGES: u64 = 32;
/// Events in one sequence.
pub const EVENTS: usize = 200;

/// Raw material of an event; what it means depends on what there is.
pub type Seed = (u8, u8, u8, u8, u8, u8);

/// The events of a number: the same ones on every bench.
pub fn sequence(number: u64) -> Vec<Seed> {
    let mut random = Random::new(number);
    let mut seed = || {
        // The high bytes are the better ones.
        let [_, _, a, b, c, d, e, f] = random.next().to_le_bytes();
        (a, b, c, d, e, f)
    };
    (0..EVENTS).map(|_| seed()).collect()
}

/// A bench beside the model.
pub struct Lockstep<B> {
    /// Where the events happen.
    pub bench: B,
    model: Model,
    handles: BTreeMap<CapId, u64>,
    holders: BTreeMap<CapId, usize>,
    tag: u64,
}

impl<B: Bench> Lockstep<B> {
    /// The processes of a fresh bench with their first capabilities. `epoch` is the present one, above 0.
    pub fn new(bench: B, epoch: u64) -> Self {
        let mut model = Model::default();
        model.now = epoch;
        for (rank, capabilities_max, open_calls_max) in PROCESSES {
            let process = model.add_process(rank, capabilities_max, open_calls_max);
            for _ in 0..THREADS {
                model.add_thread(process);
            }
        }
        let (handles, holders) = (BTreeMap::new(), BTreeMap::new());
        let mut lockstep = Lockstep { bench, model, handles, holders, tag: 0 };
        lockstep.set_up();
        lockstep.bench.compare(&lockstep.model);
        lockstep
    }

    /// Process 0 supervises: it creates the endpoints; 1 serves, also process 0; 2 and 3 are clients.
    fn set_up(&mut self) {
        let plain = Rights::CALL | Rights::POST;
        let serving = plain | Rights::RECEIVE | Rights::MINT;
        for (rank, bytes, caps) in [(10, 64, 0), (10, 4_096, 2), (5, 64, 2)] {
            let handle = self.create(0, SystemCall::EndpointCreate, &[rank, bytes, caps]);
            let cap = self.model.add_endpoint(0, rank as u32, bytes as u32, caps as u32);
            self.bench.created(Object::Endpoint(self.model.endpoints.len() - 1), 0, handle);
            self.bind(cap, handle, 0);
            for (to, rights) in [(1, serving), (2, plain), (3, plain)] {
                self.hand(cap, to, rights);
            }
        }
        let handle = self.create(0, SystemCall::NotificationCreate, &[]);
        let cap = self.model.add_notification(0);
        self.bench.created(Object::Notification(0), 0, handle);
        self.bind(cap, handle, 0);
        self.hand(cap, 1, Rights::SIGNAL | Rights::WAIT);
        self.hand(cap, 2, Rights::SIGNAL);
        let handle = self.create(1, SystemCall::NotificationCreate, &[]);
        let cap = self.model.add_notification(1);
        self.bench.created(Object::Notification(1), 1, handle);
        self.bind(cap, handle, 1);
        for (process, index) in [(2, 0), (3, 1)] {
            let handle = self.create(process, SystemCall::VmoCreate, &[0, PAGE]);
            let cap = self.model.add_memory(process, 1);
            self.bench.created(Object::Memory(index), process, handle);
            self.bind(cap, handle, process);
        }
        self.give_what_none_can_make();
        // Two that serve lower themselves, so that callers lend them urgency, and so do they in turn.
        for thread in [1, THREADS] {
            let lowered = self.bench.call(thread, SystemCall::ThreadSetQos, &[0, Qos::Idle as u64, 0]);
            lowered.expect("it is free");
            (self.model.threads[thread].class, self.model.threads[thread].urgency) = (Qos::Idle, Qos::Idle);
        }
    }

    /// Process 0 manages the others and one thread of each, and has the authorities; 1 may look at who there is.
    fn give_what_none_can_make(&mut self) {
        let (first, last) = self.bench.identities();
        let managing = Kind::Process.rights();
        let given = [
            (Object::Process(1), 0, managing),
            (Object::Process(2), 0, managing),
            (Object::Process(3), 0, managing),
            (Object::Thread(0), 0, Rights::MANAGE),
            (Object::Thread(THREADS), 0, Rights::MANAGE),
            (Object::Thread(2 * THREADS + 1), 0, Rights::MANAGE),
            (Object::Identities(first, last), 0, Rights::CREATE),
            (Object::Urgency(Qos::Normal as u64), 0, Rights::MANAGE),
            (Object::Control, 0, Rights::INSPECT),
            (Object::Process(0), 1, Rights::INSPECT),
            (Object::Control, 1, Rights::INSPECT),
        ];
        for (object, to, rights) in given {
            let handle = self.bench.give(object, to, rights);
            let cap = self.model.add_cap(to, object, rights, None);
            self.bind(cap, handle, to);
        }
    }

    fn create(&mut self, process: usize, call: SystemCall, arguments: &[u64]) -> u64 {
        self.bench.call(process * THREADS, call, arguments).expect("a fresh process")
    }

    fn bind(&mut self, cap: CapId, handle: u64, holder: usize) {
        assert!(
            !self.handles.iter().any(|(other, &h)| h == handle && self.holders[other] == holder),
            "handle {handle:x} was given twice"
        );
        self.handles.insert(cap, handle);
        self.holders.insert(cap, holder);
    }

    fn hand(&mut self, cap: CapId, to: usize, rights: Rights) {
        let handle = self.bench.hand(self.handles[&cap], 0, to, rights);
        let object = self.model.caps[&cap].object;
        let copy = self.model.add_cap(to, object, rights, Some(cap));
        self.bind(copy, handle, to);
    }

    /// Lets the event of a seed happen on both, if there is one; then everything is compared. Whether
    /// there was one, or what happened in between makes comparing senseless.
    pub fn step(&mut self, seed: Seed) -> Result<bool, Late> {
        match self.event(seed) {
            Some(event) => self.both(&event).map(|()| true),
            None => Ok(false),
        }
    }

    /// Kills every process.
    pub fn end(mut self) -> Result<B, Late> {
        for process in 0..PROCESSES.len() {
            let order = self.table_order(process);
            self.both(&Event::Kill { process, order })?;
        }
        Ok(self.bench)
    }

    fn both(&mut self, event: &Event) -> Result<(), Late> {
        self.bench.before(&self.model);
        self.act(event);
        let answers = self.model.step(event);
        self.bench.tell(event, &answers);
        let alive = |thread: &usize| self.model.threads[*thread].alive;
        let answered: Vec<usize> = answers.iter().map(|(thread, _)| *thread).filter(alive).collect();
        self.bench.settle(&self.model, &answered)?;
        for (thread, answer) in &answers {
            if self.model.threads[*thread].alive {
                self.compare_answer(*thread, answer);
            }
        }
        self.bench.compare(&self.model);
        Ok(())
    }

    fn compare_answer(&mut self, thread: usize, answer: &Answer) {
        let registers = self.bench.registers(thread);
        let outcome = self.bench.outcome(thread);
        match answer {
            Answer::Failed(error) => assert_eq!(outcome, Err(*error), "thread {thread}"),
            Answer::Value(value) if *value != 0 => assert_eq!(outcome, Ok(*value), "thread {thread}"),
            Answer::Value(_) => assert!(outcome.is_ok(), "thread {thread}: {outcome:?}"),
            Answer::Exactly(value) => assert_eq!(outcome, Ok(*value), "thread {thread}"),
            Answer::New(cap) => {
                let handle = outcome.expect("a new handle");
                self.bind(*cap, handle, self.model.caps[cap].holder);
            }
            Answer::Created(cap) => {
                let (handle, holder) = (outcome.expect("a new handle"), self.model.caps[cap].holder);
                self.bench.created(self.model.caps[cap].object, holder, handle);
                self.bind(*cap, handle, holder);
            }
            Answer::Word(word) => {
                assert!(outcome.is_ok(), "thread {thread}: {outcome:?}");
                assert_eq!(self.word(thread, Self::places(thread)[1]), *word);
            }
            Answer::Info(info) => {
                assert!(outcome.is_ok(), "thread {thread}: {outcome:?}");
                self.compare_info(thread, info);
            }
            Answer::Holder(process, info) => {
                assert_eq!(outcome, Ok(self.bench.identity(*process).1), "thread {thread}");
                self.compare_info(thread, info);
            }
            Answer::Status(status) => {
                assert!(outcome.is_ok(), "thread {thread}: {outcome:?}");
                self.compare_status(thread, status);
            }
            Answer::Call { from, badge, tag, bytes, caps, leases, reply } => {
                assert_eq!(registers.header.leases(), *leases);
                self.compare_message(thread, &registers, Arrival::Call, (*tag, *bytes), caps);
                assert_eq!(registers.buffers, *badge);
                self.compare_sender(&registers, *from);
                self.bind(*reply, registers.reply.0, self.model.threads[thread].process);
            }
            Answer::Post { from, badge, tag } => {
                assert_eq!(registers.header.arrival(), Some(Arrival::Post), "{outcome:?}");
                assert_eq!((registers.buffers, registers.words[0]), (*badge, *tag));
                self.compare_sender(&registers, *from);
            }
            Answer::Bits(bits) => {
                assert_eq!(registers.header.arrival(), Some(Arrival::Bits), "{outcome:?}");
                assert_eq!(registers.words[0], *bits);
                assert_eq!((registers.deadline, registers.process_id), (0, 0), "bits bring no identity");
            }
            Answer::BadgeGone(badge) => {
                assert_eq!(registers.header.arrival(), Some(Arrival::BadgeGone), "{outcome:?}");
                assert_eq!(registers.buffers, *badge);
            }
            Answer::Reply { tag, bytes, caps } => {
                self.compare_message(thread, &registers, Arrival::Call, (*tag, *bytes), caps);
            }
        }
    }

    fn compare_info(&mut self, thread: usize, info: &Info) {
        let mut expected = CapabilityInfo {
            handle: Handle(self.handles[&info.cap]),
            kind: info.object.kind() as u32,
            ..CapabilityInfo::default()
        };
        if !info.is_gone {
            expected.rights = info.rights.bits();
            (expected.base, expected.badge) = match info.object {
                Object::Process(process) => (0, self.bench.identity(process).1),
                Object::Identities(first, last) => (first, last),
                Object::Urgency(most) => (0, most),
                _ => (0, info.badge),
            };
            expected.bytes = info.bytes;
        }
        let mut told = CapabilityInfo::default();
        self.bench.get(thread, Self::places(thread)[1], told.as_mut_bytes());
        assert_eq!(told, expected, "thread {thread}");
    }

    fn compare_status(&mut self, thread: usize, status: &Status) {
        let mut told = ProcessStatus::default();
        self.bench.get(thread, Self::places(thread)[1], told.as_mut_bytes());
        let (service_id, process_id) = self.bench.identity(status.process);
        assert_eq!((told.service_id, told.process_id), (service_id, process_id));
        let figures = (told.state, told.exit_code, told.rank, told.threads, told.capabilities);
        let Status { state, exit_code, rank, threads, capabilities, .. } = *status;
        assert_eq!(figures, (state, exit_code, rank, threads, capabilities), "process {}", status.process);
    }

    fn compare_sender(&self, registers: &Registers, from: usize) {
        assert_eq!((registers.deadline, registers.process_id), self.bench.identity(from));
    }

    fn compare_message(
        &mut self,
        thread: usize,
        registers: &Registers,
        arrival: Arrival,
        (tag, bytes): (u64, u32),
        caps: &[CapId],
    ) {
        let expected = Header::new(LABEL, bytes, caps.len() as u8).with_arrival(arrival);
        let header = registers.header.with_leases(0);
        assert_eq!((registers.target, header), (0, expected), "thread {thread}");
        let [buffers, _, receive] = Self::places(thread);
        if bytes > 64 {
            assert_eq!(self.word(thread, receive), tag);
            assert_eq!(self.word(thread, receive + u64::from(bytes) - 8), tag);
        } else {
            assert_eq!(registers.words, [tag; 8]);
        }
        let mut record = Buffers::default();
        self.bench.get(thread, buffers, record.as_mut_bytes());
        for (cap, handle) in caps.iter().zip(record.received_capabilities) {
            self.bind(*cap, handle.0, self.model.threads[thread].process);
        }
    }

    fn word(&mut self, thread: usize, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.bench.get(thread, address, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}
