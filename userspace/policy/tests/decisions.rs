//! Decisions, the server of them, overlays, and the table's bytes.

use policy::{
    Action, Audit, Judge, Overlay, OverlayError, PolicyFile, PushError, Reason, Record, Refusal, Table,
    TableError, compile, compile_overlay, covers, decode, encode, public_key, sign,
};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];
const TICKS: u64 = 1000;
const RNGD: u64 = 30;
const PONG: u64 = 10;
const CONSOLED: u64 = 20;
const NOBODY: u64 = 99;

fn subjects() -> Vec<(String, u64)> {
    let all = [("rngd", RNGD), ("pong", PONG), ("consoled", CONSOLED)];
    all.iter().map(|(name, id)| (name.to_string(), *id)).collect()
}

fn table() -> Table {
    let text = "[allow]\n\
        rngd = [\"policy.delegate\", \"device.mmio.rng virtio:entropy\", \"rng.entropy\"]\n\
        pong = [\"statefs.read /a/\", \"crypto.verify 2/s\", \"policy.admin\"]\n\
        [deny]\npong = [\"statefs.read /b/\"]\n";
    let file = PolicyFile { name: "base.toml".into(), text: text.into() };
    let mut table = compile(&[file], &subjects()).unwrap();
    table.overlay_key = Some(public_key(&SEED));
    table
}

/// A record of so much room.
struct Trail {
    room: usize,
    kept: Vec<String>,
}

impl Audit for &mut Trail {
    fn has_room(&mut self) -> bool {
        self.kept.len() < self.room
    }

    fn keep(&mut self, record: &Record<'_>) {
        assert!(self.has_room(), "a record without room");
        self.kept.push(record.to_string());
    }
}

fn trail(room: usize) -> Trail {
    Trail { room, kept: Vec::new() }
}

fn judge(trail: &mut Trail) -> Judge<&mut Trail> {
    Judge::new(table(), 1, TICKS, trail)
}

#[test]
fn a_decision_names_the_line_that_made_it() {
    let table = table();
    let of = |subject, action, resource| {
        let decision = table.decide(subject, action, resource);
        (decision.reason, decision.rule.map(|(_, rule)| rule.line))
    };
    assert_eq!(of(PONG, Action::StatefsRead, "/a/x"), (Reason::Allowed, Some(3)));
    assert_eq!(of(PONG, Action::StatefsRead, "/b/x"), (Reason::Denied, Some(5)));
    assert_eq!(of(PONG, Action::StatefsRead, "/c"), (Reason::OtherResource, None));
    assert_eq!(of(PONG, Action::StatefsRead, ""), (Reason::OtherResource, None));
    assert_eq!(of(RNGD, Action::DeviceRng, "virtio:entropy"), (Reason::Allowed, Some(2)));
    assert_eq!(of(RNGD, Action::DeviceRng, "virtio:block"), (Reason::OtherResource, None));
    assert_eq!(of(PONG, Action::DeviceRng, "virtio:entropy"), (Reason::NoLine, None));
}

#[test]
fn test_reject_whoever_and_whatever_no_line_is_about() {
    let table = table();
    for action in Action::ALL {
        for subject in [0, NOBODY, u64::MAX, CONSOLED] {
            assert_eq!(table.decide(subject, *action, "").reason, Reason::NoLine);
        }
    }
}

#[test]
fn an_explanation_names_file_and_line() {
    let table = table();
    let explain = |action, resource| policy::explain(&table, "pong", PONG, action, resource);
    assert_eq!(
        explain(Action::StatefsRead, "/a/x"),
        "allowed: pong statefs.read /a/x: base.toml:3 allows statefs.read of /a/"
    );
    assert_eq!(
        explain(Action::StatefsRead, "/c"),
        "denied: pong statefs.read /c: its lines are about /a/ (base.toml:3), /b/ (base.toml:5) only"
    );
    assert_eq!(
        explain(Action::CryptoVerify, ""),
        "allowed: pong crypto.verify: base.toml:3 allows crypto.verify, 2 a second"
    );
    assert!(explain(Action::ProcSpawn, "").contains("what no line allows is denied"));
    assert_eq!(policy::matrix(&table).len(), table.rules.len());
}

