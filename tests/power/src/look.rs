//! What a store holds, looked at from outside: by `nx statefs`, and by the independent reader in Python.

use anyhow::{Context, Result, bail, ensure};
use nx_statefs::{Action, Arguments, Image};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Keys and values.
pub type Model = BTreeMap<String, Vec<u8>>;

/// What `nx statefs ls` and `get` show of a store, or of a disk with one.
pub fn seen_by_nx(file: &Path) -> Result<Model> {
    let nx = |action| -> Result<Vec<u8>> {
        let mut output = Vec::new();
        nx_statefs::run(&Arguments { action }, &mut output).map(|()| output)
    };
    let image = || Image { image: file.to_path_buf(), offset: None, length: None };
    let listing = nx(Action::Ls { image: image(), prefix: "/state/".to_string() })?;
    let mut model = Model::new();
    for line in String::from_utf8(listing)?.lines() {
        let key = line.split_whitespace().last().context("an empty line")?.to_string();
        model.insert(key.clone(), nx(Action::Get { image: image(), key })?);
    }
    Ok(model)
}

/// What the independent reader finds in a store that is all of its file.
pub fn seen_by_python(file: &Path) -> Result<Model> {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../statefs/reader/statefs_reader.py");
    let output = Command::new("python3").arg(reader).arg(file).output().context("python3")?;
    ensure!(output.status.success(), "the reader: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [key, _version] => Ok((key.to_string(), Vec::new())),
            [key, _version, hex] => Ok((key.to_string(), from_hex(hex)?)),
            _ => bail!("the reader says {line:?}"),
        })
        .collect()
}

fn from_hex(hex: &str) -> Result<Vec<u8>> {
    let pair = |at| hex.get(at..at + 2).context("half a byte");
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(pair(at)?, 16)?)).collect()
}

/// The first keys in which two states differ.
pub fn difference(found: &Model, wanted: &Model) -> String {
    let keys: BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let differing = keys.into_iter().filter(|key| found.get(*key) != wanted.get(*key));
    let lines = differing.take(4).map(|key| {
        let side = |model: &Model| model.get(key).map_or("none".to_string(), |value| value.len().to_string());
        format!("{key} found {} wanted {} bytes", side(found), side(wanted))
    });
    lines.collect::<Vec<_>>().join("; ")
}
