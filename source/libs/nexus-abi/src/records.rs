//! Structures that calls fill in or read: what a process is created with, and what the kernel tells
//! of capabilities, processes and the machine. All are plain bytes in native (little-endian) order.

use crate::capability::Handle;
use crate::limits::{BACKTRACE_MAX, FAULT_REPORT_BYTES};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $type, )+ }

        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}

record! {
    /// What `process_create` reads.
    pub struct ProcessParameters {
        /// Who the process is. Must lie in the authority's range and be live nowhere else.
        pub service_id: u64,
        /// Pages carved from the creator's quota for everything that the process will own.
        pub quota_pages: u64,
        /// The supervisor's notification (right: signal).
        pub supervisor: Handle,
        /// Bits signalled there when the process ends.
        pub death_bits: u64,
        /// Its place in the call order.
        pub rank: u32,
        /// Entries that its capability table can hold.
        pub capabilities_max: u32,
        /// Calls that it can hold unanswered.
        pub open_calls_max: u32,
        /// The most urgent class that its threads may have ([`crate::capability::Qos`]).
        pub qos_max: u32,
    }
}

record! {
    /// What `cap_query`, `cap_list` and `cap_holders` fill in.
    pub struct CapabilityInfo {
        /// The handle (of the process that was asked about).
        pub handle: Handle,
        /// Number of the [`crate::Kind`].
        pub kind: u32,
        /// Bits of the [`crate::Rights`].
        pub rights: u32,
        /// Badge of an endpoint; process id of a process; line of an interrupt; pages in quarantine of a
        /// device; last service id of a `ProcessAuthority`; highest class of a `QosAuthority`; 0 otherwise.
        pub badge: u64,
        /// Physical base of a device window; first service id of a `ProcessAuthority`; 0 otherwise.
        pub base: u64,
        /// Bytes of a `Vmo` or a device window; 0 otherwise.
        pub bytes: u64,
    }
}

/// A process is alive.
pub const STATE_ALIVE: u32 = 0;
/// It ended by `process_exit`; `exit_code` is its own word.
pub const STATE_EXITED: u32 = 1;
/// A fault ended it; the report says which.
pub const STATE_FAULTED: u32 = 2;
/// Its manager ended it.
pub const STATE_KILLED: u32 = 3;

record! {
    /// What `process_status` and `process_list` fill in.
    pub struct ProcessStatus {
        /// The process's number: never reused within a boot, for display only.
        pub process_id: u64,
        /// Its service id.
        pub service_id: u64,
        /// Ticks of the clock that its threads have run.
        pub cpu_ticks: u64,
        /// Pages of its quota.
        pub quota_pages: u64,
        /// Pages of the quota that are reserved or given on.
        pub reserved_pages: u64,
        /// Pages that are populated.
        pub populated_pages: u64,
        /// What it gave to `process_exit`, or the killer to `process_kill`.
        pub exit_code: u64,
        /// One of the `STATE_` constants.
        pub state: u32,
        /// Its place in the call order.
        pub rank: u32,
        /// Live threads.
        pub threads: u32,
        /// Capabilities in its table.
        pub capabilities: u32,
        /// 1 while frames and objects of an ended process are still being reclaimed.
        pub reclaiming: u32,
        /// Always 0.
        pub reserved: u32,
    }
}

record! {
    /// What `system_info` fills in.
    pub struct SystemInfo {
        /// Ticks of the clock a second.
        pub ticks_per_second: u64,
        /// The clock when the kernel was entered, in ticks.
        pub boot_ticks: u64,
        /// The clock when init was entered, in ticks.
        pub init_ticks: u64,
        /// Pages of RAM that the firmware handed over.
        pub ram_pages: u64,
        /// Pages that the kernel itself occupies for good.
        pub kernel_pages: u64,
        /// Pages that quotas can reserve.
        pub quota_pages: u64,
        /// Pages that are populated now.
        pub used_pages: u64,
        /// Live threads.
        pub threads: u64,
        /// Processes, ended ones that somebody still holds included.
        pub processes: u64,
        /// Hardware threads that are online.
        pub harts_online: u64,
        /// Messages delivered since boot.
        pub messages: u64,
        /// Device interrupts taken since boot.
        pub interrupts: u64,
        /// Pages that nobody reaches but a device that has not been reset.
        pub quarantined_pages: u64,
        /// The longest that a hart ran in the kernel without a look at interrupts since init was entered, in
        /// ticks. The fast path of messages and short calls are not among it.
        pub longest_ticks: u64,
        /// How often one hart interrupted another, so that it looks at its queue.
        pub hart_calls: u64,
        /// Threads that an idle hart took over from another.
        pub threads_stolen: u64,
        /// How often a message or a short call found a lock taken.
        pub locks_contended: u64,
    }
}

