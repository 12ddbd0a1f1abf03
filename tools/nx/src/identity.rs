//! `nx identity`: the identity of a device on its disk image, when the machine is off; and the id of the machine that
//! `nx run` boots.

use crate::project::{Project, write_file};
use ::identity::{
    ANCHOR_BYTES, ANCHOR_COPIES, Anchor, Copies, Finding, Identity, Kept, MachineId, NotOpened, Places,
    RECORD_BYTES, RECORD_KEY, ROOT_ITEM_BYTES, ROOT_ITEM_MAGIC, ROOT_SECRET_BYTES, RecordHead, Refusal,
    RootSecret, anchor_place, fingerprint, judge,
};
use anyhow::{Context, Result, bail, ensure};
use partitions::Partition;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the id of the machine of `nx run` is kept: beside its disk, and not on it.
const MACHINE_FILE: &str = "build/machine.id";
/// Where the secret of its board is kept.
const SECRET_FILE: &str = "build/machine.secret";

/// What to do with an identity.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Arguments {
    /// Tell whose identity a disk image holds, and whether it is in order
    Show {
        /// The disk image
        image: PathBuf,
        /// The id of the machine that it is for (that of the identity, when left out)
        #[arg(long)]
        machine: Option<String>,
        /// The file with the secret of its board
        #[arg(long)]
        secret: Option<PathBuf>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Give up an identity that is lost, damaged or of another machine: the next boot makes another
    Reset {
        /// The disk image
        image: PathBuf,
        /// The id of the machine that it is for (that of the identity, when left out)
        #[arg(long)]
        machine: Option<String>,
        /// The file with the secret of its board
        #[arg(long)]
        secret: Option<PathBuf>,
        /// Also one that is in order, or wrapped with a secret that is not given, whose key is gone then
        #[arg(long)]
        discard: bool,
    },
}

/// Does it.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match arguments {
        Arguments::Show { image, machine, secret, json } => {
            let secret = secret.as_deref().map(secret_in).transpose()?;
            let shown = shown(&mut ImagePlaces::of(image)?, machine.as_deref(), secret.as_ref())?;
            match json {
                true => writeln!(out, "{}", serde_json::to_string(&shown)?)?,
                false => write!(out, "{shown}")?,
            }
            Ok(())
        }
        Arguments::Reset { image, machine, secret, discard } => {
            let mut places = ImagePlaces::of(image)?;
            let secret = secret.as_deref().map(secret_in).transpose()?;
            let shown = shown(&mut places, machine.as_deref(), secret.as_ref())?;
            ensure!(shown.condition != "none", "{}: there is no identity", image.display());
            ensure!(
                *discard || !matches!(shown.condition, "whole" | "incomplete" | "wrapped"),
                "{}: the identity is in order, or needs its board's `--secret`; `--discard` gives it up all the same",
                image.display()
            );
            ::identity::reset(&mut places)?;
            Ok(writeln!(out, "{}: the identity is given up; the next boot makes another", image.display())?)
        }
    }
}

/// What an image holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Shown {
    /// `whole`; `incomplete`: its anchor is, which the next boot mends; `none`; `lost`, `foreign`, `damaged`; `wrapped`
    /// with a secret that was not given; `other-root`: the secret that was given does not open it.
    condition: &'static str,
    machine: Option<String>,
    fingerprint: Option<String>,
    public_key: Option<String>,
    root: &'static str,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
        writeln!(formatter, "condition    {}", self.condition)?;
        writeln!(formatter, "machine      {}", or_none(&self.machine))?;
        writeln!(formatter, "fingerprint  {}", or_none(&self.fingerprint))?;
        writeln!(formatter, "public key   {}", or_none(&self.public_key))?;
        writeln!(formatter, "root         {}", self.root)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id of a machine with this text.
pub fn machine_id(text: &str) -> Result<MachineId> {
    MachineId::new(text).ok().with_context(|| format!("`{text}` is no id of a machine"))
}

