//! The prompt: reads lines from the console and does what they say, as an ordinary client with the rights of
//! its manifest entry.
//!
//! Where to start reading: [`converse`], then [`commands::COMMANDS`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod commands;
mod format;
mod identity;
mod log;
mod policy;
mod state;
mod system_view;

use alloc::string::String;
use alloc::vec::Vec;
use commands::Shell;
use core::cell::RefCell;
use core::time::Duration;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, Kind, system};
use nexus_ipc::{Bytes, CallError};
use nexus_proto::console::{Client as Console, ConsoleError, READ_BYTES_MAX, WRITE_BYTES_MAX};
use nexus_proto::{init, pong};
use nexus_rt::{Environment, SetupError, error, info};
use nexus_state::State;
use shell_line::{Editor, Event, nearest, words};

const PROMPT: &str = "nexus> ";
/// Time after which an unanswered read is asked again.
const READ_PATIENCE: Duration = Duration::from_secs(3600);
/// Time that the console may take to show something.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    match converse(environment) {
        Ok(()) => 0,
        Err(reason) => {
            error!("nexus-shell: {reason}");
            1
        }
    }
}

fn converse(environment: &Environment) -> Result<(), SetupError> {
    let shell = Shell {
        environment,
        control: environment.needed("system", Kind::SystemControl)?,
        console: Console::new(environment.to_call("console")?),
        init: init::Client::new(environment.to_call("init")?),
        keystore: nexus_proto::keystore::Client::new(environment.to_call("keystore")?),
        log: nexus_proto::log::Client::new(environment.to_call("log")?),
        policy: nexus_proto::policy::Client::new(environment.to_call("policy")?),
        pong: pong::Client::new(environment.to_call("pong")?),
        state: RefCell::new(State::open(environment)?),
    };
    let mut editor = Editor::new(PROMPT);
    info!("nexus-shell: ready");
    environment.ready();
    show(&shell, &banner(&shell))?;
    show(&shell, editor.begin())?;
    if environment.has_argument("bench") {
        tell_figures(&shell);
    }
    loop {
        match read(&shell)? {
            Some(bytes) => take_input(&shell, &mut editor, &bytes)?,
            // The console was restarted: what stood there is gone.
            None => show(&shell, &alloc::format!("{PROMPT}{}", editor.line()))?,
        }
    }
}

fn take_input(shell: &Shell<'_>, editor: &mut Editor, bytes: &[u8]) -> Result<(), SetupError> {
    let mut shown = String::new();
    let complete = |before: &str| candidates(shell, before);
    for &byte in bytes {
        let event = editor.feed(byte, &complete, &mut shown);
        if let Some(event) = event {
            show(shell, &core::mem::take(&mut shown))?;
            if let Event::Line(line) = event {
                show(shell, &answer(shell, &line))?;
            }
            shown.push_str(editor.begin());
        }
    }
    editor.refresh(&mut shown);
    show(shell, &shown)
}

/// What the line's command says.
fn answer(shell: &Shell<'_>, line: &str) -> String {
    let words = words(line);
    let Some((&name, arguments)) = words.split_first() else { return String::new() };
    match commands::COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => match (command.run)(shell, arguments) {
            Ok(text) => text,
            Err(reason) => alloc::format!("{name}: {reason}\n"),
        },
        None => {
            let meant = nearest(name, commands::COMMANDS.iter().map(|command| command.name));
            let hint = meant.map_or_else(
                || String::from("`help` lists what there is"),
                |meant| alloc::format!("did you mean `{meant}`?"),
            );
            alloc::format!("unknown command `{name}`: {hint}\n")
        }
    }
}

