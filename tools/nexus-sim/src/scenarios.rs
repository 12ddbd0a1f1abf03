//! The scenarios: each is what must be true, told as a story, for any seed. Long because each is told from its beginning to
//! its end, and what they share is elsewhere already.

mod identity;
mod records;

use crate::invariants::Rest;
use crate::run::Run;
use ::identity::RECORD_KEY;
use anyhow::{Result, bail, ensure};
use journal::segment::SEGMENT_PREFIX;
use nexus_abi::SystemCall;
use nexus_abi::records::STATE_EXITED;
use selftest_soak::steps::{Steps, apply};
use std::collections::BTreeMap;
use std::time::Duration;

/// A story and its name.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The boot arguments.
    pub arguments: &'static str,
    /// Whether the machine lacks the entropy device and the disk.
    pub is_bare: bool,
    /// Tells it; the second argument is the system at rest when nothing ever went wrong.
    pub tell: fn(&mut Run<'_>, &Rest) -> Result<()>,
}

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "restless",
        about: "However the turns fall, the system comes up, answers, and is at rest as ever",
        arguments: "",
        is_bare: false,
        tell: restless,
    },
    Scenario {
        name: "storm",
        about: "Services that are killed, starved or corrupted at any call come back, and nothing is left behind",
        arguments: "",
        is_bare: false,
        tell: storm,
    },
    Scenario {
        name: "early-storm",
        about: "As storm, from the first instruction on",
        arguments: "",
        is_bare: false,
        tell: early_storm,
    },
    Scenario {
        name: "doomed",
        about: "A service that always dies is given up, and its callers are told at once",
        arguments: "",
        is_bare: false,
        tell: doomed,
    },
    Scenario {
        name: "selftest",
        about: "The system proves itself from inside, as on the machine, however the turns fall",
        arguments: "selftest",
        is_bare: false,
        tell: selftest,
    },
    Scenario {
        name: "init-dies",
        about: "The death of init, at any moment, resets the machine, which comes up again",
        arguments: "",
        is_bare: false,
        tell: init_dies,
    },
    Scenario {
        name: "drivers",
        about: "A driver that is killed under load at any moment comes back with its device reset, and its clients are answered",
        arguments: "soak drivers=6",
        is_bare: false,
        tell: drivers,
    },
    Scenario {
        name: "hang",
        about: "A driver that computes for ever, with its interrupt unanswered, is missed, ended, and comes back",
        arguments: "selftest",
        is_bare: false,
        tell: hang,
    },
    Scenario {
        name: "hang-services",
        about: "A service that computes for ever in the middle of its work is missed, ended, and comes back; who asked it is told",
        arguments: "",
        is_bare: false,
        tell: hang_services,
    },
    Scenario {
        name: "journal",
        about: "Lines and decisions in a storm, journal and console killed at any moment: each decision is there or counted, and so is each line",
        arguments: "soak logs=6",
        is_bare: false,
        tell: journal,
    },
    Scenario {
        name: "records",
        about: "Critical decisions while journal, store and disk are killed and the power fails: each that was told as durable is in the store, and nothing there is refused",
        arguments: "soak records=20",
        is_bare: false,
        tell: records::tell,
    },
    Scenario {
        name: "stuck-device",
        about: "A device that does not reset is retired with the memory that it may write to, its driver given up",
        arguments: "",
        is_bare: false,
        tell: stuck_device,
    },
    Scenario {
        name: "policy-dies",
        about: "policyd is killed while it is asked: the answer is no, and then it is asked again and all is as ever",
        arguments: "",
        is_bare: false,
        tell: policy_dies,
    },
    Scenario {
        name: "policy-gone",
        about: "Without policyd nobody is given a device, and nobody may start or end anything; the rest goes on",
        arguments: "",
        is_bare: false,
        tell: policy_gone,
    },
    Scenario {
        name: "bare",
        about: "A machine without entropy device and disk: their drivers are left out, nobody is given anything in their stead, all else is as ever",
        arguments: "selftest",
        is_bare: true,
        tell: bare,
    },
    Scenario {
        name: "state",
        about: "A writer of the state while store and disk are killed and the power fails: all that was acknowledged is there, nothing is there in part",
        arguments: "soak state=7 steps=120",
        is_bare: false,
        tell: state,
    },
    Scenario {
        name: "losses",
        about: "Two writers of the state while its service and its disk's driver are killed: both go on, and each finds what was acknowledged",
        arguments: "soak losses=8",
        is_bare: false,
        tell: losses,
    },
    Scenario {
        name: "identity",
        about: "A device's identity is made while everything dies and the power fails, and stays one; another machine refuses it, and its loss is no reason for another",
        arguments: identity::HERE,
        is_bare: false,
        tell: identity::tell,
    },
    Scenario {
        name: "power-cut",
        about: "A machine whose power fails at any moment comes up again",
        arguments: "",
        is_bare: false,
        tell: power_cut,
    },
];

