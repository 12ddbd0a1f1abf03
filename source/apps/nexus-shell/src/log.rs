//! `log`: what is in the journal, as lines for people or as JSON.

use crate::commands::{CALL_PATIENCE, Shell};
use crate::system_view::{INIT_NAME, name_of, services};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;
use nexus_abi::{Error, service_id};
use nexus_ipc::CallError;
use nexus_proto::console::Recent;
use nexus_proto::init::ServiceEntry;
use nexus_proto::log::{Entry, LEVELS, LogError, Page, Query};
use shell_line::nearest;

/// What follows `log` in `help`.
pub const ARGUMENTS: &str =
    "[-f] [--json] [--audit] [--before] [--level L] [--service S] [--since 10s] [LINES] [TEXT]";
/// Every option, for completion.
pub const OPTIONS: [&str; 7] =
    ["--audit", "--before", "--follow", "--json", "--level", "--service", "--since"];

/// Who wrote what the kernel wrote.
const KERNEL_NAME: &str = "neuron";
/// Lines that are shown without a number.
const LINES: u32 = 30;
/// Time that new records are waited for before the keyboard is looked at.
const FOLLOW_PATIENCE: Duration = Duration::from_millis(200);
/// Time that a key is waited for before the journal is looked at again: enough for a slow machine to ask the console
/// and be answered, and too short to be noticed by whoever reads.
const KEY_PATIENCE: Duration = Duration::from_millis(100);
/// Time that the journal has to come back while it is followed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked again before it counts as gone.
const RETRIES_MAX: u32 = 50;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    query: Query,
    /// Whose records, by name.
    service: Option<String>,
    since: Option<Duration>,
    follows: bool,
    as_json: bool,
}

/// The words after `log`.
fn parse(words: &[&str]) -> Result<Request, String> {
    let query = Query { last: LINES, ..Query::ALL };
    let mut request = Request { query, service: None, since: None, follows: false, as_json: false };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
        match word {
            "-f" | "--follow" => request.follows = true,
            "--json" => request.as_json = true,
            "--audit" => request.query.audit = true,
            "--before" => request.query.earlier = true,
            "--level" => request.query.level = level(value()?)?,
            "--service" => request.service = Some(value()?.into()),
            "--since" => request.since = Some(duration(value()?)?),
            option if option.starts_with('-') => {
                let meant = nearest(option, OPTIONS).map(|meant| format!("; did you mean `{meant}`?"));
                return Err(format!("unknown option `{option}`{}", meant.unwrap_or_default()));
            }
            text => take_text(&mut request.query, text),
        }
    }
    // A clock begins anew with each boot, and nothing comes to what is past.
    if request.query.earlier && (request.follows || request.since.is_some()) {
        return Err("`--before` shows boots before this one: neither `-f` nor `--since` goes with it".into());
    }
    Ok(request)
}

/// A number alone is how many lines; everything else is looked for.
fn take_text(query: &mut Query, word: &str) {
    match word.parse() {
        Ok(lines) if query.text.is_empty() && lines > 0 => query.last = lines,
        _ => {
            if !query.text.is_empty() {
                query.text.push(' ');
            }
            query.text.push_str(word);
        }
    }
}

fn level(word: &str) -> Result<u8, String> {
    let place = LEVELS.iter().position(|level| *level == word);
    let place = place.and_then(|place| u8::try_from(place).ok());
    place.ok_or_else(|| format!("`{word}` is no level; there are {}", LEVELS.join(", ")))
}

/// The id of an author. Without a list, because init does not answer, any name is taken.
fn author(name: &str, services: &[ServiceEntry]) -> Result<u64, String> {
    let others = [KERNEL_NAME, INIT_NAME];
    let known = || others.into_iter().chain(services.iter().map(|service| service.name.as_str()));
    match name {
        KERNEL_NAME => Ok(0),
        // As its lines begin.
        "init" => Ok(service_id(INIT_NAME)),
        _ if services.is_empty() || known().any(|other| other == name) => Ok(service_id(name)),
        _ => {
            let meant = nearest(name, known()).map(|meant| format!(" (did you mean `{meant}`?)"));
            let all = known().collect::<Vec<_>>().join(", ");
            Err(format!("no service is called `{name}`{}; there are {all}", meant.unwrap_or_default()))
        }
    }
}

