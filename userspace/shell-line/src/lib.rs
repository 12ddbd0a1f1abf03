//! A prompt's line: editing, history, completion, and the words of a command.
//!
//! What it is: [`Editor`] turns typed bytes into lines and into the bytes that show them; [`words`] splits a
//! line; [`nearest`] finds what was probably meant. What it is not: it reads and writes nothing itself.
//!
//! Invariants: any bytes may be typed; the line is at most [`LINE_CHARACTERS_MAX`] characters, the history
//! at most [`HISTORY_LINES_MAX`] lines; after every byte the terminal shows exactly prompt and line, with
//! the cursor where the next character goes (a test plays the terminal).
//!
//! Where to start reading: [`Editor::feed`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod editor;
mod history;
mod keys;
mod words;

pub use editor::{Editor, Event, LINE_CHARACTERS_MAX};
pub use history::HISTORY_LINES_MAX;
pub use words::{nearest, words};
