//! Ends of many things at once go in short steps, between which interrupts and others come: nothing half ended is found
//! by anybody, and the outcome is that of one go.

use neuron::memory::Id;
use neuron::object::{Endpoint, Process};
use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::limits::FOREVER;
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Error, Handle, Rights, SystemCall};
use std::sync::atomic::Ordering::Relaxed;

/// More than one step ends.
const MANY: usize = 50;
/// At the most so many are ended by one step.
const A_STEP: usize = 8;
const CALL: u64 = Rights::CALL.bits() as u64;
const READ: u64 = Rights::READ.bits() as u64;

/// A machine on which every look finds an interrupt, a supervisor of rank 10 and a client of rank 20 with large tables.
fn stage() -> (Machine, Actor, Actor) {
    let mut machine = Machine::new();
    let [me, client] = [10, 20].map(|rank| {
        let usual = machine.parameters();
        let large = ProcessParameters { rank, capabilities_max: 1_000, quota_pages: 400, ..usual };
        machine.process_with(&large)
    });
    machine.kernel.arch.always_interrupted.store(true, Relaxed);
    (machine, me, client)
}

fn made(machine: &mut Machine, actor: Actor, call: SystemCall, arguments: &[u64]) -> u64 {
    machine.call(actor, call, arguments).unwrap_or_else(|error| panic!("{call:?}: {error}"))
}

fn endpoint_of(machine: &mut Machine, actor: Actor) -> u64 {
    made(machine, actor, SystemCall::EndpointCreate, &[10, 4096, 2])
}

fn to(target: u64) -> Registers {
    Registers { target, deadline: FOREVER, ..Registers::default() }
}

/// So many new threads of a process whose calls wait to be received.
fn waiting_calls(machine: &mut Machine, process: Id<Process>, target: u64, count: usize) -> Vec<Actor> {
    let threads: Vec<Actor> = (0..count).map(|_| machine.thread(process)).collect();
    for &thread in &threads {
        assert_eq!(machine.message(thread, SystemCall::Call, &to(target)), Step::Waits);
    }
    threads
}

fn still_waiting(machine: &mut Machine, threads: &[Actor]) -> usize {
    threads.iter().filter(|&&thread| machine.waits(thread)).count()
}

fn outcomes(machine: &mut Machine, threads: &[Actor]) -> Vec<Result<u64, Error>> {
    threads.iter().map(|&thread| machine.result(thread)).collect()
}

/// Makes a call step by step and has `look` look on after each; yields what it answered.
fn by_steps(
    machine: &mut Machine,
    actor: Actor,
    call: SystemCall,
    arguments: &[u64],
    mut look: impl FnMut(&mut Machine),
) -> Result<u64, Error> {
    let mut step = machine.start_once(actor, call, arguments);
    for _ in 0..10_000 {
        match step {
            Some(Step::Done(answer)) => return answer,
            Some(other) => panic!("{call:?} was to answer: {other:?}"),
            None => {
                look(machine);
                step = machine.resume_once(actor);
            }
        }
    }
    panic!("{call:?} never ends")
}

/// That each step ended some waits, and not too many.
fn ends_few_a_step(threads: &[Actor]) -> impl FnMut(&mut Machine) + use<'_> {
    let mut before = threads.len();
    move |machine| {
        let now = still_waiting(machine, threads);
        assert!(before - now <= A_STEP, "{before} became {now} in one step");
        before = now;
    }
}

/// Many calls wait at an endpoint, and its owner makes a call that ends them: a few a step, with this error; one that comes
/// meanwhile is refused with another.
fn ends_all_that_wait(call: SystemCall, late: Error, ended: Error) {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, me);
    let target = machine.hand(me, endpoint, client, Rights::CALL);
    let threads = waiting_calls(&mut machine, client.process, target, MANY);
    let mut few = ends_few_a_step(&threads);
    let outcome = by_steps(&mut machine, me, call, &[endpoint], |machine| {
        few(machine);
        let meanwhile = machine.message(client, SystemCall::Call, &to(target));
        assert_eq!(meanwhile, Step::Done(Err(late)), "a call that comes meanwhile");
    });
    assert_eq!(outcome, Ok(0));
    assert_eq!(outcomes(&mut machine, &threads), [Err(ended); MANY]);
    machine.audit();
}

#[test]
fn calls_through_a_revoked_capability_fail_a_few_a_step() {
    ends_all_that_wait(SystemCall::CapRevoke, Error::StaleHandle, Error::Revoked);
}

#[test]
fn a_sealed_endpoint_is_emptied_a_few_a_step() {
    ends_all_that_wait(SystemCall::EndpointSeal, Error::Sealed, Error::Sealed);
}

