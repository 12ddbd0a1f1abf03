//! A fault of a program, told to the kernel as the machine tells it.

use super::{ProcessId, System, ThreadId};
use crate::traps::{self, Trap};
use anyhow::{Result, anyhow, ensure};
use neuron::fault::Fault;
use nexus_abi::limits::BACKTRACE_MAX;
use nexus_abi::records::FaultCause;
use zerocopy::IntoBytes;

/// The numbers of the registers `ra`, `sp` and `s0`.
const RETURN_ADDRESS: usize = 1;
const STACK_POINTER: usize = 2;
const FRAME_POINTER: usize = 8;
/// Bytes of a frame: the caller's frame pointer and the return address.
const FRAME_BYTES: u64 = 16;

impl System {
    /// The processor refused what the running thread did.
    pub(super) fn trap(&mut self, thread: ThreadId, id: ProcessId, trap: Trap) -> Result<()> {
        let (jumped_from, frames) = self.frames(id, &trap);
        let stack = self.stack(id, trap.stack);
        // Frames as the machine's code makes them, where the thread's stack was: nobody needs that any more.
        let mut place = stack;
        for (number, return_address) in frames.iter().enumerate() {
            let caller = if number + 1 < frames.len() { place + 2 * FRAME_BYTES } else { 0 };
            let written = self.kernel.write(id, place, [caller, *return_address].as_bytes());
            written.map_err(|error| anyhow!("the frames of a fault: {error}"))?;
            place += FRAME_BYTES;
        }
        self.kernel.context(thread, |context| {
            context.set_program_counter(trap.program_counter);
            context.registers[RETURN_ADDRESS] = jumped_from;
            context.registers[STACK_POINTER] = trap.stack;
            context.registers[FRAME_POINTER] = if frames.is_empty() { 0 } else { stack + FRAME_BYTES };
        });
        self.kernel.fault(Fault { cause: trap.cause, detail: 0, address: trap.address, is_of_a_page: true });
        let ended = self.kernel.identity(id).is_none_or(|identity| identity.ended);
        ensure!(ended, "the kernel's tables hold {:#x}, which the process could not reach", trap.address);
        Ok(())
    }

    /// What stands on top of a stack, for who jumped from there, and the return addresses of its frames.
    fn frames(&mut self, id: ProcessId, trap: &Trap) -> (u64, Vec<u64>) {
        let mut words = [0u64; 2];
        let base = self.processes.get(&id.raw()).map_or(0, |process| process.space.base());
        let top = self.kernel.read(id, trap.stack, words[..1].as_mut_bytes());
        let jumped = trap.cause == FaultCause::ExecuteFault && top.is_ok();
        let jumped_from = if jumped { traps::told(words[0]) } else { 0 };
        let mut frames = Vec::new();
        let mut frame = trap.frame;
        while frames.len() < BACKTRACE_MAX && self.kernel.read(id, frame, words.as_mut_bytes()).is_ok() {
            if traps::told(words[1]) == words[1] {
                break;
            }
            frames.push(traps::told(words[1]));
            frame = words[0].wrapping_sub(base);
        }
        if frames.is_empty() {
            // The build keeps no frame pointers: the one place that is known is that of the fault.
            frames.push(trap.program_counter);
        }
        (jumped_from, frames)
    }

    /// The lowest address of the stack that an address lies in, or below.
    fn stack(&mut self, id: ProcessId, address: u64) -> u64 {
        let regions = self.kernel.regions(id);
        let above = regions.iter().find(|region| address < region.base + region.bytes);
        above.map_or(0, |region| region.base)
    }
}
