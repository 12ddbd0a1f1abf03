//! Memory and Replies that a call lends or moves, over a kernel that this test plays: one call is open, and what
//! it lends is copied as the contract says, until it is answered.

use nexus_abi::limits::TRANSFER_BYTES_MAX;
use nexus_abi::message::{Arrival, Buffers, Header, Lease, Registers};
use nexus_abi::records::CapabilityInfo;
use nexus_abi::system::host::{Backend, install};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};
use nexus_ipc::{
    Answer, Call, CallError, Caller, Deadline, Event, Lent, LentMemory, NotHandedOn, Pending, Receiver,
    Retry, call_handing_on, call_lending,
};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const REPLY: Handle = Handle::new(9, 1);

/// What a server does while a call is open.
type During = Box<dyn FnOnce() -> Result<(), Error>>;

/// Keeps the leases of a call while it lasts; `during` is what the server does meanwhile.
struct Lending {
    leases: RefCell<Vec<Lease>>,
    during: RefCell<Option<During>>,
    copies: Cell<usize>,
}

fn buffers(registers: &Registers) -> Option<Buffers> {
    // SAFETY: the library under test put the address of a live `Buffers` there, or 0.
    unsafe { (registers.buffers as *const Buffers).as_ref().copied() }
}

impl Lending {
    fn copy(&self, [reply, index, offset, address, bytes, into]: [u64; 6]) -> Result<u64, Error> {
        let leases = self.leases.borrow();
        let lease = leases.get(index as usize).ok_or(Error::InvalidArgument)?;
        let right = if into == 1 { Rights::WRITE } else { Rights::READ };
        if bytes > TRANSFER_BYTES_MAX as u64 {
            return Err(Error::TooLarge);
        }
        if offset.checked_add(bytes).is_none_or(|end| end > lease.bytes) {
            return Err(Error::OutOfRange);
        }
        if !Rights::from_bits_retain(lease.rights).contains(right) || reply != REPLY.0 {
            return Err(Error::NotPermitted);
        }
        self.copies.set(self.copies.get() + 1);
        let (lent, own) = ((lease.address + offset) as *mut u8, address as *mut u8);
        let (from, to) = if into == 1 { (own, lent) } else { (lent, own) };
        // SAFETY: both are memory of the test, which is borrowed while its call lasts.
        unsafe { to.copy_from(from, bytes as usize) };
        Ok(0)
    }
}

impl Backend for Lending {
    fn plain(&self, call: SystemCall, arguments: [u64; 6]) -> (u64, u64) {
        let outcome = match call {
            SystemCall::LeaseCopy => self.copy(arguments),
            SystemCall::LeaseQuery => {
                let lease = self.leases.borrow().get(arguments[1] as usize).copied();
                let bits = |lease: Lease| u64::from(lease.rights & Rights::WRITE.bits() != 0) << 63 | 1 << 62;
                lease.map(|lease| lease.bytes | bits(lease)).ok_or(Error::InvalidArgument)
            }
            _ => Ok(0),
        };
        outcome.map_or_else(|error| (error as u64, 0), |value| (0, value))
    }

    fn message(&self, call: SystemCall, registers: &mut Registers) {
        assert_eq!(call, SystemCall::Call);
        let from = buffers(registers).unwrap().leases as *const Lease;
        // SAFETY: the library under test says that so many stand there.
        *self.leases.borrow_mut() =
            unsafe { std::slice::from_raw_parts(from, registers.header.leases()) }.to_vec();
        let during = self.during.borrow_mut().take();
        let outcome = during.map_or(Ok(()), |during| during());
        self.leases.borrow_mut().clear();
        registers.header = Header::default();
        registers.target = outcome.map_or_else(|error| error as u64, |()| 0);
    }

    fn ticks(&self) -> u64 {
        0
    }
}

