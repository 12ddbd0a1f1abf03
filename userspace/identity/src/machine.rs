//! The name by which a machine knows itself.

use core::fmt;

/// Bytes of a machine's id.
pub const MACHINE_BYTES_MAX: usize = 64;
/// The word among the boot arguments that says it.
const ARGUMENT: &str = "machine=";

/// A machine's id: letters, digits, `-`, `_`, `.` and `:`, at most [`MACHINE_BYTES_MAX`] of them. A machine that says
/// none has the id of all that say none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MachineId([u8; MACHINE_BYTES_MAX]);

/// What stands in the place of an id is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineIdMalformed;

const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':')
}

impl MachineId {
    /// That of a machine that says none.
    pub const NONE: MachineId = MachineId([0; MACHINE_BYTES_MAX]);

    /// The id with this text, which is not empty.
    pub fn new(text: &str) -> Result<Self, MachineIdMalformed> {
        let mut padded = [0; MACHINE_BYTES_MAX];
        let room = padded.get_mut(..text.len()).filter(|room| !room.is_empty()).ok_or(MachineIdMalformed)?;
        room.copy_from_slice(text.as_bytes());
        if text.bytes().all(is_allowed) { Ok(MachineId(padded)) } else { Err(MachineIdMalformed) }
    }

    /// The id that stands among boot arguments as `machine=ID`; [`MachineId::NONE`] where none does.
    pub fn among(arguments: &str) -> Result<Self, MachineIdMalformed> {
        let mut said = arguments.split_ascii_whitespace().filter_map(|word| word.strip_prefix(ARGUMENT));
        match (said.next(), said.next()) {
            (None, _) => Ok(MachineId::NONE),
            (Some(text), None) => MachineId::new(text),
            (Some(_), Some(_)) => Err(MachineIdMalformed),
        }
    }

    /// The id that stands in a record, filled up with zeroes.
    pub fn from_padded(padded: &[u8; MACHINE_BYTES_MAX]) -> Option<Self> {
        let length = padded.iter().position(|&byte| byte == 0).unwrap_or(MACHINE_BYTES_MAX);
        let (text, rest) = padded.split_at(length);
        let is_one = text.iter().all(|&byte| is_allowed(byte)) && rest.iter().all(|&byte| byte == 0);
        is_one.then_some(MachineId(*padded))
    }

    /// As it stands in a record.
    pub const fn padded(&self) -> &[u8; MACHINE_BYTES_MAX] {
        &self.0
    }

    /// Its text; empty for [`MachineId::NONE`].
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(MACHINE_BYTES_MAX);
        self.0.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if *self == MachineId::NONE { "none" } else { self.as_str() })
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MachineId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_from_its_text_its_bytes_and_the_boot_arguments() {
        let longest = "x".repeat(MACHINE_BYTES_MAX);
        for text in ["a", "board-7.rev_2:1", &longest] {
            let id = MachineId::new(text).unwrap();
            assert_eq!((id.as_str(), MachineId::from_padded(id.padded())), (text, Some(id)));
            assert_eq!(MachineId::among(&format!("selftest machine={text} bench")), Ok(id));
        }
        assert_eq!(MachineId::among("selftest machines=2"), Ok(MachineId::NONE));
        assert_eq!(MachineId::from_padded(MachineId::NONE.padded()), Some(MachineId::NONE));
        assert_eq!((MachineId::NONE.as_str(), MachineId::NONE.to_string().as_str()), ("", "none"));
    }

    #[test]
    fn test_reject_ids_that_are_none() {
        let long = "x".repeat(MACHINE_BYTES_MAX + 1);
        for text in ["", "a b", "a/b", "ä", "a\0", &long] {
            assert_eq!(MachineId::new(text), Err(MachineIdMalformed), "{text:?}");
        }
        for arguments in ["machine=", "machine=a machine=a", "machine=a/b"] {
            assert_eq!(MachineId::among(arguments), Err(MachineIdMalformed), "{arguments}");
        }
        let mut padded = [0; MACHINE_BYTES_MAX];
        padded[1] = b'a';
        assert_eq!(MachineId::from_padded(&padded), None);
        padded[0] = b' ';
        assert_eq!(MachineId::from_padded(&padded), None);
    }
}
