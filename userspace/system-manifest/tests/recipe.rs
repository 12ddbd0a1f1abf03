//! The recipe that ships compiles, and every kind of wrong recipe is refused with its line.

use proptest::prelude::*;
use system_manifest::{
    DecodeError, LogReader, Manifest, Restart, ServiceIds, StartPolicy, compile, decode, encode,
};

const SHIPPED: &str = include_str!("../../../recipes/system.toml");

fn shipped() -> Manifest {
    decode(&compile(SHIPPED, "recipes/system.toml").unwrap()).unwrap()
}

/// A small recipe with one mistake put in: `wrong` in place of `right`.
fn refused(right: &str, wrong: &str) -> system_manifest::CompileError {
    assert_eq!(SMALL.matches(right).count(), 1, "the pattern must be there exactly once");
    compile(&SMALL.replace(right, wrong), "small.toml").unwrap_err()
}

const SMALL: &str = r#"ranks = ["low", "middle", "high"]
[init]
rank = "middle"
[init.serves.init]
max_bytes = 64
operations = ["list"]
[[service]]
name = "server"
rank = "low"
limits = { memory_pages = 100 }
[service.serves.work]
max_bytes = 4096
operations = ["begin", "finish"]
[[service]]
name = "client"
rank = "high"
control = ["inspect"]
[service.calls]
work = ["begin"]
"#;

#[test]
fn the_shipped_recipe_names_everyone_of_this_stage() {
    let manifest = shipped();
    let names: Vec<&str> = manifest.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "policyd",
            "consoled",
            "rngd",
            "virtioblkd",
            "statefsd",
            "keystored",
            "logd",
            "pong",
            "ping",
            "nexus-shell",
            "faulty",
            "runaway",
            "syscall-fuzzer",
            "lockstep",
            "bench-peer",
            "bench-bulk",
            "bench-bell",
            "bench-disk",
            "selftest-peer",
            "selftest-helper",
            "selftest-busy",
            "selftest-slow",
            "selftest-driver",
            "selftest-client",
            "unfit-program",
            "unfit-quota",
            "unfit-table",
            "selftest-intruder",
            "selftest-soak",
            "soak-peer",
            "soak-child",
            "storm-gust",
            "storm-gale",
            "storm-caller-1",
            "storm-caller-2",
            "storm-caller-3",
            "storm-mapper"
        ]
    );
    let uart = &manifest.service("consoled").unwrap().devices[0];
    assert_eq!((uart.compatible.as_str(), uart.dma_pages), ("ns16550a", 0));
    let clock = &manifest.service("selftest-client").unwrap().devices[0];
    assert_eq!((clock.compatible.as_str(), clock.dma_pages), ("google,goldfish-rtc", 16));
    let rng = &manifest.service("rngd").unwrap().devices[0];
    assert_eq!((rng.compatible.as_str(), rng.virtio, rng.dma_pages), ("virtio,mmio", Some(4), 3));
    assert!(rng.optional && !clock.optional && clock.virtio.is_none());
    let board = &manifest.service("keystored").unwrap().devices[0];
    assert_eq!((board.name.as_str(), board.resource().as_str()), ("fwcfg", "qemu,fw-cfg-mmio"));
    assert!(board.dispensable && !rng.dispensable);
    let quotas: u64 = manifest.services.iter().map(|service| u64::from(service.limits.memory_pages)).sum();
    // The pages of the clock, two that drive entropy and two that drive a disk, and the boards of policy and journal.
    assert_eq!(manifest.memory_pages(|_| true), quotas + 16 + 2 * 3 + 2 * 63 + 3 + 1);
    assert_eq!(manifest.service("selftest-client").unwrap().condition.as_deref(), Some("selftest"));
    assert_eq!(manifest.service("faulty").unwrap().start, StartPolicy::OnDemand);
    assert_eq!(manifest.service("faulty").unwrap().restart, Restart::Never);
}

#[test]
fn test_reject_devices_of_two_kinds_of_none_and_of_unknown_ones() {
    let refused = |need: &str| {
        let devices = format!("rank = \"high\"\ndevices = {{ it = {{ {need} }} }}\n");
        refused("rank = \"high\"\n", &devices)
    };
    let message = "the device `it` has either `compatible` or `virtio`";
    assert_eq!(
        refused("virtio = \"block\", compatible = \"a\"").to_string(),
        format!("small.toml:17: {message}")
    );
    assert_eq!(refused("dma_pages = 1").message, message);
    let unknown = refused("virtio = \"entorpy\"");
    assert_eq!((unknown.line, unknown.suggestion.as_deref()), (17, Some("entropy")));
}

#[test]
fn the_shipped_recipe_lets_nobody_but_the_shell_reset_the_machine() {
    let may_reset: Vec<String> = shipped()
        .services
        .into_iter()
        .filter(|service| service.control.reset)
        .map(|service| service.name)
        .collect();
    assert_eq!(may_reset, ["nexus-shell"]);
}

