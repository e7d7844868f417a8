//! The command line.
//!
//! # Owns
//! Arguments, the environment, the order of checks, exit codes, the words of errors.
//! # Never
//! Knows how a row is imported: it prepares a run, starts it and shows what came of it.
//! # See
//! `run.rs` for the one call that runs a job; a file per command.

mod again;
pub mod args;
mod bench;
mod check;
mod confirm;
mod context;
mod desk;
pub mod error;
pub mod exit;
mod generate;
mod identity;
mod import;
mod jobs;
mod key;
mod logging;
mod opening;
mod outcomes;
mod output;
mod prepare;
pub mod rates;
#[cfg(test)]
mod readme;
mod recover;
mod report;
mod resolve;
mod resume;
mod run;
mod settings;
mod status;
mod stop;

use crate::model::{Mono, crash};
use crate::report::{Screen, screen};
use crate::supervise::pages;
use crate::{sandbox, worker};
use args::{Cli, Command, TuningArgs};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser as _};
use context::Context;
use error::{CliError, CliResult};
use exit::Exit;
use resolve::Env;
use std::process::ExitCode;

/// Says that this process crashed, and what a person does then.
fn crashed(place: &str) -> String {
    format!(
        "error: userferry stopped itself at {place}: a bug\n\
         hint: what was committed is kept; if a job was running, `userferry resume` goes on with \
         it. Please report the place above"
    )
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    crash::end_on_panic(crashed);
    crash::leave_no_core();
    resolve::take_name();
    let started = Mono::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = with_usage(error);
            // Help and version go to stdout, mistakes to stderr; a closed one is no error.
            let _nobody_reads = error.print();
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            return ExitCode::from(code.as_u8());
        }
    };
    let (name, json) = (cli.command.name(), cli.command.wants_json());
    dispatch(cli.command, started).unwrap_or_else(|error| {
        show(&error, name, json);
        error.exit().into()
    })
}

/// Adds the usage to a mistake that is explained without it: a value that is not allowed.
fn with_usage(mut error: clap::Error) -> clap::Error {
    if error.use_stderr() && error.get(ContextKind::Usage).is_none() {
        let mut cli = Cli::command();
        cli.build();
        let word = std::env::args_os().nth(1).unwrap_or_default();
        if let Some(command) = cli.find_subcommand_mut(word) {
            let usage = ContextValue::StyledStr(command.render_usage());
            error.insert(ContextKind::Usage, usage);
        }
    }
    error
}

fn dispatch(command: Command, started: Mono) -> CliResult<ExitCode> {
    if command.reads_source() {
        // Its memory is used once: a large file's index was a fifth of its time in making pages ready.
        pages::allow_large(false);
    }
    let of_run = |tuning: &TuningArgs| Context::of_run(Env::read(), started, tuning);
    let quiet = || Context::quiet(Env::read(), started);
    let exit = match command {
        // A worker's stdin and stdout belong to its coordinator: nothing else may touch them.
        Command::Worker => return Ok(worker::main()),
        Command::BareLoop => return Ok(crate::bench::bare_loop()),
        Command::EchoLoop => return Ok(worker::echo()),
        Command::Bench(args) => bench::run(&args),
        Command::Import(args) => import::run(&mut of_run(&args.tuning), &args),
        Command::Resume(args) => resume::resume(&mut of_run(&args.tuning), &args),
        Command::Retry(args) => resume::retry(&mut of_run(&args.job.tuning), &args),
        Command::Recover(args) => recover::run(&mut of_run(&args.tuning), &args),
        Command::Check(args) => check::run(&quiet(), &args),
        Command::Status(args) => status::run(&quiet(), &args),
        Command::Jobs(args) => jobs::run(&quiet(), &args),
        Command::Results(args) => outcomes::results(&quiet(), &args),
        Command::Rejects(args) => outcomes::rejects(&quiet(), &args),
        Command::Report(args) => report::run(&quiet(), &args),
        Command::Sandbox(args) => sandbox::run(args)
            .map(|()| Exit::Success)
            .map_err(CliError::from),
        Command::Generate(args) => generate::run(&args),
    };
    exit.map(ExitCode::from)
}

/// Shows an error: words on stderr, and with `--json` one object on stdout. A wrong command line
/// shows the usage instead of an object, to people only where it helps.
fn show(error: &CliError, command: &str, json: bool) {
    let screen = Screen::plain();
    screen.say(&error.rendered());
    if error.exit() == Exit::Usage {
        if json || error.is_misspelt() {
            say_usage(&screen, command);
        }
    } else if json && let Err(failure) = screen::print_json(&error.json()) {
        screen.say(&CliError::stdout(&failure).rendered());
    }
}

fn say_usage(screen: &Screen, command: &str) {
    let mut cli = Cli::command();
    cli.build();
    if let Some(command) = cli.find_subcommand_mut(command) {
        screen.say(&format!(
            "\n{}\n\nFor more information, try '--help'.",
            command.render_usage()
        ));
    }
}

impl Command {
    /// Returns whether it goes through a whole source.
    const fn reads_source(&self) -> bool {
        matches!(
            self,
            Self::Import(_) | Self::Resume(_) | Self::Retry(_) | Self::Recover(_) | Self::Check(_)
        )
    }

    /// Returns the word on the command line.
    fn name(&self) -> &'static str {
        match self {
            Self::Import(_) => "import",
            Self::Resume(_) => "resume",
            Self::Retry(_) => "retry",
            Self::Recover(_) => "recover",
            Self::Check(_) => "check",
            Self::Status(_) => "status",
            Self::Jobs(_) => "jobs",
            Self::Results(_) => "results",
            Self::Rejects(_) => "rejects",
            Self::Report(_) => "report",
            Self::Sandbox(_) => "sandbox",
            Self::Generate(_) => "generate",
            Self::Bench(_) => "bench",
            Self::Worker => "worker",
            Self::BareLoop => "bare-loop",
            Self::EchoLoop => "echo-loop",
        }
    }

    /// Returns whether `--json` was given.
    fn wants_json(&self) -> bool {
        match self {
            Self::Import(args) => args.tuning.json,
            Self::Resume(args) => args.tuning.json,
            Self::Retry(args) => args.job.tuning.json,
            Self::Recover(args) => args.tuning.json,
            Self::Check(args) => args.json,
            Self::Status(args) => args.json,
            Self::Jobs(args) => args.json,
            Self::Results(_)
            | Self::Rejects(_)
            | Self::Report(_)
            | Self::Sandbox(_)
            | Self::Generate(_)
            | Self::Bench(_)
            | Self::Worker
            | Self::BareLoop
            | Self::EchoLoop => false,
        }
    }
}
