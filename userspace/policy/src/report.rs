//! Decisions in words, for people.

use crate::{Action, Decision, Reason, Table};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What is decided about a subject (`name` is what it is called), an action and a resource, why, and by which line.
pub fn explain(table: &Table, name: &str, subject: u64, action: Action, resource: &str) -> String {
    let decision = table.decide(subject, action, resource);
    let word = if decision.is_allowed() { "allowed" } else { "denied" };
    let what = if resource.is_empty() { String::new() } else { format!(" {resource}") };
    let why = because(table, &decision, subject, action);
    format!("{word}: {name} {action}{what}: {why}")
}

fn because(table: &Table, decision: &Decision<'_>, subject: u64, action: Action) -> String {
    match (decision.reason, decision.rule) {
        (_, Some((_, rule))) => {
            let verb = if rule.allows { "allows" } else { "denies" };
            let of = if rule.resource.is_empty() { "" } else { " of " };
            let rate = if rule.rate == 0 { String::new() } else { format!(", {} a second", rule.rate) };
            let place = format!("{}:{}", table.file_of(rule), rule.line);
            format!("{place} {verb} {action}{of}{}{rate}", rule.resource)
        }
        (Reason::OtherResource, None) => {
            let lines = table.lines(subject, action).1.iter();
            let lines =
                lines.map(|rule| format!("{} ({}:{})", rule.resource, table.file_of(rule), rule.line));
            format!("its lines are about {} only", lines.collect::<Vec<_>>().join(", "))
        }
        _ => "no line is about it, and what no line allows is denied".into(),
    }
}

/// Every line: subject, action, resource, what it says, its bound, its place.
pub fn matrix(table: &Table) -> Vec<[String; 6]> {
    let name =
        |place: u16| table.subjects.get(usize::from(place)).map_or("?", |subject| subject.name.as_str());
    let mut rows: Vec<[String; 6]> = table
        .rules
        .iter()
        .map(|rule| {
            let resource = if rule.resource.is_empty() { "anything" } else { rule.resource.as_str() };
            [
                name(rule.subject).into(),
                rule.action.name().into(),
                resource.into(),
                if rule.allows { "allow" } else { "deny" }.into(),
                if rule.rate == 0 { String::new() } else { format!("{}/s", rule.rate) },
                format!("{}:{}", table.file_of(rule), rule.line),
            ]
        })
        .collect();
    rows.sort();
    rows
}
