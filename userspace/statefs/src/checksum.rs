//! CRC-32C, salted: the salt's eight bytes come before the data.

#[cfg(all(not(feature = "host"), not(feature = "unchecked")))]
const ENGINE: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);

/// CRC-32C over the salt (little-endian) and then the bytes.
#[cfg(all(not(feature = "host"), not(feature = "unchecked")))]
pub(crate) fn salted(salt: u64, bytes: &[u8]) -> u32 {
    let mut digest = ENGINE.digest();
    digest.update(&salt.to_le_bytes());
    digest.update(bytes);
    digest.finalize()
}

/// CRC-32C over the salt (little-endian) and then the bytes, by what the processor has for it.
#[cfg(all(feature = "host", not(feature = "unchecked")))]
pub(crate) fn salted(salt: u64, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&salt.to_le_bytes());
    digest.update(bytes);
    digest.finalize() as u32
}

/// A checksum that always agrees: lets a fuzzer reach what lies behind it.
#[cfg(feature = "unchecked")]
pub(crate) fn salted(_: u64, _: &[u8]) -> u32 {
    0
}

#[cfg(all(test, not(feature = "unchecked")))]
mod tests {
    use super::salted;

    /// Both ways must give the published check value of CRC-32C when salt and data spell "123456789".
    #[test]
    fn salt_comes_first() {
        let salt = u64::from_le_bytes(*b"12345678");
        assert_eq!(salted(salt, b"9"), 0xE306_9283);
    }
}
