//! Capabilities as userland sees them: handles, kinds, rights.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A capability's number in the table of the process that holds it.
///
/// The low half is the index, the high half the generation of that entry: a handle that was closed or
/// moved is an error for ever after, never another object. Zero names nothing; where a call says so it
/// means the caller's own process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Handle(pub u64);

impl Handle {
    /// No capability; in a `process` argument, the caller's own process.
    pub const NONE: Handle = Handle(0);

    /// Puts a handle together. A `generation` of 0 is never valid.
    pub const fn new(index: u32, generation: u32) -> Self {
        Handle((generation as u64) << 32 | index as u64)
    }

    /// The entry's index in the table.
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// The generation that the entry had when the handle was given.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether this is [`Handle::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $name:ident = $number:literal, [$($right:ident),*]; )+) => {
        /// What a capability names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $( $(#[doc = $doc])+ $name = $number, )+
        }

        impl Kind {
            /// Every kind, in the order of the numbers.
            pub const ALL: &'static [Kind] = &[$( Kind::$name, )+];

            /// The kind with this number.
            pub const fn from_number(number: u8) -> Option<Kind> {
                match number {
                    $( $number => Some(Kind::$name), )+
                    _ => None,
                }
            }

            /// The name, as the documents write it.
            pub const fn name(self) -> &'static str {
                match self { $( Kind::$name => stringify!($name), )+ }
            }

            /// What it is.
            pub const fn meaning(self) -> &'static str {
                match self { $( Kind::$name => concat!($($doc,)+), )+ }
            }

            /// The rights that a capability of this kind can have.
            pub const fn rights(self) -> Rights {
                match self {
                    $( Kind::$name => Rights::empty()$(.union(Rights::$right))*, )+
                }
            }
        }
    };
}

kinds! {
    /// An address space with its capability table, quota, service id and rank.
    Process = 1, [MANAGE, MAP_INTO, INSPECT];
    /// A thread: registers, urgency, affinity.
    Thread = 2, [MANAGE];
    /// Where calls arrive.
    Endpoint = 3, [CALL, POST, RECEIVE, MINT, MANAGE];
    /// The one answer owed to one caller. Single use: it moves and never copies.
    Reply = 4, [];
    /// 64 event bits.
    Notification = 5, [SIGNAL, WAIT];
    /// Memory by pages.
    Vmo = 6, [READ, WRITE, EXECUTE, PHYSICAL, RESIZE];
    /// One device's register window, whole pages.
    DeviceMmio = 7, [MAP, MANAGE];
    /// One interrupt line.
    Irq = 8, [BIND, ACKNOWLEDGE];
    /// One deadline that signals a notification.
    Timer = 9, [ARM];
    /// The root of device capabilities.
    DeviceAuthority = 10, [CREATE];
    /// The root of processes, with a range of service ids.
    ProcessAuthority = 11, [CREATE];
    /// The root of urgency, with a maximum class.
    QosAuthority = 12, [MANAGE];
    /// The kernel's ring, the system's figures, reset and power-off.
    SystemControl = 13, [LOG, INSPECT, RESET];
}

bitflags! {
    /// What the holder of a capability may do with its object. Rights only ever shrink.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Rights: u32 {
        /// Read memory, or map it readable.
        const READ = 1 << 0;
        /// Write memory, or map it writable.
        const WRITE = 1 << 1;
        /// Map memory executable.
        const EXECUTE = 1 << 2;
        /// Learn the physical address of memory for a device.
        const PHYSICAL = 1 << 3;
        /// Grow or shrink memory.
        const RESIZE = 1 << 4;
        /// Make calls to an endpoint.
        const CALL = 1 << 5;
        /// Post to an endpoint.
        const POST = 1 << 6;
        /// Receive from an endpoint.
        const RECEIVE = 1 << 7;
        /// Mint badged copies of an endpoint.
        const MINT = 1 << 8;
        /// Control the object: kill, seal, change, hand capabilities to it; say that a device was reset.
        const MANAGE = 1 << 9;
        /// Signal a notification.
        const SIGNAL = 1 << 10;
        /// Wait for, poll or bind a notification.
        const WAIT = 1 << 11;
        /// Map a device's window, and create memory that the device reaches by itself.
        const MAP = 1 << 12;
        /// Map memory into a process.
        const MAP_INTO = 1 << 13;
        /// Read figures and states.
        const INSPECT = 1 << 14;
        /// Bind an interrupt to a notification.
        const BIND = 1 << 15;
        /// Acknowledge an interrupt.
        const ACKNOWLEDGE = 1 << 16;
        /// Arm a timer.
        const ARM = 1 << 17;
        /// Create what an authority stands for.
        const CREATE = 1 << 18;
        /// Read and write the kernel's ring.
        const LOG = 1 << 19;
        /// Reset or power off the machine.
        const RESET = 1 << 20;
    }
}

/// Four classes of urgency; a ready thread of a higher class runs first, with bounded starvation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// Runs when nobody else wants to.
    Idle = 0,
    /// What a process starts with.
    Normal = 1,
    /// Answers to people.
    Interactive = 2,
    /// Short bursts that must not wait.
    PerfBurst = 3,
}

impl Qos {
    /// Every class, least urgent first.
    pub const ALL: [Qos; 4] = [Qos::Idle, Qos::Normal, Qos::Interactive, Qos::PerfBurst];

    /// The class with this number.
    pub const fn from_number(number: u64) -> Option<Qos> {
        match number {
            0 => Some(Qos::Idle),
            1 => Some(Qos::Normal),
            2 => Some(Qos::Interactive),
            3 => Some(Qos::PerfBurst),
            _ => None,
        }
    }
}
