//! What a message does beyond bytes and capabilities: it lends memory, urgency, and the right to answer.

use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::capability::Qos;
use nexus_abi::limits::FOREVER;
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Lease, Registers};
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Error, Handle, Rights, SystemCall};
use std::sync::atomic::Ordering::Relaxed;

/// Where leases stand.
const LEASES: u64 = SCRATCH + 512;
/// What is lent.
const LENT: u64 = SCRATCH + PAGE + 100;
/// Where a server copies to.
const COPY: u64 = SCRATCH + 20 * PAGE + 60;

/// A client of rank 30, a server of rank 20 and one of rank 10, each with an endpoint for the one above.
struct Stage {
    machine: Machine,
    client: Actor,
    first: Actor,
    second: Actor,
    /// The client's and the first server's handle of the first endpoint.
    to_first: u64,
    at_first: u64,
    to_second: u64,
    at_second: u64,
}

impl Stage {
    fn new() -> Self {
        let mut machine = Machine::new();
        let client = machine.process_of_rank(30);
        let first = machine.process_of_rank(20);
        let second = machine.process_of_rank(10);
        let at_first = machine.call(first, SystemCall::EndpointCreate, &[20, 64, 1]).unwrap();
        let at_second = machine.call(second, SystemCall::EndpointCreate, &[10, 64, 1]).unwrap();
        let to_first = machine.hand(first, at_first, client, Rights::CALL);
        let to_second = machine.hand(second, at_second, first, Rights::CALL);
        for actor in [client, first, second] {
            machine.put(actor, SCRATCH, &Buffers { leases: LEASES, ..Buffers::default() });
        }
        Stage { machine, client, first, second, to_first, at_first, to_second, at_second }
    }

    fn call(&mut self, actor: Actor, target: u64, header: Header) {
        let message =
            Registers { target, header, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
        assert_eq!(self.machine.message(actor, SystemCall::Call, &message), Step::Waits);
    }

    /// The actor receives; yields the Reply.
    fn receive(&mut self, actor: Actor, target: u64) -> u64 {
        let message = Registers { target, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
        let step = self.machine.message(actor, SystemCall::Receive, &message);
        assert!(matches!(step, Step::Done(Ok(_))), "{step:?}");
        self.machine.registers(actor).reply.0
    }

    fn answer(&mut self, actor: Actor, reply: u64) -> Step {
        let message = Registers { reply: Handle(reply), ..Registers::default() };
        self.machine.message(actor, SystemCall::Reply, &message)
    }

    /// The client calls the first server, lending; yields the Reply.
    fn lend(&mut self, leases: &[Lease]) -> u64 {
        self.put_leases(self.client, leases);
        self.call(self.client, self.to_first, Header::new(0, 0, 0).with_leases(leases.len() as u8));
        self.receive(self.first, self.at_first)
    }

    fn put_leases(&mut self, actor: Actor, leases: &[Lease]) {
        for (place, lease) in leases.iter().enumerate() {
            self.machine.put(actor, LEASES + (place * size_of::<Lease>()) as u64, lease);
        }
    }

    fn copy(&mut self, actor: Actor, arguments: [u64; 6]) -> Result<u64, Error> {
        self.machine.call(actor, SystemCall::LeaseCopy, &arguments)
    }

    /// The first server hands the Reply on to the second in a call; yields the handles there.
    fn hand_on(&mut self, reply: u64) -> (u64, u64) {
        let send_capabilities = [CapabilityTransfer::moved(Handle(reply), Rights::empty()); 4];
        self.machine.put(self.first, SCRATCH, &Buffers { send_capabilities, ..Buffers::default() });
        self.call(self.first, self.to_second, Header::new(0, 0, 1));
        let own = self.receive(self.second, self.at_second);
        let record: Buffers = self.machine.get(self.second, SCRATCH);
        (own, record.received_capabilities[0].0)
    }

    fn urgencies(&mut self) -> [Qos; 3] {
        [self.client, self.first, self.second].map(|actor| self.machine.urgency(actor).unwrap())
    }
}

fn lent(bytes: u64, rights: Rights) -> Lease {
    Lease { address: LENT, bytes, rights: rights.bits(), ..Lease::default() }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn a_server_reads_and_writes_what_its_caller_lends_until_it_answers() {
    let mut stage = Stage::new();
    let bytes = pattern(5_000);
    stage.machine.put(stage.client, LENT, bytes.as_slice());
    let reply = stage.lend(&[lent(5_000, Rights::READ), lent(4_000, Rights::READ | Rights::WRITE)]);
    assert_eq!(stage.machine.registers(stage.first).header.leases(), 2);
    let query =
        |stage: &mut Stage, index| stage.machine.call(stage.first, SystemCall::LeaseQuery, &[reply, index]);
    assert_eq!(query(&mut stage, 0), Ok(5_000 | 1 << 62));
    assert_eq!(query(&mut stage, 1), Ok(4_000 | 1 << 62 | 1 << 63));
    assert_eq!(stage.copy(stage.first, [reply, 0, 3, COPY, 4_997, 0]), Ok(0));
    assert_eq!(stage.machine.bytes(stage.first, COPY, 4_997), bytes[3..]);
    stage.machine.put(stage.first, COPY, &[9u8; 50]);
    assert_eq!(stage.copy(stage.first, [reply, 1, 3_950, COPY, 50, 1]), Ok(0));
    assert_eq!(
        stage.machine.bytes(stage.client, LENT + 3_949, 52)[..],
        [&bytes[3_949..3_950], &[9; 50], &bytes[4_000..4_001]].concat()
    );
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Ok(0)));
    assert_eq!(stage.copy(stage.first, [reply, 0, 0, COPY, 8, 0]), Err(Error::StaleHandle));
}

#[test]
fn a_call_that_lends_nothing_lends_nothing_of_the_call_before() {
    let mut stage = Stage::new();
    let reply = stage.lend(&[lent(64, Rights::READ)]);
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Ok(0)));
    let reply = stage.lend(&[]);
    assert_eq!(stage.copy(stage.first, [reply, 0, 0, COPY, 8, 0]), Err(Error::InvalidArgument));
}

