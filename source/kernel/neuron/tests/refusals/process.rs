//! What processes and threads refuse.

use crate::stage::HOLE;
use neuron::fault::Fault;
use neuron::testing::{PAGE, SCRATCH};
use nexus_abi::records::{FaultCause, ProcessParameters};
use std::sync::atomic::Ordering::Relaxed;

fn create(stage: &mut Stage, wanted: ProcessParameters) -> Outcome {
    stage.put_parameters(wanted);
    stage.call(SystemCall::ProcessCreate, &[stage.processes, SCRATCH])
}

refusals! {
    test_reject_process_of_no_service: ProcessCreate, InvalidArgument => |s| {
        let parameters = ProcessParameters { service_id: 0, ..s.machine.parameters() };
        s.put_exactly(parameters);
        s.call(SystemCall::ProcessCreate, &[s.processes, SCRATCH])
    };
    test_reject_process_above_the_highest_rank: ProcessCreate, InvalidArgument => |s| {
        create(s, ProcessParameters { rank: 65_536, ..Default::default() })
    };
    test_reject_process_of_an_unknown_class: ProcessCreate, InvalidArgument => |s| {
        create(s, ProcessParameters { qos_max: 4, ..Default::default() })
    };
    test_reject_process_with_too_large_a_table: ProcessCreate, InvalidArgument => |s| {
        create(s, ProcessParameters { capabilities_max: 32_769, ..Default::default() })
    };
    test_reject_process_with_too_many_open_calls: ProcessCreate, InvalidArgument => |s| {
        create(s, ProcessParameters { open_calls_max: 1_025, ..Default::default() })
    };
    test_reject_second_process_of_a_service: ProcessCreate, IdentityInUse => |s| {
        s.call(SystemCall::ProcessCreate, &[s.processes, SCRATCH])
    };
    test_reject_parameters_in_a_hole: ProcessCreate, Fault => |s| {
        s.call(SystemCall::ProcessCreate, &[s.processes, HOLE])
    };
    test_reject_process_beyond_the_quota: ProcessCreate, NoMemory => |s| {
        create(s, ProcessParameters { quota_pages: 100_000, ..Default::default() })
    };
    test_reject_process_of_one_page: ProcessCreate, NoMemory => |s| {
        create(s, ProcessParameters { quota_pages: 1, ..Default::default() })
    };
    test_reject_process_in_a_full_table: ProcessCreate, NoSlots => |s| {
        s.fill_table(s.me);
        create(s, ProcessParameters::default())
    };
    test_reject_process_without_an_address_space: ProcessCreate, TableFull => |s| {
        // Numbers 1 to 1023; three processes of the stage have one already.
        for _ in 3..1_023 {
            let parameters = ProcessParameters { quota_pages: 2, ..s.machine.parameters() };
            s.machine.empty_process(&parameters);
        }
        create(s, ProcessParameters::default())
    };

    test_reject_thread_of_an_unknown_class: ThreadCreate, InvalidArgument => |s| {
        s.call(SystemCall::ThreadCreate, &[0, SCRATCH, SCRATCH, 0, 4])
    };
    test_reject_thread_that_begins_in_the_kernel: ThreadCreate, InvalidArgument => |s| {
        s.call(SystemCall::ThreadCreate, &[0, u64::MAX - 1, SCRATCH, 0, 1])
    };
    test_reject_thread_with_a_crooked_stack: ThreadCreate, InvalidArgument => |s| {
        s.call(SystemCall::ThreadCreate, &[0, SCRATCH, SCRATCH + 8, 0, 1])
    };
    test_reject_thread_above_the_processs_class: ThreadCreate, NotPermitted => |s| {
        s.call(SystemCall::ThreadCreate, &[s.child, SCRATCH, SCRATCH, 0, 3])
    };
    test_reject_thread_in_the_dead: ThreadCreate, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::ThreadCreate, &[s.child, SCRATCH, SCRATCH, 0, 0])
    };
    test_reject_thread_without_a_page: ThreadCreate, NoMemory => |s| {
        s.exhaust_quota_for(SystemCall::ThreadCreate, &[0, SCRATCH, SCRATCH, 0, 1]);
        s.call(SystemCall::ThreadCreate, &[0, SCRATCH, SCRATCH, 0, 1])
    };
    test_reject_thread_in_a_full_table: ThreadCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::ThreadCreate, &[0, SCRATCH, SCRATCH, 0, 1])
    };
    test_reject_thread_beyond_the_systems: ThreadCreate, TableFull => |s| {
        let most = s.machine.kernel.figures.threads_max;
        s.machine.kernel.counters.threads.store(most, Relaxed);
        s.call(SystemCall::ThreadCreate, &[0, SCRATCH, SCRATCH, 0, 1])
    };

    test_reject_killing_the_dead: ProcessKill, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::ProcessKill, &[s.child, 0])
    };
    test_reject_status_into_a_hole: ProcessStatus, Fault => |s| {
        s.call(SystemCall::ProcessStatus, &[s.child, HOLE])
    };
    test_reject_report_of_who_did_not_fault: ProcessReport, WouldBlock => |s| {
        s.call(SystemCall::ProcessReport, &[s.child, SCRATCH])
    };
    test_reject_report_into_a_hole: ProcessReport, Fault => |s| {
        let handle = s.machine.give_process(s.me, s.server.process);
        s.machine.fault(s.server, Fault { cause: FaultCause::IllegalInstruction, detail: 2, address: 0, is_of_a_page: false });
        s.make(SystemCall::ProcessReport, &[handle, SCRATCH]);
        s.call(SystemCall::ProcessReport, &[handle, HOLE + PAGE])
    };
}
