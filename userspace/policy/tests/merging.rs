//! Denials that come again and again are recorded together; none goes uncounted, and nobody takes the room of others.

use policy::{Action, Audit, Entry, Merging, Reason, Record, Sink, WINDOWS_A_SUBJECT};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;

const WINDOW: u64 = 100;

/// A ring with room for so many entries, and half of it spare.
struct Ring {
    room: usize,
    entries: Vec<Entry>,
    owed: u64,
    unread: Rc<Cell<usize>>,
}

impl Ring {
    fn with(room: usize) -> Self {
        Ring { room, entries: Vec::new(), owed: 0, unread: Rc::default() }
    }
}

impl Sink for &mut Ring {
    fn has_room(&mut self) -> bool {
        self.unread.get() < self.room
    }

    fn has_spare_room(&self) -> bool {
        self.unread.get() < self.room / 2
    }

    fn write(&mut self, entry: &Entry, owed: u32) {
        assert!(self.unread.get() < self.room, "an entry without room");
        self.unread.set(self.unread.get() + 1);
        self.owed = self.owed.checked_sub(owed.into()).expect("more is told than was owed");
        self.entries.push(entry.clone());
    }

    fn owe(&mut self) {
        self.owed += 1;
    }
}

fn denial(subject: u64, action: Action, resource: &str, ticks: u64) -> Record<'_> {
    let (name, reason, rule) = (None, Reason::NoLine, None);
    Record { ticks, asker: 9, subject, name, action, resource, reason, rule }
}

/// Asks as a judge does: only what there is room for is kept.
fn keep(merging: &mut Merging<&mut Ring>, record: &Record<'_>) -> bool {
    let has_room = merging.has_room();
    if has_room {
        merging.keep(record);
    }
    has_room
}

fn told(ring: &Ring) -> u64 {
    ring.entries.iter().map(|entry| u64::from(entry.count)).sum()
}

#[test]
fn the_first_is_recorded_at_once_and_what_follows_in_its_window_together() {
    let mut ring = Ring::with(100);
    let mut merging = Merging::new(&mut ring, WINDOW, None);
    for ticks in [5, 20, 60, 90] {
        keep(&mut merging, &denial(1, Action::CryptoSign, if ticks == 90 { "last" } else { "" }, ticks));
    }
    assert_eq!(merging.tend(100), Some(105));
    assert_eq!(merging.tend(105), None, "all of it is told");
    assert_eq!(merging.tend(205), None, "the window is closed");
    keep(&mut merging, &denial(1, Action::CryptoSign, "", 300));
    let said: Vec<_> = ring.entries.iter().map(|entry| (entry.count, entry.since, entry.until)).collect();
    assert_eq!(said, [(1, 5, 5), (3, 20, 90), (1, 300, 300)]);
    assert_eq!((ring.entries[1].resource.as_str(), ring.entries[1].rule.as_str()), ("last", "NoLine"));
    assert_eq!(ring.owed, 0);
}

#[test]
fn what_is_allowed_is_recorded_each_time() {
    let mut ring = Ring::with(100);
    let mut merging = Merging::new(&mut ring, WINDOW, None);
    let allowed = Record {
        reason: Reason::Allowed,
        rule: Some(("a/b.toml", 7)),
        ..denial(1, Action::ProcKill, "pong", 1)
    };
    (0..3).for_each(|_| assert!(keep(&mut merging, &allowed)));
    let said: Vec<_> = ring.entries.iter().map(|entry| (entry.is_allowed, entry.count)).collect();
    assert_eq!(said, [(true, 1); 3]);
    assert_eq!(ring.entries[0].rule, "b.toml:7");
}

/// It once stood under whose name was taken, and so pushed that one's decisions out of the journal.
#[test]
fn who_asks_in_anothers_name_is_recorded_under_their_own() {
    let mut ring = Ring::with(100);
    let mut merging = Merging::new(&mut ring, WINDOW, None);
    let spoofed = Record { reason: Reason::Spoofed, ..denial(7, Action::DeviceRng, "", 1) };
    keep(&mut merging, &Record { name: Some("rngd"), ..spoofed });
    keep(&mut merging, &spoofed);
    let said: Vec<_> = ring.entries.iter().map(|entry| (entry.subject, entry.rule.as_str())).collect();
    assert_eq!(said, [(9, "Spoofed as rngd"), (9, "Spoofed as 0000000000000007")]);
}

#[test]
fn test_reject_filling_the_record_by_being_denied() {
    let mut ring = Ring::with(40);
    let mut merging = Merging::new(&mut ring, WINDOW, None);
    // Whatever it asks for, nobody reads, and time goes on.
    for ticks in 0..10_000 {
        let action = Action::ALL[ticks as usize % Action::ALL.len()];
        let resource = format!("/{ticks}");
        assert!(keep(&mut merging, &denial(1, action, &resource, ticks)), "it takes the room of others");
        merging.tend(ticks);
    }
    assert!(keep(&mut merging, &denial(2, Action::CryptoSign, "", 10_000)), "another one is recorded");
    assert_eq!(ring.entries.last().map(|entry| (entry.subject, entry.count)), Some((2, 1)));
    assert_eq!(told(&ring) + ring.owed, 10_001, "each is told of or owed");
    assert!(ring.entries.len() <= 20 + WINDOWS_A_SUBJECT + 1, "{} entries", ring.entries.len());
}

#[test]
fn what_a_predecessor_owed_is_told() {
    let mut ring = Ring { owed: 12, ..Ring::with(10) };
    let inherited = Entry {
        subject: 3,
        action: None,
        resource: String::new(),
        is_allowed: false,
        rule: "of a policyd that died".into(),
        count: 12,
        since: 50,
        until: 50,
    };
    let mut merging = Merging::new(&mut ring, WINDOW, Some(inherited.clone()));
    assert_eq!(merging.tend(51), None);
    assert_eq!((ring.entries, ring.owed), (vec![inherited], 0));
}

proptest! {
    /// Whoever is denied what and when, whenever the record is read and written: all are told of or owed.
    #[test]
    fn every_denial_is_told_of_or_owed(
        room in 1usize..60,
        steps in prop::collection::vec((0u64..80, 0usize..7, 0u64..40, any::<bool>(), any::<bool>()), 1..600),
    ) {
        let mut ring = Ring::with(room);
        let (mut now, mut kept, unread) = (0, 0, ring.unread.clone());
        let mut merging = Merging::new(&mut ring, WINDOW, None);
        for (subject, action, later, is_read, is_tended) in steps {
            now += later;
            let action = Action::ALL[action];
            kept += u64::from(keep(&mut merging, &denial(subject, action, "", now)));
            if is_tended && let Some(due) = merging.tend(now) {
                prop_assert!(due > now, "it would come again without end");
            }
            if is_read {
                unread.set(0);
            }
        }
        prop_assert_eq!(told(&ring) + ring.owed, kept);
    }
}
