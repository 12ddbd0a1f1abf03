//! Which segment is free, in use, or freed and waiting for the next superblock (RFC-0001, 6.6).

use alloc::vec;
use alloc::vec::Vec;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// May be taken.
    Free,
    /// In the log, or holds live values.
    Used,
    /// Not needed by the superblock of this generation, but by the one before.
    Freed(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub generation: u64,
    pub live: u64,
    pub state: SegmentState,
}

/// All segments of the store.
#[derive(Debug)]
pub(crate) struct Segments {
    table: Vec<Segment>,
    last_taken: usize,
}

impl Segments {
    pub fn new(count: u32) -> Segments {
        let unused = Segment { generation: 0, live: 0, state: SegmentState::Used };
        Segments { table: vec![unused; count as usize], last_taken: 0 }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.table.iter().enumerate().map(|(segment, info)| (segment as u32, info))
    }

    pub fn get_mut(&mut self, segment: u32) -> Option<&mut Segment> {
        self.table.get_mut(segment as usize)
    }

    /// Segments that may be taken.
    pub fn free(&self) -> u32 {
        self.table.iter().filter(|info| info.state == SegmentState::Free).count() as u32
    }

    /// The free segment that would be taken next: in turn, so that all wear alike.
    pub fn next_free(&self) -> Option<u32> {
        let after = (self.last_taken + 1..self.table.len()).chain(0..=self.last_taken);
        let mut candidates =
            after.filter(|at| self.table.get(*at).is_some_and(|info| info.state == SegmentState::Free));
        candidates.next().map(|at| at as u32)
    }

    /// Takes a segment for the log.
    pub fn take(&mut self, segment: u32, generation: u64) {
        self.last_taken = segment as usize;
        if let Some(info) = self.get_mut(segment) {
            *info = Segment { generation, live: 0, state: SegmentState::Used };
        }
    }

    pub fn add_live(&mut self, place: Option<(u32, u64)>) {
        if let Some((info, bytes)) = place.and_then(|(segment, bytes)| Some((self.get_mut(segment)?, bytes)))
        {
            info.live += bytes;
        }
    }

    pub fn remove_live(&mut self, place: Option<(u32, u64)>) {
        if let Some((info, bytes)) = place.and_then(|(segment, bytes)| Some((self.get_mut(segment)?, bytes)))
        {
            info.live = info.live.saturating_sub(bytes);
        }
    }

    /// The free map of superblock `generation`: what may be taken once it is durable.
    pub fn free_map(&self, generation: u64) -> Vec<bool> {
        let free = |state| match state {
            SegmentState::Free => true,
            SegmentState::Freed(by) => by < generation,
            SegmentState::Used => false,
        };
        self.table.iter().map(|info| free(info.state)).collect()
    }

    /// Frees what lies before `replay_start` and holds no live value, to be taken next, as nothing but a
    /// mutant may.
    #[cfg(feature = "mutants")]
    pub fn release(&mut self, replay_start: u64) {
        for (segment, info) in self.table.iter_mut().enumerate() {
            if info.state != SegmentState::Free && info.generation < replay_start && info.live == 0 {
                info.state = SegmentState::Free;
                self.last_taken = segment.saturating_sub(1);
            }
        }
    }

    /// Superblock `generation` is durable: what its predecessor freed may be taken, what it frees must wait.
    pub fn superblock_durable(&mut self, generation: u64, replay_start: u64) {
        for info in &mut self.table {
            match info.state {
                SegmentState::Freed(by) if by < generation => info.state = SegmentState::Free,
                SegmentState::Used if info.generation < replay_start && info.live == 0 => {
                    info.state = SegmentState::Freed(generation);
                }
                _ => {}
            }
        }
    }
}
