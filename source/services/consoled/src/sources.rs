//! Where lines come from: the kernel's ring and every service's ring.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use console::escape;
use console::merge::{Line, Merge};
use nexus_abi::limits::TRANSFER_BYTES_MAX;
use nexus_abi::records::ring_records;
use nexus_abi::{Error, Handle, Kind, Rights, service_id, system};
use nexus_log::{Consumer, Item, Mark, Memory, RING_BYTES, Reader, Record};
use nexus_rt::{Environment, SetupError};

/// Who speaks for this service itself.
const OWN_NAME: &str = "consoled";

/// A service's ring.
struct Ring {
    name: String,
    consumer: Consumer<'static>,
    /// Where the line ends that was read last.
    mark: Mark,
}

/// A line, and what is released when it was shown: of which ring, up to where. The kernel's ring has nothing to.
pub struct Next {
    /// The line.
    pub line: Line,
    /// What to hand to [`Sources::release`].
    pub held: Option<(usize, Mark)>,
}

/// Every ring, and the lines that are next.
pub struct Sources {
    kernel: KernelRing,
    rings: Vec<Ring>,
    merge: Merge,
}

impl Sources {
    /// Maps every ring that this process was handed.
    /// Up to the record `printed` the kernel has printed its ring itself.
    pub fn open(environment: &Environment, control: Handle, printed: u64) -> Result<Self, SetupError> {
        let mut rings = Vec::new();
        for (name, vmo) in environment.capabilities("ring/", Kind::Vmo) {
            let base = environment.map_memory(vmo, RING_BYTES, Rights::READ | Rights::WRITE)?;
            // SAFETY: just mapped for good with this size, and reached through this consumer alone.
            let memory = unsafe { Memory::from_mapped(base) };
            let consumer = Consumer::new(memory, Reader::Console);
            rings.push(Ring { name: String::from(name), mark: consumer.mark(), consumer });
        }
        let mut names =
            vec![(0, String::from("neuron")), (service_id("nexus-init"), String::from("nexus-init"))];
        names.extend(rings.iter().map(|ring| (service_id(&ring.name), ring.name.clone())));
        let merge = Merge::new(rings.len() + 1);
        Ok(Sources { kernel: KernelRing::new(control, names, printed), rings, merge })
    }

    /// The lines that the kernel has printed itself, while nobody read its ring. Asked for once, first.
    pub fn printed_before(&mut self) -> Vec<Line> {
        core::iter::from_fn(|| self.kernel.next_printed()).collect()
    }

    /// The next line of anybody.
    pub fn next(&mut self) -> Option<Next> {
        let Sources { kernel, rings, merge } = self;
        let (source, line) = merge.next(|source| match source.checked_sub(1) {
            None => kernel.next(),
            Some(index) => rings.get_mut(index).and_then(ring_line),
        })?;
        let held = source.checked_sub(1).and_then(|index| Some((index, rings.get(index)?.mark)));
        Some(Next { line, held })
    }

    /// A line was shown: the ring has its room again, and no successor of ours shows it once more.
    pub fn release(&self, (index, mark): (usize, Mark)) {
        if let Some(ring) = self.rings.get(index) {
            ring.consumer.release(mark);
        }
    }
}

fn ring_line(ring: &mut Ring) -> Option<Line> {
    let Ring { name, consumer, mark } = ring;
    let about = |text: String| Line { ticks: system::ticks(), author: OWN_NAME.into(), text };
    let item = consumer.read_held()?;
    *mark = consumer.mark();
    Some(match item {
        Item::Record(record) => Line { ticks: record.ticks, author: name.clone(), text: text_of(&record) },
        Item::Lost(count) => about(format!("consoled: {count} lines of {name} were lost: its ring was full")),
        Item::Broken => about(format!("consoled: {name} broke its ring; its unread lines were given up")),
    })
}

/// How a record is shown: scope, message and fields, whatever of them it has.
fn text_of(record: &Record) -> String {
    let mut bytes = Vec::with_capacity(record.message().len());
    if !record.scope().is_empty() {
        bytes.extend_from_slice(record.scope());
        bytes.extend_from_slice(b": ");
    }
    bytes.extend_from_slice(record.message());
    for (key, value) in record.fields() {
        bytes.push(b' ');
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        value.show(|part| bytes.extend_from_slice(part));
    }
    escape(&bytes)
}

