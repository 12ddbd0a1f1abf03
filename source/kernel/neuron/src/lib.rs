//! `neuron`, the kernel of Open Nexus: address spaces, threads, capabilities, messages.
//!
//! What it is: an event-style microkernel. One stack a hart, interrupts off inside, nothing blocks in
//! the middle of a path: a thread that waits is a state in an object. The core is portable and has no
//! statics; `arch` is the only place with assembly and control registers, and everything else is tested
//! on the host.
//!
//! What it is not: it knows no names, no devices and no policy; it allocates from no heap.
//!
//! Invariants: see the head of each file; the life of a call is `system_call/message.rs` and
//! [`message`], the life of a capability `object/capability.rs` and `object/derivation.rs`, the life of
//! a page `memory/`. `unsafe` stands in `arch`, `fast_path`, `memory::frame`, `memory::slab`,
//! `object::capability` and `sync` only.
//!
//! Where to start reading: [`kernel`], then `system_call/mod.rs`.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![deny(missing_docs)]
// Each module that may is allowed by name, with what for.
#![deny(unsafe_code)]

pub mod arch;
pub mod boot;
pub mod deadline;
pub mod fast_path;
pub mod fault;
pub mod harts;
#[cfg(feature = "host")]
mod host_entry;
pub mod kernel;
pub mod memory;
pub mod message;
pub mod object;
pub mod ring;
pub mod run_queue;
pub mod schedule;
pub mod selftest;
pub mod short_call;
#[cfg(feature = "host")]
pub mod simulation;
pub mod sync;
pub mod system_call;
pub mod teardown;
#[cfg(feature = "host")]
pub mod testing;
pub mod urgency;
pub mod voice;
