//! Every cell of the table of states and events: the state is made on a machine, the event happens, and what both
//! sides and the capability between them then see is what `tests/neuron/messages.toml` says.
//!
//! `docs/messages.md` is printed from the same file. `MESSAGES_SEEN=1` prints what was seen as lines of it.
//! Where to start reading: [`every_cell_is_as_the_table_says`], then [`Scene`].

mod scene;

use scene::{ARRIVAL_EVENTS, CALL_EVENTS, Scene};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    call: Group,
    arrival: Group,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "about")]
    _about: String,
    /// Names of events, and what happens.
    events: BTreeMap<String, String>,
    states: Vec<State>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    name: String,
    #[serde(rename = "meaning")]
    _meaning: String,
    cells: BTreeMap<String, Cell>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    /// What caller and server see, and where the capability is.
    Seen([String; 3]),
    /// Why this cannot be.
    Never(String),
}

/// What can be made: each pair of state and event for which a scene says how.
fn judge(group: &Group, names: &[&str], make: fn(&str) -> Option<Scene>) -> Vec<String> {
    let mut findings = Vec::new();
    let events: Vec<&str> = group.events.keys().map(String::as_str).collect();
    let mut known: Vec<&str> = names.to_vec();
    known.sort_unstable();
    assert_eq!(events, known, "events of the table, and those that a scene can make");
    for state in &group.states {
        let cells: Vec<&str> = state.cells.keys().map(String::as_str).collect();
        assert_eq!(cells, events, "cells of `{}`", state.name);
        for (event, cell) in &state.cells {
            let mut scene = make(&state.name).unwrap_or_else(|| panic!("no scene is `{}`", state.name));
            let seen = scene.happen(event);
            if std::env::var_os("MESSAGES_SEEN").is_some() {
                println!("{}: {event} = {seen:?}", state.name);
            }
            let agrees = match (cell, &seen) {
                (Cell::Seen(expected), Some(seen)) => expected == seen,
                (Cell::Never(reason), None) => !reason.is_empty(),
                _ => false,
            };
            if !agrees {
                findings.push(format!("`{}` × `{event}`: {seen:?}", state.name));
            }
            scene.machine.audit();
        }
    }
    findings
}

#[test]
fn every_cell_is_as_the_table_says() {
    let table: Table = toml::from_str(include_str!("../messages.toml")).expect("a table");
    let mut findings = judge(&table.call, &CALL_EVENTS, Scene::of_call);
    findings.extend(judge(&table.arrival, &ARRIVAL_EVENTS, Scene::of_arrival));
    assert!(findings.is_empty(), "{findings:#?}");
}