/// A time as `500ms`, `10s`, `2m` or `1h`.
fn duration(word: &str) -> Result<Duration, String> {
    let digits = word.find(|character: char| !character.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number = number.parse::<u64>().ok().filter(|_| milliseconds > 0);
    let all = number.and_then(|number| number.checked_mul(milliseconds)).map(Duration::from_millis);
    all.ok_or_else(|| format!("`{word}` is no time; say 500ms, 10s, 2m or 1h"))
}

/// The command.
pub fn log(shell: &Shell<'_>, arguments: &[&str]) -> Result<String, String> {
    let mut request = parse(arguments)?;
    if let Some(since) = request.since {
        let clock = shell.environment.clock();
        request.query.since = clock.now().saturating_sub(clock.ticks(since));
    }
    let named = services(shell).unwrap_or_default();
    request.query.service_id = request.service.as_deref().map(|name| author(name, &named)).transpose()?;
    let page = match shell.log.query(&request.query, shell.environment.deadline(CALL_PATIENCE)) {
        Ok(page) => page,
        Err(CallError::Service(refusal)) => return Err(refusal.to_string()),
        // Without a journal there is still what the console remembers, unless more than that was asked for.
        Err(reason) => return remembered(shell, &request, &reason),
    };
    let text = shown(shell, &request, &named, &page);
    if !request.follows {
        return Ok(text);
    }
    follow(shell, &mut request, &named, text, page.end)
}

fn remembered(shell: &Shell<'_>, request: &Request, reason: &CallError<LogError>) -> Result<String, String> {
    if (Query { last: 0, ..request.query.clone() } != Query::ALL) || request.follows || request.as_json {
        return Err(format!("logd: {reason}"));
    }
    let recent = Recent { lines: request.query.last };
    let lines = shell.console.recent(&recent, shell.environment.deadline(CALL_PATIENCE));
    let lines = lines.map_err(|error| format!("logd: {reason}; consoled: {error}"))?;
    Ok(format!("logd: {reason}; this is what the console remembers:\n{}", String::from_utf8_lossy(&lines.0)))
}

/// Shows what comes, until a key is pressed.
fn follow(
    shell: &Shell<'_>,
    request: &mut Request,
    named: &[ServiceEntry],
    first: String,
    end: u64,
) -> Result<String, String> {
    show(shell, &first)?;
    request.query.last = 0;
    request.query.after = end;
    let (mut failures, mut latest) = (0, request.query.since);
    loop {
        match shell.log.follow(&request.query, shell.environment.deadline(FOLLOW_PATIENCE)) {
            Ok(page) => {
                failures = 0;
                show(shell, &shown(shell, request, named, &page))?;
                latest = page.entries.last().map_or(latest, |entry| entry.ticks.saturating_add(1));
                request.query.after = page.end;
            }
            Err(CallError::Kernel(Error::TimedOut)) => failures = 0,
            Err(CallError::Service(refusal)) => return Err(refusal.to_string()),
            Err(_) if failures < RETRIES_MAX => {
                // A new journal reads the kernel's ring from its beginning, under new numbers.
                (request.query.after, request.query.since) = (0, latest);
                failures += 1;
                shell.environment.sleep(RETRY_PAUSE);
            }
            Err(reason) => return Err(format!("logd: {reason}")),
        }
        match shell.console.read(&(), shell.environment.deadline(KEY_PATIENCE)) {
            Ok(_) => return Ok(String::new()),
            Err(CallError::Kernel(Error::TimedOut | Error::PeerGone)) => {}
            Err(reason) => return Err(format!("consoled: {reason}")),
        }
    }
}

fn show(shell: &Shell<'_>, text: &str) -> Result<(), String> {
    crate::show(shell, text).map_err(|reason| reason.to_string())
}

fn shown(shell: &Shell<'_>, request: &Request, named: &[ServiceEntry], page: &Page) -> String {
    let clock = shell.environment.clock();
    let lines = page.entries.iter().map(|entry| {
        let author = match entry.service_id {
            0 => String::from(KERNEL_NAME),
            id => name_of(named, id),
        };
        let time = clock.duration(entry.ticks);
        match request.as_json {
            true => json(entry, &author, time),
            false => line(entry, &author, time, request.query.earlier),
        }
    });
    lines.collect()
}

/// A record for people: time, author, level unless ordinary, scope, message, fields.
fn line(entry: &Entry, author: &str, time: Duration, is_earlier: bool) -> String {
    let mut line = format!("{:>5}.{:03} [{author}] ", time.as_secs(), time.subsec_millis());
    if is_earlier {
        line.insert_str(0, &format!("boot {} ", entry.boot));
    }
    if let Some(level) = LEVELS.get(usize::from(entry.level)).filter(|level| **level != "info") {
        line.push_str(level);
        line.push_str(": ");
    }
    if !entry.scope.is_empty() {
        line.push_str(&entry.scope);
        line.push_str(": ");
    }
    line.push_str(&entry.message);
    for field in entry.fields.lines() {
        line.push(' ');
        line.push_str(field);
    }
    line.push('\n');
    line
}

/// A record as one object of JSON on a line of its own.
fn json(entry: &Entry, author: &str, time: Duration) -> String {
    let level = LEVELS.get(usize::from(entry.level)).copied().unwrap_or("unknown");
    let mut object =
        format!("{{\"id\":{},\"boot\":{},\"time_ns\":{},", entry.id, entry.boot, time.as_nanos());
    // Writing to a string cannot fail.
    let _ = write!(object, "\"level\":\"{level}\",\"service\":");
    push_json(&mut object, author);
    if let Some(subject) = entry.subject {
        let _ = write!(object, ",\"subject\":\"{subject:#x}\"");
    }
    for (key, value) in [("scope", &entry.scope), ("message", &entry.message)] {
        let _ = write!(object, ",\"{key}\":");
        push_json(&mut object, value);
    }
    object.push_str(",\"fields\":{");
    for (place, field) in entry.fields.lines().enumerate() {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        if place > 0 {
            object.push(',');
        }
        push_json(&mut object, key);
        object.push(':');
        push_json(&mut object, value);
    }
    object.push_str("}}\n");
    object
}

/// A text as JSON writes it.
pub fn push_json(to: &mut String, text: &str) {
    to.push('"');
    for character in text.chars() {
        match character {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            control if control < ' ' => {
                let _ = write!(to, "\\u{:04x}", u32::from(control));
            }
            other => to.push(other),
        }
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_proto::init::ServiceState;

    #[test]
    fn filters_are_understood_in_any_order() {
        let request =
            parse(&["--level", "warning", "two", "-f", "--service", "rngd", "words", "--since", "10s"])
                .unwrap();
        let query = Query { last: LINES, level: 1, ..Query::ALL };
        assert_eq!(request.query, Query { text: "two words".into(), ..query });
        assert_eq!((request.follows, request.as_json), (true, false));
        assert_eq!(request.service.as_deref(), Some("rngd"));
        assert_eq!(request.since, Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_number_is_how_many_lines_unless_it_is_looked_for() {
        assert_eq!(parse(&["100"]).unwrap().query, Query { last: 100, ..Query::ALL });
        assert_eq!(parse(&["line", "100"]).unwrap().query.text, "line 100");
        assert_eq!(
            parse(&["--audit", "--json"]).unwrap().query,
            Query { last: LINES, audit: true, ..Query::ALL }
        );
    }

    fn rngd() -> [ServiceEntry; 1] {
        let (process_id, state, restarts, last_end) = (3, ServiceState::Up, 0, String::new());
        let (name, service_id) = (String::from("rngd"), service_id("rngd"));
        [ServiceEntry { name, service_id, process_id, state, restarts, last_end }]
    }

    #[test]
    fn an_author_is_a_service_init_or_the_kernel() {
        assert_eq!(author("rngd", &rngd()), Ok(service_id("rngd")));
        assert_eq!(author("neuron", &rngd()), Ok(0));
        for name in ["init", "nexus-init"] {
            assert_eq!(author(name, &rngd()), Ok(service_id("nexus-init")));
        }
        assert_eq!(author("rngd", &[]), Ok(service_id("rngd")), "init does not tell who there is");
    }

    #[test]
    fn test_reject_a_name_that_nobody_has() {
        let refused = |name| author(name, &rngd()).unwrap_err();
        let all = "there are neuron, nexus-init, rngd";
        assert_eq!(refused("rgnd"), format!("no service is called `rgnd` (did you mean `rngd`?); {all}"));
        assert_eq!(refused("statefsd"), format!("no service is called `statefsd`; {all}"));
    }

    #[test]
    fn times_are_understood_with_their_units() {
        let seen = ["500ms", "10s", "10", "2m", "1h"].map(|word| duration(word).unwrap().as_millis());
        assert_eq!(seen, [500, 10_000, 10_000, 120_000, 3_600_000]);
    }

    #[test]
    fn boots_before_this_one_are_asked_for_by_a_word() {
        let query = Query { last: LINES, earlier: true, audit: true, ..Query::ALL };
        assert_eq!(parse(&["--before", "--audit"]).unwrap().query, query);
    }

    #[test]
    fn test_reject_following_or_dating_what_is_of_another_boot() {
        for words in [["--before", "-f", "x"], ["--since", "1s", "--before"]] {
            assert!(
                parse(&words).unwrap_err().contains("`--before` shows boots before this one"),
                "{words:?}"
            );
        }
    }

    #[test]
    fn test_reject_what_is_no_option_level_or_time() {
        let refused = |words: &[&str]| parse(words).unwrap_err();
        assert_eq!(refused(&["--jsno"]), "unknown option `--jsno`; did you mean `--json`?");
        assert_eq!(refused(&["-x"]), "unknown option `-x`");
        assert_eq!(refused(&["--level"]), "`--level` needs a value");
        assert!(refused(&["--level", "loud"]).contains("error, warning, info, debug, trace"));
        for word in ["s", "10 s", "10y", "-1s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(refused(&["--since", word]).contains("is no time"), "{word}");
        }
    }

    fn entry() -> Entry {
        let (scope, message) = (String::from("disk"), String::from("a \"b\"\\\u{1}"));
        let fields = String::from("block=7\nwhy=x=y");
        Entry {
            id: 3,
            boot: 2,
            ticks: 0,
            level: 1,
            service_id: 9,
            subject: Some(0xab),
            scope,
            message,
            fields,
        }
    }

    #[test]
    fn a_record_is_shown_on_one_line() {
        let time = Duration::from_millis(61_005);
        assert_eq!(
            line(&entry(), "blkd", time, false),
            "   61.005 [blkd] warning: disk: a \"b\"\\\u{1} block=7 why=x=y\n"
        );
        let plain =
            Entry { level: 2, scope: String::new(), message: "up".into(), fields: String::new(), ..entry() };
        assert_eq!(line(&plain, "a", Duration::ZERO, false), "    0.000 [a] up\n");
        assert_eq!(line(&plain, "a", Duration::ZERO, true), "boot 2     0.000 [a] up\n");
    }

    #[test]
    fn json_is_escaped_and_complete() {
        let object = json(&entry(), "blkd", Duration::from_nanos(5));
        let expected = r#"{"id":3,"boot":2,"time_ns":5,"level":"warning","service":"blkd","subject":"0xab","scope":"disk","message":"a \"b\"\\\u0001","fields":{"block":"7","why":"x=y"}}"#;
        assert_eq!(object, format!("{expected}\n"));
    }
}
