//! The bytes of NBD: what client and server say to each other, as far as both are used here. All numbers are
//! big-endian. The protocol is that of the NetworkBlockDevice project, `doc/proto.md`.

use std::io::{self, Read, Write};

/// First word of a server.
pub const SERVER_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// Before each option, and second word of a server.
pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Before each answer to an option.
pub const ANSWER_MAGIC: u64 = 0x0003_E889_0455_65A9;
/// Before each request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Before each reply to a request.
pub const REPLY_MAGIC: u32 = 0x6744_6698;

/// Both sides speak the fixed handshake; nobody sends 124 zeros.
pub const HANDSHAKE_FLAGS: u16 = 0b11;
/// The export has flags, and takes flushes.
pub const EXPORT_FLAGS: u16 = 0b101;

/// Bytes of an option's data at the most.
pub const OPTION_BYTES_MAX: u32 = 4096;
/// Bytes of one read or write at the most.
pub const REQUEST_BYTES_MAX: u32 = 32 << 20;

/// Options of the handshake.
pub mod option {
    /// Begin with the named export; the oldest way.
    pub const EXPORT_NAME: u32 = 1;
    /// Say goodbye.
    pub const ABORT: u32 = 2;
    /// Name the exports.
    pub const LIST: u32 = 3;
    /// Tell of an export.
    pub const INFO: u32 = 6;
    /// Begin with the named export.
    pub const GO: u32 = 7;
}

/// Answers to options.
pub mod answer {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export.
    pub const SERVER: u32 = 2;
    /// One piece of information.
    pub const INFO: u32 = 3;
    /// This option is not known.
    pub const UNSUPPORTED: u32 = 1 << 31 | 1;
    /// The option's data is wrong.
    pub const INVALID: u32 = 1 << 31 | 3;
    /// There is no such export.
    pub const UNKNOWN: u32 = 1 << 31 | 6;
}

/// Commands of requests.
pub mod command {
    /// Read a range.
    pub const READ: u16 = 0;
    /// Write a range.
    pub const WRITE: u16 = 1;
    /// Say goodbye.
    pub const DISCONNECT: u16 = 2;
    /// Make durable what was written.
    pub const FLUSH: u16 = 3;
}

/// Errors of replies, by their numbers on the wire.
pub mod error {
    /// The image failed.
    pub const IO: u32 = 5;
    /// The request is wrong.
    pub const INVALID: u32 = 22;
}

/// A request without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: u16,
    /// Comes back with the reply.
    pub cookie: u64,
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u32,
}

impl Request {
    /// Writes the request's 28 bytes.
    pub fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(28);
        bytes.extend(REQUEST_MAGIC.to_be_bytes());
        bytes.extend(0u16.to_be_bytes());
        bytes.extend(self.command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        stream.write_all(&bytes)
    }

    /// Reads a request; flags are ignored, since none was offered.
    pub fn read(stream: &mut impl Read) -> io::Result<Request> {
        expect(u32::from_be_bytes(bytes(stream)?), REQUEST_MAGIC, "a request")?;
        let _flags: [u8; 2] = bytes(stream)?;
        Ok(Request {
            command: u16::from_be_bytes(bytes(stream)?),
            cookie: u64::from_be_bytes(bytes(stream)?),
            offset: u64::from_be_bytes(bytes(stream)?),
            length: u32::from_be_bytes(bytes(stream)?),
        })
    }
}

/// The next bytes of a stream.
pub fn bytes<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut found = [0; N];
    stream.read_exact(&mut found)?;
    Ok(found)
}

/// The word that has to stand here.
pub fn expect<T: PartialEq>(found: T, wanted: T, what: &str) -> io::Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("{what} of NBD was expected")))
}
