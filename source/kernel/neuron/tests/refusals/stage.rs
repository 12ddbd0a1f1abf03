//! A process with one capability of every kind, valid arguments for every call, and what can be wrong
//! with a handle.

use neuron::memory::Id;
use neuron::object::{Capability, Process};
use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::calls::{Argument, SYSTEM_CALLS};
use nexus_abi::capability::Qos;
use nexus_abi::limits::{DERIVATIONS_MAX, FOREVER};
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Lease, Registers};
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};

/// An address at which nothing is mapped.
pub const HOLE: u64 = 0x3000_0000;
/// Where [`Buffers`] stand.
pub const BUFFERS: u64 = SCRATCH;
/// Where leases stand.
pub const LEASES: u64 = SCRATCH + 512;
/// Where payloads are sent from.
pub const SEND: u64 = SCRATCH + PAGE;
/// Where payloads are received.
pub const RECEIVE: u64 = SCRATCH + 20 * PAGE;
/// Register windows begin here: neither RAM nor the kernel's devices.
pub const WINDOW: u64 = 0x1000_0000;
pub const READ: u64 = Rights::READ.bits() as u64;
pub const WRITE: u64 = Rights::WRITE.bits() as u64;
pub const EXECUTE: u64 = Rights::EXECUTE.bits() as u64;
pub const CALL: u64 = Rights::CALL.bits() as u64;
pub const POST: u64 = Rights::POST.bits() as u64;

pub type Outcome = Result<u64, Error>;

/// Who is on the stage, and what `me` holds.
pub struct Stage {
    pub machine: Machine,
    /// Makes the calls that are refused. Rank 10.
    pub me: Actor,
    /// Serves `endpoint`. Rank 5.
    pub server: Actor,
    /// Of rank 5, 4096 bytes, 2 capabilities; every right.
    pub endpoint: u64,
    /// The server's handle of it.
    pub served: u64,
    /// Of rank 10, registers only: `me` may receive from it.
    pub own: u64,
    pub notification: u64,
    pub vmo: u64,
    pub child: u64,
    pub timer: u64,
    /// With 8 pages for memory of its own.
    pub device: u64,
    /// One page of them.
    pub dma: u64,
    pub irq: u64,
    pub devices: u64,
    pub processes: u64,
    pub control: u64,
    /// A thread of `child`.
    pub thread: u64,
    /// Covers up to Interactive.
    pub urgency: u64,
}

impl Stage {
    pub fn new() -> Self {
        let mut machine = Machine::new();
        let parameters = ProcessParameters { capabilities_max: 1_024, ..machine.parameters() };
        let me = machine.process_with(&parameters);
        let server = machine.process_of_rank(5);
        let mut made = |call, arguments: &[u64]| machine.call(me, call, arguments).expect("a fresh process");
        let endpoint = made(SystemCall::EndpointCreate, &[5, 4096, 2]);
        let own = made(SystemCall::EndpointCreate, &[10, 64, 0]);
        let notification = made(SystemCall::NotificationCreate, &[]);
        let vmo = made(SystemCall::VmoCreate, &[0, 2 * PAGE]);
        let timer = made(SystemCall::TimerCreate, &[notification, 1]);
        let devices = machine.give_root(me, Kind::DeviceAuthority);
        let processes = machine.give_root(me, Kind::ProcessAuthority);
        let control = machine.give_root(me, Kind::SystemControl);
        let served = machine.hand(me, endpoint, server, Rights::RECEIVE);
        let mut stage = Stage {
            machine,
            me,
            server,
            endpoint,
            served,
            own,
            notification,
            vmo,
            child: 0,
            timer,
            device: 0,
            dma: 0,
            irq: 0,
            devices,
            processes,
            control,
            thread: 0,
            urgency: 0,
        };
        stage.device = stage.make(SystemCall::DeviceCapCreate, &[devices, WINDOW, 2 * PAGE, 8]);
        stage.dma = stage.make(SystemCall::DmaCreate, &[stage.device, PAGE]);
        stage.irq = stage.make(SystemCall::IrqCapCreate, &[devices, 5]);
        stage.put_parameters(ProcessParameters::default());
        stage.child = stage.make(SystemCall::ProcessCreate, &[processes, SCRATCH]);
        stage.thread = stage.make(SystemCall::ThreadCreate, &[stage.child, SCRATCH, SCRATCH, 0, 0]);
        let mut urgency = Capability::new(Kind::QosAuthority, Rights::MANAGE, 0);
        urgency.badge = Qos::Interactive as u64;
        stage.urgency = stage.machine.give(me, urgency);
        stage
    }

