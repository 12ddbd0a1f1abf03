//! Bugs that were found: each test tells the story, and fails on the kernel that had it.
//! Long because there are so many.

use neuron::object::thread::State;
use neuron::sync::{Held, SpinGuard};
use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::capability::Qos;
use nexus_abi::limits::FOREVER;
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::records::{ProcessParameters, RingRecord};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

/// Timers were bounded by nothing but the quota. Armed, they took the places in the deadline heap that
/// threads rely on, and the next wait with a deadline stopped the kernel by an assertion.
#[test]
fn armed_timers_leave_every_thread_its_place_in_the_deadline_heap() {
    let mut machine = Machine::new();
    let parameters =
        ProcessParameters { capabilities_max: 2_048, quota_pages: 1_024, ..machine.parameters() };
    let me = machine.process_with(&parameters);
    let notification = machine.call(me, SystemCall::NotificationCreate, &[]).unwrap();
    while let Ok(timer) = machine.call(me, SystemCall::TimerCreate, &[notification, 1]) {
        machine.call(me, SystemCall::TimerArm, &[timer, FOREVER - 1]).unwrap();
    }
    for _ in 0..100 {
        let thread = machine.thread(me.process);
        machine.start(thread, SystemCall::ThreadSleep, &[FOREVER - 1]);
        assert!(machine.waits(thread));
    }
}

