//! Recorded consoles, and what the judge says to them.

use super::*;
use crate::ladder::tests::SMALL;

const GOOD: &str = "\
OpenSBI v1.1
[neuron] neuron vers. 0.1.0 (2 harts)
[neuron] KINIT: cpu1 online
[pong] pong: ready
[ping] ping: ready
nexus> help
[selftest-client] SELFTEST: end
";

/// The verdict on a whole console and the marker that was still missing.
fn judged(console: &str, goal: Goal) -> (Verdict, Option<String>) {
    let ladder = Ladder::parse(SMALL).unwrap();
    let mut judge = Judge::new(&ladder, goal);
    let mut verdict = Verdict::Going;
    for line in console.lines() {
        verdict = judge.line(line);
    }
    (verdict, judge.expected().map(|marker| marker.text.clone()))
}

fn verdict(console: &str) -> Verdict {
    judged(console, Goal::default()).0
}

fn failure(console: &str) -> Failure {
    match verdict(console) {
        Verdict::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn smp() -> Goal {
    Goal { profiles: vec!["smp".to_string()], ..Goal::default() }
}

#[test]
fn a_good_console_is_done() {
    assert_eq!(judged(GOOD, smp()), (Verdict::Done, None));
}

#[test]
fn neighbours_of_one_group_come_in_any_order() {
    let other =
        GOOD.replace("[pong] pong: ready\n[ping] ping: ready", "[ping] ping: ready\n[pong] pong: ready");
    assert_eq!(verdict(&other), Verdict::Done);
}

#[test]
fn a_marker_is_required_only_in_its_profile() {
    let console = GOOD.replace("[neuron] KINIT: cpu1 online\n", "");
    assert_eq!(verdict(&console), Verdict::Done);
    let came = "ping: ready".to_string();
    let (verdict, missing) = judged(&console.replace("[pong] pong: ready\n", ""), smp());
    assert_eq!(verdict, Verdict::Failed(Failure::OutOfOrder { came }));
    assert_eq!(missing.as_deref(), Some("KINIT: cpu1 online"));
}

#[test]
fn test_reject_a_console_that_lacks_a_marker() {
    let (verdict, missing) = judged(&GOOD.replace("[ping] ping: ready\n", ""), Goal::default());
    assert_eq!(verdict, Verdict::Failed(Failure::OutOfOrder { came: "SELFTEST: end".to_string() }));
    assert_eq!(missing.as_deref(), Some("ping: ready"));
}

#[test]
fn a_console_that_stops_is_not_done() {
    let (verdict, missing) = judged("[neuron] neuron vers. 0.1.0\n", Goal::default());
    assert_eq!((verdict, missing.as_deref()), (Verdict::Going, Some("ping: ready")));
}

#[test]
fn test_reject_a_marker_that_comes_too_early() {
    let console = format!("[selftest-client] SELFTEST: end\n{GOOD}");
    assert_eq!(failure(&console), Failure::OutOfOrder { came: "SELFTEST: end".to_string() });
}

#[test]
fn test_reject_a_marker_of_the_wrong_author() {
    let expected = |author: Option<&str>| Failure::WrongAuthor {
        marker: "ping: ready".to_string(),
        author: author.map(str::to_string),
        expected: "ping".to_string(),
    };
    assert_eq!(failure(&GOOD.replace("[ping] ping", "[pong] ping")), expected(Some("pong")));
    assert_eq!(failure(&GOOD.replace("[ping] ping", "ping")), expected(None));
}

#[test]
fn a_service_id_is_as_good_an_origin_as_the_name() {
    let id = format!("[{:016x}] ping", nexus_abi::service_id("ping"));
    assert_eq!(verdict(&GOOD.replace("[ping] ping", &id)), Verdict::Done);
    let other = format!("[{:016x}] ping", nexus_abi::service_id("pong"));
    assert!(matches!(failure(&GOOD.replace("[ping] ping", &other)), Failure::WrongAuthor { .. }));
}

#[test]
fn test_reject_a_marker_that_comes_twice() {
    let console = GOOD.replace("[ping] ping: ready", "[pong] pong: ready");
    assert_eq!(failure(&console), Failure::Twice { marker: "pong: ready".to_string() });
}

#[test]
fn a_marker_that_repeats_comes_any_number_of_times_but_not_too_early() {
    let ladder = SMALL.replace("text = \"pong: ready\"", "text = \"pong: ready\"\nrepeats = true");
    let ladder = Ladder::parse(&ladder).unwrap();
    let judged = |console: &str| {
        let mut judge = Judge::new(&ladder, Goal::default());
        console.lines().map(|line| judge.line(line)).last()
    };
    let thrice = "[pong] pong: ready\n[pong] pong: ready\n[pong] pong: ready";
    assert_eq!(judged(&GOOD.replace("[pong] pong: ready", thrice)), Some(Verdict::Done));
    let too_early = Failure::OutOfOrder { came: "pong: ready".to_string() };
    assert_eq!(judged(&format!("[pong] pong: ready\n{GOOD}")), Some(Verdict::Failed(too_early)));
}

#[test]
fn test_reject_a_second_boot() {
    let console = GOOD.replace("[ping] ping: ready", "[neuron] neuron vers. 0.1.0");
    assert_eq!(failure(&console), Failure::Twice { marker: "neuron vers.".to_string() });
}

#[test]
fn an_announced_restart_lets_the_service_be_ready_once_more() {
    let again = "[pong] pong: ready\n[selftest-client] SELFTEST: expect restart pong\n[pong] pong: ready";
    assert_eq!(verdict(&GOOD.replace("[pong] pong: ready", again)), Verdict::Done);
    let thrice = format!("{again}\n[pong] pong: ready");
    let failure = failure(&GOOD.replace("[pong] pong: ready", &thrice));
    assert_eq!(failure, Failure::Twice { marker: "pong: ready".to_string() });
}

#[test]
fn test_reject_a_restart_that_the_service_itself_announces() {
    let again = "[pong] pong: ready\n[pong] expect restart pong\n[pong] pong: ready";
    let failure = failure(&GOOD.replace("[pong] pong: ready", again));
    assert_eq!(failure, Failure::Twice { marker: "pong: ready".to_string() });
}

#[test]
fn test_reject_a_line_that_says_fail() {
    let console = GOOD.replace("nexus> help", "[selftest-client] SELFTEST: ipc round trip FAIL (timed out)");
    assert_eq!(failure(&console), Failure::SaysFail);
    assert_eq!(verdict(&GOOD.replace("nexus> help", "[pong] FAILOVER done")), Verdict::Done);
}

#[test]
fn test_reject_a_panic_with_or_without_origin() {
    for line in ["[neuron] PANIC at frames.rs:10", "[pong] panicked at main.rs", "kernel panic: no memory"] {
        assert_eq!(failure(&GOOD.replace("nexus> help", line)), Failure::Panic, "{line}");
    }
}

#[test]
fn one_announcement_allows_one_fault() {
    let fault = "[neuron] fault: process 9 ended by read fault at 0x0";
    let announced = format!("[selftest-client] SELFTEST: expect fault faulty\n{fault}");
    assert_eq!(verdict(&GOOD.replace("nexus> help", &announced)), Verdict::Done);
    assert_eq!(failure(&GOOD.replace("nexus> help", fault)), Failure::UnannouncedFault);
    let two = format!("{announced}\n{fault}");
    assert_eq!(failure(&GOOD.replace("nexus> help", &two)), Failure::UnannouncedFault);
}

#[test]
fn an_announced_fault_may_be_a_panic_of_that_process_alone() {
    let console = |author: &str| {
        let lines =
            format!("[selftest-client] SELFTEST: expect fault pong\n[{author}] panicked at main.rs:1:1");
        GOOD.replace("nexus> help", &lines)
    };
    assert_eq!(verdict(&console("pong")), Verdict::Done);
    assert_eq!(failure(&console("ping")), Failure::Panic);
    assert_eq!(failure(&console("neuron")), Failure::Panic);
}

#[test]
fn a_process_that_faulted_as_announced_may_be_ready_once_more() {
    let again = "[pong] pong: ready\n[selftest-client] SELFTEST: expect fault pong\n\
                 [neuron] fault: process 3 ended by breakpoint\n[pong] pong: ready";
    assert_eq!(verdict(&GOOD.replace("[pong] pong: ready", again)), Verdict::Done);
}

#[test]
fn test_reject_a_fault_that_the_faulting_process_announces() {
    let console = "[pong] expect fault pong\n[neuron] fault: process 3 ended by write fault at 0x0";
    assert_eq!(failure(&GOOD.replace("nexus> help", console)), Failure::UnannouncedFault);
}

#[test]
fn a_run_may_end_at_a_phase_or_a_marker() {
    let until_phase = Goal { phase: Some(0), ..Goal::default() };
    assert_eq!(judged(&GOOD.replace("[selftest-client] SELFTEST: end\n", ""), until_phase).0, Verdict::Done);
    let until_marker = Goal { marker: Some("neuron vers.".to_string()), ..Goal::default() };
    assert_eq!(judged("[neuron] neuron vers. 0.1.0", until_marker).0, Verdict::Done);
}

#[test]
fn a_verdict_is_final() {
    let console = format!("[neuron] PANIC\n{GOOD}");
    assert_eq!(failure(&console), Failure::Panic);
}
