//! The virtio entropy device (virtio 1.2, section 5.4): one queue; a buffer that is given comes back with raw
//! entropy in it.
//!
//! What it is: one buffer, on its way to the device or not. What it is not: it waits for nothing and judges
//! nothing; the interrupt is its owner's, and so are the tests of what came.
//!
//! Where to start reading: [`EntropyDevice`].
#![cfg_attr(not(test), no_std)]

use core::ptr::NonNull;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal};
use virtio_mmio::transport::{MmioTransport, OpenError};

/// The device's number.
pub const DEVICE: u32 = 4;
/// Bytes that are asked for at a time.
pub const BUFFER_BYTES: usize = 256;
/// Pages for memory that the device reaches: two of the queue, one of the buffer.
pub const DMA_PAGES: usize = 3;

const QUEUE: u16 = 0;
/// One buffer is on its way at a time.
const QUEUE_ENTRIES: usize = 2;

/// Why the device is of no more use before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// It gave the buffer back without a byte in it.
    NoBytes,
    /// It says that it wrote more than there is room for.
    TooMany(u32),
    /// It used its queue otherwise than it may.
    Queue(Error),
}

impl core::fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DeviceError::NoBytes => formatter.write_str("the device gave no bytes"),
            DeviceError::TooMany(count) => write!(formatter, "the device says that it gave {count} bytes"),
            DeviceError::Queue(error) => write!(formatter, "the device's queue: {error}"),
        }
    }
}

impl From<Error> for DeviceError {
    fn from(error: Error) -> Self {
        DeviceError::Queue(error)
    }
}

/// The device.
pub struct EntropyDevice<H: Hal> {
    transport: MmioTransport,
    queue: VirtQueue<H, QUEUE_ENTRIES>,
    /// [`BUFFER_BYTES`] that the device writes.
    buffer: NonNull<u8>,
    /// The buffer's token while the device has it.
    asked: Option<u16>,
}

impl<H: Hal> EntropyDevice<H> {
    /// Sets up the device behind a transport that was just reset.
    pub fn open(mut transport: MmioTransport) -> Result<Self, OpenError> {
        transport.negotiate(0)?;
        let queue = VirtQueue::new(&mut transport, QUEUE, false, false)?;
        let (address, buffer) = H::dma_alloc(1, BufferDirection::DeviceToDriver);
        if address == 0 {
            return Err(OpenError::Queue(Error::DmaError));
        }
        transport.finish_init();
        Ok(EntropyDevice { transport, queue, buffer, asked: None })
    }

    /// Whether the device was asked and has not answered.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks for entropy; it is there after an interrupt. Nothing happens while the device was asked already.
    pub fn ask(&mut self) -> Result<(), DeviceError> {
        if self.asked.is_some() {
            return Ok(());
        }
        // SAFETY: nobody else has the buffer while `asked` is empty; it is the device's until it is popped.
        let mut buffer = unsafe { core::slice::from_raw_parts_mut(self.buffer.as_ptr(), BUFFER_BYTES) };
        // SAFETY: the buffer is memory for the device that is never given back, and nothing touches it until then.
        let token = unsafe { self.queue.add(&[], &mut [&mut buffer])? };
        self.asked = Some(token);
        // Told always: what the device says of being told is read too early to be relied upon.
        self.transport.notify(QUEUE);
        Ok(())
    }

    /// Clears the cause of the device's interrupt.
    pub fn clear_cause(&mut self) -> InterruptStatus {
        self.transport.ack_interrupt()
    }

    /// Takes what the device gave, if it did: fills the beginning of `into` and yields how many bytes.
    pub fn take(&mut self, into: &mut [u8; BUFFER_BYTES]) -> Result<Option<usize>, DeviceError> {
        let Some(token) = self.asked.filter(|_| self.queue.can_pop()) else { return Ok(None) };
        // SAFETY: the device has used the queue; what it may still do to the buffer is no worse than other bytes.
        let mut buffer = unsafe { core::slice::from_raw_parts_mut(self.buffer.as_ptr(), BUFFER_BYTES) };
        // SAFETY: the very buffer that was added with this token.
        let count = unsafe { self.queue.pop_used(token, &[], &mut [&mut buffer])? };
        self.asked = None;
        let given = usize::try_from(count).ok().and_then(|count| buffer.get_mut(..count));
        let given = given.ok_or(DeviceError::TooMany(count))?;
        if given.is_empty() {
            return Err(DeviceError::NoBytes);
        }
        into.iter_mut().zip(given.iter()).for_each(|(to, from)| *to = *from);
        let length = given.len();
        // Used entropy stays nowhere.
        given.fill(0);
        Ok(Some(length))
    }
}
