//! Bounds of the kernel's interface. Reaching one is an error that the call's entry names.

/// Bytes of a page, the unit of every mapping and of every quota.
pub const PAGE_SIZE: usize = 4096;
/// Bytes of a message that travel in registers.
pub const REGISTER_BYTES: usize = 64;
/// Words of a message that travel in registers.
pub const REGISTER_WORDS: usize = REGISTER_BYTES / 8;
/// Bytes that one message may copy. Beyond it the caller lends memory.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Capabilities that one message may carry.
pub const MESSAGE_CAPABILITIES_MAX: usize = 4;
/// Leases that one call may carry.
pub const LEASES_MAX: usize = 4;
/// Posts that one post capability may have under way.
pub const POST_CREDIT: u32 = 4;
/// Bytes that one `vmo_read`, `vmo_write`, `lease_copy`, `ring_read` or `ring_write` may move.
pub const TRANSFER_BYTES_MAX: usize = 64 * 1024;
/// Pages of the largest `Vmo` (1 GiB).
pub const VMO_PAGES_MAX: usize = 262_144;
/// Pages of one memory object for a device (256 KiB): they are neighbours, and one may have many objects.
pub const DMA_PAGES_MAX: usize = 64;
/// Entries that a capability table can be given at the most.
pub const CAPABILITIES_MAX: u32 = 32_768;
/// Capabilities that one can derive from, one from the other, up to the first.
pub const DERIVATIONS_MAX: usize = 64;
/// Calls that one process can hold unanswered at the most.
pub const OPEN_CALLS_MAX: u32 = 1_024;
/// The shortest period of a budget is this part of a second.
pub const BUDGET_PERIOD_MIN: u64 = 1_000;
/// Seconds of the longest period of a budget.
pub const BUDGET_PERIOD_MAX: u64 = 10;
/// Threads in the whole system.
pub const THREADS_MAX: usize = 4_096;
/// Hardware threads that the kernel starts at the most.
pub const HARTS_MAX: usize = 8;
/// The highest rank. Calls go strictly down in rank.
pub const RANK_MAX: u32 = 65_535;
/// Bytes of the text in one record of the kernel's ring.
pub const RING_TEXT_MAX: usize = 1_024;
/// Bytes of a fault report.
pub const FAULT_REPORT_BYTES: usize = 1_024;
/// Return addresses in a fault report.
pub const BACKTRACE_MAX: usize = 32;

/// The lowest address that user memory may have; below it nothing is ever mapped.
pub const USER_BASE: u64 = 0x1000;
/// The first address beyond user memory (the lower half of Sv39).
pub const USER_END: u64 = 0x40_0000_0000;

/// A deadline that never comes.
pub const FOREVER: u64 = u64::MAX;
