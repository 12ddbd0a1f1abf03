//! The promises that other documents name, one story each.

use statefs::{Damage, Error, Geometry, KeyState, Mutant, Store};
use statefs_proofs::medium::{Event, Fate, Medium, UNIT};
use statefs_proofs::random::Random;
use statefs_proofs::scenario;

const GEOMETRY: Geometry = Geometry { unit: UNIT as u32, segment_units: 16, segments: 20 };

fn formatted(seed: u64) -> Medium {
    let mut medium = Medium::new((GEOMETRY.device_bytes() / UNIT as u64) as usize);
    Store::format(&mut medium, GEOMETRY, Random::new(seed).entropy()).expect("a legal geometry");
    medium
}

fn open(medium: Medium) -> Store<Medium> {
    Store::open(medium, scenario::options(&mut Random::new(5), Mutant::None)).expect("opens")
}

/// Units of the medium that the newest group fills.
fn newest_group(store: &mut Store<Medium>) -> std::ops::Range<usize> {
    let mut range = 0..0;
    let show = &mut |group: statefs::GroupSummary| {
        let first = 2 + group.place.0 as usize * GEOMETRY.segment_units as usize + group.place.1 as usize;
        range = first..first + group.units as usize;
    };
    store.dump_groups(show).expect("readable");
    range
}

fn zero(medium: &mut Medium, units: impl IntoIterator<Item = usize>) {
    let zeros = Medium::new(1).unit(0);
    units.into_iter().for_each(|unit| medium.land(unit, &zeros, Fate::New));
}

#[test]
fn test_reject_corrupted_journal() {
    let mut store = open(formatted(1));
    store.put(b"/state/a", b"old").expect("room");
    store.put(b"/state/a", b"new").expect("room");
    let hit = newest_group(&mut store);
    store.put(b"/state/b", b"other").expect("room");
    let mut medium = store.into_device();
    zero(&mut medium, [hit.start]);
    let mut store = open(medium);
    assert!(store.damage().reports().iter().any(|damage| matches!(damage, Damage::GroupCorrupt { .. })));
    assert!(store.damage_lines().any(|line| line.starts_with("crc mismatch")));
    assert_eq!(store.get(b"/state/a"), Err(Error::Corrupt), "neither the old value nor absence");
    assert_eq!(store.get(b"/state/b").as_deref(), Ok(&b"other"[..]), "others are served");
    store.checkpoint_now().expect("room");
    let mut store = open(store.into_device());
    assert_eq!(store.get(b"/state/a"), Err(Error::Corrupt), "the mark is carried");
    store.put(b"/state/a", b"mended").expect("room");
    assert_eq!(open(store.into_device()).get(b"/state/a").as_deref(), Ok(&b"mended"[..]));
}

#[test]
fn a_seal_tells_damage_from_a_torn_write() {
    for (sealed, answer) in [(true, Err(Error::Corrupt)), (false, Ok(b"old".to_vec()))] {
        let mut store = open(formatted(2));
        store.put(b"/state/a", b"old").expect("room");
        store.put(b"/state/a", b"new").expect("room");
        let hit = newest_group(&mut store);
        if sealed {
            store.seal().expect("room");
        }
        let mut medium = store.into_device();
        zero(&mut medium, [hit.start]);
        let mut store = open(medium);
        assert_eq!(store.get(b"/state/a"), answer, "sealed: {sealed}");
        let dropped =
            store.damage().reports().iter().any(|damage| matches!(damage, Damage::TailDropped { .. }));
        assert_eq!(dropped, !sealed, "a dropped tail is never silent");
    }
}

/// A value that holds `forged` at the start of a unit, when it is put under `key` into a group of its own.
fn value_around(key: &[u8], forged: &[u8]) -> Vec<u8> {
    let before = 88 + 32 + key.len().div_ceil(8) * 8;
    [vec![0xEE; UNIT - before], forged.to_vec()].concat()
}

/// Puts a value with a group inside, loses everything of its own group but that, and counts the groups found.
fn groups_after_losing_all_but(forged: &[u8], mut store: Store<Medium>) -> (usize, Store<Medium>) {
    let value = value_around(b"/state/bait", forged);
    store.put(b"/state/bait", &value).expect("room");
    let group = newest_group(&mut store);
    store.put(b"/state/later", b"proof").expect("room");
    let mut medium = store.into_device();
    let inside = group.start + 1..group.start + 1 + forged.len() / UNIT;
    zero(&mut medium, group.filter(|unit| !inside.contains(unit)));
    let mut store = open(medium);
    let mut count = 0;
    store.dump_groups(&mut |_| count += 1).expect("readable");
    (count, store)
}

fn newest_group_bytes(store: &mut Store<Medium>) -> Vec<u8> {
    let units = newest_group(store);
    store.device_mut().to_bytes()[units.start * UNIT..units.end * UNIT].to_vec()
}

#[test]
fn test_reject_record_inside_value() {
    let mut other = open(formatted(4));
    other.put(b"/state/keystore/victim", b"forged").expect("room");
    let foreign = newest_group_bytes(&mut other);
    let mut own = open(formatted(3));
    own.put(b"/state/first", b"1").expect("room");
    let known = newest_group_bytes(&mut own);
    let (with_known, _) = groups_after_losing_all_but(&known, open(own.device_mut().clone()));
    let (with_foreign, mut store) = groups_after_losing_all_but(&foreign, open(own.into_device()));
    assert_eq!(
        with_known,
        with_foreign + 1,
        "resynchronization looks there, and would take what has the right salt"
    );
    assert!(store.get(b"/state/keystore/victim").is_err(), "the forged record is not applied");
    assert_eq!(
        store.get(b"/state/first"),
        Err(Error::Uncertain),
        "its group being lost, older keys are uncertain"
    );
}

