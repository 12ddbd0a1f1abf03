//! `nx statefs ls|get|put|fsck|dump|make` on an image from outside.
//!
//! The image is a file with a store in it: the partition alone, or a disk image with `--offset` (and `--length`)
//! of the partition. Reading opens read-only and leaves every byte as it is; `put` and `fsck --accept` begin a
//! new incarnation, as a boot does. The program `nx` flattens [`Arguments`] into its command line and calls
//! [`run`].
#![forbid(unsafe_code)]

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use partitions::{BLOCK_BYTES, Partition};
use statefs::{
    BlockDevice, CheckReport, Entropy, FileDevice, Geometry, KEYS_MAX_HOST, LIST_KEYS_MAX, Options, Store,
};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a unit of a new store.
const UNIT_BYTES: u32 = 4096;
/// Units that a segment of a new store has at the most.
const SEGMENT_UNITS_MAX: u32 = 128;

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub struct Image {
    /// The file that holds the store
    pub image: PathBuf,
    /// Where the store starts in the file, in bytes (at the partition `state` of a disk image, or at its beginning)
    #[arg(long)]
    pub offset: Option<u64>,
    /// How long it is, in bytes (to the end of the partition, or of the file)
    #[arg(long)]
    pub length: Option<u64>,
}

impl Image {
    /// Where the store is in the file, and how long.
    pub fn place(&self) -> Result<(u64, Option<u64>)> {
        let given = (self.offset.unwrap_or(0), self.length);
        if self.offset.is_some() {
            return Ok(given);
        }
        let Some((offset, length)) = partition(&self.image, Partition::State)? else { return Ok(given) };
        Ok((offset, Some(self.length.unwrap_or(length))))
    }
}

/// Where a partition is in a disk image, and how long, in bytes; `None` for a file without a partition table.
pub fn partition(image: &Path, wanted: Partition) -> Result<Option<(u64, u64)>> {
    let name = || image.display().to_string();
    let file = File::open(image).with_context(name)?;
    let blocks = file.metadata().with_context(name)?.len() / BLOCK_BYTES as u64;
    let read = |first: u64, to: &mut [u8]| {
        file.read_exact_at(to, first * BLOCK_BYTES as u64).map_err(partitions::ReadError::Failed)
    };
    let Ok(table) = partitions::read(blocks, read) else { return Ok(None) };
    let found = table.found.iter().find(|(partition, _)| *partition == wanted);
    let (_, extent) =
        found.with_context(|| format!("{}: no usable partition `{}`", name(), wanted.name()))?;
    let bytes = |blocks: u64| blocks * BLOCK_BYTES as u64;
    Ok(Some((bytes(extent.first), bytes(extent.blocks))))
}

/// What to do with it.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// List keys with version and length
    Ls {
        /// Where the store is
        #[command(flatten)]
        image: Image,
        /// Only keys that start with this
        #[arg(default_value = "/state/")]
        prefix: String,
    },
    /// Write a key's value to standard output
    Get {
        /// Where the store is
        #[command(flatten)]
        image: Image,
        /// The key
        key: String,
    },
    /// Set a key to the bytes of a file, or of standard input
    Put {
        /// Where the store is
        #[command(flatten)]
        image: Image,
        /// The key
        key: String,
        /// The file (standard input)
        file: Option<PathBuf>,
    },
    /// Check everything and report; repairs only when told
    Fsck {
        /// Where the store is
        #[command(flatten)]
        image: Image,
        /// Accept the damage: uncertain keys keep their last known value, corrupt keys are removed
        #[arg(long)]
        accept: bool,
    },
    /// Show superblock, space and every group of the log
    Dump {
        /// Where the store is
        #[command(flatten)]
        image: Image,
    },
    /// Make an empty store in a new file
    Make {
        /// The file, which must not exist
        image: PathBuf,
        /// Its length in MiB
        #[arg(long, default_value_t = 64)]
        mebibytes: u64,
    },
    /// Make an empty store where there is nothing yet
    Format {
        /// Where the store is to be
        #[command(flatten)]
        image: Image,
        /// Also where there is something, which is lost
        #[arg(long)]
        erase: bool,
    },
}