/// A receiver whose quota had no page for its table made the sender's answer, and the receiver's own call,
/// fail with NoMemory, which neither call's entry names.
#[test]
fn a_table_without_a_page_to_grow_is_a_table_without_room() {
    let mut machine = Machine::new();
    let caller = machine.process_of_rank(20);
    let server = machine.process();
    let endpoint = machine.call(server, SystemCall::EndpointCreate, &[10, 64, 1]).unwrap();
    let target = machine.hand(server, endpoint, caller, Rights::CALL);
    for actor in [caller, server] {
        let buffers = Buffers {
            send_capabilities: [CapabilityTransfer::copy(Handle(endpoint), Rights::CALL); 4],
            ..Buffers::default()
        };
        machine.put(actor, SCRATCH, &buffers);
    }
    let call = Registers { target, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
    assert_eq!(machine.message(caller, SystemCall::Call, &call), Step::Waits);
    let receive = Registers { target: endpoint, ..call };
    assert!(matches!(machine.message(server, SystemCall::Receive, &receive), Step::Done(Ok(_))));
    let reply = machine.registers(server).reply;
    // The caller fills its table's page, and then has no page for another.
    let filler = machine.thread(caller.process);
    while machine.call(filler, SystemCall::CapDup, &[target, 0]).unwrap() as u32 != 63 {}
    machine.with(caller.process, |p| (p.table.used_max, p.account.limit) = (1_000, p.account.reserved));
    let answer = Registers { header: Header::new(0, 0, 1), reply, ..receive };
    assert_eq!(machine.message(server, SystemCall::Reply, &answer), Step::Done(Err(Error::NoSlots)));
    assert!(machine.waits(caller), "the call stays open");
}

/// Only one thread of an ended process was ended before the next was chosen, so that the others went on.
#[test]
fn no_thread_of_an_ended_process_runs_again() {
    let mut machine = Machine::new();
    let victim = machine.process();
    let bystander = machine.process();
    for _ in 0..5 {
        let thread = machine.thread(victim.process);
        machine.make_ready(thread);
    }
    machine.make_ready(bystander);
    machine.kill(victim.process);
    assert_eq!(machine.leave(), bystander.thread);
}

/// Memory whose owner died was given back 128 pages a step, and until the last step whoever else held it
/// still reached the frames that were back in the pool.
#[test]
fn memory_that_is_being_reclaimed_shows_no_frame_of_the_pool() {
    let mut machine = Machine::new();
    let parameters = ProcessParameters { quota_pages: 2_100, ..machine.parameters() };
    let owner = machine.process_with(&parameters);
    let other = machine.process();
    let memory = machine.call(owner, SystemCall::VmoCreate, &[0, 2_000 * PAGE]).unwrap();
    let handed = machine.hand(owner, memory, other, Rights::READ | Rights::WRITE);
    machine.put(other, SCRATCH, &0x5ec7_e700u64);
    for page in 0..2_000 {
        machine.call(other, SystemCall::VmoWrite, &[handed, page * PAGE, SCRATCH, 8]).unwrap();
    }
    machine.kill(owner.process);
    let before = machine.kernel.memory.free_count();
    while machine.kernel.memory.free_count() < before + 128 {
        assert!(machine.reclaim_step(), "its pages come back in steps");
    }
    for page in [0, 1_999] {
        let read = [handed, page * PAGE, SCRATCH, 8];
        assert_eq!(machine.call(other, SystemCall::VmoRead, &read), Err(Error::StaleHandle));
    }
    let map = [0, handed, 0x3000_0000, 0, PAGE, Rights::READ.bits().into()];
    assert_eq!(machine.call(other, SystemCall::VmoMap, &map), Err(Error::StaleHandle));
    machine.kill(other.process);
    machine.settle();
}

/// `vmo_create` that found no entry for its capability gave back only the first pages of the promise.
#[test]
fn large_memory_that_finds_no_entry_leaves_no_promise_behind() {
    let mut machine = Machine::new();
    let parameters = ProcessParameters { quota_pages: 600, ..machine.parameters() };
    let me = machine.process_with(&parameters);
    machine.with(me.process, |process| process.table.used_max = process.table.used);
    let reserved = |machine: &mut Machine| machine.status(me.process).map(|status| status.reserved_pages);
    let before = reserved(&mut machine);
    let refused = machine.call(me, SystemCall::VmoCreate, &[0, 300 * PAGE]);
    assert_eq!(refused, Err(Error::NoSlots));
    machine.settle();
    assert_eq!(reserved(&mut machine), before);
}

/// A badged capability named its session by place alone: once the session had gone with who minted it,
/// closing the capability ended whichever session lived there next.
#[test]
fn closing_an_outlived_badge_leaves_a_new_session_alone() {
    let mut machine = Machine::new();
    let owner = machine.process();
    let client = machine.process_of_rank(20);
    let endpoint = machine.call(owner, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let call = u64::from(Rights::CALL.bits());
    let mut outlived = Vec::new();
    for badge in 1..12 {
        let minter = machine.process();
        let plain = machine.hand(owner, endpoint, minter, Rights::MINT | Rights::CALL);
        let badged = machine.call(minter, SystemCall::EndpointMint, &[plain, badge, call]).unwrap();
        outlived.push(machine.hand(minter, badged, client, Rights::CALL));
        machine.call(minter, SystemCall::CapClose, &[badged]).unwrap();
        if badge == 1 {
            machine.kill(minter.process);
            machine.settle();
        }
    }
    machine.call(client, SystemCall::CapClose, &[outlived[0]]).unwrap();
    let receive = Registers { target: endpoint, ..Registers::default() };
    let nothing_came = Step::Done(Err(Error::TimedOut));
    assert_eq!(machine.message(owner, SystemCall::Receive, &receive), nothing_came, "badge 2 is alive");
}

/// Init ended and the machine stood still: everything that init had created was torn down with it.
#[test]
fn the_death_of_init_resets_the_machine_and_says_why() {
    let mut machine = Machine::new();
    let (init, other) = (machine.process(), machine.process());
    machine.make_init(init.process);
    machine.kill(other.process);
    assert_eq!(machine.reset(), None, "only init's death resets");
    machine.start(init, SystemCall::ProcessExit, &[7]);
    assert_eq!(machine.reset(), Some(true));
    assert!(machine.console().contains("nexus-init ended with code 7; the machine is reset"));
}

/// A long copy that an interrupt came between went on with whatever address the buffers then named: one close
/// to the end of all addresses stopped the kernel by an overflow.
#[test]
fn a_copy_goes_on_with_other_buffers_and_finds_a_fault() {
    let mut machine = Machine::new();
    let (server, caller) = (machine.process(), machine.process_of_rank(20));
    let endpoint = machine.call(server, SystemCall::EndpointCreate, &[10, 65_536, 0]).unwrap();
    let target = machine.hand(server, endpoint, caller, Rights::CALL);
    let room = Buffers { receive_address: SCRATCH + PAGE, receive_bytes: 65_536, ..Buffers::default() };
    machine.put(server, SCRATCH, &room);
    let receive = Registers { target: endpoint, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    machine.put(caller, SCRATCH, &Buffers { send_address: SCRATCH + PAGE, ..Buffers::default() });
    machine.kernel.arch.always_interrupted.store(true, Relaxed);
    let call = Registers { target, header: Header::new(0, 65_536, 0), ..receive };
    assert_eq!(machine.message_once(caller, SystemCall::Call, &call), None, "interrupted after a page");
    machine.put(caller, SCRATCH, &Buffers { send_address: u64::MAX - PAGE + 1, ..Buffers::default() });
    assert_eq!(machine.resume_once(caller), Some(Step::Done(Err(Error::Fault))));
    assert!(machine.waits(server));
}

/// A server whose quota had no page for its table waited as if it owed as many answers as it may, and no answer
/// ever ended that: calls were not received any more, and it was not told.
#[test]
fn a_server_whose_table_cannot_grow_is_told_and_waits_for_nothing() {
    let mut machine = Machine::new();
    let parameters = ProcessParameters { capabilities_max: 200, ..machine.parameters() };
    let server = machine.process_with(&parameters);
    let endpoint = machine.call(server, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let mut last = endpoint;
    while last as u32 != 63 {
        last = machine.call(server, SystemCall::CapDup, &[endpoint, 0]).unwrap();
    }
    machine.with(server.process, |process| process.account.limit = process.account.reserved);
    let receive = Registers { target: endpoint, deadline: FOREVER, ..Registers::default() };
    let refused = machine.message(server, SystemCall::Receive, &receive);
    assert_eq!(refused, Step::Done(Err(Error::NoSlots)));
    machine.call(server, SystemCall::CapClose, &[last]).unwrap();
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
}

/// An open call that was free again was left to the thread that had listened longest. When that thread's receive
/// then failed, nobody else was told, and went on without calls while one could have been received.
#[test]
fn an_open_call_that_one_thread_cannot_take_is_another_ones() {
    let mut machine = Machine::new();
    let parameters = ProcessParameters { open_calls_max: 1, ..machine.parameters() };
    let server = machine.process_with(&parameters);
    let client = machine.process_of_rank(20);
    let endpoint = machine.call(server, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let other = machine.call(server, SystemCall::CapDup, &[endpoint, Rights::RECEIVE.bits().into()]).unwrap();
    let target = machine.hand(server, endpoint, client, Rights::CALL);
    let receive = Registers { target: endpoint, deadline: FOREVER, ..Registers::default() };
    assert_eq!(machine.message(client, SystemCall::Call, &Registers { target, ..receive }), Step::Waits);
    assert!(matches!(machine.message(server, SystemCall::Receive, &receive), Step::Done(Ok(_))));
    let reply = machine.registers(server).reply;
    let (first, second) = (machine.thread(server.process), machine.thread(server.process));
    for (listener, target) in [(first, other), (second, endpoint)] {
        let receive = Registers { target, ..receive };
        assert_eq!(machine.message(listener, SystemCall::Receive, &receive), Step::Waits);
    }
    let answer = Registers { reply, ..Registers::default() };
    assert_eq!(machine.message(server, SystemCall::Reply, &answer), Step::Done(Ok(0)));
    machine.call(server, SystemCall::CapClose, &[other]).unwrap();
    machine.repeat_calls();
    assert_eq!(machine.result(first), Err(Error::StaleHandle));
    assert!(matches!(machine.state(second), Some(State::Receiving(_))));
}

/// A process that found no entry for its capability was ended like any other, and its supervisor heard of the
/// death of somebody whom it never got.
#[test]
fn a_process_that_was_never_created_tells_nobody_of_its_death() {
    let mut machine = Machine::new();
    let me = machine.process();
    let authority = machine.give_root(me, Kind::ProcessAuthority);
    let deaths = machine.call(me, SystemCall::NotificationCreate, &[]).unwrap();
    let wanted = ProcessParameters {
        quota_pages: 16,
        supervisor: Handle(deaths),
        death_bits: 4,
        ..machine.parameters()
    };
    machine.put(me, SCRATCH, &wanted);
    machine.with(me.process, |process| process.table.used_max = process.table.used);
    let before = machine.counts();
    let create = [authority, SCRATCH];
    assert_eq!(machine.call(me, SystemCall::ProcessCreate, &create), Err(Error::NoSlots));
    machine.settle();
    assert_eq!(machine.call(me, SystemCall::NotificationPoll, &[deaths, 4]), Err(Error::WouldBlock));
    assert_eq!(machine.counts().processes, before.processes);
    machine.with(me.process, |process| process.table.used_max += 1);
    let child = machine.call(me, SystemCall::ProcessCreate, &create).unwrap();
    machine.call(me, SystemCall::ProcessKill, &[child, 0]).unwrap();
    machine.settle();
    assert_eq!(machine.call(me, SystemCall::NotificationPoll, &[deaths, 4]), Ok(4), "one that was, does");
}

/// A capability to a notification that had gone with who created it was taken for binding and as supervisor;
/// whoever waited for the interrupt, the record or the death waited for ever.
#[test]
fn test_reject_binding_to_a_notification_that_is_gone() {
    let mut machine = Machine::new();
    let me = machine.process();
    let creator = machine.process();
    let created = machine.call(creator, SystemCall::NotificationCreate, &[]).unwrap();
    let gone = machine.hand(creator, created, me, Rights::SIGNAL);
    machine.kill(creator.process);
    machine.settle();
    let devices = machine.give_root(me, Kind::DeviceAuthority);
    let authority = machine.give_root(me, Kind::ProcessAuthority);
    let control = machine.give_root(me, Kind::SystemControl);
    let irq = machine.call(me, SystemCall::IrqCapCreate, &[devices, 5]).unwrap();
    let wanted = ProcessParameters {
        quota_pages: 16,
        supervisor: Handle(gone),
        death_bits: 1,
        ..machine.parameters()
    };
    machine.put(me, SCRATCH, &wanted);
    let bindings: [(SystemCall, &[u64]); 5] = [
        (SystemCall::NotificationSignal, &[gone, 1]),
        (SystemCall::IrqBind, &[irq, gone, 1]),
        (SystemCall::TimerCreate, &[gone, 1]),
        (SystemCall::RingBind, &[control, gone, 1]),
        (SystemCall::ProcessCreate, &[authority, SCRATCH]),
    ];
    for (call, arguments) in bindings {
        assert_eq!(machine.call(me, call, arguments), Err(Error::StaleHandle), "{call:?}");
    }
}

/// Memory of 300 pages at [`WIDE`], every page touched, with a neighbour that needs the same page table, and
/// two threads that may change it.
fn wide_mapping(machine: &mut Machine) -> (Actor, Actor) {
    let parameters = ProcessParameters { quota_pages: 600, ..machine.parameters() };
    let one = machine.process_with(&parameters);
    let memory = machine.call(one, SystemCall::VmoCreate, &[0, WIDE_PAGES * PAGE]).unwrap();
    machine.call(one, SystemCall::VmoMap, &[0, memory, WIDE, 0, WIDE_PAGES * PAGE, READ | WRITE]).unwrap();
    let neighbour = [0, memory, WIDE + 400 * PAGE, 0, PAGE, READ];
    machine.call(one, SystemCall::VmoMap, &neighbour).unwrap();
    for page in 0..WIDE_PAGES {
        machine.put(one, WIDE + page * PAGE, &page);
    }
    (one, machine.thread(one.process))
}

const WIDE: u64 = 0x3000_0000;
const WIDE_PAGES: u64 = 300;
const READ: u64 = Rights::READ.bits() as u64;
const WRITE: u64 = Rights::WRITE.bits() as u64;

/// Two threads that changed the protection of one mapping shared its progress: pages that came back between
/// the steps of the first kept the protection that the second had taken away.
#[test]
fn the_last_change_of_a_protection_holds_for_every_page() {
    let mut machine = Machine::new();
    let (first, second) = wide_mapping(&mut machine);
    machine.call(first, SystemCall::VmoProtect, &[0, WIDE, READ]).unwrap();
    let begun = machine.start_once(first, SystemCall::VmoProtect, &[0, WIDE, READ | WRITE]);
    assert_eq!(begun, None, "it takes several steps");
    machine.put(first, WIDE, &1u64);
    machine.call(second, SystemCall::VmoProtect, &[0, WIDE, READ]).unwrap();
    for page in 0..WIDE_PAGES {
        let write =
            machine.kernel.write_user(&mut Held::at_entry().above(), first.process, WIDE + page * PAGE, &[1]);
        assert_eq!(write, Err(Error::Fault), "page {page} is writable");
    }
}

/// Unmapping went on where a change of protection had got to: pages that had come back behind it stayed in
/// the page table after the mapping, and then the memory, were gone.
#[test]
fn unmapping_in_the_middle_of_a_change_of_protection_leaves_no_page_behind() {
    let mut machine = Machine::new();
    let (first, second) = wide_mapping(&mut machine);
    assert_eq!(machine.start_once(first, SystemCall::VmoProtect, &[0, WIDE, READ]), None);
    assert_eq!(machine.get::<u64>(first, WIDE), 0, "the page comes back");
    machine.call(second, SystemCall::VmoUnmap, &[0, WIDE]).unwrap();
    let table = machine.kernel.memory.shared(first.process).unwrap().page_table();
    for page in 0..WIDE_PAGES {
        assert_eq!(table.walk(&machine.kernel.memory, WIDE + page * PAGE), None, "page {page} is mapped");
    }
    assert_eq!(machine.resume(first), Step::Done(Err(Error::InvalidArgument)), "the mapping is gone");
}

/// Memory that a device might still write was lost with the process that owned its window, but the promise for
/// it stayed with whoever had created that process, whose own end then stopped the kernel.
#[test]
fn what_a_child_lost_to_a_device_is_lost_to_its_parent_too() {
    let mut machine = Machine::new();
    let before = machine.counts();
    let parent = machine.process();
    let authority = machine.give_root(parent, Kind::ProcessAuthority);
    let parameters = ProcessParameters { quota_pages: 64, ..machine.parameters() };
    machine.put(parent, SCRATCH, &parameters);
    let child = machine.call(parent, SystemCall::ProcessCreate, &[authority, SCRATCH]).unwrap();
    let newest = *machine.processes().last().unwrap();
    let actor = machine.thread(newest);
    let devices = machine.give_root(actor, Kind::DeviceAuthority);
    let window = [devices, 0x1000_0000, PAGE, 8];
    let window = machine.call(actor, SystemCall::DeviceCapCreate, &window).unwrap();
    machine.call(actor, SystemCall::DmaCreate, &[window, 4 * PAGE]).unwrap();
    machine.call(parent, SystemCall::ProcessKill, &[child, 0]).unwrap();
    machine.call(parent, SystemCall::CapClose, &[child]).unwrap();
    machine.settle();
    machine.audit();
    machine.kill(parent.process);
    machine.settle();
    machine.audit();
    assert_eq!(machine.counts().with_the_lost(), before);
}

/// A slot of a slab frame that never became empty was used again after its last generation, and the addition
/// stopped the kernel: one process could do that with nothing but posts.
#[test]
fn a_slot_whose_generations_are_used_up_is_left_alone() {
    let mut machine = Machine::new();
    let memory = &machine.kernel.memory;
    (0..memory.frame_count()).for_each(|frame| memory.info(frame).generation.store(u32::MAX - 4, Relaxed));
    let me = machine.process();
    let endpoint = machine.call(me, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let (post, receive) = (
        Registers { target: endpoint, ..Registers::default() },
        Registers { target: endpoint, deadline: FOREVER, ..Registers::default() },
    );
    let mut refused = 0;
    assert_eq!(machine.message(me, SystemCall::Post, &post), Step::Done(Ok(0)));
    for _ in 0..100 {
        match machine.message(me, SystemCall::Post, &post) {
            Step::Done(Ok(_)) => drop(machine.message(me, SystemCall::Receive, &receive)),
            other => {
                assert_eq!(other, Step::Done(Err(Error::NoMemory)));
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

/// A thread that computed alone, or yielded to nobody, was never interrupted, so whatever ended meanwhile was never
/// reclaimed and its supervisor never told.
#[test]
fn what_ended_is_reclaimed_beside_a_thread_that_never_waits() {
    let mut machine = Machine::new();
    let (busy, other) = (machine.process(), machine.process());
    let supervisor = machine.process();
    let before = machine.counts().processes;
    machine.make_ready(busy);
    assert_eq!(machine.leave(), busy.thread);
    machine.kill(other.process);
    for _ in 0..200 {
        machine.end_of_turn();
        assert_eq!(machine.leave(), busy.thread);
    }
    assert_eq!(machine.counts().processes, before - 1);
    machine.kill(supervisor.process);
    for _ in 0..200 {
        machine.start(busy, SystemCall::ThreadYield, &[]);
        machine.make_ready(busy);
        machine.leave();
    }
    assert_eq!(machine.counts().processes, before - 2);
}

/// A guard gives out references to what it guards. It was `Sync` wherever the lock is, which only asks that the value
/// may move to another hart: two of them could then change a `Cell` at once. This does not compile if it is again.
#[test]
fn test_reject_sharing_the_guard_of_what_cannot_be_shared() {
    trait IsNotSync<Because> {
        fn holds() -> bool {
            true
        }
    }
    struct ItIs;
    impl<T> IsNotSync<()> for T {}
    impl<T: Sync> IsNotSync<ItIs> for T {}
    assert!(<SpinGuard<'_, Cell<u32>> as IsNotSync<_>>::holds());
}

/// A successor received what had waited through the sessions of its predecessor, with badges that it may have given
/// to somebody else: a call, a post, and the news that a badge had ended.
#[test]
fn nothing_of_a_session_reaches_the_next_generation() {
    let mut machine = Machine::new();
    let owner = machine.process_of_rank(20);
    let client = machine.process_of_rank(30);
    let endpoint = machine.call(owner, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let both = Rights::CALL | Rights::POST;
    let badged = |machine: &mut Machine| {
        let minted =
            machine.call(owner, SystemCall::EndpointMint, &[endpoint, 7, both.bits().into()]).unwrap();
        let handle = machine.hand(owner, minted, client, both);
        machine.call(owner, SystemCall::CapClose, &[minted]).unwrap();
        handle
    };
    let (calls, ends, ends_late) = (badged(&mut machine), badged(&mut machine), badged(&mut machine));
    let plain = machine.hand(owner, endpoint, client, both);
    let first = machine.process();
    machine.hand(owner, endpoint, first, Rights::RECEIVE);
    let waiting = machine.thread(client.process);
    for (actor, target) in [(client, calls), (waiting, plain)] {
        let call = Registers { target, deadline: FOREVER, ..Registers::default() };
        assert_eq!(machine.message(actor, SystemCall::Call, &call), Step::Waits);
    }
    let other = machine.thread(client.process);
    for target in [calls, ends] {
        let post = Registers { target, ..Registers::default() };
        assert_eq!(machine.message(other, SystemCall::Post, &post), Step::Done(Ok(0)));
    }
    machine.call(other, SystemCall::CapClose, &[ends]).unwrap();
    machine.kill(first.process);
    machine.settle();

    let second = machine.process();
    let served = machine.hand(owner, endpoint, second, Rights::RECEIVE);
    let receive = Registers { target: served, deadline: FOREVER, ..Registers::default() };
    assert!(matches!(machine.message(second, SystemCall::Receive, &receive), Step::Done(Ok(_))));
    let received = machine.registers(second);
    assert!(!received.reply.is_none() && received.buffers == 0, "the plain call, and nothing before it");
    assert_eq!(machine.result(client), Err(Error::PeerGone), "the badged call");
    assert_eq!(machine.message(second, SystemCall::Receive, &receive), Step::Waits);
    machine.call(other, SystemCall::CapClose, &[ends_late]).unwrap();
    assert!(machine.waits(second), "nor an end that comes late");
    machine.audit();
}

/// An answer was handed on whose caller had given up and called somebody else: that call's urgency went to who came
/// to hold the old answer, instead of who worked for it.
#[test]
fn who_holds_an_answer_that_nobody_waits_for_is_lent_nothing() {
    let mut machine = Machine::new();
    let client = machine.process_of_rank(30);
    let [first, second, worker] = [20, 10, 10].map(|rank| machine.process_of_rank(rank));
    let mut served = |server: Actor, from: Actor, rank| {
        let endpoint = machine.call(server, SystemCall::EndpointCreate, &[rank, 64, 1]).unwrap();
        machine.put(server, SCRATCH, &Buffers::default());
        (endpoint, machine.hand(server, endpoint, from, Rights::CALL))
    };
    let (at_first, to_first) = served(first, client, 20);
    let (at_second, to_second) = served(second, first, 10);
    let (at_worker, to_worker) = served(worker, client, 10);
    let call = |machine: &mut Machine, actor, target, header, deadline| {
        let message = Registers { target, header, buffers: SCRATCH, deadline, ..Registers::default() };
        assert_eq!(machine.message(actor, SystemCall::Call, &message), Step::Waits);
    };
    let receive = |machine: &mut Machine, actor, target| {
        let message = Registers { target, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
        assert!(matches!(machine.message(actor, SystemCall::Receive, &message), Step::Done(Ok(_))));
        machine.registers(actor).reply
    };
    let deadline = machine.now() + 1_000;
    call(&mut machine, client, to_first, Header::default(), deadline);
    let reply = receive(&mut machine, first, at_first);
    machine.advance_to(deadline);
    machine.set_qos(client, Qos::PerfBurst);
    call(&mut machine, client, to_worker, Header::default(), FOREVER);
    receive(&mut machine, worker, at_worker);

    let send_capabilities = [CapabilityTransfer::moved(reply, Rights::empty()); 4];
    machine.put(first, SCRATCH, &Buffers { send_capabilities, ..Buffers::default() });
    call(&mut machine, first, to_second, Header::new(0, 0, 1), FOREVER);
    receive(&mut machine, second, at_second);
    assert_eq!(machine.urgency(second), Some(Qos::Normal), "nobody waits for that answer");
    assert_eq!(machine.urgency(worker), Some(Qos::PerfBurst));
}

/// The reader of the kernel's ring took what its first read yielded for all that the kernel had printed. With an
/// interrupt waiting that was a part, and the rest was shown twice.
#[test]
fn the_reader_of_the_ring_is_told_what_was_printed_however_many_reads_it_takes() {
    let mut machine = Machine::new();
    let reader = machine.process();
    let control = machine.give_root(reader, Kind::SystemControl);
    let bell = machine.call(reader, SystemCall::NotificationCreate, &[]).unwrap();
    let write = |machine: &mut Machine, text: &str| {
        machine.put(reader, SCRATCH, text.as_bytes());
        machine.call(reader, SystemCall::RingWrite, &[control, 2, SCRATCH, text.len() as u64]).unwrap();
    };
    write(&mut machine, "early one");
    write(&mut machine, "early two");
    let printed = machine.call(reader, SystemCall::RingBind, &[control, bell, 1]).unwrap();
    write(&mut machine, "late one");
    let head: usize = size_of::<RingRecord>();
    let mut sequences = Vec::new();
    // Room for one record a read, as if an interrupt came after each.
    while machine
        .call(reader, SystemCall::RingRead, &[control, sequences.last().copied().unwrap_or(0), SCRATCH, 48])
        .is_ok()
    {
        let record: RingRecord = machine.get(reader, SCRATCH);
        assert!(head + record.text_bytes as usize <= 48);
        sequences.push(record.sequence);
    }
    assert_eq!(sequences.iter().filter(|&&sequence| sequence <= printed).count() + 1, sequences.len());
    write(&mut machine, "late two");
    machine.kill(reader.process);
    machine.settle();
    let console = machine.console();
    for (text, times) in [("early one", 1), ("early two", 1), ("late one", 0), ("late two", 1)] {
        assert_eq!(console.matches(text).count(), times, "{text} in {console}");
    }
}

/// A server that waits for calls, how it receives, and a client with its capability to call.
fn with_a_server_that_waits() -> (Machine, Actor, Actor, Registers, u64) {
    let mut machine = Machine::new();
    let server = machine.process();
    let client = machine.process_of_rank(30);
    let endpoint = machine.call(server, SystemCall::EndpointCreate, &[10, 64, 0]).unwrap();
    let target = machine.hand(server, endpoint, client, Rights::CALL);
    let receive = Registers { target: endpoint, deadline: FOREVER, ..Registers::default() };
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    (machine, server, client, receive, target)
}

/// Two threads of a server had one Reply; the second looked at its entry while the first answered and the entry became
/// another call's, and so could answer that. The fast way is only for whoever received the call.
#[test]
fn an_answer_that_another_thread_received_goes_the_long_way() {
    for is_own in [true, false] {
        let (mut machine, server, client, receive, target) = with_a_server_that_waits();
        let call = Registers { target, deadline: FOREVER, ..Registers::default() };
        assert_eq!(machine.message(client, SystemCall::Call, &call), Step::Waits);
        let answer = Registers { reply: machine.registers(server).reply, ..receive };
        let answers = if is_own { server } else { machine.thread(server.process) };
        let before = machine.fast_messages();
        assert_eq!(machine.message(answers, SystemCall::ReplyReceive, &answer), Step::Waits);
        assert_eq!(machine.result(client), Ok(0));
        assert_eq!(machine.fast_messages() - before, u64::from(is_own));
    }
}

/// An answer to a caller that had given up went the fast way as far as the look whether that call is open, and made it
/// so: later the same answer would have been taken for one to whatever that thread waited for.
#[test]
fn an_answer_that_comes_too_late_opens_nothing() {
    let (mut machine, server, client, receive, target) = with_a_server_that_waits();
    let deadline = machine.now() + 1_000;
    let call = Registers { target, deadline, ..Registers::default() };
    assert_eq!(machine.message(client, SystemCall::Call, &call), Step::Waits);
    machine.advance_to(deadline);
    assert_eq!(machine.result(client), Err(Error::TimedOut));
    let answer = Registers { reply: machine.registers(server).reply, ..receive };
    assert_eq!(machine.message(server, SystemCall::ReplyReceive, &answer), Step::Done(Err(Error::PeerGone)));
    machine.audit();
}

/// A call, and its answer by a server that then waits until a deadline; yields how that went, and how many messages of it
/// went the fast way.
fn answered_by(
    machine: &mut Machine,
    (server, client): (Actor, Actor),
    receive: &Registers,
    target: u64,
    deadline: u64,
) -> (Step, u64) {
    let call = Registers { target, deadline: FOREVER, ..Registers::default() };
    assert_eq!(machine.message(client, SystemCall::Call, &call), Step::Waits);
    let answer =
        Registers { target: receive.target, reply: machine.registers(server).reply, deadline, ..call };
    let before = machine.fast_messages();
    let step = machine.message(server, SystemCall::ReplyReceive, &answer);
    assert_eq!(machine.result(client), Ok(0));
    (step, machine.fast_messages() - before)
}

/// A server that gives signs of life waits with a deadline: its answer goes the fast way once the timer knows of it, its
/// wait ends when it is over, and one that is over already does not begin.
#[test]
fn an_answer_of_a_server_that_waits_with_a_deadline_goes_the_fast_way() {
    let (mut machine, server, client, receive, target) = with_a_server_that_waits();
    let (early, late) = (machine.now() + 1_000, machine.now() + 2_000);
    let answered_by =
        |machine: &mut Machine, deadline| answered_by(machine, (server, client), &receive, target, deadline);
    assert_eq!(answered_by(&mut machine, early), (Step::Waits, 0), "the timer is told");
    assert_eq!(answered_by(&mut machine, late), (Step::Waits, 1), "it comes up early enough");
    machine.advance_to(early);
    assert!(matches!(machine.state(server), Some(State::Receiving(_))), "that was the wait before");
    machine.advance_to(late);
    assert_eq!(machine.result(server), Err(Error::TimedOut));
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    assert_eq!(answered_by(&mut machine, early), (Step::Done(Err(Error::TimedOut)), 0), "it is over already");
    machine.audit();
}