fn shown(places: &mut ImagePlaces, machine: Option<&str>, secret: Option<&RootSecret>) -> Result<Shown> {
    let (record, copies) = (places.record()?, places.anchors()?);
    let stored = match &record {
        Kept::Bytes(bytes) => match Identity::from_record(bytes, secret) {
            Ok(_) | Err(NotOpened::OtherRoot(_)) => RecordHead::of(bytes),
            Err(NotOpened::Damaged) => None,
        },
        _ => None,
    };
    let anchor =
        |head: RecordHead| Anchor { machine: head.machine, fingerprint: fingerprint(&head.public_key) };
    let mut anchors = copies.iter().flatten().filter_map(Anchor::from_bytes);
    // Where the key is gone, the anchor still says whose it was.
    let known = stored.map(anchor).or_else(|| anchors.next());
    let machine = match machine {
        Some(text) => machine_id(text)?,
        None => known.map_or(MachineId::NONE, |known| known.machine),
    };
    let condition = match judge(&record, &copies, machine, secret) {
        Ok(Finding::Whole(_)) => "whole",
        Ok(Finding::Unanchored(..)) => "incomplete",
        Ok(Finding::Blank) => "none",
        Err(Refusal::Lost) => "lost",
        Err(Refusal::Foreign) => "foreign",
        Err(Refusal::Damaged) => "damaged",
        Err(Refusal::OtherRoot) if secret.is_none() => "wrapped",
        Err(Refusal::OtherRoot) => "other-root",
    };
    Ok(Shown {
        condition,
        machine: known.map(|known| known.machine.as_str().to_string()).filter(|id| !id.is_empty()),
        fingerprint: known.map(|known| hexadecimal(&known.fingerprint)),
        public_key: stored.map(|head| hexadecimal(&head.public_key)),
        root: if stored.is_some_and(|head| head.is_wrapped) { "board" } else { "none" },
    })
}

/// The places of an identity on a disk image.
pub struct ImagePlaces {
    image: nx_statefs::Image,
    /// Where the copies of the anchor begin in the file.
    anchors: [u64; ANCHOR_COPIES],
}

impl ImagePlaces {
    /// Those on this image.
    pub fn of(image: &Path) -> Result<Self> {
        let name = || image.display().to_string();
        let found = nx_statefs::partition(image, Partition::Bootctl)?;
        let (begin, length) = found.with_context(|| format!("{}: no disk with partitions", name()))?;
        let mut anchors = [0; ANCHOR_COPIES];
        for (copy, place) in anchors.iter_mut().enumerate() {
            let within =
                anchor_place(length, copy).with_context(|| format!("{}: `bootctl` is too small", name()))?;
            *place = begin + within;
        }
        let image = nx_statefs::Image { image: image.to_path_buf(), offset: None, length: None };
        Ok(ImagePlaces { image, anchors })
    }
}

impl Places for ImagePlaces {
    type Error = anyhow::Error;

    fn random<const BYTES: usize>(&mut self) -> Result<Zeroizing<[u8; BYTES]>> {
        random()
    }

    fn record(&mut self) -> Result<Kept> {
        match nx_statefs::open(&self.image, false)?.get(RECORD_KEY.as_bytes()) {
            Ok(bytes) => Ok(Kept::Bytes(Zeroizing::new(bytes))),
            Err(statefs::Error::NotFound) => Ok(Kept::Absent),
            Err(statefs::Error::Corrupt | statefs::Error::Uncertain) => Ok(Kept::Damaged),
            Err(error) => bail!("{RECORD_KEY}: {error}"),
        }
    }

    fn keep_record(&mut self, record: &[u8; RECORD_BYTES]) -> Result<()> {
        let mut store = nx_statefs::open(&self.image, true)?;
        store.put(RECORD_KEY.as_bytes(), record).context(RECORD_KEY)?;
        store.seal().context("the store")
    }

    fn forget_record(&mut self) -> Result<()> {
        let mut store = nx_statefs::open(&self.image, true)?;
        match store.delete(RECORD_KEY.as_bytes()) {
            Ok(_) | Err(statefs::Error::NotFound) => store.seal().context("the store"),
            Err(error) => bail!("{RECORD_KEY}: {error}"),
        }
    }

    fn anchors(&mut self) -> Result<Copies> {
        let file = File::open(&self.image.image)?;
        Ok(self.anchors.map(|place| {
            let mut copy = [0; ANCHOR_BYTES];
            file.read_exact_at(&mut copy, place).is_ok().then_some(copy)
        }))
    }

    fn keep_anchor(&mut self, copy: usize, anchor: &[u8; ANCHOR_BYTES]) -> Result<()> {
        let place = self.anchors.get(copy).context("there is no such copy")?;
        let file = OpenOptions::new().write(true).open(&self.image.image)?;
        file.write_all_at(anchor, *place)?;
        Ok(file.sync_all()?)
    }
}

