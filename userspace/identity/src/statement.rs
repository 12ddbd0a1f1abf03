//! What is signed: never the bare bytes of who asks, so that no signature can be taken for something else.

use alloc::vec::Vec;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// What every statement of a service begins with.
const SERVICE_CONTEXT: &[u8] = b"nexus device signature\0";

/// A public key.
pub type PublicKey = [u8; PUBLIC_KEY_BYTES];
/// A signature.
pub type Signature = [u8; SIGNATURE_BYTES];

/// What the device's key signs when the service with this id asks it to sign a message: the service is part of it, so
/// that none can have something signed that another would say.
pub fn statement(service_id: u64, message: &[u8]) -> Vec<u8> {
    [SERVICE_CONTEXT, &service_id.to_le_bytes(), message].concat()
}

/// Whether a signature is this key's over exactly these bytes, by the strict rules: no weak key, one form of each
/// signature.
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

/// The name of a public key: its SHA-256.
pub fn fingerprint(key: &PublicKey) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_hash_of_the_key() {
        // SHA-256 of 32 zeroes, as any other program computes it.
        let expected = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        let found: String = fingerprint(&[0; 32]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        // Section 7.1, test 1: an empty message.
        let key = *b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
        let mut signature = *b"\xe5\x56\x43\x00\xc3\x60\xac\x72\x90\x86\xe2\xcc\x80\x6e\x82\x8a\x84\x87\x7f\x1e\xb8\xe5\xd9\x74\xd8\x73\xe0\x65\x22\x49\x01\x55\x5f\xb8\x82\x15\x90\xa3\x3b\xac\xc6\x1e\x39\x70\x1c\xf9\xb4\x6b\xd2\x5b\xf5\xf0\x59\x5b\xbe\x24\x65\x51\x41\x43\x8e\x7a\x10\x0b";
        assert!(verify(&key, b"", &signature));
        assert!(!verify(&key, b"x", &signature));
        signature[3] ^= 1;
        assert!(!verify(&key, b"", &signature));
    }

    #[test]
    fn test_reject_weak_keys_and_signatures_of_zeroes() {
        // The neutral element and another point of small order: with these anything would verify.
        let mut neutral = [0; PUBLIC_KEY_BYTES];
        neutral[0] = 1;
        for key in [neutral, [0; PUBLIC_KEY_BYTES], [0xff; PUBLIC_KEY_BYTES]] {
            assert!(!verify(&key, b"anything", &[0; SIGNATURE_BYTES]));
            let mut signature = [0; SIGNATURE_BYTES];
            signature[0] = 1;
            assert!(!verify(&key, b"anything", &signature));
        }
    }

    #[test]
    fn no_two_services_make_one_statement() {
        assert_ne!(statement(1, b"message"), statement(2, b"message"));
        assert_ne!(statement(1, b"message"), statement(1, b"messages"));
        assert_eq!(statement(0x41, b"m"), b"nexus device signature\0A\0\0\0\0\0\0\0m");
    }
}
