//! The proofs of statefs that need more than one module of it: power cuts as a dimension of every scenario,
//! damage, mutants of the engine, golden images, an independent reader.
//!
//! Everything is seeded: a failure prints seed, window and choice, and [`campaign::replay`] runs it again.
//! Start at `scenario.rs` (what happens), `medium.rs` (what a cut leaves), `campaign.rs` (what must hold).
#![forbid(unsafe_code)]

pub mod campaign;
pub mod damage;
pub mod golden;
pub mod medium;
pub mod random;
pub mod scenario;
