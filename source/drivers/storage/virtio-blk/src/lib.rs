//! The virtio block device (virtio 1.2, section 5.2): one queue, and [`SLOTS`] requests that can be on their way at
//! a time, each with a buffer of its own.
//!
//! What it is: the buffers, on their way to the device or not. What it is not: it waits for nothing and knows no
//! partition; the interrupt is its owner's, and so is the copying into and out of the buffers.
//!
//! Invariants: a buffer that the device has is nobody else's until it came back; nothing that the device says is
//! believed, so that what it does wrongly is an error and never a panic.
//!
//! Where to start reading: [`BlockDevice`].
#![cfg_attr(not(test), no_std)]

use core::ptr::NonNull;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal};
use virtio_mmio::transport::{MmioTransport, OpenError};

/// The device's number.
pub const DEVICE: u32 = 2;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 512;
/// Requests that can be on their way at a time.
pub const SLOTS: usize = 4;
/// Bytes of a request's buffer.
pub const SLOT_BYTES: usize = SLOT_PAGES * PAGE;
/// Pages for memory that the device reaches: two of the queue, one of heads, and the buffers.
pub const DMA_PAGES: usize = 3 + SLOTS * SLOT_PAGES;

const PAGE: usize = 4096;
/// Nearly what one system call copies: few large requests cost less than many small ones, and the pages are bounded.
const SLOT_PAGES: usize = 15;
const QUEUE: u16 = 0;
/// A request takes three entries: head, buffer, status.
const QUEUE_ENTRIES: usize = 64;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16;
/// Bytes from the head of one request to that of the next; the status stands behind the head.
const HEAD_STRIDE: usize = 32;

const _: () = assert!(SLOTS * 3 <= QUEUE_ENTRIES && SLOTS * HEAD_STRIDE <= PAGE);

/// Features (virtio 1.2, section 5.2.3): the device cannot be written.
const READ_ONLY: u64 = 1 << 5;
/// The device tells the size of its blocks.
const BLOCK_SIZE: u64 = 1 << 6;
/// The device has a cache, and takes flushes.
const FLUSH: u64 = 1 << 9;
/// The device tells its physical blocks.
const TOPOLOGY: u64 = 1 << 10;

/// Offsets in the configuration.
const CAPACITY_OFFSET: usize = 0;
const BLOCK_SIZE_OFFSET: usize = 20;
const PHYSICAL_EXPONENT_OFFSET: usize = 24;
/// Exponents above are not believed.
const PHYSICAL_EXPONENT_MAX: u8 = 16;

/// What the status byte holds until the device has written it.
const NO_STATUS: u8 = 0xff;

/// What there is to know of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Its blocks.
    pub blocks: u64,
    /// Bytes of a physical block.
    pub physical_bytes: u64,
    /// Whether writes stay in a cache until a flush.
    pub has_cache: bool,
    /// Whether it cannot be written.
    pub is_read_only: bool,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Fill the beginning of the slot's buffer from this block on.
    Read {
        /// The first block.
        first: u64,
        /// From 1 block to [`SLOT_BYTES`].
        bytes: usize,
    },
    /// Write the beginning of the slot's buffer from this block on.
    Write {
        /// The first block.
        first: u64,
        /// From 1 block to [`SLOT_BYTES`].
        bytes: usize,
    },
    /// Make durable what was written before.
    Flush,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The device says that it failed.
    Failed,
    /// The device says that it does not know such requests.
    Unsupported,
}

/// Why the device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// It could not be set up.
    Open(OpenError),
    /// Its blocks have so many bytes.
    BlockSize(u32),
    /// A request is for no blocks, for parts of blocks, or for more than a buffer.
    BadRequest,
    /// The slot is in use.
    SlotInUse,
    /// It gave back what it did not have.
    NotAsked(u16),
    /// It used its queue otherwise than it may.
    Queue(Error),
}

impl core::fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DeviceError::Open(error) => write!(formatter, "{error}"),
            DeviceError::BlockSize(bytes) => {
                write!(formatter, "the device has blocks of {bytes} bytes; {BLOCK_BYTES} are needed")
            }
            DeviceError::BadRequest => formatter.write_str("a request that fits no buffer"),
            DeviceError::SlotInUse => formatter.write_str("a buffer that the device has"),
            DeviceError::NotAsked(token) => {
                write!(formatter, "the device gave back the buffer {token}, which it did not have")
            }
            DeviceError::Queue(error) => write!(formatter, "the device's queue: {error}"),
        }
    }
}

