//! The 16550 UART and its many copies: eight registers, a receive and a transmit queue of 16 bytes.
//!
//! What it is: setting up, receiving and sending over [`Registers`]; the machine's are [`MmioRegisters`], a
//! test has its own. What it is not: it waits for nothing and keeps nothing; the interrupt's arrival and
//! the bytes on their way are its owner's. Speed and clock stay as the firmware set them.
//!
//! Where to start reading: [`Uart::open`].
#![cfg_attr(not(test), no_std)]

use mmio::Window;

/// Bytes of the transmit queue.
pub const TRANSMIT_QUEUE_BYTES: usize = 16;
/// Bytes that one [`Uart::receive`] takes at the most, so that a babbling line cannot hold its owner.
pub const RECEIVE_BYTES_MAX: usize = 256;

const DATA: usize = 0;
const INTERRUPT_ENABLE: usize = 1;
const QUEUE_CONTROL: usize = 2;
const LINE_CONTROL: usize = 3;
const MODEM_CONTROL: usize = 4;
const LINE_STATUS: usize = 5;

/// Bytes of the register block.
pub const REGISTER_BYTES: usize = 8;

const INTERRUPT_RECEIVED: u8 = 1 << 0;
const INTERRUPT_TRANSMIT_EMPTY: u8 = 1 << 1;
/// Queues on and emptied, interrupt from the first byte.
const QUEUES_ON_AND_EMPTY: u8 = 0b0000_0111;
/// Eight bits, no parity, one stop bit; the divisor latch closed.
const EIGHT_BITS: u8 = 0b0000_0011;
/// Ready, clear to send, and the interrupt line connected.
const READY_AND_INTERRUPTS: u8 = 0b0000_1011;
const STATUS_RECEIVED: u8 = 1 << 0;
const STATUS_TRANSMIT_EMPTY: u8 = 1 << 5;

/// The device's registers, by number.
pub trait Registers {
    /// Reads one.
    fn read(&mut self, register: usize) -> u8;
    /// Writes one.
    fn write(&mut self, register: usize, value: u8);
}

/// Registers that are mapped, one byte apart.
pub struct MmioRegisters {
    window: Window,
}

impl MmioRegisters {
    /// The registers that begin at `base`.
    ///
    /// # Safety
    /// `base` must be a 16550's mapped registers ([`REGISTER_BYTES`] of them), for as long as this lives, and
    /// nothing else may use them.
    pub const unsafe fn new(base: *mut u8) -> Self {
        // SAFETY: the caller's word.
        MmioRegisters { window: unsafe { Window::new(base, REGISTER_BYTES) } }
    }
}

impl Registers for MmioRegisters {
    fn read(&mut self, register: usize) -> u8 {
        self.window.read_u8(register & (REGISTER_BYTES - 1))
    }

    fn write(&mut self, register: usize, value: u8) {
        self.window.write_u8(register & (REGISTER_BYTES - 1), value);
    }
}

/// One UART.
pub struct Uart<R> {
    registers: R,
    /// What may interrupt, as it stands in the device.
    interrupts: u8,
}

impl<R: Registers> Uart<R> {
    /// Resets the queues and lets received bytes interrupt.
    pub fn open(mut registers: R) -> Self {
        registers.write(INTERRUPT_ENABLE, 0);
        registers.write(LINE_CONTROL, EIGHT_BITS);
        registers.write(QUEUE_CONTROL, QUEUES_ON_AND_EMPTY);
        registers.write(MODEM_CONTROL, READY_AND_INTERRUPTS);
        registers.write(INTERRUPT_ENABLE, INTERRUPT_RECEIVED);
        Uart { registers, interrupts: INTERRUPT_RECEIVED }
    }

    /// Hands over what was received, at most as many bytes as there is `room` for and [`RECEIVE_BYTES_MAX`]; yields how
    /// many. The others stay in the device.
    pub fn receive(&mut self, room: usize, mut take: impl FnMut(u8)) -> usize {
        let most = room.min(RECEIVE_BYTES_MAX);
        for count in 0..most {
            if self.registers.read(LINE_STATUS) & STATUS_RECEIVED == 0 {
                return count;
            }
            take(self.registers.read(DATA));
        }
        most
    }

