//! A log line while it is being put together: on the stack, bounded, cut when it is full.

use core::fmt;

/// Bytes of a line; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 1000;

/// Text of at most [`LINE_BYTES_MAX`] bytes; what does not fit is left out.
pub struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl Line {
    /// The text of these arguments.
    pub fn of(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = Line { bytes: [0; LINE_BYTES_MAX], length: 0 };
        // A formatting error can only be the line's own "full": what fitted stays.
        let _ = fmt::Write::write_fmt(&mut line, arguments);
        line
    }

    /// What fitted, without cutting a character.
    pub fn text(&self) -> &str {
        match core::str::from_utf8(&self.bytes[..self.length]) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        if length == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_fits_stays_whole() {
        assert_eq!(Line::of(format_args!("{} and {}", 1, "two")).text(), "1 and two");
    }

    #[test]
    fn text_that_does_not_fit_is_cut_at_a_character() {
        let long = "ä".repeat(LINE_BYTES_MAX);
        let line = Line::of(format_args!("x{long}"));
        assert_eq!(line.text().len(), LINE_BYTES_MAX - 1);
        assert!(line.text().ends_with('ä'));
    }
}
