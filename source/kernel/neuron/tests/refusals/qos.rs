//! What urgency and budgets refuse. Whoever is refused has changed nothing.

/// Classes by number.
const IDLE: u64 = 0;
const NORMAL: u64 = 1;
const INTERACTIVE: u64 = 2;
const PERF_BURST: u64 = 3;

impl Stage {
    /// Asks for a class, and checks that nothing changed.
    fn set_class(&mut self, thread: u64, class: u64, authority: u64) -> Outcome {
        let class_of = |stage: &mut Stage| stage.make(SystemCall::ThreadQos, &[thread]);
        let before = class_of(self);
        let refused = self.call(SystemCall::ThreadSetQos, &[thread, class, authority]);
        assert_eq!(class_of(self), before, "nothing changes");
        refused
    }
}

refusals! {
    test_reject_qos_set_unauthorized_self_escalation: ThreadSetQos, NotPermitted => |s| {
        s.set_class(0, INTERACTIVE, 0)
    };
    test_reject_qos_set_above_what_the_authority_covers: ThreadSetQos, NotPermitted => |s| {
        let urgency = s.urgency;
        s.set_class(0, PERF_BURST, urgency)
    };
    test_reject_qos_set_unauthorized_other_pid: ThreadSetQos, NotPermitted => |s| {
        let thread = s.thread;
        s.set_class(thread, IDLE, 0)
    };
    test_reject_invalid_qos_class: ThreadSetQos, InvalidArgument => |s| s.set_class(0, 4, 0);
    test_reject_qos_class_wire_overflow: ThreadSetQos, InvalidArgument => |s| s.set_class(0, 1 << 32 | NORMAL, 0);
    test_reject_qos_of_a_thread_that_is_gone: ThreadQos, StaleHandle => |s| {
        s.kill_child();
        s.call(SystemCall::ThreadQos, &[s.thread])
    };
    test_reject_budget_of_nothing: ProcessSetBudget, InvalidArgument => |s| {
        s.call(SystemCall::ProcessSetBudget, &[s.child, 0, 100_000])
    };
    test_reject_budget_above_its_period: ProcessSetBudget, InvalidArgument => |s| {
        s.call(SystemCall::ProcessSetBudget, &[s.child, 100_001, 100_000])
    };
    test_reject_budget_of_a_period_that_is_too_short: ProcessSetBudget, InvalidArgument => |s| {
        s.call(SystemCall::ProcessSetBudget, &[s.child, 1, 999])
    };
    test_reject_budget_of_a_period_that_is_too_long: ProcessSetBudget, InvalidArgument => |s| {
        s.call(SystemCall::ProcessSetBudget, &[s.child, 1, 10_000_001])
    };
    test_reject_budget_of_the_dead: ProcessSetBudget, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::ProcessSetBudget, &[s.child, 1_000, 100_000])
    };
    test_reject_thread_qos_with_an_unknown_handle: ThreadQos, InvalidHandle => |s| s.no_handle(SystemCall::ThreadQos);
    test_reject_thread_qos_with_a_stale_handle: ThreadQos, StaleHandle => |s| s.stale_handle(SystemCall::ThreadQos);
    test_reject_thread_qos_with_a_handle_of_another_kind: ThreadQos, WrongKind => |s| s.wrong_kind(SystemCall::ThreadQos);
    test_reject_thread_qos_with_a_missing_right: ThreadQos, NotPermitted => |s| s.right_missing(SystemCall::ThreadQos);
    test_reject_thread_set_qos_with_an_unknown_handle: ThreadSetQos, InvalidHandle => |s| s.no_handle(SystemCall::ThreadSetQos);
    test_reject_thread_set_qos_with_a_stale_handle: ThreadSetQos, StaleHandle => |s| s.stale_handle(SystemCall::ThreadSetQos);
    test_reject_thread_set_qos_with_a_handle_of_another_kind: ThreadSetQos, WrongKind => |s| s.wrong_kind(SystemCall::ThreadSetQos);
    test_reject_thread_set_qos_with_a_missing_right: ThreadSetQos, NotPermitted => |s| s.right_missing(SystemCall::ThreadSetQos);
    test_reject_affinity_to_no_hart: ThreadSetAffinity, InvalidArgument => |s| {
        s.call(SystemCall::ThreadSetAffinity, &[0, 0])
    };
    test_reject_affinity_to_a_hart_that_is_not_online: ThreadSetAffinity, InvalidArgument => |s| {
        s.call(SystemCall::ThreadSetAffinity, &[0, 1 << 63 | 1 << 32 | 2])
    };
    test_reject_affinity_with_an_unknown_handle: ThreadSetAffinity, InvalidHandle => |s| s.no_handle(SystemCall::ThreadSetAffinity);
    test_reject_affinity_with_a_stale_handle: ThreadSetAffinity, StaleHandle => |s| s.stale_handle(SystemCall::ThreadSetAffinity);
    test_reject_affinity_with_a_handle_of_another_kind: ThreadSetAffinity, WrongKind => |s| s.wrong_kind(SystemCall::ThreadSetAffinity);
    test_reject_affinity_with_a_missing_right: ThreadSetAffinity, NotPermitted => |s| s.right_missing(SystemCall::ThreadSetAffinity);
    test_reject_budget_with_an_unknown_handle: ProcessSetBudget, InvalidHandle => |s| s.no_handle(SystemCall::ProcessSetBudget);
    test_reject_budget_with_a_stale_handle: ProcessSetBudget, StaleHandle => |s| s.stale_handle(SystemCall::ProcessSetBudget);
    test_reject_budget_with_a_handle_of_another_kind: ProcessSetBudget, WrongKind => |s| s.wrong_kind(SystemCall::ProcessSetBudget);
    test_reject_budget_with_a_missing_right: ProcessSetBudget, NotPermitted => |s| s.right_missing(SystemCall::ProcessSetBudget);
}