/// What ended a process, in [`FaultReport::cause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FaultCause {
    /// Reading memory that is missing or not readable.
    ReadFault = 1,
    /// Writing memory that is missing or not writable.
    WriteFault = 2,
    /// Executing memory that is missing or not executable.
    ExecuteFault = 3,
    /// An instruction that the machine or its mode does not know.
    IllegalInstruction = 4,
    /// An access that is not aligned as the instruction needs it.
    Misaligned = 5,
    /// A breakpoint instruction; `nexus-rt` ends a panicking process with it.
    Breakpoint = 6,
    /// Any other exception; `detail` holds the machine's number for it.
    Other = 7,
}

impl FaultCause {
    /// The cause with this number.
    pub const fn from_number(number: u32) -> Option<FaultCause> {
        Some(match number {
            1 => FaultCause::ReadFault,
            2 => FaultCause::WriteFault,
            3 => FaultCause::ExecuteFault,
            4 => FaultCause::IllegalInstruction,
            5 => FaultCause::Misaligned,
            6 => FaultCause::Breakpoint,
            7 => FaultCause::Other,
            _ => return None,
        })
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            FaultCause::ReadFault => "read fault",
            FaultCause::WriteFault => "write fault",
            FaultCause::ExecuteFault => "execute fault",
            FaultCause::IllegalInstruction => "illegal instruction",
            FaultCause::Misaligned => "misaligned access",
            FaultCause::Breakpoint => "breakpoint",
            FaultCause::Other => "exception",
        }
    }
}

record! {
    /// What `process_report` fills in: at most [`FAULT_REPORT_BYTES`].
    pub struct FaultReport {
        /// The process's number.
        pub process_id: u64,
        /// Its service id.
        pub service_id: u64,
        /// The clock when it happened, in ticks.
        pub ticks: u64,
        /// The instruction that faulted.
        pub program_counter: u64,
        /// The address that it touched (0 where the cause has none).
        pub address: u64,
        /// `x1` to `x31`.
        pub registers: [u64; 31],
        /// Return addresses, innermost first.
        pub backtrace: [u64; BACKTRACE_MAX],
        /// The mapping that holds `address` or, failing that, the next one above it: its base.
        pub region_base: u64,
        /// Its bytes (0: there is none).
        pub region_bytes: u64,
        /// Its protection, as bits of [`crate::Rights`].
        pub region_protection: u32,
        /// Number of the [`FaultCause`].
        pub cause: u32,
        /// The machine's own number for the cause.
        pub detail: u32,
        /// Entries of `backtrace` that are valid.
        pub backtrace_length: u32,
    }
}

const _: () = assert!(size_of::<FaultReport>() <= FAULT_REPORT_BYTES);

/// How serious a record of the kernel's ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RingLevel {
    /// Something that must be looked at.
    Error = 0,
    /// Something was refused or is odd.
    Warning = 1,
    /// Ordinary life.
    Info = 2,
}

record! {
    /// The head of one record in what `ring_read` fills in; `text_bytes` bytes of text follow it,
    /// padded with zeroes to a multiple of 8.
    pub struct RingRecord {
        /// Counts up by one a record; a gap means that records were overwritten unread.
        pub sequence: u64,
        /// The clock when it was written, in ticks.
        pub ticks: u64,
        /// Service id of the writer; 0 is the kernel.
        pub service_id: u64,
        /// Number of the [`RingLevel`].
        pub level: u32,
        /// Bytes of text that follow.
        pub text_bytes: u32,
    }
}

/// The records in what `ring_read` filled in: each head with its text. Bytes that are no whole record end them.
pub fn ring_records(mut bytes: &[u8]) -> impl Iterator<Item = (RingRecord, &[u8])> {
    core::iter::from_fn(move || {
        let (head, rest) = RingRecord::read_from_prefix(bytes).ok()?;
        let length = head.text_bytes as usize;
        let text = rest.get(..length)?;
        bytes = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
        Some((head, text))
    })
}
