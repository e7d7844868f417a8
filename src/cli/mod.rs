//! The command line.

use crate::sandbox::{SandboxArgs, run};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Carries a large users CSV into an identity provider.
#[derive(Debug, Parser)]
#[command(name = "userferry", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the rehearsal directory as a server of its own.
    Sandbox(SandboxArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Command::Sandbox(args) = Cli::parse().command;
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}\n  caused by: {error}");
                cause = error.source();
            }
            let printed = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(if printed.is_ok() { 1 } else { 70 })
        }
    }
}
