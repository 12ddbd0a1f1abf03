//! Threads that are ready on one hart, in four classes: the most urgent first, and after [`PASSED_OVER_MAX`] choices that
//! passed a waiting class over, that one.

use crate::memory::list::LinksOf;
use crate::memory::{Id, List, Memory};
use crate::object::Thread;
use crate::object::thread::Queue;
use nexus_abi::capability::Qos;

/// Choices that may pass a waiting class over before it gets a turn.
pub const PASSED_OVER_MAX: u32 = 16;
const CLASSES: usize = Qos::ALL.len();

/// Threads that are ready on one hart.
pub struct RunQueue {
    classes: [List<Thread, Queue>; CLASSES],
    /// The classes with somebody ready, one bit each.
    occupied: u32,
    passed_over: [u32; CLASSES],
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl RunQueue {
    /// Nobody is ready.
    pub const fn new() -> Self {
        RunQueue { classes: [const { List::new() }; CLASSES], occupied: 0, passed_over: [0; CLASSES] }
    }

    /// Whether nobody is ready.
    pub fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// The classes with somebody ready, one bit each.
    pub fn occupied(&self) -> u32 {
        self.occupied
    }

    /// The most urgent class with somebody ready.
    pub fn most_urgent(&self) -> Option<Qos> {
        self.occupied.checked_ilog2().and_then(|class| Qos::from_number(class.into()))
    }

    /// Puts a thread that is in no queue at the end of a class.
    #[inline]
    pub fn push(&mut self, memory: &Memory, thread: Id<Thread>, class: Qos) {
        let shared = memory.shared_at::<Thread>(thread.granule());
        let links = Queue::links(shared);
        assert!(!links.linked(), "a thread is in a queue already");
        shared.set_urgency(class);
        self.classes[class as usize]
            .push_known(thread.granule(), links, |member| Queue::links(memory.shared_at::<Thread>(member)));
        self.occupied |= 1 << class as u32;
    }

    /// Takes a thread out.
    pub fn remove(&mut self, memory: &Memory, thread: Id<Thread>) {
        let class = memory.shared_at::<Thread>(thread.granule()).urgency() as usize;
        self.classes[class].remove(memory, thread);
        self.note_removed(class);
    }

    fn note_removed(&mut self, class: usize) {
        if self.classes[class].is_empty() {
            self.occupied &= !(1 << class);
        }
    }

    /// Takes a ready thread out if it is in this queue: it is not while it runs. Yields whether it was.
    pub fn remove_if_queued(&mut self, memory: &Memory, thread: Id<Thread>) -> bool {
        let queued = Queue::links(memory.shared_at::<Thread>(thread.granule())).linked();
        if queued {
            self.remove(memory, thread);
        }
        queued
    }

    /// Whoever is ready of a class, in turn.
    pub fn of_class<'m>(&self, memory: &'m Memory, class: Qos) -> impl Iterator<Item = Id<Thread>> + use<'m> {
        self.classes[class as usize].iter(memory)
    }

    /// Whoever is ready, most urgent class first.
    #[cfg(feature = "host")]
    pub fn iter<'m>(&self, memory: &'m Memory) -> impl Iterator<Item = Id<Thread>> + use<'m> {
        let classes: std::vec::Vec<_> = self.classes.iter().rev().map(|class| class.iter(memory)).collect();
        classes.into_iter().flatten()
    }

    /// Takes the thread that runs next.
    #[inline]
    pub fn pop(&mut self, memory: &Memory) -> Option<Id<Thread>> {
        let highest = self.occupied.checked_ilog2()? as usize;
        let class = if self.occupied.is_power_of_two() { highest } else { self.choose_class(highest) };
        self.passed_over[class] = 0;
        let thread = self.classes[class].pop_front(memory);
        self.note_removed(class);
        thread
    }

    /// The class of the thread that runs next: the highest, unless one has been passed over too often.
    fn choose_class(&mut self, highest: usize) -> usize {
        let is_overdue =
            |&class: &usize| self.occupied >> class & 1 != 0 && self.passed_over[class] >= PASSED_OVER_MAX;
        let class = (0..CLASSES).find(is_overdue).unwrap_or(highest);
        for lower in 0..class {
            self.passed_over[lower] += self.occupied >> lower & 1;
        }
        class
    }
}
