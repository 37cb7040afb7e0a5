//! The subcommands. Exit codes: 0 done, 1 failed, 2 the input was wrong.

mod bench;
mod demo;
mod dev_tls;
mod keygen;
mod load;
mod lookup;
mod partners;
mod progress;
mod registry;
mod sample;
mod serve;
mod sidecar;
mod verify;

use std::{io::Write as _, process::ExitCode, sync::OnceLock};

use blindbook::telemetry::{self, Format};
use clap::{Parser, Subcommand, ValueEnum};

/// Find who can be reached at which messaging service, without telling anyone
/// whom you look for.
#[derive(Parser)]
#[command(name = "blindbook", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// error, warn, info, debug or trace
    #[arg(long, global = true, env = "BLINDBOOK_LOG", value_name = "LEVEL")]
    log: Option<String>,
    /// How logs are written
    #[arg(
        long,
        global = true,
        env = "BLINDBOOK_LOG_FORMAT",
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object on each line
    Json,
}

/// What the arguments said, for the one place that sets up logs.
static LOG_FORMAT: OnceLock<Format> = OnceLock::new();

#[derive(Subcommand)]
enum Command {
    /// Show the whole of it: a directory, a server, lookups, and what each side
    /// learns
    Demo(demo::Demo),
    /// Make the keys of a new directory
    Keygen(keygen::Keygen),
    /// Load mappings from CSV or JSONL files
    Load(load::Load),
    /// Serve a directory
    Serve(serve::Serve),
    /// Resolve identifiers for a backend on this machine
    Sidecar(sidecar::SidecarCommand),
    /// Look up identifiers
    Lookup(lookup::Lookup),
    /// Say who may be found, as a partner of a directory
    Registry(Box<registry::RegistryCommand>),
    /// Say who may speak to a directory, as its administrator
    Partners(Box<partners::PartnersCommand>),
    /// Check that every bucket holds what the registry says
    Verify(verify::Verify),
    /// Measure this machine
    Bench(bench::Bench),
}

/// Why a command ends early.
enum Failure {
    /// What was asked for makes no sense: exit code 2.
    Input(anyhow::Error),
    /// It makes sense and did not work: exit code 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Marks an error as the input's fault.
fn input(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Input(error.into())
}

type Outcome = Result<(), Failure>;

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    LOG_FORMAT.get_or_init(|| match arguments.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    });
    let outcome = match arguments.command {
        Command::Demo(demo) => demo.run(arguments.log.as_deref()),
        Command::Keygen(keygen) => keygen.run(),
        Command::Load(load) => load.run(arguments.log.as_deref()),
        Command::Serve(serve) => serve.run(arguments.log.as_deref()),
        Command::Sidecar(sidecar) => sidecar.run(arguments.log.as_deref()),
        Command::Lookup(lookup) => lookup.run(arguments.log.as_deref()),
        Command::Registry(registry) => registry.run(arguments.log.as_deref()),
        Command::Partners(partners) => partners.run(arguments.log.as_deref()),
        Command::Verify(verify) => verify.run(arguments.log.as_deref()),
        Command::Bench(bench) => bench.run(arguments.log.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(error)) => fail(&error, 2),
        Err(Failure::Failed(error)) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    // Standard error may be closed, and then there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

/// Sets up logs at the level asked for, or `default`.
fn logs(level: Option<&str>, default: &str) -> Outcome {
    let format = LOG_FORMAT.get().copied().unwrap_or_default();
    telemetry::init(level.unwrap_or(default), format).map_err(input)
}

/// Threads for work that blocks. Each keeps memory of its own; more would not
/// make a disk or a processor faster.
const BLOCKING_THREADS: usize = 128;

/// The runtime of the commands that talk.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
}

/// Seconds since 1970.
fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
