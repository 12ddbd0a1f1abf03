//! Doubly linked lists whose links live in the objects, so that a list never allocates.
//!
//! A list is guarded by the lock of whoever owns it, and so are the links of its members. An object is on
//! at most one list for each of its [`Links`]; removing it from a list that it is not on is a bug that
//! the assertions here find.
#![allow(unsafe_code)] // it follows links without asking whether who they name lives

use super::frame::Memory;
use super::slab::{Granule, Id, Object};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A member's links. A member that is alone on its list has itself as `next`, one that is on none has 0.
#[derive(Default)]
pub struct Links {
    next: AtomicU32,
    previous: AtomicU32,
}

impl Links {
    /// Whether the object is on a list.
    #[inline]
    pub fn linked(&self) -> bool {
        self.next.load(Relaxed) != 0
    }

    /// Forgets everything, for an object that begins.
    #[inline]
    pub fn reset(&self) {
        self.next.store(0, Relaxed);
        self.previous.store(0, Relaxed);
    }
}

/// Which links of a `T` a list uses.
pub trait LinksOf<T: Object> {
    /// The links.
    fn links(shared: &T::Shared) -> &Links;
}

/// A list of objects of type `T` by their links `L`. The links form a ring; the list knows its first.
pub struct List<T: Object, L: LinksOf<T>> {
    first: Granule,
    marker: PhantomData<fn() -> (T, L)>,
}

impl<T: Object, L: LinksOf<T>> Default for List<T, L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Object, L: LinksOf<T>> List<T, L> {
    /// An empty list.
    pub const fn new() -> Self {
        Self::from_first(0)
    }

    /// The list that has this first member (0: none), for one whose first is kept as a number.
    pub(crate) const fn from_first(first: Granule) -> Self {
        List { first, marker: PhantomData }
    }

    /// Whether nothing is on it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// The place of the first member; 0 is none.
    #[inline]
    pub fn first_granule(&self) -> Granule {
        self.first
    }

    /// Takes the first member off the list, by its links; `of` yields those of a member.
    #[inline(always)]
    pub(crate) fn pop_known<'l>(&mut self, first: &Links, of: impl Fn(Granule) -> &'l Links) {
        let (next, previous) = (first.next.load(Relaxed), first.previous.load(Relaxed));
        first.reset();
        if next == self.first {
            self.first = 0;
        } else {
            of(previous).next.store(next, Relaxed);
            of(next).previous.store(previous, Relaxed);
            self.first = next;
        }
    }

    /// Puts an object that is on no list at the end, by its links; `of` yields those of a member.
    #[inline(always)]
    pub(crate) fn push_known<'l>(
        &mut self,
        granule: Granule,
        links: &Links,
        of: impl Fn(Granule) -> &'l Links,
    ) {
        let (mut next, mut previous) = (granule, granule);
        if self.first == 0 {
            self.first = granule;
        } else {
            next = self.first;
            previous = of(next).previous.load(Relaxed);
            of(next).previous.store(granule, Relaxed);
            of(previous).next.store(granule, Relaxed);
        }
        links.next.store(next, Relaxed);
        links.previous.store(previous, Relaxed);
    }

    /// The first member.
    #[inline]
    pub fn first(&self, memory: &Memory) -> Option<Id<T>> {
        if self.first == 0 { None } else { memory.id_at(self.first) }
    }

    /// The member after this one, which must be on the list.
    pub fn after(&self, memory: &Memory, member: Id<T>) -> Option<Id<T>> {
        let next = Self::links(memory, member.granule()).next.load(Relaxed);
        if next == self.first { None } else { memory.id_at(next) }
    }

    /// The member before this one, which must be on the list.
    pub fn before(&self, memory: &Memory, member: Id<T>) -> Option<Id<T>> {
        if member.granule() == self.first {
            return None;
        }
        memory.id_at(Self::links(memory, member.granule()).previous.load(Relaxed))
    }

    /// The first member of which something is so. Lists that are walked while others wait are walked by this.
    pub fn find(&self, memory: &Memory, is_so: impl Fn(&T::Shared) -> bool) -> Option<Id<T>> {
        let mut place = self.first;
        while place != 0 {
            // SAFETY: members live: an object leaves its lists before it goes, and whoever has the list holds its lock.
            let shared = unsafe { memory.view().shared_of_live::<T>(place) };
            if is_so(shared) {
                return memory.id_at(place);
            }
            let next = L::links(shared).next.load(Relaxed);
            place = if next == self.first { 0 } else { next };
        }
        None
    }

    /// Every member, in order.
    pub fn iter<'m>(&self, memory: &'m Memory) -> impl Iterator<Item = Id<T>> + use<'m, T, L> {
        let list = List::<T, L> { first: self.first, marker: PhantomData };
        let mut next = self.first(memory);
        core::iter::from_fn(move || {
            let current = next?;
            next = list.after(memory, current);
            Some(current)
        })
    }

    /// Puts an object at the end.
    #[inline]
    pub fn push_back(&mut self, memory: &Memory, id: Id<T>) {
        let granule = id.granule();
        let links = Self::links(memory, granule);
        assert!(!links.linked(), "{} is on a list already", T::NAME);
        if self.first == 0 {
            links.next.store(granule, Relaxed);
            links.previous.store(granule, Relaxed);
            self.first = granule;
        } else {
            Self::insert_between(memory, granule, self.first);
        }
    }

    /// Puts an object before a member.
    pub fn insert_before(&mut self, memory: &Memory, id: Id<T>, member: Id<T>) {
        assert!(!Self::links(memory, id.granule()).linked(), "{} is on a list already", T::NAME);
        Self::insert_between(memory, id.granule(), member.granule());
        if self.first == member.granule() {
            self.first = id.granule();
        }
    }

    fn insert_between(memory: &Memory, granule: Granule, next: Granule) {
        let links = Self::links(memory, granule);
        let next_links = Self::links(memory, next);
        let previous = next_links.previous.load(Relaxed);
        links.next.store(next, Relaxed);
        links.previous.store(previous, Relaxed);
        next_links.previous.store(granule, Relaxed);
        Self::links(memory, previous).next.store(granule, Relaxed);
    }

    /// Takes a member off the list.
    #[inline]
    pub fn remove(&mut self, memory: &Memory, id: Id<T>) {
        let granule = id.granule();
        let links = Self::links(memory, granule);
        assert!(links.linked(), "{} is on no list", T::NAME);
        let next = links.next.swap(0, Relaxed);
        let previous = links.previous.swap(0, Relaxed);
        if next == granule {
            self.first = 0;
            return;
        }
        Self::links(memory, next).previous.store(previous, Relaxed);
        Self::links(memory, previous).next.store(next, Relaxed);
        if self.first == granule {
            self.first = next;
        }
    }

    /// Takes the first member off the list.
    #[inline]
    pub fn pop_front(&mut self, memory: &Memory) -> Option<Id<T>> {
        if self.first == 0 {
            return None;
        }
        let (id, shared) = memory.live_at::<T>(self.first)?;
        self.pop_known(L::links(shared), |member| Self::links(memory, member));
        Some(id)
    }

    #[inline]
    fn links(memory: &Memory, granule: Granule) -> &Links {
        L::links(memory.shared_at::<T>(granule))
    }
}
