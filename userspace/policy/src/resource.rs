//! Resources: what an action is about, and which of them a line covers.

use crate::RESOURCE_BYTES_MAX;

/// Whether this can be a resource: 1 to [`RESOURCE_BYTES_MAX`] bytes of visible ASCII, in which no part between
/// slashes is empty, `.` or `..`, so that one thing has one name. It may begin with `/`, and end with one.
pub fn is_resource(word: &str) -> bool {
    let inner = word.strip_prefix('/').unwrap_or(word);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    word.len() <= RESOURCE_BYTES_MAX
        && word.bytes().all(|byte| byte.is_ascii_graphic())
        && inner.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a line about `line` is also one about `resource`. An empty one is about everything, one that ends with a
/// slash about everything below it, any other about exactly that.
pub fn covers(line: &str, resource: &str) -> bool {
    line.is_empty() || line == resource || (line.ends_with('/') && resource.starts_with(line))
}

/// Whether some resource is covered by both.
pub fn overlap(one: &str, other: &str) -> bool {
    covers(one, other) || covers(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_what_is_below_it_and_nothing_beside_it() {
        assert!(covers("", "/state/app/x") && covers("", ""));
        assert!(covers("/state/app/", "/state/app/x") && covers("/state/app/", "/state/app/"));
        assert!(!covers("/state/app/", "/state/apple") && !covers("/state/app/", "/state/app"));
        assert!(covers("pong", "pong") && !covers("pong", "pong2") && !covers("pong", ""));
    }

    #[test]
    fn test_reject_resources_with_a_second_name_or_odd_bytes() {
        for word in ["/state/app/x", "/state/", "pong", "virtio:entropy"] {
            assert!(is_resource(word), "{word}");
        }
        for word in ["", "/", "//", "/state//x", "/state/../keys", "./x", "/state/.", "a b", "ä", "x\n"] {
            assert!(!is_resource(word), "{word:?}");
        }
        assert!(is_resource(&"x".repeat(RESOURCE_BYTES_MAX)));
        assert!(!is_resource(&"x".repeat(RESOURCE_BYTES_MAX + 1)));
    }
}