#[test]
fn the_shipped_recipe_lets_nobody_create_processes_but_a_self_test() {
    let may_create: Vec<_> = shipped()
        .services
        .into_iter()
        .filter_map(|service| Some((service.name, service.condition, service.creates_processes?)))
        .collect();
    let ids = ServiceIds { first: 0x6c6f_636b_7374_6570, last: 0x6c6f_636b_7374_6573 };
    assert_eq!(may_create, [("lockstep".to_string(), Some("selftest".to_string()), ids)]);
}

#[test]
fn test_reject_a_range_of_ids_that_is_none() {
    for range in ["first = 0, last = 1", "first = 3, last = 2"] {
        let text = format!("only_with = \"selftest\"\ncreates_processes = {{ {range} }}\ncontrol =");
        let error = refused("control =", &text);
        assert!(error.message.contains("a range of ids begins above 0"), "{error}");
    }
}

#[test]
fn test_reject_who_creates_processes_in_every_boot() {
    let ids = "creates_processes = { first = 1, last = 2 }";
    let error = refused("control =", &format!("{ids}\ncontrol ="));
    assert!(error.message.contains("only with a boot argument"), "{error}");
    assert_eq!(error.line, 17);
    let conditional = SMALL.replace("control =", &format!("{ids}\nonly_with = \"selftest\"\ncontrol ="));
    assert!(compile(&conditional, "small.toml").is_ok());
}

#[test]
fn one_reads_the_log_rings_for_the_console_and_who_decides_has_an_audit_ring() {
    let reads = |source: &str| {
        let manifest = decode(&compile(source, "small.toml").unwrap()).unwrap();
        manifest.services.iter().map(|service| (service.reads_logs, service.audits)).collect::<Vec<_>>()
    };
    assert_eq!(reads(SMALL), [(None, false), (None, false)]);
    let journal = SMALL.replace("control =", "reads_logs = \"journal\"\naudits = true\ncontrol =");
    assert_eq!(reads(&journal), [(None, false), (Some(LogReader::Journal), true)]);
}

#[test]
fn test_reject_two_readers_of_one_part_and_unknown_parts() {
    assert_eq!(
        refused("control =", "reads_logs = \"consle\"\ncontrol =").suggestion.as_deref(),
        Some("console")
    );
    let reads = "reads_logs = \"console\"\n";
    let two = SMALL
        .replace("limits = {", &format!("{reads}limits = {{"))
        .replace("control =", &format!("{reads}control ="));
    let error = compile(&two, "small.toml").unwrap_err();
    assert!(error.message.contains("two who read the log rings"), "{error}");
    assert_eq!(error.line, 18);
}

#[test]
fn an_access_holds_exactly_the_named_operations() {
    let manifest = decode(&compile(SMALL, "small.toml").unwrap()).unwrap();
    let (server, endpoint) = manifest.endpoint("work").unwrap();
    assert_eq!(server.unwrap().name, "server");
    assert_eq!(manifest.service("client").unwrap().calls[0].operations, 0b10);
    assert_eq!(endpoint.all_operations(), 0b110);
}

#[test]
fn test_reject_unknown_endpoint_with_line_and_suggestion() {
    let error = refused("work = [\"begin\"]", "wrok = [\"begin\"]");
    assert_eq!((error.line, error.suggestion.as_deref()), (19, Some("work")));
    assert_eq!(error.to_string(), "small.toml:19: unknown endpoint `wrok` (did you mean `work`?)");
}

#[test]
fn test_reject_unknown_operation_with_suggestion() {
    let error = refused("work = [\"begin\"]", "work = [\"begn\"]");
    assert_eq!((error.line, error.suggestion.as_deref()), (19, Some("begin")));
}

#[test]
fn test_reject_unknown_key_rank_right_and_choice() {
    assert_eq!(refused("limits = {", "limts = {").line, 10);
    assert_eq!(refused("rank = \"high\"", "rank = \"hihg\"").suggestion.as_deref(), Some("high"));
    assert_eq!(refused("\"inspect\"", "\"inspct\"").suggestion.as_deref(), Some("inspect"));
    assert_eq!(refused("control =", "start = \"bot\"\ncontrol =").suggestion.as_deref(), Some("boot"));
    assert_eq!(refused("control =", "qos = \"huge\"\ncontrol =").line, 17);
}

#[test]
fn test_reject_call_upwards() {
    let error = refused("rank = \"high\"", "rank = \"low\"");
    assert!(error.message.contains("calls go strictly down in rank"), "{error}");
    assert_eq!(error.line, 19);
}

