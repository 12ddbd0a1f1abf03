//! The format stays what it is: golden images answer what they answered, here and in an independent reader.

use statefs::Mutant;
use statefs_proofs::medium::{Event, Fate, Medium};
use statefs_proofs::random::Random;
use statefs_proofs::{golden, scenario};
use std::path::{Path, PathBuf};
use std::process::Command;

fn golden_file(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.{extension}"))
}

#[test]
fn golden_images_answer_what_they_answered() {
    for name in golden::NAMES {
        let image = std::fs::read(golden_file(name, "sparse")).expect("the golden image");
        let expected = std::fs::read_to_string(golden_file(name, "txt")).expect("its answers");
        let image = Medium::from_bytes(&golden::from_sparse(&image));
        assert_eq!(golden::answers(image), expected, "{name}");
    }
}

#[test]
fn golden_images_show_what_they_are_named_for() {
    let answers = |name| std::fs::read_to_string(golden_file(name, "txt")).expect("the answers");
    assert_eq!(answers("empty"), "");
    assert!(answers("ordinary").lines().count() > 5 && !answers("ordinary").contains("corrupt"));
    assert!(answers("corrupt-value").contains(" corrupt\n"));
    assert!(answers("hole").contains(" uncertain\n") && answers("hole").ends_with("hole\n"));
    let complete = answers("superblock-lost");
    assert!(complete.lines().count() > 5 && !complete.contains("uncertain") && !complete.contains("corrupt"));
}

/// Rewrites the golden images. Only for a new version of the format: `cargo test -- --ignored make_golden`.
#[test]
#[ignore = "writes the golden images anew"]
fn make_golden_images() {
    std::fs::create_dir_all(golden_file("x", "txt").parent().expect("a folder")).expect("made");
    for name in golden::NAMES {
        let image = golden::make(name);
        std::fs::write(golden_file(name, "sparse"), golden::to_sparse(&image.to_bytes())).expect("written");
        std::fs::write(golden_file(name, "txt"), golden::answers(image)).expect("written");
    }
}

/// Asks the independent reader about a folder of sparse images; its answers lie beside them as `.py`.
fn ask_python(folder: &Path) {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/statefs_reader.py");
    let status =
        Command::new("python3").arg(reader).arg("--folder").arg(folder).status().expect("python3 is there");
    assert!(status.success(), "the reader ends well");
}

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("made");
    folder
}

fn compare(folder: &Path, names: &[String]) {
    ask_python(folder);
    for name in names {
        let ours = std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("our answers");
        let theirs =
            std::fs::read_to_string(folder.join(format!("{name}.py"))).expect("the reader's answers");
        assert_eq!(theirs, ours, "{name} in {}", folder.display());
    }
}

#[test]
fn the_independent_reader_agrees_on_golden_images() {
    let folder = temporary("reader-golden");
    for name in golden::NAMES {
        for extension in ["sparse", "txt"] {
            std::fs::copy(golden_file(name, extension), folder.join(format!("{name}.{extension}")))
                .expect("copied");
        }
    }
    compare(&folder, &golden::NAMES.map(String::from));
}

#[test]
fn the_independent_reader_agrees_on_crash_and_damage_images() {
    let folder = temporary("reader-crashes");
    let mut names = Vec::new();
    for seed in 900..920 {
        let run = scenario::run(seed, Mutant::None).expect("a run");
        let mut random = Random::new(seed);
        let mut medium = run.start.clone();
        for (at, event) in run.trace.iter().enumerate() {
            let Event::Write(unit, data) = event else { continue };
            if random.one_in(12) {
                let mut image = medium.clone();
                image.land(*unit, data, Fate::Mixed(random.bits() as u8));
                if random.one_in(2) {
                    let hit = random.below(image.len());
                    image.damage(hit, &mut random);
                }
                let name = format!("{seed}-{at}");
                // Both readers get the same bytes: what is unreadable is zeros for both.
                let bytes = image.to_bytes();
                std::fs::write(folder.join(format!("{name}.sparse")), golden::to_sparse(&bytes))
                    .expect("written");
                let answers = golden::answers(Medium::from_bytes(&bytes));
                std::fs::write(folder.join(format!("{name}.txt")), answers).expect("written");
                names.push(name);
            }
            medium.land(*unit, data, Fate::New);
        }
    }
    println!("{} images", names.len());
    assert!(names.len() >= 100);
    compare(&folder, &names);
}
