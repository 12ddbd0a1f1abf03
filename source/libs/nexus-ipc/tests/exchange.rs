//! Client and server over a kernel that this test plays: what is sent, what is repeated, what is refused.

use nexus_abi::message::{Arrival, Buffers, Header, Registers};
use nexus_abi::system::host::{Backend, install};
use nexus_abi::{Error, Handle, SystemCall};
use nexus_ipc::{
    ATTEMPTS_MAX, Access, AccessEntry, Bytes, CallError, Caller, Deadline, Event, Pending, Receiver, Refused,
    Retry, Status, call,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What the kernel answers next: an error, or a label and a payload.
type Scripted = Result<(u16, Vec<u8>), Error>;

/// What was asked of the kernel.
#[derive(Default)]
struct Log {
    calls: Vec<SystemCall>,
    payloads: Vec<Vec<u8>>,
    labels: Vec<u16>,
    closed: Vec<u64>,
}

struct Scene {
    answers: RefCell<VecDeque<Scripted>>,
    log: Rc<RefCell<Log>>,
    now: u64,
}

/// The `Buffers` whose address stands in the registers.
fn buffers(registers: &Registers) -> Option<Buffers> {
    // SAFETY: the library under test put the address of a live `Buffers` there, or 0.
    unsafe { (registers.buffers as *const Buffers).as_ref().copied() }
}

impl Scene {
    fn sent(registers: &Registers) -> Vec<u8> {
        let length = registers.header.bytes();
        if length <= 64 {
            let words = registers.words.iter().flat_map(|word| word.to_le_bytes());
            return words.take(length).collect();
        }
        let from = buffers(registers).unwrap().send_address as *const u8;
        // SAFETY: the library under test says that its payload stands there.
        unsafe { std::slice::from_raw_parts(from, length) }.to_vec()
    }

    fn deliver(registers: &mut Registers, header: Header, payload: &[u8]) {
        if payload.len() <= 64 {
            let mut bytes = [0; 64];
            bytes[..payload.len()].copy_from_slice(payload);
            for (word, chunk) in registers.words.iter_mut().zip(bytes.chunks(8)) {
                *word = u64::from_le_bytes(chunk.try_into().unwrap());
            }
        } else {
            let room = buffers(registers).unwrap();
            assert!(payload.len() as u64 <= room.receive_bytes, "the caller gave too little room");
            // SAFETY: the library under test says that it has so much room there.
            unsafe { std::slice::from_raw_parts_mut(room.receive_address as *mut u8, payload.len()) }
                .copy_from_slice(payload);
        }
        registers.header = header;
        registers.target = 0;
    }
}

impl Backend for Scene {
    fn plain(&self, call: SystemCall, arguments: [u64; 6]) -> (u64, u64) {
        assert_eq!(call, SystemCall::CapClose);
        self.log.borrow_mut().closed.push(arguments[0]);
        (0, 0)
    }

    fn message(&self, call: SystemCall, registers: &mut Registers) {
        let mut log = self.log.borrow_mut();
        log.calls.push(call);
        if call != SystemCall::Receive {
            log.payloads.push(Self::sent(registers));
            log.labels.push(registers.header.label());
        }
        match self.answers.borrow_mut().pop_front().expect("the scene has no more answers") {
            Err(error) => registers.target = error as u64,
            Ok((label, payload)) => {
                let header = Header::new(label, payload.len() as u32, 0).with_arrival(Arrival::Call);
                Self::deliver(registers, header, &payload);
                if call != SystemCall::Call {
                    registers.reply = Handle::new(40 + log.calls.len() as u32, 1);
                    registers.buffers = 0;
                    registers.deadline = 7;
                    registers.process_id = 70;
                }
            }
        }
    }

    fn ticks(&self) -> u64 {
        self.now
    }
}

/// Plays these answers to what `act` does.
fn play<T>(answers: Vec<Scripted>, act: impl FnOnce() -> T) -> (T, Rc<RefCell<Log>>) {
    let log = Rc::new(RefCell::new(Log::default()));
    let scene = Scene { answers: RefCell::new(answers.into()), log: log.clone(), now: 50 };
    install(Some(Rc::new(scene)));
    let value = act();
    install(None);
    (value, log)
}

fn echo(retry: Retry, bytes: Vec<u8>) -> Result<Bytes<70_000>, CallError<()>> {
    call(Handle::new(1, 1), 3, retry, &Bytes::<70_000>(bytes), Deadline::at(100))
}

nexus_ipc::service! {
    /// Takes a number.
    endpoint "sample", max_bytes 64, error ();
    /// Takes it.
    immediate once take(Bytes<8>) -> () = 1;
}

impl Server for () {
    fn take(&mut self, _caller: Caller, _request: Bytes<8>) -> Result<(), ()> {
        Ok(())
    }
}

#[test]
fn test_reject_malformed_unknown_and_forbidden_messages_and_tell_of_each_class_once() {
    let told = Rc::new(RefCell::new(Vec::new()));
    let telling = told.clone();
    // 9 bytes are too many for `take`; operation 2 there is not, and operation 3 is not allowed.
    let bad = [(1, 9), (1, 10), (2, 0), (3, 0), (3, 0), (2, 0), (1, 64)];
    let mut answers: Vec<Scripted> = bad.iter().map(|&(label, bytes)| Ok((label, vec![0; bytes]))).collect();
    answers.push(Ok((1, vec![1])));
    answers.push(Err(Error::TimedOut));
    let (counts, log) = play(answers, || {
        let access = Access::new(vec![AccessEntry { service_id: 7, operations: 0b110 }]);
        let receiver = Receiver::new(Handle::new(1, 1), MAX_BYTES, Some(access));
        let mut receiver = receiver.telling(
            100,
            Box::new(move |refused, caller: Caller, times| {
                telling.borrow_mut().push((refused, caller.service_id, times));
            }),
        );
        let mut counts = [0; 3];
        loop {
            match receiver.next(Deadline::NEVER) {
                Ok(Event::Call(call)) => {
                    counts = [Refused::Malformed, Refused::UnknownOperation, Refused::NotPermitted]
                        .map(|refused| call.refused_before(refused));
                    dispatch(&mut (), call);
                }
                _ => break counts,
            }
        }
    });
    assert_eq!(counts, [3, 2, 2]);
    let classes = [Refused::Malformed, Refused::UnknownOperation, Refused::NotPermitted];
    assert_eq!(*told.borrow(), classes.map(|refused| (refused, 7, 1)), "once each, the clock stands");
    let status = |label: &u16| Status::from_number(*label);
    let labels: Vec<_> = log.borrow().labels.iter().filter_map(status).collect();
    let [malformed, unknown, forbidden] = [Status::Malformed, Status::UnknownOperation, Status::NotPermitted];
    assert_eq!(
        labels[labels.len() - 8..],
        [malformed, malformed, unknown, forbidden, forbidden, unknown, malformed, Status::Ok]
    );
}

#[test]
fn payloads_around_the_registers_border_go_and_come_whole() {
    for size in [0, 1, 63, 64, 65, 4096, 65_536] {
        let sent: Vec<u8> = (0..size).map(|place| place as u8).collect();
        let (outcome, log) = play(vec![Ok((0, sent.clone()))], || echo(Retry::Once, sent.clone()));
        assert_eq!(outcome, Ok(Bytes(sent.clone())), "{size} bytes");
        assert_eq!((&log.borrow().payloads[0], log.borrow().labels[0]), (&sent, 3));
    }
}

#[test]
fn an_idempotent_call_is_repeated_after_a_death_but_not_for_ever() {
    let (outcome, log) =
        play(vec![Err(Error::PeerGone), Ok((0, vec![1]))], || echo(Retry::Idempotent, vec![1]));
    assert_eq!((outcome, log.borrow().calls.len()), (Ok(Bytes(vec![1])), 2));
    let deaths = vec![Err(Error::PeerGone); 9];
    let (outcome, log) = play(deaths, || echo(Retry::Idempotent, vec![1]));
    assert_eq!(outcome, Err(CallError::Kernel(Error::PeerGone)));
    assert_eq!(log.borrow().calls.len(), ATTEMPTS_MAX as usize);
}

#[test]
fn test_reject_repeating_what_may_have_been_done() {
    let (outcome, log) = play(vec![Err(Error::PeerGone)], || echo(Retry::Once, vec![1]));
    assert_eq!((outcome, log.borrow().calls.len()), (Err(CallError::Kernel(Error::PeerGone)), 1));
}

#[test]
fn a_call_is_not_repeated_after_its_deadline() {
    let late = || call::<(), (), ()>(Handle::new(1, 1), 1, Retry::Idempotent, &(), Deadline::at(50));
    let (outcome, log) = play(vec![Err(Error::PeerGone)], late);
    assert_eq!((outcome, log.borrow().calls.len()), (Err(CallError::Kernel(Error::PeerGone)), 1));
}

#[test]
fn every_status_becomes_its_own_error() {
    for (status, error) in [
        (Status::ServiceError, CallError::Service(())),
        (Status::Malformed, CallError::RequestMalformed),
        (Status::UnknownOperation, CallError::UnknownOperation),
        (Status::NotPermitted, CallError::NotPermitted),
        (Status::AnswerTooLarge, CallError::AnswerTooLarge),
    ] {
        let (outcome, _) = play(vec![Ok((status as u16, vec![]))], || echo(Retry::Once, vec![]));
        assert_eq!(outcome, Err(error));
    }
    let (outcome, _) = play(vec![Ok((99, vec![]))], || echo(Retry::Once, vec![]));
    assert_eq!(outcome, Err(CallError::AnswerMalformed));
}

#[test]
fn test_reject_a_request_beyond_its_declaration() {
    let (outcome, log) = play(vec![], || echo(Retry::Once, vec![0; 70_001]));
    assert_eq!((outcome, log.borrow().calls.len()), (Err(CallError::RequestTooLarge), 0));
}

/// Receives one call with this access table and answers it with its own payload.
fn serve(access: Access, script: Vec<Scripted>) -> Rc<RefCell<Log>> {
    let act = || {
        let mut receiver = Receiver::new(Handle::new(2, 1), 4096, Some(access));
        loop {
            match receiver.next(Deadline::NEVER) {
                Ok(Event::Call(call)) => {
                    assert_eq!(call.caller(), Caller { service_id: 7, process_id: 70, badge: 0 });
                    let payload = Bytes::<4096>(call.payload().to_vec());
                    call.answer::<_, ()>(Ok(payload));
                }
                Ok(_) => panic!("nothing but calls comes here"),
                Err(error) => return error,
            }
        }
    };
    let (error, log) = play(script, act);
    assert_eq!(error, Error::Sealed);
    log
}

fn all() -> Access {
    Access::new(vec![AccessEntry { service_id: 7, operations: u64::MAX }])
}

#[test]
fn an_answer_goes_with_the_next_wait_in_one_step() {
    let log = serve(all(), vec![Ok((1, vec![5; 100])), Err(Error::Sealed)]);
    assert_eq!(log.borrow().calls, [SystemCall::Receive, SystemCall::ReplyReceive]);
    assert_eq!(log.borrow().payloads, [vec![5; 100]]);
    assert!(log.borrow().closed.is_empty());
}

#[test]
fn test_reject_callers_without_the_operation_and_go_on() {
    let table = Access::new(vec![AccessEntry { service_id: 7, operations: 0b10 }]);
    let log = serve(table, vec![Ok((2, vec![5])), Ok((1, vec![6])), Err(Error::Sealed)]);
    assert_eq!(log.borrow().labels, [Status::NotPermitted as u16, Status::Ok as u16]);
    assert_eq!(log.borrow().payloads, [vec![], vec![6]]);
}

#[test]
fn an_answer_that_its_caller_has_no_room_for_ends_that_call_alone() {
    let log =
        serve(all(), vec![Ok((1, vec![5])), Err(Error::TooLarge), Ok((1, vec![6])), Err(Error::Sealed)]);
    assert_eq!(log.borrow().closed, [Handle::new(41, 1).0]);
    assert_eq!(log.borrow().payloads, [vec![5], vec![6]]);
}

#[test]
fn a_call_that_is_dropped_unanswered_is_closed() {
    let mut pending = Pending::default();
    let caller = Caller { service_id: 1, process_id: 2, badge: 0 };
    let ((), log) =
        play(vec![], || drop(nexus_ipc::Call::new(caller, 1, &[], Handle::new(9, 1), &mut pending)));
    assert_eq!(log.borrow().closed, [Handle::new(9, 1).0]);
    assert_eq!(pending.answer(), None);
}
