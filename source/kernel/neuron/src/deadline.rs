//! What happens at a time: a binary heap of threads' deadlines and armed timers, one a hart.
//!
//! A node stays in the heap when the wait that put it there ends; the next wait touches the heap only if
//! its deadline is earlier. A node that comes up too early is put in again with the deadline that holds
//! then. So calls and replies, whose deadlines are seldom reached, do not touch the heap at all.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Granule, Memory};
use crate::object::{Thread, Timer};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nexus_abi::limits::FOREVER;

/// Whose deadline it is, by granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A thread that waits.
    Thread(Granule),
    /// A timer that is armed.
    Timer(Granule),
}

/// A place of the heap.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    key: u64,
    node: Node,
}

impl Entry {
    /// What storage is filled with before the heap has it.
    pub const EMPTY: Entry = Entry { key: FOREVER, node: Node::Thread(0) };
}

/// The heap of one hart. Its storage bounds it; there are never more threads and timers than places.
pub struct Deadlines {
    entries: &'static mut [Entry],
    length: usize,
    hart: u32,
}

/// A node's place: the index plus 1 in the lower bits, the hart's in the upper. 0: in no heap.
const HART_SHIFT: u32 = 24;
const PLACE: u32 = (1 << HART_SHIFT) - 1;
const _: () = assert!(2 * nexus_abi::limits::THREADS_MAX < PLACE as usize);

/// The hart in whose heap a node is.
pub fn hart_of(memory: &Memory, node: Node) -> Option<usize> {
    let word = links(memory, node).0.load(Relaxed);
    (word != 0).then_some((word >> HART_SHIFT) as usize)
}

impl Deadlines {
    /// A heap without storage, for a hart that is not online.
    pub const fn empty() -> Self {
        Deadlines { entries: &mut [], length: 0, hart: 0 }
    }

    /// The heap of a hart, over this storage.
    pub fn new(hart: usize, entries: &'static mut [Entry]) -> Self {
        Deadlines { entries, length: 0, hart: hart as u32 }
    }

    /// The earliest time.
    pub fn earliest(&self) -> u64 {
        if self.length == 0 { FOREVER } else { self.entries[0].key }
    }

    /// Makes sure that a node, which is in no other hart's heap, comes up at `key` or earlier. `false`: there is
    /// no place left.
    #[must_use]
    pub fn at_latest(&mut self, memory: &Memory, node: Node, key: u64) -> bool {
        let (place, _) = links(memory, node);
        let place = (place.load(Relaxed) & PLACE) as usize;
        if place == 0 {
            if self.length == self.entries.len() {
                return false;
            }
            self.length += 1;
            self.put(memory, self.length - 1, Entry { key, node });
            self.sift_up(memory, self.length - 1);
        } else if key < self.entries[place - 1].key {
            self.put(memory, place - 1, Entry { key, node });
            self.sift_up(memory, place - 1);
        }
        true
    }

    /// Takes a node out, if it is in any: then it is in this one.
    pub fn remove(&mut self, memory: &Memory, node: Node) {
        let (place, key) = links(memory, node);
        let index = (place.swap(0, Relaxed) & PLACE) as usize;
        key.store(FOREVER, Relaxed);
        if index == 0 {
            return;
        }
        self.length -= 1;
        if index - 1 < self.length {
            self.put(memory, index - 1, self.entries[self.length]);
            self.sift_down(memory, index - 1);
            self.sift_up(memory, index - 1);
        }
    }

    /// Takes the first node out, if its time has come.
    pub fn pop(&mut self, memory: &Memory, now: u64) -> Option<Node> {
        if self.length == 0 || self.entries[0].key > now {
            return None;
        }
        let node = self.entries[0].node;
        self.remove(memory, node);
        Some(node)
    }

    fn put(&mut self, memory: &Memory, index: usize, entry: Entry) {
        self.entries[index] = entry;
        let (place, key) = links(memory, entry.node);
        place.store(self.hart << HART_SHIFT | (index as u32 + 1), Relaxed);
        key.store(entry.key, Relaxed);
    }

    fn sift_up(&mut self, memory: &Memory, mut index: usize) {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.entries[parent].key <= self.entries[index].key {
                return;
            }
            self.exchange(memory, parent, index);
            index = parent;
        }
    }

    fn sift_down(&mut self, memory: &Memory, mut index: usize) {
        loop {
            let children = [2 * index + 1, 2 * index + 2];
            let smallest = children.into_iter().filter(|&child| child < self.length);
            let Some(child) = smallest.min_by_key(|&child| self.entries[child].key) else { return };
            if self.entries[index].key <= self.entries[child].key {
                return;
            }
            self.exchange(memory, index, child);
            index = child;
        }
    }

    fn exchange(&mut self, memory: &Memory, one: usize, other: usize) {
        let (first, second) = (self.entries[one], self.entries[other]);
        self.put(memory, one, second);
        self.put(memory, other, first);
    }
}

/// Where a node keeps its place and its key.
fn links(memory: &Memory, node: Node) -> (&AtomicU32, &AtomicU64) {
    match node {
        Node::Thread(granule) => {
            let shared = memory.shared_at::<Thread>(granule);
            (&shared.heap_place, &shared.heap_key)
        }
        Node::Timer(granule) => {
            let shared = memory.shared_at::<Timer>(granule);
            (&shared.heap_place, &shared.heap_key)
        }
    }
}

impl<A: Arch> Kernel<A> {
    /// Has a node come up on this hart at a deadline or earlier.
    pub(crate) fn remember_deadline(&self, hart: &Hart, node: Node, deadline: u64) {
        if hart_of(&self.memory, node).is_some_and(|other| other != hart.index) {
            self.forget_deadline(node);
        }
        // Each heap has a place for every thread and every timer that there can be.
        let placed = self.deadlines[hart.index].lock().at_latest(&self.memory, node, deadline);
        assert!(placed, "the deadline heap is smaller than the number of threads and timers");
    }

    /// A node no longer comes up anywhere.
    pub(crate) fn forget_deadline(&self, node: Node) {
        if let Some(hart) = hart_of(&self.memory, node) {
            self.deadlines[hart].lock().remove(&self.memory, node);
        }
    }
}