fn restless(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.restless();
    run.until_prompt()?;
    run.types("run ping");
    run.until_shown("ping ended with code 0")?;
    run.types("ps");
    run.until_shown("nexus-shell")?;
    run.is_well(before)
}

fn storm(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.until_prompt()?;
    run.storm();
    for _ in 0..6 {
        let commands = ["ping", "ps", "run ping", "caps consoled", "log", "mem"];
        let (command, turns) = (run.draw(commands.len() as u64) as usize, run.draw(600));
        run.types(commands[command]);
        run.turns(turns)?;
    }
    run.settle()?;
    run.calm();
    run.is_well(before)
}

fn early_storm(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.storm();
    run.turns(1000)?;
    run.calm();
    run.is_well(before)
}

fn doomed(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.until_prompt()?;
    run.restless();
    let mut lives = 0;
    while !run.console().contains("init: gave up pong") {
        lives += u32::from(run.system().kill("pong"));
        ensure!(lives < 100, "pong was started {lives} times and is not given up");
        run.turns(20)?;
    }
    run.types("ping");
    run.until_shown("ping: pong:")?;
    run.settle()
}

fn selftest(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    let proven = ["rng entropy", "driver restart", "blk partition", "blk refusals", "blk restart"];
    proves_itself(run, &proven.map(|what| format!("SELFTEST: {what} ok")))?;
    let astray = run.system().kernel().arch().block.borrow().astray;
    ensure!(astray == 0, "the disk was asked for nonsense {astray} times");
    Ok(())
}

/// The self-test finds nothing wrong, and these lines come.
fn proves_itself(run: &mut Run<'_>, lines: &[String]) -> Result<()> {
    run.restless();
    until_selftest_ends(run)?;
    let shown = run.console();
    let failed = shown.lines().find(|line| line.contains("SELFTEST: FAIL"));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    let missing = lines.iter().find(|line| !shown.contains(line.as_str()));
    ensure!(missing.is_none(), "`{}` did not come", missing.map_or("", String::as_str));
    run.nobody_waits_too_long()
}

/// The self-test comes to its end. It is many proofs, and how long they take together is up to chance: each of its
/// lines comes in time.
fn until_selftest_ends(run: &mut Run<'_>) -> Result<()> {
    while !run.console().contains("SELFTEST: end") {
        run.until_shown("SELFTEST: ")?;
        run.until_shown("\n")?;
    }
    run.settle()
}

fn drivers(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    // Before each kill the clock goes on for a while, in which driver and client may talk to each other alone.
    let all = "soak: 6 times a driver was killed under load";
    for _ in 0..600 {
        if run.console().contains(all) {
            break;
        }
        run.turns(4_000)?;
    }
    run.until_shown(all)?;
    run.settle()?;
    let shown = run.console();
    let failed = shown.lines().find(|line| line.contains("soak: FAIL"));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    let astray = run.system().kernel().arch().entropy.borrow().astray;
    ensure!(astray == 0, "the device was sent outside of RAM {astray} times");
    run.nobody_waits_too_long()
}

fn hang(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    // Before the self-test uses it.
    run.until_shown("init: up virtioblkd")?;
    // From here on it works for the self-test alone, which then finds its disk gone; that is not what is told here.
    run.system().hang_at("virtioblkd", SystemCall::IrqAck);
    run.until_shown("init: virtioblkd gave no sign of life within 4000 ms")?;
    run.until_shown("killed: no sign of life")?;
    run.until_shown("blk: virtio-blk up")?;
    run.until_shown("init: up virtioblkd")?;
    until_selftest_ends(run)
}

/// Services that are missed when they hang: what each calls last in its work, what makes it work, and for how long it
/// may say nothing.
const MISSED: [(&str, SystemCall, &str, u32); 4] = [
    ("policyd", SystemCall::ReplyReceive, "run ping", 4_000),
    ("logd", SystemCall::Receive, "log 1", 4_000),
    ("consoled", SystemCall::Receive, "ps", 4_000),
    ("statefsd", SystemCall::Receive, "state ls /state/", 40_000),
];

