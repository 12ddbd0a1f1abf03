//! The initial image: one file with everything that exists before a disk can be read.
//!
//! ```text
//! 0        Head     magic, version, file count, total bytes, CRC-32C of everything else
//! 64       File × n name, offset, bytes
//! …        contents, each at a multiple of the page size, the gaps zero
//! ```
//! The kernel takes the file [`INIT`] out of it; init takes [`MANIFEST`] and the services. Both check
//! before they use it: a damaged image ends in one line that says which of [`ImageError`] it is.
//! (A signature over the same bytes comes with verified boot.)

use crate::limits::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes.
pub const MAGIC: [u8; 8] = *b"NXIMAGE\0";
/// Version of this layout.
pub const VERSION: u32 = 1;
/// Files that an image can hold.
pub const FILES_MAX: usize = 64;
/// Bytes of a file's name.
pub const NAME_BYTES: usize = 40;
/// Bytes of the largest image (64 MiB).
pub const IMAGE_BYTES_MAX: usize = 64 << 20;
/// Name of the first program.
pub const INIT: &str = "nexus-init";
/// Name of the system manifest.
pub const MANIFEST: &str = "system.manifest";

/// The first 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Entries in the table that follows.
    pub file_count: u32,
    /// Bytes of the whole image, this head included.
    pub total_bytes: u64,
    /// [`checksum`] of this head and of bytes 64 to `total_bytes`.
    pub checksum: u32,
    /// Rank of the first process.
    pub init_rank: u32,
    /// Zero.
    pub reserved: [u8; 32],
}

/// One entry of the table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct File {
    /// UTF-8, filled up with zeroes.
    pub name: [u8; NAME_BYTES],
    /// Where it begins: a multiple of the page size.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<Head>() == 64 && size_of::<File>() == 64);

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is shorter than its head or than the head says.
    Truncated,
    /// It does not begin with [`MAGIC`].
    BadMagic,
    /// It is of another version.
    BadVersion,
    /// Its checksum does not match its bytes.
    BadChecksum,
    /// An entry of its table points outside, is not aligned, or has a name that is not UTF-8.
    BadTable,
    /// No file has this name.
    Missing,
}

impl ImageError {
    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            ImageError::Truncated => "it is truncated",
            ImageError::BadMagic => "it does not begin with the magic of an initial image",
            ImageError::BadVersion => "it is of another version",
            ImageError::BadChecksum => "its checksum does not match its bytes",
            ImageError::BadTable => "its table points outside of it",
            ImageError::Missing => "the file is not in it",
        }
    }
}

/// An image whose head, checksum and table were checked.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    bytes: &'a [u8],
    head: Head,
}

impl<'a> Image<'a> {
    /// Bytes of the whole image, read from its first [`Head`]; what follows need not be there yet.
    pub fn total_bytes(start: &[u8]) -> Result<usize, ImageError> {
        Ok(read_head(start)?.total_bytes as usize)
    }

    /// Checks everything: magic, version, length, checksum, table. `bytes` may be longer than the image.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let head = read_head(bytes)?;
        let bytes = bytes.get(..head.total_bytes as usize).ok_or(ImageError::Truncated)?;
        if checksum(&head, &bytes[size_of::<Head>()..]) != head.checksum {
            return Err(ImageError::BadChecksum);
        }
        let image = Image { bytes, head };
        for index in 0..head.file_count as usize {
            image.entry(index)?;
        }
        Ok(image)
    }

    /// The file with this name.
    pub fn file(&self, name: &str) -> Result<&'a [u8], ImageError> {
        self.files().find(|(other, _)| *other == name).map(|(_, b)| b).ok_or(ImageError::Missing)
    }

    /// Where the file with this name stands in the image: offset and bytes.
    pub fn extent(&self, name: &str) -> Result<(usize, usize), ImageError> {
        let file = self.file(name)?;
        Ok((file.as_ptr() as usize - self.bytes.as_ptr() as usize, file.len()))
    }

    /// Every file: name and contents.
    pub fn files(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        (0..self.head.file_count as usize).filter_map(|index| self.entry(index).ok())
    }

    /// Rank of the first process.
    pub fn init_rank(&self) -> u32 {
        self.head.init_rank
    }

    fn entry(&self, index: usize) -> Result<(&'a str, &'a [u8]), ImageError> {
        let start = size_of::<Head>() + index * size_of::<File>();
        let rest = self.bytes.get(start..).ok_or(ImageError::BadTable)?;
        // A copy, because nothing aligns the bytes; the name, which comes first, is borrowed from them.
        let (file, _) = File::read_from_prefix(rest).map_err(|_| ImageError::BadTable)?;
        let length = file.name.iter().position(|&b| b == 0).unwrap_or(NAME_BYTES);
        let name = core::str::from_utf8(&rest[..length]).map_err(|_| ImageError::BadTable)?;
        let offset = file.offset as usize;
        let end = offset.checked_add(file.bytes as usize).ok_or(ImageError::BadTable)?;
        if name.is_empty() || !offset.is_multiple_of(PAGE_SIZE) {
            return Err(ImageError::BadTable);
        }
        Ok((name, self.bytes.get(offset..end).ok_or(ImageError::BadTable)?))
    }
}

fn read_head(bytes: &[u8]) -> Result<Head, ImageError> {
    let (head, _) = Head::read_from_prefix(bytes).map_err(|_| ImageError::Truncated)?;
    if head.magic != MAGIC {
        return Err(ImageError::BadMagic);
    }
    if head.version != VERSION {
        return Err(ImageError::BadVersion);
    }
    let table_bytes = size_of::<Head>() + head.file_count as usize * size_of::<File>();
    if head.file_count as usize > FILES_MAX
        || head.total_bytes as usize > IMAGE_BYTES_MAX
        || (head.total_bytes as usize) < table_bytes
    {
        return Err(ImageError::BadTable);
    }
    Ok(head)
}

/// CRC-32C (Castagnoli, reflected) of a head, whose own `checksum` counts as 0, and of what follows it.
pub fn checksum(head: &Head, rest: &[u8]) -> u32 {
    let head = Head { checksum: 0, ..*head };
    crc32c(&[head.as_bytes(), rest])
}

/// CRC-32C of these bytes, one piece after the other, over tables made at compile time.
pub fn crc32c(pieces: &[&[u8]]) -> u32 {
    static TABLES: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);
    let mut digest = TABLES.digest();
    pieces.iter().for_each(|piece| digest.update(piece));
    digest.finalize()
}
