//! Making a process, against a kernel that refuses one call: what whoever asked is told.

use nexus_abi::system::host::{self, Backend};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};
use nexus_init::launch::{Launch, LaunchError, launch};
use nexus_init::program::{Program, Segment};
use nexus_init::resources::{Grant, check_memory};
use nexus_init::supervisor::is_needed_to_record;
use nexus_proto::init::StartFailure;
use std::cell::RefCell;
use std::rc::Rc;
use system_manifest::{Manifest, compile, decode};

/// Answers every call but one, which it refuses; writes down what it was asked.
struct Refusing {
    call: SystemCall,
    error: Error,
    asked: Rc<RefCell<Vec<SystemCall>>>,
}

impl Backend for Refusing {
    fn plain(&self, call: SystemCall, _arguments: [u64; 6]) -> (u64, u64) {
        self.asked.borrow_mut().push(call);
        if call == self.call { (self.error as u64, 0) } else { (0, 7) }
    }

    fn message(&self, call: SystemCall, _registers: &mut nexus_abi::message::Registers) {
        panic!("init calls nobody: {call:?}");
    }

    fn ticks(&self) -> u64 {
        0
    }
}

fn manifest() -> Manifest {
    let recipe = include_str!("../../../../recipes/system.toml");
    decode(&compile(recipe, "recipes/system.toml").unwrap()).unwrap()
}

/// Launches a small program while `call` is refused with `error`; also yields every call that was made.
fn refused(call: SystemCall, error: Error) -> (LaunchError, Vec<SystemCall>) {
    let asked = Rc::default();
    host::install(Some(Rc::new(Refusing { call, error, asked: Rc::clone(&asked) })));
    let manifest = manifest();
    let protection = Rights::READ | Rights::EXECUTE;
    let segment = Segment { base: 0x1_0000, bytes: 4096, offset: 0, contents: &[1, 2, 3], protection };
    let grant = Grant { name: "ready".into(), handle: Handle(9), kind: Kind::Endpoint, rights: Rights::POST };
    let plan = Launch {
        service: manifest.service("pong").unwrap(),
        program: &Program { entry: 0x1_0000, segments: vec![segment] },
        grants: &[grant],
        arguments: "",
        generation: 1,
        supervisor: Handle(3),
        death_bits: 1,
    };
    let outcome = launch(Handle(2), &plan, 1_000_000);
    host::install(None);
    let asked = asked.borrow().clone();
    (outcome.unwrap_err(), asked)
}

#[test]
fn each_refusal_of_the_kernel_is_told_as_what_it_means() {
    use StartFailure::*;
    for (call, error, failure) in [
        (SystemCall::ProcessCreate, Error::NoMemory, OutOfMemory),
        (SystemCall::ProcessCreate, Error::NoSlots, TableFull),
        (SystemCall::ProcessCreate, Error::TableFull, TableFull),
        (SystemCall::ProcessCreate, Error::NotPermitted, NotPermitted),
        (SystemCall::ProcessCreate, Error::IdentityInUse, NotPermitted),
        (SystemCall::VmoCreate, Error::NoMemory, Quota),
        (SystemCall::VmoCreate, Error::NoSlots, TableFull),
        (SystemCall::VmoWrite, Error::OutOfRange, InvalidImage),
        (SystemCall::VmoMap, Error::Overlap, MappingFailed),
        (SystemCall::VmoMap, Error::NoMemory, Quota),
        (SystemCall::VmoMap, Error::OutOfRange, MappingFailed),
        (SystemCall::CapTransferTo, Error::NoSlots, TableFull),
        (SystemCall::CapTransferTo, Error::NoMemory, Quota),
        (SystemCall::CapTransferTo, Error::NotPermitted, NotPermitted),
        (SystemCall::ThreadCreate, Error::InvalidArgument, InvalidImage),
        (SystemCall::ThreadCreate, Error::NoMemory, Quota),
        (SystemCall::ThreadCreate, Error::TableFull, TableFull),
        (SystemCall::ThreadCreate, Error::NotPermitted, NotPermitted),
    ] {
        let (seen, asked) = refused(call, error);
        assert_eq!((seen.error, seen.failure()), (error, failure), "{call:?}");
        let ended = asked.contains(&SystemCall::ProcessKill);
        assert_eq!(ended, call != SystemCall::ProcessCreate, "{call:?}: what was begun is ended again");
    }
}

#[test]
fn test_reject_a_manifest_that_promises_more_than_there_is() {
    let manifest = manifest();
    let audits = manifest.services.iter().filter(|service| service.audits).count();
    let rings = (manifest.services.len() + audits) as u64 * nexus_log::RING_BYTES.div_ceil(4096) as u64;
    let promised = manifest.memory_pages(|service| service.condition.is_none()) + rings;
    assert_eq!(check_memory(&manifest, "", promised + 100, 100), Ok(()));
    let refusal = check_memory(&manifest, "", promised + 100, 101).unwrap_err();
    let free = promised - 1;
    let line =
        format!("the manifest promises {promised} pages of memory to services and rings, {free} are free");
    assert_eq!(refusal, line);
    // Those of other boot arguments are promised nothing, until their argument is given.
    check_memory(&manifest, "selftest", promised + 100, 100).unwrap_err();
}

/// The record of a device that the store itself needs cannot be durable before it is given.
#[test]
fn a_device_waits_for_its_record_unless_the_record_waits_for_the_device() {
    let manifest = manifest();
    let needed = |name: &str| is_needed_to_record(&manifest, manifest.service(name).unwrap());
    for name in ["logd", "statefsd", "virtioblkd", "rngd", "policyd"] {
        assert!(needed(name), "{name}");
    }
    for name in ["consoled", "selftest-client", "nexus-shell"] {
        assert!(!needed(name), "{name}");
    }
}
