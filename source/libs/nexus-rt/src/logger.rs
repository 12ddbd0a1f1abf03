//! Where log lines go: the process's own ring, the kernel's ring for the one that has no other, or, on a
//! host, the standard error stream.

use crate::line::Line;
use core::fmt::Arguments;
use nexus_log::Level;

/// Writes a log line; one with line breaks becomes several records. Never blocks.
pub fn write_line(level: Level, arguments: Arguments<'_>) {
    let line = Line::of(arguments);
    for part in line.text().lines() {
        target::write(level, part);
    }
}

#[cfg(not(target_os = "none"))]
mod target {
    use super::Level;

    pub fn write(_level: Level, text: &str) {
        eprintln!("{text}");
    }
}

#[cfg(target_os = "none")]
pub(crate) mod target {
    use super::Level;
    use crate::environment::Environment;
    use nexus_abi::records::RingLevel;
    use nexus_abi::{Handle, Kind, Rights, system};
    use nexus_log::{Memory, Producer, RING_BYTES, Written};
    use spin::{Mutex, Once};

    enum Target {
        Ring { producer: Mutex<Producer<'static>>, doorbell: Handle },
        Kernel(Handle),
    }

    /// The bit that a log doorbell sets.
    const DOORBELL_BIT: u64 = 1;

    static TARGET: Once<Target> = Once::new();

    /// Finds this process's ring; without one, and without a right to the kernel's, lines go nowhere.
    pub fn open(environment: &Environment) {
        if let Ok(ring) = environment.capability("log-ring", Kind::Vmo)
            && let Ok(base) = environment.map_memory(ring, RING_BYTES, Rights::READ.union(Rights::WRITE))
        {
            // SAFETY: just mapped for good, with this size, and only this module knows the address.
            let memory = unsafe { Memory::from_mapped(base) };
            let doorbell = environment.capability("log-doorbell", Kind::Notification).unwrap_or(Handle::NONE);
            TARGET.call_once(|| Target::Ring { producer: Mutex::new(Producer::new(memory)), doorbell });
        } else if let Ok(control) = environment.capability("system", Kind::SystemControl) {
            TARGET.call_once(|| Target::Kernel(control));
        }
    }

    pub fn write(level: Level, text: &str) {
        match TARGET.get() {
            Some(Target::Ring { producer, doorbell }) => {
                // Whoever holds the lock may be the very thread that panics now: its line is lost then.
                let Some(mut producer) = producer.try_lock() else { return };
                if producer.write(level, system::ticks(), text.as_bytes()) == Written::Doorbell {
                    // Without a reader the line waits in the ring, as it would anyway.
                    let _ = system::notification_signal(*doorbell, DOORBELL_BIT);
                }
            }
            Some(Target::Kernel(control)) => {
                let level = match level {
                    Level::Error => RingLevel::Error,
                    Level::Warning => RingLevel::Warning,
                    Level::Info => RingLevel::Info,
                };
                // Nobody is left to tell when the kernel refuses a line.
                let _ = system::ring_write(*control, level, text);
            }
            None => {}
        }
    }
}