    /// A call of `me` that answers at once.
    pub fn call(&mut self, call: SystemCall, arguments: &[u64]) -> Outcome {
        self.machine.call(self.me, call, arguments)
    }

    /// As [`Stage::call`], for what must not fail.
    pub fn make(&mut self, call: SystemCall, arguments: &[u64]) -> u64 {
        self.call(call, arguments).expect("what the stage needs")
    }

    /// Writes parameters that are valid but for what differs from the default.
    pub fn put_parameters(&mut self, wanted: ProcessParameters) {
        let usual = self.machine.parameters();
        let or = |value: u64, usual: u64| if value == 0 { usual } else { value };
        let parameters = ProcessParameters {
            service_id: or(wanted.service_id, usual.service_id),
            quota_pages: or(wanted.quota_pages, 64),
            capabilities_max: or(wanted.capabilities_max.into(), 16) as u32,
            ..wanted
        };
        self.put_exactly(parameters);
    }

    /// Writes these parameters.
    pub fn put_exactly(&mut self, parameters: ProcessParameters) {
        self.machine.put(self.me, SCRATCH, &parameters);
    }

    /// The process behind the handle `child`.
    pub fn child_id(&mut self) -> Id<Process> {
        let parent = self.me.process;
        let memory = &self.machine.kernel.memory;
        let any = |process: &mut Process| process.account.any::<Process>(memory);
        self.machine.with(parent, any).flatten().expect("the child")
    }

    pub fn kill_child(&mut self) {
        self.make(SystemCall::ProcessKill, &[self.child, 0]);
        self.machine.settle();
    }

    /// Uses up the pages of `me`.
    pub fn exhaust_quota(&mut self) {
        let (limit, reserved) = self
            .machine
            .with(self.me.process, |process| (process.account.limit, process.account.reserved))
            .expect("me");
        let left = limit - reserved;
        self.machine
            .with(self.me.process, |process| process.account.reserve(left))
            .expect("me")
            .expect("left");
    }

    /// Fills slabs so that the next object of the kind that `call` makes needs a page, then takes all pages.
    pub fn exhaust_quota_for(&mut self, call: SystemCall, arguments: &[u64]) {
        self.exhaust_quota();
        // A slab that was begun may have places left.
        for _ in 0..64 {
            if self.call(call, arguments).is_err() {
                return;
            }
        }
    }

    /// Fills the table of a process.
    pub fn fill_table(&mut self, actor: Actor) {
        self.machine
            .with(actor.process, |process| process.table.used_max = process.table.used)
            .expect("alive");
    }

    /// Makes a message call of `me`.
    pub fn send(&mut self, call: SystemCall, message: &Registers) -> Outcome {
        match self.machine.message(self.me, call, message) {
            Step::Done(result) => result,
            other => panic!("{call:?} was to answer at once: {other:?}"),
        }
    }

    /// A call of `me` that waits.
    pub fn begin(&mut self, call: SystemCall, message: &Registers) {
        assert_eq!(self.machine.message(self.me, call, message), Step::Waits);
    }

    /// What a call of `me` that waited ended with.
    pub fn outcome(&mut self) -> Outcome {
        assert!(!self.machine.waits(self.me), "it still waits");
        self.machine.result(self.me)
    }

