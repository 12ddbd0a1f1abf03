//! `nx policy`: who may do what, out of `recipes/policy`, by the library that decides on the machine.

use crate::image::{Entry, RECIPE_FILE};
use crate::project::{Project, read_text, write_file};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Subcommand;
use nexus_abi::image::INIT;
use nexus_abi::service_id;
use policy::{Action, PolicyFile, Table};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use system_manifest::Manifest;

/// The folder of the files.
const FOLDER: &str = "recipes/policy";
/// The key that signs the self-test's overlays, which everybody knows.
const TEST_KEY: &str = "recipes/policy/keys/test-only.key";
/// The files of the image that hold overlays, and what they are made from.
const OVERLAYS: [(&str, &str); 2] = [
    ("policy.overlay", "recipes/policy/overlays/selftest.toml"),
    ("policy.overlay-next", "recipes/policy/overlays/selftest-next.toml"),
];
/// The file of the image that holds the table.
pub const TABLE_FILE: &str = "policy.table";

/// What is asked about the policy.
#[derive(Clone, Debug, Subcommand)]
pub enum Arguments {
    /// Say whether a service may do something, and which line decides
    Explain {
        /// The service
        subject: String,
        /// The action, as `rng.entropy`
        action: String,
        /// What it is about, as `/state/app/x`
        resource: Option<String>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print every line
    Matrix {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Look whether every file is in order
    Check {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compile an overlay and sign it
    Sign {
        /// The overlay's file
        file: PathBuf,
        /// The file of the private key: 64 hexadecimal digits, and lines that begin with #
        #[arg(long)]
        key: PathBuf,
        /// Where the signed overlay goes
        #[arg(long, short)]
        output: PathBuf,
    },
}

/// Answers.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let manifest = manifest(project)?;
    match arguments {
        Arguments::Explain { subject, action, resource, json } => {
            let table = table(project.root(), &manifest)?;
            let resource = resource.as_deref().unwrap_or("");
            explain(&table, &manifest, subject, action, resource, *json)
        }
        Arguments::Matrix { json } => matrix(&table(project.root(), &manifest)?, *json),
        Arguments::Check { json } => check(project, &manifest, *json),
        Arguments::Sign { file, key, output } => {
            let name = file.display().to_string();
            let overlay = signed(&read_text(file)?, &name, &read_text(key)?, &manifest)?;
            write_file(output, &overlay)?;
            println!("{}: {} bytes", output.display(), overlay.len());
            Ok(())
        }
    }
}

fn manifest(project: &Project) -> Result<Manifest> {
    let bytes = system_manifest::compile(&project.read(RECIPE_FILE)?, RECIPE_FILE)?;
    system_manifest::decode(&bytes).map_err(|error| anyhow!("{RECIPE_FILE}: {error}"))
}

/// Everybody a line may be about.
fn subjects(manifest: &Manifest) -> Vec<(String, u64)> {
    let names = manifest.services.iter().map(|service| service.name.as_str());
    names.chain([INIT]).map(|name| (name.to_string(), service_id(name))).collect()
}

/// The files of the policy below this root, in the order of their names.
pub fn files(root: &Path) -> Result<Vec<PolicyFile>> {
    let folder = root.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    ensure!(!paths.is_empty(), "{FOLDER} has no file: nobody could do anything");
    let file = |path: PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(PolicyFile { name: format!("{FOLDER}/{name}"), text: read_text(&path)? })
    };
    paths.into_iter().map(file).collect()
}

/// The table that these files make, for the services of a manifest.
pub fn table(root: &Path, manifest: &Manifest) -> Result<Table> {
    let table = policy::compile(&files(root)?, &subjects(manifest))?;
    for service in &manifest.services {
        for device in &service.devices {
            let word = format!("device.mmio.{}", device.name);
            ensure!(
                Action::from_name(&word).is_some(),
                "{RECIPE_FILE}: the device `{}` of {}: unknown action `{word}`; no policy could allow it",
                device.name,
                service.name
            );
        }
    }
    Ok(table)
}

/// The files that the initial image carries for the policy, as far as the manifest gives them to anybody.
pub fn entries(root: &Path, manifest: &Manifest) -> Result<Vec<Entry>> {
    let given =
        |name: &str| manifest.services.iter().any(|service| service.files.iter().any(|file| file == name));
    let mut entries = Vec::new();
    if given(TABLE_FILE) {
        entries.push(Entry { name: TABLE_FILE.to_string(), bytes: policy::encode(&table(root, manifest)?)? });
    }
    for (name, file) in OVERLAYS.into_iter().filter(|(name, _)| given(name)) {
        let (text, key) = (read_text(&root.join(file))?, read_text(&root.join(TEST_KEY))?);
        entries.push(Entry { name: name.to_string(), bytes: signed(&text, file, &key, manifest)? });
    }
    Ok(entries)
}

fn signed(text: &str, name: &str, key: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let file = PolicyFile { name: name.to_string(), text: text.to_string() };
    let overlay = policy::compile_overlay(&file, &subjects(manifest))?;
    let seed = policy::key_of_file(key).context("the key's file has no 64 hexadecimal digits")?;
    policy::sign(&overlay, &seed).map_err(|error| anyhow!("{name}: {error}"))
}

fn explain(
    table: &Table,
    manifest: &Manifest,
    subject: &str,
    action: &str,
    resource: &str,
    json: bool,
) -> Result<()> {
    let known = subjects(manifest);
    let Some((_, id)) = known.iter().find(|(name, _)| name == subject) else {
        bail!("unknown subject `{subject}`{}", meant(subject, known.iter().map(|(name, _)| name.as_str())));
    };
    let Some(what) = Action::from_name(action) else {
        bail!("unknown action `{action}`{}", meant(action, Action::ALL.iter().map(|action| action.name())));
    };
    ensure!(
        resource.is_empty() || policy::is_resource(resource),
        "`{resource}` is no resource: 1 to {} visible bytes, no part of it empty, `.` or `..`",
        policy::RESOURCE_BYTES_MAX
    );
    let text = policy::explain(table, subject, *id, what, resource);
    if !json {
        println!("{text}");
        return Ok(());
    }
    let decision = table.decide(*id, what, resource);
    let place = decision.rule.map(|(_, rule)| json!({ "file": table.file_of(rule), "line": rule.line }));
    let answer = json!({
        "subject": subject, "action": action, "resource": resource,
        "allowed": decision.is_allowed(), "reason": decision.reason.to_string(), "rule": place, "text": text,
    });
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}

/// What was probably meant, as a question behind a refusal.
fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    policy::nearest(word, known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

const COLUMNS: [&str; 6] = ["subject", "action", "resource", "decision", "bound", "line"];

fn matrix(table: &Table, json: bool) -> Result<()> {
    let rows = policy::matrix(table);
    if json {
        let object = |row: &[String; 6]| {
            COLUMNS.iter().zip(row).map(|(name, cell)| (name.to_string(), json!(cell))).collect()
        };
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = rows.iter().map(object).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "lines": rows }))?);
        return Ok(());
    }
    let heading = COLUMNS.map(str::to_uppercase);
    let all: Vec<&[String; 6]> = std::iter::once(&heading).chain(&rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in &all {
        let cells = (0..COLUMNS.len()).map(|column| format!("{:width$}", row[column], width = width(column)));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    println!("Whatever no line is about is denied.");
    Ok(())
}

fn check(project: &Project, manifest: &Manifest, json: bool) -> Result<()> {
    let outcome = table(project.root(), manifest).and_then(|table| {
        entries(project.root(), manifest)?;
        Ok(table)
    });
    if json {
        let answer = match &outcome {
            Ok(table) => json!({ "ok": true, "files": table.files, "lines": table.rules.len() }),
            Err(error) => json!({ "ok": false, "error": format!("{error:#}") }),
        };
        println!("{}", serde_json::to_string_pretty(&answer)?);
    }
    let table = outcome?;
    if !json {
        println!(
            "policy: {} lines of {} files are in order, about {} services",
            table.rules.len(),
            table.files.len(),
            table.subjects.len()
        );
    }
    Ok(())
}
