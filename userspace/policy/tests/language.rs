//! The files of a policy: what ships compiles, and every kind of wrong line is refused with its place.

use policy::{Action, PolicyFile, Reason, Table, compile, compile_overlay};
use proptest::prelude::*;
use system_manifest::CompileError;

fn subjects() -> Vec<(String, u64)> {
    ["rngd", "pong", "consoled"].iter().zip([30, 10, 20]).map(|(name, id)| (name.to_string(), id)).collect()
}

fn file(name: &str, text: &str) -> PolicyFile {
    PolicyFile { name: name.into(), text: text.into() }
}

fn compiled(texts: &[&str]) -> Result<Table, CompileError> {
    let files: Vec<_> = texts.iter().enumerate().map(|(n, text)| file(&format!("{n}.toml"), text)).collect();
    compile(&files, &subjects())
}

fn refused(texts: &[&str]) -> String {
    compiled(texts).unwrap_err().to_string()
}

#[test]
fn lines_of_every_file_are_one_table() {
    let table = compiled(&[
        "[allow]\nrngd = [\"device.mmio.rng virtio:entropy\",\n \"policy.delegate\"]\n",
        "[allow]\nrngd = [\"rng.entropy 5/s\"]\n[deny]\npong = [\"statefs.read /a/\"]\n",
    ])
    .unwrap();
    assert_eq!(table.files, ["0.toml", "1.toml"]);
    let names: Vec<&str> = table.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["pong", "rngd"]);
    let (_, lines) = table.lines(30, Action::RngEntropy);
    assert_eq!((lines[0].rate, table.file_of(&lines[0]), lines[0].line), (5, "1.toml", 2));
    let delegate = table.decide(30, Action::PolicyDelegate, "");
    assert_eq!(delegate.rule.map(|(_, rule)| rule.line), Some(3));
    assert_eq!(table.decide(10, Action::StatefsRead, "/a/b").reason, Reason::Denied);
    assert_eq!(policy::decode(&policy::encode(&table).unwrap()), Ok(table));
}

#[test]
fn test_reject_unknown_subjects_and_actions_with_a_suggestion() {
    assert_eq!(
        refused(&["[allow]\n\nrngdd = [\"rng.entropy\"]\n"]),
        "0.toml:3: unknown subject `rngdd` (did you mean `rngd`?)"
    );
    assert_eq!(
        refused(&["[allow]\nrngd = [\n \"rng.entropy\",\n \"device.mmio.rgn\"]\n"]),
        "0.toml:4: unknown action `device.mmio.rgn` (did you mean `device.mmio.rng`?)"
    );
    assert_eq!(refused(&["[allow]\nxyzzy = []\n"]), "0.toml:2: unknown subject `xyzzy`");
}

#[test]
fn test_reject_repeated_contradicting_and_overlapping_lines_with_both_places() {
    let one = "[allow]\nrngd = [\"statefs.read /a/\"]\n";
    assert_eq!(
        refused(&[one, "[allow]\nrngd = [\"statefs.read /a/\"]\n"]),
        "1.toml:2: this line repeats 0.toml:2 (rngd, statefs.read)"
    );
    assert_eq!(
        refused(&[one, "\n[deny]\nrngd = [\"statefs.read /a/b\"]\n"]),
        "1.toml:3: this line contradicts 0.toml:2 (rngd, statefs.read)"
    );
    assert_eq!(
        refused(&["[allow]\nrngd = [\"statefs.read /a/\", \"statefs.read\"]\n"]),
        "0.toml:2: this line overlaps with 0.toml:2 (rngd, statefs.read)"
    );
    assert_eq!(
        refused(&["[allow]\nrngd = [\"proc.spawn\", \"proc.spawn 3/s\"]\n"]),
        "0.toml:2: this line repeats 0.toml:2 (rngd, proc.spawn)"
    );
    // Another subject, another action, another resource: each is its own line.
    compiled(&[
        one,
        "[deny]\nrngd = [\"statefs.read /b/\", \"statefs.write /a/\"]\npong = [\"statefs.read /a/\"]\n",
    ])
    .unwrap();
}

#[test]
fn test_reject_lines_and_files_of_another_form() {
    for (line, message) in [
        ("", "a line is `ACTION [RESOURCE] [RATE/s]`"),
        ("rng.entropy a b", "a line is `ACTION [RESOURCE] [RATE/s]`"),
        ("5/s", "a line is `ACTION [RESOURCE] [RATE/s]`"),
        ("rng.entropy 0/s", "`0/s` is no bound: 1 to 10000, of what is allowed"),
        ("rng.entropy many/s", "`many/s` is no bound: 1 to 10000, of what is allowed"),
        ("rng.entropy 10001/s", "`10001/s` is no bound: 1 to 10000, of what is allowed"),
    ] {
        assert_eq!(refused(&[&format!("[allow]\nrngd = [\"{line}\"]\n")]), format!("0.toml:2: {message}"));
    }
    assert!(
        refused(&["[allow]\nrngd = [\"statefs.read /a/../b\"]\n"])
            .contains("0.toml:2: `/a/../b` is no resource")
    );
    assert!(refused(&["[deny]\nrngd = [\"rng.entropy 5/s\"]\n"]).contains("of what is allowed"));
    assert!(refused(&["[alow]\nrngd = []\n"]).starts_with("0.toml:1: unknown field `alow`"));
    assert!(refused(&["[allow]\nrngd = []\nrngd = []\n"]).starts_with("0.toml:3: duplicate key"));
    assert!(refused(&["[allow]\nrngd = [1]\n"]).starts_with("0.toml:2: "));
    assert!(refused(&["sequence = 1\n"]).contains("`sequence` is of overlays"));
}

#[test]
fn test_reject_keys_that_are_none_and_a_second_one() {
    let key = |digits: &str| format!("[overlay]\npublic_key = \"{digits}\"\n");
    for digits in ["", "00", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
        assert_eq!(refused(&[&key(digits)]), "0.toml:2: the public key is not 64 hexadecimal digits");
    }
    let good = key(&"0f".repeat(32));
    assert_eq!(compiled(&[&good]).unwrap().overlay_key, Some([15; 32]));
    assert_eq!(refused(&[&good, &good]), "1.toml:2: a second public key for overlays");
}

#[test]
fn test_reject_overlays_without_a_sequence_or_with_a_key() {
    let overlay = |text: &str| compile_overlay(&file("o.toml", text), &subjects());
    assert_eq!(overlay("sequence = 7\n[allow]\nrngd = [\"rng.entropy\"]\n").unwrap().sequence, 7);
    for text in ["", "sequence = 1\n[overlay]\npublic_key = \"00\"\n"] {
        let message = "o.toml:1: an overlay has a `sequence`, and no `[overlay]`";
        assert_eq!(overlay(text).unwrap_err().to_string(), message);
    }
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,200}") {
        let _ = compiled(&[&text]);
    }

    #[test]
    fn any_line_is_compiled_or_refused(line in "[ -~]{0,80}") {
        let line = line.replace(['"', '\\'], "");
        if let Ok(table) = compiled(&[&format!("[allow]\nrngd = [\"{line}\"]\n")]) {
            prop_assert!(table.check().is_ok() && table.rules.len() == 1);
        }
    }
}
