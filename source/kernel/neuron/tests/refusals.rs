//! One test for each error of each system call: `nexus_abi::calls` names them, here each is provoked.
//!
//! A pair of the table without a test fails [`every_refusal_of_the_table_has_a_test`], and so does a test
//! of a pair that the table does not name.

use neuron::testing::{Machine, Step};
use nexus_abi::calls::SYSTEM_CALLS;
use nexus_abi::{Error, SystemCall};
use std::collections::BTreeSet;

#[path = "refusals/stage.rs"]
mod stage;

/// Tests by call and error; each closure makes the call and yields what it answered.
macro_rules! refusals {
    ($( $name:ident: $call:ident, $error:ident => $test:expr; )+) => {
        use crate::stage::{Outcome, Stage};
        use nexus_abi::{Error, SystemCall};

        /// What the tests of this file cover.
        pub const COVERED: &[(SystemCall, Error)] = &[$( (SystemCall::$call, Error::$error) ),+];

        $(
            #[test]
            fn $name() {
                let test: fn(&mut Stage) -> Outcome = $test;
                assert_eq!(test(&mut Stage::new()), Err(Error::$error));
            }
        )+
    };
}

#[path = "refusals/authority.rs"]
mod authority;
#[path = "refusals/capability.rs"]
mod capability;
#[path = "refusals/device_memory.rs"]
mod device_memory;
#[path = "refusals/handles.rs"]
mod handles;
#[path = "refusals/lease.rs"]
mod lease;
#[path = "refusals/memory.rs"]
mod memory;
#[path = "refusals/message.rs"]
mod message;
#[path = "refusals/process.rs"]
mod process;
#[path = "refusals/qos.rs"]
mod qos;

#[test]
fn every_refusal_of_the_table_has_a_test() {
    let name = |(call, error): &(SystemCall, Error)| format!("{call:?}: {error}");
    let files = [
        authority::COVERED,
        capability::COVERED,
        device_memory::COVERED,
        handles::COVERED,
        lease::COVERED,
        memory::COVERED,
        message::COVERED,
        process::COVERED,
        qos::COVERED,
    ];
    let tested: BTreeSet<String> = files.into_iter().flatten().map(name).collect();
    let pairs =
        SYSTEM_CALLS.iter().flat_map(|entry| entry.errors.iter().map(|(error, _)| (entry.call, *error)));
    let named: BTreeSet<String> = pairs.map(|pair| name(&pair)).collect();
    let untested: Vec<_> = named.difference(&tested).collect();
    let unnamed: Vec<_> = tested.difference(&named).collect();
    assert!(
        untested.is_empty() && unnamed.is_empty(),
        "untested: {untested:?}, not in the table: {unnamed:?}"
    );
}

#[test]
fn test_reject_a_number_that_no_call_has() {
    let mut machine = Machine::new();
    let me = machine.process();
    for number in [0, SYSTEM_CALLS.len() as u64 + 1, u64::MAX] {
        assert_eq!(machine.call_number(me, number, &[]), Step::Done(Err(Error::UnknownCall)));
    }
}