#[test]
fn a_capability_that_was_closed_leaves_its_calls_waiting_and_its_entry_to_others() {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, me);
    let [first, second] = [(); 2].map(|()| machine.hand(me, endpoint, client, Rights::CALL));
    let old = waiting_calls(&mut machine, client.process, first, 3);
    made(&mut machine, client, SystemCall::CapClose, &[first]);
    let reused = machine.hand(me, endpoint, client, Rights::CALL);
    assert_eq!(Handle(reused).index(), Handle(first).index(), "the same entry");
    let new = waiting_calls(&mut machine, client.process, reused, 3);
    made(&mut machine, client, SystemCall::CapClose, &[second]);
    made(&mut machine, me, SystemCall::CapRevoke, &[endpoint]);
    assert_eq!(outcomes(&mut machine, &new), [Err(Error::Revoked); 3]);
    assert_eq!(still_waiting(&mut machine, &old), 3, "what they came through was closed, not revoked");
    let receive = to_receive(&mut machine, me, endpoint);
    assert!(matches!(machine.message(me, SystemCall::Receive, &receive), Step::Done(Ok(_))));
    machine.kill(client.process);
    machine.audit();
}

fn to_receive(machine: &mut Machine, actor: Actor, target: u64) -> Registers {
    let room = Buffers { receive_address: SCRATCH + PAGE, receive_bytes: PAGE, ..Buffers::default() };
    machine.put(actor, SCRATCH, &room);
    Registers { buffers: SCRATCH, ..to(target) }
}

/// With the last capability to an endpoint go the calls that wait there (through capabilities that were closed since)
/// and the ends of badges that nobody received.
#[test]
fn the_last_capability_to_an_endpoint_goes_in_steps() {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, me);
    for badge in 1..=MANY as u64 {
        let badged = made(&mut machine, me, SystemCall::EndpointMint, &[endpoint, badge, CALL]);
        made(&mut machine, me, SystemCall::CapClose, &[badged]);
    }
    let target = machine.hand(me, endpoint, client, Rights::CALL);
    let threads = waiting_calls(&mut machine, client.process, target, MANY);
    made(&mut machine, client, SystemCall::CapClose, &[target]);
    assert_eq!(machine.start_once(me, SystemCall::CapClose, &[endpoint]), Some(Step::Done(Ok(0))));
    let left = still_waiting(&mut machine, &threads);
    assert!((MANY - A_STEP..MANY).contains(&left), "{left} after the first step");
    machine.settle();
    assert_eq!(outcomes(&mut machine, &threads), [Err(Error::PeerGone); MANY]);
    machine.audit();
}

/// The client makes so many copies of a capability, and hands that over to whoever serves it; yields the copies, what it
/// handed over, and the handle that came.
fn hand_over(machine: &mut Machine, client: Actor, server: Actor, count: usize) -> (Vec<u64>, u64, u64) {
    let endpoint = endpoint_of(machine, client);
    let served = machine.hand(client, endpoint, server, Rights::RECEIVE);
    let vmo = made(machine, client, SystemCall::VmoCreate, &[0, PAGE]);
    let copies = (0..count).map(|_| made(machine, client, SystemCall::CapDup, &[vmo, READ])).collect();
    let receive = to_receive(machine, server, served);
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    let mut buffers = Buffers::default();
    buffers.send_capabilities[0] = CapabilityTransfer::moved(Handle(vmo), Rights::READ);
    machine.put(client, SCRATCH, &buffers);
    let call = Registers { header: Header::new(0, 0, 1), buffers: SCRATCH, ..to(endpoint) };
    assert_eq!(machine.message(client, SystemCall::Call, &call), Step::Waits);
    (copies, vmo, machine.get::<Buffers>(server, SCRATCH).received_capabilities[0].0)
}

/// A capability from which much derives is handed over at once; what derives from it follows.
#[test]
fn a_capability_of_many_copies_moves_with_them() {
    let (mut machine, me, client) = stage();
    let before = machine.with(client.process, |process| process.table.used).expect("alive");
    let (copies, vmo, moved) = hand_over(&mut machine, client, me, MANY);
    let other = machine.thread(client.process);
    assert_eq!(machine.call(other, SystemCall::CapDup, &[vmo, READ]), Err(Error::StaleHandle), "it is gone");
    assert_eq!(machine.call(other, SystemCall::CapDup, &[copies[0], READ]).map(drop), Ok(()));
    machine.audit();
    let used = machine.with(client.process, |process| process.table.used).expect("alive");
    assert_eq!(used as usize, before as usize + 1 + MANY + 1, "the endpoint, the copies, and one of a copy");
    made(&mut machine, me, SystemCall::CapRevoke, &[moved]);
    for copy in copies {
        assert_eq!(machine.call(other, SystemCall::CapDup, &[copy, READ]), Err(Error::StaleHandle));
    }
    machine.audit();
}

/// The same, when the sender or the receiver ends, or what moved is revoked, before the copies have followed.
#[test]
fn copies_that_have_not_followed_end_with_whoever_ends() {
    for end in 0..3 {
        let (mut machine, me, client) = stage();
        let (.., moved) = hand_over(&mut machine, client, me, 4 * MANY);
        match end {
            0 => machine.kill(client.process),
            1 => machine.kill(me.process),
            _ => {
                made(&mut machine, me, SystemCall::CapRevoke, &[moved]);
            }
        }
        machine.audit();
    }
}

