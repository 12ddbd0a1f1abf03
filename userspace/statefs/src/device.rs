//! The device under the store: a trait of three operations, and a device in memory.

use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a sector: offsets and lengths of every transfer are multiples of it.
pub const SECTOR: usize = 512;

/// Why a device refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceError {
    /// The medium failed; the data may or may not have been transferred. For a read: these bytes are lost, and what
    /// was acknowledged in them is damaged.
    Io,
    /// The range lies beyond the end, or is not a multiple of [`SECTOR`].
    Range,
    /// The device is gone, or its driver does not answer. Nothing follows for the bytes on the medium: no read that
    /// ends so marks anything as damaged.
    Gone,
}

/// A block device. A flush makes durable every write that completed before it; between flushes any
/// subset of writes may land, each unit old, new, mixed at 512 bytes, or unreadable.
pub trait BlockDevice {
    /// Bytes of the physical block: what a torn write may damage at most, if above 4096.
    fn physical_block(&self) -> u32;
    /// Bytes of the device.
    fn length(&self) -> u64;
    /// Reads `buffer.len()` bytes from `offset`.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError>;
    /// Writes `data` at `offset`; durable only after a flush.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError>;
    /// Makes everything written so far durable.
    fn flush(&mut self) -> Result<(), DeviceError>;
}

impl<D: BlockDevice + ?Sized> BlockDevice for &mut D {
    fn physical_block(&self) -> u32 {
        (**self).physical_block()
    }
    fn length(&self) -> u64 {
        (**self).length()
    }
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        (**self).read(offset, buffer)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        (**self).write(offset, data)
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        (**self).flush()
    }
}

/// The range of a transfer as indices, if it is legal for a device of `length` bytes.
pub(crate) fn checked_range(
    length: u64,
    offset: u64,
    bytes: usize,
) -> Result<core::ops::Range<usize>, DeviceError> {
    let start = usize::try_from(offset).map_err(|_| DeviceError::Range)?;
    let end = start.checked_add(bytes).ok_or(DeviceError::Range)?;
    if end as u64 > length || !start.is_multiple_of(SECTOR) || !bytes.is_multiple_of(SECTOR) {
        return Err(DeviceError::Range);
    }
    Ok(start..end)
}

/// A device in memory, on which every write is durable at once.
#[derive(Debug, Clone)]
pub struct MemoryDevice {
    bytes: Vec<u8>,
}

impl MemoryDevice {
    /// A device of `length` zero bytes.
    pub fn new(length: usize) -> MemoryDevice {
        MemoryDevice { bytes: vec![0; length] }
    }

    /// A device that holds this image.
    pub fn from_bytes(bytes: Vec<u8>) -> MemoryDevice {
        MemoryDevice { bytes }
    }

    /// The image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The image, for tests that damage it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl BlockDevice for MemoryDevice {
    fn physical_block(&self) -> u32 {
        4096
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let range = checked_range(self.length(), offset, buffer.len())?;
        buffer.copy_from_slice(self.bytes.get(range).ok_or(DeviceError::Range)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let range = checked_range(self.length(), offset, data.len())?;
        self.bytes.get_mut(range).ok_or(DeviceError::Range)?.copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}
