//! `nx disk`: the disk that the machine boots with; `nx disk serve` is the library `nx-disk`.
//!
//! `build/disk.img` is made where there is none, and never written to again by any tool: what a person stores there
//! stays. Runs of the tests have disks of their own, made anew each time.

use crate::identity::{BoardSecret, ImagePlaces};
use crate::project::Project;
use ::identity::{Failure, MachineId, Places, RootSecret};
use anyhow::{Context, Result, ensure};
use partitions::{BLOCK_BYTES, Partition, lay_out};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where `nx run` has its disk.
pub const DISK_FILE: &str = "build/disk.img";
/// Blocks of a new disk: 64 MiB.
const DISK_BLOCKS: u64 = mebibytes(64);
/// The partitions of every disk.
const PARTITIONS: &[(Partition, u64)] = &[
    (Partition::BootA, mebibytes(8)),
    (Partition::BootB, mebibytes(8)),
    (Partition::Bootctl, mebibytes(1)),
    (Partition::State, mebibytes(32)),
];
/// What the disk of a test has besides.
const SCRATCH: (Partition, u64) = (Partition::Scratch, mebibytes(4));

const fn mebibytes(count: u64) -> u64 {
    count * 1024 * 1024 / BLOCK_BYTES as u64
}

/// A disk to make by hand, or what else to do with one.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// The file, which must not exist
    #[arg(default_value = DISK_FILE)]
    pub path: PathBuf,
    /// Add the partition that tests write on
    #[arg(long)]
    pub scratch: bool,
    /// What to do instead
    #[command(subcommand)]
    pub action: Option<nx_disk::Action>,
}

/// Makes a new disk; one that is there is refused. Or does the other thing that was asked for.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    if let Some(action) = &arguments.action {
        return nx_disk::run(action, &mut std::io::stdout().lock());
    }
    let path = project.path(".").join(&arguments.path);
    let wanted: Vec<_> = PARTITIONS.iter().copied().chain(arguments.scratch.then_some(SCRATCH)).collect();
    ensure!(create(&path, &wanted)?, "{} exists; it is left as it is", path.display());
    make_store(&path)?;
    println!("{}: a disk with its partitions, and an empty store on `state`", path.display());
    Ok(())
}

/// The disk of `nx run`, made if there is none.
pub fn of_person(project: &Project) -> Result<PathBuf> {
    let path = project.path(DISK_FILE);
    if create(&path, PARTITIONS)? {
        make_store(&path)?;
        println!("Made a disk: {DISK_FILE}. It is kept from now on.");
    }
    Ok(path)
}

/// What is the matter with the disk of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nothing: it has its partitions, and one for tests.
    New,
    /// It holds nothing but zeroes.
    Empty,
    /// The first copy of its table is damaged.
    FirstCopyDamaged,
    /// Both copies of its table are damaged.
    Damaged,
    /// It is smaller than a table.
    Tiny,
    /// The partition `state` is too small.
    SmallState,
    /// The partition `state` holds nothing.
    BlankState,
    /// The partition `state` holds something that is no store.
    ForeignState,
    /// It was in another machine, whose identity it holds.
    ForeignIdentity,
    /// It holds the anchor of this machine's identity, and the key is gone.
    LostIdentity,
    /// It holds an identity that was made without a secret of the board.
    PlainIdentity,
    /// It holds an identity that is wrapped with [`BoardSecret::Own`].
    WrappedIdentity,
    /// An acknowledged value on the partition `state`, that of `/state/user/damaged`, has a flipped bit.
    DamagedValue,
}

/// A new disk for a run whose files are in this directory.
pub fn of_test(directory: &Path, condition: Condition) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let path = directory.join("disk.img");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be removed", path.display()));
        }
        _ => {}
    }
    let all: Vec<_> = PARTITIONS.iter().copied().chain([SCRATCH]).collect();
    match condition {
        Condition::SmallState => create(&path, &[(Partition::State, 16)])?,
        _ => create(&path, &all)?,
    };
    let last = (DISK_BLOCKS - 1) * BLOCK_BYTES as u64;
    match condition {
        Condition::New => make_store(&path)?,
        Condition::SmallState | Condition::BlankState => {}
        Condition::ForeignState => damage(&path, state_of(&path)?)?,
        Condition::DamagedValue => {
            make_store(&path)?;
            damage_value(&path)?;
        }
        Condition::ForeignIdentity => {
            make_store(&path)?;
            make_identity(&path, crate::identity::machine_id("elsewhere")?, None)?;
        }
        Condition::LostIdentity => {
            make_store(&path)?;
            make_identity(&path, MachineId::NONE, None)?;
            ImagePlaces::of(&path)?.forget_record()?;
        }
        Condition::PlainIdentity => {
            make_store(&path)?;
            make_identity(&path, MachineId::NONE, None)?;
        }
        Condition::WrappedIdentity => {
            make_store(&path)?;
            let secret = crate::identity::secret_in(&BoardSecret::Own.file(directory)?)?;
            make_identity(&path, MachineId::NONE, Some(&secret))?;
        }
        Condition::Empty => std::fs::write(&path, vec![0; mebibytes(1) as usize * BLOCK_BYTES])?,
        Condition::Tiny => std::fs::write(&path, vec![0; 64 * BLOCK_BYTES])?,
        Condition::FirstCopyDamaged => {
            make_store(&path)?;
            damage(&path, BLOCK_BYTES as u64)?;
        }
        Condition::Damaged => {
            damage(&path, BLOCK_BYTES as u64)?;
            damage(&path, last)?;
        }
    }
    Ok(path)
}