#[test]
fn a_copy_that_interrupts_come_between_goes_on_where_it_was() {
    let mut stage = Stage::new();
    let bytes = pattern(65_536);
    stage.machine.put(stage.client, LENT, bytes.as_slice());
    let reply = stage.lend(&[lent(65_536, Rights::READ)]);
    stage.machine.kernel.arch.always_interrupted.store(true, Relaxed);
    assert_eq!(
        stage.machine.start_once(stage.first, SystemCall::LeaseCopy, &[reply, 0, 0, COPY, 65_536, 0]),
        None
    );
    assert_eq!(stage.copy(stage.first, [reply, 0, 0, COPY, 65_536, 0]), Ok(0));
    assert_eq!(stage.machine.bytes(stage.first, COPY, 65_536), bytes);
}

#[test]
fn a_lease_is_translated_afresh_at_each_copy() {
    let mut stage = Stage::new();
    let reply = stage.lend(&[lent(64, Rights::READ)]);
    assert_eq!(stage.copy(stage.first, [reply, 0, 0, COPY, 64, 0]), Ok(0));
    let other = stage.machine.thread(stage.client.process);
    stage.machine.call(other, SystemCall::VmoUnmap, &[0, SCRATCH]).unwrap();
    assert_eq!(stage.copy(stage.first, [reply, 0, 0, COPY, 64, 0]), Err(Error::Fault));
    assert!(stage.machine.waits(stage.client), "the call stays open");
}

