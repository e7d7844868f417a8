//! `generate`: a rehearsal file, to stdout or to `--out`.

use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::output::refuse_present;
use crate::source::{GenerateArgs, GenerateError, generate};
use std::io;

/// Runs `generate`. A reader of stdout that went away (`| head`) has what it wanted.
pub fn run(args: &GenerateArgs) -> CliResult<Exit> {
    if let Some(path) = args.out.as_ref().filter(|_| !args.force) {
        refuse_present(path)?;
    }
    match generate(args, &mut io::stdout().lock()) {
        Err(GenerateError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(CliError::from)?,
    }
    Ok(Exit::Success)
}
