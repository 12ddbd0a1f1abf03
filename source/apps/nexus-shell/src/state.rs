//! The command `state`: what is kept over restarts, key by key.

use crate::commands::{CALL_PATIENCE, Shell};
use crate::format::table;
use crate::log::push_json;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;
use nexus_abi::Error;
use nexus_ipc::{CallError, Deadline};
use nexus_proto::state::Space;
use nexus_state::{Listed, Refusal, StateFailure};
use policy::Action;

/// How it is used.
pub const USAGE: &str = "ls [PREFIX] [--json] | get KEY | put KEY TEXT | rm KEY | space";
/// The words that can come first.
pub const WORDS: &[&str] = &["get", "ls", "put", "rm", "space"];
/// Keys that are listed at the most.
const LISTED_MAX: usize = 1024;
/// What every key begins with.
const ROOT: &str = "/state/";
/// Time that may pass at the start of the shell until it is known whether there is a store.
const ABSENCE_PATIENCE: Duration = Duration::from_secs(5);

/// The deed: what is shown, or why not.
pub fn run(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    match *arguments {
        ["ls"] => list(shell, ROOT, false),
        ["ls", "--json"] => list(shell, ROOT, true),
        ["ls", prefix] => list(shell, prefix, false),
        ["ls", prefix, "--json"] | ["ls", "--json", prefix] => list(shell, prefix, true),
        ["get", key] => get(shell, key),
        ["put", key, ref words @ ..] if !words.is_empty() => put(shell, key, &words.join(" ")),
        ["rm", key] => remove(shell, key),
        ["space"] => space(shell),
        _ => Err(format!("usage: state {USAGE}")),
    }
}

/// That nothing is kept and why, or that it is not known, if so: for the greeting.
pub fn absence(shell: &Shell<'_>) -> Option<String> {
    told(shell.state.borrow().space(shell.environment.deadline(ABSENCE_PATIENCE)))
}

fn told(space: Result<Space, StateFailure>) -> Option<String> {
    match space {
        Ok(space) if space.is_read_only => {
            Some("Nothing is kept: the store can be read alone; `log` tells why.".into())
        }
        Ok(_) => None,
        Err(CallError::Kernel(Error::TimedOut)) => {
            Some("Whether anything is kept is not known yet; `state space` asks again.".into())
        }
        Err(failure) => Some(format!("Nothing is kept: {}.", in_words(ROOT, Action::StatefsRead, failure))),
    }
}

fn due(shell: &Shell<'_>) -> Deadline {
    shell.environment.deadline(CALL_PATIENCE)
}

/// What became of a call that takes this right to a key, for people.
fn in_words(key: &str, right: Action, failure: StateFailure) -> String {
    match failure {
        CallError::Service(refusal @ Refusal::NoStore(_)) => refusal.to_string(),
        CallError::Service(Refusal::Denied) => {
            let right = match key {
                key if key.starts_with("/state/keystore/") => Action::StatefsKeystore,
                key if key.starts_with("/state/boot/") => Action::StatefsBoot,
                _ => right,
            };
            format!(
                "`{key}`: the policy does not allow it; `policy explain nexus-shell {right} {key}` says why"
            )
        }
        CallError::Service(refusal) => format!("`{key}`: {refusal}"),
        CallError::Kernel(Error::Sealed) => {
            "there is no /state: its service was given up; `log` tells why".into()
        }
        other => format!("`{key}`: {other}"),
    }
}

fn list(shell: &Shell<'_>, prefix: &str, as_json: bool) -> Result<String, String> {
    let state = shell.state.borrow();
    let mut entries: Vec<Listed> = Vec::new();
    let mut is_uncertain = false;
    loop {
        let after = entries.last().map(|entry| entry.key.clone());
        let page = state
            .list(prefix, after, due(shell))
            .map_err(|failure| in_words(prefix, Action::StatefsRead, failure))?;
        let has_more = page.has_more && !page.entries.is_empty();
        entries.extend(page.entries);
        is_uncertain |= page.is_uncertain;
        if !has_more {
            break;
        }
        if entries.len() >= LISTED_MAX {
            return Err(format!("more than {LISTED_MAX} keys; name a longer prefix"));
        }
    }
    let mut text = if as_json { entries.iter().map(json).collect() } else { plain(&entries) };
    if is_uncertain && !as_json {
        text.push_str("groups are lost: other keys may have existed\n");
    }
    Ok(text)
}

fn plain(entries: &[Listed]) -> String {
    let mut rows = vec![["VERSION", "BYTES", "KEY"].map(String::from).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let (version, bytes) = match entry.error {
            None => (entry.version.to_string(), entry.bytes.to_string()),
            Some(refusal) => ("-".into(), format!("{refusal:?}")),
        };
        vec![version, bytes, shown(&entry.key)]
    }));
    table(&rows)
}