/// What a revocation has begun is carried to its end, though the process that began it dies in between.
#[test]
fn a_revocation_outlives_its_caller() {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, client);
    let root = machine.hand(client, endpoint, me, Rights::CALL);
    let handed: Vec<u64> = (0..MANY).map(|_| machine.hand(me, root, client, Rights::CALL)).collect();
    assert_eq!(machine.start_once(me, SystemCall::CapRevoke, &[root]), None, "more than a step");
    machine.kill(me.process);
    machine.settle();
    for copy in handed {
        assert_eq!(machine.call(client, SystemCall::CapDup, &[copy, CALL]), Err(Error::StaleHandle));
    }
    machine.audit();
}

/// So is a sealing (found by the fuzzer on the host: seed 9, call 2,660,000).
#[test]
fn a_sealing_outlives_its_caller() {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, me);
    let target = machine.hand(me, endpoint, client, Rights::CALL);
    let threads = waiting_calls(&mut machine, client.process, target, MANY);
    let manager = machine.process_of_rank(15);
    let managed = machine.hand(me, endpoint, manager, Rights::MANAGE);
    assert_eq!(machine.start_once(manager, SystemCall::EndpointSeal, &[managed]), None, "more than a step");
    machine.kill(manager.process);
    machine.settle();
    assert_eq!(outcomes(&mut machine, &threads), [Err(Error::Sealed); MANY]);
    machine.audit();
}

#[test]
fn a_process_that_may_receive_twice_ends_one_generation() {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, client);
    machine.hand(client, endpoint, me, Rights::RECEIVE);
    // More entries in between than one step of the teardown closes.
    for _ in 0..MANY {
        made(&mut machine, me, SystemCall::NotificationCreate, &[]);
    }
    machine.hand(client, endpoint, me, Rights::RECEIVE);
    machine.kill(me.process);
    machine.settle();
    let id = machine.objects_of::<Endpoint>(client.process)[0];
    assert_eq!(machine.with(id, |endpoint| endpoint.generation), Some(2));
}

/// Between the end of a server and its teardown a call is not for its threads, nor is a post: they wait for a successor.
#[test]
fn what_comes_after_a_servers_end_waits_for_its_successor() {
    let (mut machine, me, client) = stage();
    let endpoint = endpoint_of(&mut machine, client);
    let served = machine.hand(client, endpoint, me, Rights::RECEIVE);
    let servers: Vec<Actor> = (0..3 * A_STEP).map(|_| machine.thread(me.process)).collect();
    for &server in &servers {
        let receive = to_receive(&mut machine, server, served);
        assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    }
    machine.kill(me.process);
    let poster = machine.thread(client.process);
    assert_eq!(machine.call(poster, SystemCall::Post, &[endpoint, Header::new(7, 0, 0).0]), Ok(0));
    assert_eq!(machine.message(client, SystemCall::Call, &to(endpoint)), Step::Waits);
    machine.settle();
    assert!(machine.waits(client), "the call was not lost with the server");
    machine.audit();
    let successor = machine.process();
    let served = machine.hand(poster, endpoint, successor, Rights::RECEIVE);
    let receive = to_receive(&mut machine, successor, served);
    let mut arrivals = Vec::new();
    for _ in 0..2 {
        assert!(matches!(machine.message(successor, SystemCall::Receive, &receive), Step::Done(Ok(_))));
        arrivals.push(machine.registers(successor).header.label());
    }
    arrivals.sort_unstable();
    assert_eq!(arrivals, [0, 7], "the call and the post");
}

/// Between the end of a process and the end of its threads another hart may still run one: what is unmapped then was in
/// use there, and pages went to others while it could still write to them.
#[test]
fn a_hart_that_runs_a_thread_of_the_ended_forgets_what_is_unmapped() {
    let mut machine = Machine::with_harts(neuron::testing::FRAMES, 2);
    let [me, client] = [(); 2].map(|()| machine.process());
    let vmo = made(&mut machine, me, SystemCall::VmoCreate, &[0, PAGE]);
    let given = machine.give_process(me, client.process);
    let base = 0x4000_0000;
    made(&mut machine, me, SystemCall::VmoMap, &[given, vmo, base, 0, PAGE, Rights::READ.bits().into()]);
    machine.bytes(client, base, 1);
    let shared = machine.kernel.memory.shared(client.process).expect("alive");
    shared.harts.fetch_or(2, Relaxed);
    machine.kill(client.process);
    machine.kernel.arch.flushed.lock().unwrap().clear();
    made(&mut machine, me, SystemCall::CapRevoke, &[vmo]);
    assert_eq!(machine.kernel.arch.flushed.lock().unwrap().first(), Some(&2), "the other hart is told");
}
