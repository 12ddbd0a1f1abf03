//! Holds the numbers still: system calls, errors, kinds, rights, limits, headers and service ids, written
//! down a second time. A failure here is a change of the contract, not a test to update.

use nexus_abi::calls::SYSTEM_CALLS;
use nexus_abi::capability::Qos;
use nexus_abi::message::{Arrival, Header};
use nexus_abi::records::{FaultCause, RingLevel, STATE_ALIVE, STATE_EXITED, STATE_FAULTED, STATE_KILLED};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall, limits, service_id};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Every system call: number and name.
const CALLS: &[(u64, &str)] = &[
    (1, "call"),
    (2, "recv"),
    (3, "reply"),
    (4, "reply_recv"),
    (5, "post"),
    (6, "endpoint_create"),
    (7, "endpoint_mint"),
    (8, "endpoint_seal"),
    (9, "notification_create"),
    (10, "notification_signal"),
    (11, "notification_wait"),
    (12, "notification_poll"),
    (13, "notification_bind"),
    (14, "cap_dup"),
    (15, "cap_transfer_to"),
    (16, "cap_query"),
    (17, "cap_close"),
    (18, "cap_revoke"),
    (19, "vmo_create"),
    (20, "vmo_read"),
    (21, "vmo_write"),
    (22, "vmo_map"),
    (23, "vmo_unmap"),
    (24, "vmo_protect"),
    (25, "process_create"),
    (26, "thread_create"),
    (27, "thread_exit"),
    (28, "thread_yield"),
    (29, "thread_sleep"),
    (30, "process_exit"),
    (31, "process_kill"),
    (32, "process_status"),
    (33, "process_report"),
    (34, "device_cap_create"),
    (35, "irq_cap_create"),
    (36, "mmio_map"),
    (37, "irq_bind"),
    (38, "irq_ack"),
    (39, "timer_create"),
    (40, "timer_arm"),
    (41, "ring_read"),
    (42, "ring_write"),
    (43, "ring_bind"),
    (44, "system_info"),
    (45, "process_list"),
    (46, "cap_list"),
    (47, "system_reset"),
    (48, "lease_copy"),
    (49, "lease_query"),
    (50, "vmo_resize"),
    (51, "dma_create"),
    (52, "dma_address"),
    (53, "dma_release"),
    (54, "cap_holders"),
    (55, "thread_qos"),
    (56, "thread_set_qos"),
    (57, "process_set_budget"),
    (58, "authority_narrow"),
    (59, "thread_set_affinity"),
];

/// Every error: number and name.
const ERRORS: &[(u64, &str)] = &[
    (1, "UnknownCall"),
    (2, "Unsupported"),
    (3, "InvalidHandle"),
    (4, "StaleHandle"),
    (5, "WrongKind"),
    (6, "NotPermitted"),
    (7, "InvalidArgument"),
    (8, "Unaligned"),
    (9, "OutOfRange"),
    (10, "Fault"),
    (11, "NoMemory"),
    (12, "NoSlots"),
    (13, "TooLarge"),
    (14, "TimedOut"),
    (15, "PeerGone"),
    (16, "WouldDeadlock"),
    (17, "Sealed"),
    (18, "Revoked"),
    (19, "Busy"),
    (20, "Overlap"),
    (21, "WriteExecute"),
    (22, "BufferTooSmall"),
    (23, "NoCredit"),
    (24, "IdentityInUse"),
    (25, "WouldBlock"),
    (26, "TableFull"),
];

/// Every kind: number, name and the bits of the rights that it can have.
const KINDS: &[(u8, &str, u32)] = &[
    (1, "Process", 0x6200),
    (2, "Thread", 0x200),
    (3, "Endpoint", 0x3e0),
    (4, "Reply", 0),
    (5, "Notification", 0xc00),
    (6, "Vmo", 0x1f),
    (7, "DeviceMmio", 0x1200),
    (8, "Irq", 0x1_8000),
    (9, "Timer", 0x2_0000),
    (10, "DeviceAuthority", 0x4_0000),
    (11, "ProcessAuthority", 0x4_0000),
    (12, "QosAuthority", 0x200),
    (13, "SystemControl", 0x18_4000),
];

/// Every right, from bit 0 upwards.
const RIGHTS: &[&str] = &[
    "READ",
    "WRITE",
    "EXECUTE",
    "PHYSICAL",
    "RESIZE",
    "CALL",
    "POST",
    "RECEIVE",
    "MINT",
    "MANAGE",
    "SIGNAL",
    "WAIT",
    "MAP",
    "MAP_INTO",
    "INSPECT",
    "BIND",
    "ACKNOWLEDGE",
    "ARM",
    "CREATE",
    "LOG",
    "RESET",
];

