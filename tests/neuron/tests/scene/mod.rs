//! States of a call and of an endpoint on a machine, and events that happen to them.

use neuron::object::thread::State;
use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::limits::FOREVER;
use nexus_abi::message::{Arrival, Buffers, CapabilityTransfer, Header, Lease, Registers};
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};

/// Frames of a scene's machine: there are many.
const FRAMES: usize = 2_304;
/// Where leases stand, and what is lent.
const LEASES: u64 = SCRATCH + 512;
const LENT: u64 = SCRATCH + PAGE;
/// When waits of a scene end: long after all else.
const DEADLINE: u64 = 1 << 40;

/// What can happen to a call.
pub const CALL_EVENTS: [&str; 14] = [
    "server receives",
    "server answers",
    "server answers with a capability",
    "server hands the Reply on",
    "server drops the Reply",
    "server copies out of a lease",
    "the deadline passes",
    "server dies",
    "who handed the Reply on dies",
    "caller dies",
    "the endpoint is sealed",
    "the endpoint's owner dies",
    "the caller's capability is revoked",
    "the carried capability is revoked",
];

/// What can happen at an endpoint.
pub const ARRIVAL_EVENTS: [&str; 11] = [
    "a call comes",
    "a call with a badge comes",
    "a post comes",
    "a badge ends",
    "bits are signalled",
    "server receives",
    "the deadline passes",
    "server answers another call",
    "server dies",
    "the endpoint is sealed",
    "the endpoint's owner dies",
];

/// Somebody who owns an endpoint, one who serves it, one who calls, and one who serves the server.
pub struct Scene {
    pub machine: Machine,
    owner: Actor,
    caller: Actor,
    /// Who holds the Reply, or would.
    server: Actor,
    /// Who handed the Reply on.
    first: Option<Actor>,
    /// The owner's endpoint, and the copy from which the caller's derives.
    endpoint: u64,
    granted: u64,
    /// The owner's notification to which the server is bound.
    signalled: u64,
    /// The owner's copy from which the capability that the caller carries derives.
    loan: u64,
    served: u64,
    plain: u64,
    badged: u64,
    carried: u64,
    bits: u64,
    reply: Option<u64>,
    carries: bool,
    waits: bool,
    /// Caller and server before the event.
    before: [Waiting; 2],
}

/// Whether a thread waits.
#[derive(Clone, Copy)]
enum Waiting {
    No,
    Waits,
    /// For what is no call.
    Listens,
    /// It is gone.
    Ended,
}

impl Scene {
    fn new(open_calls_max: u32) -> Self {
        let mut machine = Machine::with_frames(FRAMES);
        let owner = machine.process_of_rank(20);
        let parameters = ProcessParameters { rank: 10, open_calls_max, ..machine.parameters() };
        let server = machine.process_with(&parameters);
        let caller = machine.process_of_rank(20);
        let mut made = |call, arguments: &[u64]| machine.call(owner, call, arguments).expect("room");
        let endpoint = made(SystemCall::EndpointCreate, &[10, 64, 1]);
        let both = Rights::CALL | Rights::POST;
        let granted = made(SystemCall::CapDup, &[endpoint, both.bits().into()]);
        let minted = made(SystemCall::EndpointMint, &[endpoint, 7, both.bits().into()]);
        let object = made(SystemCall::NotificationCreate, &[]);
        let loan = made(SystemCall::CapDup, &[object, Rights::SIGNAL.bits().into()]);
        let signalled = made(SystemCall::NotificationCreate, &[]);
        let served = machine.hand(owner, endpoint, server, Rights::RECEIVE);
        let plain = machine.hand(owner, granted, caller, both);
        let badged = machine.hand(owner, minted, caller, both);
        machine.call(owner, SystemCall::CapClose, &[minted]).expect("its own");
        let carried = machine.hand(owner, loan, caller, Rights::SIGNAL);
        let bits = machine.hand(owner, signalled, caller, Rights::SIGNAL);
        let mut scene = Scene {
            machine,
            owner,
            caller,
            server,
            first: None,
            endpoint,
            granted,
            signalled,
            loan,
            served,
            plain,
            badged,
            carried,
            bits,
            reply: None,
            carries: false,
            waits: false,
            before: [Waiting::No; 2],
        };
        scene.bind();
        scene
    }

    /// The server takes bits when it receives.
    fn bind(&mut self) {
        let bound = self.machine.hand(self.owner, self.signalled, self.server, Rights::WAIT);
        self.machine.call(self.server, SystemCall::NotificationBind, &[bound]).expect("nobody else is bound");
    }

