//! The figure of an interrupt: from the moment at which a device raises it to the first instruction of its driver.
//!
//! The device is the clock, whose alarm goes off at a moment that is known. Where the machine's clocks count
//! instructions, so does the difference to what the driver then reads.

use crate::{Subject, trying};
use alloc::string::String;
use mmio::Window;
use nexus_abi::{Kind, system};
use nexus_proto::busy;
use nexus_rt::info;

/// Registers of the clock: its time, the low half first, which keeps the high one until that is read.
const TIME_LOW: usize = 0x00;
const TIME_HIGH: usize = 0x04;
/// The alarm, which the low half sets.
const ALARM_LOW: usize = 0x08;
const ALARM_HIGH: usize = 0x0c;
const INTERRUPT_ENABLE: usize = 0x10;
const CLEAR_INTERRUPT: usize = 0x1c;
/// Nanoseconds until an alarm: enough for the driver to wait, and for the other program to run.
const AHEAD_NS: u64 = 200_000;
/// Rounds that the figure is the mean of, after some that are not counted.
const ROUNDS: u64 = 200;
const ROUNDS_BEFORE: u64 = 8;
/// The bit that the clock sets.
const DEVICE_BIT: u64 = 1;

/// Measures with another program running, so that the machine never sleeps, and tells.
pub fn tell(subject: &Subject<'_>) -> Result<(), String> {
    let environment = subject.environment;
    let device = trying("the clock", environment.needed("device.mmio.rtc", Kind::DeviceMmio))?;
    let line = trying("the clock's line", environment.needed("device.irq.rtc", Kind::Irq))?;
    let (registers, bytes) = trying("mapping the clock", environment.map_device(device))?;
    // SAFETY: just mapped for good with this size; nobody else drives this clock.
    let clock = unsafe { Window::new(registers, bytes) };
    let events = trying("a notification", system::notification_create())?;
    trying("binding the line", system::irq_bind(line, events, DEVICE_BIT))?;
    clock.write_u32(INTERRUPT_ENABLE, 1);
    let busy = busy::Client::new(trying("the busy one", environment.to_call("busy"))?);
    trying("the busy one", busy.start(&(), subject.deadline()))?;
    let mut all = 0;
    for round in 0..ROUNDS_BEFORE + ROUNDS {
        let alarm = time(&clock) + AHEAD_NS;
        clock.write_u32(ALARM_HIGH, (alarm >> 32) as u32);
        clock.write_u32(ALARM_LOW, alarm as u32);
        let heard = system::notification_wait(events, DEVICE_BIT, subject.deadline().ticks());
        let late = time(&clock).saturating_sub(alarm);
        trying("the alarm", heard)?;
        clock.write_u32(CLEAR_INTERRUPT, 1);
        trying("acknowledging", system::irq_ack(line))?;
        all += if round < ROUNDS_BEFORE { 0 } else { late };
    }
    clock.write_u32(INTERRUPT_ENABLE, 0);
    trying("the busy one's end", busy.stop(&(), subject.deadline()))?;
    info!("BENCH: interrupt/driver {} instructions", all / ROUNDS);
    Ok(())
}

fn time(clock: &Window) -> u64 {
    let low = clock.read_u32(TIME_LOW);
    u64::from(clock.read_u32(TIME_HIGH)) << 32 | u64::from(low)
}
