//! `nx disk serve`: a disk image as a block device over a Unix socket (NBD), behind a volatile cache.
//!
//! A killed QEMU says little about lost power, because completed writes outlive it in the host's memory. Here they
//! live in this server's cache until they are flushed, and a cut drops, tears and reorders what is there. The same
//! seed and the same requests give the same image.
//!
//! Start reading at [`Disk`], then [`serve`]. [`Client`] is the other side, as a device for the engine.
#![forbid(unsafe_code)]

mod client;
mod disk;
mod server;
pub mod wire;

pub use client::Client;
pub use disk::{CACHE_SECTORS_MAX, Disk, Flush, Losses, SECTOR};
pub use server::{Cut, Ended, Plan, serve};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// What to do with a disk that is there.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Serve an image by NBD until the power is cut
    Serve(Serve),
}

/// `nx disk serve`
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The image, of whole sectors of 512 bytes
    pub image: PathBuf,
    /// The socket, which must not exist; QEMU takes it by
    /// `-blockdev driver=nbd,node-name=disk,server.type=unix,server.path=SOCKET`
    #[arg(long)]
    pub socket: PathBuf,
    /// Bytes that a cut tears at the most: a power of two
    #[arg(long, default_value_t = 4096)]
    pub unit: u32,
    /// What a flush does
    #[arg(long, value_enum, default_value_t)]
    pub flush: Flush,
    /// Cut the power with this write, counted from 1
    #[arg(long, value_name = "N", conflicts_with = "cut_at_flush", value_parser = clap::value_parser!(u64).range(1..))]
    pub cut_at_write: Option<u64>,
    /// Cut the power with this flush, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub cut_at_flush: Option<u64>,
    /// Decides what the cut leaves
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End when so many clients have gone
    #[arg(long)]
    pub clients: Option<u64>,
}

/// A socket that is gone when its server is.
struct Socket<'a>(&'a Path);

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// Does what was asked for; what a person should read goes to `output`.
pub fn run(action: &Action, output: &mut impl Write) -> Result<()> {
    let Action::Serve(serve_arguments) = action;
    let Serve { image, socket, unit, flush, cut_at_write, cut_at_flush, seed, clients } = serve_arguments;
    let mut disk =
        Disk::open(image, *unit, *flush).with_context(|| format!("cannot serve `{}`", image.display()))?;
    let listener = UnixListener::bind(socket).with_context(|| {
        format!("cannot make the socket `{}`: is another server there?", socket.display())
    })?;
    let _socket = Socket(socket);
    let cut = cut_at_write.map(Cut::AtWrite).or(cut_at_flush.map(Cut::AtFlush));
    writeln!(output, "disk: {} bytes at {}", disk.length(), socket.display())?;
    output.flush()?;
    match serve(&listener, &mut disk, &Plan { cut, seed: *seed, clients: *clients })? {
        Ended::Cut(Losses { landed, dropped, torn }) => {
            writeln!(output, "disk: power cut; units landed {landed}, dropped {dropped}, torn {torn}")?;
        }
        Ended::ClientsGone => writeln!(output, "disk: the clients have gone; what was not flushed is lost")?,
    }
    Ok(())
}