fn random<const BYTES: usize>() -> Result<Zeroizing<[u8; BYTES]>> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    File::open("/dev/urandom")?.read_exact(&mut *bytes).context("/dev/urandom")?;
    Ok(bytes)
}

/// The secret of a board that stands in this file.
pub fn secret_in(path: &Path) -> Result<RootSecret> {
    let read = Zeroizing::new(std::fs::read(path).with_context(|| format!("{}", path.display()))?);
    let item = read.as_slice().try_into().map(Zeroizing::new).ok();
    item.as_ref().and_then(RootSecret::from_item).with_context(|| {
        format!("{}: it is no secret of a board, which has {ROOT_ITEM_BYTES} bytes", path.display())
    })
}

/// The secret of a board on which a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoardSecret {
    /// That with which the identities on the disks of tests are wrapped.
    Own,
    /// Another one.
    Another,
    /// One that is too short to be any.
    Short,
}

impl BoardSecret {
    /// The file with it, in the directory of a run.
    pub fn file(self, directory: &Path) -> Result<PathBuf> {
        let (name, secret) = match self {
            BoardSecret::Own => ("own.secret", &[1; ROOT_SECRET_BYTES][..]),
            BoardSecret::Another => ("another.secret", &[2; ROOT_SECRET_BYTES][..]),
            BoardSecret::Short => ("short.secret", &[1; ROOT_SECRET_BYTES - 1][..]),
        };
        let path = directory.join(name);
        write_file(&path, &[&ROOT_ITEM_MAGIC, secret].concat())?;
        Ok(path)
    }
}

/// The machine of `nx run`.
pub struct Person {
    /// The boot argument that says its id.
    pub argument: String,
    /// The file with the secret of its board, if it has one.
    pub secret: Option<PathBuf>,
}

