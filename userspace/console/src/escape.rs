//! Text from anybody, made safe for a terminal.

use alloc::string::String;
use core::fmt::Write;

/// The text with every control character and every byte that is not UTF-8 written as `\x..`.
pub fn escape(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    hexadecimal(&mut safe, byte);
                }
            } else {
                safe.push(character);
            }
        }
        for &byte in chunk.invalid() {
            hexadecimal(&mut safe, byte);
        }
    }
    safe
}

fn hexadecimal(text: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_and_control_bytes_are_shown() {
        assert_eq!(escape("grün 7".as_bytes()), "grün 7");
        assert_eq!(escape(b"\x1b[2Jgone\r\n\xff"), "\\x1b[2Jgone\\x0d\\x0a\\xff");
        assert_eq!(escape("\u{9b}2J".as_bytes()), "\\xc2\\x9b2J");
    }

    proptest! {
        #[test]
        fn nothing_that_moves_the_cursor_is_left(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(escape(&bytes).chars().all(|character| !character.is_control()));
        }
    }
}
