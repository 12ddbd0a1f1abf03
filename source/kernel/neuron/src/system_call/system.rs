//! The kernel's ring, the machine's figures, reset.

use super::{Outcome, Request};
use crate::arch::Arch;
use crate::kernel::Kernel;
use crate::memory::slab::GRANULES;
use crate::memory::{Id, Memory};
use crate::object::Process;
use crate::object::capability::Capability;
use crate::ring::ReadError;
use crate::sync::{Held, Nothing};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{RING_TEXT_MAX, TRANSFER_BYTES_MAX};
use nexus_abi::records::{CapabilityInfo, RingLevel, SystemInfo};
use nexus_abi::{Error, Handle, Kind, Rights};

/// Entries of a table that one step looks at.
const ENTRIES_A_STEP: u64 = 64;
/// Bytes of the ring that are read before a look at interrupts.
const RING_BYTES_A_STEP: usize = 2 * RING_TEXT_MAX;

impl<A: Arch> Kernel<A> {
    fn control(&self, request: &Request<'_, '_, '_>, right: Rights) -> Result<(), Error> {
        let handle = request.arguments[0];
        self.memory.capability(request.caller.shared, handle, Kind::SystemControl, right).map(drop)
    }

    pub(super) fn ring_read(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::LOG)?;
        let [_, after, to, bytes, ..] = request.arguments;
        if bytes > TRANSFER_BYTES_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let process = request.caller.process;
        self.acknowledge(request.caller.shared.process_id.load(Relaxed), after);
        let mut buffer = [0; RING_BYTES_A_STEP];
        let (mut last, mut written) = (after, 0);
        loop {
            let room = (bytes as usize - written).min(buffer.len());
            let read = self.ring.lock().read(last, &mut buffer[..room]);
            let (count, newest) = match read {
                Ok(read) => read,
                Err(_) if written > 0 => break,
                Err(ReadError::TooSmall) => return Err(Error::BufferTooSmall.into()),
                Err(ReadError::Nothing) => return Err(Error::WouldBlock.into()),
            };
            self.write_user(&mut request.user(), process, to + written as u64, &buffer[..count])?;
            (last, written) = (newest, written + count);
            // What is there is an answer: who wants more asks for more.
            if self.interrupt_pending(request.hart.index) {
                break;
            }
        }
        Ok(written as u64)
    }

    /// What the reader asks for is what it has not got, unless that was printed.
    fn acknowledge(&self, number: u64, after: u64) {
        let mut ring = self.ring.lock();
        if ring.reader == Some(number) {
            ring.read_to = ring.read_to.max(after.min(ring.newest()));
        }
    }

    pub(super) fn ring_write(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::LOG)?;
        let [_, level, from, bytes, ..] = request.arguments;
        let level = match level {
            0 => RingLevel::Error,
            1 => RingLevel::Warning,
            2 => RingLevel::Info,
            _ => return Err(Error::InvalidArgument.into()),
        };
        if bytes > RING_TEXT_MAX as u64 {
            return Err(Error::TooLarge.into());
        }
        let process = request.caller.process;
        let mut buffer = [0; RING_TEXT_MAX];
        let text = &mut buffer[..bytes as usize];
        self.read_user(&mut request.user(), process, from, text)?;
        let service_id = request.caller.shared.service_id.load(Relaxed);
        for line in text.utf8_chunks() {
            if !line.valid().is_empty() {
                self.record(request.hart, request.held, service_id, level, line.valid());
            }
        }
        Ok(0)
    }

    pub(super) fn ring_bind(&self, request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::LOG)?;
        let [_, notification, bits, ..] = request.arguments;
        let notification = self.to_signal(&request.caller, notification)?;
        if bits == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let mut ring = self.ring.lock();
        ring.doorbell = Some((notification, bits));
        if ring.reader.is_none() {
            // All that came before was printed.
            ring.read_to = ring.newest();
        }
        ring.reader = Some(request.caller.shared.process_id.load(Relaxed));
        Ok(ring.read_to)
    }

    pub(super) fn system_info(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::INSPECT)?;
        let quota = self.lock(request.held, self.root).map_or(0, |(root, _)| root.account.limit);
        let info = SystemInfo {
            ticks_per_second: self.arch.ticks_per_second(),
            boot_ticks: self.figures.boot_ticks,
            init_ticks: self.counters.init_ticks.load(Relaxed),
            ram_pages: self.figures.ram_pages,
            kernel_pages: self.figures.kernel_pages,
            quota_pages: quota,
            used_pages: quota.saturating_sub(self.memory.free_count().into()),
            threads: self.counters.threads.load(Relaxed),
            processes: self.counters.processes.load(Relaxed),
            harts_online: self.counters.harts_online.load(Relaxed),
            messages: self.fast_messages.iter().map(|count| count.load(Relaxed)).sum::<u64>()
                + self.counters.messages.load(Relaxed),
            interrupts: self.counters.interrupts.load(Relaxed),
            quarantined_pages: self.counters.quarantined_pages.load(Relaxed),
            longest_ticks: self.counters.longest_ticks.load(Relaxed),
            hart_calls: self.harts.iter().map(|hart| hart.sent.load(Relaxed)).sum(),
            threads_stolen: self.harts.iter().map(|hart| hart.stolen.load(Relaxed)).sum(),
            locks_contended: u64::from(self.entrance.contended()) + self.memory.contended(),
        };
        let (process, to) = (request.caller.process, request.arguments[1]);
        self.write_record(&mut request.user(), process, to, &info)?;
        Ok(0)
    }

    pub(super) fn process_list(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::INSPECT)?;
        let [_, after, to, ..] = request.arguments;
        let next = {
            let (structure, _) = self.structure(request.held);
            structure.processes.iter(&self.memory).find(|id| self.number_of(*id) > after)
        };
        let status = next.and_then(|id| self.status_of(request.held, id)).ok_or(Error::WouldBlock)?;
        let process = request.caller.process;
        self.write_record(&mut request.user(), process, to, &status)?;
        Ok(0)
    }

    fn number_of(&self, process: Id<Process>) -> u64 {
        self.memory.shared(process).map_or(0, |shared| shared.process_id.load(Relaxed))
    }

    pub(super) fn cap_list(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::INSPECT)?;
        let [_, number, first, to, ..] = request.arguments;
        let target = self.numbered(request.held, number).ok_or(Error::InvalidArgument)?;
        let capability = match self.next_entry(request.held, target, first, |_| true) {
            Ok(found) => found.ok_or(Error::WouldBlock)?,
            Err(next) => return Err(self.again_with(request.held, request.caller.thread, &[(2, next)])),
        };
        self.tell_of(&mut request, &capability, to)?;
        Ok(0)
    }

    pub(super) fn cap_holders(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::INSPECT)?;
        let [_, number, handle, holder, first, to] = request.arguments;
        let target = self.numbered(request.held, number).ok_or(Error::InvalidArgument)?;
        let shared = self.memory.shared(target).ok_or(Error::InvalidArgument)?;
        let (_, wanted) = self.memory.find_capability(shared, Handle(handle))?;
        let same = |other: &Capability| {
            let is_same = match wanted.kind {
                // An authority has no object: its ranges are parts of one.
                Kind::ProcessAuthority => true,
                // Another call of the same thread is owed another answer.
                Kind::Reply => (other.object, other.badge) == (wanted.object, wanted.badge),
                _ => other.object == wanted.object,
            };
            other.kind == wanted.kind && is_same
        };
        let next = {
            let (structure, _) = self.structure(request.held);
            structure.processes.iter(&self.memory).find(|id| self.number_of(*id) >= holder)
        };
        let next = next.ok_or(Error::WouldBlock)?;
        let number = self.number_of(next);
        let first = if number == holder { first } else { 0 };
        // A process without any, like a long table, is passed over in a step of its own.
        let go_on = match self.next_entry(request.held, next, first, same) {
            Ok(Some(capability)) => {
                self.tell_of(&mut request, &capability, to)?;
                return Ok(number);
            }
            Ok(None) => [(3, number + 1), (4, 0)],
            Err(index) => [(3, number), (4, index)],
        };
        Err(self.again_with(request.held, request.caller.thread, &go_on))
    }

    /// The process with a number, ended or not.
    fn numbered(&self, held: &mut Held<'_, Nothing>, number: u64) -> Option<Id<Process>> {
        let (structure, _) = self.structure(held);
        structure.processes.iter(&self.memory).find(|id| self.number_of(*id) == number)
    }

    /// Writes down what there is to tell of a capability. One whose object is gone still takes an entry: it
    /// is shown with neither rights nor extent.
    fn tell_of(&self, request: &mut Request<'_, '_, '_>, of: &Capability, to: u64) -> Result<(), Error> {
        let info = self.describe(request.held, of).unwrap_or_else(|| CapabilityInfo {
            handle: self.memory.capability_slot(of.granule).handle(),
            kind: of.kind as u32,
            ..CapabilityInfo::default()
        });
        let process = request.caller.process;
        self.write_record(&mut request.user(), process, to, &info)
    }

    /// The first wanted entry in use at or after an index (`None`: there is none), or after
    /// [`ENTRIES_A_STEP`] others the index to go on from.
    fn next_entry(
        &self,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
        first: u64,
        wanted: impl Fn(&Capability) -> bool,
    ) -> Result<Option<Capability>, u64> {
        let Some((body, _)) = self.lock(held, process) else { return Ok(None) };
        let last = u64::from(body.table.page_count() * GRANULES);
        for index in first..last.min(first.saturating_add(ENTRIES_A_STEP)) {
            let (page, place) = (index as u32 / GRANULES, index as u32 % GRANULES);
            let Some(frame) = body.table.page(&self.memory, page) else { return Ok(None) };
            let granule = Memory::first_granule(frame) + place;
            if let Some(found) = self.memory.capability_slot(granule).read(granule).filter(&wanted) {
                return Ok(Some(found));
            }
        }
        if first.saturating_add(ENTRIES_A_STEP) < last { Err(first + ENTRIES_A_STEP) } else { Ok(None) }
    }

    pub(super) fn system_reset(&self, request: Request<'_, '_, '_>) -> Outcome {
        self.control(&request, Rights::RESET)?;
        let mode = request.arguments[1];
        if mode > 1 {
            return Err(Error::InvalidArgument.into());
        }
        self.arch.reset(mode == 1);
        Err(Error::Unsupported.into())
    }
}
