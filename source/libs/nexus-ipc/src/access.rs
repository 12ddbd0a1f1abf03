//! Who may ask an endpoint for which operation, by the service id that the kernel reports.

use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One caller and its operations. Init writes the table of them into memory that it hands to the server as
/// the capability `access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AccessEntry {
    /// The caller's service id.
    pub service_id: u64,
    /// One bit an operation: bit 1 is operation 1.
    pub operations: u64,
}

/// A table of callers. Who is not in it may ask nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access(Vec<AccessEntry>);

impl Access {
    /// A table of these entries.
    pub fn new(entries: Vec<AccessEntry>) -> Self {
        Access(entries)
    }

    /// The table in these bytes: entries until the first one without a service id.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let entries = bytes.chunks_exact(size_of::<AccessEntry>());
        let entries = entries.filter_map(|chunk| AccessEntry::read_from_bytes(chunk).ok());
        Access(entries.take_while(|entry| entry.service_id != 0).collect())
    }

    /// Whether this service may ask for this operation.
    pub fn allows(&self, service_id: u64, operation: u16) -> bool {
        let bit = 1u64.checked_shl(operation.into()).unwrap_or(0);
        self.0.iter().any(|entry| entry.service_id == service_id && entry.operations & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Access {
        Access::new(vec![
            AccessEntry { service_id: 7, operations: 0b10 },
            AccessEntry { service_id: 8, operations: 1 << 63 },
        ])
    }

    #[test]
    fn who_is_named_may_ask_for_what_is_named() {
        assert!(table().allows(7, 1) && table().allows(8, 63));
    }

    #[test]
    fn test_reject_unnamed_callers_operations_and_numbers_beyond_the_bits() {
        assert!(!table().allows(7, 2) && !table().allows(9, 1) && !table().allows(8, 64));
        assert!(!table().allows(7, u16::MAX) && !Access::default().allows(0, 0));
    }

    #[test]
    fn bytes_and_table_say_the_same() {
        let mut bytes = table().0.as_slice().as_bytes().to_vec();
        bytes.resize(4096, 0);
        assert_eq!(Access::from_bytes(&bytes), table());
        assert_eq!(Access::from_bytes(&bytes[..31]).0.len(), 1);
    }
}
