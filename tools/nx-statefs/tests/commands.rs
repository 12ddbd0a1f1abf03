//! The commands on an image, as a person uses them.

use clap::Parser;
use nx_statefs::Arguments;
use partitions::{BLOCK_BYTES, Partition, lay_out};
use std::path::{Path, PathBuf};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn run(words: &[&str]) -> anyhow::Result<String> {
    let line = Line::try_parse_from([&["statefs"], words].concat())?;
    let mut out = Vec::new();
    nx_statefs::run(&line.arguments, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn image(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn what_is_put_is_listed_read_checked_and_dumped() {
    let path = image("commands.img");
    let file = image("commands.value");
    std::fs::write(&file, b"the value").expect("written");
    run(&["make", text(&path), "--mebibytes", "4"]).expect("made");
    run(&["put", text(&path), "/state/app/one", text(&file)]).expect("put");
    let before = std::fs::read(&path).expect("read");
    assert_eq!(run(&["get", text(&path), "/state/app/one"]).expect("there"), "the value");
    assert!(run(&["ls", text(&path)]).expect("listed").contains(" 9 /state/app/one"));
    assert_eq!(run(&["ls", text(&path), "/state/b"]).expect("listed"), "");
    assert!(run(&["fsck", text(&path)]).expect("good").ends_with("1 keys verified\ngood\n"));
    let dump = run(&["dump", text(&path)]).expect("dumped");
    assert!(dump.contains("open") && dump.contains("data") && dump.contains("seal"), "{dump}");
    assert_eq!(std::fs::read(&path).expect("read"), before, "reading changes no byte");
}

#[test]
fn a_store_inside_a_disk_image_is_reached_by_offset_and_length() {
    let (path, disk, file) = (image("part.img"), image("disk.img"), image("part.value"));
    std::fs::write(&file, b"x").expect("written");
    run(&["make", text(&path), "--mebibytes", "2"]).expect("made");
    let partition = std::fs::read(&path).expect("read");
    std::fs::write(&disk, [&vec![0xAA; 1 << 20][..], &partition, &vec![0xBB; 1 << 20]].concat())
        .expect("written");
    let length = partition.len().to_string();
    let place = ["--offset", "1048576", "--length", &length];
    run(&[&["put", text(&disk), "/state/a", text(&file)][..], &place].concat()).expect("put");
    assert_eq!(run(&[&["get", text(&disk), "/state/a"][..], &place].concat()).expect("there"), "x");
    let after = std::fs::read(&disk).expect("read");
    assert!(after[..1 << 20].iter().all(|byte| *byte == 0xAA), "nothing before it was touched");
    assert!(after[after.len() - (1 << 20)..].iter().all(|byte| *byte == 0xBB), "nothing behind it either");
}

#[test]
fn damage_is_reported_and_repaired_only_when_told() {
    let (path, file) = (image("damaged.img"), image("damaged.value"));
    std::fs::write(&file, b"findme-findme-findme").expect("written");
    run(&["make", text(&path), "--mebibytes", "2"]).expect("made");
    run(&["put", text(&path), "/state/a", text(&file)]).expect("put");
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.windows(12).position(|window| window == b"findme-findm").expect("there");
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let refusal = run(&["fsck", text(&path)]).expect_err("damaged").to_string();
    assert!(refusal.contains("--accept"), "{refusal}");
    assert!(run(&["get", text(&path), "/state/a"]).is_err());
    assert_eq!(std::fs::read(&path).expect("read"), bytes, "nothing was repaired");
    assert!(run(&["fsck", text(&path), "--accept"]).expect("accepted").contains("Corrupt /state/a"));
    assert!(run(&["fsck", text(&path)]).expect("good").contains("good"));
}

#[test]
fn test_reject_what_is_no_store() {
    let path = image("foreign.img");
    std::fs::write(&path, vec![7; 1 << 20]).expect("written");
    let refusal = format!("{:#}", run(&["ls", text(&path)]).expect_err("foreign"));
    assert!(refusal.contains("no statefs here"), "{refusal}");
    assert!(run(&["make", text(&path)]).is_err(), "an existing file is never overwritten");
    let small = image("small.img");
    assert!(run(&["make", text(&small), "--mebibytes", "0"]).is_err());
    assert!(!small.exists());
}

/// A disk with a partition table, all of whose partitions are empty.
fn disk(name: &str) -> PathBuf {
    let path = image(name);
    let blocks = 24 << 11;
    let wanted = [(Partition::Scratch, 8 << 11), (Partition::State, 8 << 11)];
    let mut bytes = vec![0; blocks as usize * BLOCK_BYTES];
    for (first, piece) in lay_out(blocks, &wanted, || [7; 16]).expect("it has room") {
        bytes[first as usize * BLOCK_BYTES..][..piece.len()].copy_from_slice(&piece);
    }
    std::fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn a_store_on_a_disk_with_partitions_is_made_and_found_by_itself() {
    let (disk, file) = (disk("partitions.img"), image("partitions.value"));
    std::fs::write(&file, b"x").expect("written");
    let before = std::fs::read(&disk).expect("read");
    assert!(run(&["ls", text(&disk)]).is_err(), "nothing is there yet");
    run(&["format", text(&disk)]).expect("made");
    run(&["put", text(&disk), "/state/a", text(&file)]).expect("put");
    assert_eq!(run(&["get", text(&disk), "/state/a"]).expect("there"), "x");
    let after = std::fs::read(&disk).expect("read");
    let scratch_ends = 9 << 20;
    assert!(after[..scratch_ends] == before[..scratch_ends], "table and other partitions are as they were");
}

#[test]
fn test_reject_to_format_what_is_not_empty_unless_it_is_to_be_erased() {
    let (disk, file) = (disk("erased.img"), image("erased.value"));
    std::fs::write(&file, b"x").expect("written");
    run(&["format", text(&disk)]).expect("made");
    run(&["put", text(&disk), "/state/a", text(&file)]).expect("put");
    let refused = run(&["format", text(&disk)]).expect_err("something is there");
    assert!(format!("{refused:#}").contains("--erase"), "{refused:#}");
    assert_eq!(run(&["get", text(&disk), "/state/a"]).expect("still there"), "x");
    run(&["format", text(&disk), "--erase"]).expect("erased");
    assert_eq!(run(&["ls", text(&disk)]).expect("listed"), "");
}
