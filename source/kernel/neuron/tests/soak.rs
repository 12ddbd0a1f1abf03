//! Many rounds of everything that comes and goes: every count must be what it was.

use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::limits::FOREVER;
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::records::{ProcessParameters, STATE_ALIVE};
use nexus_abi::{Handle, Kind, Rights, SystemCall};

/// Rounds of spawning and killing.
const SPAWNS: u32 = 10_000;
/// Calls that each hand a capability over and get it back.
const CALLS: u32 = 1_000_000;
const PROGRAM: u64 = 0x40_0000;
const READ_WRITE: u64 = Rights::READ.union(Rights::WRITE).bits() as u64;

/// Makes a process as init does: memory filled and mapped, a capability handed over, a thread; then kills it.
fn spawn_and_kill(machine: &mut Machine, me: Actor, authority: u64, round: u32) {
    let make = |machine: &mut Machine, call, arguments: &[u64]| {
        machine.call(me, call, arguments).unwrap_or_else(|error| panic!("round {round}: {call:?}: {error}"))
    };
    let parameters = ProcessParameters {
        service_id: 1_000_000 + u64::from(round % 7),
        quota_pages: 48,
        rank: 20,
        capabilities_max: 8,
        open_calls_max: 1,
        qos_max: 1,
        ..ProcessParameters::default()
    };
    machine.put(me, SCRATCH, &parameters);
    let child = make(machine, SystemCall::ProcessCreate, &[authority, SCRATCH]);
    let memory = make(machine, SystemCall::VmoCreate, &[child, 4 * PAGE]);
    make(machine, SystemCall::VmoWrite, &[memory, PAGE, SCRATCH, 2 * PAGE]);
    make(machine, SystemCall::VmoMap, &[child, memory, PROGRAM, 0, 4 * PAGE, READ_WRITE]);
    let notification = make(machine, SystemCall::NotificationCreate, &[]);
    make(machine, SystemCall::CapTransferTo, &[child, notification, Rights::SIGNAL.bits().into()]);
    let thread = make(machine, SystemCall::ThreadCreate, &[child, PROGRAM, PROGRAM + PAGE, 0, 1]);
    for handle in [memory, notification, thread] {
        make(machine, SystemCall::CapClose, &[handle]);
    }
    make(machine, SystemCall::ProcessKill, &[child, 0]);
    machine.settle();
    make(machine, SystemCall::CapClose, &[child]);
}

#[test]
fn ten_thousand_spawns_and_kills_leave_every_count_as_it_was() {
    let mut machine = Machine::new();
    let me = machine.process();
    let authority = machine.give_root(me, Kind::ProcessAuthority);
    // The first rounds fill slabs and tables up to their size.
    (0..16).for_each(|round| spawn_and_kill(&mut machine, me, authority, round));
    let before = (
        machine.counts(),
        machine
            .status(me.process)
            .map(|status| (status.reserved_pages, status.populated_pages, status.capabilities)),
    );
    (0..SPAWNS).for_each(|round| spawn_and_kill(&mut machine, me, authority, round));
    let after = (
        machine.counts(),
        machine
            .status(me.process)
            .map(|status| (status.reserved_pages, status.populated_pages, status.capabilities)),
    );
    assert_eq!(after, before);
    assert!(machine.status(me.process).is_some_and(|status| status.state == STATE_ALIVE));
}

/// Sends a capability along with a call and gets it back with the answer: moved both ways on even rounds,
/// copied and closed on odd ones.
fn pass_and_return(machine: &mut Machine, sides: &Sides, vmo: u64, round: u32) -> u64 {
    let Sides { client, server, target, served } = *sides;
    let moves = round.is_multiple_of(2);
    let carry = |handle: u64| match moves {
        true => CapabilityTransfer::moved(Handle(handle), Rights::READ),
        false => CapabilityTransfer::copy(Handle(handle), Rights::READ),
    };
    let buffers = |handle| {
        let mut buffers =
            Buffers { receive_address: SCRATCH + PAGE, receive_bytes: 64, ..Buffers::default() };
        buffers.send_capabilities[0] = carry(handle);
        buffers
    };
    let received =
        |machine: &mut Machine, actor| machine.get::<Buffers>(actor, SCRATCH).received_capabilities[0].0;
    machine.put(
        server,
        SCRATCH,
        &Buffers { receive_address: SCRATCH + PAGE, receive_bytes: 64, ..Buffers::default() },
    );
    let receive = Registers { target: served, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    machine.put(client, SCRATCH, &buffers(vmo));
    let call = Registers { target, header: Header::new(1, 0, 1), ..receive };
    assert_eq!(machine.message(client, SystemCall::Call, &call), Step::Waits);
    let came = received(machine, server);
    let reply = machine.registers(server).reply;
    machine.put(server, SCRATCH, &buffers(came));
    let answer = Registers { header: Header::new(0, 0, 1), reply, ..receive };
    assert_eq!(machine.message(server, SystemCall::Reply, &answer), Step::Done(Ok(0)));
    let back = received(machine, client);
    if moves {
        return back;
    }
    machine.call(server, SystemCall::CapClose, &[came]).expect("the copy it got");
    machine.call(client, SystemCall::CapClose, &[back]).expect("the copy it got");
    vmo
}

struct Sides {
    client: Actor,
    server: Actor,
    target: u64,
    served: u64,
}

#[test]
fn calls_that_carry_capabilities_leave_every_count_as_it_was() {
    let mut machine = Machine::new();
    let (client, server) = (machine.process_of_rank(20), machine.process());
    let served = machine.call(server, SystemCall::EndpointCreate, &[10, 64, 1]).expect("a quota");
    let target = machine.hand(server, served, client, Rights::CALL);
    let sides = Sides { client, server, target, served };
    let mut vmo = machine.call(client, SystemCall::VmoCreate, &[0, PAGE]).expect("a quota");
    let counts = |machine: &mut Machine| {
        let used = |machine: &mut Machine, of: Actor| {
            machine.status(of.process).map(|s| (s.reserved_pages, s.populated_pages, s.capabilities))
        };
        (machine.counts(), used(machine, client), used(machine, server))
    };
    (0..4).for_each(|round| vmo = pass_and_return(&mut machine, &sides, vmo, round));
    let before = counts(&mut machine);
    (0..CALLS).for_each(|round| vmo = pass_and_return(&mut machine, &sides, vmo, round));
    assert_eq!(counts(&mut machine), before);
}
