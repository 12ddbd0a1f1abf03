//! The page that every process begins with: who it is, and what it holds, by name.
//!
//! The creator of a process writes it into a `Vmo`, maps that read-only into the new process and hands
//! its address to the first thread in `a0`. There are no fixed handles: a capability is found by name.

use crate::capability::{Handle, Kind, Rights};
use crate::limits::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First word of a start page: "NXSTART" and the version of this layout.
pub const MAGIC: u64 = u64::from_le_bytes(*b"NXSTART\x01");
/// Bytes of a capability's name.
pub const NAME_BYTES: usize = 40;
/// Capabilities that fit.
pub const CAPABILITIES_MAX: usize = 56;
/// Bytes of the boot arguments.
pub const ARGUMENTS_BYTES: usize = 256;

/// A capability that the process begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NamedCapability {
    /// UTF-8, filled up with zeroes.
    pub name: [u8; NAME_BYTES],
    /// The handle in the new process's table.
    pub handle: Handle,
    /// Number of the [`Kind`].
    pub kind: u32,
    /// Bits of the [`Rights`].
    pub rights: u32,
}

/// The page.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartPage {
    /// [`MAGIC`].
    pub magic: u64,
    /// The process's service id.
    pub service_id: u64,
    /// Ticks of the clock a second.
    pub ticks_per_second: u64,
    /// First address of the range kept free for the heap.
    pub heap_base: u64,
    /// Bytes of that range; the heap may grow to it as far as the quota allows.
    pub heap_bytes: u64,
    /// Lowest address of the first thread's stack; the page below it is a guard.
    pub stack_base: u64,
    /// Bytes of the first thread's stack.
    pub stack_bytes: u64,
    /// Pages of the process's quota.
    pub quota_pages: u64,
    /// Its place in the call order.
    pub rank: u32,
    /// Calls that it can hold unanswered.
    pub open_calls_max: u32,
    /// How often it was started in this boot; the first start is 1.
    pub generation: u32,
    /// Valid entries of `capabilities`.
    pub capability_count: u32,
    /// The service's name: UTF-8, filled up with zeroes.
    pub name: [u8; NAME_BYTES],
    /// Boot arguments of the machine, or, for a process that somebody asked to run, what it was asked with:
    /// UTF-8, filled up with zeroes.
    pub arguments: [u8; ARGUMENTS_BYTES],
    /// What it holds.
    pub capabilities: [NamedCapability; CAPABILITIES_MAX],
}

const _: () = assert!(size_of::<StartPage>() <= PAGE_SIZE);

/// Why a capability could not be written into, or found in, a start page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPageError {
    /// All [`CAPABILITIES_MAX`] entries are taken.
    Full,
    /// The name is empty, longer than [`NAME_BYTES`], holds a zero, or is there already.
    BadName,
    /// No capability has this name.
    Missing,
    /// The capability of this name is of another kind.
    WrongKind,
}

impl StartPage {
    /// An empty page for a process of this name and service id.
    pub fn new(name: &str, service_id: u64) -> Self {
        let mut page: StartPage = zerocopy::FromZeros::new_zeroed();
        page.magic = MAGIC;
        page.service_id = service_id;
        write_text(&mut page.name, name);
        page
    }

    /// Adds a capability by name.
    pub fn add(
        &mut self,
        name: &str,
        handle: Handle,
        kind: Kind,
        rights: Rights,
    ) -> Result<(), StartPageError> {
        let fits = !name.is_empty() && name.len() <= NAME_BYTES && !name.contains('\0');
        if !fits || self.entry(name).is_some() {
            return Err(StartPageError::BadName);
        }
        let entry = self.capabilities.get_mut(self.capability_count as usize).ok_or(StartPageError::Full)?;
        write_text(&mut entry.name, name);
        entry.handle = handle;
        entry.kind = kind as u32;
        entry.rights = rights.bits();
        self.capability_count += 1;
        Ok(())
    }

    /// The handle of the capability with this name, which must be of this kind.
    pub fn find(&self, name: &str, kind: Kind) -> Result<Handle, StartPageError> {
        let entry = self.entry(name).ok_or(StartPageError::Missing)?;
        if entry.kind == kind as u32 { Ok(entry.handle) } else { Err(StartPageError::WrongKind) }
    }

    /// Every capability, with its name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &NamedCapability)> {
        self.capabilities.iter().take(self.capability_count as usize).map(|entry| (text(&entry.name), entry))
    }

    /// The process's name.
    pub fn name(&self) -> &str {
        text(&self.name)
    }

    /// The machine's boot arguments.
    pub fn arguments(&self) -> &str {
        text(&self.arguments)
    }

    /// Keeps as much of the boot arguments as fits.
    pub fn set_arguments(&mut self, arguments: &str) {
        write_text(&mut self.arguments, arguments);
    }

    fn entry(&self, name: &str) -> Option<&NamedCapability> {
        self.entries().find(|(other, _)| *other == name).map(|(_, entry)| entry)
    }
}

/// Copies as many whole characters as fit and fills the rest with zeroes.
fn write_text(bytes: &mut [u8], text: &str) {
    let mut length = text.len().min(bytes.len());
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    bytes.fill(0);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
}

/// The text before the first zero; bytes that are not UTF-8 end it.
fn text(bytes: &[u8]) -> &str {
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    match core::str::from_utf8(&bytes[..length]) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}
