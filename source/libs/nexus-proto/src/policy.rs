//! `policyd`: who may do what.

use alloc::string::String;
use nexus_ipc::{postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a resource.
pub const RESOURCE_BYTES_MAX: usize = 52;
/// Words of a question.
const WORDS: usize = size_of::<Question>() / size_of::<u64>();
/// Bytes of an explanation.
pub const EXPLANATION_BYTES_MAX: usize = 1024;

/// May somebody do something to something? All of it travels in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Question {
    /// The service id of whom it is about.
    pub subject: u64,
    /// The number of an action of the library `policy`.
    pub action: u16,
    /// Bytes of the resource; 0: none in particular.
    pub length: u16,
    /// The resource, filled up with zeroes.
    pub resource: [u8; RESOURCE_BYTES_MAX],
}

impl Question {
    /// A question; `None` when the resource is longer than [`RESOURCE_BYTES_MAX`].
    pub fn new(subject: u64, action: u16, resource: &str) -> Option<Self> {
        let mut bytes = [0; RESOURCE_BYTES_MAX];
        bytes.get_mut(..resource.len())?.copy_from_slice(resource.as_bytes());
        Some(Question { subject, action, length: resource.len() as u16, resource: bytes })
    }

    /// All of it in words, in which it is compared sooner than byte by byte.
    pub fn words(&self) -> [u64; WORDS] {
        zerocopy::transmute!(*self)
    }

    /// The resource's bytes; `None` unless they are filled up with zeroes, so that a question has one form.
    pub fn resource(&self) -> Option<&[u8]> {
        let length = usize::from(self.length);
        let resource = self.resource.get(..length)?;
        let end = core::mem::offset_of!(Question, resource) + length;
        let words = self.words();
        let (within, behind) = (words.get(end / size_of::<u64>()), words.get(end / size_of::<u64>() + 1..));
        // The bytes of a word that are the resource's come first in memory, and lowest in the number.
        let within = within.map_or(0, |word| u64::from_le(*word) >> (8 * (end % size_of::<u64>())));
        let behind = behind.unwrap_or(&[]).iter().fold(within, |all, word| all | word);
        (behind == 0).then_some(resource)
    }
}

/// What was decided. A few flipped bits make no other decision of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Verdict {
    /// [`ALLOWED`] or [`DENIED`]; anything else is no answer.
    pub decision: u64,
    /// The epoch of the table that says so.
    pub epoch: u64,
    /// Why: the number of a [`Why`].
    pub why: u32,
    /// 1: it stays so for as long as the epoch does, and need not be asked again.
    pub lasts: u32,
}

/// [`Verdict::decision`] of what is allowed.
pub const ALLOWED: u64 = 0x5ac3_96f0_3c69_a55a;
/// [`Verdict::decision`] of what is denied.
pub const DENIED: u64 = !ALLOWED;

/// Why something is allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Why {
    /// A line allows it.
    Allowed = 1,
    /// A line denies it.
    Denied = 2,
    /// No line is about it.
    NoLine = 3,
    /// No line covers the resource.
    OtherResource = 4,
    /// It was asked more often than its line allows.
    TooOften = 5,
    /// There is no room to record it.
    NoRecord = 6,
}

impl Why {
    /// The reason with this number.
    pub fn from_number(number: u32) -> Option<Why> {
        let all = [Why::Allowed, Why::Denied, Why::NoLine, Why::OtherResource, Why::TooOften, Why::NoRecord];
        all.into_iter().find(|why| *why as u32 == number)
    }
}

/// The table in force, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Epoch {
    /// It rises whenever another table is in force.
    pub epoch: u64,
    /// The sequence of the overlay in force; 0: none is.
    pub sequence: u64,
}

/// An overlay that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pushed {
    /// The epoch that it began.
    pub epoch: u64,
    /// Its sequence.
    pub sequence: u64,
    /// 1: the record of it is durable. 0: it is in force all the same, and its record waits in the ring: there is no
    /// store, or it did not answer in time.
    pub durable: u64,
}

/// What was asked since the service started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stats {
    /// The epoch.
    pub epoch: u64,
    /// Questions that were allowed.
    pub allowed: u64,
    /// Questions that were denied.
    pub denied: u64,
    /// Of those, denied because there was no room to record them.
    pub unrecorded: u64,
    /// Questions in another's name, or on another's behalf without the right to.
    pub refused: u64,
    /// Messages and questions that are none.
    pub malformed: u64,
    /// Overlays that were not taken.
    pub overlays_refused: u64,
    /// Records that were kept.
    pub recorded: u64,
}

/// What is decided, in words, and by which line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// A sentence.
    pub text: String,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyError {
    /// It is asked in somebody else's name.
    Spoofed,
    /// It is asked on behalf of another, without `policy.delegate`.
    NotDelegated,
    /// No action has the number, or no resource the bytes.
    Malformed,
    /// An overlay is pushed without `policy.admin`.
    NotAdmin,
    /// What is lent is longer than an overlay can be, or cannot be read.
    NotLent,
    /// The overlay could not be kept for a successor, so it is not in force.
    NotKept,
    /// The image names no key for overlays.
    NoKey,
    /// The overlay's bytes are not of its layout.
    BadOverlay,
    /// The overlay's signature is not of the image's key.
    BadSignature,
    /// The overlay's sequence is not above that of the last one.
    Replayed,
    /// The overlay is about the policy itself.
    Forbidden,
    /// The overlay's table, or what comes of it, breaks a rule.
    BadTable,
}

impl core::fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            PolicyError::Spoofed => "it is asked in somebody else's name",
            PolicyError::NotDelegated => "it is asked on behalf of another, without policy.delegate",
            PolicyError::Malformed => "no action has this number, or no resource these bytes",
            PolicyError::NotAdmin => "an overlay takes policy.admin",
            PolicyError::NotLent => "the overlay is too long or cannot be read",
            PolicyError::NotKept => "the overlay could not be kept",
            PolicyError::NoKey => "the image names no key for overlays",
            PolicyError::BadOverlay => "the overlay's bytes are not of its layout",
            PolicyError::BadSignature => "the overlay's signature is not of the image's key",
            PolicyError::Replayed => "the overlay's sequence is not above that of the last one",
            PolicyError::Forbidden => "the overlay is about the policy itself",
            PolicyError::BadTable => "the overlay's table breaks a rule",
        })
    }
}

register_message!(Question);
register_message!(Verdict);
register_message!(Epoch);
register_message!(Pushed);
register_message!(Stats);
postcard_message!(Explanation, EXPLANATION_BYTES_MAX);
postcard_message!(PolicyError, 8);

nexus_ipc::service! {
    /// The one authority about who may do what: it decides, records, and calls nobody.
    endpoint "policy", max_bytes 64, error PolicyError;
    /// Decides about the caller, who names itself as the subject.
    immediate idempotent check(Question) -> Verdict = 1;
    /// Decides about another; the caller holds `policy.delegate`.
    immediate idempotent decide(Question) -> Verdict = 2;
    /// Tells which table is in force.
    immediate idempotent epoch(()) -> Epoch = 3;
    /// Takes a signed overlay, which is lent; the caller holds `policy.admin`. Answered when its record is durable, or
    /// will not be told to be.
    deferred once push(()) lends 1 -> Pushed = 4;
    /// Tells what was asked so far.
    immediate idempotent stats(()) -> Stats = 5;
    /// Tells what is decided about anybody and by which line, for people; nothing is recorded.
    immediate idempotent explain(Question) -> Explanation = 6;
}
