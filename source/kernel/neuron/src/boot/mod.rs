//! From a machine whose memory is mapped to a kernel with its first process.
//!
//! The machine's own boot code (`arch`) finds RAM, sets up translation and lays out the tables; what
//! follows here is the same on every machine, and on the host.

pub mod device_tree;
mod init;

use crate::arch::Arch;
use crate::kernel::{Figures, Kernel, Storage};
use crate::memory::page_table::PageTable;
use crate::memory::{FrameNumber, Id, Memory};
use crate::object::Process;
use crate::object::account::Account;
use crate::object::capability::Table;
use crate::sync::Held;
use core::sync::atomic::Ordering::Relaxed;
use device_tree::{Range, TreeError};
use nexus_abi::image::ImageError;
use nexus_abi::limits::{PAGE_SIZE, THREADS_MAX};

pub use init::{Origin, start_init};

/// The least RAM with which anything useful can be started, in KiB, kernel and initial image apart.
pub const RAM_KIB_MIN: u64 = 8 * 1024;
/// One thread for this many frames of RAM, at most [`THREADS_MAX`].
const FRAMES_A_THREAD: u64 = 16;

/// Why the machine cannot be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The device tree lacks something.
    Tree(TreeError),
    /// There is too little RAM: KiB that are needed, KiB that are free.
    TooLittleRam {
        /// What the system needs at least.
        needed_kib: u64,
        /// What is left beside firmware, kernel and initial image.
        free_kib: u64,
    },
    /// The initial image is damaged.
    Image(ImageError),
    /// The initial image does not begin at a page.
    ImageUnaligned,
    /// The first program cannot be loaded.
    Init(nexus_abi::Error),
    /// The first program is no program for this machine.
    InitFormat(&'static str),
}

impl core::fmt::Display for BootError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BootError::Tree(error) => write!(formatter, "{error}"),
            BootError::TooLittleRam { needed_kib, free_kib } => write!(
                formatter,
                "too little RAM: {needed_kib} KiB are needed beside firmware, kernel and initial image, \
                 {free_kib} KiB are free",
            ),
            BootError::Image(error) => write!(formatter, "the initial image is damaged: {}", error.message()),
            BootError::ImageUnaligned => formatter.write_str("the initial image does not begin at a page"),
            BootError::Init(error) => write!(formatter, "nexus-init cannot be started: {error}"),
            BootError::InitFormat(what) => write!(formatter, "nexus-init cannot be loaded: {what}"),
        }
    }
}

/// Threads that a machine with so many frames can have.
pub fn threads_for(frames: u64) -> u64 {
    (frames / FRAMES_A_THREAD).clamp(16, THREADS_MAX as u64)
}

/// Places of the deadline heap of one hart: every thread, and as many timers.
pub fn deadlines_for(frames: u64) -> usize {
    2 * threads_for(frames) as usize
}

/// Gives the pool every frame that lies in none of the ranges; yields how many it has.
pub fn fill_pool(memory: &Memory, taken: &[Range]) -> u64 {
    // Frame 0 stands for "none" and is the firmware's on every machine; it is never handed out.
    for frame in (1..memory.frame_count()).rev() {
        let base = memory.address(frame).0;
        let end = base + PAGE_SIZE as u64;
        if taken.iter().all(|range| range.end <= base || end <= range.base) {
            memory.release(frame);
        }
    }
    memory.free_count().into()
}

/// Makes the kernel's own account, which holds all the pages that there are, and the kernel over it.
pub fn build<A: Arch>(
    arch: A,
    memory: Memory,
    kernel_root: FrameNumber,
    figures: Figures,
    storage: Storage,
) -> Result<Kernel<A>, BootError> {
    let free = u64::from(memory.free_count());
    let free_kib = free * PAGE_SIZE as u64 / 1024;
    if free_kib < RAM_KIB_MIN {
        return Err(BootError::TooLittleRam { needed_kib: RAM_KIB_MIN, free_kib });
    }
    let mut account = Account::new(free);
    let page_table = PageTable { root: kernel_root };
    let process = Process::new(Account::new(0), Table::default(), None, page_table);
    let root: Id<Process> = account.create(&memory, 0, process).map_err(BootError::Init)?;
    memory.info(Memory::frame_of(root.granule())).owner.store(root.granule(), Relaxed);
    let kernel = Kernel::new(arch, memory, root, figures, storage);
    if let Some((mut body, _)) = kernel.lock(&mut Held::at_entry(), root) {
        body.account = account;
    }
    if let Some(shared) = kernel.memory.shared(root) {
        shared.root.store(kernel_root, Relaxed);
        let space = kernel.arch.space(kernel.memory.address(kernel_root).0, 0);
        shared.space.store(space.0, Relaxed);
    }
    Ok(kernel)
}
