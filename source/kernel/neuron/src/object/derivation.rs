//! The derivation tree: which capability came from which, and which mapping from which capability.
//!
//! A node is the second 16 bytes of a granule, of a capability's entry or of a [`super::Mapping`] alike.
//! Guarded by the structure lock. Invariant: a node's children form a list whose members name the node
//! as parent; roots and free entries have parent 0.

use super::mapping::Mapping;
use crate::memory::slab::frame_kind;
use crate::memory::{FrameKind, Granule, Memory};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use nexus_abi::Error;
use nexus_abi::limits::DERIVATIONS_MAX;

/// A node's links; 0 is none.
#[derive(Default)]
#[repr(C)]
pub struct Node {
    parent: AtomicU32,
    child: AtomicU32,
    next: AtomicU32,
    previous: AtomicU32,
}

/// Nodes that derive from one that moves, and move with it at once.
const MOVED_A_STEP: usize = 16;

/// Byte offset of the node in its granule.
pub const NODE_OFFSET: usize = 16;

/// What a node is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOf {
    /// An entry of a capability table.
    Capability,
    /// A mapping.
    Mapping,
}

impl Node {
    /// The node that this one derives from.
    pub fn parent(&self) -> Granule {
        self.parent.load(Relaxed)
    }

    /// The first node that derives from this one.
    pub fn child(&self) -> Granule {
        self.child.load(Relaxed)
    }

    /// The next node that derives from the same one.
    pub fn next(&self) -> Granule {
        self.next.load(Relaxed)
    }

    /// The node before it in that list.
    pub fn previous(&self) -> Granule {
        self.previous.load(Relaxed)
    }

    /// Forgets all links.
    pub fn reset(&self) {
        for link in [&self.parent, &self.child, &self.next, &self.previous] {
            link.store(0, Relaxed);
        }
    }
}

impl Memory {
    /// What lives at a granule.
    pub fn node_of(&self, granule: Granule) -> NodeOf {
        let kind = self.info(Memory::frame_of(granule)).kind();
        if kind == FrameKind::Capabilities as u8 {
            NodeOf::Capability
        } else {
            assert_eq!(kind, frame_kind::<Mapping>(), "granule {granule:x} is no node");
            NodeOf::Mapping
        }
    }

    /// The node at a granule.
    pub fn node(&self, granule: Granule) -> &Node {
        match self.node_of(granule) {
            NodeOf::Capability => &self.capability_slot(granule).node,
            NodeOf::Mapping => &self.shared_at::<Mapping>(granule).node,
        }
    }

    /// Makes `child` derive from `parent` (0: from nothing).
    pub fn node_link(&self, child: Granule, parent: Granule) {
        let node = self.node(child);
        node.parent.store(parent, Relaxed);
        node.previous.store(0, Relaxed);
        if parent == 0 {
            node.next.store(0, Relaxed);
            return;
        }
        let first = self.node(parent).child.swap(child, Relaxed);
        node.next.store(first, Relaxed);
        if first != 0 {
            self.node(first).previous.store(child, Relaxed);
        }
    }

    /// Takes a node out of its parent's list; its own children stay.
    pub fn node_unlink(&self, child: Granule) {
        let node = self.node(child);
        let (parent, next, previous) =
            (node.parent.swap(0, Relaxed), node.next.swap(0, Relaxed), node.previous.swap(0, Relaxed));
        if previous != 0 {
            self.node(previous).next.store(next, Relaxed);
        } else if parent != 0 {
            self.node(parent).child.store(next, Relaxed);
        }
        if next != 0 {
            self.node(next).previous.store(previous, Relaxed);
        }
    }

    /// Takes a node out of the tree; its children become its parent's, one a call, until `true`.
    pub fn node_dissolve_step(&self, granule: Granule) -> bool {
        let node = self.node(granule);
        match node.child() {
            0 => {
                self.node_unlink(granule);
                true
            }
            child => {
                let parent = node.parent();
                self.node_unlink(child);
                self.node_link(child, parent);
                false
            }
        }
    }

    /// Puts `new` into the place of `old`: a capability that moves stays who it is. Yields whether what derives from it
    /// does so by `new` now. Otherwise that is too many for one step, and `old` stays between them until it dissolves.
    pub fn node_replace(&self, old: Granule, new: Granule) -> bool {
        let parent = self.node(old).parent();
        self.node_unlink(old);
        self.node_link(new, parent);
        if self.children(old).nth(MOVED_A_STEP).is_some() {
            self.node_link(old, new);
            return false;
        }
        for child in self.children(old) {
            self.node(child).parent.store(new, Relaxed);
        }
        self.node(new).child.store(self.node(old).child.swap(0, Relaxed), Relaxed);
        true
    }

    fn children(&self, granule: Granule) -> impl Iterator<Item = Granule> {
        let mut next = self.node(granule).child();
        core::iter::from_fn(move || {
            let child = next;
            if child == 0 {
                return None;
            }
            next = self.node(child).next();
            Some(child)
        })
    }

    /// Whether one more capability may derive from one: nothing that it derives from is being revoked, and the way to the
    /// first is not too long.
    ///
    /// # Errors
    ///
    /// `Revoked`, or `NoSlots`: it would derive from more than [`DERIVATIONS_MAX`].
    pub fn may_derive_from(&self, granule: Granule) -> Result<(), Error> {
        if self.derivations(granule)? > DERIVATIONS_MAX { Err(Error::NoSlots) } else { Ok(()) }
    }

    /// So many capabilities there are from one (0: none) up to the first that it derives from.
    ///
    /// # Errors
    ///
    /// `Revoked`: what derives from one of them is being taken back.
    pub fn derivations(&self, granule: Granule) -> Result<usize, Error> {
        let (mut place, mut count) = (granule, 0);
        while place != 0 {
            let slot = self.capability_slot(place);
            if slot.revoking() {
                return Err(Error::Revoked);
            }
            count += usize::from(!slot.is_husk());
            place = slot.node.parent();
        }
        Ok(count)
    }

    /// A node without children that derives from this one, or is this one.
    pub fn deepest(&self, mut granule: Granule) -> Granule {
        loop {
            match self.node(granule).child() {
                0 => return granule,
                child => granule = child,
            }
        }
    }
}
