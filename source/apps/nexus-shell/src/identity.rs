//! The command `identity`: who this device is.

use crate::commands::{CALL_PATIENCE, Shell};
use crate::format::table;
use crate::log::push_json;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;
use nexus_abi::Error;
use nexus_ipc::{CallError, Deadline};
use nexus_proto::keystore::{KeyError, PublicKey, Status};

/// How it is used.
pub const USAGE: &str = "[--json] | reset";
/// The words that can come first.
pub const WORDS: &[&str] = &["--json", "reset"];

/// The deed: what is shown, or why not.
pub fn run(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    match *arguments {
        [] => show(shell, plain),
        ["--json"] => show(shell, json),
        ["reset"] => {
            let key = shell.keystore.reset(&(), due(shell)).map_err(in_words)?;
            let name = hexadecimal(&identity::fingerprint(&key.bytes));
            Ok(format!("a new identity was made: {name}\n"))
        }
        _ => Err(format!("usage: identity {USAGE}")),
    }
}

fn due(shell: &Shell<'_>) -> Deadline {
    shell.environment.deadline(CALL_PATIENCE)
}

fn in_words(failure: CallError<KeyError>) -> String {
    match failure {
        CallError::Kernel(Error::Sealed) => {
            "keystored was given up or does not run here; `log` tells why".into()
        }
        CallError::Service(refusal) => refusal.to_string(),
        other => other.to_string(),
    }
}

fn show(shell: &Shell<'_>, form: fn(&Status, Option<PublicKey>) -> String) -> Result<String, String> {
    let status = shell.keystore.status(&(), due(shell)).map_err(in_words)?;
    let key = match status.identity {
        Ok(()) => Some(shell.keystore.public(&(), due(shell)).map_err(in_words)?),
        Err(_) => None,
    };
    Ok(form(&status, key))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What there is to tell, each with its name in JSON and for people.
fn told(status: &Status, key: Option<PublicKey>) -> [(&'static str, &'static str, String); 5] {
    let condition = status.identity.map_or_else(|reason| reason.to_string(), |()| "whole".into());
    let fingerprint = key.map_or_else(String::new, |key| hexadecimal(&identity::fingerprint(&key.bytes)));
    let root = if status.is_wrapped { "board" } else { "none" };
    [
        ("condition", "condition", condition),
        ("machine", "machine", status.machine.clone()),
        ("fingerprint", "fingerprint", fingerprint),
        ("public_key", "public key", key.map_or_else(String::new, |key| hexadecimal(&key.bytes))),
        ("root", "root", root.into()),
    ]
}

fn plain(status: &Status, key: Option<PublicKey>) -> String {
    let shown = |value: String| if value.is_empty() { String::from("none") } else { value };
    table(&told(status, key).map(|(_, name, value)| [name.into(), shown(value)].to_vec()))
}

fn json(status: &Status, key: Option<PublicKey>) -> String {
    let mut object = String::new();
    for (name, _, value) in told(status, key) {
        object.push(if object.is_empty() { '{' } else { ',' });
        push_json(&mut object, name);
        object.push(':');
        push_json(&mut object, &value);
    }
    object.push_str("}\n");
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_proto::keystore::NoIdentity;

    fn status(identity: Result<(), NoIdentity>) -> Status {
        Status { identity, machine: "board-7".into(), is_wrapped: false }
    }

    #[test]
    fn an_identity_is_shown_with_its_key_and_machine() {
        let text = plain(&status(Ok(())), Some(PublicKey { bytes: [0xab; 32] }));
        assert!(text.contains("condition    whole\n"), "{text}");
        assert!(text.contains("machine      board-7\n"), "{text}");
        assert!(text.contains(&format!("public key   {}\n", "ab".repeat(32))), "{text}");
        let object = json(&status(Ok(())), Some(PublicKey { bytes: [0xab; 32] }));
        assert!(
            object.starts_with("{\"condition\":\"whole\",\"machine\":\"board-7\",\"fingerprint\":\""),
            "{object}"
        );
    }

    #[test]
    fn where_there_is_none_the_reason_is_shown() {
        let text = plain(&status(Err(NoIdentity::Foreign)), None);
        assert!(text.contains("IdentityForeign: what is stored belongs to another machine\n"), "{text}");
        assert!(text.contains("public key   none\n"), "{text}");
        assert!(json(&status(Err(NoIdentity::Lost)), None).contains("\"public_key\":\"\""));
    }
}
