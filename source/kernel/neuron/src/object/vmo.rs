//! A memory object: pages that are promised when it is created and taken from the pool when touched.
//!
//! Pages are found by a tree: of no level for a single page, which is then the top itself, of one level up
//! to 512 pages, of two beyond; each node is a page of frame numbers. Memory for a device is a row of
//! neighbours, there from the start. A window onto memory that the firmware loaded (the initial image,
//! the device tree) is fixed: its frames are the kernel's and never go to the pool.
//!
//! Invariants: nothing is touched at or beyond `page_count`; what the tree takes was promised
//! ([`pages_charged`]); memory for a device that nobody reaches any more stands on that device's list
//! until the device was reset.

use super::device::Device;
use super::mapping::{InVmo, Mapping};
use crate::memory::frame::{FrameKind, FrameNumber, Memory};
use crate::memory::list::LinksOf;
use crate::memory::{Id, Links, List, Object};
use crate::object::account::Account;
use crate::sync;
use core::sync::atomic::Ordering::Relaxed;

/// Numbers in a page of the tree, and the binary logarithm of that.
const FANOUT: usize = 1 << FANOUT_BITS;
const FANOUT_BITS: u32 = 9;

/// Where the pages are.
enum Pages {
    /// In a tree; a top or an entry of 0: not touched yet.
    Tree { top: FrameNumber, levels: u32 },
    /// Consecutive frames that a device may read and write.
    Row { first: FrameNumber, device: Id<Device> },
    /// Consecutive frames of the firmware or kernel.
    Fixed(FrameNumber),
}

/// What a memory object is made of.
pub struct Vmo {
    /// Its pages.
    pub page_count: usize,
    pages: Pages,
    /// Where it is mapped.
    pub mappings: List<Mapping, InVmo>,
    /// Whether its pages are being given back: whoever still holds it reaches none of them any more.
    pub ending: bool,
    /// Memory of a device: whether that may still read and write it.
    pub exposed: bool,
}

/// Links of the list of memory that is being reclaimed.
pub struct Reclaim;
impl LinksOf<Vmo> for Reclaim {
    fn links(shared: &Links) -> &Links {
        shared
    }
}

impl Object for Vmo {
    const SLAB: u8 = 4;
    const NAME: &'static str = "vmo";
    type Level = sync::Backing;
    type Shared = Links;
    fn reset(shared: &Links) {
        shared.reset();
    }
}

fn levels_for(page_count: usize) -> u32 {
    match page_count {
        0..=1 => 0,
        2..=FANOUT => 1,
        _ => 2,
    }
}

/// Pages that a memory object of this size must be promised, its tree included.
pub fn pages_charged(page_count: usize) -> u64 {
    let nodes = match levels_for(page_count) {
        0 => 0,
        1 => 1,
        _ => 1 + page_count.div_ceil(FANOUT),
    };
    (page_count + nodes) as u64
}

impl Vmo {
    /// Memory of this many pages, none of them touched.
    pub fn new(page_count: usize) -> Self {
        Self::of(Pages::Tree { top: 0, levels: levels_for(page_count) }, page_count)
    }

    /// A window onto consecutive frames that are not the pool's.
    pub fn fixed(first: FrameNumber, page_count: usize) -> Self {
        Self::of(Pages::Fixed(first), page_count)
    }

    /// Memory for a device: consecutive frames that are there already.
    pub fn row(first: FrameNumber, page_count: usize, device: Id<Device>) -> Self {
        Vmo { exposed: true, ..Self::of(Pages::Row { first, device }, page_count) }
    }

    fn of(pages: Pages, page_count: usize) -> Self {
        Vmo { page_count, pages, mappings: List::new(), ending: false, exposed: false }
    }

    /// Whether its frames are not the pool's.
    pub fn is_fixed(&self) -> bool {
        matches!(self.pages, Pages::Fixed(_))
    }

    /// Memory for a device: its first frame, and the device.
    pub fn device(&self) -> Option<(FrameNumber, Id<Device>)> {
        match self.pages {
            Pages::Row { first, device } => Some((first, device)),
            _ => None,
        }
    }

    /// Pages that its owner's account was promised for it; a device's memory is promised to the device.
    pub fn charged(&self) -> u64 {
        if matches!(self.pages, Pages::Tree { .. }) { pages_charged(self.page_count) } else { 0 }
    }

    /// The frame of a page, if it was touched.
    pub fn frame(&self, memory: &Memory, page: usize) -> Option<FrameNumber> {
        if self.ending || page >= self.page_count {
            return None;
        }
        let frame = match self.pages {
            Pages::Tree { top, levels } => {
                (0..levels).rev().fold(top, |node, level| read(memory, node, place(page, level)))
            }
            Pages::Row { first, .. } | Pages::Fixed(first) => first + page as FrameNumber,
        };
        (frame != 0).then_some(frame)
    }

