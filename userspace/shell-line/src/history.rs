//! Lines that were entered before.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Lines that are kept.
pub const HISTORY_LINES_MAX: usize = 64;

/// The history, and where in it the person is looking.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
    /// How far back: 0 is the line that is being typed.
    back: usize,
    /// The line that was being typed when looking back began.
    typed: String,
}

impl History {
    /// Keeps an entered line, unless it is empty or repeats the last one.
    pub fn push(&mut self, line: &str) {
        self.back = 0;
        self.typed.clear();
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == HISTORY_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.into());
    }

    /// The next older line; `None` at the oldest.
    pub fn older(&mut self, current: &str) -> Option<&str> {
        if self.back == self.lines.len() {
            return None;
        }
        if self.back == 0 {
            self.typed = current.into();
        }
        self.back += 1;
        self.at(self.back)
    }

    /// The next newer line, at last the one that was being typed; `None` there.
    pub fn newer(&mut self) -> Option<&str> {
        self.back = self.back.checked_sub(1)?;
        if self.back == 0 { Some(&self.typed) } else { self.at(self.back) }
    }

    fn at(&self, back: usize) -> Option<&str> {
        self.lines.get(self.lines.len().checked_sub(back)?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_back_and_forth_ends_at_the_line_being_typed() {
        let mut history = History::default();
        for line in ["ps", "ps", " ", "mem"] {
            history.push(line);
        }
        assert_eq!(history.older("ty"), Some("mem"));
        assert_eq!(history.older("mem"), Some("ps"));
        assert_eq!(history.older("ps"), None);
        assert_eq!(history.newer(), Some("mem"));
        assert_eq!(history.newer(), Some("ty"));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn the_oldest_line_makes_room() {
        let mut history = History::default();
        for number in 0..=HISTORY_LINES_MAX {
            history.push(&number.to_string());
        }
        let mut oldest = String::new();
        while let Some(line) = history.older("") {
            oldest = line.into();
        }
        assert_eq!(oldest, "1");
    }
}
