//! Bounds of the engine. Reaching one is an error that names it.

/// Bytes of a key at the most.
pub const KEY_BYTES_MAX: usize = 255;
/// Bytes of a value at the most.
pub const VALUE_BYTES_MAX: usize = 65_536;
/// Records of a batch at the most.
pub const BATCH_RECORDS_MAX: usize = 256;
/// Bytes of a batch at the most: record headers, keys and values.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a group at the most, commit records included. A small segment bounds it further.
pub const GROUP_BYTES_MAX: usize = 512 * 1024;
/// Keys that one page of a listing returns at the most.
pub const LIST_KEYS_MAX: usize = 256;
/// Keys that a store on the device holds at the most.
pub const KEYS_MAX_DEVICE: usize = 65_536;
/// Keys that a store on a host holds at the most.
pub const KEYS_MAX_HOST: usize = 1_048_576;
/// Operations remembered for one client.
pub const OPERATIONS_PER_CLIENT: usize = 16;
/// Clients whose operations are remembered.
pub const OPERATION_CLIENTS_MAX: usize = 64;
/// Segments that replay reads at the most; a small store has a lower bound (half of its segments).
pub const REPLAY_SEGMENTS_MAX: u32 = 128;
/// Reports of damage that are kept; further ones are only counted.
pub const DAMAGE_REPORTS_MAX: usize = 64;
/// Epochs, versions, generations and incarnations on a medium are lower: counting up from there cannot overflow.
pub(crate) const COUNTER_END: u64 = 1 << 62;
/// Versions that an opening skips, so that none of a dropped tail is given out twice.
pub(crate) const VERSION_SKIP: u64 = 65_536;
