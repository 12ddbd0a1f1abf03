//! A memory object: pages that are promised when it is created and taken from the pool when touched.
//!
//! Pages are found by an index: none for a single page, one page of numbers up to 512 pages, two levels
//! beyond. A window onto memory that the firmware loaded (the initial image, the device tree) is fixed:
//! its frames are the kernel's and never go to the pool.

use super::mapping::{InVmo, Mapping};
use crate::memory::frame::{FrameKind, FrameNumber, Memory};
use crate::memory::list::LinksOf;
use crate::memory::{Links, List, Object};
use crate::object::account::Account;
use crate::sync;
use core::sync::atomic::Ordering::Relaxed;

/// Numbers in a page of the index.
const FANOUT: usize = 512;

/// Where the pages are.
enum Pages {
    /// One page; 0: not touched yet.
    One(FrameNumber),
    /// A page of frame numbers, or of pages of frame numbers; 0: not touched yet.
    Index { top: FrameNumber, levels: u32 },
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
    /// The next page to give back, when it is being reclaimed.
    pub reclaim_next: usize,
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

/// Pages that a memory object of this size must be promised, its index included.
pub fn pages_charged(page_count: usize) -> u64 {
    let index = match page_count {
        0..=1 => 0,
        2..=FANOUT => 1,
        _ => 1 + page_count.div_ceil(FANOUT),
    };
    (page_count + index) as u64
}

impl Vmo {
    /// Memory of this many pages, none of them touched.
    pub fn new(page_count: usize) -> Self {
        let pages = match page_count {
            0..=1 => Pages::One(0),
            2..=FANOUT => Pages::Index { top: 0, levels: 1 },
            _ => Pages::Index { top: 0, levels: 2 },
        };
        Vmo { page_count, pages, mappings: List::new(), reclaim_next: 0 }
    }

    /// A window onto consecutive frames that are not the pool's.
    pub fn fixed(first: FrameNumber, page_count: usize) -> Self {
        Vmo { page_count, pages: Pages::Fixed(first), mappings: List::new(), reclaim_next: 0 }
    }

    /// Whether its frames are not the pool's.
    pub fn is_fixed(&self) -> bool {
        matches!(self.pages, Pages::Fixed(_))
    }

    /// Whether its pages are being given back: whoever still holds it reaches none of them any more.
    pub fn is_ending(&self) -> bool {
        self.reclaim_next > 0
    }

    /// The frame of a page, if it was touched.
    pub fn frame(&self, memory: &Memory, page: usize) -> Option<FrameNumber> {
        if self.is_ending() { None } else { self.find(memory, page) }
    }

    fn find(&self, memory: &Memory, page: usize) -> Option<FrameNumber> {
        if page >= self.page_count {
            return None;
        }
        let frame = match self.pages {
            Pages::One(frame) => frame,
            Pages::Fixed(first) => first + page as FrameNumber,
            Pages::Index { top, levels: 1 } => read(memory, top, page)?,
            Pages::Index { top, .. } => read(memory, read(memory, top, page / FANOUT)?, page % FANOUT)?,
        };
        (frame != 0).then_some(frame)
    }

    /// The frame of a page, taken from the pool now if it was not touched. `account` is the owner's,
    /// where all of it was promised. `None`: there is no such page.
    pub fn populate(&mut self, memory: &Memory, account: &mut Account, page: usize) -> Option<FrameNumber> {
        if let Some(frame) = self.frame(memory, page) {
            return Some(frame);
        }
        if page >= self.page_count || self.is_ending() {
            return None;
        }
        let mut take = || account.take_reserved(memory, FrameKind::Data as u8);
        match &mut self.pages {
            Pages::Fixed(_) => None,
            Pages::One(frame) => {
                *frame = take()?;
                Some(*frame)
            }
            Pages::Index { top, levels } => {
                if *top == 0 {
                    *top = take()?;
                }
                let mut index = *top;
                if *levels == 2 {
                    index = match read(memory, index, page / FANOUT) {
                        Some(lower) => lower,
                        None => write(memory, index, page / FANOUT, take()?),
                    };
                }
                Some(write(memory, index, page % FANOUT, take()?))
            }
        }
    }

    /// Gives up to `limit` pages back to the pool; yields how many frames went and whether all are gone.
    pub fn release_some(&mut self, memory: &Memory, limit: usize) -> (u64, bool) {
        let mut released = 0;
        if self.is_fixed() {
            return (0, true);
        }
        let mut looked = 0;
        while self.reclaim_next < self.page_count && looked < limit {
            if let Some(frame) = self.find(memory, self.reclaim_next) {
                memory.release(frame);
                released += 1;
            }
            self.reclaim_next += 1;
            looked += 1;
            if self.reclaim_next.is_multiple_of(FANOUT) || self.reclaim_next == self.page_count {
                released += self.release_lower_index(memory);
            }
        }
        if self.reclaim_next < self.page_count {
            return (released, false);
        }
        if let Pages::Index { top, .. } = &mut self.pages
            && *top != 0
        {
            memory.release(*top);
            *top = 0;
            released += 1;
        }
        self.page_count = 0;
        (released, true)
    }

    /// Tells every frame of the pool that it has, those of its index included.
    #[cfg(feature = "host")]
    pub(crate) fn each_frame(&self, memory: &Memory, mut tell: impl FnMut(FrameNumber)) {
        if self.is_fixed() {
            return;
        }
        (0..self.page_count).filter_map(|page| self.find(memory, page)).for_each(&mut tell);
        if let Pages::Index { top, levels } = self.pages
            && top != 0
        {
            tell(top);
            let lower = if levels == 2 { self.page_count.div_ceil(FANOUT) } else { 0 };
            (0..lower).filter_map(|place| read(memory, top, place)).for_each(tell);
        }
    }

    /// The page of numbers whose last page has just been given back.
    fn release_lower_index(&self, memory: &Memory) -> u64 {
        let Pages::Index { top, levels: 2 } = self.pages else { return 0 };
        match read(memory, top, (self.reclaim_next - 1) / FANOUT) {
            Some(lower) => {
                memory.release(lower);
                1
            }
            None => 0,
        }
    }
}

fn read(memory: &Memory, index: FrameNumber, place: usize) -> Option<FrameNumber> {
    if index == 0 {
        return None;
    }
    let frame = memory.word(index, place).load(Relaxed) as FrameNumber;
    (frame != 0).then_some(frame)
}

fn write(memory: &Memory, index: FrameNumber, place: usize, frame: FrameNumber) -> FrameNumber {
    memory.word(index, place).store(u64::from(frame), Relaxed);
    frame
}
