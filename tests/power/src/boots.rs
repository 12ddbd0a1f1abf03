//! One boot of a machine in QEMU after the other, on one disk that the block server serves: driver, service, client
//! library and writer are those of the system. The power goes with a write or a flush that the seed names, and the
//! image is compared with what the writer was told.
//!
//! The writer (`selftest-soak` with the boot argument `state=SEED`) makes the steps of its seed and says on the console
//! which was acknowledged. A line may be lost with the machine, so what is there may be what it was after any step
//! since the last that is known to be acknowledged; it is nothing else.

use crate::look::{Model, difference, seen_by_nx, seen_by_python};
use anyhow::{Context, Result, anyhow, bail, ensure};
use journal::segment::{self, INDEX_KEY, SEGMENT_PREFIX};
use nx::console::Lines;
use nx::disk::{Condition, of_test};
use nx::guest::{Event, Guest};
use nx::image::Built;
use nx::qemu;
use nx_disk::{Cut, Disk, Ended, Flush, Plan, serve};
use selftest_soak::steps::{Steps, apply};
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

/// What one boot showed.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// How the power went.
    pub ended: Ended,
    /// The last step that is known to be acknowledged.
    pub acknowledged: usize,
    /// The step after which the store is as it was found.
    pub found: usize,
}

/// A disk, and what it must hold.
pub struct Boots {
    built: Built,
    folder: PathBuf,
    disk: PathBuf,
    flush: Flush,
    model: Model,
    random: Random,
    lives: usize,
}

impl Boots {
    /// A machine with an empty store. Its files are kept in `folder`.
    pub fn new(built: &Built, folder: &Path, seed: u64, flush: Flush) -> Result<Boots> {
        let (built, disk) = (built.clone(), of_test(folder, Condition::New)?);
        let (folder, random) = (folder.to_path_buf(), Random::new(seed));
        Ok(Boots { built, folder, disk, flush, model: Model::new(), random, lives: 0 })
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
        Ok(Life { ended, acknowledged, found })
    }

    /// One boot; how the power went, and the last step of which the console says that it was acknowledged.
    fn boot(&self, plan: Plan, writer_seed: u64) -> Result<(Ended, usize)> {
        let socket = self.folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let mut disk = Disk::open(&self.disk, UNIT, self.flush)?;
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
    ) -> Result<usize> {
        let served = format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", socket.display());
        let extra = ["-blockdev", &served, "-device", "virtio-blk-device,drive=disk", "-no-reboot"];
        let machine = qemu::Machine {
            harts: HARTS[self.lives % HARTS.len()],
            append: format!("soak state={writer_seed} steps={STEPS}"),
            extra: extra.map(str::to_string).to_vec(),
            ..qemu::Machine::new(&self.built)
        };
        let mut guest = Guest::start(&machine, &self.folder)?;
        let (mut lines, mut acknowledged) = (Lines::default(), 0);
        let end = Instant::now() + LIFE;
        let mut last_words = None;
        loop {
            ensure!(Instant::now() < end, "the machine did not come to its end within {LIFE:?}");
            match guest.next(Instant::now() + LOOK) {
                Event::Bytes(bytes) => {
                    last_words = None;
                    for line in lines.push(&bytes) {
                        let is_broken =
                            ["soak: FAIL", "panic", "fault:"].iter().any(|word| line.contains(word));
                        ensure!(!is_broken, "the machine said: {line}");
                        let Some((_, said)) = line.split_once("soak: state ") else { continue };
                        match said.trim().parse() {
                            Ok(number) => acknowledged = number,
                            // All of it is written: this power goes without a cut.
                            Err(_) if said.starts_with("is written") => return Ok(acknowledged),
                            Err(_) => {}
                        }
                    }
                }
                Event::Quiet if server.is_finished() => {
                    let until = *last_words.get_or_insert(Instant::now() + LAST_WORDS);
                    if Instant::now() >= until {
                        return Ok(acknowledged);
                    }
                }
                Event::Quiet => {}
                Event::Ended(reason) => bail!("QEMU ended: {reason}"),
            }
        }
    }

    /// Demands that the image holds what was there after some step, none before the last acknowledged one; which.
    fn compare(&mut self, writer_seed: u64, acknowledged: usize, with_python: bool) -> Result<usize> {
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
        let mut state = self.model.clone();
        let mut wanted = state.clone();
        for (number, step) in (0..=STEPS).zip(Steps::new(writer_seed)) {
            if number == acknowledged {
                wanted.clone_from(&state);
            }
            if number >= acknowledged && state == found {
                self.model = found;
                return Ok(number);
            }
            apply(&mut state, &step);
        }
        bail!("step {acknowledged} was acknowledged and is not there: {}", difference(&found, &wanted))
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
