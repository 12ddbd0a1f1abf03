//! The simulator itself: that a seed is a run, that a trace can be read, that planted bugs are found.

use nexus_sim::campaign::Stage;
use nexus_sim::mutants::Mutant;
use nexus_sim::scenarios::{SCENARIOS, Scenario};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seeds within which every planted bug is found.
const SEEDS: u64 = 100;

fn stage() -> Stage {
    Stage::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap()
}

#[test]
fn a_seed_is_a_run_and_another_seed_another() {
    let stage = stage();
    let storm = scenario("storm");
    let digests: Vec<u64> = (0..6).map(|seed| stage.run(storm, seed, None).unwrap()).collect();
    let again: Vec<u64> = (0..6).map(|seed| stage.run(storm, seed, None).unwrap()).collect();
    assert_eq!(digests, again);
    assert!(digests.iter().any(|digest| *digest != digests[0]));
}

#[test]
fn runs_side_by_side_do_not_touch_each_other() {
    let stage = stage();
    let storm = scenario("storm");
    let alone = stage.run(storm, 3, None).unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| stage.run(storm, 3, None).unwrap())).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), alone);
        }
    });
}

#[test]
fn every_planted_bug_is_found() {
    let stage = stage();
    for mutant in Mutant::ALL {
        assert!(stage.hunt(mutant, SEEDS).is_some(), "{mutant:?} was not found in {SEEDS} seeds");
    }
}

#[test]
fn a_trace_has_a_lane_a_process_and_every_arrow_an_end_that_lands() {
    let (outcome, trace) = stage().traced(scenario("restless"), 1, None).unwrap();
    outcome.unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = events.iter().filter(|event| event["ph"] == "M");
    let names: Vec<&str> = named.map(|event| event["args"]["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "nexus-init (1)");
    let mut arrows = BTreeMap::new();
    for event in events {
        match event["ph"].as_str().unwrap() {
            "s" => assert!(arrows.insert(event["id"].as_u64(), event["ts"].as_f64()).is_none()),
            "f" => {
                let began = arrows.remove(&event["id"].as_u64()).expect("an arrow that began");
                assert!(began <= event["ts"].as_f64());
            }
            "X" => assert!(event["dur"].as_f64().unwrap() >= 0.0),
            _ => {}
        }
    }
    // The shell's read, which nobody answered by the end, is on its way, and little else.
    assert!(arrows.len() <= 3, "{} arrows never landed", arrows.len());
}

/// What was piped in was typed all at once, more than a UART holds, and the rest was lost.
#[test]
fn a_shell_that_is_fed_from_a_pipe_does_all_that_it_is_told() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nexus-sim"))
        .arg("shell")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"kill pong\nping\nuptime\nping\npoweroff\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("it has answered 2 so far"), "{shown}");
}
