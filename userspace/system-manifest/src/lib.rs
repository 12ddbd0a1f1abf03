//! The system manifest: which services exist, what each serves, whom it may call and with which
//! operations, its devices, its limits, and what happens when it dies.
//!
//! What it is: the model ([`Manifest`]), its bytes in the initial image ([`decode`]) and, with the
//! feature `compile`, the compiler from `recipes/system.toml` ([`compile`]).
//! What it is not: it starts nothing and knows no capability; that is init's part.
//!
//! Invariants: whatever [`decode`] yields was checked by [`check::check`], the same function that the
//! compiler ends with, so init sees no dangling name, no call upwards in rank and nothing beyond the
//! limits below, whoever wrote the bytes.
//!
//! Where to start reading: [`model`], then `recipes/system.toml`.
#![cfg_attr(not(any(test, feature = "compile")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod check;
#[cfg(feature = "compile")]
mod compile;
pub mod model;
mod wire;

#[cfg(feature = "compile")]
pub use compile::{CompileError, compile};
pub use model::{
    Access, ControlRights, DeviceNeed, Endpoint, Init, Limits, LogReader, Manifest, Restart, Service,
    ServiceIds, StartPolicy, Urgency, VIRTIO_DEVICES,
};
pub use wire::{DecodeError, decode, encode};

/// Services that a manifest can name. Init watches each by one bit of a notification.
pub const SERVICES_MAX: usize = 48;
/// Bytes of a service's, endpoint's, operation's or device's name.
pub const NAME_BYTES_MAX: usize = 32;
/// The least time after which a service may count as hanging, in milliseconds: three of the signs that it gives
/// while it works.
pub const HEARTBEAT_MS_MIN: u32 = 3_000;
/// Endpoints that one service can serve. It receives from one of them in a thread.
pub const ENDPOINTS_MAX: usize = 4;
/// Operations of one endpoint: each is a bit of [`Access::operations`].
pub const OPERATIONS_MAX: usize = 63;
/// Endpoints that one service may call.
pub const CALLS_MAX: usize = 24;
/// Devices that one service can own.
pub const DEVICES_MAX: usize = 4;
/// Files of the initial image that one service can be given.
pub const FILES_MAX: usize = 4;
/// Pages of the largest board.
pub const BOARD_PAGES_MAX: u32 = 16;
/// Pages of memory that one device may read and write by itself (64 MiB).
pub const DEVICE_PAGES_MAX: u32 = 16_384;
/// Bytes that the endpoint of a service may take in one message.
pub const MESSAGE_BYTES_MAX: u32 = 64 * 1024;
/// Capabilities that one message may carry.
pub const MESSAGE_CAPABILITIES_MAX: u32 = 4;
/// Pages that one service's quota may hold (1 GiB).
pub const MEMORY_PAGES_MAX: u32 = 262_144;
/// Pages of the largest stack (1 MiB).
pub const STACK_PAGES_MAX: u32 = 256;
/// Entries of the largest capability table.
pub const CAPABILITIES_MAX: u32 = 65_536;
/// Calls that one service can hold unanswered.
pub const OPEN_CALLS_MAX: u32 = 1_024;
/// The highest rank.
pub const RANK_MAX: u32 = 65_535;
/// Restarts within a minute that a policy may allow.
pub const RESTART_BUDGET_MAX: u32 = 1_200;
/// Bytes of the largest manifest.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;
