//! The parts of the store: whose they are, which right they take, how much of it they may use.

use alloc::vec::Vec;
use policy::{Action, is_resource};
use statefs::Quota;

/// What every key begins with.
const ROOT: &str = "/state/";
const MIB: u64 = 1024 * 1024;

/// A part of the store. Rights to one are no rights to another, be it above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The keys of the device.
    Keystore,
    /// What decides about boots.
    Boot,
    /// All else.
    Common,
}

impl Part {
    /// The parts that have a right of their own.
    pub const CLOSED: [Part; 2] = [Part::Keystore, Part::Boot];

    /// The part that a key, or a directory with a slash at its end, belongs to.
    pub fn of(key: &[u8]) -> Part {
        let closed = Part::CLOSED.into_iter().find(|part| key.starts_with(part.root().as_bytes()));
        closed.unwrap_or(Part::Common)
    }

    /// What its keys begin with.
    pub const fn root(self) -> &'static str {
        match self {
            Part::Keystore => "/state/keystore/",
            Part::Boot => "/state/boot/",
            Part::Common => ROOT,
        }
    }

    /// What whoever reads or writes it must be allowed.
    pub const fn action(self, writes: bool) -> Action {
        match (self, writes) {
            (Part::Keystore, _) => Action::StatefsKeystore,
            (Part::Boot, _) => Action::StatefsBoot,
            (Part::Common, false) => Action::StatefsRead,
            (Part::Common, true) => Action::StatefsWrite,
        }
    }
}

/// The directory of a key or prefix: all of it up to its last slash.
pub fn directory(prefix: &str) -> &str {
    prefix.rfind('/').map_or("", |slash| prefix.get(..=slash).unwrap_or(""))
}

/// What the policy is asked about for this key: itself, or the nearest directory above it that a line of the policy
/// can name.
///
/// That is the same question. A line that covers the key and is not the key itself names one of its directories; one
/// that can be named and is below the answer's would overlap with its line, and the policy has no two lines that do.
pub fn resource(key: &str) -> &str {
    let mut named = key;
    while !is_resource(named) {
        let above = named.strip_suffix('/').unwrap_or(named);
        named = directory(above);
        if named.is_empty() {
            return ROOT;
        }
    }
    named
}

/// What each part may use. What stands first has a reserve, which also opens the last free segments to it.
pub fn quotas() -> Vec<Quota> {
    let quota = |prefix: &str, bytes_max, keys_max, bytes_reserved| Quota {
        prefix: prefix.as_bytes().into(),
        bytes_max,
        keys_max,
        bytes_reserved,
    };
    [
        quota(Part::Keystore.root(), MIB, 256, 64 * 1024),
        quota(Part::Boot.root(), MIB, 256, 64 * 1024),
        quota("/state/log/", 4 * MIB, 4096, 0),
        quota("/state/selftest/", MIB, 1024, 0),
        quota("/state/app/", 8 * MIB, 8192, 0),
        quota("/state/user/", 4 * MIB, 4096, 0),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn each_key_takes_the_right_of_its_part() {
        for (key, read, write) in [
            ("/state/app/a", Action::StatefsRead, Action::StatefsWrite),
            ("/state/keystore/device", Action::StatefsKeystore, Action::StatefsKeystore),
            ("/state/boot/bootctl.a", Action::StatefsBoot, Action::StatefsBoot),
            ("/state/keystores/a", Action::StatefsRead, Action::StatefsWrite),
        ] {
            let part = Part::of(key.as_bytes());
            assert_eq!((part.action(false), part.action(true)), (read, write), "{key}");
        }
    }

    #[test]
    fn a_directory_ends_with_the_last_slash() {
        assert_eq!(directory("/state/app/a"), "/state/app/");
        assert_eq!(directory("/state/app/"), "/state/app/");
        assert_eq!(directory("nothing"), "");
    }

    #[test]
    fn what_a_line_cannot_name_is_asked_for_by_its_directory() {
        assert_eq!(resource("/state/app/a"), "/state/app/a");
        assert_eq!(resource("/state/app/ä/b"), "/state/app/");
        assert_eq!(resource("/state/app/a b"), "/state/app/");
        let long = format!("/state/{}/b", "x".repeat(60));
        assert_eq!(resource(&long), "/state/");
        let deep = format!("/state/{}c", "ab/".repeat(20));
        assert_eq!(resource(&deep), format!("/state/{}", "ab/".repeat(15)));
    }

    #[test]
    fn every_resource_can_be_named_and_is_above_its_key() {
        for key in ["/state/\u{7f}", "/state/..x/y", "/state//", "/state/./a", "", "x", "/state/a//b"] {
            let asked = resource(key);
            assert!(is_resource(asked), "{key:?}: {asked:?}");
            assert!(key.starts_with(asked) || asked == ROOT, "{key:?}: {asked:?}");
        }
        let any = (0..200).map(|length| String::from("/state/é").repeat(length % 5) + &"y".repeat(length));
        assert!(any.into_iter().all(|key| is_resource(resource(&key))));
    }

    #[test]
    fn the_parts_together_leave_room_on_the_smallest_disk() {
        let reserved: u64 = quotas().iter().map(|quota| quota.bytes_reserved).sum();
        assert!(reserved <= MIB / 4);
    }
}
