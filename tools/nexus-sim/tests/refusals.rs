//! What the services refuse because of a bound or a rule of their own, provoked in the running system by programs that
//! ask for one thing too many.

use nexus_sim::crowd;
use nexus_sim::image::{Built, PROGRAMS, assemble};
use nexus_sim::run::Run;
use nexus_sim::system::Setup;
use std::path::{Path, PathBuf};
use system_manifest::{Manifest, Service};

/// Callers that may wait at a time: in `logd` for records, in init for the system, in `consoled` for room.
const WAITING_MAX: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The manifest of the recipe with these lines behind it.
fn manifest(more: &str) -> Manifest {
    let recipe = std::fs::read_to_string(root().join("recipes/system.toml")).unwrap();
    let bytes = system_manifest::compile(&format!("{recipe}\n{more}"), "recipes/system.toml").unwrap();
    system_manifest::decode(&bytes).unwrap()
}

/// So many services that run the crowd's program, each of which may make this call.
fn members(count: usize, call: &str) -> String {
    (1..=count).map(|number| member(&format!("member-{number}"), call)).collect()
}

fn member(name: &str, call: &str) -> String {
    assert!(PROGRAMS.contains(&("crowd", crowd::run)));
    let head =
        format!("[[service]]\nname = \"{name}\"\nbinary = \"crowd\"\nrank = \"app\"\nrestart = \"never\"\n");
    format!("{head}limits = {{ memory_pages = 256 }}\n[service.calls]\n{call}\n")
}

/// The system without whatever other boot arguments are for: who reads everybody's rings is handed one of each service,
/// and has no room for those of all and of a crowd.
fn built(mut manifest: Manifest) -> Built {
    let files = nx::policy::entries(&root(), &manifest).unwrap();
    manifest.services.retain(|service| {
        service.binary == "crowd" || (service.condition.is_none() && !service.name.starts_with("unfit"))
    });
    let served: Vec<String> =
        manifest.services.iter().flat_map(|service| &service.endpoints).map(|e| e.name.clone()).collect();
    for service in &mut manifest.services {
        service.calls.retain(|call| call.endpoint == "init" || served.contains(&call.endpoint));
    }
    assemble(manifest, files).unwrap()
}

/// A system that is at rest, with this boot argument.
fn at_rest<'a>(built: &'a Built, argument: &str) -> Run<'a> {
    let mut run = Run::boot(built, Setup { arguments: argument.into(), ..Setup::default() }).unwrap();
    run.until_shown("init: ready").unwrap();
    run.settle().unwrap();
    run
}

/// What each member told of the thing that it did, sorted.
fn told(run: &Run<'_>, what: &str) -> Vec<String> {
    let shown = run.console();
    let lines =
        shown.lines().filter_map(|line| line.split_once("crowd: ")?.1.split_once(&format!(" {what}: ")));
    let mut told: Vec<String> = lines.map(|(_, outcome)| outcome.trim().to_string()).collect();
    told.sort();
    told
}

fn service<'m>(manifest: &'m mut Manifest, name: &str) -> &'m mut Service {
    manifest.services.iter_mut().find(|service| service.name == name).unwrap()
}

#[test]
fn test_reject_the_follower_of_the_journal_beyond_those_that_may_wait() {
    let built = built(manifest(&members(WAITING_MAX + 1, "log = [\"follow\"]")));
    let mut run = at_rest(&built, "crowd=follow");
    assert_eq!(told(&run, "follow"), ["OverLimit"], "the others wait");
    run.until_shown("logd: reject over_limit").unwrap_err();
    assert_eq!(run.console().matches("logd: reject over_limit").count(), 1);
    run.answers().unwrap();
}

#[test]
fn test_reject_whoever_waits_for_the_system_beyond_those_that_init_keeps() {
    let late = member("late", "");
    let run_of = |count: usize| {
        let built = built(manifest(&(members(count, "init = [\"ready\"]") + &late)));
        told(&at_rest(&built, "crowd=ready"), "ready")
    };
    let done = vec!["done".to_string(); WAITING_MAX];
    assert_eq!(run_of(WAITING_MAX), done);
    assert_eq!(run_of(WAITING_MAX + 1), [vec!["TooManyWait".to_string()], done].concat());
}

#[test]
fn test_reject_starting_what_runs_already() {
    let resting = member("resting", "").replace("restart", "start = \"on-demand\"\nrestart");
    let built = built(manifest(&resting));
    let mut run = at_rest(&built, "crowd=rest");
    run.types("run resting crowd=rest &");
    run.until_shown("resting goes on in the background").unwrap();
    run.settle().unwrap();
    run.types("run resting crowd=rest");
    run.until_shown("`resting`: it runs already").unwrap();
    run.types("kill resting");
    run.until_shown("init: ended resting").unwrap();
    run.settle().unwrap();
    run.types("run resting crowd=rest &");
    run.until_shown("resting goes on in the background").unwrap();
}

