//! The `blindbook` command: one subcommand for each thing an operator or a
//! user does.

mod commands;

use std::process::ExitCode;

/// With the system's allocator on Linux, sled's reads leave arenas that are
/// never given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run()
}