#[test]
fn only_what_need_not_be_recorded_or_counted_lasts() {
    let mut trail = trail(100);
    let mut judge = judge(&mut trail);
    let mut lasts = |asker, action: Action, resource: &[u8]| {
        judge.check(asker, asker, action.number(), resource, 0).unwrap().lasts
    };
    assert!(lasts(RNGD, Action::RngEntropy, b""));
    assert!(!lasts(RNGD, Action::DeviceRng, b"virtio:entropy"), "it is sensitive");
    assert!(!lasts(PONG, Action::CryptoVerify, b""), "it is bounded");
    assert!(!lasts(PONG, Action::RngEntropy, b""), "it is denied");
}

#[test]
fn every_denial_and_every_sensitive_allowance_is_recorded() {
    let mut trail = trail(100);
    let mut judge = judge(&mut trail);
    let mut ask = |subject, action: Action, resource: &[u8]| {
        judge.check_for(RNGD, subject, action.number(), resource, 5).unwrap();
    };
    ask(RNGD, Action::RngEntropy, b"");
    ask(RNGD, Action::DeviceRng, b"virtio:entropy");
    ask(NOBODY, Action::StatefsWrite, b"/a");
    ask(PONG, Action::StatefsRead, b"/b/x");
    assert_eq!(judge.counts().recorded, 3);
    assert_eq!(
        trail.kept,
        [
            "allow device.mmio.rng rngd virtio:entropy: a line allows it (base.toml:2)",
            "deny statefs.write 0000000000000063 /a asked by 000000000000001e: no line is about it",
            "deny statefs.read pong /b/x asked by 000000000000001e: a line denies it (base.toml:5)",
        ]
    );
}

#[test]
fn test_reject_what_there_is_no_room_to_record() {
    let mut trail = trail(1);
    let mut judge = judge(&mut trail);
    let device = Action::DeviceRng.number();
    let mut ask = |action, resource: &[u8]| judge.check(RNGD, RNGD, action, resource, 0).unwrap().reason;
    assert_eq!(ask(device, b"virtio:entropy"), Reason::Allowed);
    assert_eq!(ask(device, b"virtio:entropy"), Reason::NoRecord);
    assert_eq!(ask(Action::ProcSpawn.number(), b""), Reason::NoRecord);
    assert_eq!(ask(Action::RngEntropy.number(), b""), Reason::Allowed, "it needs no record");
    let counts = judge.counts();
    assert_eq!((counts.allowed, counts.denied, counts.unrecorded, counts.recorded), (2, 2, 2, 1));
}

#[test]
fn test_reject_spoofed_questions() {
    let mut trail = trail(9);
    let mut judge = judge(&mut trail);
    let action = Action::RngEntropy.number();
    assert_eq!(judge.check(PONG, RNGD, action, b"", 0), Err(Refusal::Spoofed));
    assert_eq!((judge.counts().refused, judge.counts().allowed), (1, 0));
    assert_eq!(
        trail.kept,
        ["deny rng.entropy rngd asked by 000000000000000a: it was asked in another's name"]
    );
}

#[test]
fn test_reject_questions_on_behalf_of_another_without_the_right_to() {
    let mut trail = trail(9);
    let mut judge = judge(&mut trail);
    let action = Action::RngEntropy.number();
    assert_eq!(judge.check_for(PONG, RNGD, action, b"", 0), Err(Refusal::NotDelegated));
    assert_eq!(judge.check_for(PONG, PONG, action, b"", 0), Err(Refusal::NotDelegated));
    assert_eq!(judge.check_for(RNGD, PONG, action, b"", 0).unwrap().reason, Reason::NoLine);
    assert_eq!(judge.counts().refused, 2);
    assert_eq!(trail.kept.len(), 3);
}

/// A bound on the right to ask for others was once read and not kept.
#[test]
fn test_reject_asking_for_others_more_often_than_the_line_allows() {
    let mut bounded = table();
    let mut rules = bounded.rules.iter_mut();
    rules.find(|rule| rule.action == Action::PolicyDelegate).unwrap().rate = 2;
    let mut trail = trail(9);
    let mut judge = Judge::new(bounded, 1, TICKS, &mut trail);
    let mut ask = |ticks| judge.check_for(RNGD, RNGD, Action::RngEntropy.number(), b"", ticks).map(drop);
    assert_eq!([ask(0), ask(0), ask(0)], [Ok(()), Ok(()), Err(Refusal::NotDelegated)]);
    assert_eq!([ask(500), ask(500)], [Ok(()), Err(Refusal::NotDelegated)]);
    assert_eq!(judge.counts().refused, 2);
}