/// Arguments of `nx statefs`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// Does it; results go to `out`, progress and damage to standard error.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.action {
        Action::Ls { image, prefix } => list(image, prefix, out),
        Action::Get { image, key } => {
            let value = open(image, false)?.get(key.as_bytes()).with_context(|| key.clone())?;
            Ok(out.write_all(&value)?)
        }
        Action::Put { image, key, file } => put(image, key, file.as_ref(), out),
        Action::Fsck { image, accept } => check(image, *accept, out),
        Action::Dump { image } => dump(image, out),
        Action::Make { image, mebibytes } => make(image, *mebibytes),
        Action::Format { image, erase } => format(image, *erase),
    }
}

fn entropy() -> Result<Entropy> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("no randomness")?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    Ok(Entropy(words))
}

/// Opens the store; one that is to be written begins a new incarnation, as a boot does. Damage is told on standard error.
pub fn open(image: &Image, writable: bool) -> Result<Store<FileDevice>> {
    let name = || image.image.display().to_string();
    let (offset, length) = image.place()?;
    let device = FileDevice::open(&image.image, offset, length, writable).with_context(name)?;
    let options =
        Options { keys_max: KEYS_MAX_HOST as u64, read_only: !writable, ..Options::new(entropy()?) };
    let store = Store::open(device, options).with_context(name)?;
    for line in store.damage_lines() {
        eprintln!("statefs: {line}");
    }
    Ok(store)
}

/// A key as one line: what is not printable is escaped.
fn printable(key: &[u8]) -> String {
    String::from_utf8_lossy(key).escape_debug().to_string()
}

fn list(image: &Image, prefix: &str, out: &mut dyn Write) -> Result<()> {
    let store = open(image, false)?;
    let mut after: Option<Box<[u8]>> = None;
    loop {
        let page = store.list(prefix.as_bytes(), after.as_deref(), LIST_KEYS_MAX);
        for listed in &page.keys {
            match listed.stat {
                Ok(stat) => {
                    writeln!(out, "{:>12} {:>8} {}", stat.version, stat.length, printable(&listed.key))?
                }
                Err(error) => writeln!(out, "{:>21} {}", format!("{error:?}"), printable(&listed.key))?,
            }
        }
        if !page.more {
            if page.uncertain {
                eprintln!("statefs: groups are missing; other keys may have existed");
            }
            return Ok(());
        }
        after = page.keys.last().map(|listed| listed.key.clone());
    }
}

fn put(image: &Image, key: &str, file: Option<&PathBuf>, out: &mut dyn Write) -> Result<()> {
    let mut value = Vec::new();
    match file {
        Some(path) => File::open(path)
            .and_then(|mut file| file.read_to_end(&mut value))
            .with_context(|| path.display().to_string())?,
        None => std::io::stdin().read_to_end(&mut value)?,
    };
    let mut store = open(image, true)?;
    let version = store.put(key.as_bytes(), &value).with_context(|| key.to_owned())?;
    store.seal().context("seal")?;
    Ok(writeln!(out, "{key}: version {version}")?)
}

fn check(image: &Image, accept: bool, out: &mut dyn Write) -> Result<()> {
    let mut store = open(image, accept)?;
    let mut progress = |done: u64, all: u64| {
        if done.is_multiple_of(10_000) || done == all {
            eprintln!("statefs: {done} of {all} keys");
        }
    };
    let report = if accept { store.accept_damage(&mut progress)? } else { store.check_all(&mut progress) };
    write!(out, "{}", summary(&report))?;
    let damaged = !report.keys_bad.is_empty() || report.hole;
    match (damaged, accept) {
        (true, true) => writeln!(out, "accepted: uncertain keys kept, corrupt keys removed")?,
        (true, false) => bail!("damaged; `nx statefs fsck --accept` accepts the loss"),
        (false, _) => writeln!(out, "good")?,
    }
    Ok(())
}

