//! The simulated 16550: what is typed comes in at a line's pace, what is sent goes out at it.

use std::collections::VecDeque;

const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const LINE_STATUS: u64 = 5;
const RECEIVED: u8 = 1 << 0;
const TRANSMIT_EMPTY: u8 = 1 << 1;
const STATUS_RECEIVED: u8 = 1 << 0;
const STATUS_TRANSMIT_EMPTY: u8 = 1 << 5;
/// Bytes of each queue.
const QUEUE_BYTES: usize = 16;
/// Ticks that a byte is on its way.
const TICKS_A_BYTE: u64 = 20;

/// The device.
#[derive(Default)]
pub struct Uart {
    typed: VecDeque<u8>,
    received: VecDeque<u8>,
    /// When the next typed byte arrives.
    arrives: u64,
    sent: Vec<u8>,
    /// When the transmit queue is empty.
    empty_at: u64,
    queued: usize,
    /// Bytes that the driver wrote into a full queue, which a real device loses.
    pub overrun: usize,
    registers: [u8; 8],
}

impl Uart {
    /// Types bytes; they arrive one after the other.
    pub fn type_bytes(&mut self, bytes: &[u8], now: u64) {
        if self.typed.is_empty() {
            self.arrives = now + TICKS_A_BYTE;
        }
        self.typed.extend(bytes);
    }

    /// What was sent and not taken yet.
    pub fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// Lets what is due happen.
    pub fn advance(&mut self, now: u64) {
        while self.arrives <= now
            && self.received.len() < QUEUE_BYTES
            && let Some(byte) = self.typed.pop_front()
        {
            self.received.push_back(byte);
            self.arrives += TICKS_A_BYTE;
        }
        if self.empty_at <= now {
            self.queued = 0;
        }
    }

    /// Whether the interrupt line is up.
    pub fn raised(&self) -> bool {
        let enabled = self.registers[INTERRUPT_ENABLE as usize];
        (enabled & RECEIVED != 0 && !self.received.is_empty())
            || (enabled & TRANSMIT_EMPTY != 0 && self.queued == 0)
    }

    /// When something will happen by itself.
    pub fn next_event(&self) -> Option<u64> {
        let arrival = (!self.typed.is_empty() && self.received.len() < QUEUE_BYTES).then_some(self.arrives);
        let empty = (self.queued > 0).then_some(self.empty_at);
        arrival.into_iter().chain(empty).min()
    }

    /// Reads a register.
    pub fn load(&mut self, offset: u64) -> u8 {
        match offset {
            DATA => self.received.pop_front().unwrap_or(0),
            LINE_STATUS => {
                let received = if self.received.is_empty() { 0 } else { STATUS_RECEIVED };
                received | if self.queued == 0 { STATUS_TRANSMIT_EMPTY } else { 0 }
            }
            other => self.registers.get(other as usize).copied().unwrap_or(0),
        }
    }

    /// Writes a register.
    pub fn store(&mut self, offset: u64, value: u8, now: u64) {
        match offset {
            DATA if self.queued >= QUEUE_BYTES => self.overrun += 1,
            DATA => {
                self.queued += 1;
                self.empty_at = self.empty_at.max(now) + TICKS_A_BYTE;
                self.sent.push(value);
            }
            other => {
                if let Some(register) = self.registers.get_mut(other as usize) {
                    *register = value;
                }
            }
        }
    }

    /// What a reset leaves: the wire's ends stay, the device forgets.
    pub fn reset(&mut self) {
        let (typed, sent) = (std::mem::take(&mut self.typed), std::mem::take(&mut self.sent));
        *self = Uart { typed, sent, arrives: self.arrives, ..Uart::default() };
    }
}
