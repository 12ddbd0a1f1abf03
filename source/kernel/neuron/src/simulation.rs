//! A kernel for a simulator: the portable core over memory and a machine that somebody else plays.
//!
//! What it is: one hart of one kernel, entered as traps enter it. Whoever runs programs asks
//! [`Simulation::choose`] which thread runs, lets it go on up to its next system call, puts the call's
//! registers into its context and enters [`Simulation::system_call`].
//! What it is not: it runs no program and knows no device; and unlike `testing` it schedules by the
//! kernel's own run queues and reaches into nothing.
#![allow(unsafe_code)] // it lends the kernel memory that is not there for ever

use crate::arch::Arch;
use crate::boot::device_tree::Range;
use crate::boot::{self, BootError, Origin};
use crate::deadline::Entry;
use crate::fault::Fault;
use crate::kernel::{Figures, Hart, Kernel, LINES_MAX, Storage};
use crate::memory::frame::FrameInfo;
use crate::memory::slab::GRANULES;
use crate::memory::{Granule, Id, Memory, PhysicalAddress};
use crate::object::mapping::Shows;
use crate::object::thread::{Context, State};
use crate::object::{Mapping, Process, Thread};
use crate::ring::RING_BYTES;
use crate::sync::{Held, Nothing};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use nexus_abi::image::Image;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::records::{CapabilityInfo, ProcessStatus, STATE_KILLED};
use nexus_abi::{Error, Kind, Rights};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// Where RAM begins.
pub const RAM_BASE: u64 = 0x8000_0000;

/// A kernel and its one hart.
pub struct Simulation<A: Arch + 'static> {
    kernel: Box<Kernel<A>>,
    hart: Hart,
    held: Held<'static, Nothing>,
    // After the kernel, which refers to it: fields are dropped in order.
    _storage: Lent,
}

/// What the kernel takes for memory that is there for ever.
struct Lent {
    infos: *mut [FrameInfo],
    deadlines: *mut [Entry],
    ring: *mut [u8; RING_BYTES],
    lines: *mut [AtomicU64; LINES_MAX],
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: each came from `Box::into_raw`, and the kernel that used them is dropped before.
        unsafe {
            drop(Box::from_raw(self.infos));
            drop(Box::from_raw(self.deadlines));
            drop(Box::from_raw(self.ring));
            drop(Box::from_raw(self.lines));
        }
    }
}

/// RAM that somebody lends the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Ram {
    /// Where it is seen.
    pub window: *mut u8,
    /// Frames of it.
    pub frames: usize,
    /// The frames at its end that hold the initial image.
    pub image_frames: usize,
}

/// Who a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number in this boot.
    pub process_id: u64,
    /// Its service id.
    pub service_id: u64,
    /// Its address space's number.
    pub asid: u16,
    /// Whether it has ended.
    pub ended: bool,
}

/// A range of a process's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// What it allows.
    pub rights: Rights,
    /// Whether it shows a device's registers.
    pub registers: bool,
}

/// What must come back to what it was, of the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Pages that are populated, the kernel's own included.
    pub used_pages: u64,
    /// Live threads.
    pub threads: u64,
    /// Processes that exist.
    pub processes: u64,
    /// Messages delivered so far.
    pub messages: u64,
}

/// A wait that should have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Whose it is.
    pub process: Id<Process>,
    /// Whether it is a call that waits, delivered or not.
    pub calls: bool,
    /// When it ends, in ticks.
    pub deadline: u64,
}

