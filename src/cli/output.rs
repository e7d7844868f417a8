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

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// It stays, and the command is refused.
    Keep,
    /// It is replaced.
    Replace,
}

impl Present {
    /// Reads `--force`.
    pub const fn of(force: bool) -> Self {
        if force { Self::Replace } else { Self::Keep }
    }
}

/// Refuses a file that is there: it may be the only copy of somebody's corrections.
pub fn refuse_present(path: &Path) -> CliResult<()> {
    // A pipe or a device is written to, not replaced; a link to nowhere would be.
    let special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    if special || path.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("{} is there already", path.display());
    Err(CliError::usage("out_exists", message)
        .hint("give --out another name, or --force to replace it"))
}

impl Output {
    /// Opens `--out`, or stdout. Never replaces `source`, and other files only if that is wanted.
    pub fn open_as(out: Option<&Path>, source: Option<&Path>, present: Present) -> CliResult<Self> {
        match (out, present) {
            (Some(path), Present::Keep) => {
                refuse_present(path)?;
                Ok(match Self::open(out, source)? {
                    Self::File(file) => Self::File(file.replacing_nothing()),
                    stdout @ Self::Stdout(_) => stdout,
                })
            }
            (None, _) | (_, Present::Replace) => Self::open(out, source),
        }
    }

    /// Opens `--out`, or stdout. Never replaces `source`.
    fn open(out: Option<&Path>, source: Option<&Path>) -> CliResult<Self> {
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
        done.map_err(|error| CliError::output(&error))
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
