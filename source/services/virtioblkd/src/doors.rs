//! Which partition is open, and to which session: plain decisions.
//!
//! A partition is open to one session at a time. Each opening has a badge of its own, so that what an older session
//! left behind is never taken for the present one's.

use nexus_proto::block::BlockError;
use partitions::{Extent, Partition};

/// Bits of a badge that say which partition it is for; those above count openings, beginning with 1.
const PLACE_BITS: u32 = 3;
/// Openings of a driver's life start above those of the life before: a call through an older session may wait for
/// the successor, and must not be taken for one of its own.
const OPENINGS_BITS: u32 = 32;

const _: () = assert!(Partition::ALL.len() <= 1 << PLACE_BITS);

/// A session with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    badge: u64,
    /// A write or a flush of it failed: what is written is not known any more.
    is_broken: bool,
    /// Its client is gone; what it began may be under way.
    is_closing: bool,
}

/// Every partition.
#[derive(Debug, Default)]
pub struct Doors {
    doors: [Option<(Extent, Option<Session>)>; Partition::ALL.len()],
    openings: u64,
}

impl Doors {
    /// The partitions that can be opened, all closed, in the driver's life with this number.
    pub fn new(found: &[(Partition, Extent)], generation: u32) -> Self {
        let mut doors = Doors { openings: u64::from(generation) << OPENINGS_BITS, ..Doors::default() };
        for &(partition, extent) in found {
            if let Some(door) = doors.doors.get_mut(partition as usize) {
                *door = Some((extent, None));
            }
        }
        doors
    }

    /// The badge of a new session with a partition, which [`Doors::opened`] makes true.
    pub fn open(&self, partition: Partition) -> Result<u64, BlockError> {
        match self.doors.get(partition as usize) {
            Some(Some((_, None))) => Ok((self.openings + 1) << PLACE_BITS | partition as u64),
            Some(Some((_, Some(_)))) => Err(BlockError::Busy),
            _ => Err(BlockError::NoPartition),
        }
    }

    /// The session with this badge, which [`Doors::open`] gave, exists.
    pub fn opened(&mut self, badge: u64) {
        self.openings += 1;
        if let Some((_, session)) = self.door(badge) {
            *session = Some(Session { badge, is_broken: false, is_closing: false });
        }
    }

    /// What the session with this badge may reach.
    pub fn extent(&self, badge: u64) -> Result<Extent, BlockError> {
        let doors = self.doors.iter().flatten();
        let mut found = doors.filter(|(_, session)| session.is_some_and(|session| session.badge == badge));
        found.next().map(|(extent, _)| *extent).ok_or(BlockError::NotOpen)
    }

    /// Whether the session with this badge may write and flush.
    pub fn may_write(&mut self, badge: u64) -> Result<(), BlockError> {
        match self.session(badge) {
            Some(session) if session.is_broken => Err(BlockError::Broken),
            Some(_) => Ok(()),
            None => Err(BlockError::NotOpen),
        }
    }

    /// A write or a flush of the session with this badge failed.
    pub fn broken(&mut self, badge: u64) {
        if let Some(session) = self.session(badge) {
            session.is_broken = true;
        }
    }

    /// The client of the session with this badge is gone.
    pub fn closing(&mut self, badge: u64) {
        if let Some(session) = self.session(badge) {
            session.is_closing = true;
        }
    }

    /// Closes the partitions whose client is gone and of which nothing is under way any more.
    pub fn close(&mut self, is_under_way: impl Fn(u64) -> bool) {
        for (_, session) in self.doors.iter_mut().flatten() {
            if session.is_some_and(|session| session.is_closing && !is_under_way(session.badge)) {
                *session = None;
            }
        }
    }

    fn door(&mut self, badge: u64) -> Option<&mut (Extent, Option<Session>)> {
        let place = badge & ((1 << PLACE_BITS) - 1);
        self.doors.get_mut(place as usize)?.as_mut()
    }

    fn session(&mut self, badge: u64) -> Option<&mut Session> {
        self.door(badge)?.1.as_mut().filter(|session| session.badge == badge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: Extent = Extent { first: 100, blocks: 50 };

    fn doors() -> Doors {
        Doors::new(&[(Partition::State, STATE), (Partition::BootA, Extent { first: 10, blocks: 5 })], 1)
    }

    fn opened(doors: &mut Doors, partition: Partition) -> u64 {
        let badge = doors.open(partition).unwrap();
        doors.opened(badge);
        badge
    }

    #[test]
    fn a_session_reaches_its_partition_and_no_other() {
        let mut doors = doors();
        let (state, boot) = (opened(&mut doors, Partition::State), opened(&mut doors, Partition::BootA));
        assert_eq!(doors.extent(state), Ok(STATE));
        assert_eq!(doors.extent(boot), Ok(Extent { first: 10, blocks: 5 }));
    }

    #[test]
    fn test_reject_partitions_that_are_not_there_or_open_already() {
        let mut doors = doors();
        assert_eq!(doors.open(Partition::Bootctl), Err(BlockError::NoPartition));
        opened(&mut doors, Partition::State);
        assert_eq!(doors.open(Partition::State), Err(BlockError::Busy));
    }

    #[test]
    fn test_reject_badges_of_no_open_session() {
        let mut doors = doors();
        let badge = opened(&mut doors, Partition::State);
        for stranger in [0, 3, badge + 1, badge + 8, u64::MAX] {
            assert_eq!(doors.extent(stranger), Err(BlockError::NotOpen));
            assert_eq!(doors.may_write(stranger), Err(BlockError::NotOpen));
        }
    }

    #[test]
    fn a_partition_opens_to_the_next_when_nothing_of_the_last_is_under_way() {
        let mut doors = doors();
        let first = opened(&mut doors, Partition::State);
        doors.close(|_| false);
        assert_eq!(doors.extent(first), Ok(STATE), "its client is there");
        doors.closing(first);
        doors.close(|badge| badge == first);
        assert_eq!(doors.open(Partition::State), Err(BlockError::Busy));
        doors.close(|_| false);
        let second = opened(&mut doors, Partition::State);
        assert_ne!(first, second);
        doors.closing(first);
        doors.close(|_| false);
        assert_eq!(doors.extent(second), Ok(STATE), "what is heard of the first is not about the second");
    }

    #[test]
    fn test_reject_sessions_of_an_earlier_life() {
        let badge = opened(&mut doors(), Partition::State);
        let mut successor = Doors::new(&[(Partition::State, STATE)], 2);
        assert_ne!(opened(&mut successor, Partition::State), badge);
        assert_eq!(successor.extent(badge), Err(BlockError::NotOpen));
    }

    #[test]
    fn test_reject_writing_after_a_failure_until_it_is_opened_anew() {
        let mut doors = doors();
        let first = opened(&mut doors, Partition::State);
        doors.broken(first);
        assert_eq!(doors.may_write(first), Err(BlockError::Broken));
        assert_eq!(doors.extent(first), Ok(STATE), "what is there can be read");
        doors.closing(first);
        doors.close(|_| false);
        let second = opened(&mut doors, Partition::State);
        assert_eq!(doors.may_write(second), Ok(()));
    }
}