/// The kernel's ring, read in pieces.
struct KernelRing {
    control: Handle,
    names: Vec<(u64, String)>,
    /// The sequence of the last record that was read.
    after: u64,
    /// The sequence of the last record that the kernel has printed.
    printed: u64,
    buffer: Vec<u8>,
    /// What was read, each with the sequence of its record.
    lines: VecDeque<(u64, Line)>,
}

impl KernelRing {
    fn new(control: Handle, names: Vec<(u64, String)>, printed: u64) -> Self {
        let buffer = vec![0; TRANSFER_BYTES_MAX];
        KernelRing { control, names, after: 0, printed, buffer, lines: VecDeque::new() }
    }

    fn next(&mut self) -> Option<Line> {
        if self.lines.is_empty() {
            self.refill();
        }
        self.lines.pop_front().map(|(_, line)| line)
    }

    /// The next line, if the kernel has printed it. A read may end early, so it takes several.
    fn next_printed(&mut self) -> Option<Line> {
        if self.lines.is_empty() && self.after < self.printed {
            self.refill();
        }
        self.lines.pop_front_if(|(sequence, _)| *sequence <= self.printed).map(|(_, line)| line)
    }

    fn refill(&mut self) {
        match system::ring_read(self.control, self.after, &mut self.buffer) {
            Ok(bytes) => {
                let records = self.buffer.get(..bytes).unwrap_or(&[]);
                self.after = lines_of(records, self.after, &self.names, &mut self.lines);
            }
            Err(Error::WouldBlock) => {}
            Err(error) => {
                let text = format!("consoled: the kernel's ring cannot be read: {error}");
                let line = Line { ticks: system::ticks(), author: OWN_NAME.into(), text };
                self.lines.push_back((u64::MAX, line));
            }
        }
    }
}

/// Turns records into lines; yields the sequence of the last one.
fn lines_of(records: &[u8], after: u64, names: &[(u64, String)], lines: &mut VecDeque<(u64, Line)>) -> u64 {
    let mut last = after;
    for (head, text) in ring_records(records) {
        let missing = head.sequence.saturating_sub(last.saturating_add(1));
        if missing > 0 && last > 0 {
            let text = format!("consoled: {missing} lines of the kernel's ring were overwritten unread");
            lines.push_back((head.sequence, Line { ticks: head.ticks, author: OWN_NAME.into(), text }));
        }
        let known = names.iter().find(|(id, _)| *id == head.service_id);
        let author = known.map_or_else(|| format!("{:016x}", head.service_id), |(_, name)| name.clone());
        lines.push_back((head.sequence, Line { ticks: head.ticks, author, text: escape(text) }));
        last = head.sequence;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_abi::records::RingRecord;
    use zerocopy::IntoBytes;

    fn record(sequence: u64, service_id: u64, text: &str) -> Vec<u8> {
        let head =
            RingRecord { sequence, ticks: sequence, service_id, level: 2, text_bytes: text.len() as u32 };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn read(bytes: &[u8], after: u64) -> (Vec<(String, String)>, u64) {
        let mut lines = VecDeque::new();
        let names = [(0, String::from("neuron"))];
        let last = lines_of(bytes, after, &names, &mut lines);
        (lines.into_iter().map(|(_, line)| (line.author, line.text)).collect(), last)
    }

    #[test]
    fn records_become_lines_of_their_authors() {
        let bytes = [record(1, 0, "boot: ok"), record(2, 0xab, "x\x1b")].concat();
        let (lines, last) = read(&bytes, 0);
        assert_eq!(lines[0], ("neuron".into(), "boot: ok".into()));
        assert_eq!(lines[1], ("00000000000000ab".into(), "x\\x1b".into()));
        assert_eq!(last, 2);
    }

    #[test]
    fn a_gap_in_the_sequence_is_told() {
        let (lines, last) = read(&record(9, 0, "late"), 4);
        assert!(lines[0].1.contains("4 lines"));
        assert_eq!((lines.len(), last), (2, 9));
    }

    #[test]
    fn test_reject_records_that_end_early() {
        let bytes = record(1, 0, "boot: ok");
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length], 0), (Vec::new(), 0));
        }
    }
}