/// The identity of a machine that booted from this disk.
fn make_identity(path: &Path, machine: MachineId, secret: Option<&RootSecret>) -> Result<()> {
    let made = ::identity::open(&mut ImagePlaces::of(path)?, machine, secret);
    made.map(drop).map_err(no_identity)
}

fn no_identity(failure: Failure<anyhow::Error>) -> anyhow::Error {
    match failure {
        Failure::Place(error) => error,
        Failure::Refused(refusal) => anyhow::anyhow!("no identity on a new disk: {refusal:?}"),
    }
}

/// The disk as `nx statefs` sees it.
fn image(path: &Path) -> nx_statefs::Image {
    nx_statefs::Image { image: path.to_path_buf(), offset: None, length: None }
}

/// Makes an empty store on the partition `state` of a new disk.
fn make_store(path: &Path) -> Result<()> {
    nx_statefs::format(&image(path), false)
}

/// Where the partition `state` begins, in bytes.
fn state_of(path: &Path) -> Result<u64> {
    Ok(image(path).place()?.0)
}

/// Stores a value, and flips a bit of it.
fn damage_value(path: &Path) -> Result<()> {
    const VALUE: &[u8] = b"a value whose bits are counted";
    let value = path.with_extension("value");
    std::fs::write(&value, VALUE)?;
    let (image, key) = (image(path), "/state/user/damaged".to_string());
    let put = nx_statefs::Action::Put { image, key, file: Some(value) };
    nx_statefs::run(&nx_statefs::Arguments { action: put }, &mut std::io::sink())?;
    let mut disk = std::fs::read(path)?;
    let at = disk.windows(VALUE.len()).position(|bytes| bytes == VALUE).context("the value is not there")?;
    disk[at] ^= 1;
    Ok(std::fs::write(path, disk)?)
}

/// Spoils the header of a table, behind its signature; what stands elsewhere is no longer what it was either.
fn damage(path: &Path, at: u64) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(at + 60))?;
    Ok(file.write_all(&[0xff; 8])?)
}

/// Makes a disk; yields `false`, and changes nothing, where there is a file already.
fn create(path: &Path, wanted: &[(Partition, u64)]) -> Result<bool> {
    let named = || path.display().to_string();
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error).with_context(named),
    };
    let mut random = File::open("/dev/urandom").context("/dev/urandom")?;
    let mut seeds = vec![[0; 16]; wanted.len() + 1];
    for seed in &mut seeds {
        random.read_exact(seed).context("/dev/urandom")?;
    }
    let mut seeds = seeds.into_iter();
    let pieces = lay_out(DISK_BLOCKS, wanted, || seeds.next().unwrap_or_default())
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    file.set_len(DISK_BLOCKS * BLOCK_BYTES as u64).with_context(named)?;
    for (first, bytes) in pieces {
        file.seek(SeekFrom::Start(first * BLOCK_BYTES as u64)).with_context(named)?;
        file.write_all(&bytes).with_context(named)?;
    }
    file.sync_all().with_context(named)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_has_its_partitions_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        let all: Vec<_> = PARTITIONS.iter().copied().chain([SCRATCH]).collect();
        assert!(create(&path, &all).unwrap());
        let disk = std::fs::read(&path).unwrap();
        let table = partitions::read(disk.len() as u64 / BLOCK_BYTES as u64, |first, to| {
            to.copy_from_slice(&disk[first as usize * BLOCK_BYTES..][..to.len()]);
            Ok::<(), partitions::ReadError<()>>(())
        });
        let found: Vec<_> = table.unwrap().found.iter().map(|(partition, _)| *partition).collect();
        assert_eq!(found, Partition::ALL);
        assert!(!create(&path, PARTITIONS).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), disk);
    }

    #[test]
    fn the_disk_of_a_test_is_a_new_one_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = of_test(directory.path(), Condition::New).unwrap();
        assert!(nx_statefs::format(&image(&path), false).is_err(), "the store is there");
        std::fs::write(&path, b"left behind").unwrap();
        assert_eq!(of_test(directory.path(), Condition::New).unwrap(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), DISK_BLOCKS * BLOCK_BYTES as u64);
    }
}
