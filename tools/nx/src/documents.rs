//! Pages that are printed from the sources, so that they cannot say anything else.
//!
//! Each page is one function from the repository to text. `--check` compares and writes nothing.

mod abi;
mod limits;
mod unsafe_code;

use crate::ladder::{LADDER_FILE, Ladder};
use crate::project::{Project, write_file};
use anyhow::{Result, ensure};

pub use unsafe_code::undocumented as undocumented_unsafe;

/// A page, with the command that writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The system calls, errors, kinds and rights.
    Abi,
    /// Every bound that the sources name.
    Limits,
    /// Every marker.
    Ladder,
    /// Every use of `unsafe`, with its reason.
    Unsafe,
}

/// Whether to write or to compare.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Write nothing; fail when the page is not current
    #[arg(long)]
    pub check: bool,
}

impl Page {
    /// Every page.
    pub const ALL: [Page; 4] = [Page::Abi, Page::Limits, Page::Ladder, Page::Unsafe];

    /// Where it stands.
    pub const fn path(self) -> &'static str {
        match self {
            Page::Abi => "docs/abi.md",
            Page::Limits => "docs/limits.md",
            Page::Ladder => "docs/testing/ladder.md",
            Page::Unsafe => "docs/unsafe.md",
        }
    }

    /// The subcommand of `nx` that writes it.
    pub const fn command(self) -> &'static str {
        match self {
            Page::Abi => "abi",
            Page::Limits => "limits",
            Page::Ladder => "ladder",
            Page::Unsafe => "unsafe",
        }
    }

    /// What it must say now.
    pub fn text(self, project: &Project) -> Result<String> {
        match self {
            Page::Abi => abi::page(project),
            Page::Limits => limits::page(project),
            Page::Ladder => Ok(Ladder::parse(&project.read(LADDER_FILE)?)?.document()),
            Page::Unsafe => unsafe_code::page(project),
        }
    }
}

/// Writes a page, or compares it.
pub fn run(project: &Project, page: Page, arguments: &Arguments) -> Result<()> {
    let text = page.text(project)?;
    if arguments.check {
        let present = project.read(page.path()).unwrap_or_default();
        ensure!(present == text, "{} is not current; `nx {}` writes it", page.path(), page.command());
        return Ok(());
    }
    write_file(&project.path(page.path()), text.as_bytes())?;
    println!("{} written", page.path());
    Ok(())
}