#[test]
fn test_reject_cycle() {
    let cycle = SMALL
        .replace("[service.serves.work]", "[service.calls]\nback = [\"go\"]\n[service.serves.work]")
        .replace(
            "[service.calls]\nwork",
            "[service.serves.back]\nmax_bytes = 64\noperations = [\"go\"]\n[service.calls]\nwork",
        );
    let error = compile(&cycle, "small.toml").unwrap_err();
    assert!(error.message.contains("calls go strictly down in rank"), "{error}");
}

#[test]
fn test_reject_duplicate_service_endpoint_and_operation() {
    let error = refused("name = \"client\"", "name = \"server\"");
    assert_eq!((error.line, error.message.as_str()), (15, "there are two services `server`"));
    assert!(refused("serves.work", "serves.init").message.contains("unknown endpoint"));
    let two =
        SMALL.replace("control = [\"inspect\"]", "serves.work = { max_bytes = 1, operations = [\"begin\"] }");
    assert_eq!(compile(&two, "small.toml").unwrap_err().message, "there are two endpoints `work`");
    assert!(refused("\"finish\"", "\"begin\"").message.contains("twice"));
}

#[test]
fn test_reject_what_is_beyond_a_limit() {
    assert!(refused("max_bytes = 4096", "max_bytes = 65537").message.contains("MESSAGE_BYTES_MAX"));
    assert!(
        refused("max_bytes = 4096", "max_bytes = 64\nmax_caps = 5")
            .message
            .contains("MESSAGE_CAPABILITIES_MAX")
    );
    assert!(refused("memory_pages = 100", "memory_pages = 7").message.contains("outside"));
    assert!(refused("memory_pages = 100", "stack_pages = 257").message.contains("outside"));
    assert!(refused("control =", "restart_budget = 0\ncontrol =").message.contains("RESTART_BUDGET_MAX"));
    let many: String = (0..49).map(|n| format!("[[service]]\nname = \"s{n}\"\nrank = \"low\"\n")).collect();
    let error = compile(&format!("{SMALL}{many}"), "small.toml").unwrap_err();
    assert!(error.message.contains("SERVICES_MAX"));
}

#[test]
fn test_reject_name_that_could_not_be_printed() {
    assert!(refused("name = \"client\"", "name = \"cli ent\"").message.contains("service name"));
    assert!(refused("name = \"client\"", "name = \"neuron\"").message.contains("reserved"));
}

#[test]
fn test_reject_bytes_that_are_damaged() {
    let bytes = compile(SMALL, "small.toml").unwrap();
    assert_eq!(decode(&bytes[1..]).unwrap_err(), DecodeError::BadMagic);
    assert_eq!(decode(&[]).unwrap_err(), DecodeError::BadMagic);
    for length in 8..bytes.len() {
        assert_eq!(decode(&bytes[..length]).unwrap_err(), DecodeError::Malformed, "cut at {length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(decode(&longer).unwrap_err(), DecodeError::Malformed);
    let huge = vec![0; system_manifest::MANIFEST_BYTES_MAX + 1];
    assert_eq!(decode(&huge).unwrap_err(), DecodeError::TooLarge);
}

#[test]
fn test_reject_well_formed_bytes_that_say_what_may_not_be_said() {
    let mut manifest = shipped();
    let place = |name: &str| manifest.services.iter().position(|service| service.name == name).unwrap();
    let (server, client) = (place("pong"), place("ping"));
    manifest.services[server].rank = manifest.services[client].rank;
    assert!(matches!(encode(&manifest), Err(DecodeError::Refused(_))));
}

proptest! {
    #[test]
    fn decode_after_encode_is_identity(rank in 201u32..=65_535, pages in 8u32..=262_144, budget in 1u32..=1_200) {
        let mut manifest = decode(&compile(SMALL, "small.toml").unwrap()).unwrap();
        manifest.services[1].rank = rank;
        manifest.services[1].limits.memory_pages = pages;
        manifest.services[1].restart = Restart::Always { budget };
        prop_assert_eq!(decode(&encode(&manifest).unwrap()).unwrap(), manifest);
    }

    #[test]
    fn any_bytes_are_refused_or_decoded_but_never_panic(tail in prop::collection::vec(any::<u8>(), 0..512)) {
        // With the magic of what compiles, or nothing behind it would be looked at.
        let mut bytes = compile(SMALL, "small.toml").unwrap()[..8].to_vec();
        bytes.extend_from_slice(&tail);
        let _ = decode(&bytes);
    }

    #[test]
    fn a_flipped_bit_never_yields_a_manifest_that_breaks_the_rules(bit in 0usize..8 * 300) {
        let mut bytes = compile(SMALL, "small.toml").unwrap();
        let length = bytes.len();
        bytes[(bit / 8) % length] ^= 1 << (bit % 8);
        if let Ok(manifest) = decode(&bytes) {
            prop_assert!(system_manifest::check::check(&manifest).is_empty());
        }
    }

    #[test]
    fn any_text_is_refused_or_compiled_but_never_panics(text in "\\PC{0,200}") {
        let _ = compile(&text, "any.toml");
    }
}