/// The words that could stand at the end of what was typed.
fn candidates(shell: &Shell<'_>, before: &str) -> Vec<String> {
    let first = before.split_whitespace().next().unwrap_or("");
    if before.trim_start() == first {
        return commands::COMMANDS.iter().map(|command| command.name.into()).collect();
    }
    if let Some(("policy", rest)) = before.trim_start().split_once(char::is_whitespace) {
        // The last word is the one that is being typed.
        let typed = rest.rsplit_once(char::is_whitespace).map_or("", |(typed, _)| typed);
        return policy::candidates(&words(typed), || {
            system_view::services(shell).unwrap_or_default().into_iter().map(|service| service.name).collect()
        });
    }
    if let Some(("state", rest)) = before.trim_start().split_once(char::is_whitespace)
        && !rest.contains(char::is_whitespace)
    {
        return state::WORDS.iter().copied().map(String::from).collect();
    }
    if first == "identity" {
        return identity::WORDS.iter().copied().map(String::from).collect();
    }
    let last =
        before.trim_end_matches(|character: char| !character.is_whitespace()).split_whitespace().last();
    match last {
        Some("--level") if first == "log" => return nexus_proto::log::LEVELS.map(String::from).to_vec(),
        Some("--service") => {}
        _ if first == "log" => return log::OPTIONS.map(String::from).to_vec(),
        _ => {}
    }
    let takes_service = first == "log"
        || commands::COMMANDS.iter().any(|command| command.name == first && command.takes_service);
    let services = if takes_service { system_view::services(shell).unwrap_or_default() } else { Vec::new() };
    services.into_iter().map(|service| service.name).collect()
}

fn banner(shell: &Shell<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = alloc::format!("\nOpen Nexus {version} on the kernel neuron");
    if let Ok(info) = system::system_info(shell.control) {
        let clock = shell.environment.clock();
        let milliseconds = |ticks: u64| clock.duration(ticks).as_millis();
        let kernel = milliseconds(info.init_ticks.saturating_sub(info.boot_ticks));
        let prompt = milliseconds(clock.now().saturating_sub(info.boot_ticks));
        text.push_str(&alloc::format!(": prompt after {prompt} ms, {kernel} of them in the kernel"));
    }
    if let Some(absence) = state::absence(shell) {
        text.push_str(&alloc::format!("\n{absence}"));
    }
    text.push_str("\n`help` lists the commands, `poweroff` ends the machine, Ctrl-A x leaves QEMU.\n\n");
    text
}

/// Tells the figures of this boot, for who asked for them by the boot argument `bench`. The machine is then
/// one where an instruction takes a nanosecond.
fn tell_figures(shell: &Shell<'_>) {
    let Ok(info) = system::system_info(shell.control) else { return };
    let clock = shell.environment.clock();
    let instructions = |ticks: u64| clock.duration(ticks.saturating_sub(info.boot_ticks)).as_nanos();
    let prompt = instructions(clock.now());
    info!("BENCH: boot/kernel {} instructions", instructions(info.init_ticks));
    info!("BENCH: boot/prompt {prompt} instructions");
    info!("BENCH: ram/kernel {} bytes", info.kernel_pages * PAGE_SIZE as u64);
    info!("BENCH: ram/processes {} bytes", info.used_pages * PAGE_SIZE as u64);
    let longest = clock.duration(info.longest_ticks).as_nanos();
    info!("BENCH: kernel/longest {longest} instructions");
    info!("BENCH: end");
}

/// Shows text on the terminal. A console that died meanwhile is waited for.
fn show(shell: &Shell<'_>, text: &str) -> Result<(), SetupError> {
    for piece in text.as_bytes().chunks(WRITE_BYTES_MAX) {
        let deadline = shell.environment.deadline(WRITE_PATIENCE);
        match shell.console.write(&Bytes(piece.to_vec()), deadline) {
            Ok(()) | Err(CallError::Kernel(Error::PeerGone)) => {}
            Err(reason) => return Err(refused("showing something", &reason)),
        }
    }
    Ok(())
}

/// What was typed; `None` when the console was restarted meanwhile.
fn read(shell: &Shell<'_>) -> Result<Option<Vec<u8>>, SetupError> {
    loop {
        let typed: Result<Bytes<READ_BYTES_MAX>, _> =
            shell.console.read(&(), shell.environment.deadline(READ_PATIENCE));
        match typed {
            Ok(Bytes(bytes)) => return Ok(Some(bytes)),
            Err(CallError::Kernel(Error::TimedOut)) => {}
            Err(CallError::Kernel(Error::PeerGone)) => return Ok(None),
            Err(reason) => return Err(refused("reading", &reason)),
        }
    }
}

fn refused(what: &str, reason: &CallError<ConsoleError>) -> SetupError {
    error!("nexus-shell: {what}: {reason}");
    SetupError::Kernel(match reason {
        CallError::Kernel(error) => *error,
        _ => Error::NotPermitted,
    })
}
