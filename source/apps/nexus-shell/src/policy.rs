//! The command `policy`: why somebody may do something or not, and what was asked so far.

use crate::commands::{CALL_PATIENCE, Shell};
use crate::format::table;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use nexus_abi::service_id;
use nexus_proto::policy::Question;
use policy::Action;
use shell_line::nearest;

/// How it is used.
pub const USAGE: &str = "explain SERVICE ACTION [RESOURCE] | stats | actions";
/// The words that can come first.
pub const WORDS: &[&str] = &["explain", "stats", "actions"];

/// The deed: what is shown, or why not.
pub fn run(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    match *arguments {
        ["explain", subject, action] => explain(shell, subject, action, ""),
        ["explain", subject, action, resource] => explain(shell, subject, action, resource),
        ["stats"] => stats(shell),
        ["actions"] => Ok(actions()),
        _ => Err(format!("usage: policy {USAGE}")),
    }
}

/// The words that could stand behind these.
pub fn candidates(before: &[&str], services: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let own = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    match *before {
        [] => own(WORDS),
        ["explain"] => services(),
        ["explain", _] => Action::ALL.iter().map(|action| action.name().to_string()).collect(),
        _ => Vec::new(),
    }
}

fn explain(shell: &Shell<'_>, subject: &str, action: &str, resource: &str) -> Result<String, String> {
    let Some(known) = Action::from_name(action) else {
        let near = nearest(action, Action::ALL.iter().map(|action| action.name()));
        let hint =
            near.map_or("`policy actions` lists them".into(), |near| format!("did you mean `{near}`?"));
        return Err(format!("unknown action `{action}`: {hint}"));
    };
    let question = Question::new(service_id(subject), known.number(), resource);
    let question = question.ok_or_else(|| format!("`{resource}` is too long for a resource"))?;
    let answer = shell.policy.explain(&question, shell.environment.deadline(CALL_PATIENCE));
    let text = answer.map_err(|error| error.to_string())?.text;
    // Of somebody whom no line is about, policyd knows the number alone.
    Ok(format!("{}\n", text.replace(&format!("{:016x}", service_id(subject)), subject)))
}

fn stats(shell: &Shell<'_>) -> Result<String, String> {
    let deadline = shell.environment.deadline(CALL_PATIENCE);
    let epoch = shell.policy.epoch(&(), deadline).map_err(|error| error.to_string())?;
    let stats = shell.policy.stats(&(), deadline).map_err(|error| error.to_string())?;
    let rows = [
        ("epoch", epoch.epoch),
        ("overlay in force", epoch.sequence),
        ("allowed", stats.allowed),
        ("denied", stats.denied),
        ("denied for want of room to record it", stats.unrecorded),
        ("refused to answer", stats.refused),
        ("malformed", stats.malformed),
        ("overlays refused", stats.overlays_refused),
        ("records", stats.recorded),
    ];
    Ok(table(&rows.map(|(name, value)| vec![name.to_string(), value.to_string()])))
}

fn actions() -> String {
    let row = |action: &Action| {
        let recorded = if action.is_sensitive() { "recorded" } else { "" };
        vec![action.name().to_string(), recorded.to_string(), action.meaning().trim().to_string()]
    };
    table(&Action::ALL.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_candidates() {
        let services = || vec![String::from("rngd")];
        assert_eq!(candidates(&[], services), WORDS);
        assert_eq!(candidates(&["explain"], services), ["rngd"]);
        assert!(candidates(&["explain", "rngd"], services).contains(&"rng.entropy".to_string()));
        assert!(candidates(&["stats"], services).is_empty());
    }

    #[test]
    fn every_action_is_listed_with_its_meaning() {
        let listed = actions();
        assert!(Action::ALL.iter().all(|action| listed.contains(action.name())));
    }
}