/// Calls with these leases; the server does `during` before it answers. Yields how many copies it took.
fn lending(
    leases: &[Lent<'_>],
    during: impl FnOnce() -> Result<(), Error> + 'static,
) -> (Result<(), CallError<()>>, usize) {
    let during: During = Box::new(during);
    let kernel = Rc::new(Lending {
        leases: RefCell::default(),
        during: RefCell::new(Some(during)),
        copies: Cell::new(0),
    });
    install(Some(kernel.clone()));
    let outcome = call_lending(Handle::new(1, 1), 1, Retry::Once, &(), leases, Deadline::at(1));
    install(None);
    (outcome, kernel.copies.get())
}

/// Does this with the first lease of a call that is received.
fn served<T>(act: impl FnOnce(LentMemory<'_>) -> T) -> T {
    let mut pending = Pending::default();
    let caller = Caller { service_id: 1, process_id: 2, badge: 0 };
    let call = Call::new(caller, 1, &[], REPLY, &mut pending);
    let outcome = act(call.leases().get(0).unwrap());
    call.answer::<(), ()>(Ok(()));
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_lent_is_read_and_written_where_the_server_says(
        mut memory in prop::collection::vec(any::<u8>(), 1..200_000),
        place: prop::sample::Index,
        length: prop::sample::Index,
    ) {
        let begin = place.index(memory.len());
        let end = begin + length.index(memory.len() - begin) + 1;
        let expected: Vec<u8> = memory
            .iter()
            .enumerate()
            .map(|(at, byte)| if (begin..end).contains(&at) { !byte } else { *byte })
            .collect();
        let whole = memory.len() as u64;
        let during = move || served(|memory| {
            assert_eq!((memory.bytes(), memory.is_writable()), (whole, true));
            let mut copy = vec![0; end - begin];
            memory.read(begin as u64, &mut copy)?;
            copy.iter_mut().for_each(|byte| *byte = !*byte);
            memory.write(begin as u64, &copy)
        });
        let (outcome, copies) = lending(&[Lent::write(&mut memory)], during);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(copies, 2 * (end - begin).div_ceil(TRANSFER_BYTES_MAX));
        prop_assert_eq!(memory, expected);
    }

    #[test]
    fn test_reject_what_lies_beyond_or_may_not_be_written(bytes in 0..5_000usize, beyond in 1..5_000u64) {
        let memory = vec![7; bytes];
        let during = move || served(|memory| {
            assert!(!memory.is_writable());
            assert_eq!(memory.write(0, &[]), Ok(()), "nothing is copied");
            assert_eq!(memory.read(bytes as u64 + beyond - 1, &mut [0]), Err(Error::OutOfRange));
            assert_eq!(memory.read(u64::MAX, &mut [0]), Err(Error::OutOfRange));
            if bytes > 0 {
                assert_eq!(memory.write(0, &[1]), Err(Error::NotPermitted));
            }
            Ok(())
        });
        prop_assert_eq!(lending(&[Lent::read(&memory)], during).0, Ok(()));
    }
}

#[test]
fn a_part_is_lent_on_by_reply_index_and_offset() {
    let mut memory = vec![0; 100];
    let during = || {
        served(|memory| {
            let seen = Rc::new(Lending {
                leases: RefCell::default(),
                during: RefCell::new(None),
                copies: Cell::new(0),
            });
            let outer = install(Some(seen.clone()));
            seen.during.replace(Some(Box::new({
                let seen = Rc::downgrade(&seen);
                move || {
                    let leases = seen.upgrade().unwrap().leases.borrow().clone();
                    let (rights, reply) = (Rights::READ.bits(), REPLY);
                    assert_eq!(leases, [Lease { reply, address: 10, bytes: 20, rights, index: 0 }]);
                    Ok(())
                }
            })));
            let on = [memory.lend(10..30)];
            let outcome =
                call_lending::<_, (), ()>(Handle::new(2, 1), 1, Retry::Once, &(), &on, Deadline::at(1));
            install(outer);
            assert_eq!(outcome, Ok(()));
            Ok(())
        })
    };
    assert_eq!(lending(&[Lent::write(&mut memory)], during).0, Ok(()));
}

/// A kernel that plays one exchange with a capability, and remembers what was closed.
struct Moving {
    outcome: Result<Header, Error>,
    came: Handle,
    kinds: Vec<(Handle, Kind)>,
    moved: Cell<Handle>,
    closed: RefCell<Vec<Handle>>,
    calls: Cell<usize>,
}

impl Moving {
    fn new(outcome: Result<Header, Error>, kinds: &[(Handle, Kind)]) -> Rc<Self> {
        let came = kinds.first().map_or(Handle::NONE, |&(handle, _)| handle);
        let kernel = Rc::new(Moving {
            outcome,
            came,
            kinds: kinds.to_vec(),
            moved: Cell::default(),
            closed: RefCell::default(),
            calls: Cell::new(0),
        });
        install(Some(kernel.clone()));
        kernel
    }
}

impl Backend for Moving {
    fn plain(&self, call: SystemCall, arguments: [u64; 6]) -> (u64, u64) {
        let handle = Handle(arguments[0]);
        match call {
            SystemCall::CapClose => self.closed.borrow_mut().push(handle),
            SystemCall::CapQuery => match self.kinds.iter().find(|(known, _)| *known == handle) {
                // SAFETY: the library under test has room for the record there.
                Some((_, kind)) => unsafe { (*(arguments[1] as *mut CapabilityInfo)).kind = *kind as u32 },
                None => return (Error::StaleHandle as u64, 0),
            },
            other => panic!("{other:?} is not expected"),
        }
        (0, 0)
    }

    fn message(&self, call: SystemCall, registers: &mut Registers) {
        self.calls.set(self.calls.get() + 1);
        if call == SystemCall::Call {
            assert_eq!(registers.header.capabilities(), 1);
            self.moved.set(buffers(registers).unwrap().send_capabilities[0].handle);
        } else if self.calls.get() == 1 {
            // SAFETY: as in `buffers`, and nothing else refers to it now.
            unsafe { (*(registers.buffers as *mut Buffers)).received_capabilities[0] = self.came };
            (registers.reply, registers.buffers) = (Handle::new(40, 1), 0);
        } else {
            registers.target = Error::Sealed as u64;
            return;
        }
        registers.target = self.outcome.map_or_else(|error| error as u64, |_| 0);
        registers.header = self.outcome.unwrap_or_default();
    }

    fn ticks(&self) -> u64 {
        0
    }
}

type HandedOn = Result<(), NotHandedOn<(), (), ()>>;

fn hand_on() -> HandedOn {
    let mut pending = Pending::default();
    let caller = Caller { service_id: 1, process_id: 2, badge: 0 };
    let answer: Answer<(), ()> = Call::new(caller, 1, &[], REPLY, &mut pending).keep();
    call_handing_on(Handle::new(1, 1), 1, &(), answer, Deadline::at(1))
}

#[test]
fn an_answer_that_was_handed_on_is_nobody_elses() {
    let kernel = Moving::new(Ok(Header::default()), &[]);
    assert!(hand_on().is_ok());
    assert_eq!(kernel.moved.get(), REPLY);
    assert!(kernel.closed.borrow().is_empty());
}

#[test]
fn an_answer_comes_back_from_a_call_that_was_not_received() {
    let kernel = Moving::new(Err(Error::TimedOut), &[(REPLY, Kind::Reply)]);
    let failed = hand_on().err().unwrap();
    assert_eq!(failed.error, CallError::Kernel(Error::TimedOut));
    assert!(failed.answer.is_some() && kernel.closed.borrow().is_empty());
    drop(failed);
    assert_eq!(*kernel.closed.borrow(), [REPLY]);
    assert!(Moving::new(Err(Error::PeerGone), &[]).calls.get() == 0);
    assert!(hand_on().err().unwrap().answer.is_none(), "whoever received it has it");
}

/// Receives one call with the capability that came and does this with it, then waits again.
fn receive(kernel: &Moving, act: impl FnOnce(&mut Call<'_>)) {
    let mut receiver = Receiver::new(Handle::new(2, 1), 64, None).taking_capabilities();
    match receiver.next(Deadline::NEVER) {
        Ok(Event::Call(mut call)) => act(&mut call),
        _ => panic!("a call comes"),
    }
    assert!(matches!(receiver.next(Deadline::NEVER), Err(Error::Sealed)));
    assert_eq!(kernel.calls.get(), 2);
}

#[test]
fn an_answer_that_came_is_owed_by_its_receiver() {
    let came = Handle::new(77, 1);
    let one = Header::new(1, 0, 1).with_arrival(Arrival::Call);
    let kernel = Moving::new(Ok(one), &[(came, Kind::Reply)]);
    let owed = RefCell::new(None);
    receive(&kernel, |call| {
        *owed.borrow_mut() = call.handed_on::<(), ()>().ok();
        assert!(call.handed_on::<(), ()>().is_err(), "there was one");
    });
    assert!(!kernel.closed.borrow().contains(&came));
    drop(owed);
    assert!(kernel.closed.borrow().contains(&came));
}

#[test]
fn test_reject_a_capability_that_is_no_reply_and_close_what_nobody_claims() {
    let came = Handle::new(77, 1);
    let one = Header::new(1, 0, 1).with_arrival(Arrival::Call);
    let kernel = Moving::new(Ok(one), &[(came, Kind::Vmo)]);
    receive(&kernel, |call| assert!(call.handed_on::<(), ()>().is_err()));
    assert_eq!(kernel.closed.borrow().iter().filter(|&&closed| closed == came).count(), 1);
    let kernel = Moving::new(Ok(one), &[(came, Kind::Reply)]);
    receive(&kernel, |_| ());
    assert_eq!(kernel.closed.borrow().iter().filter(|&&closed| closed == came).count(), 1);
}