impl From<OpenError> for DeviceError {
    fn from(error: OpenError) -> Self {
        DeviceError::Open(error)
    }
}

impl From<Error> for DeviceError {
    fn from(error: Error) -> Self {
        DeviceError::Queue(error)
    }
}

/// The device.
pub struct BlockDevice<H: Hal> {
    transport: MmioTransport,
    queue: VirtQueue<H, QUEUE_ENTRIES>,
    /// A page of heads.
    heads: NonNull<u8>,
    /// The buffers, one behind the other.
    buffers: NonNull<u8>,
    /// Token and request of each slot that the device has.
    under_way: [Option<(u16, Request)>; SLOTS],
    properties: Properties,
}

impl<H: Hal> BlockDevice<H> {
    /// Sets the device up; it was reset.
    pub fn open(mut transport: MmioTransport) -> Result<Self, DeviceError> {
        let agreed = transport.negotiate(READ_ONLY | BLOCK_SIZE | FLUSH | TOPOLOGY)?;
        let properties = properties(&transport, agreed)?;
        let queue = VirtQueue::new(&mut transport, QUEUE, false, false)?;
        let (heads_address, heads) = H::dma_alloc(1, BufferDirection::Both);
        let (address, buffers) = H::dma_alloc(SLOTS * SLOT_PAGES, BufferDirection::Both);
        if heads_address == 0 || address == 0 {
            return Err(Error::DmaError.into());
        }
        transport.finish_init();
        Ok(BlockDevice { transport, queue, heads, buffers, under_way: [None; SLOTS], properties })
    }

    /// What there is to know of it.
    pub fn properties(&self) -> Properties {
        self.properties
    }

    /// A slot that the device does not have.
    pub fn free_slot(&self) -> Option<usize> {
        self.under_way.iter().position(Option::is_none)
    }

    /// Requests that the device has.
    pub fn count_under_way(&self) -> usize {
        self.under_way.iter().flatten().count()
    }

    /// The buffer of a slot; `None` while the device has it.
    pub fn buffer(&mut self, slot: usize) -> Option<&mut [u8]> {
        self.under_way.get(slot)?.is_none().then_some(())?;
        // SAFETY: the slot is one of SLOTS, each has SLOT_BYTES of the row of buffers, and the device, which alone
        // might write there, does not have it; the borrow is of all of `self`.
        Some(unsafe {
            core::slice::from_raw_parts_mut(self.buffers.as_ptr().add(slot * SLOT_BYTES), SLOT_BYTES)
        })
    }

    /// Hands a request to the device, which hears of it by [`BlockDevice::kick`].
    pub fn submit(&mut self, slot: usize, request: Request) -> Result<(), DeviceError> {
        let bytes = match request {
            Request::Read { bytes, .. } | Request::Write { bytes, .. } => bytes,
            Request::Flush => 0,
        };
        let fits = bytes <= SLOT_BYTES && bytes.is_multiple_of(BLOCK_BYTES);
        if !fits || (bytes == 0) != (request == Request::Flush) {
            return Err(DeviceError::BadRequest);
        }
        if self.under_way.get(slot).is_none_or(Option::is_some) {
            return Err(DeviceError::SlotInUse);
        }
        let (kind, first) = match request {
            Request::Read { first, .. } => (0u32, first),
            Request::Write { first, .. } => (1, first),
            Request::Flush => (4, 0),
        };
        // SAFETY: the slot is free and one of SLOTS, so its parts are inside their rows and nobody else's.
        let (head, status, data) = unsafe { self.parts(slot, bytes) };
        head.fill(0);
        head[..4].copy_from_slice(&kind.to_le_bytes());
        head[8..].copy_from_slice(&first.to_le_bytes());
        status.fill(NO_STATUS);
        // SAFETY: memory for the device that is never given back; `buffer` and `parts` leave it alone until
        // `take` has popped it.
        let token = unsafe {
            match request {
                Request::Read { .. } => self.queue.add(&[head], &mut [data, status])?,
                Request::Write { .. } => self.queue.add(&[head, data], &mut [status])?,
                Request::Flush => self.queue.add(&[head], &mut [status])?,
            }
        };
        if let Some(place) = self.under_way.get_mut(slot) {
            *place = Some((token, request));
        }
        Ok(())
    }

