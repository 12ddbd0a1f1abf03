//! Long work lets interrupts in and goes on: with one pending at every look, each step ends early, and the
//! outcome is the same.

use neuron::testing::{Actor, Machine, PAGE, SCRATCH, Step};
use nexus_abi::limits::{FOREVER, TRANSFER_BYTES_MAX};
use nexus_abi::message::{Buffers, Header, Registers};
use nexus_abi::records::{CapabilityInfo, ProcessParameters, RingRecord};
use nexus_abi::{Error, Kind, Rights, SystemCall};
use std::sync::atomic::Ordering::Relaxed;

const BYTES: u64 = TRANSFER_BYTES_MAX as u64;
const PAGES: u64 = BYTES / PAGE;

fn interrupted() -> (Machine, Actor) {
    let mut machine = Machine::new();
    let me = machine.process();
    machine.kernel.arch.always_interrupted.store(true, Relaxed);
    (machine, me)
}

/// Makes a call step by step; yields how many it took, and what it answered.
fn steps(
    machine: &mut Machine,
    actor: Actor,
    call: SystemCall,
    arguments: &[u64],
) -> (u64, Result<u64, Error>) {
    let mut step = machine.start_once(actor, call, arguments);
    for number in 1..10_000 {
        match step {
            Some(Step::Done(answer)) => return (number, answer),
            Some(other) => panic!("{call:?} was to answer: {other:?}"),
            None => step = machine.resume_once(actor),
        }
    }
    panic!("{call:?} never ends")
}

#[test]
fn a_copy_of_64_kib_ends_with_an_interrupt_before_each_page() {
    let (mut machine, me) = interrupted();
    let vmo = machine.call(me, SystemCall::VmoCreate, &[0, BYTES]).expect("a quota");
    let pattern: Vec<u8> = (0..BYTES).map(|place| (place * 7 / 8) as u8).collect();
    machine.put(me, SCRATCH, &pattern[..]);
    let write = steps(&mut machine, me, SystemCall::VmoWrite, &[vmo, 0, SCRATCH, BYTES]);
    assert_eq!(write, (PAGES, Ok(0)), "one page a step");
    machine.put(me, SCRATCH, &vec![0u8; BYTES as usize][..]);
    let read = steps(&mut machine, me, SystemCall::VmoRead, &[vmo, 0, SCRATCH, BYTES]);
    assert_eq!(read, (PAGES, Ok(0)));
    assert_eq!(machine.bytes(me, SCRATCH, BYTES as usize), pattern);
}

#[test]
fn a_copy_that_meets_the_end_of_shrunk_memory_says_so() {
    let (mut machine, me) = interrupted();
    let vmo = machine.call(me, SystemCall::VmoCreate, &[0, BYTES]).expect("a quota");
    assert_eq!(machine.start_once(me, SystemCall::VmoRead, &[vmo, 0, SCRATCH, BYTES]), None);
    let other = machine.thread(me.process);
    machine.call(other, SystemCall::VmoResize, &[vmo, 2 * PAGE]).expect("nothing is mapped");
    assert_eq!(machine.resume(me), Step::Done(Err(Error::OutOfRange)));
}

#[test]
fn reading_the_ring_answers_what_there_is_when_an_interrupt_comes() {
    let (mut machine, me) = interrupted();
    let control = machine.give_root(me, Kind::SystemControl);
    for _ in 0..12 {
        machine.call(me, SystemCall::RingWrite, &[control, 2, SCRATCH, 1_000]).expect("LOG");
    }
    let (mut after, mut records, mut reads) = (0, 0, 0);
    while let (1, Ok(bytes)) =
        steps(&mut machine, me, SystemCall::RingRead, &[control, after, SCRATCH, BYTES])
    {
        assert!(bytes <= PAGE, "{bytes} bytes in one go");
        let mut place = 0;
        while place < bytes {
            let record: RingRecord = machine.get(me, SCRATCH + place);
            assert_eq!(record.sequence, after + 1, "none is skipped");
            after = record.sequence;
            place += (size_of::<RingRecord>() as u64 + u64::from(record.text_bytes)).next_multiple_of(8);
            records += 1;
        }
        reads += 1;
    }
    assert!(records >= 12 && reads >= 3, "{records} records in {reads} reads");
}

#[test]
fn memory_shrinks_step_by_step_and_is_never_larger_again() {
    let (mut machine, _) = interrupted();
    let parameters = ProcessParameters { quota_pages: 2_000, ..machine.parameters() };
    let me = machine.process_with(&parameters);
    let vmo = machine.call(me, SystemCall::VmoCreate, &[0, 1_200 * PAGE]).expect("a quota");
    let query = |machine: &mut Machine, actor| {
        machine.call(actor, SystemCall::CapQuery, &[vmo, SCRATCH]).expect("alive");
        machine.get::<CapabilityInfo>(actor, SCRATCH).bytes
    };
    let other = machine.thread(me.process);
    let mut size = query(&mut machine, other);
    let mut step = machine.start_once(me, SystemCall::VmoResize, &[vmo, 3 * PAGE]);
    let mut steps = 1;
    while step.is_none() {
        let now = query(&mut machine, other);
        assert!(now < size);
        size = now;
        step = machine.resume_once(me);
        steps += 1;
    }
    assert_eq!((step, query(&mut machine, other)), (Some(Step::Done(Ok(0))), 3 * PAGE));
    assert!(steps > 5, "{steps} steps");
}