/// The machine of `nx run`. Its id and its secret are made together if there is no id: a machine that was begun without a
/// secret goes on without, for with one it would refuse its key.
pub fn of_person(project: &Project) -> Result<Person> {
    let (path, secret) = (project.path(MACHINE_FILE), project.path(SECRET_FILE));
    let id = match std::fs::read_to_string(&path) {
        Ok(id) => id.trim().to_string(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_secret(&secret)?;
            let id = format!("qemu-{}", hexadecimal(&*random::<16>()?));
            std::fs::write(&path, format!("{id}\n"))
                .with_context(|| format!("{} cannot be written", path.display()))?;
            id
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    machine_id(&id).with_context(|| path.display().to_string())?;
    let secret = match secret_in(&secret) {
        Ok(_) => Some(secret),
        Err(_) if !secret.try_exists()? => None,
        Err(error) => return Err(error),
    };
    Ok(Person { argument: format!("machine={id}"), secret })
}

/// Makes a file with a secret that only its owner can read; one that is there stays.
fn make_secret(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = random::<ROOT_SECRET_BYTES>()?;
            Ok(file.write_all(&Zeroizing::new([&ROOT_ITEM_MAGIC[..], &*secret].concat()))?)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be made", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Condition, of_test};

    fn said(arguments: Arguments) -> Result<String> {
        let mut out = Vec::new();
        run(&arguments, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    fn show(image: &Path, machine: Option<&str>) -> serde_json::Value {
        show_with(image, machine, None)
    }

    fn show_with(image: &Path, machine: Option<&str>, secret: Option<&Path>) -> serde_json::Value {
        let (machine, secret) = (machine.map(str::to_string), secret.map(Path::to_path_buf));
        let text = said(Arguments::Show { image: image.into(), machine, secret, json: true }).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn reset(image: &Path, machine: Option<&str>, discard: bool) -> Result<String> {
        let machine = machine.map(str::to_string);
        said(Arguments::Reset { image: image.into(), machine, secret: None, discard })
    }

    #[test]
    fn a_new_disk_holds_no_identity_and_one_that_is_made_there_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = of_test(directory.path(), Condition::New).unwrap();
        assert_eq!(show(&path, None)["condition"], "none");
        let before = std::fs::read(&path).unwrap();
        let made = ::identity::open(&mut ImagePlaces::of(&path).unwrap(), MachineId::NONE, None).unwrap();
        assert_ne!(std::fs::read(&path).unwrap(), before);
        let shown = show(&path, None);
        assert_eq!((&shown["condition"], &shown["machine"]), (&"whole".into(), &serde_json::Value::Null));
        assert_eq!(shown["public_key"], hexadecimal(&made.public_key()));
        assert_eq!(show(&path, Some("elsewhere"))["condition"], "foreign");
        let text = said(Arguments::Show { image: path, machine: None, secret: None, json: false }).unwrap();
        assert!(text.contains(&format!("fingerprint  {}\n", hexadecimal(&made.fingerprint()))), "{text}");
    }

    #[test]
    fn what_is_lost_or_of_another_machine_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        for (condition, machine, word) in
            [(Condition::LostIdentity, None, "lost"), (Condition::ForeignIdentity, Some("here"), "foreign")]
        {
            let path = of_test(directory.path(), condition).unwrap();
            assert_eq!(show(&path, machine)["condition"], word);
            reset(&path, machine, false).unwrap();
            assert_eq!(show(&path, machine)["condition"], "none");
        }
    }

    #[test]
    fn test_reject_giving_up_an_identity_that_is_in_order_unasked_and_one_that_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = of_test(directory.path(), Condition::New).unwrap();
        assert!(reset(&path, None, true).unwrap_err().to_string().contains("there is no identity"));
        ::identity::open(&mut ImagePlaces::of(&path).unwrap(), MachineId::NONE, None).unwrap();
        assert!(reset(&path, None, false).unwrap_err().to_string().contains("in order"));
        assert!(reset(&path, Some("a/b"), true).unwrap_err().to_string().contains("no id of a machine"));
        reset(&path, None, true).unwrap();
        assert_eq!(show(&path, None)["condition"], "none");
    }

    #[test]
    fn a_wrapped_identity_is_shown_to_whom_has_its_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = of_test(directory.path(), Condition::WrappedIdentity).unwrap();
        let secret = |secret: BoardSecret| secret.file(directory.path()).unwrap();
        let shown = show_with(&path, None, Some(&secret(BoardSecret::Own)));
        assert_eq!((&shown["condition"], &shown["root"]), (&"whole".into(), &"board".into()));
        let other = show_with(&path, None, Some(&secret(BoardSecret::Another)));
        assert_eq!((&other["condition"], &other["public_key"]), (&"other-root".into(), &shown["public_key"]));
        assert_eq!(show(&path, None)["condition"], "wrapped");
        assert_eq!(show(&path, Some("elsewhere"))["condition"], "foreign");
        assert!(reset(&path, None, false).unwrap_err().to_string().contains("--secret"));
        reset(&path, None, true).unwrap();
        assert_eq!(show(&path, None)["condition"], "none");
        assert!(
            secret_in(&secret(BoardSecret::Short))
                .err()
                .unwrap()
                .to_string()
                .contains("no secret of a board")
        );
    }

    #[test]
    fn nothing_of_the_seed_stands_on_the_disk_of_a_board_with_a_secret() {
        const SEED: [u8; 32] = *b"a seed that is found if it stood";
        let directory = tempfile::tempdir().unwrap();
        let (identity, secret) = (Identity::new(&SEED, MachineId::NONE), [1; ROOT_SECRET_BYTES]);
        let wrapped = identity.to_wrapped_record(&RootSecret::new(Zeroizing::new(secret)), &[5; 24]).unwrap();
        for (record, stands_there) in [(identity.to_record(), true), (wrapped, false)] {
            let path = of_test(directory.path(), Condition::New).unwrap();
            ImagePlaces::of(&path).unwrap().keep_record(&record).unwrap();
            let disk = std::fs::read(&path).unwrap();
            let written: Vec<u8> =
                disk.chunks(512).filter(|block| *block != [0; 512]).flatten().copied().collect();
            assert!(written.windows(32).any(|bytes| bytes == identity.public_key()));
            let parts: Vec<_> = SEED.windows(8).collect();
            assert_eq!(written.windows(8).any(|bytes| parts.contains(&bytes)), stands_there);
        }
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machine.secret");
        make_secret(&path).unwrap();
        let made = std::fs::read(&path).unwrap();
        make_secret(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), made);
        assert!(secret_in(&path).is_ok() && made[8..] != [0; ROOT_SECRET_BYTES]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
