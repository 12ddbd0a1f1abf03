//! What a key may look like.

use crate::error::{Error, KeyFault};
use crate::limits::KEY_BYTES_MAX;

/// What every key starts with.
pub(crate) const ROOT: &str = "/state/";

/// Checks a key against the rules of RFC-0001, section 5.
pub fn validate_key(key: &[u8]) -> Result<(), Error> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::KeyTooLong);
    }
    let text = core::str::from_utf8(key).map_err(|_| Error::KeyInvalid(KeyFault::NotUtf8))?;
    let rest = text.strip_prefix(ROOT).ok_or(Error::KeyInvalid(KeyFault::Prefix))?;
    if text.chars().any(char::is_control) {
        return Err(Error::KeyInvalid(KeyFault::Control));
    }
    for part in rest.split('/') {
        match part {
            "" => return Err(Error::KeyInvalid(KeyFault::EmptyPart)),
            "." | ".." => return Err(Error::KeyInvalid(KeyFault::DotPart)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a prefix for a listing or a quota can match keys at all.
pub fn key_prefix_is_valid(prefix: &[u8]) -> bool {
    prefix.len() <= KEY_BYTES_MAX
        && (prefix.starts_with(ROOT.as_bytes()) || ROOT.as_bytes().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_keys_are_accepted() {
        for key in ["/state/a", "/state/keystore/device.signing", "/state/ü/..x/y."] {
            assert_eq!(validate_key(key.as_bytes()), Ok(()), "{key}");
        }
    }

    #[test]
    fn test_reject_invalid_key_path() {
        let invalid = |fault| Err(Error::KeyInvalid(fault));
        for (key, answer) in [
            (&b"state/a"[..], invalid(KeyFault::Prefix)),
            (b"", invalid(KeyFault::Prefix)),
            (b"/other/a", invalid(KeyFault::Prefix)),
            (b"/state/", invalid(KeyFault::EmptyPart)),
            (b"/state/a/", invalid(KeyFault::EmptyPart)),
            (b"/state/a//b", invalid(KeyFault::EmptyPart)),
            (b"/state/../boot", invalid(KeyFault::DotPart)),
            (b"/state/a/.", invalid(KeyFault::DotPart)),
            (b"/state/\xff", invalid(KeyFault::NotUtf8)),
            (b"/state/a\nb", invalid(KeyFault::Control)),
        ] {
            assert_eq!(validate_key(key), answer, "{key:?}");
        }
    }

    #[test]
    fn test_reject_key_too_long() {
        let mut key = alloc::vec![b'a'; KEY_BYTES_MAX + 1];
        key[..7].copy_from_slice(b"/state/");
        assert_eq!(validate_key(&key), Err(Error::KeyTooLong));
        assert_eq!(validate_key(&key[..KEY_BYTES_MAX]), Ok(()));
    }
}