    /// Sends as many bytes as the device takes now; yields how many.
    pub fn send(&mut self, bytes: impl IntoIterator<Item = u8>) -> usize {
        let mut sent = 0;
        for byte in bytes {
            let queue_begins = sent % TRANSMIT_QUEUE_BYTES == 0;
            if queue_begins && self.registers.read(LINE_STATUS) & STATUS_TRANSMIT_EMPTY == 0 {
                break;
            }
            self.registers.write(DATA, byte);
            sent += 1;
        }
        sent
    }

    /// Whether received bytes interrupt: wanted while there is room for them. And whether an empty transmit queue does:
    /// wanted only while bytes wait for it.
    pub fn set_interrupts(&mut self, received: bool, transmit_empty: bool) {
        let interrupts = if received { INTERRUPT_RECEIVED } else { 0 }
            | if transmit_empty { INTERRUPT_TRANSMIT_EMPTY } else { 0 };
        if self.interrupts != interrupts {
            self.interrupts = interrupts;
            self.registers.write(INTERRUPT_ENABLE, interrupts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A device of 16 bytes each way that sends nothing by itself.
    #[derive(Default)]
    struct Device {
        received: VecDeque<u8>,
        queue: Vec<u8>,
        lost: usize,
        registers: [u8; 8],
    }

    impl Registers for &mut Device {
        fn read(&mut self, register: usize) -> u8 {
            match register {
                DATA => self.received.pop_front().unwrap_or(0),
                LINE_STATUS => {
                    let received = if self.received.is_empty() { 0 } else { STATUS_RECEIVED };
                    received | if self.queue.is_empty() { STATUS_TRANSMIT_EMPTY } else { 0 }
                }
                _ => self.registers[register],
            }
        }

        fn write(&mut self, register: usize, value: u8) {
            match register {
                DATA if self.queue.len() < TRANSMIT_QUEUE_BYTES => self.queue.push(value),
                DATA => self.lost += 1,
                _ => self.registers[register] = value,
            }
        }
    }

    #[test]
    fn opening_enables_queues_and_the_receive_interrupt_alone() {
        let mut device = Device::default();
        Uart::open(&mut device);
        assert_eq!(device.registers[QUEUE_CONTROL], QUEUES_ON_AND_EMPTY);
        assert_eq!(device.registers[INTERRUPT_ENABLE], INTERRUPT_RECEIVED);
    }

    #[test]
    fn everything_received_comes_in_order_and_bounded() {
        let mut device = Device { received: (0..300u32).map(|n| n as u8).collect(), ..Device::default() };
        let mut uart = Uart::open(&mut device);
        let mut taken = Vec::new();
        assert_eq!(uart.receive(usize::MAX, |byte| taken.push(byte)), RECEIVE_BYTES_MAX);
        assert_eq!(uart.receive(usize::MAX, |byte| taken.push(byte)), 300 - RECEIVE_BYTES_MAX);
        assert_eq!(taken, (0..300u32).map(|n| n as u8).collect::<Vec<u8>>());
    }

    #[test]
    fn what_there_is_no_room_for_stays_in_the_device() {
        let mut device = Device { received: (0..10).collect(), ..Device::default() };
        let mut uart = Uart::open(&mut device);
        let mut taken = Vec::new();
        assert_eq!(uart.receive(4, |byte| taken.push(byte)), 4);
        assert_eq!(uart.receive(0, |byte| taken.push(byte)), 0);
        assert_eq!(uart.receive(9, |byte| taken.push(byte)), 6);
        assert_eq!(taken, (0..10).collect::<Vec<u8>>());
    }

    #[test]
    fn sending_never_overruns_the_queue() {
        let mut device = Device::default();
        let sent = Uart::open(&mut device).send(0..100);
        assert_eq!((sent, device.queue.len(), device.lost), (TRANSMIT_QUEUE_BYTES, TRANSMIT_QUEUE_BYTES, 0));
        assert_eq!(Uart::open(&mut device).send(0..100), 0);
    }

    #[test]
    fn each_interrupt_is_on_only_while_wanted() {
        let mut device = Device::default();
        let mut uart = Uart::open(&mut device);
        for (received, transmit_empty, enabled) in [
            (true, true, INTERRUPT_RECEIVED | INTERRUPT_TRANSMIT_EMPTY),
            (false, true, INTERRUPT_TRANSMIT_EMPTY),
            (false, false, 0),
            (true, false, INTERRUPT_RECEIVED),
        ] {
            uart.set_interrupts(received, transmit_empty);
            assert_eq!(uart.registers.registers[INTERRUPT_ENABLE], enabled);
        }
    }
}