    /// Puts buffers that carry these capabilities into the memory of an actor.
    pub fn put_buffers(&mut self, actor: Actor, capabilities: &[CapabilityTransfer]) {
        let mut buffers = Buffers {
            send_address: SEND,
            receive_address: RECEIVE,
            receive_bytes: 17 * PAGE,
            ..Buffers::default()
        };
        buffers.send_capabilities[..capabilities.len()].copy_from_slice(capabilities);
        self.machine.put(actor, BUFFERS, &buffers);
    }

    /// The server waits for arrivals.
    pub fn serve(&mut self) {
        let server = self.server;
        self.put_buffers(server, &[]);
        let message = Registers { target: self.served, buffers: BUFFERS, ..forever() };
        assert_eq!(self.machine.message(server, SystemCall::Receive, &message), Step::Waits);
    }

    /// `me` receives a call at its own endpoint and owes the answer; yields the caller and the reply.
    pub fn owe_answer(&mut self, caller_buffers: bool) -> (Actor, u64) {
        let caller = self.machine.process_of_rank(20);
        let endpoint = self.machine.hand(self.me, self.own, caller, Rights::CALL);
        if caller_buffers {
            self.put_buffers(caller, &[]);
        }
        let buffers = if caller_buffers { BUFFERS } else { 0 };
        let message = Registers { target: endpoint, buffers, ..forever() };
        assert_eq!(self.machine.message(caller, SystemCall::Call, &message), Step::Waits);
        let receive = Registers { target: self.own, ..forever() };
        assert!(self.send(SystemCall::Receive, &receive).is_ok());
        let reply = self.machine.registers(self.me).reply.0;
        (caller, reply)
    }

    /// As [`Stage::owe_answer`], to a caller that lends.
    pub fn owe_leases(&mut self, leases: &[Lease]) -> (Actor, u64) {
        let caller = self.machine.process_of_rank(20);
        let endpoint = self.machine.hand(self.me, self.own, caller, Rights::CALL);
        let (buffers, count) = self.put_leases(caller, leases);
        let message = Registers { target: endpoint, header: count, buffers, ..forever() };
        assert_eq!(self.machine.message(caller, SystemCall::Call, &message), Step::Waits);
        assert!(self.send(SystemCall::Receive, &Registers { target: self.own, ..forever() }).is_ok());
        (caller, self.machine.registers(self.me).reply.0)
    }

    /// Puts leases into an actor's memory; yields the buffers' address and the header of a call with them.
    pub fn put_leases(&mut self, actor: Actor, leases: &[Lease]) -> (u64, Header) {
        let record = Buffers { leases: LEASES, ..Buffers::default() };
        self.machine.put(actor, BUFFERS, &record);
        for (place, lease) in leases.iter().enumerate() {
            self.machine.put(actor, LEASES + (place * size_of::<Lease>()) as u64, lease);
        }
        (BUFFERS, header(0, 0).with_leases(leases.len() as u8))
    }

    /// More derived capabilities than one step of a revocation takes back, and its first step.
    pub fn begin_revoking(&mut self, capability: u64, rights: u64) {
        for _ in 0..40 {
            self.make(SystemCall::CapDup, &[capability, rights]);
        }
        let other = self.machine.thread(self.me.process);
        assert_eq!(self.machine.start_once(other, SystemCall::CapRevoke, &[capability]), None);
    }

    /// A copy of a copy, and so on: one that derives from as many as it may.
    pub fn derive_as_far_as_may_be(&mut self, capability: u64, rights: u64) -> u64 {
        (0..DERIVATIONS_MAX).fold(capability, |last, _| self.make(SystemCall::CapDup, &[last, rights]))
    }

