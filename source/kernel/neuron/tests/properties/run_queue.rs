//! The run queue: who is next, and how long anybody waits.

use crate::small_memory;
use neuron::memory::Id;
use neuron::object::{Process, Thread};
use neuron::run_queue::{PASSED_OVER_MAX, RunQueue};
use nexus_abi::capability::Qos;
use proptest::prelude::*;
use std::collections::VecDeque;

const THREADS: usize = 12;
const CLASSES: usize = Qos::ALL.len();

#[derive(Clone, Debug)]
enum Step {
    /// Puts a thread that is out into a class.
    Push(usize),
    Pop,
    /// Takes a thread out that need not be in.
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CLASSES).prop_map(Step::Push),
        5 => Just(Step::Pop),
        1 => (0..THREADS).prop_map(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn urgent_first_in_order_and_nobody_starves(steps in prop::collection::vec(step(), 1..400)) {
        let (memory, mut account) = small_memory(64);
        let process = Id::<Process>::new(1, 1).expect("not granule 0");
        let threads: Vec<Id<Thread>> = (0..THREADS)
            .map(|_| account.create(&memory, 1, Thread::new(process, 0, 0, 0, Qos::Normal)).expect("room"))
            .collect();
        let mut out = threads.clone();
        let mut queue = RunQueue::new();
        let mut model: [VecDeque<Id<Thread>>; CLASSES] = Default::default();
        // Choices of a higher class since this one, which was waiting, had its turn; and choices of any
        // other class in a row.
        let (mut passed_over, mut waited) = ([0; CLASSES], [0; CLASSES]);
        for step in steps {
            match step {
                Step::Push(class) => if let Some(thread) = out.pop() {
                    queue.push(&memory, thread, Qos::ALL[class]);
                    model[class].push_back(thread);
                },
                Step::Remove(thread) => {
                    let thread = threads[thread];
                    queue.remove_if_queued(&memory, thread);
                    for class in &mut model {
                        class.retain(|&queued| queued != thread);
                    }
                    out.retain(|&id| id != thread);
                    out.push(thread);
                }
                Step::Pop => match queue.pop(&memory) {
                    None => prop_assert!(model.iter().all(VecDeque::is_empty)),
                    Some(thread) => {
                        let class = model.iter().position(|class| class.front() == Some(&thread));
                        let class = class.expect("the first of a class");
                        let passed: Vec<usize> =
                            (0..CLASSES).filter(|&other| other != class && !model[other].is_empty()).collect();
                        let overdue = passed_over[class] >= PASSED_OVER_MAX;
                        prop_assert!(overdue || passed.iter().all(|&other| other < class), "class order");
                        model[class].pop_front();
                        out.push(thread);
                        (passed_over[class], waited[class]) = (0, 0);
                        for other in passed {
                            passed_over[other] += u32::from(other < class);
                            waited[other] += 1;
                            // Each of the other classes may be overdue too.
                            let bound = PASSED_OVER_MAX + CLASSES as u32;
                            prop_assert!(waited[other] <= bound, "class {} starves", other);
                        }
                    }
                },
            }
            for class in (0..CLASSES).filter(|&class| model[class].is_empty()) {
                waited[class] = 0;
            }
            prop_assert_eq!(queue.is_empty(), model.iter().all(VecDeque::is_empty));
            let urgent = Qos::ALL.into_iter().rev().find(|&class| !model[class as usize].is_empty());
            prop_assert_eq!(queue.most_urgent(), urgent);
        }
    }
}
