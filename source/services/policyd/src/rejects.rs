//! What policyd refuses, by class.

use core::fmt;

/// A class of what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A question that is none.
    Malformed,
    /// A question in somebody else's name.
    Spoofed,
    /// A question on behalf of another, without the right to.
    NotDelegated,
    /// An overlay.
    Overlay,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 4;
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Class::Malformed => "malformed",
            Class::Spoofed => "spoofed",
            Class::NotDelegated => "not_delegated",
            Class::Overlay => "overlay",
        })
    }
}