    /// Arguments with which the call's handles are all as they should be.
    pub fn valid(&mut self, call: SystemCall) -> Vec<u64> {
        match call {
            SystemCall::Call | SystemCall::Post | SystemCall::EndpointSeal => vec![self.endpoint],
            SystemCall::Receive => vec![self.own],
            SystemCall::Reply => vec![0, 0, self.owe_answer(false).1],
            SystemCall::ReplyReceive => vec![self.own, 0, self.owe_answer(false).1],
            SystemCall::EndpointMint => vec![self.endpoint, 7, CALL],
            SystemCall::NotificationSignal
            | SystemCall::NotificationWait
            | SystemCall::NotificationPoll
            | SystemCall::NotificationBind => vec![self.notification, 1, 0],
            SystemCall::CapDup => vec![self.vmo, 0],
            SystemCall::AuthorityNarrow => vec![self.processes, 1, 2],
            SystemCall::CapTransferTo => vec![self.child, self.vmo, 0],
            SystemCall::CapQuery => vec![self.vmo, SCRATCH],
            SystemCall::CapClose | SystemCall::CapRevoke => vec![self.vmo],
            SystemCall::VmoCreate => vec![self.child, PAGE],
            SystemCall::VmoRead | SystemCall::VmoWrite => vec![self.vmo, 0, SCRATCH, 8],
            SystemCall::VmoMap => vec![self.child, self.vmo, HOLE, 0, PAGE, READ],
            SystemCall::VmoUnmap => vec![self.child, HOLE],
            SystemCall::VmoProtect => vec![self.child, HOLE, READ],
            SystemCall::ProcessCreate => vec![self.processes, SCRATCH],
            SystemCall::ThreadCreate => vec![self.child, SCRATCH, SCRATCH, 0, 1],
            SystemCall::ProcessKill => vec![self.child],
            SystemCall::ProcessStatus | SystemCall::ProcessReport => vec![self.child, SCRATCH],
            SystemCall::DeviceCapCreate => vec![self.devices, WINDOW + 8 * PAGE, PAGE],
            SystemCall::IrqCapCreate => vec![self.devices, 6],
            SystemCall::MmioMap => vec![self.device, HOLE, 0, PAGE, READ],
            SystemCall::IrqBind => vec![self.irq, self.notification, 1],
            SystemCall::IrqAck => vec![self.irq],
            SystemCall::TimerCreate => vec![self.notification, 1],
            SystemCall::TimerArm => vec![self.timer, 1],
            SystemCall::RingRead => vec![self.control, 0, SCRATCH, PAGE],
            SystemCall::RingWrite => vec![self.control, 0, SCRATCH, 8],
            SystemCall::RingBind => vec![self.control, self.notification, 1],
            SystemCall::SystemInfo => vec![self.control, SCRATCH],
            SystemCall::ProcessList => vec![self.control, 0, SCRATCH],
            SystemCall::CapList => vec![self.control, 1, 0, SCRATCH],
            SystemCall::SystemReset => vec![self.control, 0],
            SystemCall::ThreadQos => vec![self.thread],
            SystemCall::ThreadSetQos => vec![self.thread, 0, self.urgency],
            SystemCall::ThreadSetAffinity => vec![self.thread, 1],
            SystemCall::ProcessSetBudget => vec![self.child, 1_000, 100_000],
            SystemCall::LeaseCopy | SystemCall::LeaseQuery => vec![self.owe_leases(&[]).1, 0],
            SystemCall::VmoResize => vec![self.vmo, PAGE],
            SystemCall::DmaCreate => vec![self.device, PAGE],
            SystemCall::DmaAddress => vec![self.dma],
            SystemCall::DmaRelease => vec![self.device, 0],
            SystemCall::CapHolders => vec![self.control, self.number(), self.vmo, 0, 0, SCRATCH],
            SystemCall::EndpointCreate
            | SystemCall::NotificationCreate
            | SystemCall::ThreadExit
            | SystemCall::ThreadYield
            | SystemCall::ThreadSleep
            | SystemCall::ProcessExit => panic!("{call:?} takes no capability"),
        }
    }

