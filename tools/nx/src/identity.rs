//! `nx identity`: the identity of a device on its disk image, when the machine is off; and the id of the machine that
//! `nx run` boots.

use crate::project::Project;
use ::identity::{
    ANCHOR_BYTES, ANCHOR_COPIES, Anchor, Copies, Finding, Identity, Kept, MachineId, Places, RECORD_BYTES,
    RECORD_KEY, Refusal, SEED_BYTES, anchor_place, judge,
};
use anyhow::{Context, Result, bail, ensure};
use partitions::Partition;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the id of the machine of `nx run` is kept: beside its disk, and not on it.
const MACHINE_FILE: &str = "build/machine.id";

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
        /// Also one that is in order, whose key is gone then
        #[arg(long)]
        discard: bool,
    },
}

/// Does it.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match arguments {
        Arguments::Show { image, machine, json } => {
            let shown = shown(&mut ImagePlaces::of(image)?, machine.as_deref())?;
            match json {
                true => writeln!(out, "{}", serde_json::to_string(&shown)?)?,
                false => write!(out, "{shown}")?,
            }
            Ok(())
        }
        Arguments::Reset { image, machine, discard } => {
            let mut places = ImagePlaces::of(image)?;
            let shown = shown(&mut places, machine.as_deref())?;
            ensure!(shown.condition != "none", "{}: there is no identity", image.display());
            ensure!(
                *discard || !matches!(shown.condition, "whole" | "incomplete"),
                "{}: the identity is in order; `--discard` gives it up all the same",
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
    /// `whole`; `incomplete`: its anchor is, which the next boot mends; `none`; `lost`, `foreign`, `damaged`.
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

fn shown(places: &mut ImagePlaces, machine: Option<&str>) -> Result<Shown> {
    let (record, copies) = (places.record()?, places.anchors()?);
    let stored = match &record {
        Kept::Bytes(bytes) => Identity::from_record(bytes),
        _ => None,
    };
    let mut anchors = copies.iter().flatten().filter_map(Anchor::from_bytes);
    // Where the key is gone, the anchor still says whose it was.
    let known = stored.as_ref().map(Identity::anchor).or_else(|| anchors.next());
    let machine = match machine {
        Some(text) => machine_id(text)?,
        None => known.map_or(MachineId::NONE, |known| known.machine),
    };
    let condition = match judge(&record, &copies, machine) {
        Ok(Finding::Whole(_)) => "whole",
        Ok(Finding::Unanchored(..)) => "incomplete",
        Ok(Finding::Blank) => "none",
        Err(Refusal::Lost) => "lost",
        Err(Refusal::Foreign) => "foreign",
        Err(Refusal::Damaged) => "damaged",
    };
    Ok(Shown {
        condition,
        machine: known.map(|known| known.machine.as_str().to_string()).filter(|id| !id.is_empty()),
        fingerprint: known.map(|known| hexadecimal(&known.fingerprint)),
        public_key: stored.map(|identity| hexadecimal(&identity.public_key())),
        root: "none",
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

    fn seed(&mut self) -> Result<Zeroizing<[u8; SEED_BYTES]>> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        File::open("/dev/urandom")?.read_exact(&mut *seed).context("/dev/urandom")?;
        Ok(seed)
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

/// The boot argument that says the id of the machine of `nx run`, which is made if there is none.
pub fn argument_of_person(project: &Project) -> Result<String> {
    let path = project.path(MACHINE_FILE);
    let id = match std::fs::read_to_string(&path) {
        Ok(id) => id.trim().to_string(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut random = [0; 16];
            File::open("/dev/urandom")?.read_exact(&mut random).context("/dev/urandom")?;
            let id = format!("qemu-{}", hexadecimal(&random));
            std::fs::write(&path, format!("{id}\n"))
                .with_context(|| format!("{} cannot be written", path.display()))?;
            id
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    machine_id(&id).with_context(|| path.display().to_string())?;
    Ok(format!("machine={id}"))
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
        let machine = machine.map(str::to_string);
        let text = said(Arguments::Show { image: image.into(), machine, json: true }).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn reset(image: &Path, machine: Option<&str>, discard: bool) -> Result<String> {
        said(Arguments::Reset { image: image.into(), machine: machine.map(str::to_string), discard })
    }

    #[test]
    fn a_new_disk_holds_no_identity_and_one_that_is_made_there_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = of_test(directory.path(), Condition::New).unwrap();
        assert_eq!(show(&path, None)["condition"], "none");
        let before = std::fs::read(&path).unwrap();
        let made = ::identity::open(&mut ImagePlaces::of(&path).unwrap(), MachineId::NONE).unwrap();
        assert_ne!(std::fs::read(&path).unwrap(), before);
        let shown = show(&path, None);
        assert_eq!((&shown["condition"], &shown["machine"]), (&"whole".into(), &serde_json::Value::Null));
        assert_eq!(shown["public_key"], hexadecimal(&made.public_key()));
        assert_eq!(show(&path, Some("elsewhere"))["condition"], "foreign");
        let text = said(Arguments::Show { image: path, machine: None, json: false }).unwrap();
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
        ::identity::open(&mut ImagePlaces::of(&path).unwrap(), MachineId::NONE).unwrap();
        assert!(reset(&path, None, false).unwrap_err().to_string().contains("in order"));
        assert!(reset(&path, Some("a/b"), true).unwrap_err().to_string().contains("no id of a machine"));
        reset(&path, None, true).unwrap();
        assert_eq!(show(&path, None)["condition"], "none");
    }
}