    /// Tells the device that there is something new.
    pub fn kick(&mut self) {
        // Told always: what the device says of being told is read too early to be relied upon.
        self.transport.notify(QUEUE);
    }

    /// Takes the next request that the device has finished, in whatever order it did: its slot, and how it ended.
    pub fn take(&mut self) -> Result<Option<(usize, Outcome)>, DeviceError> {
        let Some(token) = self.queue.peek_used() else { return Ok(None) };
        let has_it = |place: &Option<(u16, Request)>| place.is_some_and(|(other, _)| other == token);
        let slot = self.under_way.iter().position(has_it).ok_or(DeviceError::NotAsked(token))?;
        let Some((_, request)) = self.under_way.get(slot).copied().flatten() else {
            return Err(DeviceError::NotAsked(token));
        };
        let bytes = match request {
            Request::Read { bytes, .. } | Request::Write { bytes, .. } => bytes,
            Request::Flush => 0,
        };
        // SAFETY: the slot is one of SLOTS; the device has used it, and what it may still do to its buffers is no
        // worse than other bytes.
        let (head, status, data) = unsafe { self.parts(slot, bytes) };
        // SAFETY: the very buffers that were added with this token.
        let written = unsafe {
            match request {
                Request::Read { .. } => self.queue.pop_used(token, &[head], &mut [data, &mut *status])?,
                Request::Write { .. } => self.queue.pop_used(token, &[head, data], &mut [&mut *status])?,
                Request::Flush => self.queue.pop_used(token, &[head], &mut [&mut *status])?,
            }
        };
        if let Some(place) = self.under_way.get_mut(slot) {
            *place = None;
        }
        // What a read did not fill holds somebody else's bytes.
        let is_filled = !matches!(request, Request::Read { .. }) || written as usize == bytes + status.len();
        let outcome = match status.first() {
            Some(0) if is_filled => Outcome::Done,
            Some(2) => Outcome::Unsupported,
            _ => Outcome::Failed,
        };
        Ok(Some((slot, outcome)))
    }

    /// Tells the device that its interrupt was heard.
    pub fn clear_cause(&mut self) -> InterruptStatus {
        self.transport.ack_interrupt()
    }

    /// Head, status and so much of the buffer of a slot, which is below [`SLOTS`]; `bytes` is at most
    /// [`SLOT_BYTES`].
    ///
    /// # Safety
    /// Nobody else may use them while they are borrowed: neither the device nor another borrow of this slot.
    unsafe fn parts<'a>(&self, slot: usize, bytes: usize) -> (&'a mut [u8], &'a mut [u8], &'a mut [u8]) {
        // SAFETY: both rows have room for SLOTS, as the constants say, and live for good.
        unsafe {
            let head = self.heads.as_ptr().add(slot * HEAD_STRIDE);
            let buffer = self.buffers.as_ptr().add(slot * SLOT_BYTES);
            (
                core::slice::from_raw_parts_mut(head, HEAD_BYTES),
                core::slice::from_raw_parts_mut(head.add(HEAD_BYTES), 1),
                core::slice::from_raw_parts_mut(buffer, bytes),
            )
        }
    }
}

/// What the configuration says, as far as the features that were agreed on have it.
fn properties(transport: &MmioTransport, agreed: u64) -> Result<Properties, DeviceError> {
    let blocks: u64 = transport.read_config_space(CAPACITY_OFFSET)?;
    let block_bytes = match agreed & BLOCK_SIZE {
        0 => BLOCK_BYTES as u32,
        _ => transport.read_config_space(BLOCK_SIZE_OFFSET)?,
    };
    if block_bytes as usize != BLOCK_BYTES {
        return Err(DeviceError::BlockSize(block_bytes));
    }
    let exponent: u8 = match agreed & TOPOLOGY {
        0 => 0,
        _ => transport.read_config_space(PHYSICAL_EXPONENT_OFFSET)?,
    };
    Ok(Properties {
        blocks,
        physical_bytes: (BLOCK_BYTES as u64) << exponent.min(PHYSICAL_EXPONENT_MAX),
        has_cache: agreed & FLUSH != 0,
        is_read_only: agreed & READ_ONLY != 0,
    })
}
