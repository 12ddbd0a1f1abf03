//! The messages of every service: one file a service, one declaration in each.
//!
//! What it is: the request and answer types, their largest sizes, and what `nexus_ipc::service!` makes of
//! them: client, server trait, dispatch, limits and reference text. What it is not: any behaviour.
//!
//! Invariants: the numbers of operations are those of `recipes/system.toml` (a test compares them), and
//! every message decodes from exactly the bytes that it encodes to.
//!
//! Where to start reading: [`pong`], the smallest.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bell;
pub mod block;
pub mod bulk;
pub mod busy;
pub mod console;
pub mod drill;
pub mod gale;
pub mod gust;
pub mod helper;
pub mod init;
pub mod keystore;
pub mod log;
pub mod meter;
pub mod peer;
pub mod policy;
pub mod pong;
pub mod rng;
pub mod slow;
pub mod soak;
pub mod state;

/// The reference of every service.
pub const SERVICES: &[&nexus_ipc::ServiceReference] = &[
    &bell::REFERENCE,
    &block::REFERENCE,
    &bulk::REFERENCE,
    &busy::REFERENCE,
    &console::REFERENCE,
    &drill::REFERENCE,
    &gale::REFERENCE,
    &gust::REFERENCE,
    &helper::REFERENCE,
    &init::REFERENCE,
    &keystore::REFERENCE,
    &log::REFERENCE,
    &meter::REFERENCE,
    &peer::REFERENCE,
    &policy::REFERENCE,
    &pong::REFERENCE,
    &rng::REFERENCE,
    &slow::REFERENCE,
    &soak::REFERENCE,
    &state::REFERENCE,
];