    /// The number of `me`.
    pub fn number(&mut self) -> u64 {
        self.machine.status(self.me.process).expect("alive").process_id
    }

    fn rights_of(&self, handle: u64) -> Rights {
        let memory = &self.machine.kernel.memory;
        let me = memory.shared(self.me.process).expect("alive");
        memory.find_capability(me, Handle(handle)).expect("a live handle").1.rights
    }

    /// Makes the call once for each of its capabilities, with that one replaced; yields the error that
    /// all of these answered.
    fn with_each_handle(
        &mut self,
        call: SystemCall,
        mut replace: impl FnMut(&mut Self, Argument, u64) -> Option<u64>,
    ) -> Outcome {
        let mut seen: Option<Outcome> = None;
        let valid = self.valid(call);
        let table = SYSTEM_CALLS.iter().find(|entry| entry.call == call).expect("every call is in the table");
        for (place, &(name, form)) in table.arguments.iter().enumerate() {
            let bad = match form {
                Argument::Capability(..)
                | Argument::ProcessOrSelf(_)
                | Argument::ThreadOrSelf(_)
                | Argument::QosAuthorityOrNone
                | Argument::AnyCapability => replace(self, form, valid[place]),
                _ => None,
            };
            let Some(bad) = bad else { continue };
            let mut arguments = valid.clone();
            arguments[place] = bad;
            let outcome = self.call(call, &arguments);
            assert!(outcome.is_err(), "`{name}` of {call:?} was taken");
            assert!(seen.is_none_or(|seen| seen == outcome), "`{name}` of {call:?}: {outcome:?}");
            seen = Some(outcome);
        }
        seen.expect("it takes a capability")
    }

    /// Handles that never were.
    pub fn no_handle(&mut self, call: SystemCall) -> Outcome {
        let beyond = self.with_each_handle(call, |_, _, _| Some(Handle::new(9_999, 1).0));
        let empty = self.with_each_handle(call, |_, _, _| Some(Handle::new(60, 1).0));
        assert_eq!(beyond, empty);
        empty
    }

    /// Handles that were closed.
    pub fn stale_handle(&mut self, call: SystemCall) -> Outcome {
        self.with_each_handle(call, |stage, _, _| {
            let closed = stage.make(SystemCall::NotificationCreate, &[]);
            stage.make(SystemCall::CapClose, &[closed]);
            Some(closed)
        })
    }

    /// Handles of another kind.
    pub fn wrong_kind(&mut self, call: SystemCall) -> Outcome {
        self.with_each_handle(call, |stage, form, _| match form {
            Argument::Capability(Kind::Vmo, _) => Some(stage.endpoint),
            Argument::Capability(..)
            | Argument::ProcessOrSelf(_)
            | Argument::ThreadOrSelf(_)
            | Argument::QosAuthorityOrNone => Some(stage.vmo),
            _ => None,
        })
    }

    /// Handles without one of the rights.
    pub fn right_missing(&mut self, call: SystemCall) -> Outcome {
        self.with_each_handle(call, |stage, form, valid| {
            let rights = match form {
                Argument::Capability(_, rights)
                | Argument::ProcessOrSelf(rights)
                | Argument::ThreadOrSelf(rights) => rights,
                Argument::QosAuthorityOrNone => Rights::MANAGE,
                _ => return None,
            };
            let left = (stage.rights_of(valid) - rights).bits();
            (!rights.is_empty()).then(|| stage.make(SystemCall::CapDup, &[valid, left.into()]))
        })
    }
}

/// A message of no bytes that may wait for ever.
pub fn forever() -> Registers {
    Registers { deadline: FOREVER, ..Registers::default() }
}

/// A header of so many bytes and capabilities.
pub fn header(bytes: u32, capabilities: u8) -> Header {
    Header::new(1, bytes, capabilities)
}
