//! The line that is being typed.

use crate::history::History;
use crate::keys::{Key, Keys};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Characters of the longest line; what is typed beyond rings the bell.
pub const LINE_CHARACTERS_MAX: usize = 256;
/// Candidates that one completion lists.
const CANDIDATES_MAX: usize = 64;

const BELL: char = '\x07';

/// What a byte led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line was entered.
    Line(String),
    /// The line was given up, or whatever runs is to end.
    Interrupt,
}

/// Prompt, line and cursor.
#[derive(Debug, Default)]
pub struct Editor {
    prompt: String,
    line: Vec<char>,
    /// Characters before the cursor.
    cursor: usize,
    keys: Keys,
    history: History,
    /// Whether the terminal shows something else than prompt and line.
    stale: bool,
}

impl Editor {
    /// An empty line behind this prompt.
    pub fn new(prompt: &str) -> Self {
        Editor { prompt: prompt.into(), ..Editor::default() }
    }

    /// The bytes that show the prompt on a fresh line.
    pub fn begin(&self) -> &str {
        &self.prompt
    }

    /// Takes a typed byte. What the terminal is to show is added to `shown`; after the last byte that is at
    /// hand, [`Editor::refresh`] shows the rest. `complete` yields the words that could stand in place of the
    /// last word of what it is given.
    pub fn feed(
        &mut self,
        byte: u8,
        complete: &dyn Fn(&str) -> Vec<String>,
        shown: &mut String,
    ) -> Option<Event> {
        match self.keys.feed(byte)? {
            Key::Character(character) => self.insert(character, shown),
            Key::Enter => {
                self.cursor = self.line.len();
                self.refresh(shown);
                shown.push('\n');
                let line = self.line();
                self.history.push(&line);
                self.set(Vec::new());
                return Some(Event::Line(line));
            }
            Key::Interrupt => {
                self.refresh(shown);
                shown.push_str("^C\n");
                self.set(Vec::new());
                return Some(Event::Interrupt);
            }
            Key::Tab => self.complete(complete, shown),
            Key::ClearScreen => {
                shown.push_str("\x1b[H\x1b[2J");
                self.stale = true;
            }
            Key::Up => self.look_back(shown),
            Key::Down => self.look_forth(shown),
            key => self.edit(key),
        }
        None
    }

    /// The line so far.
    pub fn line(&self) -> String {
        self.line.iter().collect()
    }

    fn set(&mut self, line: Vec<char>) {
        self.cursor = line.len();
        self.line = line;
    }

    fn insert(&mut self, character: char, shown: &mut String) {
        if self.line.len() >= LINE_CHARACTERS_MAX {
            shown.push(BELL);
            return;
        }
        self.line.insert(self.cursor, character);
        self.cursor += 1;
        if self.cursor < self.line.len() {
            self.stale = true;
        } else if !self.stale {
            shown.push(character);
        }
    }

    /// The keys that move the cursor or remove something.
    fn edit(&mut self, key: Key) {
        let (cursor, length) = (self.cursor, self.line.len());
        match key {
            Key::Left => self.cursor = cursor.saturating_sub(1),
            Key::Right => self.cursor = (cursor + 1).min(length),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = length,
            Key::Backspace => self.remove(cursor.saturating_sub(1)..cursor),
            Key::Delete => self.remove(cursor..(cursor + 1).min(length)),
            Key::KillToStart => self.remove(0..cursor),
            Key::KillToEnd => self.remove(cursor..length),
            Key::KillWord => self.remove(self.word_start()..cursor),
            _ => {}
        }
        if (self.cursor, self.line.len()) != (cursor, length) {
            self.stale = true;
        }
    }

    fn remove(&mut self, range: core::ops::Range<usize>) {
        self.cursor = range.start;
        self.line.drain(range);
    }

    /// Where the word before the cursor begins.
    fn word_start(&self) -> usize {
        let before = self.line.iter().take(self.cursor).collect::<Vec<_>>();
        let blanks = before.iter().rev().take_while(|character| character.is_whitespace()).count();
        let letters =
            before.iter().rev().skip(blanks).take_while(|character| !character.is_whitespace()).count();
        self.cursor - blanks - letters
    }

    fn look_back(&mut self, shown: &mut String) {
        let current = self.line();
        match self.history.older(&current).map(|line| line.chars().collect()) {
            Some(line) => {
                self.set(line);
                self.stale = true;
            }
            None => shown.push(BELL),
        }
    }

    fn look_forth(&mut self, shown: &mut String) {
        match self.history.newer().map(|line| line.chars().collect()) {
            Some(line) => {
                self.set(line);
                self.stale = true;
            }
            None => shown.push(BELL),
        }
    }

    /// Completes the word before the cursor: as far as all candidates agree, else lists them.
    fn complete(&mut self, complete: &dyn Fn(&str) -> Vec<String>, shown: &mut String) {
        let before: String = self.line.iter().take(self.cursor).collect();
        let word = before.rsplit(char::is_whitespace).next().unwrap_or("");
        let mut candidates = complete(&before);
        candidates.retain(|candidate| candidate.starts_with(word));
        let Some(agreed) = common_beginning(&candidates) else {
            shown.push(BELL);
            return;
        };
        let mut addition: Vec<char> = agreed.chars().skip(word.chars().count()).collect();
        if candidates.len() == 1 {
            addition.push(' ');
        }
        if addition.is_empty() {
            shown.push('\n');
            for candidate in candidates.iter().take(CANDIDATES_MAX) {
                shown.push_str(candidate);
                shown.push_str("  ");
            }
            shown.push('\n');
            self.stale = true;
        }
        for character in addition {
            self.insert(character, shown);
        }
    }

    /// Shows what is not shown yet: writes the whole line anew and puts the cursor in its place.
    pub fn refresh(&mut self, shown: &mut String) {
        if !core::mem::take(&mut self.stale) {
            return;
        }
        shown.push_str("\r\x1b[K");
        shown.push_str(&self.prompt);
        shown.extend(self.line.iter());
        let back = self.line.len() - self.cursor;
        if back > 0 {
            shown.push_str(&format!("\x1b[{back}D"));
        }
    }
}

/// The longest beginning that all of them have; `None` without any.
fn common_beginning(words: &[String]) -> Option<&str> {
    let (first, others) = words.split_first()?;
    let length = |other: &String| {
        let same = first.char_indices().zip(other.chars()).take_while(|((_, a), b)| a == b);
        same.last().map_or(0, |((at, character), _)| at + character.len_utf8())
    };
    first.get(..others.iter().map(length).min().unwrap_or(first.len()))
}