#[test]
fn test_reject_malformed_questions() {
    let mut trail = trail(9);
    let mut judge = judge(&mut trail);
    let last = Action::ALL.len() as u16;
    for (action, resource) in
        [(0, &b""[..]), (last + 1, b""), (1, b"\xff"), (1, b"a b"), (1, b"\0"), (1, &[b'x'; 53])]
    {
        assert_eq!(judge.check(RNGD, RNGD, action, resource, 0), Err(Refusal::Malformed));
    }
    assert_eq!(judge.counts().malformed, 6);
    assert!(trail.kept.is_empty());
}

#[test]
fn test_reject_what_comes_more_often_than_its_line_allows() {
    let mut trail = trail(9);
    let mut judge = judge(&mut trail);
    let mut ask = |ticks| judge.check(PONG, PONG, Action::CryptoVerify.number(), b"", ticks).unwrap().reason;
    assert_eq!([ask(0), ask(0), ask(0)], [Reason::Allowed, Reason::Allowed, Reason::TooOften]);
    assert_eq!([ask(499), ask(500), ask(500)], [Reason::TooOften, Reason::Allowed, Reason::TooOften]);
    // What is not used is kept for a second, no longer.
    assert_eq!([ask(9000), ask(9000), ask(9000)], [Reason::Allowed, Reason::Allowed, Reason::TooOften]);
}

fn overlay(text: &str) -> Overlay {
    compile_overlay(&PolicyFile { name: "o.toml".into(), text: text.into() }, &subjects()).unwrap()
}

fn signed(text: &str) -> Vec<u8> {
    sign(&overlay(text), &SEED).unwrap()
}

const OVERLAY: &str = "sequence = 5\n[allow]\nconsoled = [\"rng.entropy\"]\npong = [\"statefs.read /c/\"]\n";

#[test]
fn an_overlay_takes_the_place_of_the_lines_about_the_same() {
    let mut trail = trail(99);
    let mut judge = judge(&mut trail);
    assert_eq!(judge.push(PONG, &signed(OVERLAY), 0, |_| Ok(())), Ok(2));
    assert_eq!((judge.epoch(), judge.sequence()), (2, 5));
    let of = |subject, action, resource| judge.table().decide(subject, action, resource).reason;
    assert_eq!(of(CONSOLED, Action::RngEntropy, ""), Reason::Allowed);
    assert_eq!(of(PONG, Action::StatefsRead, "/c/x"), Reason::Allowed);
    assert_eq!(of(PONG, Action::StatefsRead, "/a/x"), Reason::OtherResource);
    assert_eq!(of(PONG, Action::StatefsRead, "/b/x"), Reason::OtherResource);
    assert_eq!(of(RNGD, Action::RngEntropy, ""), Reason::Allowed);
    let rule = judge.table().decide(CONSOLED, Action::RngEntropy, "").rule.unwrap().1.clone();
    assert_eq!((judge.table().file_of(&rule), rule.line), ("o.toml", 3));
    // The next one is over the image's table again, not over this one.
    judge.push(PONG, &signed("sequence = 6\n"), 0, |_| Ok(())).unwrap();
    assert_eq!((&judge.table().rules, &judge.table().subjects), (&table().rules, &table().subjects));
}

#[test]
fn a_successor_takes_the_kept_overlay_and_knows_its_sequence() {
    let (mut trail, mut other) = (trail(99), trail(99));
    let mut judge = judge(&mut trail);
    assert_eq!(judge.restore(&signed(OVERLAY)), Ok(2));
    let again = judge.push(PONG, &signed(OVERLAY), 0, |_| panic!("it is not taken"));
    assert_eq!(again, Err(PushError::Overlay(OverlayError::Replayed)));
    let mut successor = Judge::new(table(), 3, TICKS, &mut other);
    assert_eq!(successor.restore(&signed(OVERLAY)), Ok(4));
}