    /// The frame of a page, taken from the pool now if it was not touched. `account` is the owner's,
    /// where all of it was promised. `None`: there is no such page.
    pub fn populate(&mut self, memory: &Memory, account: &mut Account, page: usize) -> Option<FrameNumber> {
        if let Some(frame) = self.frame(memory, page) {
            return Some(frame);
        }
        if page >= self.page_count || self.ending {
            return None;
        }
        let Pages::Tree { top, levels } = &mut self.pages else { return None };
        let mut take = || account.take_reserved(memory, FrameKind::Data as u8);
        if *top == 0 {
            *top = take()?;
        }
        let mut node = *top;
        for level in (0..*levels).rev() {
            node = match read(memory, node, place(page, level)) {
                0 => write(memory, node, place(page, level), take()?),
                lower => lower,
            };
        }
        Some(node)
    }

    /// Makes it larger; `account` is the owner's, where the difference was promised. `None` cannot be:
    /// what was promised can be taken.
    pub fn grow(&mut self, memory: &Memory, account: &mut Account, page_count: usize) -> Option<()> {
        if let Pages::Tree { top, levels } = &mut self.pages {
            while *levels < levels_for(page_count) {
                if *top != 0 {
                    let upper = account.take_reserved(memory, FrameKind::Data as u8)?;
                    write(memory, upper, 0, *top);
                    *top = upper;
                }
                *levels += 1;
            }
        }
        self.page_count = page_count;
        Some(())
    }

    /// Gives up to `limit` pages at the end back to the pool, until `page_count` are left; yields how many
    /// frames went.
    pub fn shrink(&mut self, memory: &Memory, page_count: usize, limit: usize) -> u64 {
        let mut released = 0;
        for _ in 0..limit {
            if self.page_count <= page_count {
                break;
            }
            self.page_count -= 1;
            released += self.release_last(memory);
        }
        released
    }

    /// Gives the page behind the last one back, and what the tree no longer needs.
    fn release_last(&mut self, memory: &Memory) -> u64 {
        let page = self.page_count;
        let mut released = 0;
        let mut release = |frame: FrameNumber| {
            if frame != 0 {
                memory.release(frame);
                released += 1;
            }
        };
        match &mut self.pages {
            Pages::Fixed(_) => {}
            Pages::Row { first, .. } => release(*first + page as FrameNumber),
            Pages::Tree { top, levels: 0 } => release(core::mem::take(top)),
            Pages::Tree { top, levels } => {
                let lower = if *levels == 2 { read(memory, *top, place(page, 1)) } else { *top };
                release(clear(memory, lower, place(page, 0)));
                if *levels == 2 && page.is_multiple_of(FANOUT) {
                    release(clear(memory, *top, place(page, 1)));
                }
                if *levels > levels_for(page) {
                    // What is left hangs under the first entry.
                    let first = clear(memory, *top, 0);
                    release(core::mem::replace(top, first));
                    *levels -= 1;
                }
            }
        }
        released
    }
}

#[cfg(feature = "host")]
impl Vmo {
    /// Tells every frame of the pool that its owner's account has for it, those of its tree included.
    pub(crate) fn each_frame(&self, memory: &Memory, mut tell: impl FnMut(FrameNumber)) {
        if self.is_fixed() {
            return;
        }
        (0..self.page_count).filter_map(|page| self.frame(memory, page)).for_each(&mut tell);
        let Pages::Tree { top, levels } = self.pages else { return };
        if levels > 0 && top != 0 {
            tell(top);
        }
        let lower = if levels == 2 { FANOUT } else { 0 };
        (0..lower).map(|place| read(memory, top, place)).filter(|&node| node != 0).for_each(tell);
    }
}

/// Where the way to a page goes on in a node of a level.
fn place(page: usize, level: u32) -> usize {
    (page >> (level * FANOUT_BITS)) % FANOUT
}

/// An entry of a node; 0 when it, or the node itself, is not there.
fn read(memory: &Memory, node: FrameNumber, place: usize) -> FrameNumber {
    if node == 0 { 0 } else { memory.word(node, place).load(Relaxed) as FrameNumber }
}

/// Takes an entry out of a node; as [`read`].
fn clear(memory: &Memory, node: FrameNumber, place: usize) -> FrameNumber {
    if node == 0 { 0 } else { memory.word(node, place).swap(0, Relaxed) as FrameNumber }
}

fn write(memory: &Memory, node: FrameNumber, place: usize, frame: FrameNumber) -> FrameNumber {
    memory.word(node, place).store(u64::from(frame), Relaxed);
    frame
}
