//! The last log lines, for who asks.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Lines that are kept.
pub const RECENT_LINES_MAX: usize = 512;
/// Bytes that are kept.
pub const RECENT_BYTES_MAX: usize = 64 * 1024;

/// A bounded queue of lines; the oldest make room.
#[derive(Debug, Default)]
pub struct Recent {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Recent {
    /// Keeps a line.
    pub fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > RECENT_LINES_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The last `lines` lines, oldest first, each ended by a line break; fewer if they exceed `bytes_max`.
    pub fn last(&self, lines: usize, bytes_max: usize) -> String {
        let mut first = self.lines.len();
        let mut bytes = 0;
        for line in self.lines.iter().rev().take(lines) {
            bytes += line.len() + 1;
            if bytes > bytes_max {
                break;
            }
            first -= 1;
        }
        let mut text = String::new();
        for line in self.lines.iter().skip(first) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_oldest_first_within_their_bytes() {
        let mut recent = Recent::default();
        for number in 0..RECENT_LINES_MAX + 5 {
            recent.push(format!("{number:04}"));
        }
        assert_eq!(recent.last(2, 100), "0515\n0516\n");
        assert_eq!(recent.last(9, 10), "0515\n0516\n");
        assert_eq!(recent.last(9, 4), "");
        assert!(recent.last(usize::MAX, usize::MAX).starts_with("0005\n"));
    }

    #[test]
    fn long_lines_push_out_more_than_one() {
        let mut recent = Recent::default();
        recent.push("a".repeat(RECENT_BYTES_MAX / 2));
        recent.push("b".repeat(RECENT_BYTES_MAX / 2));
        recent.push("c".repeat(RECENT_BYTES_MAX));
        assert!(recent.last(9, usize::MAX).starts_with('c'));
    }
}
