//! A device that fails when told to: for tests of what the engine does after an I/O error.

use crate::device::{BlockDevice, DeviceError};

/// What fails, and when. Operations are counted from 0, reads, writes and flushes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing fails.
    None,
    /// The n-th write from now on fails, after nothing was written.
    WriteRefused(u64),
    /// The n-th write from now on fails, after all was written.
    WriteUnknown(u64),
    /// The n-th flush from now on fails.
    Flush(u64),
    /// From the n-th read from now on, the device is gone for reads, until another fault is armed.
    GoneForReads(u64),
    /// Reads that touch this range of bytes fail.
    Unreadable {
        /// First byte that cannot be read.
        start: u64,
        /// First byte beyond.
        end: u64,
    },
}

/// A device around another, with one fault at a time and counts of what passed.
#[derive(Debug, Clone)]
pub struct FaultDevice<D> {
    inner: D,
    fault: Fault,
    /// Writes that were asked for.
    pub writes: u64,
    /// Bytes that were asked to be written.
    pub bytes_written: u64,
    /// Flushes that were asked for.
    pub flushes: u64,
}

impl<D: BlockDevice> FaultDevice<D> {
    /// A device without a fault yet.
    pub fn new(inner: D) -> FaultDevice<D> {
        FaultDevice { inner, fault: Fault::None, writes: 0, bytes_written: 0, flushes: 0 }
    }

    /// Arms a fault; it counts from now.
    pub fn arm(&mut self, fault: Fault) {
        self.fault = fault;
    }

    /// The device inside.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Counts down an armed fault; true when it is due, which disarms it.
    fn due(&mut self, pick: fn(&mut Fault) -> Option<&mut u64>) -> bool {
        match pick(&mut self.fault) {
            Some(0) => {
                self.fault = Fault::None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl<D: BlockDevice> BlockDevice for FaultDevice<D> {
    fn physical_block(&self) -> u32 {
        self.inner.physical_block()
    }

    fn length(&self) -> u64 {
        self.inner.length()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        if let Fault::Unreadable { start, end } = self.fault
            && offset < end
            && start < offset.saturating_add(buffer.len() as u64)
        {
            return Err(DeviceError::Io);
        }
        match &mut self.fault {
            Fault::GoneForReads(0) => return Err(DeviceError::Gone),
            Fault::GoneForReads(left) => *left -= 1,
            _ => {}
        }
        self.inner.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.writes += 1;
        self.bytes_written += data.len() as u64;
        if self.due(|fault| if let Fault::WriteRefused(left) = fault { Some(left) } else { None }) {
            return Err(DeviceError::Io);
        }
        let unknown = self.due(|fault| if let Fault::WriteUnknown(left) = fault { Some(left) } else { None });
        self.inner.write(offset, data)?;
        if unknown { Err(DeviceError::Io) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.flushes += 1;
        if self.due(|fault| if let Fault::Flush(left) = fault { Some(left) } else { None }) {
            return Err(DeviceError::Io);
        }
        self.inner.flush()
    }
}
