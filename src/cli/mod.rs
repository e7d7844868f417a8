//! The command line.
//!
//! # Owns
//! Arguments, the environment, the order of checks, exit codes, the words of errors.
//! # Never
//! Knows how a row is imported: it prepares a run, starts it and shows what came of it.
//! # See
//! `run.rs` for the one call that runs a job; a file per command.

pub mod args;
pub mod error;
pub mod exit;
mod key;
mod logging;
pub mod rates;
mod resolve;

use args::Cli;
use clap::Parser as _;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let _cli = Cli::parse();
    ExitCode::SUCCESS
}