#[test]
fn test_reject_a_second_device_of_a_driver_before_the_first_is_disturbed() {
    let mut manifest = manifest("");
    // In the place of the entropy device's driver, whose policy it has.
    service(&mut manifest, "rngd").binary = "crowd".into();
    let built = built(manifest);
    let setup = Setup { arguments: "crowd=second-device".into(), ..Setup::default() };
    let mut run = Run::boot(&built, setup).unwrap();
    run.until_shown("crowd: rngd first: done").unwrap();
    run.until_shown("crowd: rngd second: SecondDevice").unwrap();
}

#[test]
fn test_reject_the_write_to_the_terminal_beyond_those_that_may_wait_for_room() {
    let outcome = |count: usize| {
        let built = built(manifest(&members(count, "console = [\"write\"]")));
        told(&at_rest(&built, "crowd=write"), "write")
    };
    // The shell may be one of them.
    assert_eq!(outcome(WAITING_MAX - 1), vec!["done"; WAITING_MAX - 1]);
    let crowded = outcome(WAITING_MAX + 1);
    let busy = crowded.iter().filter(|outcome| *outcome == "Busy").count();
    let done = crowded.iter().filter(|outcome| *outcome == "done").count();
    assert!(busy >= 1 && busy + done == WAITING_MAX + 1, "{crowded:?}");
}

#[test]
fn test_reject_a_second_reader_of_the_terminal() {
    let mut manifest = manifest(&members(2, "console = [\"read\"]"));
    service(&mut manifest, "nexus-shell").condition = Some("never".into());
    let built = built(manifest);
    let mut run = at_rest(&built, "crowd=read");
    assert_eq!(told(&run, "read"), ["Busy"], "the first waits");
    run.types("x");
    run.settle().unwrap();
    assert_eq!(told(&run, "read"), ["Busy", "done"]);
}

#[test]
fn test_reject_by_the_store_each_for_its_own_reason() {
    let mut manifest = manifest("");
    let client = service(&mut manifest, "selftest-client");
    (client.binary, client.condition) = ("crowd".into(), None);
    client.files.clear();
    let built = built(manifest);
    let run = at_rest(&built, "crowd=state");
    for (what, refusal) in [
        ("put", "done"),
        ("absent", "NotFound"),
        ("no-key", "KeyInvalid"),
        ("long-value", "ValueTooLarge"),
        ("not-lent", "BadLease"),
        ("short", "TooShort { bytes: 100 }"),
        ("not-mine", "Denied"),
        ("delete", "NotFound"),
        ("no-batch", "BadLease"),
        ("empty-batch", "BatchInvalid"),
        ("same-batch", "BatchInvalid"),
        ("many-batch", "BatchTooLarge"),
        ("large-batch", "BatchTooLarge"),
        ("list", "KeyInvalid"),
        ("list-theirs", "Denied"),
    ] {
        assert_eq!(told(&run, what), [refusal], "{what}");
    }
    assert!(told(&run, "stale")[0].starts_with("VersionMismatch"));
}

#[test]
fn test_reject_state_and_random_bytes_when_there_is_no_policy_to_ask() {
    let built = built(manifest(""));
    let mut run = at_rest(&built, "");
    run.types("state put /state/user/a x");
    run.until_shown("stored").unwrap();
    while !run.console().contains("init: gave up policyd") {
        run.system().kill("policyd");
        run.turns(20).unwrap();
    }
    run.settle().unwrap();
    for line in ["state get /state/user/b", "state put /state/user/c y", "state ls /state/user/"] {
        run.types(line);
        run.until_shown("the policy gives no answer").unwrap();
        run.settle().unwrap();
    }
}

#[test]
fn test_reject_every_device_with_a_table_that_is_damaged() {
    let manifest = manifest("");
    let mut files = nx::policy::entries(&root(), &manifest).unwrap();
    let table = files.iter_mut().find(|file| file.name == "policy.table").unwrap();
    table.bytes.truncate(table.bytes.len() / 2);
    let built = assemble(manifest, files).unwrap();
    let mut run = Run::boot(&built, Setup::default()).unwrap();
    run.turns(200_000).unwrap();
    // The terminal has no device either: who ended how is the kernel's word.
    let policy: Vec<_> = run.system().deaths().iter().filter(|death| death.service == "policyd").collect();
    assert!(policy.len() > 1 && policy.iter().all(|death| death.exit_code == 1), "{policy:?}");
    assert!(!run.console().contains("init: start consoled"), "{}", run.console());
}

#[test]
fn test_reject_entropy_of_a_device_that_repeats_itself_or_does_not_answer() {
    let built = built(manifest(""));
    for (is_silent, reason) in [
        (false, "rngd: the entropy failed its test"),
        (true, "rngd: the device was asked and does not answer"),
    ] {
        let mut run = Run::boot(&built, Setup::default()).unwrap();
        {
            let entropy = &run.system().kernel().arch().entropy;
            let mut entropy = entropy.borrow_mut();
            (entropy.repeats, entropy.silent) = (!is_silent, is_silent);
        }
        run.until_shown(reason).unwrap();
        // It is tried again, and never by less than a tested seed.
        run.until_shown("init: ended rngd").unwrap();
        run.until_shown(reason).unwrap();
        assert!(!run.console().contains("rngd: ready"));
    }
}