    /// The server dies, and another takes its place.
    fn succeed(&mut self) {
        self.kill(self.server);
        self.server = self.machine.process_of_rank(10);
        self.served = self.machine.hand(self.owner, self.endpoint, self.server, Rights::RECEIVE);
        self.bind();
    }

    /// The state of a call with this name.
    pub fn of_call(name: &str) -> Option<Self> {
        let mut scene = Scene::new(2);
        match name {
            "queued" => scene.call(scene.plain, header()),
            "queued, with a capability" => {
                scene.carries = true;
                scene.call(scene.plain, Header::new(0, 0, 1));
            }
            "queued, its session over" => {
                scene.carries = true;
                scene.call(scene.badged, Header::new(0, 0, 1));
                scene.succeed();
            }
            "received" => scene.be_received(scene.plain, header()),
            "received, with a badge" => scene.be_received(scene.badged, header()),
            "received, lending" => scene.be_received(scene.plain, header().with_leases(1)),
            "handed on" => {
                scene.be_received(scene.plain, header());
                scene.hand_on();
            }
            "given up" => {
                scene.be_received(scene.plain, header());
                scene.machine.advance_to(DEADLINE);
            }
            "caller gone" => {
                scene.be_received(scene.plain, header());
                scene.kill(scene.caller);
            }
            _ => return None,
        }
        Some(scene)
    }

    /// The state of an endpoint with this name.
    pub fn of_arrival(name: &str) -> Option<Self> {
        let mut scene = Scene::new(if name == "listens" { 1 } else { 2 });
        match name {
            "idle" => {}
            "receives" => scene.wait(),
            "listens" => {
                let other = scene.machine.thread(scene.caller.process);
                scene.start_call(other, scene.plain, header());
                assert_eq!(scene.receive(0), "call");
                scene.wait();
            }
            "posts wait, credit used up" => {
                for _ in 0..4 {
                    assert_eq!(scene.post(scene.plain), "ok");
                }
            }
            "a badge's end waits" => assert_eq!(scene.close(scene.caller, scene.badged), "ok"),
            "bits wait" => assert_eq!(scene.signal(), "ok"),
            "sealed" => scene.seal(),
            "destroyed" => scene.kill(scene.owner),
            "of the next generation" => {
                scene.succeed();
                scene.wait();
            }
            "of the next generation, with leftovers" => {
                assert_eq!(scene.post(scene.badged), "ok");
                assert_eq!(scene.close(scene.caller, scene.badged), "ok");
                scene.succeed();
            }
            _ => return None,
        }
        Some(scene)
    }

    /// Lets an event happen; yields what caller and server see, and where the capability is. `None`: it cannot.
    pub fn happen(&mut self, event: &str) -> Option<[String; 3]> {
        self.before = [self.caller, self.server].map(|actor| self.waiting(actor));
        let acts = match event {
            "server receives" if !self.waits => Some(self.receive(0)),
            "server answers" => Some(self.answer(self.reply?, 0)),
            "server answers with a capability" => {
                let gift = self.machine.call(self.server, SystemCall::NotificationCreate, &[]).ok()?;
                (self.carried, self.carries) = (gift, true);
                Some(self.answer(self.reply?, 1))
            }
            "server hands the Reply on" if self.first.is_none() => {
                self.reply?;
                self.hand_on();
                Some("call".to_string())
            }
            "server drops the Reply" => Some(self.close(self.server, self.reply?)),
            "server copies out of a lease" => {
                let copy = [self.reply?, 0, 0, LENT, 8, 0];
                Some(word(self.machine.call(self.server, SystemCall::LeaseCopy, &copy)))
            }
            "who handed the Reply on dies" => {
                self.kill(self.first?);
                None
            }
            "server answers another call" => {
                self.answer(self.reply.filter(|_| self.waits)?, 0);
                None
            }
            "the deadline passes" if self.somebody_waits() => {
                self.machine.advance_to(DEADLINE);
                None
            }
            "server dies" if !self.machine.has_ended(self.server.process) => {
                self.kill(self.server);
                None
            }
            "caller dies" if !self.machine.has_ended(self.caller.process) => {
                self.kill(self.caller);
                None
            }
            "the endpoint is sealed" if !self.machine.has_ended(self.owner.process) => {
                self.seal();
                None
            }
            "the endpoint's owner dies" if !self.machine.has_ended(self.owner.process) => {
                self.kill(self.owner);
                None
            }
            "the caller's capability is revoked" if !self.machine.has_ended(self.caller.process) => {
                self.revoke(self.granted);
                None
            }
            "the carried capability is revoked" if self.carries => {
                self.revoke(self.loan);
                None
            }
            _ => return self.arrive(event),
        };
        Some(self.seen(None, acts))
    }

