//! What copying, handing over, querying and closing refuse.

use crate::stage::{BUFFERS, HOLE, READ, forever, header};
use neuron::testing::{Actor, SCRATCH};
use nexus_abi::message::{CapabilityTransfer, Registers};
use nexus_abi::records::ProcessParameters;
use nexus_abi::{Handle, Rights};

/// Uses up the pages of the child.
fn exhaust_child(stage: &mut Stage) {
    let child = stage.child_id();
    let left = stage.machine.with(child, |c| c.account.limit - c.account.reserved).expect("alive");
    stage.machine.with(child, |c| c.account.reserve(left)).expect("alive").expect("what is left");
}

refusals! {
    test_reject_copy_with_a_right_that_is_missing: CapDup, NotPermitted => |s| {
        let weak = s.make(SystemCall::CapDup, &[s.vmo, 0]);
        s.call(SystemCall::CapDup, &[weak, READ])
    };
    test_reject_copy_with_a_right_that_does_not_exist: CapDup, NotPermitted => |s| {
        s.call(SystemCall::CapDup, &[s.vmo, 1 << 31])
    };
    test_reject_copy_of_a_reply: CapDup, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(false);
        s.call(SystemCall::CapDup, &[reply, 0])
    };
    test_reject_copy_without_a_page: CapDup, NoMemory => |s| {
        s.exhaust_quota_for(SystemCall::CapDup, &[s.vmo, 0]);
        s.call(SystemCall::CapDup, &[s.vmo, 0])
    };
    test_reject_copy_in_a_full_table: CapDup, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::CapDup, &[s.vmo, 0])
    };
    test_reject_copy_that_derives_from_too_many: CapDup, NoSlots => |s| {
        let last = s.derive_as_far_as_may_be(s.vmo, READ);
        s.call(SystemCall::CapDup, &[last, READ])
    };
    test_reject_copy_of_what_is_being_revoked: CapDup, Revoked => |s| {
        s.begin_revoking(s.vmo, READ);
        s.call(SystemCall::CapDup, &[s.vmo, READ])
    };

    test_reject_narrowing_what_never_was: AuthorityNarrow, InvalidHandle => |s| {
        s.call(SystemCall::AuthorityNarrow, &[9_999, 1, 2])
    };
    test_reject_narrowing_what_was_closed: AuthorityNarrow, StaleHandle => |s| {
        s.make(SystemCall::CapClose, &[s.processes]);
        s.call(SystemCall::AuthorityNarrow, &[s.processes, 1, 2])
    };
    test_reject_narrowing_what_has_no_range: AuthorityNarrow, WrongKind => |s| {
        s.call(SystemCall::AuthorityNarrow, &[s.devices, 0, 0])
    };
    test_reject_narrowing_to_ids_below: AuthorityNarrow, NotPermitted => |s| {
        let narrow = s.make(SystemCall::AuthorityNarrow, &[s.processes, 10, 20]);
        s.call(SystemCall::AuthorityNarrow, &[narrow, 9, 20])
    };
    test_reject_narrowing_to_ids_above: AuthorityNarrow, NotPermitted => |s| {
        let narrow = s.make(SystemCall::AuthorityNarrow, &[s.processes, 10, 20]);
        s.call(SystemCall::AuthorityNarrow, &[narrow, 10, 21])
    };
    test_reject_narrowing_to_a_higher_class: AuthorityNarrow, NotPermitted => |s| {
        s.call(SystemCall::AuthorityNarrow, &[s.urgency, 0, 3])
    };
    test_reject_narrowing_to_nobody: AuthorityNarrow, InvalidArgument => |s| {
        s.call(SystemCall::AuthorityNarrow, &[s.processes, 3, 2])
    };
    test_reject_narrowing_to_no_class: AuthorityNarrow, InvalidArgument => |s| {
        s.call(SystemCall::AuthorityNarrow, &[s.urgency, 0, 4])
    };
    test_reject_narrowing_classes_from_below: AuthorityNarrow, InvalidArgument => |s| {
        s.call(SystemCall::AuthorityNarrow, &[s.urgency, 1, 2])
    };
    test_reject_narrowing_without_a_page: AuthorityNarrow, NoMemory => |s| {
        s.exhaust_quota_for(SystemCall::AuthorityNarrow, &[s.processes, 1, 2]);
        s.call(SystemCall::AuthorityNarrow, &[s.processes, 1, 2])
    };
    test_reject_narrowing_in_a_full_table: AuthorityNarrow, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::AuthorityNarrow, &[s.processes, 1, 2])
    };
    test_reject_narrowing_what_derives_from_too_many: AuthorityNarrow, NoSlots => |s| {
        let last = s.derive_as_far_as_may_be(s.processes, Rights::CREATE.bits().into());
        s.call(SystemCall::AuthorityNarrow, &[last, 1, 2])
    };
    test_reject_narrowing_what_is_being_revoked: AuthorityNarrow, Revoked => |s| {
        s.begin_revoking(s.processes, Rights::CREATE.bits().into());
        s.call(SystemCall::AuthorityNarrow, &[s.processes, 1, 2])
    };
    test_reject_a_process_outside_a_narrowed_range: ProcessCreate, NotPermitted => |s| {
        let narrow = s.make(SystemCall::AuthorityNarrow, &[s.processes, 0x70, 0x73]);
        s.put_parameters(ProcessParameters { service_id: 0x73, ..ProcessParameters::default() });
        s.make(SystemCall::ProcessCreate, &[narrow, SCRATCH]);
        s.put_parameters(ProcessParameters { service_id: 0x74, ..ProcessParameters::default() });
        s.call(SystemCall::ProcessCreate, &[narrow, SCRATCH])
    };
    test_reject_a_class_above_a_narrowed_authority: ThreadSetQos, NotPermitted => |s| {
        let narrow = s.make(SystemCall::AuthorityNarrow, &[s.urgency, 0, 1]);
        s.make(SystemCall::ThreadSetQos, &[s.thread, 1, narrow]);
        s.call(SystemCall::ThreadSetQos, &[s.thread, 2, narrow])
    };

    test_reject_transfer_of_a_reply: CapTransferTo, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(false);
        s.call(SystemCall::CapTransferTo, &[s.child, reply, 0])
    };
    test_reject_transfer_to_the_dead: CapTransferTo, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::CapTransferTo, &[s.child, s.vmo, 0])
    };
    test_reject_transfer_without_a_page: CapTransferTo, NoMemory => |s| {
        exhaust_child(s);
        s.call(SystemCall::CapTransferTo, &[s.child, s.vmo, 0])
    };
    test_reject_transfer_into_a_full_table: CapTransferTo, NoSlots => |s| {
        let child = Actor { process: s.child_id(), ..s.me };
        s.fill_table(child);
        s.call(SystemCall::CapTransferTo, &[s.child, s.vmo, 0])
    };
    test_reject_transfer_of_what_derives_from_too_many: CapTransferTo, NoSlots => |s| {
        let last = s.derive_as_far_as_may_be(s.vmo, READ);
        s.call(SystemCall::CapTransferTo, &[s.child, last, READ])
    };
    test_reject_transfer_of_what_is_being_revoked: CapTransferTo, Revoked => |s| {
        s.begin_revoking(s.vmo, READ);
        s.call(SystemCall::CapTransferTo, &[s.child, s.vmo, READ])
    };

    test_reject_query_into_a_hole: CapQuery, Fault => |s| s.call(SystemCall::CapQuery, &[s.vmo, HOLE]);
    test_reject_close_of_what_a_message_carries: CapClose, Busy => |s| {
        s.put_buffers(s.me, &[CapabilityTransfer::moved(Handle(s.vmo), Rights::READ)]);
        let message =
            Registers { target: s.endpoint, header: header(0, 1), buffers: BUFFERS, ..forever() };
        s.begin(SystemCall::Call, &message);
        let other = s.machine.thread(s.me.process);
        s.machine.call(other, SystemCall::CapClose, &[s.vmo])
    };
}
