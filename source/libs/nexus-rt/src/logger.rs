//! Where log lines go: the process's own ring, or the kernel's ring for the one that has no other; on a
//! host, outside of any simulated process, the standard error stream.

use crate::line::Line;
use core::fmt::Arguments;
use nexus_log::{Key, Level, MESSAGE_BYTES_MAX, Value};

/// Writes a log line; one with line breaks, or longer than a message, becomes several records. Never blocks.
pub fn write_line(level: Level, arguments: Arguments<'_>) {
    let line = Line::of(arguments);
    for mut part in line.text().lines() {
        while part.len() > MESSAGE_BYTES_MAX {
            let (message, rest) = part.split_at(part.floor_char_boundary(MESSAGE_BYTES_MAX));
            target::write(level, message);
            part = rest;
        }
        target::write(level, part);
    }
}

/// Writes a record: what it is of, a message, and fields that whoever reads it formats. Never blocks.
///
/// ```
/// use nexus_rt::{Key, Level, Value, write_record};
/// const BLOCK: Key = Key::new("block");
/// write_record(Level::Warning, "disk", "a block was read again", &[(&BLOCK, Value::Unsigned(7))]);
/// ```
pub fn write_record(level: Level, scope: &str, message: &str, fields: &[(&Key, Value<'_>)]) {
    target::write_record(level, scope, message, fields);
}

pub(crate) mod target {
    use super::place::{get, set, without_target};
    use super::{Key, Level, Value};
    use crate::environment::Environment;
    use nexus_abi::records::RingLevel;
    use nexus_abi::{Handle, Kind, Rights, system};
    use nexus_log::{Memory, Producer, RING_BYTES, Reader};
    use spin::Mutex;

    pub(super) enum Target {
        Ring { producer: Mutex<Producer<'static>>, doorbells: [(Reader, Handle); 2] },
        Kernel(Handle),
    }

    /// The bit that a log doorbell sets.
    pub(crate) const DOORBELL_BIT: u64 = 1;

    /// Finds this process's ring; without one, and without a right to the kernel's, lines go nowhere.
    pub fn open(environment: &Environment) {
        if let Ok(ring) = environment.capability("log-ring", Kind::Vmo)
            && let Ok(base) = environment.map_memory(ring, RING_BYTES, Rights::READ.union(Rights::WRITE))
        {
            // SAFETY: just mapped for good, with this size, and only this module knows the address.
            let memory = unsafe { Memory::from_mapped(base) };
            let doorbell = |name| environment.capability(name, Kind::Notification).unwrap_or(Handle::NONE);
            let doorbells = [
                (Reader::Console, doorbell("log-doorbell")),
                (Reader::Journal, doorbell("journal-doorbell")),
            ];
            set(Target::Ring { producer: Mutex::new(Producer::new(memory)), doorbells });
        } else if let Ok(control) = environment.capability("system", Kind::SystemControl) {
            set(Target::Kernel(control));
        }
    }

    pub fn write(level: Level, text: &str) {
        write_record(level, "", text, &[]);
    }

    pub fn write_record(level: Level, scope: &str, text: &str, fields: &[(&Key, Value<'_>)]) {
        match get() {
            Some(Target::Ring { producer, doorbells }) => {
                // Whoever holds the lock may be the very thread that panics now: its line is lost then.
                let Some(mut producer) = producer.try_lock() else { return };
                let (scope, text) = (scope.as_bytes(), text.as_bytes());
                let written = producer.write(level, system::ticks(), scope, text, fields);
                for (_, doorbell) in doorbells.iter().filter(|(reader, _)| written.rings(*reader)) {
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
            None => without_target(text),
        }
    }
}

/// The one target of the program.
#[cfg(target_os = "none")]
mod place {
    use super::target::Target;
    use spin::Once;

    static TARGET: Once<Target> = Once::new();

    pub fn set(target: Target) {
        TARGET.call_once(|| target);
    }

    pub fn get() -> Option<&'static Target> {
        TARGET.get()
    }

    /// Whoever was handed neither ring nor right is not heard.
    pub fn without_target(_text: &str) {}
}

/// The target of the simulated process that runs now.
#[cfg(not(target_os = "none"))]
mod place {
    use super::target::Target;
    use nexus_abi::system::host::{LOGGER_WORD, is_installed, process_words, set_process_word};

    pub fn set(target: Target) {
        let target = core::ptr::from_ref(Box::leak(Box::new(target)));
        set_process_word(LOGGER_WORD, target.expose_provenance());
    }

    pub fn get() -> Option<&'static Target> {
        let target = core::ptr::with_exposed_provenance::<Target>(process_words()[LOGGER_WORD]);
        // SAFETY: the word is 0 or was set above in the same process, and what it names is never freed
        // while that process runs.
        unsafe { target.as_ref() }
    }

    /// Outside of any simulation, lines go to the standard error stream.
    pub fn without_target(text: &str) {
        if !is_installed() {
            eprintln!("{text}");
        }
    }
}
