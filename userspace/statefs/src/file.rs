//! A file, or a block device of the host, as a device.

use crate::device::{BlockDevice, DeviceError, checked_range};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file as a device; a flush is `fdatasync`.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    start: u64,
    length: u64,
}

impl FileDevice {
    /// Opens the part of a file that starts at `start` (bytes) and has `length` bytes, or all that follows.
    pub fn open(path: &Path, start: u64, length: Option<u64>, writable: bool) -> io::Result<FileDevice> {
        let file = OpenOptions::new().read(true).write(writable).open(path)?;
        let rest = file.metadata()?.len().saturating_sub(start);
        Ok(FileDevice { file, start, length: length.map_or(rest, |length| length.min(rest)) })
    }

    /// Makes a file of `length` bytes, all of them written, so that later flushes move no metadata.
    pub fn create(path: &Path, length: u64) -> io::Result<FileDevice> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let zeros = std::vec![0u8; 1 << 20];
        let mut at = 0;
        while at < length {
            let bytes = usize::try_from(length - at).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all_at(&zeros[..bytes], at)?;
            at += bytes as u64;
        }
        file.sync_all()?;
        Ok(FileDevice { file, start: 0, length })
    }
}

impl BlockDevice for FileDevice {
    fn physical_block(&self) -> u32 {
        4096
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        checked_range(self.length, offset, buffer.len())?;
        self.file.read_exact_at(buffer, self.start + offset).map_err(|_| DeviceError::Io)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        checked_range(self.length, offset, data.len())?;
        self.file.write_all_at(data, self.start + offset).map_err(|_| DeviceError::Io)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.file.sync_data().map_err(|_| DeviceError::Io)
    }
}