/// A store with `a = 1` acknowledged, and `a = 2` written, of which the first unit cannot be read.
fn with_half_a_tail() -> Medium {
    let mut store = open(formatted(6));
    store.put(b"/state/a", b"1").expect("room");
    let before = store.into_device();
    let mut store = open(before.clone().record());
    store.put(b"/state/a", b"2").expect("room");
    let trace = store.into_device().trace;
    let last_window = trace[..trace.len() - 1].iter().rposition(|event| matches!(event, Event::Flush));
    let first_of_tail = last_window.expect("the group that begins the incarnation was flushed") + 1;
    let mut medium = before;
    for (at, event) in trace.iter().enumerate() {
        if let Event::Write(unit, data) = event {
            medium.land(*unit, data, if at == first_of_tail { Fate::Unreadable } else { Fate::New });
        }
    }
    medium
}

#[test]
fn test_reject_resurrected_tail() {
    let mut healed = with_half_a_tail();
    healed.heal();
    assert_eq!(
        open(healed).get(b"/state/a").as_deref(),
        Ok(&b"2"[..]),
        "readable at once, the tail is whole"
    );
    let mut store = open(with_half_a_tail());
    assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]), "dropped, for what could be read");
    assert!(store.damage().reports().iter().any(|damage| matches!(damage, Damage::TailDropped { .. })));
    let mut medium = store.into_device();
    medium.heal();
    let mut store = open(medium);
    assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]), "what was dropped stays dropped");
    store.put(b"/state/b", b"3").expect("room");
    let mut store = open(store.into_device());
    assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]));
}

#[test]
fn a_disk_that_lied_is_reported() {
    let mut store = open(formatted(7).record());
    store.put(b"/state/a", b"1").expect("room");
    let before = store.device_mut().clone();
    let known = before.trace.len();
    store.put(b"/state/a", b"2").expect("room");
    store.checkpoint_now().expect("room");
    let trace = store.into_device().trace;
    let mut lied = before;
    for event in &trace[known..] {
        if let Event::Write(unit @ 0..2, data) = event {
            lied.land(*unit, data, Fate::New);
        }
    }
    let mut store = open(lied);
    assert!(store.damage().reports().iter().any(|damage| matches!(damage, Damage::LostDurable { .. })));
    assert!(store.is_read_only());
    assert_eq!(store.get(b"/state/a"), Err(Error::Uncertain));
    assert_eq!(store.put(b"/state/a", b"3"), Err(Error::ReadOnly));
}

#[test]
fn a_hole_is_read_only_until_it_is_accepted() {
    let mut store = open(formatted(8));
    store.put(b"/state/before", b"1").expect("room");
    store.put(b"/state/lost", b"2").expect("room");
    let hit = newest_group(&mut store);
    store.put(b"/state/corrupt", b"3").expect("room");
    let damaged = newest_group(&mut store);
    store.put(b"/state/after", b"4").expect("room");
    let mut medium = store.into_device();
    zero(&mut medium, hit);
    zero(&mut medium, [damaged.start]);
    let mut store = open(medium);
    assert!(store.is_read_only());
    assert_eq!(store.get(b"/state/before"), Err(Error::Uncertain));
    assert_eq!(store.get(b"/state/lost"), Err(Error::Uncertain), "absence is not certain");
    assert_eq!(store.get(b"/state/corrupt"), Err(Error::Corrupt));
    assert_eq!(store.get(b"/state/after").as_deref(), Ok(&b"4"[..]), "written after the hole");
    let found = store.accept_damage(&mut |_, _| {}).expect("room");
    let states: Vec<KeyState> = found.keys_bad.iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Uncertain, KeyState::Corrupt]);
    let mut store = open(store.into_device());
    assert!(!store.is_read_only());
    assert_eq!(store.get(b"/state/before").as_deref(), Ok(&b"1"[..]));
    assert_eq!(store.get(b"/state/corrupt"), Err(Error::NotFound));
    store.put(b"/state/lost", b"again").expect("room");
}

#[test]
fn a_crash_loop_still_opens() {
    let mut medium = formatted(9);
    let mut store = open(medium.clone());
    store.put(b"/state/a", b"1").expect("room");
    medium = store.into_device();
    for round in 0..400 {
        let mut store = open(medium);
        assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]), "round {round}");
        store.put(b"/state/a", b"1").expect("each life writes, and so begins an incarnation");
        medium = store.into_device();
    }
    let mut store = open(medium);
    println!("{:?} {:?}", store.space(), store.damage().reports());
    store.put(b"/state/a", b"2").expect("and can be written");
}

#[test]
fn a_lost_copy_of_a_commit_record_or_a_segment_head_costs_nothing_and_is_reported() {
    let mut store = open(formatted(10));
    store.put(b"/state/a", b"1").expect("room");
    let commit_b = newest_group(&mut store).end - 1;
    store.seal().expect("room");
    let units = store.geometry().segment_units as usize;
    let first_head = 2 + (commit_b - 2) / units * units;
    let medium = store.into_device();
    for lost in [commit_b, first_head, first_head + units - 1] {
        let mut damaged = medium.clone();
        zero(&mut damaged, [lost]);
        let mut store = open(damaged);
        assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]));
        let reported = store.damage().reports().iter().any(|damage| {
            matches!(damage, Damage::CommitCopyLost { .. } | Damage::SegmentHeadDamaged { .. })
        });
        let checked = store.check_all(&mut |_, _| {});
        assert!(reported || !checked.heads_damaged.is_empty(), "unit {lost}");
        assert!(checked.keys_bad.is_empty());
        store.put(b"/state/b", b"2").expect("and can be written");
    }
}
