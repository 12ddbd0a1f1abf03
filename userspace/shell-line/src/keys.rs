//! From bytes to keys: UTF-8 and the escape sequences that terminals send.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character to put in.
    Character(char),
    /// The line is done.
    Enter,
    /// Complete the word.
    Tab,
    /// Remove the character before the cursor.
    Backspace,
    /// Remove the character at the cursor.
    Delete,
    /// One character to the left.
    Left,
    /// One character to the right.
    Right,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// An older line.
    Up,
    /// A newer line.
    Down,
    /// Remove everything before the cursor.
    KillToStart,
    /// Remove everything from the cursor on.
    KillToEnd,
    /// Remove the word before the cursor.
    KillWord,
    /// Draw the line on an empty screen.
    ClearScreen,
    /// Give the line up.
    Interrupt,
}

/// Bytes of the longest escape sequence that is understood; a longer one is swallowed.
const SEQUENCE_BYTES_MAX: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Plain,
    Escape,
    /// After `ESC [` or `ESC O`: the number so far, and the bytes so far.
    Sequence {
        number: u8,
        bytes: usize,
    },
    /// A character of several bytes: what came, how many bytes it has, how many came.
    Utf8 {
        bytes: [u8; 4],
        length: usize,
        seen: usize,
    },
    /// After a carriage return: a line feed right behind it belongs to it.
    AfterReturn,
}

/// Bytes so far.
#[derive(Debug, Default)]
pub struct Keys {
    state: State,
}

impl Keys {
    /// Takes a byte; yields a key when one is complete.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.state) {
            State::Plain => self.plain(byte),
            State::AfterReturn if byte == b'\n' => None,
            State::AfterReturn => self.plain(byte),
            State::Escape => self.escape(byte),
            State::Sequence { number, bytes } => self.sequence(byte, number, bytes),
            State::Utf8 { bytes, length, seen } => self.utf8(byte, bytes, length, seen),
        }
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            b'\r' => {
                self.state = State::AfterReturn;
                Key::Enter
            }
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::Delete,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x0b => Key::KillToEnd,
            0x0c => Key::ClearScreen,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillToStart,
            0x17 => Key::KillWord,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            b' '..=b'~' => Key::Character(byte.into()),
            0xc2..=0xf4 => {
                let length = if byte < 0xe0 {
                    2
                } else if byte < 0xf0 {
                    3
                } else {
                    4
                };
                self.state = State::Utf8 { bytes: [byte, 0, 0, 0], length, seen: 1 };
                return None;
            }
            _ => return None,
        })
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' | b'O' => {
                self.state = State::Sequence { number: 0, bytes: 0 };
                None
            }
            // Not a sequence: the byte stands for itself.
            _ => self.plain(byte),
        }
    }

    fn sequence(&mut self, byte: u8, number: u8, bytes: usize) -> Option<Key> {
        match byte {
            b'A' => Some(Key::Up),
            b'B' => Some(Key::Down),
            b'C' => Some(Key::Right),
            b'D' => Some(Key::Left),
            b'H' => Some(Key::Home),
            b'F' => Some(Key::End),
            b'~' => match number {
                1 | 7 => Some(Key::Home),
                4 | 8 => Some(Key::End),
                3 => Some(Key::Delete),
                _ => None,
            },
            b'0'..=b'9' | b';' if bytes < SEQUENCE_BYTES_MAX => {
                let digit = byte.wrapping_sub(b'0');
                let number =
                    if byte == b';' { number } else { number.saturating_mul(10).saturating_add(digit) };
                self.state = State::Sequence { number, bytes: bytes + 1 };
                None
            }
            0x03 => Some(Key::Interrupt),
            _ => None,
        }
    }

    fn utf8(&mut self, byte: u8, mut bytes: [u8; 4], length: usize, seen: usize) -> Option<Key> {
        if byte & 0xc0 != 0x80 {
            // The character was cut short: it is dropped, and the byte stands for itself.
            return self.plain(byte);
        }
        if let Some(place) = bytes.get_mut(seen) {
            *place = byte;
        }
        if seen + 1 < length {
            self.state = State::Utf8 { bytes, length, seen: seen + 1 };
            return None;
        }
        let text = core::str::from_utf8(bytes.get(..length)?).ok()?;
        text.chars().next().filter(|character| !character.is_control()).map(Key::Character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|&byte| keys.feed(byte)).collect()
    }

    #[test]
    fn arrows_and_their_relatives_in_both_dialects() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1~\x1b[4~\x1b[3~"),
            [Key::Up, Key::Down, Key::Home, Key::End, Key::Delete]
        );
        assert_eq!(keys(b"\x1b[1;5C"), [Key::Right]);
    }

    #[test]
    fn a_return_and_its_line_feed_are_one_enter() {
        assert_eq!(keys(b"\r\n\n\r\r"), [Key::Enter; 4]);
    }

    #[test]
    fn characters_of_several_bytes_come_whole_or_not_at_all() {
        assert_eq!(keys("ä€😀".as_bytes()), [Key::Character('ä'), Key::Character('€'), Key::Character('😀')]);
        assert_eq!(keys(b"\xe2\x82x\xff\x80y"), [Key::Character('x'), Key::Character('y')]);
    }

    #[test]
    fn an_endless_sequence_is_swallowed_and_interrupt_ends_any() {
        let mut bytes = b"\x1b[".to_vec();
        bytes.extend([b'1'; SEQUENCE_BYTES_MAX + 1]);
        bytes.push(b'x');
        assert_eq!(keys(&bytes), [Key::Character('x')]);
        assert_eq!(keys(b"\x1b[12\x03"), [Key::Interrupt]);
    }
}
