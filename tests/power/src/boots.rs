//! One boot of a machine in QEMU after the other, on one disk that the block server serves: driver, service, client
//! library and writer are those of the system. The power goes with a write or a flush that the seed names, and the
//! image is compared with what the writer was told.
//!
//! Two writers (`selftest-soak` with the boot arguments `state=SEED writers=2`) make the steps of a seed side by side, each
//! in keys of its own, and say on the console which was acknowledged. A line may be lost with the machine, so what is there may be what it was after any step
//! since the last that is known to be acknowledged, of each writer; it is nothing else.

use crate::look::{Model, difference, seen_by_nx, seen_by_python};
use anyhow::{Context, Result, anyhow, bail, ensure};
use identity::RECORD_KEY;
use journal::segment::{self, INDEX_KEY, SEGMENT_PREFIX};
use nx::console::Lines;
use nx::disk::{Condition, of_test};
use nx::guest::{Event, Guest};
use nx::image::Built;
use nx::qemu;
use nx_disk::{Cut, Disk, Ended, Flush, Plan, serve};
use selftest_soak::steps::{FOLDERS, Steps, apply};
use statefs_proofs::random::Random;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a unit, which is what a cut may tear.
const UNIT: u32 = 4096;
/// Steps of a writer whose power is not cut.
const STEPS: usize = 160;
/// A cut comes with one of so many first writes or flushes; a boot makes a few by itself.
const CUT_WITHIN: usize = 150;
/// Time that one boot may take, busy computers included.
const LIFE: Duration = Duration::from_secs(120);
/// Time without a line after which the console of a machine without a disk has said all.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Time after which it is looked whether the power has gone.
const LOOK: Duration = Duration::from_millis(50);
/// Harts of a machine, one boot after the other.
const HARTS: [usize; 2] = [1, 2];

/// The writers, as they name themselves.
const WRITERS: [&str; 2] = ["state", "second"];

/// A deliberate fault, which the comparison has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk says that it flushed, and did not.
    DiskDoesNotFlush,
    /// The driver completes a flush at once.
    DriverFlushesAtOnce,
    /// The service answers before the flush.
    ServiceAnswersEarly,
}

impl Fault {
    /// Every one.
    pub const ALL: [Fault; 3] =
        [Fault::DiskDoesNotFlush, Fault::DriverFlushesAtOnce, Fault::ServiceAnswersEarly];

    /// What it is, in words.
    pub fn about(self) -> &'static str {
        match self {
            Fault::DiskDoesNotFlush => "a disk that does not flush",
            Fault::DriverFlushesAtOnce => "a driver that completes flushes at once",
            Fault::ServiceAnswersEarly => "a service that answers before the flush",
        }
    }

    /// The boot argument that plants it, in an image whose programs have it.
    fn argument(self) -> &'static str {
        match self {
            Fault::DiskDoesNotFlush => "",
            Fault::DriverFlushesAtOnce => "mutant=early-flush",
            Fault::ServiceAnswersEarly => "mutant=early-answer",
        }
    }
}

/// What one boot showed, of both writers together.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// How the power went.
    pub ended: Ended,
    /// The steps that are known to be acknowledged.
    pub acknowledged: usize,
    /// The steps after which the store is as it was found.
    pub found: usize,
}

/// A disk, and what it must hold.
pub struct Boots {
    built: Built,
    folder: PathBuf,
    disk: PathBuf,
    fault: Option<Fault>,
    model: Model,
    /// The record of the device's identity, once there was one: it never changes.
    identity: Option<Vec<u8>>,
    random: Random,
    lives: usize,
}

impl Boots {
    /// A machine with an empty store. Its files are kept in `folder`.
    pub fn new(built: &Built, folder: &Path, seed: u64, fault: Option<Fault>) -> Result<Boots> {
        let (built, disk) = (built.clone(), of_test(folder, Condition::New)?);
        let (folder, random) = (folder.to_path_buf(), Random::new(seed));
        Ok(Boots { built, folder, disk, fault, model: Model::new(), identity: None, random, lives: 0 })
    }

    /// Boots, lets the writer work until the power is cut, and compares; an error tells which promise was broken.
    pub fn life(&mut self, with_python: bool) -> Result<Life> {
        let within = 1 + self.random.below(CUT_WITHIN) as u64;
        let cut = if self.random.one_in(2) { Cut::AtWrite(within) } else { Cut::AtFlush(within) };
        let plan = Plan { cut: Some(cut), seed: self.random.bits(), clients: Some(1) };
        let writer_seed = 1 + self.random.below(1 << 30) as u64;
        self.lives += 1;
        let told = format!("life {}: {plan:?}, writer {writer_seed}", self.lives);
        let (ended, acknowledged) = self.boot(plan, writer_seed).with_context(|| told.clone())?;
        let found = self.compare(writer_seed, acknowledged, with_python).with_context(|| told)?;
        Ok(Life { ended, acknowledged: acknowledged.iter().sum(), found })
    }

    /// One boot; how the power went, and the last step of each writer of which the console says that it was acknowledged.
    fn boot(&self, plan: Plan, writer_seed: u64) -> Result<(Ended, [usize; 2])> {
        let socket = self.folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let is_lying = self.fault == Some(Fault::DiskDoesNotFlush);
        let flush = if is_lying { Flush::DoesNothing } else { Flush::Honest };
        let mut disk = Disk::open(&self.disk, UNIT, flush)?;
        let server = std::thread::spawn(move || serve(&listener, &mut disk, &plan));
        let heard = self.listen(&socket, writer_seed, &server);
        // A server whose client never came would wait for it without end.
        drop(UnixStream::connect(&socket));
        let ended = server.join().map_err(|_| anyhow::anyhow!("the block server panicked"))??;
        Ok((ended, heard?))
    }

