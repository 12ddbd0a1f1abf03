//! The program `nx`: one call of the library, its error on standard error, its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match nx::command_line::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nx: {error:#}");
            ExitCode::FAILURE
        }
    }
}
