//! The layout of a message: one header word, eight payload words in registers, and for everything
//! larger one structure of buffers.
//!
//! Registers at a `call`, `reply`, `reply_recv`, `recv` and `post` (all of them are registers that a
//! function call may clobber; a caller must not rely on what the others hold afterwards):
//!
//! | register | going in | coming back |
//! | --- | --- | --- |
//! | `a7` | number of the system call | |
//! | `a0` | endpoint | error, 0 is success |
//! | `a1` | header of the message that is sent | header of the message that came |
//! | `a2` | reply handle (`reply`, `reply_recv`) | reply handle (`recv`: of a call) |
//! | `a3` | address of [`Buffers`], or 0 | badge (`recv`) |
//! | `a4 a5 a6 t0 t1 t2 t3 t4` | payload words 0 to 7 | payload words 0 to 7 |
//! | `t5` | deadline in ticks | service id of the sender (`recv`) |
//! | `t6` | | process id of the sender (`recv`) |

use crate::capability::{Handle, Rights};
use crate::limits::{MESSAGE_CAPABILITIES_MAX, REGISTER_WORDS};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A message's header: `label` in bits 48 to 63, the number of leases in bits 44 to 47, [`Arrival`] in bits
/// 40 to 43, the number of capabilities in bits 32 to 39, the number of payload bytes in bits 0 to 31.
///
/// The label travels untouched: it names the operation in a request and the outcome in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Header(pub u64);

impl Header {
    /// A header for sending: `bytes` of payload and `capabilities` of [`Buffers::send_capabilities`].
    pub const fn new(label: u16, bytes: u32, capabilities: u8) -> Self {
        Header((label as u64) << 48 | (capabilities as u64) << 32 | bytes as u64)
    }

    /// The operation or outcome.
    pub const fn label(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Bytes of payload.
    pub const fn bytes(self) -> usize {
        self.0 as u32 as usize
    }

    /// Capabilities that the message carries.
    pub const fn capabilities(self) -> usize {
        (self.0 >> 32) as u8 as usize
    }

    /// Ranges of memory that a call lends.
    pub const fn leases(self) -> usize {
        (self.0 >> 44) as usize & 0xf
    }

    /// The same header with this many of the leases at [`Buffers::leases`], at most 15.
    pub const fn with_leases(self, count: u8) -> Self {
        Header(self.0 & !(0xf << 44) | (count as u64 & 0xf) << 44)
    }

    /// What a `recv` yielded; `None` for a value that the kernel never gives.
    pub const fn arrival(self) -> Option<Arrival> {
        Arrival::from_number((self.0 >> 40) as u8 & 0xf)
    }

    /// The same header with the kind of arrival put in (the kernel does this when it delivers).
    pub const fn with_arrival(self, arrival: Arrival) -> Self {
        Header(self.0 & !(0xf << 40) | (arrival as u64) << 40)
    }
}

/// What a `recv` yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Arrival {
    /// A call; `a2` holds the reply handle.
    Call = 0,
    /// A post: nobody waits for an answer.
    Post = 1,
    /// Bits of the bound notification, in word 0. They bring no identity.
    Bits = 2,
    /// The last copy of a badged capability is gone; `a3` holds the badge.
    BadgeGone = 3,
}

impl Arrival {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Arrival> {
        match number {
            0 => Some(Arrival::Call),
            1 => Some(Arrival::Post),
            2 => Some(Arrival::Bits),
            3 => Some(Arrival::BadgeGone),
            _ => None,
        }
    }
}

/// One capability that a message carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CapabilityTransfer {
    /// The sender's capability.
    pub handle: Handle,
    /// The rights that the receiver gets: at most the sender's.
    pub rights: u32,
    /// [`CAP_COPY`] or [`CAP_MOVE`].
    pub mode: u32,
}

/// The sender keeps its capability and the receiver gets a copy.
pub const CAP_COPY: u32 = 0;
/// The sender's capability becomes the receiver's at the moment of delivery, not before.
pub const CAP_MOVE: u32 = 1;

impl CapabilityTransfer {
    /// A copy with at most these rights.
    pub const fn copy(handle: Handle, rights: Rights) -> Self {
        CapabilityTransfer { handle, rights: rights.bits(), mode: CAP_COPY }
    }

    /// The capability itself, with at most these rights.
    pub const fn moved(handle: Handle, rights: Rights) -> Self {
        CapabilityTransfer { handle, rights: rights.bits(), mode: CAP_MOVE }
    }
}

/// Memory that a call lends to whoever holds its Reply, until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lease {
    /// [`Handle::NONE`] lends the caller's own memory. A Reply lends on what that Reply's caller lent.
    pub reply: Handle,
    /// The first address; when lending on, the offset into that lease.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// What the borrower may do: READ, WRITE or both.
    pub rights: u32,
    /// When lending on: which of the caller's leases.
    pub index: u32,
}

impl Lease {
    /// The caller's own memory, to be read.
    pub fn of(memory: &[u8]) -> Self {
        let (address, bytes) = (memory.as_ptr() as u64, memory.len() as u64);
        Lease { address, bytes, rights: Rights::READ.bits(), ..Lease::default() }
    }

    /// The caller's own memory, to be read and written.
    pub fn of_writable(memory: &mut [u8]) -> Self {
        let (address, bytes) = (memory.as_mut_ptr() as u64, memory.len() as u64);
        Lease { address, bytes, rights: (Rights::READ | Rights::WRITE).bits(), ..Lease::default() }
    }
}

/// Buffers of a message that does not fit the registers. Addresses are of the caller's own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Buffers {
    /// Where the payload stands when the header says more than 64 bytes.
    pub send_address: u64,
    /// Where a payload of more than 64 bytes is to be put.
    pub receive_address: u64,
    /// Room at `receive_address`, in bytes.
    pub receive_bytes: u64,
    /// Where the [`Lease`]s of a call stand; the header's count tells how many.
    pub leases: u64,
    /// Capabilities to send; the header's count tells how many of them.
    pub send_capabilities: [CapabilityTransfer; MESSAGE_CAPABILITIES_MAX],
    /// Where the kernel writes the handles of capabilities that came.
    pub received_capabilities: [Handle; MESSAGE_CAPABILITIES_MAX],
}

/// Byte offset of [`Buffers::received_capabilities`]: the only part that the kernel writes.
pub const RECEIVED_CAPABILITIES_OFFSET: u64 = core::mem::offset_of!(Buffers, received_capabilities) as u64;

/// The registers of a message, in the order of the table above (without `a7`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// `a0`: endpoint, then error number.
    pub target: u64,
    /// `a1`: header.
    pub header: Header,
    /// `a2`: reply handle.
    pub reply: Handle,
    /// `a3`: address of [`Buffers`], then badge.
    pub buffers: u64,
    /// `a4 a5 a6 t0 t1 t2 t3 t4`: the payload.
    pub words: [u64; REGISTER_WORDS],
    /// `t5`: deadline in ticks, then the sender's service id.
    pub deadline: u64,
    /// `t6`: nothing, then the sender's process id.
    pub process_id: u64,
}
