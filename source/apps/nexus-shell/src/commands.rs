//! The commands. Each is a function from its words to what is shown.

use crate::format::{pages, table, time};
use crate::log;
use crate::system_view::{name_of, process_of, processes, services};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;
use nexus_abi::records::{
    CapabilityInfo, FaultCause, ProcessStatus, STATE_ALIVE, STATE_EXITED, STATE_FAULTED, STATE_KILLED,
    SystemInfo,
};
use nexus_abi::system::Reset;
use nexus_abi::{Error, Handle, Kind, Rights, system};
use nexus_ipc::CallError;
use nexus_proto::console::Client as Console;
use nexus_proto::init::{Client as Init, InitError, Run, ServiceState, Target};
use nexus_proto::keystore::Client as Keystore;
use nexus_proto::log::Client as Log;
use nexus_proto::policy::Client as Policy;
use nexus_proto::pong::{Client as Pong, Ping};
use nexus_rt::Environment;
use nexus_state::State;

/// Time that a service may take to answer a command.
pub const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// Time that a program may run in the foreground.
const RUN_PATIENCE: Duration = Duration::from_secs(60);
/// Time that a program which is to go on in the background has for an early end to be told.
const START_PATIENCE: Duration = Duration::from_millis(500);

/// Looks at the machine's memory until two figures of it belong together.
const MEMORY_LOOKS_MAX: u32 = 10;

/// What the shell holds.
pub struct Shell<'a> {
    /// What the process was given.
    pub environment: &'a Environment,
    /// The machine's figures, reset and power-off.
    pub control: Handle,
    /// The terminal.
    pub console: Console,
    /// The supervisor.
    pub init: Init,
    /// The device's identity.
    pub keystore: Keystore,
    /// The journal.
    pub log: Log,
    /// Who may do what.
    pub policy: Policy,
    /// The example.
    pub pong: Pong,
    /// What is kept.
    pub state: RefCell<State>,
}

/// One command.
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Whether its argument is the name of a service.
    pub takes_service: bool,
    /// The deed: what is shown, or why not.
    pub run: fn(&Shell<'_>, &[&str]) -> Result<String, String>,
}