#[test]
fn a_server_lends_a_narrower_range_on_and_it_ends_with_the_first_call() {
    let mut stage = Stage::new();
    let bytes = pattern(200);
    stage.machine.put(stage.client, LENT, bytes.as_slice());
    let reply = stage.lend(&[lent(200, Rights::READ | Rights::WRITE)]);
    let on = Lease { reply: Handle(reply), address: 50, bytes: 100, rights: Rights::READ.bits(), index: 0 };
    stage.put_leases(stage.first, &[on]);
    let helper = stage.machine.thread(stage.first.process);
    stage.call(helper, stage.to_second, Header::new(0, 0, 0).with_leases(1));
    let second = stage.receive(stage.second, stage.at_second);
    assert_eq!(stage.copy(stage.second, [second, 0, 10, COPY, 90, 0]), Ok(0));
    assert_eq!(stage.machine.bytes(stage.second, COPY, 90), bytes[60..150]);
    assert_eq!(stage.copy(stage.second, [second, 0, 10, COPY, 91, 0]), Err(Error::OutOfRange));
    assert_eq!(stage.copy(stage.second, [second, 0, 0, COPY, 8, 1]), Err(Error::NotPermitted));
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Ok(0)));
    assert_eq!(stage.copy(stage.second, [second, 0, 0, COPY, 8, 0]), Err(Error::PeerGone));
    assert!(stage.machine.waits(helper), "its call stays open");
}

#[test]
fn an_answer_is_handed_on_and_given_late_by_whoever_holds_it() {
    let mut stage = Stage::new();
    let reply = stage.lend(&[lent(64, Rights::READ)]);
    let (first, second) = (stage.first, stage.second);
    let open = |stage: &mut Stage, actor: Actor| stage.machine.with(actor.process, |p| p.table.open_calls);
    assert_eq!(open(&mut stage, first), Some(1));
    let (own, handed) = stage.hand_on(reply);
    assert_eq!(open(&mut stage, first), Some(0), "the open call went along");
    assert_eq!(open(&mut stage, second), Some(1), "it counts among the ordinary entries there");
    assert_eq!(stage.answer(stage.second, own), Step::Done(Ok(0)));
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Err(Error::StaleHandle)));
    assert_eq!(stage.copy(stage.second, [handed, 0, 0, COPY, 64, 0]), Ok(0), "leases go along");
    assert!(stage.machine.waits(stage.client));
    assert_eq!(stage.answer(stage.second, handed), Step::Done(Ok(0)));
    assert_eq!(stage.machine.result(stage.client), Ok(0));
}

#[test]
fn the_death_of_who_holds_an_answer_ends_the_call_and_that_of_who_handed_it_on_does_not() {
    let mut stage = Stage::new();
    let reply = stage.lend(&[]);
    stage.hand_on(reply);
    stage.machine.kill(stage.first.process);
    stage.machine.settle();
    assert!(stage.machine.waits(stage.client));
    stage.machine.kill(stage.second.process);
    stage.machine.settle();
    assert_eq!(stage.machine.result(stage.client), Err(Error::PeerGone));
}

#[test]
fn an_answer_that_was_on_its_way_stays_with_a_sender_that_gave_up() {
    let mut stage = Stage::new();
    let reply = stage.lend(&[]);
    let deadline = stage.machine.now() + 1_000;
    let send_capabilities = [CapabilityTransfer::moved(Handle(reply), Rights::empty()); 4];
    stage.machine.put(stage.first, SCRATCH, &Buffers { send_capabilities, ..Buffers::default() });
    let (target, header) = (stage.to_second, Header::new(0, 0, 1));
    let message = Registers { target, header, buffers: SCRATCH, deadline, ..Registers::default() };
    assert_eq!(stage.machine.message(stage.first, SystemCall::Call, &message), Step::Waits);
    stage.machine.advance_to(deadline);
    assert_eq!(stage.machine.result(stage.first), Err(Error::TimedOut));
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Ok(0)));
}

