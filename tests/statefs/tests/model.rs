//! The store agrees with a map, whatever is asked of it.

use proptest::prelude::*;
use statefs::{Batch, Error, Mutant, Store, Write};
use statefs_proofs::medium::Medium;
use statefs_proofs::random::Random;
use statefs_proofs::scenario;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Put(usize, Vec<u8>),
    Delete(usize),
    Batch(Vec<(usize, Option<Vec<u8>>)>),
    Checkpoint,
    Seal,
    Reopen,
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..300), 1 => prop::collection::vec(any::<u8>(), 4000..9000)]
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..scenario::KEYS;
    prop_oneof![
        8 => (key.clone(), value()).prop_map(|(key, value)| Step::Put(key, value)),
        4 => key.clone().prop_map(Step::Delete),
        3 => prop::collection::vec((key, prop::option::of(value())), 1..5).prop_map(Step::Batch),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Seal),
        1 => Just(Step::Reopen),
    ]
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(medium: Medium, random: &mut Random) -> Store<Medium> {
    Store::open(medium, scenario::options(random, Mutant::None)).expect("opens")
}

fn apply_batch(store: &mut Store<Medium>, map: &mut Map, changes: &[(usize, Option<Vec<u8>>)]) {
    let keys: Vec<Vec<u8>> = changes.iter().map(|(key, _)| scenario::key(*key)).collect();
    let writes: Vec<Write<'_>> = keys
        .iter()
        .zip(changes)
        .map(|(key, (_, value))| Write { key, value: value.as_deref(), expect: None })
        .collect();
    let mut unique = keys.clone();
    unique.sort();
    unique.dedup();
    let answer = store.apply_batch(&Batch { writes: &writes, operation: None });
    if unique.len() < keys.len() {
        assert_eq!(answer, Err(Error::DuplicateKey));
    } else if answer == Err(Error::BatchTooLarge) {
        // Refused for its size before anything is looked up, be a key to delete there or not.
        let bytes: usize = writes.iter().map(|write| write.value.map_or(0, <[u8]>::len)).sum();
        assert!(bytes > 16_000, "{bytes} bytes fit into the smallest segments");
    } else if writes.iter().any(|write| write.value.is_none() && !map.contains_key(write.key)) {
        assert_eq!(answer, Err(Error::NotFound));
    } else {
        answer.expect("room");
        for (key, (_, value)) in keys.into_iter().zip(changes) {
            match value {
                Some(value) => map.insert(key, value.clone()),
                None => map.remove(&key),
            };
        }
    }
}

fn agrees(store: &mut Store<Medium>, map: &Map) {
    let listed: Vec<Vec<u8>> =
        store.list(b"/state/", None, 256).keys.into_iter().map(|listed| listed.key.into()).collect();
    assert_eq!(listed, map.keys().cloned().collect::<Vec<_>>());
    for (key, value) in map {
        assert_eq!(store.get(key).as_ref(), Ok(value));
        assert_eq!(store.stat(key).map(|stat| stat.length as usize), Ok(value.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_a_map(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..120)) {
        let mut random = Random::new(seed);
        let mut store = open(scenario::formatted(seed), &mut random);
        let mut map = Map::new();
        for step in &steps {
            match step {
                Step::Put(key, value) => apply_batch(&mut store, &mut map, &[(*key, Some(value.clone()))]),
                Step::Delete(key) => apply_batch(&mut store, &mut map, &[(*key, None)]),
                Step::Batch(changes) => apply_batch(&mut store, &mut map, changes),
                Step::Checkpoint => store.checkpoint_now().expect("room"),
                Step::Seal => store.seal().expect("room"),
                Step::Reopen => store = open(store.into_device(), &mut random),
            }
            agrees(&mut store, &map);
        }
        agrees(&mut open(store.into_device(), &mut random), &map);
    }
}
