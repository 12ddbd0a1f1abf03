//! The terminal: what goes out, what comes in, and who waits for it.

use crate::sources::{Next, Sources};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use console::{Input, Output, Recent, Screen};
use nexus_abi::Error;
use nexus_ipc::{Answer, Bytes, Caller};
use nexus_log::Mark;
use nexus_proto::console::{ConsoleError, READ_BYTES_MAX, RECENT_BYTES_MAX, Server, WRITE_BYTES_MAX};
use nexus_rt::warning;
use ns16550::{Registers, Uart};

/// Room that must be free before a line is drawn: a log line, escaped, and the shell's line again.
const LINE_ROOM: usize = 6 * 1024;
/// Writes of the shell that wait for room; its callers wait with them.
const WRITES_MAX: usize = 8;
/// Turns of receiving before anything else gets its turn; what is left interrupts again.
const RECEIVE_ROUNDS_MAX: usize = 16;

type ReadAnswer = Answer<Bytes<READ_BYTES_MAX>, ConsoleError>;

/// A write that waits for room.
struct WaitingWrite {
    writer: u64,
    bytes: Vec<u8>,
    answer: Answer<(), ConsoleError>,
}

/// Everything that there is of it.
pub struct Terminal<R> {
    uart: Uart<R>,
    sources: Sources,
    screen: Screen,
    output: Output,
    input: Input,
    recent: Recent,
    /// Lines on their way to the device: behind how many bytes each ends, and what is released then.
    shown: VecDeque<(u64, (usize, Mark))>,
    writes: VecDeque<WaitingWrite>,
    reader: Option<(u64, ReadAnswer)>,
}

impl<R: Registers> Terminal<R> {
    /// A terminal over a device. Lines that the kernel has printed itself are kept and not shown again.
    pub fn new(uart: Uart<R>, mut sources: Sources, with_origin: bool) -> Self {
        let mut recent = Recent::default();
        for line in sources.printed_before() {
            recent.push(Screen::kept_line(&line.author, &line.text));
        }
        Terminal {
            uart,
            sources,
            screen: Screen::new(with_origin),
            output: Output::default(),
            input: Input::default(),
            recent,
            shown: VecDeque::new(),
            writes: VecDeque::new(),
            reader: None,
        }
    }

    /// Takes what the device received, as far as there is room; the rest stays there, and does not interrupt until
    /// somebody has read.
    pub fn receive(&mut self) {
        for _ in 0..RECEIVE_ROUNDS_MAX {
            if self.uart.receive(self.input.room(), |byte| self.input.push(byte)) < ns16550::RECEIVE_BYTES_MAX
            {
                break;
            }
        }
        self.set_interrupts();
    }

    fn set_interrupts(&mut self) {
        self.uart.set_interrupts(self.input.room() > 0, !self.output.is_empty());
    }

    /// Does everything that can be done without waiting.
    pub fn pump(&mut self) {
        self.receive();
        loop {
            self.send();
            // Who releases looks again: what was written before that rang for nobody.
            let released = self.release_shown();
            if self.output.room() < LINE_ROOM || (!self.draw_next() && !released) {
                break;
            }
        }
        self.deliver_input();
        self.set_interrupts();
    }

    /// Queues the next line or write; yields whether there was one.
    fn draw_next(&mut self) -> bool {
        if let Some(Next { line, held }) = self.sources.next() {
            self.output.extend(&self.screen.log_line(&line.author, &line.text));
            self.recent.push(Screen::kept_line(&line.author, &line.text));
            self.shown.extend(held.map(|held| (self.output.queued(), held)));
            return true;
        }
        let Some(write) = self.writes.pop_front() else { return false };
        self.output.extend(&self.screen.shell_text(write.writer, &write.bytes));
        // A writer that gave up meanwhile has still written.
        let _ = write.answer.send(Ok(()));
        true
    }

    /// Gives back to the rings what has reached the device; yields whether there was anything.
    fn release_shown(&mut self) -> bool {
        let before = self.shown.len();
        while let Some((_, held)) = self.shown.pop_front_if(|(end, _)| *end <= self.output.sent()) {
            self.sources.release(held);
        }
        self.shown.len() < before
    }

    fn send(&mut self) {
        let uart = &mut self.uart;
        self.output.send_with(|bytes| uart.send(bytes));
    }

    fn deliver_input(&mut self) {
        if self.input.is_empty() {
            return;
        }
        let Some((_, answer)) = self.reader.take() else { return };
        let bytes = self.input.peek(READ_BYTES_MAX);
        let count = bytes.len();
        match answer.send(Ok(Bytes(bytes))) {
            Ok(()) => self.input.consume(count),
            // The reader is gone or gave up: what was typed stays for the next.
            Err(Error::PeerGone | Error::StaleHandle) => {}
            Err(error) => warning!("consoled: what was typed could not be delivered: {error}"),
        }
    }
}

impl<R: Registers> Server for Terminal<R> {
    fn write(&mut self, caller: Caller, request: Bytes<WRITE_BYTES_MAX>, answer: Answer<(), ConsoleError>) {
        if self.writes.len() >= WRITES_MAX {
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(Err(ConsoleError::Busy));
            return;
        }
        self.writes.push_back(WaitingWrite { writer: caller.process_id, bytes: request.0, answer });
    }

    fn read(&mut self, caller: Caller, (): (), answer: ReadAnswer) {
        // A service has one live process, and that process one thread here: an earlier read of the same
        // service is of a dead process or was given up.
        match &self.reader {
            Some((service_id, _)) if *service_id != caller.service_id => {
                let _ = answer.send(Err(ConsoleError::Busy));
            }
            _ => self.reader = Some((caller.service_id, answer)),
        }
    }

    fn recent(
        &mut self,
        _caller: Caller,
        request: nexus_proto::console::Recent,
    ) -> Result<Bytes<RECENT_BYTES_MAX>, ConsoleError> {
        Ok(Bytes(self.recent.last(request.lines as usize, RECENT_BYTES_MAX).into_bytes()))
    }
}
