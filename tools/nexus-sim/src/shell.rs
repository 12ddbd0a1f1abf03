//! The simulated system on a person's terminal. Here the clock follows the computer's.

use crate::campaign::Stage;
use crate::machine::TICKS_PER_SECOND;
use crate::system::{Setup, System, Turn};
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::collections::VecDeque;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::{Duration, Instant};

/// What Ctrl-C types.
const INTERRUPT: u8 = 3;
/// The longest that a keystroke can go unnoticed while everybody sleeps.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Boots, and stays until the system powers off, Ctrl-C is typed, or there is nothing more to read.
pub fn run(stage: &Stage, arguments: &str) -> Result<()> {
    println!("Open Nexus, simulated on this computer. `poweroff` at the prompt, or Ctrl-C, ends it.");
    let _raw = Raw::enter()?;
    let setup = Setup { arguments: arguments.to_string(), ..Setup::default() };
    while session(stage, &setup)? {}
    println!();
    Ok(())
}

/// One boot; yields whether another one follows.
fn session(stage: &Stage, setup: &Setup) -> Result<bool> {
    let mut system = System::boot(stage.built(), setup)?;
    let (began, first) = (Instant::now(), system.now());
    let mut shown = 0;
    let mut open = true;
    let mut keys = VecDeque::new();
    loop {
        let turn = system.step()?;
        let text = system.console_bytes();
        stdout().write_all(&text[shown..])?;
        stdout().flush()?;
        shown = text.len();
        let event = match turn {
            Turn::Went => continue,
            Turn::Reset(reboot) => return Ok(reboot),
            Turn::Sleeps(event) => event,
        };
        // One key whenever the system has nothing else to do: its UART holds a few, and the rest would be lost.
        let rests = event.is_none_or(|event| event > system.now() + TICKS_PER_SECOND);
        if rests && let Some(key) = keys.pop_front() {
            system.type_bytes(&[key]);
            continue;
        }
        let now = first + (began.elapsed().as_micros() as u64).saturating_mul(TICKS_PER_SECOND / 1_000_000);
        let wait = match event {
            Some(event) if event <= now => {
                system.sleep();
                continue;
            }
            Some(event) => {
                Duration::from_micros((event - now) * 1_000_000 / TICKS_PER_SECOND).min(LOOK_EVERY)
            }
            None => LOOK_EVERY,
        };
        system.advance_to(now);
        if open && !typed(&mut keys, wait, &mut open)? {
            return Ok(false);
        }
        // Without anybody to type more, the system ends when it has come to rest.
        if !open {
            if rests && keys.is_empty() {
                return Ok(false);
            }
            system.sleep();
        }
    }
}

/// Waits for keystrokes and keeps them; yields whether to go on.
fn typed(keys: &mut VecDeque<u8>, wait: Duration, open: &mut bool) -> Result<bool> {
    let input = stdin();
    let mut ready = [PollFd::new(&input, PollFlags::IN)];
    let time = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
    if poll(&mut ready, Some(&time))? == 0 {
        return Ok(true);
    }
    let mut bytes = [0; 256];
    let count = rustix::io::read(&input, &mut bytes)?;
    *open = count > 0;
    let bytes = &bytes[..count];
    if bytes.contains(&INTERRUPT) {
        return Ok(false);
    }
    // A terminal's line ends as a key does; a file's does not.
    keys.extend(bytes.iter().map(|&byte| if byte == b'\n' { b'\r' } else { byte }));
    Ok(true)
}

/// The terminal without its own editing and echo, for as long as this lives.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Raw(None));
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Whoever closed the terminal meanwhile needs no modes.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