fn hang_services(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.until_prompt()?;
    run.restless();
    for _ in 0..2 {
        let (name, call, command, patience) = MISSED[run.draw(MISSED.len() as u64) as usize];
        let turns = run.draw(100);
        run.turns(turns)?;
        run.system().hang_at(name, call);
        run.types(command);
        for line in [
            format!("init: {name} gave no sign of life within {patience} ms"),
            format!("init: ended {name}"),
            format!("init: up {name}"),
        ] {
            run.until_shown_within(&line, 2 * Duration::from_millis(patience.into()))?;
        }
        run.settle()?;
    }
    run.calm();
    run.nobody_waits_too_long()?;
    run.is_well(before)
}

fn journal(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    run.until_shown("init: up selftest-soak")?;
    let kills_console = run.draw(2) == 0;
    let mut console_kills = 0;
    for _ in 0..4 {
        let turns = run.draw(400);
        run.turns(turns)?;
        let victim = if kills_console && run.draw(2) == 0 { "consoled" } else { "logd" };
        console_kills += usize::from(run.system().kill(victim) && victim == "consoled");
    }
    run.settle()?;
    let shown = run.console();
    let failed = shown.lines().find(|line| line.contains("soak: FAIL"));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    // Its last line may be among the lost ones: how it ended is the kernel's word.
    let mut deaths = run.system().deaths().iter();
    let end =
        deaths.find(|death| death.service == "selftest-soak").map(|death| (death.state, death.exit_code));
    ensure!(end == Some((STATE_EXITED, 0)), "the storm did not end well: {end:?}");
    let numbers = shown.lines().filter_map(|line| line.split_once("soak: storm line="));
    let mut numbers: Vec<u32> = numbers.filter_map(|(_, number)| number.trim().parse().ok()).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    // A console that died between showing a line and saying so shows that one again.
    let twice = count - numbers.len();
    ensure!(
        twice <= console_kills,
        "{twice} lines were shown twice, and the console died {console_kills} times"
    );
    let told = shown
        .lines()
        .filter_map(|line| line.split_once("consoled: ")?.1.split_once(" lines of selftest-soak"));
    let told: usize = told.filter_map(|(count, _)| count.parse::<usize>().ok()).sum();
    let last = shown.lines().find_map(|line| line.split_once("each is there or counted, "));
    let others = last.and_then(|(_, rest)| rest.split_once(" more of others")?.0.parse::<usize>().ok());
    // Of a console that starts anew the policy is asked twice: its window and its line.
    let others = others.unwrap_or(0);
    ensure!(
        others <= 2 * console_kills,
        "{others} decisions of others, and the console died {console_kills} times"
    );
    let last = usize::from(last.is_some());
    let seen = numbers.len() + last;
    ensure!(seen + told > 6 * 16, "{seen} of 97 lines were shown, and {told} told as lost");
    ensure!(
        console_kills > 0 || seen + told == 6 * 16 + 1,
        "{seen} of 97 lines were shown, and {told} told as lost, which were none"
    );
    run.nobody_waits_too_long()
}

fn stuck_device(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    run.until_prompt()?;
    run.system().kernel().arch().entropy.borrow_mut().stuck = true;
    run.types("kill rngd");
    run.until_shown("init: the device `rng` of rngd: it does not reset and is retired")?;
    run.until_shown("init: gave up rngd: its device cannot be quieted")?;
    run.settle()?;
    run.types("ping");
    run.until_shown("pong answered")?;
    run.types("mem");
    run.until_shown("in quarantine")?;
    run.until_shown("3 pages")?;
    run.nobody_waits_too_long()
}

fn policy_dies(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.until_prompt()?;
    run.restless();
    for _ in 0..4 {
        // Either owns a device, so init asks before it starts again.
        let owner = ["rngd", "consoled"][run.draw(2) as usize];
        run.system().kill(owner);
        let turns = run.draw(400);
        run.turns(turns)?;
        run.system().kill("policyd");
        let turns = run.draw(400);
        run.turns(turns)?;
    }
    run.settle()?;
    run.calm();
    run.is_well(before)
}

