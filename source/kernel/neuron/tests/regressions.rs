//! Bugs that were found: each test tells the story, and fails on the kernel that had it.

use neuron::testing::Machine;
use nexus_abi::SystemCall;
use nexus_abi::limits::FOREVER;
use nexus_abi::records::ProcessParameters;

/// Timers were bounded by nothing but the quota. Armed, they took the places in the deadline heap that
/// threads rely on, and the next wait with a deadline stopped the kernel by an assertion.
#[test]
fn armed_timers_leave_every_thread_its_place_in_the_deadline_heap() {
    let mut machine = Machine::new();
    let parameters = ProcessParameters { capabilities_max: 2_048, quota_pages: 1_024, ..machine.parameters() };
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
