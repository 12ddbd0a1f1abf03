//! Capability tables by themselves, and the tree of capabilities through system calls.

use crate::small_memory;
use neuron::memory::page_table::PageTable;
use neuron::memory::slab::GRANULES;
use neuron::memory::{FrameKind, Granule, Memory};
use neuron::object::Process;
use neuron::object::account::Account;
use neuron::object::capability::{Capability, Table, Use};
use neuron::object::process::ProcessShared;
use neuron::testing::{Actor, Machine, PAGE};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// Entries that the table of the test can hold.
const USED_MAX: u32 = 100;
/// Calls that the table of the test can hold unanswered.
const OPEN_CALLS_MAX: u32 = 8;
/// The granule that stands for the process in entries.
const OWNER: Granule = 64;

#[derive(Clone, Debug)]
enum TableStep {
    Take(bool),
    /// Frees one of the entries in use, chosen by this number.
    Free(usize),
}

fn table_step() -> impl Strategy<Value = TableStep> {
    prop_oneof![
        5 => prop::bool::weighted(0.1).prop_map(TableStep::Take),
        2 => any::<usize>().prop_map(TableStep::Free),
    ]
}

fn process_with_table(memory: &Memory, mut account: Account) -> (Process, ProcessShared) {
    let index = account.take(memory, FrameKind::Data as u8).expect("a full pool");
    let shared = ProcessShared::default();
    shared.table_index.store(index, Relaxed);
    let table = Table::new(index, USED_MAX, OPEN_CALLS_MAX);
    (Process::new(account, table, None, PageTable { root: 0 }), shared)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn handles_name_one_entry_and_stay_stale(
        quota in 1..5u64,
        steps in prop::collection::vec(table_step(), 1..300),
    ) {
        let (memory, _) = small_memory(64);
        let (mut process, shared) = process_with_table(&memory, Account::new(quota));
        let mut live: Vec<(Granule, Handle, bool, u64)> = Vec::new();
        let mut stale: Vec<Handle> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let open = live.iter().filter(|entry| entry.2).count();
            match step {
                TableStep::Take(open_call) => {
                    let (purpose, used, limit) = match open_call {
                        true => (Use::OpenCall, open, OPEN_CALLS_MAX),
                        false => (Use::Ordinary, live.len() - open, USED_MAX),
                    };
                    let pages = process.table.page_count();
                    let full = live.len() == GRANULES as usize * pages as usize;
                    let taken = process.take_entry(&memory, &shared, OWNER, purpose);
                    if used >= limit as usize {
                        prop_assert_eq!(taken, Err(Error::NoSlots));
                    } else if full && 1 + u64::from(pages) == quota {
                        prop_assert_eq!(taken, Err(Error::NoMemory));
                        prop_assert_eq!(process.account.reserved, quota);
                    } else {
                        let granule = taken.expect("neither limit nor quota is reached");
                        prop_assert!(live.iter().all(|entry| entry.0 != granule), "given twice");
                        let kind = if open_call { Kind::Reply } else { Kind::SystemControl };
                        let slot = memory.capability_slot(granule);
                        slot.write(&Capability::new(kind, Rights::empty(), number as u64));
                        prop_assert!(!stale.contains(&slot.handle()), "a stale handle lives again");
                        live.push((granule, slot.handle(), open_call, number as u64));
                    }
                }
                TableStep::Free(choice) if !live.is_empty() => {
                    let (granule, handle, ..) = live.swap_remove(choice % live.len());
                    process.free_entry(&memory, granule);
                    stale.push(handle);
                }
                TableStep::Free(_) => {}
            }
            let open = live.iter().filter(|entry| entry.2).count();
            prop_assert_eq!(process.table.open_calls as usize, open);
            prop_assert_eq!(process.table.used as usize, live.len() - open);
            prop_assert_eq!(process.account.reserved, 1 + u64::from(process.table.page_count()));
            for (granule, handle, _, object) in &live {
                let (_, capability) = memory.find_capability(&shared, *handle).expect("a live handle");
                prop_assert_eq!((capability.granule, capability.object), (*granule, *object));
            }
            for handle in &stale {
                let found = memory.find_capability(&shared, *handle).map(|_| ());
                prop_assert_eq!(found, Err(Error::StaleHandle));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum TreeStep {
    Create,
    /// Copies a capability to one of the processes.
    Copy(usize, bool),
    Close(usize),
    Revoke(usize),
}

fn tree_step() -> impl Strategy<Value = TreeStep> {
    prop_oneof![
        1 => Just(TreeStep::Create),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, away)| TreeStep::Copy(which, away)),
        2 => any::<usize>().prop_map(TreeStep::Close),
        1 => any::<usize>().prop_map(TreeStep::Revoke),
    ]
}

/// A capability as the model knows it, and the number of the one that it derives from.
#[derive(Clone, Copy, Debug)]
struct Held {
    number: usize,
    parent: Option<usize>,
    holder: usize,
    handle: u64,
}

/// The model's tree.
#[derive(Default)]
struct Tree {
    live: Vec<Held>,
    gone: Vec<(usize, u64)>,
    next: usize,
}

impl Tree {
    fn add(&mut self, parent: Option<usize>, holder: usize, handle: u64) {
        self.live.push(Held { number: self.next, parent, holder, handle });
        self.next += 1;
    }

    fn drop_at(&mut self, place: usize) -> Held {
        let held = self.live.swap_remove(place);
        self.gone.push((held.holder, held.handle));
        held
    }

    /// What derived from it derives from its parent now.
    fn close(&mut self, place: usize) {
        let closed = self.drop_at(place);
        for held in self.live.iter_mut().filter(|held| held.parent == Some(closed.number)) {
            held.parent = closed.parent;
        }
    }

    /// Whatever derives from it is gone.
    fn revoke(&mut self, number: usize) {
        while let Some(place) = self.live.iter().position(|held| held.parent == Some(number)) {
            let below = self.drop_at(place);
            self.revoke(below.number);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn copies_live_until_closed_or_revoked(steps in prop::collection::vec(tree_step(), 1..80)) {
        let mut machine = Machine::with_frames(2560);
        let actors: [Actor; 2] = [machine.process(), machine.process()];
        // Every table has its first page before the counts are taken.
        let ends = [0, 1].map(|from| machine.give_process(actors[from], actors[1 - from].process));
        machine.settle();
        let before = machine.counts();
        let used = actors.map(|actor| machine.with(actor.process, |process| process.table.used));
        let reserved = actors.map(|actor| machine.with(actor.process, |process| process.account.reserved));
        let mut tree = Tree::default();
        for step in steps {
            let place = |which: usize| which % tree.live.len().max(1);
            match step {
                TreeStep::Create => {
                    // The table's own bound is not what is tested here.
                    if tree.live.len() < 40 {
                        let handle = machine.call(actors[0], SystemCall::VmoCreate, &[0, PAGE]);
                        tree.add(None, 0, handle.expect("a quota"));
                    }
                }
                _ if tree.live.is_empty() => {}
                TreeStep::Copy(which, away) => if tree.live.len() < 40 {
                    let source = tree.live[place(which)];
                    let rights = Rights::READ.bits().into();
                    let (holder, copy) = match away {
                        true => {
                            let call = [ends[source.holder], source.handle, rights];
                            (1 - source.holder, machine.call(actors[source.holder], SystemCall::CapTransferTo, &call))
                        }
                        false => {
                            let call = [source.handle, rights];
                            (source.holder, machine.call(actors[source.holder], SystemCall::CapDup, &call))
                        }
                    };
                    tree.add(Some(source.number), holder, copy.expect("a live capability"));
                },
                TreeStep::Close(which) => {
                    let place = place(which);
                    let held = tree.live[place];
                    prop_assert_eq!(machine.call(actors[held.holder], SystemCall::CapClose, &[held.handle]), Ok(0));
                    tree.close(place);
                }
                TreeStep::Revoke(which) => {
                    let held = tree.live[place(which)];
                    prop_assert_eq!(machine.call(actors[held.holder], SystemCall::CapRevoke, &[held.handle]), Ok(0));
                    tree.revoke(held.number);
                }
            }
            check(&machine, &actors, &tree)?;
        }
        for held in std::mem::take(&mut tree.live) {
            prop_assert_eq!(machine.call(actors[held.holder], SystemCall::CapClose, &[held.handle]), Ok(0));
        }
        machine.settle();
        prop_assert_eq!(machine.counts(), before);
        prop_assert_eq!(actors.map(|actor| machine.with(actor.process, |process| process.table.used)), used);
        let now = actors.map(|actor| machine.with(actor.process, |process| process.account.reserved));
        prop_assert_eq!(now, reserved);
    }
}

/// Live capabilities are found, the others are stale.
fn check(machine: &Machine, actors: &[Actor; 2], tree: &Tree) -> Result<(), TestCaseError> {
    let memory = &machine.kernel.memory;
    let find = |holder: usize, handle| {
        let shared = memory.shared(actors[holder].process).expect("a live process");
        memory.find_capability(shared, Handle(handle)).map(|(_, capability)| capability.kind)
    };
    for held in &tree.live {
        prop_assert_eq!(find(held.holder, held.handle), Ok(Kind::Vmo));
    }
    for &(holder, handle) in &tree.gone {
        prop_assert_eq!(find(holder, handle), Err(Error::StaleHandle));
    }
    Ok(())
}
