//! `generate`: a rehearsal file, to stdout or to `--out`.

use super::error::{CliError, CliResult};
use super::exit::Exit;
use crate::source::{GenerateArgs, GenerateError, generate};
use std::io;

/// Runs `generate`. A reader of stdout that went away (`| head`) has what it wanted.
pub fn run(args: &GenerateArgs) -> CliResult<Exit> {
    match generate(args, &mut io::stdout().lock()) {
        Err(GenerateError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(CliError::from)?,
    }
    Ok(Exit::Success)
}