    /// Events that are a message, or news, for the server.
    fn arrive(&mut self, event: &str) -> Option<[String; 3]> {
        let sends = match event {
            "a call comes" => self.start_call(self.caller, self.plain, header()),
            "a call with a badge comes" => self.start_call(self.caller, self.badged, header()),
            "a post comes" => self.post(self.plain),
            "a badge ends" => {
                let there = self.machine.handles_of(self.caller.process);
                there.iter().find(|(handle, ..)| handle.0 == self.badged)?;
                self.close(self.caller, self.badged)
            }
            "bits are signalled" => self.signal(),
            _ => return None,
        };
        Some(self.seen(Some(sends), None))
    }

    /// What both sides see; what one of them was answered at once is given.
    fn seen(&mut self, caller: Option<String>, server: Option<String>) -> [String; 3] {
        let [caller_before, server_before] = self.before;
        let now = |scene: &mut Self, actor, before| match (before, scene.waiting(actor)) {
            (Waiting::Ended | Waiting::No, Waiting::No) => "-".to_string(),
            (Waiting::Ended, Waiting::Ended) => "-".to_string(),
            (_, Waiting::Ended) => "ended".to_string(),
            (_, Waiting::Listens) => "listens".to_string(),
            (_, Waiting::Waits) => "waits".to_string(),
            (Waiting::Waits | Waiting::Listens, Waiting::No) => scene.outcome(actor),
        };
        let caller = caller.filter(|word| word != "waits");
        let caller = caller.unwrap_or_else(|| now(self, self.caller, caller_before));
        let server = server.filter(|word| word != "waits");
        let server = server.unwrap_or_else(|| now(self, self.server, server_before));
        [caller, server, self.capability()]
    }

    fn waiting(&mut self, actor: Actor) -> Waiting {
        match self.machine.state(actor) {
            _ if self.machine.has_ended(actor.process) => Waiting::Ended,
            None => Waiting::Ended,
            Some(State::Ready) => Waiting::No,
            Some(State::Listening(_)) => Waiting::Listens,
            Some(_) => Waiting::Waits,
        }
    }

    /// What a thread that waited was told.
    fn outcome(&mut self, actor: Actor) -> String {
        let (result, header) = (self.machine.result(actor), self.machine.registers(actor).header);
        match arrival(result, header) {
            word if word == "call" && actor == self.caller => "answer".to_string(),
            word => word,
        }
    }

    /// Where the capability is that a message carries.
    fn capability(&mut self) -> String {
        if !self.carries {
            return "-".to_string();
        }
        let at = |scene: &mut Self, actor: Actor| {
            let kinds = scene.machine.handles_of(actor.process);
            kinds.iter().filter(|(_, kind, _)| *kind == Kind::Notification).count()
        };
        // Both hold a notification of the scene's own: the caller to signal bits, the server to receive them.
        let (caller, server) = (at(self, self.caller), at(self, self.server));
        let frozen = self.machine.is_frozen(self.caller.process, Handle(self.carried));
        match (caller, server) {
            _ if frozen => "frozen",
            (2.., _) if self.reply.is_none() => "caller's",
            (_, 2..) => "server's",
            (3.., _) => "caller's",
            _ => "gone",
        }
        .to_string()
    }

    fn somebody_waits(&mut self) -> bool {
        [self.caller, self.server].into_iter().any(|actor| {
            let alive = !self.machine.has_ended(actor.process);
            alive && self.machine.waits(actor)
        })
    }

    fn call(&mut self, target: u64, header: Header) {
        assert_eq!(self.start_call(self.caller, target, header), "waits");
    }

    fn start_call(&mut self, actor: Actor, target: u64, header: Header) -> String {
        self.put_buffers(actor, self.carried);
        let lease = Lease { address: LENT, bytes: 64, rights: Rights::READ.bits(), ..Lease::default() };
        self.machine.put(actor, LEASES, &lease);
        let message =
            Registers { target, header, buffers: SCRATCH, deadline: DEADLINE, ..Registers::default() };
        match self.machine.message(actor, SystemCall::Call, &message) {
            Step::Waits => "waits".to_string(),
            Step::Done(result) => word(result),
            Step::Ended => "ended".to_string(),
        }
    }

    fn be_received(&mut self, target: u64, header: Header) {
        self.call(target, header);
        assert_eq!(self.receive(0), "call");
    }