    fn listen(
        &self,
        socket: &Path,
        writer_seed: u64,
        server: &JoinHandle<std::io::Result<Ended>>,
    ) -> Result<[usize; 2]> {
        let served = format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", socket.display());
        let extra = ["-blockdev", &served, "-device", "virtio-blk-device,drive=disk", "-no-reboot"];
        let machine = qemu::Machine {
            harts: HARTS[self.lives % HARTS.len()],
            append: format!(
                "soak state={writer_seed} steps={STEPS} writers=2 {}",
                self.fault.map_or("", Fault::argument)
            ),
            extra: extra.map(str::to_string).to_vec(),
            ..qemu::Machine::new(&self.built)
        };
        let mut guest = Guest::start(&machine, &self.folder)?;
        let mut heard = Heard::default();
        let mut lines = Lines::default();
        let end = Instant::now() + LIFE;
        let mut last_words = None;
        loop {
            ensure!(Instant::now() < end, "the machine did not come to its end within {LIFE:?}");
            match guest.next(Instant::now() + LOOK) {
                Event::Bytes(bytes) => {
                    last_words = None;
                    lines.push(&bytes).iter().try_for_each(|line| heard.hear(line))?;
                    if heard.have_written == [true; 2] {
                        // All of it is written: this power goes without a cut.
                        return Ok(heard.acknowledged);
                    }
                }
                Event::Quiet if server.is_finished() => {
                    let until = *last_words.get_or_insert(Instant::now() + LAST_WORDS);
                    if Instant::now() >= until {
                        return Ok(heard.acknowledged);
                    }
                }
                Event::Quiet => {}
                Event::Ended(reason) => bail!("QEMU ended: {reason}"),
            }
        }
    }

    /// Demands that the image holds of each writer what was there after some step, none before the last acknowledged one;
    /// how many steps there are of both.
    fn compare(&mut self, writer_seed: u64, acknowledged: [usize; 2], with_python: bool) -> Result<usize> {
        let mut found = seen_by_nx(&self.disk)?;
        if with_python {
            let theirs = seen_by_python(&self.partition()?)?;
            ensure!(theirs == found, "the two readers disagree: {}", difference(&theirs, &found));
        }
        // What the journal keeps there is its own, and no power cut makes it refuse any of it.
        for (key, bytes) in found.iter().filter(|(key, _)| *key != INDEX_KEY) {
            let Some(place) = key.strip_prefix(SEGMENT_PREFIX) else { continue };
            segment::decode(place.parse()?, bytes).map_err(|refusal| anyhow!("{key}: {refusal}"))?;
        }
        found.retain(|key, _| !key.starts_with(SEGMENT_PREFIX));
        let identity = found.remove(RECORD_KEY);
        ensure!(self.identity.is_none() || self.identity == identity, "the identity is gone, or another");
        self.identity = identity;
        let steps = [Steps::new(writer_seed), Steps::second(writer_seed)];
        let mut sum = 0;
        for (place, (steps, acknowledged)) in steps.into_iter().zip(acknowledged).enumerate() {
            let (before, now) = (of_writer(&self.model, place), of_writer(&found, place));
            sum += after_some_step(before, &now, steps, acknowledged)
                .with_context(|| format!("writer `{}`", WRITERS[place]))?;
        }
        self.model = found;
        Ok(sum)
    }

    /// The partition `state` in a file of its own, as the reader in Python takes it.
    fn partition(&self) -> Result<PathBuf> {
        let image = nx_statefs::Image { image: self.disk.clone(), offset: None, length: None };
        let (offset, length) = image.place()?;
        let disk = std::fs::read(&self.disk)?;
        let end = length.map_or(disk.len(), |length| (offset + length) as usize);
        let path = self.folder.join("state.img");
        std::fs::write(&path, disk.get(offset as usize..end).context("the partition is not on the disk")?)?;
        Ok(path)
    }
}

/// What the console said.
#[derive(Default)]
struct Heard {
    /// The last step of each writer that is known to be acknowledged.
    acknowledged: [usize; 2],
    have_written: [bool; 2],
}

impl Heard {
    fn hear(&mut self, line: &str) -> Result<()> {
        let is_broken = ["soak: FAIL", "panic", "fault:"].iter().any(|word| line.contains(word));
        ensure!(!is_broken, "the machine said: {line}");
        for (place, writer) in WRITERS.iter().enumerate() {
            let Some((_, said)) = line.split_once(&format!("soak: {writer} ")) else { continue };
            match said.trim().parse() {
                Ok(number) => self.acknowledged[place] = number,
                Err(_) => self.have_written[place] |= said.starts_with("is written"),
            }
        }
        Ok(())
    }
}

/// What of a store one of the writers has written: the second one's folder lies in the first one's.
fn of_writer(all: &Model, place: usize) -> Model {
    let is_second = |key: &str| key.starts_with(FOLDERS[1]);
    let own = all.iter().filter(|(key, _)| is_second(key) == (place == 1));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The step after which what was there `before` is what was found, none before the last acknowledged one.
fn after_some_step(before: Model, found: &Model, steps: Steps, acknowledged: usize) -> Result<usize> {
    let mut state = before;
    let mut wanted = state.clone();
    for (number, step) in (0..=STEPS).zip(steps) {
        if number == acknowledged {
            wanted.clone_from(&state);
        }
        if number >= acknowledged && state == *found {
            return Ok(number);
        }
        apply(&mut state, &step);
    }
    bail!("step {acknowledged} was acknowledged and is not there: {}", difference(found, &wanted))
}
