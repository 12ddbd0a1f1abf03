//! The heap of deadlines against a map from thread to time.

use crate::small_memory;
use neuron::deadline::{Deadlines, Entry, Node};
use neuron::memory::{Granule, Id};
use neuron::object::{Process, Thread};
use nexus_abi::capability::Qos;
use nexus_abi::limits::FOREVER;
use proptest::prelude::*;
use std::collections::BTreeMap;

const THREADS: usize = 24;
/// Fewer than there are threads, to see the heap refuse.
const PLACES: usize = 20;

#[derive(Clone, Debug)]
enum Step {
    AtLatest(usize, u64),
    Remove(usize),
    /// Takes out whatever is due at this time.
    Pop(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let times = 0..100u64;
    prop_oneof![
        5 => (0..THREADS, times.clone()).prop_map(|(thread, key)| Step::AtLatest(thread, key)),
        1 => (0..THREADS).prop_map(Step::Remove),
        1 => times.prop_map(Step::Pop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_due_comes_up_earliest_first(steps in prop::collection::vec(step(), 1..200)) {
        let (memory, mut account) = small_memory(64);
        let process = Id::<Process>::new(1, 1).expect("not granule 0");
        let threads: Vec<Granule> = (0..THREADS)
            .map(|_| {
                let thread = Thread::new(process, 0, 0, 0, Qos::Normal);
                account.create(&memory, 1, thread).expect("room").granule()
            })
            .collect();
        let mut heap = Deadlines::new(3, Box::leak(vec![Entry::EMPTY; PLACES].into_boxed_slice()));
        let mut model: BTreeMap<Granule, u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::AtLatest(thread, key) => {
                    let granule = threads[thread];
                    let fits = model.contains_key(&granule) || model.len() < PLACES;
                    prop_assert_eq!(heap.at_latest(&memory, Node::Thread(granule), key), fits);
                    if fits {
                        let held = model.entry(granule).or_insert(key);
                        *held = key.min(*held);
                    }
                }
                Step::Remove(thread) => {
                    heap.remove(&memory, Node::Thread(threads[thread]));
                    model.remove(&threads[thread]);
                }
                Step::Pop(now) => {
                    while let Some(node) = heap.pop(&memory, now) {
                        let Node::Thread(granule) = node else { panic!("{node:?} was never put in") };
                        let key = model.remove(&granule).expect("it is in");
                        prop_assert!(key <= now && model.values().all(|&later| key <= later));
                    }
                    prop_assert!(model.values().all(|&key| key > now), "something due stayed");
                }
            }
            prop_assert_eq!(heap.earliest(), model.values().copied().min().unwrap_or(FOREVER));
        }
    }
}
