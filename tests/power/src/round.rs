//! One life of the machine after the other, on one disk: power on, work, power off, comparison from outside.

use crate::look::{Model, difference, seen_by_nx, seen_by_python};
use crate::writer::value;
use anyhow::{Context, Result, bail, ensure};
use nx_disk::{Cut, Disk, Ended, Flush, Plan, serve};
use statefs::{Entropy, FileDevice, Geometry, Store};
use statefs_proofs::random::Random;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of a unit, which is what a cut may tear.
const UNIT: u32 = 4096;
/// Bytes of the disk: small, so that a run comes by checkpoints and compaction often.
const LENGTH: u64 = 3 << 20;
/// A cut comes with one of so many first writes or flushes.
const CUT_WITHIN: usize = 60;

/// A deliberate fault, which the comparison has to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Everything as it should be.
    #[default]
    None,
    /// The disk says that it flushed, and did not.
    FlushDoesNothing,
    /// The engine answers before the flush.
    AcknowledgedBeforeFlush,
}

/// What one life of the machine showed.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// How the power went.
    pub ended: Ended,
    /// Commits that were acknowledged.
    pub acknowledged: u64,
    /// Whether the commit that was under way is there.
    pub in_flight_applied: bool,
}

/// A disk, the program that writes to it, and what the disk must hold.
pub struct Machine {
    folder: tempfile::TempDir,
    writer: PathBuf,
    mutant: Mutant,
    model: Model,
    random: Random,
}

impl Machine {
    /// A machine with an empty store. `writer` is the program `power-soak`.
    pub fn new(writer: &Path, seed: u64, mutant: Mutant) -> Result<Machine> {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir()?;
        let mut device = FileDevice::create(&folder.path().join("image"), LENGTH)?;
        let geometry = Geometry::with_segment_units(LENGTH, UNIT, 32)?;
        Store::format(&mut device, geometry, Entropy([random.bits(), random.bits(), random.bits(), 1]))?;
        Ok(Machine { folder, writer: writer.to_owned(), mutant, model: Model::new(), random })
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Runs until the power is cut; an error tells which promise was broken. `with_python` lets the independent
    /// reader look as well.
    pub fn round(&mut self, with_python: bool) -> Result<Round> {
        let within = 1 + self.random.below(CUT_WITHIN) as u64;
        let cut = Some(if self.random.one_in(2) { Cut::AtWrite(within) } else { Cut::AtFlush(within) });
        let plan = Plan { cut, seed: self.random.bits(), clients: Some(1) };
        let writer_seed = self.random.bits();
        let (ended, told) = self.live(&plan, writer_seed)?;
        let heard = self.hear(&told)?;
        self.compare(heard, ended, with_python)
            .with_context(|| format!("{plan:?}, writer {writer_seed}, {ended:?}"))
    }

    /// Serves the disk to a writer until the power goes; what the writer said meanwhile.
    fn live(&self, plan: &Plan, writer_seed: u64) -> Result<(Ended, Vec<String>)> {
        let socket = self.folder.path().join("socket");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        let flush = match self.mutant {
            Mutant::FlushDoesNothing => Flush::DoesNothing,
            Mutant::None | Mutant::AcknowledgedBeforeFlush => Flush::Honest,
        };
        let mut disk = Disk::open(&self.image(), UNIT, flush)?;
        let mut command = Command::new(&self.writer);
        command.arg("writer").arg(&socket).arg(writer_seed.to_string());
        if self.mutant == Mutant::AcknowledgedBeforeFlush {
            command.arg("--acknowledges-early");
        }
        let mut writer = command.stdout(Stdio::piped()).spawn().context("the writer does not start")?;
        let said = writer.stdout.take().context("no pipe")?;
        let heard = std::thread::spawn(move || BufReader::new(said).lines().collect::<Result<_, _>>());
        let ended = serve(&listener, &mut disk, plan)?;
        let status = writer.wait()?;
        ensure!(status.success(), "the writer ended with {status}");
        let lines = heard.join().map_err(|_| anyhow::anyhow!("the pipe's reader panicked"))??;
        Ok((ended, lines))
    }

    /// Takes over what was acknowledged; returns how many commits, and the state with the one that was under way.
    fn hear(&mut self, told: &[String]) -> Result<(u64, Option<Model>)> {
        let (mut acknowledged, mut tried) = (0, self.model.clone());
        let mut under_way = false;
        for line in told {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["put", key, seed, length] => {
                    tried.insert(key.to_string(), value(seed.parse()?, length.parse()?));
                }
                ["delete", key] => drop(tried.remove(key)),
                ["commit"] => under_way = true,
                ["ok"] => {
                    self.model.clone_from(&tried);
                    (acknowledged, under_way) = (acknowledged + 1, false);
                }
                _ => bail!("the writer said {line:?}"),
            }
        }
        Ok((acknowledged, under_way.then_some(tried)))
    }

    fn compare(
        &mut self,
        (acknowledged, under_way): (u64, Option<Model>),
        ended: Ended,
        with_python: bool,
    ) -> Result<Round> {
        let found = seen_by_nx(&self.image())?;
        if with_python {
            let theirs = seen_by_python(&self.image())?;
            ensure!(theirs == found, "the two readers disagree: {}", difference(&theirs, &found));
        }
        let in_flight_applied = found != self.model && Some(&found) == under_way.as_ref();
        if found != self.model && !in_flight_applied {
            bail!("acknowledged is not there: {}", difference(&found, &self.model));
        }
        self.model = found;
        Ok(Round { ended, acknowledged, in_flight_applied })
    }
}