/// The last open call of the process ends: whoever waited for posts alone takes calls again.
#[test]
fn a_thread_without_an_open_call_takes_calls_as_soon_as_one_is_free() {
    let mut stage = Stage::new();
    let parameters = ProcessParameters { open_calls_max: 1, ..stage.machine.parameters() };
    let server = stage.machine.process_with(&parameters);
    let endpoint = stage.machine.call(server, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let target = stage.machine.hand(server, endpoint, stage.client, Rights::CALL);
    let clients = [stage.client, stage.machine.thread(stage.client.process)];
    for client in clients {
        stage.call(client, target, Header::default());
    }
    let reply = stage.receive(server, endpoint);
    let listener = stage.machine.thread(server.process);
    let receive = Registers { target: endpoint, deadline: FOREVER, ..Registers::default() };
    assert_eq!(stage.machine.message(listener, SystemCall::Receive, &receive), Step::Waits);
    assert_eq!(stage.answer(server, reply), Step::Done(Ok(0)));
    stage.machine.repeat_calls();
    assert!(stage.machine.result(listener).is_ok() && !stage.machine.registers(listener).reply.is_none());
}

#[test]
fn a_call_that_waits_makes_its_server_urgent_and_whoever_that_waits_for() {
    let mut stage = Stage::new();
    let other = stage.machine.thread(stage.client.process);
    stage.call(other, stage.to_first, Header::default());
    let reply = stage.receive(stage.first, stage.at_first);
    stage.call(stage.first, stage.to_second, Header::default());
    let deeper = stage.receive(stage.second, stage.at_second);
    stage.machine.set_qos(stage.client, Qos::PerfBurst);
    stage.call(stage.client, stage.to_first, Header::default());
    assert_eq!(stage.urgencies(), [Qos::PerfBurst; 3], "through the queue and down the chain");
    assert_eq!(stage.answer(stage.second, deeper), Step::Done(Ok(0)));
    assert_eq!(stage.urgencies()[2], Qos::Normal, "it answered");
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Ok(0)));
    assert_eq!(stage.urgencies()[1], Qos::PerfBurst, "an urgent call still waits for it");
    let reply = stage.receive(stage.first, stage.at_first);
    assert_eq!(stage.urgencies()[1], Qos::PerfBurst, "it works for it");
    assert_eq!(stage.answer(stage.first, reply), Step::Done(Ok(0)));
    assert_eq!(stage.urgencies(), [Qos::PerfBurst, Qos::Normal, Qos::Normal]);
}

#[test]
fn nobody_runs_above_the_class_of_who_waits_for_it() {
    let mut stage = Stage::new();
    stage.machine.set_qos(stage.client, Qos::Interactive);
    let deadline = stage.machine.now() + 1_000;
    let receive = Registers { target: stage.at_first, buffers: SCRATCH, ..Registers::default() };
    assert_eq!(
        stage.machine.message(stage.first, SystemCall::Receive, &receive),
        Step::Done(Err(Error::TimedOut))
    );
    let message = Registers { target: stage.to_first, deadline, ..Registers::default() };
    assert_eq!(stage.machine.message(stage.client, SystemCall::Call, &message), Step::Waits);
    assert_eq!(stage.urgencies()[1], Qos::Interactive);
    stage.machine.advance_to(deadline);
    assert_eq!(
        stage.machine.message(stage.first, SystemCall::Receive, &receive),
        Step::Done(Err(Error::TimedOut))
    );
    assert_eq!(stage.urgencies()[1], Qos::Normal, "whoever waited gave up");
}

#[test]
fn urgency_goes_along_with_an_answer_that_is_handed_on() {
    let mut stage = Stage::new();
    stage.machine.set_qos(stage.client, Qos::Interactive);
    let reply = stage.lend(&[]);
    assert_eq!(stage.urgencies(), [Qos::Interactive, Qos::Interactive, Qos::Normal]);
    let (own, handed) = stage.hand_on(reply);
    assert_eq!(stage.urgencies(), [Qos::Interactive, Qos::Normal, Qos::Interactive]);
    assert_eq!(stage.answer(stage.second, handed), Step::Done(Ok(0)));
    assert_eq!(stage.answer(stage.second, own), Step::Done(Ok(0)));
    assert_eq!(stage.urgencies(), [Qos::Interactive, Qos::Normal, Qos::Normal]);
}

#[test]
fn one_badge_minted_twice_is_two_sessions_whose_ends_are_told_apart() {
    let mut stage = Stage::new();
    let rights = Rights::CALL.bits().into();
    let mint = [stage.at_first, 7, rights];
    let badges: Vec<u64> =
        (0..2).map(|_| stage.machine.call(stage.first, SystemCall::EndpointMint, &mint).unwrap()).collect();
    for badge in badges {
        stage.machine.call(stage.first, SystemCall::CapClose, &[badge]).unwrap();
        stage.receive(stage.first, stage.at_first);
        assert_eq!(stage.machine.registers(stage.first).buffers, 7);
    }
}
