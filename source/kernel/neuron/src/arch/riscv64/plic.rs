//! The platform-level interrupt controller: offsets as QEMU's `sifive_plic` and the PLIC specification
//! have them.

use core::ptr::NonNull;

const ENABLE: usize = 0x2000;
const ENABLE_STRIDE: usize = 0x80;
const CONTEXT: usize = 0x20_0000;
const CONTEXT_STRIDE: usize = 0x1000;
const CLAIM: usize = 4;

/// One context of the controller.
pub struct Plic {
    registers: NonNull<u8>,
    bytes: usize,
    context: usize,
}

// SAFETY: the registers are device memory without thread affinity; every access is one volatile word.
unsafe impl Send for Plic {}
// SAFETY: as above.
unsafe impl Sync for Plic {}

impl Plic {
    /// The controller's registers, for one context; all its lines are silenced.
    ///
    /// # Safety
    /// `registers` must map the controller's `bytes` of registers for ever, and nothing else use them.
    pub unsafe fn new(registers: NonNull<u8>, bytes: usize, context: u32, last_line: u32) -> Self {
        let plic = Plic { registers, bytes, context: context as usize };
        for line in 1..=last_line {
            plic.set_priority(line, 0);
        }
        plic.write(CONTEXT + plic.context * CONTEXT_STRIDE, 0);
        plic
    }

    /// Takes the next pending line.
    pub fn claim(&self) -> Option<u32> {
        let line = self.read(CONTEXT + self.context * CONTEXT_STRIDE + CLAIM);
        (line != 0).then_some(line)
    }

    /// Says that a line was taken care of.
    pub fn complete(&self, line: u32) {
        self.write(CONTEXT + self.context * CONTEXT_STRIDE + CLAIM, line);
    }

    /// Sets a line's priority; 0 silences it.
    pub fn set_priority(&self, line: u32, priority: u32) {
        self.write(4 * line as usize, priority);
    }

    /// Lets a line reach this context.
    pub fn enable(&self, line: u32) {
        let word = ENABLE + self.context * ENABLE_STRIDE + 4 * (line as usize / 32);
        self.write(word, self.read(word) | 1 << (line % 32));
    }

    fn read(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.bytes);
        // SAFETY: the register lies in the window (checked), which `new`'s caller mapped.
        unsafe { self.registers.add(offset).cast::<u32>().read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        assert!(offset + 4 <= self.bytes);
        // SAFETY: as in `read`.
        unsafe { self.registers.add(offset).cast::<u32>().write_volatile(value) }
    }
}
