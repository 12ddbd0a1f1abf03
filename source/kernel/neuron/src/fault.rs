//! Faults of user programs: what can be mended is (a page that was promised), everything else is
//! reported and ends the process.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::line;
use crate::memory::Id;
use crate::object::{Mapping, Process, Thread};
use crate::sync::{Held, Nothing};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::Rights;
use nexus_abi::limits::BACKTRACE_MAX;
use nexus_abi::records::{FaultCause, FaultReport, RingLevel, STATE_FAULTED};

/// What the machine says of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The cause.
    pub cause: FaultCause,
    /// The machine's own number for it.
    pub detail: u32,
    /// The address that was touched, where there is one.
    pub address: u64,
    /// Whether the page tables forbade it. What they allow and the machine does not cannot be mended.
    pub is_of_a_page: bool,
}

impl<A: Arch> Kernel<A> {
    /// The current thread faulted.
    pub fn user_fault(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, fault: Fault) {
        let Some(thread) = hart.current else { return };
        let Some(process) = self.lock(held, thread).map(|(body, _)| body.process) else { return };
        let access = match fault.cause {
            FaultCause::ReadFault => Some(Rights::READ),
            FaultCause::WriteFault => Some(Rights::WRITE),
            FaultCause::ExecuteFault => Some(Rights::EXECUTE),
            _ => None,
        };
        if let Some(access) = access.filter(|_| fault.is_of_a_page)
            && self.touch(&mut held.above(), process, fault.address, access).is_ok()
        {
            let asid = self.memory.shared(process).map_or(0, |shared| shared.asid.load(Relaxed) as u16);
            self.arch.flush_page(asid, fault.address);
            if access == Rights::EXECUTE {
                self.arch.flush_instructions();
            }
            return;
        }
        self.report(hart, held, thread, process, fault);
    }

    fn report(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        thread: Id<Thread>,
        process: Id<Process>,
        fault: Fault,
    ) {
        let mut report = self.describe_fault(held, thread, process, fault);
        self.walk_stack(held, process, &mut report);
        let text = line!(
            "fault: process {} ended by {} at {:#x}, pc {:#x}",
            report.process_id,
            fault.cause.name(),
            fault.address,
            report.program_counter,
        );
        self.say(hart, held, RingLevel::Error, &text);
        if let Some((mut body, _)) = self.lock(held, thread) {
            self.stop_running(hart, &mut body);
        }
        let (mut structure, mut held) = self.structure(held);
        if let Some((mut body, _)) = self.lock(&mut held, process) {
            body.report = Some(report);
        }
        self.end_process(&mut structure, &mut held, process, STATE_FAULTED, 0);
    }

    fn describe_fault(
        &self,
        held: &mut Held<'_, Nothing>,
        thread: Id<Thread>,
        process: Id<Process>,
        fault: Fault,
    ) -> FaultReport {
        let mut report = FaultReport {
            ticks: self.arch.now(),
            address: fault.address,
            cause: fault.cause as u32,
            detail: fault.detail,
            ..FaultReport::default()
        };
        if let Some(shared) = self.memory.shared(process) {
            report.process_id = shared.process_id.load(Relaxed);
            report.service_id = shared.service_id.load(Relaxed);
        }
        if let Some((body, _)) = self.lock(held, thread) {
            report.program_counter = body.context.program_counter();
            report.registers.copy_from_slice(&body.context.registers[1..]);
        }
        self.describe_region(held, process, &mut report);
        report
    }

    /// The mapping that holds the address or, failing that, the next one above it.
    fn describe_region(&self, held: &mut Held<'_, Nothing>, process: Id<Process>, report: &mut FaultReport) {
        let region = self
            .lock(held, process)
            .and_then(|(body, _)| body.regions.find(&self.memory, |mapping| mapping.end() > report.address));
        let Some(region) = region else { return };
        let shared = self.memory.shared_at::<Mapping>(region.granule());
        (report.region_base, report.region_bytes) = (shared.base(), shared.bytes());
        if let Some((body, _)) = self.lock(held, region) {
            report.region_protection = body.rights.bits();
        }
    }

    /// Follows the frame pointers: two words below each lie the caller's frame and the return address.
    fn walk_stack(&self, held: &mut Held<'_, Nothing>, process: Id<Process>, report: &mut FaultReport) {
        // The report has no `x0`: `x1` is the return address, `x8` the frame pointer.
        const RETURN_ADDRESS: usize = 0;
        const FRAME_POINTER: usize = 7;
        let mut frame = report.registers[FRAME_POINTER];
        // After a wild jump nothing of the target has run: the jump's own return address comes first.
        let jumped = report.cause == FaultCause::ExecuteFault as u32;
        if jumped {
            report.backtrace[0] = report.registers[RETURN_ADDRESS];
            report.backtrace_length = 1;
        }
        for place in usize::from(jumped)..BACKTRACE_MAX {
            let Some(address) = frame.checked_sub(16).filter(|_| frame != 0 && frame.is_multiple_of(8))
            else {
                return;
            };
            let words: Result<[u64; 2], _> = self.read_record(&mut held.above(), process, address);
            let Ok([caller, return_address]) = words else { return };
            if return_address == 0 {
                return;
            }
            report.backtrace[place] = return_address;
            report.backtrace_length = place as u32 + 1;
            // Stacks grow down: a frame that is not above its callee is no frame.
            if caller <= frame {
                return;
            }
            frame = caller;
        }
    }
}