fn refused(bytes: &[u8]) -> OverlayError {
    let mut trail = trail(99);
    let mut judge = judge(&mut trail);
    let outcome = judge.push(PONG, bytes, 0, |_| panic!("it is not taken"));
    assert_eq!((judge.table(), judge.epoch(), judge.counts().overlays_refused), (&table(), 1, 1));
    match outcome {
        Err(PushError::Overlay(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn test_reject_overlays_of_another_key_and_with_flipped_bits() {
    assert_eq!(refused(&sign(&overlay(OVERLAY), &[8; 32]).unwrap()), OverlayError::BadSignature);
    let good = signed(OVERLAY);
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        assert_eq!(refused(&bad), OverlayError::BadSignature, "byte {place}");
    }
}

#[test]
fn test_reject_overlays_of_another_length() {
    let good = signed(OVERLAY);
    assert_eq!(refused(&[]), OverlayError::Malformed);
    assert_eq!(refused(&good[..63]), OverlayError::Malformed);
    assert_eq!(refused(&good[..good.len() - 1]), OverlayError::BadSignature);
    assert_eq!(refused(&vec![0; policy::OVERLAY_BYTES_MAX + 1]), OverlayError::Malformed);
}

#[test]
fn test_reject_overlays_at_or_below_the_last_sequence() {
    let (mut trail, mut other) = (trail(99), trail(99));
    let mut first = judge(&mut trail);
    let replayed = Err(PushError::Overlay(OverlayError::Replayed));
    first.push(PONG, &signed("sequence = 5\n"), 0, |_| Ok(())).unwrap();
    for sequence in [0, 1, 4, 5] {
        let pushed =
            first.push(PONG, &signed(&format!("sequence = {sequence}\n")), 0, |_| panic!("it is not taken"));
        assert_eq!(pushed, replayed, "{sequence}");
    }
    // A successor has the kept one, and so its sequence.
    let mut successor = Judge::new(table(), 3, TICKS, &mut other);
    successor.restore(&signed("sequence = 5\n")).unwrap();
    assert_eq!(successor.push(PONG, &signed("sequence = 4\n"), 0, |_| panic!("it is not taken")), replayed);
    assert_eq!(successor.push(PONG, &signed("sequence = 6\n"), 0, |_| Ok(())), Ok(5));
}

#[test]
fn test_reject_a_kept_overlay_that_was_changed() {
    let (mut trail, whole) = (trail(99), signed("sequence = 5\n"));
    let mut successor = Judge::new(table(), 3, TICKS, &mut trail);
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        assert_eq!(successor.restore(&damaged), Err(OverlayError::BadSignature), "byte {place}");
    }
    assert_eq!(successor.restore(&[]), Err(OverlayError::Malformed));
    assert_eq!((successor.epoch(), successor.table()), (3, &table()));
}

#[test]
fn test_reject_overlays_about_the_policy_itself() {
    for line in ["policy.admin", "policy.delegate"] {
        let text = format!("sequence = 5\n[allow]\nconsoled = [\"{line}\"]\n");
        assert_eq!(refused(&signed(&text)), OverlayError::Forbidden);
    }
    let mut keyed = overlay("sequence = 5\n");
    keyed.table.overlay_key = Some([1; 32]);
    assert_eq!(refused(&sign(&keyed, &SEED).unwrap()), OverlayError::Forbidden);
}

#[test]
fn test_reject_overlays_without_policy_admin_without_a_key_and_that_are_not_kept() {
    let mut trail = trail(99);
    let mut judge = judge(&mut trail);
    let push = judge.push(RNGD, &signed(OVERLAY), 0, |_| panic!("it is not taken"));
    assert_eq!(push, Err(PushError::NotAdmin(Reason::NoLine)));
    assert_eq!(judge.push(PONG, &signed(OVERLAY), 0, |_| Err(())), Err(PushError::NotKept));
    assert_eq!((judge.epoch(), judge.table()), (1, &table()));
    let mut other = trail_of_its_own();
    let mut keyless = Judge::new(Table { overlay_key: None, ..table() }, 1, TICKS, &mut other);
    assert_eq!(
        keyless.push(PONG, &signed(OVERLAY), 0, |_| Ok(())),
        Err(PushError::Overlay(OverlayError::NoKey))
    );
}

#[test]
fn test_reject_overlays_that_make_a_table_too_large() {
    let (mut trail, files) = (trail(99), vec![String::from("f"); policy::FILES_MAX]);
    let mut full = Judge::new(Table { files, ..table() }, 1, TICKS, &mut trail);
    let pushed = full.push(PONG, &signed(OVERLAY), 0, |_| panic!("it is not taken"));
    assert_eq!(pushed, Err(PushError::Overlay(OverlayError::Table(TableError::OverLimit))));
    assert_eq!((full.epoch(), full.sequence()), (1, 0));
}

fn trail_of_its_own() -> Trail {
    trail(99)
}

#[test]
fn test_reject_tables_that_break_a_rule() {
    let broken = |change: fn(&mut Table)| {
        let mut table = table();
        change(&mut table);
        encode(&table)
    };
    assert_eq!(broken(|table| table.rules.reverse()), Err(TableError::Disordered));
    assert_eq!(broken(|table| table.subjects.swap(0, 1)), Err(TableError::Disordered));
    assert_eq!(broken(|table| table.files.clear()), Err(TableError::Disordered));
    assert_eq!(broken(|table| table.rules[0].rate = policy::RATE_MAX + 1), Err(TableError::BadLine));
    assert_eq!(broken(|table| table.files = vec![String::new(); 33]), Err(TableError::OverLimit));
    assert_eq!(broken(|table| table.files[0] = "x".repeat(65)), Err(TableError::OverLimit));
    assert_eq!(broken(|table| table.rules.insert(0, table.rules[0].clone())), Err(TableError::Overlapping));
    let good = encode(&table()).unwrap();
    assert_eq!(decode(&good[1..]), Err(TableError::BadMagic));
    assert_eq!(decode(&good[..good.len() - 1]), Err(TableError::Malformed));
    assert_eq!(decode(&[&good[..], &[0]].concat()), Err(TableError::Malformed));
    assert_eq!(decode(&vec![0; policy::TABLE_BYTES_MAX + 1]), Err(TableError::TooLarge));
}

proptest! {
    #[test]
    fn any_bytes_are_a_table_that_holds_its_rules_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let framed = [&b"NXPOLCY\x01"[..], &bytes].concat();
        if let Ok(table) = decode(&framed) {
            prop_assert!(table.check().is_ok());
        }
        let _ = Overlay::open(&bytes, Some(&public_key(&SEED)), 0);
    }

    #[test]
    fn flipped_bits_of_a_table_are_refused_or_leave_a_table(place in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = encode(&table()).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1u8 << bit;
        if let Ok(table) = decode(&bytes) {
            prop_assert!(table.check().is_ok());
        }
    }

    /// The lookup, beside one that looks at every line.
    #[test]
    fn a_decision_is_what_looking_at_every_line_says(
        lines in prop::collection::vec((0..3usize, 1..6u16, "(/[ab]){0,2}/?", any::<bool>()), 0..12),
        questions in prop::collection::vec((0..4usize, 1..6u16, "(/[ab]){0,3}/?"), 1..30),
    ) {
        let subjects = subjects();
        let mut text = [String::from("[allow]\n"), String::from("[deny]\n")];
        let mut kept: Vec<(usize, u16, String, bool)> = Vec::new();
        for (subject, action, resource, allows) in lines {
            let clash = |other: &(usize, u16, String, bool)| {
                (other.0, other.1) == (subject, action) && policy::overlap(&other.2, &resource)
            };
            if (resource.is_empty() || policy::is_resource(&resource)) && !kept.iter().any(clash) {
                kept.push((subject, action, resource, allows));
            }
        }
        for (place, text) in text.iter_mut().enumerate() {
            for (number, (name, _)) in subjects.iter().enumerate() {
                let lines = kept.iter().filter(|line| line.0 == number && line.3 == (place == 0));
                let lines = lines.map(|line| format!("\"{} {}\"", Action::from_number(line.1).unwrap(), line.2));
                text.push_str(&format!("{name} = [{}]\n", lines.collect::<Vec<_>>().join(", ")));
            }
        }
        let files: Vec<_> = text.iter().enumerate()
            .map(|(n, text)| PolicyFile { name: n.to_string(), text: text.clone() })
            .collect();
        let table = compile(&files, &subjects).unwrap();
        for (subject, action, resource) in questions {
            let id = subjects.get(subject).map_or(NOBODY, |(_, id)| *id);
            let line = kept.iter().find(|line| (line.0, line.1) == (subject, action) && covers(&line.2, &resource));
            let decision = table.decide(id, Action::from_number(action).unwrap(), &resource);
            prop_assert_eq!(decision.is_allowed(), line.is_some_and(|line| line.3));
        }
    }
}
