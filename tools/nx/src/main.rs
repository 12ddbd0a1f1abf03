//! The command line of `nx`: arguments in, one function of the library called, exit code out.

use anyhow::Result;
use clap::{Parser, Subcommand};
use nx::project::Project;
use nx::{build, image, interactive, os_test, run};
use std::process::ExitCode;

/// Builds, runs, tests and inspects Open Nexus.
#[derive(Parser)]
#[command(name = "nx", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile what runs on the machine: the kernel, every program, or one package
    Build(build::Arguments),
    /// Compile, then write build/image: the flat kernel and the initial image
    Image(image::Arguments),
    /// Compile, write the image and boot it in QEMU with the console on this terminal
    Run(run::Arguments),
    /// Tell the bytes of the kernel and of every file in the initial image
    Size,
    /// Prove something
    #[command(subcommand)]
    Test(Test),
}

#[derive(Subcommand)]
enum Test {
    /// Boot in QEMU with self-tests and judge the console by tests/qemu/ladder.toml
    Os(os_test::Arguments),
    /// Boot as a person would, type what tests/qemu/interactive says, check the answers
    Interactive(interactive::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nx: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let project = Project::find()?;
    match command {
        Command::Build(arguments) => build::run(&project, &arguments),
        Command::Image(arguments) => image::build_with(&project, &arguments).map(drop),
        Command::Run(arguments) => run::run(&project, &arguments),
        Command::Size => image::print_sizes(&image::build(&project)?),
        Command::Test(Test::Os(arguments)) => os_test::run(&project, &arguments),
        Command::Test(Test::Interactive(arguments)) => interactive::run(&project, &arguments),
    }
}
