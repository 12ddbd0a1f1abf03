//! The secret of a board, and what is wrapped with it: who copies the disk has not the key.

use crate::MachineId;
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a board's secret.
pub const ROOT_SECRET_BYTES: usize = 32;
/// Bytes of the item as which a board hands its secret over: [`ROOT_ITEM_MAGIC`], then the secret.
pub const ROOT_ITEM_BYTES: usize = ROOT_ITEM_MAGIC.len() + ROOT_SECRET_BYTES;
/// What such an item begins with. The first two bytes are those of a JPEG: some versions of QEMU hand nothing over but a
/// picture.
pub const ROOT_ITEM_MAGIC: [u8; 8] = *b"\xff\xd8NXROOT";
/// Bytes of the number that no two wrappings share.
pub const NONCE_BYTES: usize = 24;
/// Bytes by which a wrapping is authenticated.
pub(crate) const TAG_BYTES: usize = 16;
/// What the key of a wrapping is made for; nothing else is ever derived with it.
const PURPOSE: &[u8] = b"nexus identity wrapping";

/// A number that no two wrappings share.
pub type Nonce = [u8; NONCE_BYTES];

/// A secret that the board has and its disk has not. Wiped when it is dropped, and never printed.
pub struct RootSecret(Zeroizing<[u8; ROOT_SECRET_BYTES]>);

impl RootSecret {
    /// The secret of these bytes.
    pub const fn new(bytes: Zeroizing<[u8; ROOT_SECRET_BYTES]>) -> Self {
        RootSecret(bytes)
    }

    /// The secret that is handed over by such an item; `None` for any other.
    pub fn from_item(item: &Zeroizing<[u8; ROOT_ITEM_BYTES]>) -> Option<Self> {
        let secret = item.strip_prefix(&ROOT_ITEM_MAGIC)?;
        Some(RootSecret::new(Zeroizing::new(*secret.first_chunk()?)))
    }

    /// The cipher of this board and machine: HKDF-SHA-256 (RFC 5869) with the machine's id as salt. `None` never
    /// happens: the derived key is far shorter than HKDF allows.
    fn cipher(&self, machine: MachineId) -> Option<XChaCha20Poly1305> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(machine.padded()), &*self.0).expand(PURPOSE, &mut *key).ok()?;
        Some(XChaCha20Poly1305::new((&*key).into()))
    }

    /// Wraps bytes in their place; what stands beside them can be changed no more than they.
    pub(crate) fn wrap(
        &self,
        machine: MachineId,
        nonce: &Nonce,
        beside: &[u8],
        bytes: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        self.cipher(machine)?.encrypt_in_place_detached(nonce.into(), beside, bytes).ok().map(Tag::into)
    }

    /// Unwraps bytes in their place; `None` if they, or what stands beside them, are not what this secret wrapped.
    pub(crate) fn open(
        &self,
        machine: MachineId,
        nonce: &Nonce,
        beside: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Option<()> {
        self.cipher(machine)?.decrypt_in_place_detached(nonce.into(), beside, bytes, tag.into()).ok()
    }
}
