//! A running QEMU whose console belongs to this program: bytes out, bytes in, the log on disk.

use crate::project::write_file;
use crate::qemu::Machine;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of output, of at most 4 KiB, that wait to be judged.
const PIECES_MAX: usize = 64;

/// What came from the console.
pub enum Event {
    /// More bytes.
    Bytes(Vec<u8>),
    /// Nothing until the deadline.
    Quiet,
    /// QEMU ended, with this word.
    Ended(String),
}

/// A running machine. It ends when this is dropped, and when this program ends in any way.
pub struct Guest {
    child: Child,
    output: Receiver<Vec<u8>>,
    input: Sender<Vec<u8>>,
    directory: PathBuf,
}

impl Guest {
    /// Boots a machine. `directory` gets `console.log` and `qemu.log`.
    pub fn start(machine: &Machine, directory: &Path) -> Result<Self> {
        let command = machine.command()?;
        let log = directory.join("console.log");
        write_file(&log, b"")?;
        let errors = File::create(directory.join("qemu.log"))
            .with_context(|| format!("{} cannot be written", directory.display()))?;
        // setpriv lets the kernel end QEMU with this program, however that ends.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(command.get_program())
            .args(command.get_args())
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("QEMU cannot be started (`nx doctor` tells what is missing)")?;
        let stdout = child.stdout.take().context("QEMU has no output")?;
        let stdin = child.stdin.take().context("QEMU has no input")?;
        let log = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        Ok(Guest {
            child,
            output: reader(stdout, log),
            input: writer(stdin),
            directory: directory.to_path_buf(),
        })
    }

    /// Waits for bytes until the deadline.
    pub fn next(&mut self, deadline: Instant) -> Event {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => Event::Bytes(bytes),
            Err(RecvTimeoutError::Timeout) => Event::Quiet,
            Err(RecvTimeoutError::Disconnected) => Event::Ended(self.last_words()),
        }
    }

    /// Types bytes; the machine takes them as fast as it can.
    pub fn type_bytes(&self, bytes: &[u8]) {
        // A writer that is gone means that QEMU is; the next event says so.
        let _ = self.input.send(bytes.to_vec());
    }

    fn last_words(&mut self) -> String {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let errors = fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
        if errors.trim().is_empty() { status } else { format!("{status}: {}", errors.trim()) }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(mut from: impl Read + Send + 'static, mut log: File) -> Receiver<Vec<u8>> {
    // A machine that prints faster than it is judged has to wait.
    let (sender, receiver) = sync_channel(PIECES_MAX);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = buffer[..length].to_vec();
            if log.write_all(&bytes).is_err() || sender.send(bytes).is_err() {
                break;
            }
        }
    });
    receiver
}

fn writer(mut to: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, receiver) = channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in receiver {
            if to.write_all(&bytes).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    });
    sender
}

/// The moment so many seconds from now.
pub fn after_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}
