//! Where data goes: stdout, or a file that appears when it is complete.

use super::error::{CliError, CliResult};
use super::exit::Exit;
use crate::report::OutFile;
use crate::report::screen::quiet_epipe;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

/// A sink of data.
#[derive(Debug)]
pub enum Output {
    /// stdout.
    Stdout(BufWriter<StdoutLock<'static>>),
    /// `--out FILE`.
    File(OutFile),
}

impl Output {
    /// Opens `--out`, or stdout. Never replaces `source`.
    pub fn open(out: Option<&Path>, source: Option<&Path>) -> CliResult<Self> {
        let Some(path) = out else {
            return Ok(Self::Stdout(BufWriter::new(io::stdout().lock())));
        };
        let file = OutFile::create(path, source).map_err(|error| {
            let exit = match error.kind() {
                io::ErrorKind::InvalidInput => Exit::Usage,
                _ => Exit::Disk,
            };
            let message = format!("--out {} cannot be written: {error}", path.display());
            CliError::new(exit, "out_file", message)
        })?;
        Ok(Self::File(file))
    }

    /// Completes it.
    pub fn finish(self) -> CliResult<()> {
        let done = match self {
            Self::Stdout(mut out) => quiet_epipe(out.flush()),
            Self::File(file) => file.finish(),
        };
        done.map_err(CliError::output)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}
