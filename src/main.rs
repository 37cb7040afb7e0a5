//! The `blindbook` command: one subcommand for each thing an operator or a
//! user does.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