impl<A: Arch + 'static> Simulation<A> {
    /// Builds a kernel over RAM and starts the first process out of the initial image at its end.
    ///
    /// # Safety
    /// The window must be valid for reads and writes of all its frames for as long as this lives, and other
    /// views of it must belong to the processes whose memory they show.
    pub unsafe fn boot(arch: A, ram: Ram, tree: &[u8], arguments: &str) -> Result<Self, BootError> {
        let Ram { window, frames, image_frames } = ram;
        let infos: Box<[FrameInfo]> = (0..frames).map(|_| FrameInfo::default()).collect();
        let lent = Lent {
            infos: Box::into_raw(infos),
            deadlines: Box::into_raw(vec![Entry::EMPTY; boot::deadlines_for(frames as u64)].into()),
            ring: Box::into_raw(Box::new([0; RING_BYTES])),
            lines: Box::into_raw(Box::new([const { AtomicU64::new(0) }; LINES_MAX])),
        };
        // SAFETY: `lent` outlives the kernel, and hands each out once.
        let (memory, storage) = unsafe {
            let storage = Storage {
                harts: 1,
                deadlines: &mut *lent.deadlines,
                ring: &mut *lent.ring,
                lines: &*lent.lines,
            };
            (Memory::new(window, RAM_BASE, &*lent.infos), storage)
        };
        let image_base = RAM_BASE + ((frames - image_frames) * PAGE_SIZE) as u64;
        let image_range = Range { base: image_base, end: RAM_BASE + (frames * PAGE_SIZE) as u64 };
        let free = boot::fill_pool(&memory, &[image_range]);
        let figures = Figures {
            boot_ticks: arch.now(),
            ram_pages: frames as u64,
            kernel_pages: (frames as u64).saturating_sub(free),
            threads_max: boot::threads_for(frames as u64),
            harts: 1,
            print_origin: arguments.split_ascii_whitespace().any(|word| word == "console.origin=1"),
        };
        arch.set_timer(u64::MAX);
        let kernel = Box::new(boot::build(arch, memory, 0, figures, storage)?);
        kernel.counters.harts_online.store(1, Relaxed);
        kernel.entrance.admit();
        let (mut hart, mut held) = (Hart::new(0), Held::at_entry());
        // Of one hart it makes no difference that it is inside also while programs run.
        kernel.come_in(&mut hart, &mut held);
        let mut simulation = Simulation { kernel, hart, held, _storage: lent };
        // SAFETY: the image's frames lie in the window (the caller's word) and never go to the pool.
        let image = unsafe {
            let start = window.wrapping_add((frames - image_frames) * PAGE_SIZE);
            core::slice::from_raw_parts(start, image_frames * PAGE_SIZE)
        };
        let image = Image::open(image).map_err(BootError::Image)?;
        let first = simulation.kernel.memory.frame(PhysicalAddress(image_base));
        let image_frames = (first.ok_or(BootError::ImageUnaligned)?, image_frames);
        let origin = Origin { image, image_frames, tree, arguments };
        boot::start_init(&simulation.kernel, &mut simulation.hart, &mut simulation.held, &origin)?;
        Ok(simulation)
    }

    /// The machine.
    pub fn arch(&self) -> &A {
        &self.kernel.arch
    }

    /// The thread that runs next; `None` when nothing can be done before the next interrupt.
    pub fn choose(&mut self) -> Option<Id<Thread>> {
        let chosen = self.kernel.choose(&mut self.hart, &mut self.held);
        if chosen.is_none() {
            self.kernel.set_timer(&mut self.hart);
        }
        chosen
    }

    /// Waits, as the machine does it, for an interrupt, and takes it.
    pub fn idle(&mut self) {
        self.kernel.idle(&mut self.hart, &mut self.held);
    }

    /// Takes whatever interrupts are pending, as between two instructions of the thread that runs.
    pub fn take_interrupts(&mut self) {
        self.kernel.take_interrupts(&mut self.hart, &mut self.held);
    }

    /// Does the system call that the running thread's registers ask for.
    pub fn system_call(&mut self) {
        self.kernel.enter(&mut self.hart, &mut self.held);
    }

    /// The running thread faults.
    pub fn fault(&mut self, fault: Fault) {
        self.kernel.user_fault(&mut self.hart, &mut self.held, fault);
    }

    /// Ends a process from outside, as its manager could at any moment.
    pub fn kill(&mut self, process: Id<Process>, code: u64) {
        let running = self.hart.current.filter(|&thread| self.process_of(thread) == Some(process));
        if let Some(thread) = running
            && let Some((mut body, _)) = self.kernel.lock(&mut self.held, thread)
        {
            self.kernel.stop_running(&mut self.hart, &mut body);
        }
        let (mut structure, mut held) = self.kernel.structure(&mut self.held);
        self.kernel.end_process(&mut structure, &mut held, process, STATE_KILLED, code);
    }

    /// Does something with a live thread's registers.
    pub fn context<R>(&mut self, thread: Id<Thread>, look: impl FnOnce(&mut Context) -> R) -> Option<R> {
        self.kernel.lock(&mut self.held, thread).map(|(mut body, _)| look(&mut body.context))
    }

    /// Whose a thread is; `None` once it is gone.
    pub fn process_of(&mut self, thread: Id<Thread>) -> Option<Id<Process>> {
        self.kernel.lock(&mut self.held, thread).map(|(body, _)| body.process)
    }

    /// Who a process is; `None` once it is gone.
    pub fn identity(&self, process: Id<Process>) -> Option<Identity> {
        let shared = self.kernel.memory.shared(process)?;
        Some(Identity {
            process_id: shared.process_id.load(Relaxed),
            service_id: shared.service_id.load(Relaxed),
            asid: shared.asid.load(Relaxed) as u16,
            ended: shared.has_ended(),
        })
    }

    /// Every process that exists, by number.
    pub fn processes(&mut self) -> Vec<Id<Process>> {
        let (structure, _) = self.kernel.structure(&mut self.held);
        structure.processes.iter(&self.kernel.memory).collect()
    }

    /// The figures of a process.
    pub fn status(&mut self, process: Id<Process>) -> Option<ProcessStatus> {
        self.kernel.status_of(&mut self.held, process)
    }

    /// Every capability of a process.
    pub fn capabilities(&mut self, process: Id<Process>) -> Vec<CapabilityInfo> {
        let mut found = Vec::new();
        let memory = &self.kernel.memory;
        for page in 0.. {
            let frame =
                self.kernel.lock(&mut self.held, process).and_then(|(body, _)| body.table.page(memory, page));
            let Some(frame) = frame else { break };
            for place in 0..GRANULES {
                let granule: Granule = Memory::first_granule(frame) + place;
                let Some(capability) = memory.capability_slot(granule).read(granule) else { continue };
                let gone = || CapabilityInfo { kind: capability.kind as u32, ..CapabilityInfo::default() };
                found.push(self.kernel.describe(&mut self.held, &capability).unwrap_or_else(gone));
            }
        }
        found
    }

    /// The ranges of a process's addresses.
    pub fn regions(&mut self, process: Id<Process>) -> Vec<Region> {
        let Some((body, _)) = self.kernel.lock(&mut self.held, process) else { return Vec::new() };
        let mappings: Vec<Id<Mapping>> = body.regions.iter(&self.kernel.memory).collect();
        drop(body);
        let region = |id: Id<Mapping>| {
            let (base, bytes) =
                self.kernel.memory.shared(id).map(|shared| (shared.base(), shared.bytes()))?;
            let (body, _) = self.kernel.lock(&mut self.held, id)?;
            let registers = matches!(body.shows, Shows::Registers(_));
            Some(Region { base, bytes, rights: body.rights, registers })
        };
        mappings.into_iter().filter_map(region).collect()
    }

    /// Where a page of a process's memory is, populated if it was promised.
    pub fn page(
        &mut self,
        process: Id<Process>,
        address: u64,
        access: Rights,
    ) -> Result<PhysicalAddress, Error> {
        self.kernel.touch(&mut self.held.above(), process, address, access)
    }

    /// Copies bytes out of a process's memory.
    pub fn read(&mut self, process: Id<Process>, address: u64, to: &mut [u8]) -> Result<(), Error> {
        self.kernel.read_user(&mut self.held.above(), process, address, to)
    }

    /// Copies bytes into a process's memory.
    pub fn write(&mut self, process: Id<Process>, address: u64, from: &[u8]) -> Result<(), Error> {
        self.kernel.write_user(&mut self.held.above(), process, address, from)
    }

    /// The process that a handle of another names; no handle means that one itself.
    pub fn named(&mut self, holder: Id<Process>, handle: u64) -> Option<Id<Process>> {
        if handle == 0 {
            return Some(holder);
        }
        let shared = self.kernel.memory.shared(holder)?;
        let capability =
            self.kernel.memory.capability(shared, handle, Kind::Process, Rights::empty()).ok()?;
        Id::from_raw(capability.object)
    }

    /// What must come back to what it was.
    pub fn totals(&mut self) -> Totals {
        let limit = self.kernel.lock(&mut self.held, self.kernel.root).map_or(0, |(b, _)| b.account.limit);
        let counters = &self.kernel.counters;
        Totals {
            used_pages: limit.saturating_sub(self.kernel.memory.free_count().into()),
            threads: counters.threads.load(Relaxed),
            processes: counters.processes.load(Relaxed),
            messages: counters.messages.load(Relaxed),
        }
    }

    /// What a thread waits for, if it waits.
    pub fn wait(&mut self, thread: Id<Thread>) -> Option<Wait> {
        let (body, _) = self.kernel.lock(&mut self.held, thread)?;
        let calls = matches!(body.state, State::Calling(_) | State::Called);
        (!matches!(body.state, State::Ready | State::Ended)).then_some(Wait {
            process: body.process,
            calls,
            deadline: body.deadline,
        })
    }
}