    /// The server receives, with this deadline.
    fn receive(&mut self, deadline: u64) -> String {
        self.put_buffers(self.server, 0);
        let message = Registers { target: self.served, buffers: SCRATCH, deadline, ..Registers::default() };
        match self.machine.message(self.server, SystemCall::Receive, &message) {
            Step::Waits => "waits".to_string(),
            Step::Ended => "ended".to_string(),
            Step::Done(result) => {
                let registers = self.machine.registers(self.server);
                let word = arrival(result, registers.header);
                if word == "call" {
                    self.reply = Some(registers.reply.0);
                }
                word
            }
        }
    }

    fn wait(&mut self) {
        assert_eq!(self.receive(DEADLINE), "waits");
        self.waits = true;
    }

    /// The server, or another thread of it while it waits, answers.
    fn answer(&mut self, reply: u64, capabilities: u8) -> String {
        let waiting = self.machine.waits(self.server);
        let actor = if waiting { self.machine.thread(self.server.process) } else { self.server };
        self.put_buffers(self.server, self.carried);
        let header = Header::new(0, 0, capabilities);
        let message = Registers { header, reply: Handle(reply), buffers: SCRATCH, ..Registers::default() };
        let step = self.machine.message(actor, SystemCall::Reply, &message);
        let Step::Done(result) = step else { panic!("an answer waits for nobody: {step:?}") };
        self.machine.repeat_calls();
        word(result)
    }

    /// The server hands the Reply on to another, which holds it from here on.
    fn hand_on(&mut self) {
        let second = self.machine.process_of_rank(5);
        let (server, reply) = (self.server, self.reply.expect("a Reply"));
        let below = self.machine.call(server, SystemCall::EndpointCreate, &[5, 64, 1]).expect("room");
        let served = self.machine.hand(server, below, second, Rights::RECEIVE);
        let moved = CapabilityTransfer::moved(Handle(reply), Rights::empty());
        let buffers = Buffers { send_capabilities: [moved; 4], ..Buffers::default() };
        self.machine.put(server, SCRATCH, &buffers);
        let message = Registers {
            target: below,
            header: Header::new(0, 0, 1),
            buffers: SCRATCH,
            deadline: FOREVER,
            ..Registers::default()
        };
        assert_eq!(self.machine.message(server, SystemCall::Call, &message), Step::Waits);
        self.machine.put(second, SCRATCH, &Buffers::default());
        let message = Registers { target: served, ..message };
        assert!(matches!(self.machine.message(second, SystemCall::Receive, &message), Step::Done(Ok(_))));
        let received: Buffers = self.machine.get(second, SCRATCH);
        self.reply = Some(received.received_capabilities[0].0);
        (self.first, self.server) = (Some(server), second);
    }

    fn put_buffers(&mut self, actor: Actor, carried: u64) {
        let moved = CapabilityTransfer::moved(Handle(carried), Rights::SIGNAL);
        let buffers = Buffers { leases: LEASES, send_capabilities: [moved; 4], ..Buffers::default() };
        self.machine.put(actor, SCRATCH, &buffers);
    }

    fn post(&mut self, target: u64) -> String {
        let message = Registers { target, ..Registers::default() };
        match self.machine.message(self.caller, SystemCall::Post, &message) {
            Step::Done(result) => word(result),
            other => panic!("a post waits for nobody: {other:?}"),
        }
    }

    fn signal(&mut self) -> String {
        word(self.machine.call(self.caller, SystemCall::NotificationSignal, &[self.bits, 5]))
    }

    fn close(&mut self, actor: Actor, handle: u64) -> String {
        word(self.machine.call(actor, SystemCall::CapClose, &[handle]))
    }

    fn seal(&mut self) {
        self.machine.call(self.owner, SystemCall::EndpointSeal, &[self.endpoint]).expect("its own");
    }

    fn revoke(&mut self, handle: u64) {
        self.machine.call(self.owner, SystemCall::CapRevoke, &[handle]).expect("its own");
    }

    fn kill(&mut self, actor: Actor) {
        self.machine.kill(actor.process);
        self.machine.settle();
    }
}

fn header() -> Header {
    Header::new(0, 0, 0)
}

fn word(result: Result<u64, Error>) -> String {
    result.map_or_else(|error| error.name().to_string(), |_| "ok".to_string())
}

/// What a receive, or a call, ended with.
fn arrival(result: Result<u64, Error>, header: Header) -> String {
    match (result, header.arrival()) {
        (Err(error), _) => error.name(),
        (Ok(_), Some(Arrival::Call)) => "call",
        (Ok(_), Some(Arrival::Post)) => "post",
        (Ok(_), Some(Arrival::Bits)) => "bits",
        (Ok(_), Some(Arrival::BadgeGone)) => "badge gone",
        (Ok(_), None) => "?",
    }
    .to_string()
}