fn policy_gone(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.until_prompt()?;
    run.restless();
    let mut lives = 0;
    while !run.console().contains("init: gave up policyd") {
        lives += u32::from(run.system().kill("policyd"));
        ensure!(lives < 100, "policyd was started {lives} times and is not given up");
        run.turns(20)?;
    }
    run.settle()?;
    run.types("kill pong");
    run.until_shown("the policy gives no answer")?;
    run.types("run ping");
    run.until_shown("the policy gives no answer")?;
    run.system().kill("rngd");
    run.until_shown("init: gave up rngd: the policy gives no answer about its device")?;
    run.types("ping");
    run.until_shown("pong answered")?;
    run.settle()?;
    run.nobody_waits_too_long()
}

fn bare(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    let left_out =
        ["rngd", "virtioblkd"].map(|name| format!("init: {name} is left out: this machine lacks its device"));
    proves_itself(run, &left_out)?;
    let absent = ["SELFTEST: rng absent ok", "SELFTEST: blk absent ok"];
    ensure!(absent.iter().all(|line| run.console().contains(line)), "what is absent is not told");
    Ok(())
}

fn init_dies(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.restless();
    let turns = 10 + run.draw(1000);
    run.turns(turns)?;
    ensure!(run.system().kill("nexus-init"), "init was not there");
    ensure!(run.until_reset()?, "the machine powered off");
    run.boot_again()?;
    run.until_prompt()?;
    run.is_well(before)
}

/// The seed of the writer of the state, as in the scenario's boot arguments.
const STATE_SEED: u64 = 7;
/// Changes that the writer of the state makes in a boot.
const STATE_STEPS: usize = 120;

fn state(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    let mut base = Stored::new();
    for _ in 0..2 {
        run.until_shown("init: up selftest-soak")?;
        for _ in 0..run.draw(4) {
            let turns = run.draw(2_000);
            run.turns(turns)?;
            let victim = ["statefsd", "virtioblkd", "policyd"][run.draw(3) as usize];
            run.system().kill(victim);
        }
        let turns = run.draw(2_500);
        run.turns(turns)?;
        let shown = run.console();
        let failed =
            shown.lines().find(|line| line.contains("soak: FAIL") || line.contains("soak: state ended"));
        ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
        let acknowledged = acknowledged(&shown);
        run.boot_again()?;
        let mut stored = run.setup.disk.0.borrow().stored()?;
        // What the journal keeps there is its own.
        stored.retain(|key, _| !key.starts_with(SEGMENT_PREFIX));
        base = is_among_states(stored, base, acknowledged)?;
    }
    run.until_shown("soak: state is written")?;
    run.settle()?;
    run.nobody_waits_too_long()
}

fn losses(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    run.restless();
    // As with the drivers, the clock goes on for a while before each kill.
    let all = "soak: 8 times the store or its driver was killed under load, and nothing was lost";
    for _ in 0..600 {
        let shown = run.console();
        if shown.contains(all) || shown.contains("soak: FAIL") {
            break;
        }
        run.turns(4_000)?;
    }
    let shown = run.console();
    let failed = shown.lines().find(|line| line.contains("soak: FAIL"));
    ensure!(failed.is_none(), "{}", failed.unwrap_or_default());
    ensure!(shown.contains(all), "the kills did not come to their end");
    run.nobody_waits_too_long()
}

type Stored = BTreeMap<String, Vec<u8>>;

/// The last step of which the writer says that it was acknowledged.
fn acknowledged(shown: &str) -> usize {
    let mut steps = shown.lines().filter_map(|line| line.split_once("soak: state ")?.1.trim().parse().ok());
    steps.next_back().unwrap_or(0)
}

/// Demands that what is stored is what it was after some step, none before the last that was acknowledged.
fn is_among_states(mut found: Stored, mut state: Stored, acknowledged: usize) -> Result<Stored> {
    // That is not the writer's.
    found.remove(RECORD_KEY);
    let mut steps = Steps::new(STATE_SEED).take(STATE_STEPS);
    for number in 0..=STATE_STEPS {
        if number >= acknowledged && state == found {
            return Ok(found);
        }
        if let Some(step) = steps.next() {
            apply(&mut state, &step);
        }
    }
    bail!("what is stored is nothing that it ever was since the acknowledged step {acknowledged}")
}

fn power_cut(run: &mut Run<'_>, before: &Rest) -> Result<()> {
    run.restless();
    let turns = run.draw(1500);
    run.turns(turns)?;
    run.boot_again()?;
    run.until_prompt()?;
    run.is_well(before)
}
