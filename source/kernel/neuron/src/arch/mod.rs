//! What the portable core asks of a machine. `riscv64` is the real one and the only place with assembly
//! and control registers; `host` is simulated, for tests.

use crate::object::thread::Context;

#[cfg(any(test, feature = "host"))]
pub mod host;
#[cfg(target_os = "none")]
pub mod riscv64;

/// An address space, in the words of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace(pub u64);

impl AddressSpace {
    /// None of a process's.
    pub const NONE: Self = AddressSpace(0);
}

/// One machine.
pub trait Arch {
    /// The clock, in ticks.
    fn now(&self) -> u64;
    /// Ticks a second.
    fn ticks_per_second(&self) -> u64;
    /// Asks for a timer interrupt of this hart at a time; a time that is over interrupts at once.
    fn set_timer(&self, deadline: u64);
    /// Whether an interrupt waits to be taken by this hart.
    fn interrupt_pending(&self) -> bool;
    /// Waits until an interrupt is pending.
    fn wait_for_interrupt(&self);
    /// Leaves the processor to others for a moment, if it has others; `timer` is what the timer is set to.
    fn rest(&self, timer: u64);

    /// Highest interrupt line.
    fn last_line(&self) -> u32;
    /// Takes the next pending line from the controller and completes it at once; the line is masked
    /// first, so it stays silent until it is unmasked.
    fn claim_and_mask(&self) -> Option<u32>;
    /// Lets a line interrupt.
    fn unmask(&self, line: u32);
    /// Silences a line.
    fn mask(&self, line: u32);
    /// Whether a physical range is of the kernel's own devices.
    fn is_kernel_device(&self, base: u64, bytes: u64) -> bool;

    /// The space of this number whose page table has its root at this physical address.
    fn space(&self, root: u64, asid: u16) -> AddressSpace;
    /// Makes user addresses mean those of this space on this hart.
    fn load(&self, space: AddressSpace);
    /// Forgets translations of one page, on this hart.
    fn flush_page(&self, asid: u16, address: u64);
    /// Forgets all translations of a space, on this hart.
    fn flush_space(&self, asid: u16);
    /// Makes freshly written instructions visible to this hart.
    fn flush_instructions(&self);
    /// Has other harts, one bit each, forget all translations of a space; comes back when they have.
    fn flush_space_of(&self, harts: u32, asid: u16);
    /// Makes freshly written instructions visible to other harts.
    fn flush_instructions_of(&self, harts: u32);
    /// Interrupts another hart, by its index, so that it comes into the kernel.
    fn interrupt(&self, hart: usize);
    /// Takes back whatever interrupted this hart in that way; yields whether something had.
    fn quiet(&self) -> bool;
    /// Highest number that an address space can have.
    fn last_asid(&self) -> u16;

    /// Saves the floating-point registers if the thread that stops running here has changed them, and
    /// leaves none of them on the hart.
    fn leave_float(&self, context: &mut Context);
    /// Gives a thread that begins to run here its floating-point registers, or none.
    fn enter_float(&self, context: &Context);

    /// Writes to the firmware's console.
    fn print(&self, text: &str);
    /// Powers off (`false`) or resets (`true`); returns when the firmware cannot.
    fn reset(&self, reboot: bool);
}
