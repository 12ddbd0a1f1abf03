//! Log lines and the shell's text on one terminal, no line torn.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of the shell's unterminated line that are remembered; a longer one is not drawn again.
pub const PARTIAL_BYTES_MAX: usize = 1024;

/// To the beginning of the line, and clear it.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";
const NEW_LINE: &[u8] = b"\r\n";

/// What stands on the terminal's last line, and how the next thing is put there.
#[derive(Debug, Default)]
pub struct Screen {
    /// Whether log lines are shown with their author.
    with_origin: bool,
    /// The shell's text since its last line break.
    partial: Vec<u8>,
    partial_is_whole: bool,
    /// Who wrote `partial`.
    writer: u64,
}

impl Screen {
    /// An empty screen; `with_origin` puts `[author] ` before each log line.
    pub fn new(with_origin: bool) -> Self {
        Screen { with_origin, partial_is_whole: true, ..Screen::default() }
    }

    /// The bytes that show a log line. `text` is escaped already. An unterminated line of the shell is
    /// cleared before and drawn again after.
    pub fn log_line(&self, author: &str, text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() + self.partial.len() + 48);
        if !self.partial.is_empty() {
            bytes.extend_from_slice(if self.partial_is_whole { CLEAR_LINE } else { NEW_LINE });
        }
        if self.with_origin {
            bytes.extend_from_slice(b"[");
            bytes.extend_from_slice(author.as_bytes());
            bytes.extend_from_slice(b"] ");
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(NEW_LINE);
        if self.partial_is_whole {
            bytes.extend_from_slice(&self.partial);
        }
        bytes
    }

    /// A log line as it is kept for who asks later: always with its author.
    pub fn kept_line(author: &str, text: &str) -> String {
        alloc::format!("[{author}] {text}")
    }

    /// The bytes that show what the shell (its process `writer`) wrote. Line breaks become the terminal's.
    /// Where log lines carry authors, a line of the shell that begins as if it had one is moved by a blank.
    pub fn shell_text(&mut self, writer: u64, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() + 16);
        if writer != self.writer {
            self.writer = writer;
            if !self.partial.is_empty() {
                self.end_line(&mut bytes);
            }
        }
        for &byte in text {
            match byte {
                b'\n' => self.end_line(&mut bytes),
                b'[' if self.with_origin && self.at_line_start() => {
                    self.put(b' ', &mut bytes);
                    self.put(b'[', &mut bytes);
                }
                _ => self.put(byte, &mut bytes),
            }
        }
        bytes
    }

    /// Whether the next character would stand in the first column: nothing, or only moves, came before.
    fn at_line_start(&self) -> bool {
        let rest = self.partial.strip_prefix(CLEAR_LINE).unwrap_or(&self.partial);
        rest.is_empty() || rest.ends_with(b"\r")
    }

    fn put(&mut self, byte: u8, bytes: &mut Vec<u8>) {
        bytes.push(byte);
        if byte == b'\r' {
            // The line is written anew from its beginning.
            self.partial.clear();
            self.partial_is_whole = true;
        }
        if self.partial.len() < PARTIAL_BYTES_MAX {
            self.partial.push(byte);
        } else {
            self.partial_is_whole = false;
        }
    }

    fn end_line(&mut self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(NEW_LINE);
        self.partial.clear();
        self.partial_is_whole = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_line_that_is_being_typed_comes_back_after_a_log_line() {
        let mut screen = Screen::new(false);
        assert_eq!(shown(screen.shell_text(1, b"nexus> he")), "nexus> he");
        assert_eq!(shown(screen.log_line("pong", "pong: ready")), "\r\x1b[Kpong: ready\r\nnexus> he");
        assert_eq!(shown(screen.shell_text(1, b"lp\n")), "lp\r\n");
        assert_eq!(shown(screen.log_line("pong", "x")), "x\r\n");
    }

    #[test]
    fn a_line_that_was_redrawn_comes_back_as_redrawn() {
        let mut screen = Screen::new(false);
        screen.shell_text(1, b"nexus> old\r\x1b[Knexus> new\x1b[2D");
        assert_eq!(shown(screen.log_line("a", "x")), "\r\x1b[Kx\r\n\r\x1b[Knexus> new\x1b[2D");
    }

    #[test]
    fn authors_stand_before_log_lines_where_asked_for() {
        assert_eq!(shown(Screen::new(true).log_line("neuron", "boot: ok")), "[neuron] boot: ok\r\n");
        assert_eq!(Screen::kept_line("neuron", "boot: ok"), "[neuron] boot: ok");
    }

    #[test]
    fn test_reject_shell_text_that_looks_like_a_log_line() {
        let mut screen = Screen::new(true);
        let text = shown(screen.shell_text(1, b"[neuron] boot: ok\n\r[neuron] x\r\x1b[K[neuron] y\na [b]\n"));
        assert_eq!(text, " [neuron] boot: ok\r\n\r [neuron] x\r\x1b[K [neuron] y\r\na [b]\r\n");
    }

    #[test]
    fn a_new_shell_begins_on_a_new_line() {
        let mut screen = Screen::new(false);
        screen.shell_text(1, b"nexus> half");
        assert_eq!(shown(screen.shell_text(2, b"nexus> ")), "\r\nnexus> ");
    }

    #[test]
    fn a_line_beyond_its_bound_is_not_drawn_again_and_nothing_is_torn() {
        let mut screen = Screen::new(false);
        screen.shell_text(1, &[b'x'; PARTIAL_BYTES_MAX + 1]);
        assert_eq!(shown(screen.log_line("a", "line")), "\r\nline\r\n");
    }
}
