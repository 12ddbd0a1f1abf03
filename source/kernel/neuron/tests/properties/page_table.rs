//! The page table walker against a map from page to what it shows.

use neuron::memory::page_table::{LEVEL1_BYTES, LEVEL2_BYTES, Leaf, PageTable, Protection, tables_for};
use neuron::memory::{FrameKind, PhysicalAddress};
use neuron::testing::{PAGE, memory};
use nexus_abi::Rights;
use nexus_abi::limits::USER_END;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const FRAMES: u32 = 128;

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, Protection),
    Unmap(u64),
}

/// Pages that share tables often, and the borders of tables and of user memory.
fn page() -> impl Strategy<Value = u64> {
    let borders = [0, LEVEL1_BYTES - PAGE, LEVEL1_BYTES, LEVEL2_BYTES - PAGE, LEVEL2_BYTES, USER_END - PAGE];
    let near = (0..2u64, 0..3u64, 0..4u64)
        .prop_map(|(upper, middle, lower)| upper * LEVEL2_BYTES + middle * LEVEL1_BYTES + lower * PAGE);
    prop_oneof![2 => near, 1 => prop::sample::select(borders.to_vec())]
}

fn protection() -> impl Strategy<Value = Protection> {
    let legal = [Rights::READ, Rights::WRITE, Rights::EXECUTE, Rights::READ | Rights::WRITE];
    prop::sample::select(legal.to_vec()).prop_filter_map("legal rights", Protection::user)
}

fn step() -> impl Strategy<Value = Step> {
    let map = (page(), 0..1u64 << 40, protection())
        .prop_map(|(page, number, protection)| Step::Map(page, number * PAGE, protection));
    prop_oneof![3 => map, 1 => page().prop_map(Step::Unmap)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_walk_finds_what_was_mapped_last(steps in prop::collection::vec(step(), 1..80)) {
        let memory = memory(FRAMES as usize);
        (1..FRAMES).for_each(|frame| memory.release(frame));
        let root = memory.take(FrameKind::PageTable as u8).expect("a full pool");
        let table = PageTable { root };
        let mut model: BTreeMap<u64, Leaf> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut tables = 0;
        for step in steps {
            match step {
                Step::Map(page, physical, protection) => {
                    let leaf = Leaf { address: PhysicalAddress(physical), protection };
                    let before = tables;
                    table.map(&memory, page, leaf.address, protection, || tables += 1).expect("a pool");
                    prop_assert!(tables - before <= tables_for(page, PAGE) as u32, "more than was reserved");
                    model.insert(page, leaf);
                    seen.insert(page);
                }
                Step::Unmap(page) => {
                    prop_assert_eq!(table.unmap(&memory, page), model.remove(&page).is_some());
                    seen.insert(page);
                }
            }
            prop_assert_eq!(memory.free_count(), FRAMES - 2 - tables);
            for page in &seen {
                prop_assert_eq!(table.walk(&memory, *page), model.get(page).copied());
                prop_assert_eq!(table.walk(&memory, page + PAGE - 1), model.get(page).copied());
            }
        }
        release_everything(&memory, table, seen.into_iter());
        prop_assert_eq!(memory.free_count(), FRAMES - 2, "every table came back");
        for page in model.keys() {
            prop_assert_eq!(table.walk(&memory, *page), None);
        }
    }

    #[test]
    fn user_pages_are_never_writable_and_executable(bits in any::<u32>()) {
        let rights = Rights::from_bits_truncate(bits);
        let access = rights & (Rights::READ | Rights::WRITE | Rights::EXECUTE);
        let possible = !access.is_empty() && !access.contains(Rights::WRITE | Rights::EXECUTE);
        let protection = Protection::user(rights);
        prop_assert_eq!(protection.is_some(), possible);
        if let Some(protection) = protection {
            prop_assert!(protection.allows(access));
            prop_assert!(!protection.allows(Rights::WRITE | Rights::EXECUTE));
            let readable = access.intersects(Rights::READ | Rights::WRITE);
            prop_assert_eq!(protection.allows(Rights::READ), readable, "writable implies readable");
            prop_assert_eq!(protection.allows(Rights::WRITE), access.contains(Rights::WRITE));
            prop_assert_eq!(protection.allows(Rights::EXECUTE), access.contains(Rights::EXECUTE));
        }
    }
}

/// Gives every table back; a second time there is nothing to give.
fn release_everything(memory: &neuron::memory::Memory, table: PageTable, pages: impl Iterator<Item = u64>) {
    let pages: Vec<u64> = pages.collect();
    for level in [0, 1] {
        for page in &pages {
            let there = table.table(memory, *page, level).is_some();
            assert_eq!(table.release_table(memory, *page, level), there);
            assert!(!table.release_table(memory, *page, level), "a table is released once");
        }
    }
}
