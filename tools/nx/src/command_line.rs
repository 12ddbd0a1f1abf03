//! The command line of `nx`: which subcommands there are, and which function each calls.

use crate::documents::{self, Page};
use crate::drift::Doors;
use crate::gates::{self, Gate};
use crate::project::Project;
use crate::{
    architecture, bench, build, dependencies, disk, drift, figures, fuzz, identity, image, interactive,
    os_test, policy, run, setup, simulation,
};
use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// Builds, runs, tests and inspects Open Nexus
#[derive(Parser)]
#[command(name = "nx", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what running or testing needs, saying what and why
    Setup(setup::Arguments),
    /// Name what is missing, with the command that mends it
    Doctor(setup::DoctorArguments),
    /// Compile what runs on the machine: the kernel, every program, or one package
    Build(build::Arguments),
    /// Compile, then write build/image: the flat kernel and the initial image
    Image(image::Arguments),
    /// Make a new disk with its partitions (build/disk.img when nothing else is said), or serve one and cut its power
    Disk(disk::Arguments),
    /// Compile, write the image and boot it in QEMU with the console on this terminal
    Run(run::Arguments),
    /// Run the whole system here without QEMU, with its prompt on this terminal
    Sim(simulation::Arguments),
    /// Run a long campaign: `nx soak sim 10` for ten minutes
    Soak(simulation::Soak),
    /// Tell the bytes of the kernel and of every file in the initial image
    Size,
    /// Prove something in QEMU, or everything
    #[command(subcommand)]
    Test(Test),
    /// Run one gate of `nx test all` with its output here
    Gate {
        /// Which one
        gate: Gate,
    },
    /// Measure under a counted clock, and print the figures; `statefs` is measured on this machine
    Bench(bench::Arguments),
    /// Try random input for so many minutes
    Fuzz(fuzz::Arguments),
    /// Say who may do what, and by which line; sign overlays
    #[command(subcommand)]
    Policy(policy::Arguments),
    /// List, read, write, check and dump a state partition from outside
    Statefs(nx_statefs::Arguments),
    /// Tell whose identity a disk image holds, or give it up
    #[command(subcommand)]
    Identity(identity::Arguments),
    /// Write every page that is printed from the sources (abi, limits, ladder, messages, services, unsafe)
    Pages(documents::Arguments),
    /// Write docs/abi.md from the tables of nexus-abi
    Abi(documents::Arguments),
    /// Write docs/limits.md from the constants that name a bound
    Limits(documents::Arguments),
    /// Write docs/testing/ladder.md from tests/qemu/ladder.toml
    Ladder(documents::Arguments),
    /// Write docs/messages.md from tests/neuron/messages.toml
    Messages(documents::Arguments),
    /// Write docs/services/reference.md from the declarations in nexus-proto
    Services(documents::Arguments),
    /// Write docs/unsafe.md from the SAFETY lines; fail where one is missing
    Unsafe(documents::Arguments),
    /// Check that documents say what is there: pages, markers, commands, links, status
    Drift,
    /// Check that dependencies run one way
    ArchCheck,
    /// Check that nothing forbidden is linked into what runs on the machine
    DepGate,
    /// Tell how long files and functions are
    LintFigures,
}

#[derive(Subcommand)]
enum Test {
    /// Every gate, one after the other, with a count at the end
    All,
    /// Boot in QEMU with self-tests and judge the console by tests/qemu/ladder.toml
    Os(os_test::Arguments),
    /// Run the scenarios on the simulator, with many seeds and faults
    E2e(simulation::Arguments),
    /// Boot as a person would, type what tests/qemu/interactive says, check the answers
    Interactive(interactive::Arguments),
}

/// Does what the arguments of this program say.
pub fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let project = Project::find()?;
    let project = &project;
    match arguments.command {
        Command::Setup(arguments) => setup::run(project, &arguments),
        Command::Doctor(arguments) => setup::doctor(project, &arguments),
        Command::Build(arguments) => build::run(project, &arguments),
        Command::Image(arguments) => image::build_with(project, &arguments).map(drop),
        Command::Disk(arguments) => disk::run(project, &arguments),
        Command::Run(arguments) => run::run(project, &arguments),
        Command::Sim(arguments) => simulation::shell(project, &arguments),
        Command::Soak(arguments) => simulation::soak(project, &arguments),
        Command::Size => image::print_sizes(&image::build(project)?),
        Command::Test(Test::All) => gates::run_all(project),
        Command::Test(Test::Os(arguments)) => os_test::run(project, &arguments),
        Command::Test(Test::E2e(arguments)) => simulation::test(project, &arguments),
        Command::Test(Test::Interactive(arguments)) => interactive::run(project, &arguments),
        Command::Gate { gate } => gates::run(project, gate, &doors(project)?),
        Command::Bench(arguments) => bench::run(project, &arguments),
        Command::Fuzz(arguments) => fuzz::run(project, &arguments),
        Command::Policy(arguments) => policy::run(project, &arguments),
        Command::Statefs(arguments) => nx_statefs::run(&arguments, &mut std::io::stdout().lock()),
        Command::Identity(arguments) => identity::run(&arguments, &mut std::io::stdout().lock()),
        Command::Pages(arguments) => {
            Page::ALL.iter().try_for_each(|page| documents::run(project, *page, &arguments))
        }
        Command::Abi(arguments) => documents::run(project, Page::Abi, &arguments),
        Command::Limits(arguments) => documents::run(project, Page::Limits, &arguments),
        Command::Ladder(arguments) => documents::run(project, Page::Ladder, &arguments),
        Command::Messages(arguments) => documents::run(project, Page::Messages, &arguments),
        Command::Services(arguments) => documents::run(project, Page::Services, &arguments),
        Command::Unsafe(arguments) => documents::run(project, Page::Unsafe, &arguments),
        Command::Drift => drift::run(project, &doors(project)?),
        Command::ArchCheck => architecture::run(project),
        Command::DepGate => dependencies::run(project),
        Command::LintFigures => figures::run(project),
    }
}

fn doors(project: &Project) -> Result<Doors> {
    Doors::of(project, &Arguments::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
