//! The generator: ChaCha20 whose key replaces itself with every request ("fast key erasure").

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Keeps this use of the hash apart from every other.
const DOMAIN: &[u8] = b"nexus rngd reseed 1";

/// A key that has not been used.
pub(crate) struct Drbg {
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Drbg {
    /// A generator that knows nothing: it is reseeded before anything comes out.
    pub(crate) fn new() -> Self {
        Drbg { key: Zeroizing::new([0; KEY_BYTES]) }
    }

    /// Mixes in the hash of fresh entropy: what was there stays as hard to guess as it was.
    pub(crate) fn reseed(&mut self, fresh: Sha256) {
        let mut fresh_hash = Zeroizing::new([0; KEY_BYTES]);
        fresh.finalize_into((&mut *fresh_hash).into());
        let mut mixed = Sha256::new();
        mixed.update(DOMAIN);
        mixed.update(self.key.as_slice());
        mixed.update(fresh_hash.as_slice());
        mixed.finalize_into((&mut *self.key).into());
    }

    /// Fills `into`; the key is another one afterwards.
    pub(crate) fn generate(&mut self, into: &mut [u8]) {
        let mut stream = ChaCha20::new((&*self.key).into(), &[0; 12].into());
        self.key.fill(0);
        stream.apply_keystream(self.key.as_mut_slice());
        into.fill(0);
        stream.apply_keystream(into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, A.1, test vector 1: the first half of the block is the next key, the second is what comes out.
    #[test]
    fn what_comes_out_is_the_published_key_stream() {
        let mut drbg = Drbg::new();
        let mut out = [0xff; 32];
        drbg.generate(&mut out);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&*drbg.key), "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7");
        assert_eq!(hex(&out), "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586");
    }

    #[test]
    fn a_reseed_depends_on_the_old_key_and_on_what_is_fresh() {
        let after = |requests: usize, fresh: &[u8]| {
            let mut drbg = Drbg::new();
            (0..requests).for_each(|_| drbg.generate(&mut [0]));
            let mut hash = Sha256::new();
            hash.update(fresh);
            drbg.reseed(hash);
            *drbg.key
        };
        assert_eq!(after(0, b"fresh"), after(0, b"fresh"));
        assert_ne!(after(0, b"fresh"), after(0, b"other"));
        assert_ne!(after(0, b"fresh"), after(1, b"fresh"));
    }
}
