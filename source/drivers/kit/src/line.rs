//! The interrupt of a device, and the one order in which it is answered.

use nexus_abi::{Handle, Result, system};

/// What a driver does when its device interrupts.
pub trait Look {
    /// Why the driver cannot go on.
    type Failure: From<nexus_abi::Error>;

    /// Tells the device that its interrupt was heard, so that it takes its line down.
    fn clear_cause(&mut self);

    /// Takes all that the device has finished.
    fn look(&mut self) -> core::result::Result<(), Self::Failure>;
}

/// A device's interrupt line.
pub struct Line {
    irq: Handle,
}

impl Line {
    pub(crate) fn new(irq: Handle) -> Self {
        Line { irq }
    }

    /// Has the line set bits of a notification from here on.
    pub fn bind(&self, notification: Handle, bits: u64) -> Result<()> {
        system::irq_bind(self.irq, notification, bits)
    }

    /// Answers an interrupt: clears its cause, lets the line interrupt again, and only then looks. What the device
    /// finishes after the look interrupts anew; what it finished before is seen by it. So none is lost, whenever it
    /// comes, and the driver may wait.
    pub fn answer<D: Look>(&self, device: &mut D) -> core::result::Result<(), D::Failure> {
        device.clear_cause();
        system::irq_ack(self.irq)?;
        device.look()
    }
}