/// Every holder is found by going on from the last, over long tables and processes that hold nothing.
#[test]
fn holders_are_told_one_after_the_other() {
    let (mut machine, _) = interrupted();
    let parameters = ProcessParameters { capabilities_max: 1_000, ..machine.parameters() };
    let asker = machine.process_with(&parameters);
    let control = machine.give_root(asker, Kind::SystemControl);
    let vmo = machine.call(asker, SystemCall::VmoCreate, &[0, PAGE]).expect("a quota");
    let number =
        |machine: &mut Machine, actor: Actor| machine.status(actor.process).expect("alive").process_id;
    // Far behind in the asker's own table stands a copy.
    let fillers: Vec<u64> =
        (0..400).map(|_| machine.call(asker, SystemCall::NotificationCreate, &[]).expect("room")).collect();
    let copy = machine.call(asker, SystemCall::CapDup, &[vmo, 0]).expect("room");
    assert!(fillers.len() as u64 > 64, "more than a step looks at");
    let _nothing = machine.process();
    let other = machine.process();
    let handed = machine.hand(asker, vmo, other, Rights::READ);
    let of = number(&mut machine, asker);
    let mut found = Vec::new();
    let (mut holder, mut first) = (0, 0);
    loop {
        match machine.call(asker, SystemCall::CapHolders, &[control, of, copy, holder, first, SCRATCH]) {
            Ok(number) => {
                let info: CapabilityInfo = machine.get(asker, SCRATCH);
                found.push((number, info.handle.0));
                (holder, first) = (number, u64::from(info.handle.index()) + 1);
            }
            Err(error) => {
                assert_eq!(error, Error::WouldBlock);
                break;
            }
        }
    }
    assert_eq!(found, [(of, vmo), (of, copy), (number(&mut machine, other), handed)]);
}

/// A server that waits, and who may call it: each with 64 KiB of a byte of its own to send.
fn server_and_callers(machine: &mut Machine) -> (Actor, [(Actor, u64); 2]) {
    let server = machine.process();
    let endpoint = machine.call(server, SystemCall::EndpointCreate, &[10, 65_536, 0]).unwrap();
    let room = Buffers { receive_address: SCRATCH + PAGE, receive_bytes: 65_536, ..Buffers::default() };
    machine.put(server, SCRATCH, &room);
    let receive = Registers { target: endpoint, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() };
    let callers = [1u8, 2].map(|byte| {
        let caller = machine.process_of_rank(20);
        machine.put(caller, SCRATCH, &Buffers { send_address: SCRATCH + PAGE, ..Buffers::default() });
        machine.put(caller, SCRATCH + PAGE, [byte; 65_536].as_slice());
        (caller, machine.hand(server, endpoint, caller, Rights::CALL))
    });
    assert_eq!(machine.message(server, SystemCall::Receive, &receive), Step::Waits);
    (server, callers)
}

fn long_call(target: u64, bytes: u32) -> Registers {
    let header = Header::new(0, bytes, 0);
    Registers { target, header, buffers: SCRATCH, deadline: FOREVER, ..Registers::default() }
}

/// Two copies to one receiver that interrupts came between each went on where they had been: the server got the
/// beginning of one message with the end of the other.
#[test]
fn a_copy_to_a_buffer_that_another_wrote_into_begins_anew() {
    let (mut machine, _) = interrupted();
    let (server, [first, second]) = server_and_callers(&mut machine);
    for (caller, target) in [first, second] {
        assert_eq!(machine.message_once(caller, SystemCall::Call, &long_call(target, 65_536)), None);
        assert_eq!(machine.resume_once(caller), None, "a second page");
    }
    while machine.resume_once(first.0).is_none() {}
    assert_eq!(machine.registers(server).header.bytes(), 65_536);
    assert_eq!(machine.bytes(server, SCRATCH + PAGE, 65_536), [1; 65_536]);
}

/// A call that ended in part of its copy left behind how far it had come, and the next one to the same receiver went on
/// from there: the server got the beginning of the message that had been given up.
#[test]
fn a_copy_does_not_go_on_where_an_earlier_call_was_given_up() {
    let (mut machine, _) = interrupted();
    let (server, [(caller, target), _]) = server_and_callers(&mut machine);
    let again = machine.call(caller, SystemCall::CapDup, &[target, Rights::CALL.bits().into()]).unwrap();
    assert_eq!(machine.message_once(caller, SystemCall::Call, &long_call(target, 65_536)), None);
    assert_eq!(machine.resume_once(caller), None, "a second page");
    let sibling = machine.thread(caller.process);
    machine.call(sibling, SystemCall::CapClose, &[target]).unwrap();
    assert_eq!(machine.resume_once(caller), Some(Step::Done(Err(Error::StaleHandle))));
    machine.put(caller, SCRATCH + PAGE, [3u8; 65_536].as_slice());
    assert_eq!(machine.message(caller, SystemCall::Call, &long_call(again, 65_536)), Step::Waits);
    assert_eq!(machine.bytes(server, SCRATCH + PAGE, 65_536), [3; 65_536]);
}
