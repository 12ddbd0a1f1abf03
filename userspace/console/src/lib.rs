//! What a console decides: how lines of many authors and one person's typing share a terminal.
//!
//! What it is: [`Screen`] (log lines and the shell's text become one stream, no line torn), [`Input`] and
//! [`Output`] (bounded), [`Recent`] (the last lines, for who asks), [`merge`] (lines of many rings in the
//! order of their clocks). What it is not: it knows no device, no ring and no capability.
//!
//! Invariants: a log line is shown whole, with its author where that is asked for, and with every control
//! byte escaped, so no text can pretend to be another's line; nothing here grows without a bound.
//!
//! Where to start reading: [`Screen::log_line`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod escape;
mod input;
pub mod merge;
mod output;
mod recent;
mod screen;

pub use escape::escape;
pub use input::{INPUT_BYTES_MAX, Input};
pub use output::{OUTPUT_BYTES_MAX, Output};
pub use recent::{RECENT_BYTES_MAX, RECENT_LINES_MAX, Recent};
pub use screen::{PARTIAL_BYTES_MAX, Screen};