/// A key as one object of JSON on a line of its own.
fn json(entry: &Listed) -> String {
    let mut object = String::from("{\"key\":");
    push_json(&mut object, &entry.key);
    // Writing to a string cannot fail.
    let _ = match entry.error {
        None => write!(object, ",\"version\":{},\"bytes\":{}", entry.version, entry.bytes),
        Some(refusal) => write!(object, ",\"error\":\"{refusal:?}\""),
    };
    object.push_str("}\n");
    object
}

/// A text without what a terminal would take for a command.
fn shown(text: &str) -> String {
    let escape = |character: char| match character {
        '\n' | '\t' => character.to_string(),
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

fn get(shell: &Shell<'_>, key: &str) -> Result<String, String> {
    let found = shell.state.borrow().get(key, due(shell));
    let (value, _) = found.map_err(|failure| in_words(key, Action::StatefsRead, failure))?;
    Ok(readable(&value))
}

/// A value as text, or as bytes in hexadecimal where it is none.
fn readable(value: &[u8]) -> String {
    let mut text = String::new();
    match core::str::from_utf8(value) {
        Ok(utf8) => text.push_str(&shown(utf8)),
        Err(_) => value.iter().for_each(|byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }),
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn put(shell: &Shell<'_>, key: &str, text: &str) -> Result<String, String> {
    let done = shell.state.borrow_mut().put(key, text.as_bytes(), None, due(shell));
    let version = done.map_err(|failure| in_words(key, Action::StatefsWrite, failure))?;
    Ok(format!("stored, version {version}\n"))
}

fn remove(shell: &Shell<'_>, key: &str) -> Result<String, String> {
    let done = shell.state.borrow_mut().delete(key, None, due(shell));
    let version = done.map_err(|failure| in_words(key, Action::StatefsWrite, failure))?;
    Ok(format!("deleted, version {version}\n"))
}

fn space(shell: &Shell<'_>) -> Result<String, String> {
    let space = shell
        .state
        .borrow()
        .space(due(shell))
        .map_err(|failure| in_words(ROOT, Action::StatefsRead, failure))?;
    let of = |part: u64, whole: u64| format!("{part} of {whole}");
    let rows = [
        ("bytes", of(space.bytes, space.bytes_max)),
        ("keys", of(space.keys, space.keys_max)),
        ("changes", space.changes.to_string()),
        ("flushes", space.flushes.to_string()),
        ("findings of damage", space.damage.to_string()),
        ("takes changes", if space.is_read_only { "no" } else { "yes" }.to_string()),
    ];
    Ok(table(&rows.map(|(name, value)| vec![name.to_string(), value])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(error: Option<Refusal>) -> Listed {
        Listed { key: "/state/user/a\"b".into(), version: 7, bytes: 12, error }
    }

    #[test]
    fn the_greeting_says_what_is_known_of_the_store_and_no_more() {
        let space = |is_read_only| Space { is_read_only, ..Space::default() };
        assert_eq!(told(Ok(space(false))), None);
        for known in [Ok(space(true)), Err(CallError::Kernel(Error::Sealed))] {
            let text = told(known).unwrap();
            assert!(text.starts_with("Nothing is kept: ") && text.ends_with('.'), "{text}");
        }
        let unknown = told(Err(CallError::Kernel(Error::TimedOut))).unwrap();
        assert!(unknown.contains("is not known yet"), "{unknown}");
    }

    #[test]
    fn keys_are_listed_with_version_and_length_or_with_what_is_wrong() {
        let text = plain(&[entry(None), entry(Some(Refusal::Corrupt))]);
        assert!(text.contains("7        12       /state/user/a\"b\n"), "{text}");
        assert!(text.contains("-        Corrupt  /state/user/a\"b\n"), "{text}");
        assert_eq!(json(&entry(None)), "{\"key\":\"/state/user/a\\\"b\",\"version\":7,\"bytes\":12}\n");
        assert!(json(&entry(Some(Refusal::Corrupt))).contains("\"error\":\"Corrupt\""));
    }

    #[test]
    fn values_are_shown_as_text_or_as_bytes_and_never_command_the_terminal() {
        assert_eq!(readable(b"two\nlines\n"), "two\nlines\n");
        assert_eq!(readable(&[0xff, 1]), "ff01\n");
        assert_eq!(readable(b"\x1b[2J"), "\\u{1b}[2J\n");
        assert_eq!(readable(b""), "\n");
    }
}
