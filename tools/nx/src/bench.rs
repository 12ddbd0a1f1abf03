//! `nx bench`: figures in units that do not depend on how busy the computer is.
//!
//! The machine is booted with `-icount shift=0`, where an instruction takes one nanosecond of its time. It
//! prints `BENCH: NAME VALUE UNIT`, and the sizes of what was built are added.

use crate::console::{Line, Lines};
use crate::disk;
use crate::guest::{Event, Guest, after_seconds};
use crate::image::{self, Built};
use crate::project::{Project, execute};
use crate::qemu::Machine;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

/// Figures that begin with this are measured on this machine.
const ON_THIS_MACHINE: &str = "statefs";
/// Who may print a figure.
const MEASURERS: [&str; 6] =
    ["neuron", "nexus-init", "nexus-shell", "selftest-client", "selftest-soak", "bench-disk"];

/// A boot that measures.
struct Boot {
    /// Its arguments.
    append: &'static str,
    /// The line after which no figure comes.
    end: &'static str,
    disks: usize,
    /// Whether its time is that of instructions; the others' is this computer's, and only shares of it mean anything.
    counts_instructions: bool,
}

/// The boots that measure. The first is that of `make run`, with nothing but the words that have it measured.
const BOOTS: [Boot; 5] = [
    Boot { append: "bench console.origin=1", end: "BENCH: end", disks: 0, counts_instructions: true },
    Boot {
        append: "selftest bench=calls console.origin=1",
        end: "SELFTEST: end",
        disks: 0,
        counts_instructions: true,
    },
    Boot {
        append: "soak signatures=40 puts=1000 console.origin=1",
        end: "soak: puts are measured",
        disks: 1,
        counts_instructions: true,
    },
    Boot {
        append: "soak ends=1000 console.origin=1",
        end: "soak: ends are measured",
        disks: 0,
        counts_instructions: true,
    },
    Boot {
        append: "bench=disk console.origin=1",
        end: "bench-disk: measured",
        disks: 2,
        counts_instructions: false,
    },
];

/// Which figures, and how they are told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only figures whose names begin with this
    pub group: Option<String>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Seconds that the boot may take
    #[arg(long, default_value_t = 300)]
    pub timeout: u64,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// A path, stable from release to release.
    pub name: String,
    /// The value.
    pub value: u64,
    /// What is counted.
    pub unit: String,
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    benchmarks: Vec<Figure>,
}

/// Builds, boots, measures, prints.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    if arguments.group.as_deref().is_some_and(|group| group.starts_with(ON_THIS_MACHINE)) {
        return on_this_machine(project, arguments.json);
    }
    let built = image::build(project)?;
    let mut figures = sizes(&built)?;
    for boot in &BOOTS {
        figures.extend(measured(project, &built, boot, arguments.timeout)?);
    }
    figures.retain(|figure| {
        arguments.group.as_ref().is_none_or(|group| figure.name.starts_with(group.as_str()))
    });
    ensure!(
        !figures.is_empty(),
        "no figure begins with `{}`",
        arguments.group.as_deref().unwrap_or_default()
    );
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&Report { benchmarks: figures })?);
        return Ok(());
    }
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    for figure in &figures {
        println!("{:<width$}  {:>12} {}", figure.name, figure.value, figure.unit);
    }
    Ok(())
}

/// The store beside other stores: a program of its own, because of all that it is compared with.
fn on_this_machine(project: &Project, json: bool) -> Result<()> {
    let manifest = project.path("tests/bench/statefs/Cargo.toml");
    let mut cargo = project.cargo();
    cargo.args(["run", "--quiet", "--release", "--manifest-path"]).arg(manifest).arg("--");
    execute(cargo.args(json.then_some("--json")))
}

fn sizes(built: &Built) -> Result<Vec<Figure>> {
    let figure = |(name, bytes): (String, usize)| Figure {
        name: format!("size/{name}"),
        value: bytes as u64,
        unit: "bytes".to_string(),
    };
    Ok(image::sizes(built)?.into_iter().map(figure).collect())
}

fn measured(project: &Project, built: &Built, boot: &Boot, seconds: u64) -> Result<Vec<Figure>> {
    let (directory, end) = (project.path("build/qemu/bench"), boot.end);
    // The clock's alarm counts instructions as well.
    let mut extra = ["-no-reboot", "-rtc", "clock=vm"].map(str::to_string).to_vec();
    let mut disk = None;
    if boot.disks > 0 {
        disk = Some(disk::of_test(&directory, disk::Condition::New)?);
    }
    if boot.disks > 1 {
        let second = disk::of_test(&directory.join("second"), disk::Condition::New)?;
        let drive = format!("if=none,id=second,format=raw,cache=unsafe,file={}", second.display());
        extra.extend(["-drive", &drive, "-device", "virtio-blk-device,drive=second"].map(str::to_string));
    }
    let machine = Machine {
        append: boot.append.to_string(),
        disk,
        count_instructions: boot.counts_instructions,
        extra,
        ..Machine::new(built)
    };
    let mut guest = Guest::start(&machine, &directory)?;
    let deadline = after_seconds(seconds);
    let mut lines = Lines::default();
    let mut figures = Vec::new();
    loop {
        match guest.next(deadline) {
            Event::Bytes(bytes) => {
                for line in lines.push(&bytes) {
                    let line = Line::parse(&line);
                    if line.text == end {
                        return Ok(figures);
                    }
                    figures.extend(figure(line)?);
                }
            }
            Event::Quiet => {
                bail!("`{end}` did not come within {seconds} s; see build/qemu/bench/console.log")
            }
            Event::Ended(reason) => bail!("QEMU ended ({reason}) before `{end}`"),
        }
    }
}

fn figure(line: Line<'_>) -> Result<Option<Figure>> {
    let Some(rest) = line.text.strip_prefix("BENCH: ") else { return Ok(None) };
    ensure!(
        line.author.is_some_and(|author| MEASURERS.contains(&author)),
        "`{}` was printed by {}, who measures nothing",
        line.text,
        line.author.unwrap_or("somebody without origin")
    );
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [name, value, unit] = words[..] else { bail!("`{}` is not NAME VALUE UNIT", line.text) };
    let value = value.parse().with_context(|| format!("`{}` has no value", line.text))?;
    Ok(Some(Figure { name: name.to_string(), value, unit: unit.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Figure>> {
        figure(Line::parse(line))
    }

    #[test]
    fn a_figure_has_a_name_a_value_and_a_unit() {
        let found =
            parsed("[selftest-client] BENCH: ipc/roundtrip/64/cross 412 instructions").unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.value, found.unit.as_str()),
            ("ipc/roundtrip/64/cross", 412, "instructions")
        );
        assert_eq!(parsed("[neuron] boot: ok").unwrap(), None);
    }

    #[test]
    fn test_reject_figures_of_others_and_of_another_form() {
        assert!(parsed("[pong] BENCH: a 1 b").is_err());
        assert!(parsed("BENCH: a 1 b").is_err());
        assert!(parsed("[neuron] BENCH: a b").is_err());
        assert!(parsed("[neuron] BENCH: a x b").is_err());
    }
}
