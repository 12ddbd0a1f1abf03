//! `nx run`: the system in QEMU, with the console on this terminal.

use crate::project::{Project, execute};
use crate::qemu::Machine;
use crate::{disk, identity, image};
use anyhow::Result;
use std::process::Stdio;

/// How to boot.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Harts of the machine
    #[arg(long, default_value_t = 1)]
    pub smp: usize,
    /// RAM of the machine
    #[arg(long, default_value = "128M")]
    pub memory: String,
    /// Boot arguments, for example `selftest console.origin=1`
    #[arg(long, default_value = "")]
    pub append: String,
    /// Let each instruction take one nanosecond of virtual time
    #[arg(long)]
    pub icount: bool,
    /// Boot what build/image holds, without compiling
    #[arg(long)]
    pub no_build: bool,
    /// More arguments for QEMU, after `--`
    #[arg(last = true)]
    pub qemu: Vec<String>,
}

/// Builds and boots; returns when QEMU ends.
pub fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let built = if arguments.no_build { image::last_built(project)? } else { image::build(project)? };
    let person = identity::of_person(project)?;
    let machine = Machine {
        harts: arguments.smp,
        memory: arguments.memory.clone(),
        append: format!("{} {}", person.argument, arguments.append),
        count_instructions: arguments.icount,
        disk: Some(disk::of_person(project)?),
        keeps_disk: true,
        secret: person.secret,
        extra: arguments.qemu.clone(),
        ..Machine::new(&built)
    };
    println!("Booting Open Nexus in QEMU. `poweroff` at the prompt, or Ctrl-A then x, ends it.");
    execute(machine.command()?.arg("-nographic").stdin(Stdio::inherit()))
}
