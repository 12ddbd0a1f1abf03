//! Texts as they are kept: UTF-8 without control characters, bounded.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// The text with every control character and every byte that is not UTF-8 written as `\x..`; what is beyond
/// `bytes_max` is cut.
pub fn clean(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(bytes_max));
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{:02x}", u32::from(character));
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// Keys that say who somebody is: that is the kernel's word and stands in no field.
const IDENTITY_KEYS: [&str; 4] = ["sender_service_id", "service_id", "requester_id", "service"];

/// Whether a line may be a field: a key, which does not say who somebody is, `=` and a value.
pub(crate) fn is_field(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| !key.is_empty() && !IDENTITY_KEYS.contains(&key))
}

/// `key=value` lines, sorted by key, as many whole ones as fit. Texts are cleaned; what may be no field is left out.
pub fn fields<'a>(pairs: impl Iterator<Item = (&'a [u8], Vec<u8>)>, bytes_max: usize) -> String {
    let mut lines: Vec<String> = pairs
        .map(|(key, value)| {
            let mut line = clean(key, bytes_max);
            line.push('=');
            line.push_str(&clean(&value, bytes_max));
            line
        })
        .filter(|line| is_field(line))
        .collect();
    lines.sort_unstable();
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() + 1 > bytes_max {
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line);
    }
    text
}