fn summary(report: &CheckReport) -> String {
    let mut text = format!("{} keys verified\n", report.keys_good);
    for segment in &report.heads_damaged {
        let _ = writeln!(text, "segment {segment}: one head is lost, the other is good");
    }
    for found in &report.keys_bad {
        let _ = writeln!(text, "{:?} {}", found.state, printable(&found.key));
    }
    if report.hole {
        text.push_str("groups are missing: absence is not certain\n");
    }
    text
}

fn dump(image: &Image, out: &mut dyn Write) -> Result<()> {
    let mut store = open(image, false)?;
    let (geometry, space) = (store.geometry(), store.space());
    writeln!(
        out,
        "unit {} · segment {} units · {} segments",
        geometry.unit, geometry.segment_units, geometry.segments
    )?;
    writeln!(
        out,
        "keys {} of {} · bytes {} of {}",
        space.keys, space.keys_max, space.bytes, space.bytes_max
    )?;
    writeln!(
        out,
        "segments free {} · in log {} · newest epoch {}",
        space.segments_free,
        space.segments_in_log,
        store.epoch()
    )?;
    writeln!(
        out,
        "{:>7} {:>4} {:>5} {:>10} {:>10} {:>5} {:>4} {:>7}  state",
        "segment", "unit", "units", "epoch", "previous", "inc", "kind", "records"
    )?;
    let mut lines = String::new();
    store.dump_groups(&mut |group| {
        let kind = match group.kind {
            1 => "data",
            2 => "seal",
            _ => "open",
        };
        let state = match (group.whole, group.all_copies) {
            (true, true) => "good",
            (true, false) => "good, a copy is lost",
            (false, _) => "damaged",
        };
        let (segment, unit) = group.place;
        let _ = writeln!(
            lines,
            "{segment:>7} {unit:>4} {:>5} {:>10} {:>10} {:>5} {kind:>4} {:>7}  {state}",
            group.units, group.epoch, group.previous_epoch, group.incarnation, group.records
        );
    })?;
    Ok(out.write_all(lines.as_bytes())?)
}

fn make(path: &Path, mebibytes: u64) -> Result<()> {
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    let bytes = mebibytes.checked_mul(1 << 20).context("too large")?;
    let geometry = geometry(bytes)?;
    let mut device = FileDevice::create(path, bytes)?;
    Ok(Store::format(&mut device, geometry, entropy()?)?)
}

/// The shape of a new store: segments of 512 KiB, which a device has memory for, or smaller ones on a small partition.
fn geometry(bytes: u64) -> Result<Geometry> {
    let smallest = Geometry::for_device(bytes, UNIT_BYTES).context("too small for a store")?;
    let units = smallest.segment_units.min(SEGMENT_UNITS_MAX);
    Geometry::with_segment_units(bytes, UNIT_BYTES, units).context("no shape of a store fits")
}

/// Makes an empty store; what is there already is refused, unless it is to be erased.
pub fn format(image: &Image, erase: bool) -> Result<()> {
    let name = || image.image.display().to_string();
    let (offset, length) = image.place()?;
    let mut device = FileDevice::open(&image.image, offset, length, true).with_context(name)?;
    let mut beginning = [0; 2 * UNIT_BYTES as usize];
    device.read(0, &mut beginning).map_err(|_| anyhow!("too small for a store")).with_context(name)?;
    if !erase && beginning.iter().any(|&byte| byte != 0) {
        bail!("{}: something is there already; `--erase` overwrites it", name());
    }
    let geometry = geometry(device.length()).with_context(name)?;
    Ok(Store::format(&mut device, geometry, entropy()?)?)
}
