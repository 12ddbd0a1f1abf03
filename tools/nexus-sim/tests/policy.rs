//! The policy of the running system, beside a second evaluator that reads the files by itself: every service asks,
//! under its own identity from the kernel, about every action and a list of resources.

use nexus_sim::image::{Built, assemble};
use nexus_sim::probe::{DELEGATE, INIT, RESOURCES};
use nexus_sim::run::Run;
use nexus_sim::system::Setup;
use nx::image::Entry;
use policy::{Action, PolicyFile, Table};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use system_manifest::{Access, ControlRights, Limits, Manifest, Restart, Service, StartPolicy};

/// Who runs for real, each under a name that no line is about, so that its own name is free for a probe.
const REAL: [(&str, &str); 3] = [("policyd", "authority"), ("consoled", "terminal"), ("logd", "keeper")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shipped() -> Manifest {
    let recipe = std::fs::read_to_string(root().join("recipes/system.toml")).unwrap();
    let bytes = system_manifest::compile(&recipe, "recipes/system.toml").unwrap();
    system_manifest::decode(&bytes).unwrap()
}

/// Everybody of the recipe as a probe, and the three that the probes need.
fn probed() -> Manifest {
    let mut manifest = shipped();
    let app = manifest.services.iter().map(|service| service.rank).max().unwrap();
    let real = REAL.map(|(name, other)| {
        let service = manifest.service(name).unwrap().clone();
        Service { name: other.into(), binary: name.into(), calls: Vec::new(), ..service }
    });
    for service in &mut manifest.services {
        *service = Service {
            name: service.name.clone(),
            binary: "policy-probe".into(),
            rank: app,
            start: StartPolicy::Boot,
            condition: None,
            restart: Restart::Never,
            ready_ms: service.ready_ms,
            urgency: service.urgency,
            limits: Limits { memory_pages: 256, stack_pages: 16, capabilities: 64, open_calls: 16 },
            endpoints: Vec::new(),
            // `check` and `decide`.
            calls: vec![Access { endpoint: "policy".into(), operations: 0b110 }],
            devices: Vec::new(),
            control: ControlRights::default(),
            files: Vec::new(),
            reads_logs: None,
            audits: false,
            creates_processes: None,
            heartbeat_ms: 0,
            affinity: service.affinity,
        };
    }
    manifest.services.extend(real);
    manifest
}

fn files() -> Vec<PolicyFile> {
    nx::policy::files(&root()).unwrap()
}

/// The shipped table, and the terminal's right to its device.
fn table(manifest: &Manifest) -> Table {
    let mut files = files();
    let text = "[allow]\nterminal = [\"device.mmio.uart ns16550a\"]\n";
    files.push(PolicyFile { name: "terminal.toml".into(), text: text.into() });
    let names = manifest.services.iter().map(|service| service.name.as_str()).chain([INIT]);
    let subjects: Vec<_> = names.map(|name| (name.to_string(), nexus_abi::service_id(name))).collect();
    policy::compile(&files, &subjects).unwrap()
}

/// What each service was told, by service and action: a letter a resource.
fn told(change: impl FnOnce(&mut Table)) -> BTreeMap<(String, String), String> {
    let manifest = probed();
    let mut table = table(&manifest);
    change(&mut table);
    let bytes = policy::encode(&table).unwrap();
    let built: Built = assemble(manifest, vec![Entry { name: "policy.table".into(), bytes }]).unwrap();
    let setup = Setup { arguments: "console.origin=1".into(), ..Setup::default() };
    let mut run = Run::boot(&built, setup).unwrap();
    run.until_shown("init: ready").unwrap();
    run.settle().unwrap();
    let mut told = BTreeMap::new();
    for line in run.console().lines() {
        // The author stands before the line, by the kernel's word.
        let Some((author, line)) =
            line.trim_start_matches('\r').strip_prefix('[').and_then(|l| l.split_once("] "))
        else {
            continue;
        };
        let Some(words) = line.strip_prefix("probe: ") else { continue };
        let words: Vec<&str> = words.split_whitespace().collect();
        let [subject, action, letters] = words[..] else { panic!("`{line}`") };
        assert!(author == subject || (author == DELEGATE && subject == INIT), "{author} about {subject}");
        assert!(told.insert((subject.to_string(), action.to_string()), letters.to_string()).is_none());
    }
    told
}

/// What the files say, read line by line: the second evaluator.
fn naive(subject: &str, action: &str, resource: &str) -> bool {
    let mut allowed = false;
    for file in files() {
        let value: toml::Table = file.text.parse().unwrap();
        for (section, allows) in [("allow", true), ("deny", false)] {
            let lines = value.get(section).and_then(|section| section.get(subject));
            for line in lines.and_then(toml::Value::as_array).into_iter().flatten() {
                let words: Vec<&str> =
                    line.as_str().unwrap().split(' ').filter(|w| !w.ends_with("/s")).collect();
                let about = match words[1..] {
                    [] => true,
                    [prefix] if prefix.ends_with('/') => resource.starts_with(prefix),
                    [exactly] => resource == exactly,
                    _ => panic!("{line}"),
                };
                if words[0] == action && about {
                    allowed = allows;
                }
            }
        }
    }
    allowed
}

/// Pairs of service and action about which system and second evaluator do not agree. A line with a bound may be
/// used up by then: what it denies is no difference.
fn differences(told: &BTreeMap<(String, String), String>) -> Vec<(String, String)> {
    let manifest = shipped();
    let names = manifest.services.iter().map(|service| service.name.as_str()).chain([INIT]);
    let mut found = Vec::new();
    for name in names {
        for action in Action::ALL.iter().map(|action| action.name()) {
            let key = (name.to_string(), action.to_string());
            let expected: String = RESOURCES
                .iter()
                .map(|resource| if naive(name, action, resource) { 'a' } else { 'd' })
                .collect();
            let bounded = (name, action) == ("selftest-client", "crypto.verify");
            let same = match told.get(&key) {
                Some(letters) if bounded => letters.starts_with("aaa"),
                letters => letters == Some(&expected),
            };
            if !same {
                found.push(key);
            }
        }
    }
    found
}

#[test]
fn the_running_system_answers_every_service_about_every_action_as_the_files_say() {
    for file in files() {
        let lines = file.text.lines().filter(|line| !line.starts_with('#'));
        let words = lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter_map(|line| {
            line.split(' ').nth(1).filter(|word| !word.ends_with("/s")).map(str::to_string)
        });
        let missing: Vec<String> = words.filter(|word| !RESOURCES.contains(&word.as_str())).collect();
        assert!(missing.is_empty(), "add to RESOURCES of the probe: {missing:?}");
    }
    assert_eq!(differences(&told(|_| {})), []);
}

#[test]
fn a_changed_table_is_noticed() {
    let key = |table: &Table, place: usize| {
        let rule = &table.rules[place];
        (table.subjects[usize::from(rule.subject)].name.clone(), rule.action.name().to_string())
    };
    let place =
        |table: &Table| table.rules.iter().position(|rule| rule.action == Action::RngEntropy).unwrap();
    let mut changed = None;
    let turned = told(|table| {
        let place = place(table);
        changed = Some(key(table, place));
        table.rules[place].allows ^= true;
    });
    assert_eq!(differences(&turned), [changed.unwrap()]);
    let mut changed = None;
    let missing = told(|table| {
        let place = place(table);
        changed = Some(key(table, place));
        table.rules.remove(place);
    });
    assert_eq!(differences(&missing), [changed.unwrap()]);
}