#[test]
fn system_calls_keep_numbers_and_names() {
    let table: Vec<_> = SYSTEM_CALLS.iter().map(|entry| (entry.call as u64, entry.name)).collect();
    assert_eq!(table, CALLS);
    let numbers: BTreeSet<_> = CALLS.iter().map(|(number, _)| number).collect();
    let names: BTreeSet<_> = CALLS.iter().map(|(_, name)| name).collect();
    assert_eq!((numbers.len(), names.len()), (CALLS.len(), CALLS.len()));
    for entry in SYSTEM_CALLS {
        assert_eq!(SystemCall::from_number(entry.call as u64), Some(entry.call), "{}", entry.name);
    }
}

#[test]
fn a_system_call_names_each_error_and_argument_once_and_fits_the_registers() {
    for entry in SYSTEM_CALLS {
        let errors: BTreeSet<_> = entry.errors.iter().map(|(error, _)| error).collect();
        assert_eq!(errors.len(), entry.errors.len(), "{} lists an error twice", entry.name);
        let arguments: BTreeSet<_> = entry.arguments.iter().map(|(name, _)| name).collect();
        assert_eq!(arguments.len(), entry.arguments.len(), "{} names an argument twice", entry.name);
        let registers = if entry.message { 4 } else { 6 };
        assert!(entry.arguments.len() <= registers, "{} has too many arguments", entry.name);
    }
}

#[test]
fn errors_keep_numbers_and_names() {
    let table: Vec<_> = Error::ALL.iter().map(|error| (*error as u64, error.name())).collect();
    assert_eq!(table, ERRORS);
    let numbers: BTreeSet<_> = ERRORS.iter().map(|(number, _)| number).collect();
    let names: BTreeSet<_> = ERRORS.iter().map(|(_, name)| name).collect();
    assert_eq!((numbers.len(), names.len()), (ERRORS.len(), ERRORS.len()));
    for error in Error::ALL {
        assert_eq!(Error::from_number(*error as u64), Some(*error));
        assert_eq!(error.to_string(), error.name());
    }
}

#[test]
fn kinds_keep_numbers_names_and_rights() {
    let table: Vec<_> =
        Kind::ALL.iter().map(|kind| (*kind as u8, kind.name(), kind.rights().bits())).collect();
    assert_eq!(table, KINDS);
    for number in 0..=u8::MAX {
        let known = KINDS.iter().any(|(other, ..)| *other == number);
        assert_eq!(Kind::from_number(number).map(|kind| kind as u8), known.then_some(number));
    }
}

#[test]
fn rights_keep_their_bits() {
    let table: Vec<_> = Rights::all().iter_names().map(|(name, right)| (name, right.bits())).collect();
    let golden: Vec<_> = RIGHTS.iter().enumerate().map(|(bit, name)| (*name, 1 << bit)).collect();
    assert_eq!(table, golden);
    assert_eq!(Rights::all().bits(), 0x1f_ffff);
}

#[test]
fn every_right_belongs_to_a_kind() {
    assert_eq!(
        Kind::ALL.iter().map(|kind| kind.rights()).fold(Rights::empty(), Rights::union),
        Rights::all()
    );
}

