//! The `skep` command.

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use skep::cli::{Cli, Command, NodeCommand, ServeArgs};
use skep::commands::gateway::{self, ApplyFault};
use skep::commands::{Failure, node, status};
use skep::config::{Config, Problem};
use skep::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The command line or the configuration is wrong; as `clap` and most shells' commands have it.
const EXIT_USAGE: u8 = 2;
/// The command was understood and did not succeed.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => match load(args) {
            Ok(config) => serve(&config),
            Err(code) => code,
        },
        Command::Status(args) => match status::status(&args) {
            Ok((text, well)) => match print(text.as_bytes()) {
                ExitCode::SUCCESS if !well => ExitCode::from(EXIT_FAILURE),
                code => code,
            },
            Err(failure) => fail(&failure),
        },
        Command::Node(command) => tell(&command),
        Command::Apply(args) => match gateway::apply(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(ApplyFault::File(problems)) => report(&problems),
            Err(ApplyFault::Failure(failure)) => fail(&failure),
        },
        Command::Rollback(args) => match gateway::rollback(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail(&failure),
        },
        Command::Config(args) => match load(args) {
            Ok(config) => print(config.to_toml().as_bytes()),
            Err(code) => code,
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "skep", &mut script);
            print(&script)
        }
    }
}

fn serve(config: &Config) -> ExitCode {
    skep::logging::start(config.settings.log_level(), config.settings.log_format());
    match skep::serve::serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!("{fault}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn tell(command: &NodeCommand) -> ExitCode {
    let done = match command {
        NodeCommand::List(args) => match node::list(args) {
            Ok(text) => return print(text.as_bytes()),
            Err(failure) => Err(failure),
        },
        NodeCommand::Drain(args) => node::drain(args),
        NodeCommand::Remove(args) => node::remove(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("error: {failure}");
    ExitCode::from(EXIT_FAILURE)
}

fn load(args: ServeArgs) -> Result<Config, ExitCode> {
    Config::load(args.config, std::env::vars_os(), args.settings.given).map_err(|problems| report(&problems))
}

/// More would only scroll the first ones away: a file that has so many is not a file of settings.
const PROBLEMS_SHOWN_MAX: usize = 20;

fn report(problems: &[Problem]) -> ExitCode {
    for problem in problems.iter().take(PROBLEMS_SHOWN_MAX) {
        eprintln!("error: {problem}");
    }
    if let Some(more) = problems.len().checked_sub(PROBLEMS_SHOWN_MAX).filter(|more| *more > 0) {
        eprintln!("error: and {more} more");
    }
    ExitCode::from(EXIT_USAGE)
}

/// Writes to standard output. A reader that has gone away (`skep config | head -1`) is no failure.
fn print(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
        _ => ExitCode::SUCCESS,
    }
}
