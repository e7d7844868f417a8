//! `generate`: a rehearsal file, to stdout or to `--out`.

use super::error::{CliError, CliResult};
use super::exit::Exit;
use crate::source::{GenerateArgs, GenerateError, generate};
use std::io;

/// Runs `generate`. A reader of stdout that went away (`| head`) has what it wanted.
pub fn run(args: &GenerateArgs) -> CliResult<Exit> {
    if let Some(path) = &args.out
        && !args.force
        && std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
    {
        let message = format!("{} is there already", path.display());
        return Err(CliError::usage("out_exists", message)
            .hint("give --out another name, or --force to replace it"));
    }
    match generate(args, &mut io::stdout().lock()) {
        Err(GenerateError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(CliError::from)?,
    }
    Ok(Exit::Success)
}
