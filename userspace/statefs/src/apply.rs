//! What a record does to the index: the same for a group just flushed and for one replayed.

use crate::format::u64_at;
use crate::group::{RecordHeader, RecordKind};
use crate::index::{Entry, Index, Operations, State};

/// Where the group of a record lies, and whether all of it verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub segment: u32,
    /// Bytes from the start of the segment to the start of the group.
    pub group_offset: u32,
    pub whole: bool,
}

/// A key that a record changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effect {
    pub old: Option<Entry>,
    pub new: Entry,
}

/// What a record says of its key; `None` for an operation.
fn entry_of(record: &RecordHeader, place: Place) -> Option<Entry> {
    let (state, segment, offset) = match record.kind {
        RecordKind::Operation => return None,
        _ if !place.whole || record.corrupt => (State::Corrupt, 0, 0),
        RecordKind::Put | RecordKind::Moved => {
            (State::Live, place.segment, place.group_offset.saturating_add(record.offset))
        }
        RecordKind::Entry => (State::Live, record.segment, record.offset),
        RecordKind::Delete => (State::Deleted, 0, 0),
    };
    // A segment that no store can have holds no value.
    let (state, segment) = u16::try_from(segment).map_or((State::Corrupt, 0), |segment| (state, segment));
    Some(Entry {
        version: record.version,
        payload_crc: record.payload_crc,
        length: record.value_length,
        segment,
        offset,
        state,
        uncertain: false,
    })
}

/// Applies a record; `None` when it changed no key, as when something newer is known.
pub(crate) fn apply(
    index: &mut Index,
    operations: &mut Operations,
    (record, key): (RecordHeader, &[u8]),
    place: Place,
) -> Option<Effect> {
    let Some(new) = entry_of(&record, place) else {
        operations.remember(u64_at(key, 0), u64_at(key, 8), record.version);
        return None;
    };
    let (old, set) = index.set(key, new);
    set.then_some(Effect { old, new })
}
