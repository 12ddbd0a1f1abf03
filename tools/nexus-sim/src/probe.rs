//! A program that asks the policy everything about itself and tells each answer: what `tests/policy.rs` boots under
//! the name of every service.

use nexus_abi::service_id;
use nexus_ipc::Deadline;
use nexus_proto::policy::{ALLOWED, Client, DENIED, Question, Why};
use nexus_rt::{Environment, info};
use policy::Action;
use std::time::Duration;

/// Who also asks about init, which asks only about others: it holds `policy.delegate`.
pub const DELEGATE: &str = "rngd";
/// The name of init.
pub const INIT: &str = nexus_abi::image::INIT;
/// What is asked about: every resource of the shipped policy, and such as none of its lines covers.
pub const RESOURCES: [&str; 22] = [
    "",
    "ns16550a",
    "virtio:entropy",
    "virtio:empty",
    "virtio:block",
    "google,goldfish-rtc",
    "qemu,fw-cfg-mmio",
    "/state/",
    "/state/app/",
    "/state/bounded/",
    "/state/bounded/x",
    "/state/log/",
    "/state/log/00",
    "/state/selftest/",
    "/state/selftest/x",
    "/state/selftestx",
    "/state/user/",
    "/state/user/x",
    "/state/keystore/",
    "/state/keystore/device",
    "/state/keystore/device.signing",
    "pong",
];
/// Time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for the journal to read on, when there is no room to record a decision.
const PAUSE: Duration = Duration::from_millis(20);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Ok(endpoint) = environment.to_call("policy") else { return 1 };
    let client = Client::new(endpoint);
    environment.ready();
    ask(environment, &client, environment.name());
    if environment.name() == DELEGATE {
        ask(environment, &client, INIT);
    }
    0
}

/// Tells of each action one letter a resource: `a` for allowed, `d` for denied, `?` for no answer.
fn ask(environment: &Environment, client: &Client, subject: &str) {
    for action in Action::ALL {
        let mut told = [b'?'; RESOURCES.len()];
        for (letter, resource) in told.iter_mut().zip(RESOURCES) {
            let Some(question) = Question::new(service_id(subject), action.number(), resource) else {
                continue;
            };
            *letter = answer(environment, client, &question);
        }
        info!("probe: {subject} {action} {}", core::str::from_utf8(&told).unwrap_or(""));
    }
}

fn answer(environment: &Environment, client: &Client, question: &Question) -> u8 {
    loop {
        let deadline: Deadline = environment.deadline(PATIENCE);
        let verdict = match question.subject == environment.page().service_id {
            true => client.check(question, deadline),
            false => client.decide(question, deadline),
        };
        match verdict {
            Ok(verdict) if verdict.why == Why::NoRecord as u32 => environment.sleep(PAUSE),
            Ok(verdict) if verdict.decision == ALLOWED => return b'a',
            Ok(verdict) if verdict.decision == DENIED => return b'd',
            _ => return b'?',
        }
    }
}