const fn command(
    name: &'static str,
    arguments: &'static str,
    meaning: &'static str,
    run: fn(&Shell<'_>, &[&str]) -> Result<String, String>,
) -> Command {
    Command { name, arguments, meaning, takes_service: false, run }
}

const fn service_command(
    name: &'static str,
    arguments: &'static str,
    meaning: &'static str,
    run: fn(&Shell<'_>, &[&str]) -> Result<String, String>,
) -> Command {
    Command { takes_service: true, ..command(name, arguments, meaning, run) }
}

/// Every command, in the order of `help`.
pub const COMMANDS: &[Command] = &[
    command("help", "", "lists the commands", help),
    command("ps", "", "lists processes and services", ps),
    service_command("caps", "PID|NAME", "lists the capabilities of a process", caps),
    service_command(
        "holders",
        "PID|NAME HANDLE",
        "lists who holds what a capability (as `caps` shows it) names",
        holders,
    ),
    command("log", log::ARGUMENTS, "shows what everyone wrote; -f follows until a key is pressed", log::log),
    service_command("kill", "PID|NAME", "ends a service's process; init starts it again", kill),
    service_command(
        "run",
        "NAME [ARGUMENT] [&]",
        "runs a program that starts on demand, as `faulty`; & lets it go on",
        run,
    ),
    command("policy", crate::policy::USAGE, "says who may do what, and by which line", crate::policy::run),
    command("state", crate::state::USAGE, "reads and writes what outlives the machine", crate::state::run),
    command(
        "identity",
        crate::identity::USAGE,
        "says who this device is; makes it another if that is lost",
        crate::identity::run,
    ),
    command("ping", "", "calls the service `pong`", ping),
    command("mem", "", "shows the machine's memory", mem),
    command("uptime", "", "shows how long the machine has run", uptime),
    command("reboot", "", "starts the machine again", reboot),
    command("poweroff", "", "powers the machine off", poweroff),
];

fn help(_shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    let rows = COMMANDS.iter().map(|command| {
        let usage = format!("{} {}", command.name, command.arguments);
        vec![usage, command.meaning.to_string()]
    });
    Ok(table(&rows.collect::<Vec<_>>()))
}

fn ps(shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    let services = services(shell)?;
    let clock = shell.environment.clock();
    let heading = ["PID", "NAME", "STATE", "CPU", "MEMORY", "QUOTA", "RESTARTS", "LAST END"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for process in processes(shell)? {
        let service = services.iter().find(|service| service.process_id == process.process_id);
        rows.push(vec![
            process.process_id.to_string(),
            name_of(&services, process.service_id),
            match process.state {
                STATE_ALIVE => service.map_or("up", |service| state(service.state)).to_string(),
                STATE_EXITED => String::from("exited"),
                STATE_FAULTED => String::from("faulted"),
                STATE_KILLED => String::from("killed"),
                other => format!("state {other}"),
            },
            time(clock.duration(process.cpu_ticks)),
            pages(process.populated_pages),
            pages(process.quota_pages),
            service.map_or(0, |service| service.restarts).to_string(),
            service.map_or_else(String::new, |service| service.last_end.clone()),
        ]);
    }
    for service in services.iter().filter(|service| service.process_id == 0) {
        let none = || String::from("-");
        rows.push(vec![
            none(),
            service.name.clone(),
            state(service.state).to_string(),
            none(),
            none(),
            none(),
            service.restarts.to_string(),
            service.last_end.clone(),
        ]);
    }
    Ok(table(&rows))
}

fn state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Stopped => "stopped",
        ServiceState::Waiting => "waiting",
        ServiceState::Starting => "starting",
        ServiceState::Up => "up",
        ServiceState::Restarting => "restarting",
        ServiceState::GivenUp => "given up",
        ServiceState::NoDevice => "no device",
        ServiceState::Refused => "refused",
    }
}

fn caps(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    let process = process_of(shell, one(arguments, "caps PID|NAME")?)?;
    let mut rows = vec![["HANDLE", "KIND", "RIGHTS", "WHAT"].map(String::from).to_vec()];
    let mut index = 0;
    loop {
        let info = match system::cap_list(shell.control, process, index) {
            Ok(info) => info,
            Err(Error::WouldBlock) => break,
            Err(Error::InvalidArgument) => {
                return Err(format!("there is no process {process}; `ps` lists them"));
            }
            Err(error) => return Err(error.to_string()),
        };
        rows.push(capability(&info));
        let Some(next) = info.handle.index().checked_add(1) else { break };
        index = next;
    }
    Ok(table(&rows))
}

/// `HANDLE` is of the process that is named first, in the words of `caps`.
fn holders(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    let [process, word] = arguments else { return Err("usage: holders PID|NAME HANDLE".into()) };
    let process = process_of(shell, process)?;
    let handle =
        parse_handle(word).ok_or_else(|| format!("`{word}` is no handle; `caps` lists them, as 3.1"))?;
    let (services, processes) = (services(shell)?, processes(shell)?);
    let mut rows = vec![["PID", "NAME", "HANDLE", "KIND", "RIGHTS", "WHAT"].map(String::from).to_vec()];
    let (mut holder, mut first) = (0, 0);
    loop {
        let (number, info) = match system::cap_holders(shell.control, (process, handle), holder, first) {
            Ok(found) => found,
            Err(Error::WouldBlock) => break,
            Err(Error::InvalidArgument) => {
                return Err(format!("there is no process {process}; `ps` lists them"));
            }
            Err(Error::InvalidHandle | Error::StaleHandle) => {
                return Err(format!(
                    "process {process} holds no {word}; `caps {process}` lists what it does"
                ));
            }
            Err(error) => return Err(error.to_string()),
        };
        let known = processes.iter().find(|status| status.process_id == number);
        let name = known.map_or_else(String::new, |status| name_of(&services, status.service_id));
        rows.push([vec![number.to_string(), name], capability(&info)].concat());
        let Some(next) = info.handle.index().checked_add(1) else { break };
        (holder, first) = (number, next);
    }
    Ok(table(&rows))
}

/// A handle as it is shown: index, dot, generation.
fn parse_handle(word: &str) -> Option<Handle> {
    let (index, generation) = word.split_once('.')?;
    Some(Handle::new(index.parse().ok()?, generation.parse().ok()?))
}

fn capability(info: &CapabilityInfo) -> Vec<String> {
    let kind = u8::try_from(info.kind).ok().and_then(Kind::from_number);
    let rights = Rights::from_bits_truncate(info.rights);
    let names: Vec<String> = rights.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let what = match kind {
        Some(Kind::Process) => format!("process {}", info.badge),
        Some(Kind::Irq) => format!("line {}", info.badge),
        Some(Kind::Vmo) => pages(info.bytes.div_ceil(4096)),
        Some(Kind::DeviceMmio) if info.badge != 0 => {
            format!("{:#x}, {} bytes, {} in quarantine", info.base, info.bytes, pages(info.badge))
        }
        Some(Kind::DeviceMmio) => format!("{:#x}, {} bytes", info.base, info.bytes),
        Some(Kind::Endpoint) if info.badge != 0 => format!("badge {:#x}", info.badge),
        _ => String::new(),
    };
    vec![
        format!("{}.{}", info.handle.index(), info.handle.generation()),
        kind.map_or("?", Kind::name).to_string(),
        names.join(" "),
        what,
    ]
}

fn kill(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    let word = one(arguments, "kill PID|NAME")?;
    let target = word.parse().map_or_else(|_| Target::Name(word.into()), Target::Process);
    let deadline = shell.environment.deadline(CALL_PATIENCE);
    match shell.init.kill(&target, deadline) {
        Ok(()) => Ok(String::new()),
        Err(reason) => Err(in_words(word, reason)),
    }
}

fn run(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    let Some((&name, rest)) = arguments.split_first() else {
        return Err("usage: run NAME [ARGUMENT]".into());
    };
    let (rest, patience) = match rest.split_last() {
        Some((&"&", rest)) => (rest, START_PATIENCE),
        _ => (rest, RUN_PATIENCE),
    };
    let request = Run { name: name.into(), arguments: rest.join(" ") };
    let ended = match shell.init.run(&request, shell.environment.deadline(patience)) {
        Ok(ended) => ended,
        Err(CallError::Kernel(Error::TimedOut)) => return Ok(format!("{name} goes on in the background\n")),
        Err(reason) => return Err(in_words(name, reason)),
    };
    let cause = u32::try_from(ended.cause).ok().and_then(FaultCause::from_number);
    Ok(match cause {
        Some(cause) => {
            let (address, at) = (ended.address, ended.program_counter);
            format!(
                "{name} (pid {}) ended by: {} at {address:#x}, pc {at:#x}; `log` has the report\n",
                ended.process_id,
                cause.name()
            )
        }
        None if ended.state == u64::from(STATE_EXITED) => {
            format!("{name} ended with code {}\n", ended.exit_code)
        }
        None => format!("{name} was ended\n"),
    })
}

fn in_words(word: &str, reason: CallError<InitError>) -> String {
    match reason {
        CallError::Service(refusal) => format!("`{word}`: {refusal}"),
        other => other.to_string(),
    }
}

fn ping(shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    let clock = shell.environment.clock();
    let before = clock.now();
    let answer = shell.pong.ping(&Ping { number: before }, shell.environment.deadline(CALL_PATIENCE));
    let took = clock.duration(clock.now().saturating_sub(before));
    let pong = answer.map_err(|error| format!("pong: {error}"))?;
    Ok(format!("pong answered after {} us; it has answered {} so far\n", took.as_micros(), pong.answered))
}

/// Figures of the machine and of its processes that belong together: nothing was taken or given back in between.
fn memory(shell: &Shell<'_>) -> Result<(SystemInfo, Vec<ProcessStatus>), String> {
    let figures = || system::system_info(shell.control).map_err(|error| error.to_string());
    let mut before = figures()?;
    for _ in 1..MEMORY_LOOKS_MAX {
        let processes = processes(shell)?;
        let after = figures()?;
        if after.used_pages == before.used_pages {
            return Ok((after, processes));
        }
        before = after;
    }
    Ok((before, processes(shell)?))
}

fn mem(shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    let (info, processes) = memory(shell)?;
    let of_processes: u64 = processes.iter().map(|process| process.populated_pages).sum();
    let row = |name: &str, count: u64| vec![String::from(name), pages(count), format!("{count} pages")];
    Ok(table(&[
        row("RAM", info.ram_pages),
        row("kernel", info.kernel_pages),
        row("for processes", info.quota_pages),
        row("in use", info.used_pages),
        row("of processes", of_processes),
        row("of no process", info.used_pages.saturating_sub(of_processes)),
        row("in quarantine", info.quarantined_pages),
        row("free", info.quota_pages.saturating_sub(info.used_pages)),
    ]))
}

fn uptime(shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    let info = system::system_info(shell.control).map_err(|error| error.to_string())?;
    let clock = shell.environment.clock();
    let up = clock.duration(clock.now().saturating_sub(info.boot_ticks));
    let mut text = format!(
        "up {}; {} processes, {} threads, {} messages, {} interrupts, {} harts\n",
        time(up),
        info.processes,
        info.threads,
        info.messages,
        info.interrupts,
        info.harts_online
    );
    if info.harts_online > 1 {
        text += &format!(
            "harts: {} calls from one to another, {} threads taken over, {} locks found taken\n",
            info.hart_calls, info.threads_stolen, info.locks_contended
        );
    }
    Ok(text)
}

fn reboot(shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    Err(system::system_reset(shell.control, Reset::Reboot).to_string())
}

fn poweroff(shell: &Shell<'_>, _arguments: &[&str]) -> Result<String, String> {
    Err(system::system_reset(shell.control, Reset::PowerOff).to_string())
}

fn one<'a>(arguments: &[&'a str], usage: &str) -> Result<&'a str, String> {
    match arguments {
        [word] => Ok(word),
        _ => Err(format!("usage: {usage}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_shown_with_rights_and_what_they_name() {
        let info = CapabilityInfo {
            handle: Handle::new(3, 2),
            kind: Kind::DeviceMmio as u32,
            rights: Rights::MAP.bits(),
            base: 0x1000_0000,
            bytes: 4096,
            ..CapabilityInfo::default()
        };
        assert_eq!(capability(&info), ["3.2", "DeviceMmio", "map", "0x10000000, 4096 bytes"]);
        let quarantined = CapabilityInfo { badge: 3, ..info };
        assert_eq!(capability(&quarantined)[3], "0x10000000, 4096 bytes, 12 KiB in quarantine");
        assert_eq!(capability(&CapabilityInfo::default())[1], "?");
    }

    #[test]
    fn handles_are_read_as_they_are_shown() {
        let info = CapabilityInfo { handle: Handle::new(70, 9), ..CapabilityInfo::default() };
        assert_eq!(parse_handle(&capability(&info)[0]), Some(info.handle));
        for wrong in ["", "3", "3.", ".1", "3.1.1", "x.1", "-1.1", "4294967296.1"] {
            assert_eq!(parse_handle(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_command_has_its_own_name_and_a_meaning() {
        for (place, command) in COMMANDS.iter().enumerate() {
            assert!(!command.meaning.is_empty());
            assert!(COMMANDS.iter().skip(place + 1).all(|other| other.name != command.name));
        }
    }
}
