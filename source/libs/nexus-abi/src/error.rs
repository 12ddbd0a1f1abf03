//! The one enum of errors that a system call can answer.
//!
//! Each value has one meaning. A call's entry in [`crate::calls`] says which of them it can give and
//! why; whatever is not listed there cannot come from it.

/// The outcome of a system call.
pub type Result<T> = core::result::Result<T, Error>;

macro_rules! errors {
    ($( $(#[doc = $doc:literal])+ $name:ident = $number:literal, )+) => {
        /// Why a system call was refused. The numbers are the contract (register `a0`; 0 is success).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Error {
            $( $(#[doc = $doc])+ $name = $number, )+
        }

        impl Error {
            /// Every error, in the order of the numbers.
            pub const ALL: &'static [Error] = &[$( Error::$name, )+];

            /// The error with this number, or `None` for 0 and for numbers that no error has.
            pub const fn from_number(number: u64) -> Option<Error> {
                match number {
                    $( $number => Some(Error::$name), )+
                    _ => None,
                }
            }

            /// The name, as the documents write it.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Error::$name => stringify!($name), )+
                }
            }

            /// What it means, in one sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $( Error::$name => concat!($($doc,)+), )+
                }
            }
        }
    };
}

errors! {
    /// No system call has this number.
    UnknownCall = 1,
    /// The path exists in the contract but is not built here.
    Unsupported = 2,
    /// The handle names no entry of the caller's capability table.
    InvalidHandle = 3,
    /// The entry was closed, moved or reused, or its object is gone, since this handle was given.
    StaleHandle = 4,
    /// The capability is of another kind than the call needs.
    WrongKind = 5,
    /// The capability lacks the right that the call needs, or an authority's range does not cover it.
    NotPermitted = 6,
    /// An argument has a value that the call never accepts.
    InvalidArgument = 7,
    /// An address, offset or length is not a multiple of the page size.
    Unaligned = 8,
    /// An offset or length reaches beyond the end of the object or of the address space.
    OutOfRange = 9,
    /// User memory at the given address is missing or does not allow the access.
    Fault = 10,
    /// The quota that pays is used up.
    NoMemory = 11,
    /// The capability table has no free entry within its quota.
    NoSlots = 12,
    /// The message is larger than the receiving side accepts.
    TooLarge = 13,
    /// The deadline passed first.
    TimedOut = 14,
    /// Whoever should answer (or should be answered) is gone.
    PeerGone = 15,
    /// The call order forbids it: the endpoint's rank is not strictly below the caller's.
    WouldDeadlock = 16,
    /// The endpoint was sealed, or the device retired, for good.
    Sealed = 17,
    /// The capability was revoked.
    Revoked = 18,
    /// The object is bound or waited on by somebody else already.
    Busy = 19,
    /// The address range overlaps an existing mapping.
    Overlap = 20,
    /// Memory may never be writable and executable, and a device window never executable.
    WriteExecute = 21,
    /// The buffers given to a receive are smaller than what the endpoint may deliver.
    BufferTooSmall = 22,
    /// The post capability has used up its credit.
    NoCredit = 23,
    /// The service id is live in another process.
    IdentityInUse = 24,
    /// Nothing was there, and the call does not wait.
    WouldBlock = 25,
    /// A table of fixed size in the kernel is full.
    TableFull = 26,
}

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl core::error::Error for Error {}
