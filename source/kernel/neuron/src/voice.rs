//! What the kernel says: records into its ring, and through the firmware while nobody reads the ring.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::sync::{Held, Nothing};
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::RING_TEXT_MAX;
use nexus_abi::records::RingLevel;

/// A line of text of bounded length; what does not fit is cut.
pub struct Line {
    bytes: [u8; RING_TEXT_MAX],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line { bytes: [0; RING_TEXT_MAX], length: 0 }
    }
}

impl Line {
    /// The text so far.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut length = text.len().min(self.bytes.len() - self.length);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        self.bytes[self.length..self.length + length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

/// A [`Line`] from format arguments.
#[macro_export]
macro_rules! line {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        let mut line = $crate::voice::Line::default();
        // Writing to a line cuts instead of failing.
        let _ = write!(line, $($argument)*);
        line
    }};
}

impl<A: Arch> Kernel<A> {
    /// Says something as the kernel.
    pub fn say(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, level: RingLevel, line: &Line) {
        self.record(hart, held, 0, level, line.as_str());
    }

    /// Appends a record; prints it while nobody reads, tells the reader otherwise.
    pub(crate) fn record(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        service_id: u64,
        level: RingLevel,
        text: &str,
    ) {
        let (reader, doorbell) = {
            let mut ring = self.ring.lock();
            ring.append(self.arch.now(), service_id, level, text);
            (ring.reader, ring.doorbell)
        };
        match (reader, doorbell) {
            (None, _) => self.print_record(service_id, text),
            (Some(_), Some((notification, bits))) => {
                self.signal(hart, &mut held.above(), notification, bits);
            }
            (Some(_), None) => {}
        }
    }

    /// Prints through the firmware, byte by byte. That is not the kernel's time: it is left out of the longest stretch.
    fn print_record(&self, service_id: u64, text: &str) {
        let before = self.arch.now();
        if self.figures.print_origin {
            match service_id {
                0 => self.arch.print("[neuron] "),
                id if id == nexus_abi::service_id(nexus_abi::image::INIT) => {
                    self.arch.print("[nexus-init] ");
                }
                id => self.arch.print(line!("[{id:016x}] ").as_str()),
            }
        }
        self.arch.print(text);
        self.arch.print("\n");
        let took = self.arch.now().saturating_sub(before);
        self.looked[self.alone.load(Relaxed) as usize].fetch_add(took, Relaxed);
    }

    /// The reader of the ring is gone: what it had not taken in is printed, and everything from here on.
    pub(crate) fn reader_ended(&self, number: Option<u64>) {
        let mut after = {
            let mut ring = self.ring.lock();
            if ring.reader.is_none() || ring.reader != number {
                return;
            }
            (ring.reader, ring.doorbell) = (None, None);
            ring.read_to
        };
        loop {
            let mut line = Line::default();
            let Some((sequence, service_id)) = self.ring.lock().text_after(after, &mut line) else { return };
            self.print_record(service_id, line.as_str());
            after = sequence;
        }
    }
}