#[test]
fn classes_states_causes_levels_and_arrivals_keep_their_numbers() {
    assert_eq!(Qos::ALL, [Qos::Idle, Qos::Normal, Qos::Interactive, Qos::PerfBurst]);
    assert_eq!(Qos::ALL.map(|class| class as u8), [0, 1, 2, 3]);
    assert_eq!([STATE_ALIVE, STATE_EXITED, STATE_FAULTED, STATE_KILLED], [0, 1, 2, 3]);
    assert_eq!([RingLevel::Error as u32, RingLevel::Warning as u32, RingLevel::Info as u32], [0, 1, 2]);
    let arrivals = [Arrival::Call, Arrival::Post, Arrival::Bits, Arrival::BadgeGone];
    assert_eq!(arrivals.map(|arrival| arrival as u8), [0, 1, 2, 3]);
    let causes = [
        FaultCause::ReadFault,
        FaultCause::WriteFault,
        FaultCause::ExecuteFault,
        FaultCause::IllegalInstruction,
        FaultCause::Misaligned,
        FaultCause::Breakpoint,
        FaultCause::Other,
    ];
    assert_eq!(causes.map(|cause| cause as u32), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(causes.map(|cause| FaultCause::from_number(cause as u32)), causes.map(Some));
    assert_eq!((FaultCause::from_number(0), FaultCause::from_number(8)), (None, None));
}

#[test]
fn each_right_is_needed_by_a_call() {
    use nexus_abi::calls::Argument;
    let needed_by = |kind: Kind| {
        let arguments = SYSTEM_CALLS.iter().flat_map(|call| call.arguments);
        let rights = arguments.filter_map(|(_, form)| match form {
            Argument::Capability(of, rights) if *of == kind => Some(*rights),
            Argument::ProcessOrSelf(rights) if kind == Kind::Process => Some(*rights),
            Argument::ThreadOrSelf(rights) if kind == Kind::Thread => Some(*rights),
            Argument::QosAuthorityOrNone if kind == Kind::QosAuthority => Some(Rights::MANAGE),
            _ => None,
        });
        rights.fold(Rights::empty(), Rights::union)
    };
    for &kind in Kind::ALL {
        // `vmo_map` asks for whichever protection it is given.
        let by_argument = if kind == Kind::Vmo { Rights::EXECUTE } else { Rights::empty() };
        assert_eq!(kind.rights() - needed_by(kind) - by_argument, Rights::empty(), "{}", kind.name());
    }
}

#[test]
fn limits_keep_their_values() {
    assert_eq!((limits::PAGE_SIZE, limits::REGISTER_BYTES, limits::REGISTER_WORDS), (4096, 64, 8));
    assert_eq!((limits::MESSAGE_BYTES_MAX, limits::MESSAGE_CAPABILITIES_MAX), (65_536, 4));
    assert_eq!(
        (limits::POST_CREDIT, limits::TRANSFER_BYTES_MAX, limits::VMO_PAGES_MAX),
        (4, 65_536, 262_144)
    );
    assert_eq!(limits::DMA_PAGES_MAX, 64);
    assert_eq!((limits::CAPABILITIES_MAX, limits::OPEN_CALLS_MAX), (32_768, 1_024));
    assert_eq!((limits::THREADS_MAX, limits::HARTS_MAX, limits::RANK_MAX), (4_096, 8, 65_535));
    assert_eq!(
        (limits::RING_TEXT_MAX, limits::FAULT_REPORT_BYTES, limits::BACKTRACE_MAX),
        (1_024, 1_024, 32)
    );
    assert_eq!((limits::USER_BASE, limits::USER_END), (0x1000, 0x40_0000_0000));
    assert_eq!(limits::FOREVER, u64::MAX);
}

#[test]
fn service_ids_are_fnv_1a_of_the_name() {
    for (name, id) in [
        ("", 0xcbf2_9ce4_8422_2325),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
        ("neuron", 0x80a4_b45a_e2c2_b7f6),
        ("nexus-init", 0x79d9_0f72_586a_8589),
        ("consoled", 0x42d4_8509_71c1_fd2a),
        ("selftest-client", 0x52c6_c4a3_4ffb_3f69),
    ] {
        assert_eq!(service_id(name), id, "{name:?}");
    }
}

#[test]
fn a_header_keeps_its_bits() {
    assert_eq!(Header::new(0x1234, 0x5678_9abc, 0xde).0, 0x1234_00de_5678_9abc);
    assert_eq!(Header(0).with_arrival(Arrival::BadgeGone).0, 0x0000_0300_0000_0000);
    assert_eq!(Header(0).with_leases(4).0, 0x0000_4000_0000_0000);
    assert_eq!(Handle::new(0x0102_0304, 0x0506_0708).0, 0x0506_0708_0102_0304);
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop::sample::select(vec![Arrival::Call, Arrival::Post, Arrival::Bits, Arrival::BadgeGone])
}

proptest! {
    #[test]
    fn a_header_gives_back_what_was_packed(
        label: u16, bytes: u32, capabilities: u8, leases in 0..16_u8, first in arrival(), arrival in arrival(),
    ) {
        let sent = Header::new(label, bytes, capabilities);
        prop_assert_eq!(sent.arrival(), Some(Arrival::Call));
        let header = sent.with_arrival(first).with_leases(leases).with_arrival(arrival);
        prop_assert_eq!(header.leases(), usize::from(leases));
        prop_assert_eq!(header.label(), label);
        prop_assert_eq!(header.arrival(), Some(arrival));
        prop_assert_eq!(header.capabilities(), usize::from(capabilities));
        prop_assert_eq!(header.bytes() as u64, u64::from(bytes));
    }

    #[test]
    fn test_reject_a_header_with_an_unknown_arrival(word: u64, number in 4..16_u8) {
        let header = Header(word & !(0xf << 40) | u64::from(number) << 40);
        prop_assert_eq!(header.arrival(), None);
        prop_assert_eq!(header.with_arrival(Arrival::Post).arrival(), Some(Arrival::Post));
    }

    #[test]
    fn a_handle_gives_back_index_and_generation(index: u32, generation: u32) {
        let handle = Handle::new(index, generation);
        prop_assert_eq!((handle.index(), handle.generation()), (index, generation));
        prop_assert_eq!(handle.is_none(), index == 0 && generation == 0);
    }

    #[test]
    fn test_reject_numbers_that_nothing_has(number in prop_oneof![0..300_u64, any::<u64>()]) {
        let call = CALLS.iter().any(|(known, _)| *known == number);
        prop_assert_eq!(SystemCall::from_number(number).map(|call| call as u64), call.then_some(number));
        let error = ERRORS.iter().any(|(known, _)| *known == number);
        prop_assert_eq!(Error::from_number(number).map(|error| error as u64), error.then_some(number));
        prop_assert_eq!(Qos::from_number(number).map(|class| class as u64), (number < 4).then_some(number));
    }
}
