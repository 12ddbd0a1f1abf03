//! Who runs, and for how long: classes that are changed while threads run or wait, and budgets.

use neuron::object::Capability;
use neuron::testing::{Actor, Machine};
use nexus_abi::capability::Qos;
use nexus_abi::{Kind, Rights, SystemCall};

/// Ticks of a period.
const PERIOD: u64 = 100_000;

/// Two processes, each with one thread that is ready.
fn two_ready() -> (Machine, [Actor; 2]) {
    let mut machine = Machine::new();
    let actors = [machine.process(), machine.process()];
    actors.into_iter().for_each(|actor| machine.make_ready(actor));
    (machine, actors)
}

fn authority(machine: &mut Machine, to: Actor, most: Qos) -> u64 {
    let mut capability = Capability::new(Kind::QosAuthority, Rights::MANAGE, 0);
    capability.badge = most as u64;
    machine.give(to, capability)
}

/// Lets the machine choose who runs for so many turns; yields how many of them each actor got.
fn turns(machine: &mut Machine, actors: [Actor; 2], count: usize) -> [usize; 2] {
    let mut got = [0; 2];
    for _ in 0..count {
        let runs = machine.leave();
        for (actor, got) in actors.iter().zip(&mut got) {
            *got += usize::from(actor.thread == runs);
        }
        machine.end_of_turn();
    }
    got
}

#[test]
fn lowering_oneself_is_free_and_raising_takes_an_authority() {
    let (mut machine, [me, _]) = two_ready();
    let class = |machine: &mut Machine| machine.call(me, SystemCall::ThreadQos, &[0]);
    assert_eq!(class(&mut machine), Ok(Qos::Normal as u64));
    assert_eq!(machine.call(me, SystemCall::ThreadSetQos, &[0, Qos::Normal as u64, 0]), Ok(0));
    assert_eq!(machine.call(me, SystemCall::ThreadSetQos, &[0, Qos::Idle as u64, 0]), Ok(0));
    assert_eq!((class(&mut machine), machine.urgency(me)), (Ok(Qos::Idle as u64), Some(Qos::Idle)));
    let urgency = authority(&mut machine, me, Qos::Interactive);
    assert_eq!(machine.call(me, SystemCall::ThreadSetQos, &[0, Qos::Interactive as u64, urgency]), Ok(0));
    assert_eq!(machine.urgency(me), Some(Qos::Interactive));
}

#[test]
fn a_decision_is_a_record_and_asking_for_what_is_there_is_none() {
    let (mut machine, [me, _]) = two_ready();
    machine.call(me, SystemCall::ThreadSetQos, &[0, Qos::Normal as u64, 0]).unwrap();
    assert!(!machine.console().contains("QOS-AUDIT"));
    machine.call(me, SystemCall::ThreadSetQos, &[0, Qos::PerfBurst as u64, 0]).unwrap_err();
    assert!(machine.console().contains("QOS-AUDIT decision=deny reason=unauthorized_escalation"));
    machine.call(me, SystemCall::ThreadSetQos, &[0, Qos::Idle as u64, 0]).unwrap();
    assert!(machine.console().contains("QOS-AUDIT decision=allow reason=applied"));
}

#[test]
fn a_thread_that_waits_its_turn_changes_its_place() {
    let (mut machine, [me, other]) = two_ready();
    let process = machine.give_process(me, other.process);
    let thread = machine.call(me, SystemCall::ThreadCreate, &[process, 0x1000, 0x1000, 0, 0]).unwrap();
    let urgency = authority(&mut machine, me, Qos::PerfBurst);
    machine.call(me, SystemCall::ThreadSetQos, &[thread, Qos::PerfBurst as u64, urgency]).unwrap();
    machine.make_ready(me);
    let first = machine.leave();
    assert!(first != me.thread && first != other.thread, "the one that was raised runs first");
}

#[test]
fn a_runaway_of_the_highest_class_leaves_others_a_turn_in_seventeen() {
    let (mut machine, actors) = two_ready();
    machine.set_qos(actors[0], Qos::PerfBurst);
    machine.make_ready(actors[0]);
    let got = turns(&mut machine, actors, 170);
    assert!(got[1] >= 170 / 17, "{got:?}");
}

#[test]
fn beyond_its_budget_a_process_runs_when_nobody_else_wants_to() {
    let (mut machine, actors) = two_ready();
    let [me, other] = actors;
    let process = machine.give_process(other, me.process);
    machine.call(other, SystemCall::ProcessSetBudget, &[process, PERIOD / 10, PERIOD]).unwrap();
    machine.make_ready(other);
    machine.set_qos(me, Qos::PerfBurst);
    machine.make_ready(me);
    let before = ticks(&mut machine, me);
    let begin = machine.now();
    while machine.now() < begin + 10 * PERIOD {
        machine.leave();
        machine.end_of_turn();
    }
    let share = (ticks(&mut machine, me) - before) * 100 / (machine.now() - begin);
    assert!((9..=17).contains(&share), "it got {share} % of the time, of which 10 are its own");
}

fn ticks(machine: &mut Machine, actor: Actor) -> u64 {
    machine.status(actor.process).expect("alive").cpu_ticks
}

#[test]
fn what_is_used_beyond_a_budget_is_owed() {
    let mut budget = neuron::object::process::Budget { ticks: 10, period: 100, used: 0, began: 0 };
    assert!(!budget.charge(9, 9));
    assert!(budget.charge(26, 35), "used up, and 25 owed");
    assert!(!budget.begin_period(100) && !budget.begin_period(299));
    assert!(budget.begin_period(300));
    assert_eq!(budget.left(), 5);
}
