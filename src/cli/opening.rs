//! The rows of a job: read from its source, or from the private copy in its folder.

use super::args::IdentityArgs;
use super::context::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::{prepare, resolve};
use crate::ledger::{JobFolder, JobRecord};
use crate::model::{Delimiter, Encoding, Mono, Packing, Reading, Rename};
use crate::source::profile::Beside;
use crate::source::{self, Ask, Input, Opened, SPOOL_FILE};
use std::path::{Path, PathBuf};

/// What the command line says about how to read a source.
#[derive(Clone, Debug)]
pub struct ReadingAsk {
    /// Encoding and delimiter.
    pub ask: Ask,
    /// `--map`.
    pub renames: Vec<Rename>,
}

impl ReadingAsk {
    /// Resolves the arguments; `may_guess` allows Windows-1252 without a word.
    pub fn of(args: &IdentityArgs, may_guess: bool) -> CliResult<Self> {
        Ok(Self {
            ask: Ask {
                encoding: args.encoding.map(Encoding::from),
                delimiter: args.delimiter,
                may_guess,
                beside: resolve::beside(args)?,
            },
            renames: resolve::renames(&args.map)?,
        })
    }

    /// What the rows of a job are read with: those of a copy are UTF-8.
    pub fn of_rows(reading: &Reading) -> Self {
        Self {
            ask: Ask {
                encoding: Some(Encoding::Utf8),
                delimiter: Some(reading.delimiter),
                may_guess: true,
                beside: Beside::default(),
            },
            renames: reading.renames.clone(),
        }
    }
}

/// What people are told about a file that names its columns and nobody.
pub const NO_ROWS: &str = "the file names its columns and has no rows below them: there is nothing \
    to import; if people should be in it, look at how it was exported, and whether a filter left \
    everybody out";

/// Returns where the rows of a job are read from.
pub fn rows_path(record: &JobRecord, folder: &Path) -> PathBuf {
    match record.reading.spool {
        Some(_) => folder.join(SPOOL_FILE),
        None => record.source.clone(),
    }
}

/// A file of rows, and the folder that vanishes with it when it was made for this command only.
#[derive(Debug)]
pub struct RowsFile {
    /// Where it is.
    pub path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// Finds the rows of a job for a command that only reads: a copy that is gone is made again, out
/// of the job's folder.
pub fn rows_to_read(record: &JobRecord, folder: &JobFolder) -> CliResult<RowsFile> {
    let path = rows_path(record, folder.path());
    if record.reading.spool.is_none() || path.exists() {
        // What only grew still reads the same chunks: all of it is compared.
        if let Ok(found) = source::file_hash(&Input::File(path.clone()), &mut |_| {}) {
            refuse_changed(record, &path, &found)?;
        }
        return Ok(RowsFile {
            path,
            _temporary: None,
        });
    }
    let temporary = resolve::temporary_folder()?;
    let path = copy_again(record, temporary.path(), &mut |_| {})?;
    Ok(RowsFile {
        path,
        _temporary: Some(temporary),
    })
}

/// Refuses rows that are not those that were indexed.
fn refuse_changed(record: &JobRecord, path: &Path, found: &(u64, String)) -> CliResult<()> {
    let Some(spool) = &record.reading.spool else {
        return prepare::same_bytes(record, path, found.0, &found.1);
    };
    if *found == (spool.bytes, spool.hash.clone()) {
        return Ok(());
    }
    let path = path.display();
    let message = format!("the job's own copy of its rows, {path}, was changed");
    Err(
        CliError::new(Exit::Input, "copy_changed", message).hint(format!(
            "remove {path}: it is made again while the source is there"
        )),
    )
}

/// Makes sure that the rows of a job are those that were indexed: its source where that is still
/// there, and the copy, which is made again when it is gone.
pub fn check(ctx: &mut Context, record: &JobRecord, folder: &JobFolder) -> CliResult<()> {
    let Some(spool) = &record.reading.spool else {
        return check_source(ctx, record);
    };
    let is_there = Input::of_path(&record.source) != Input::Stdin && record.source.exists();
    if is_there {
        check_source(ctx, record)?;
    }
    let path = rows_path(record, folder.path());
    if !path.exists() {
        copy_again(record, folder.path(), &mut |_| {})?;
        return Ok(());
    }
    let found = hash(ctx, &path, spool.bytes)?;
    refuse_changed(record, &path, &found)
}

fn check_source(ctx: &mut Context, record: &JobRecord) -> CliResult<()> {
    let (bytes, hash) = hash(ctx, &record.source, record.source_bytes)?;
    prepare::same_bytes(record, &record.source, bytes, &hash)
}

fn hash(ctx: &mut Context, path: &Path, total: u64) -> CliResult<(u64, String)> {
    let display = &mut ctx.display;
    let found = source::file_hash(&Input::File(path.to_owned()), &mut |done| {
        display.on_bytes(Mono::now(), done, total);
    })?;
    Ok(found)
}

/// Makes the copy of a job's rows again, from a source that must be the same.
fn copy_again(
    record: &JobRecord,
    folder: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> CliResult<PathBuf> {
    let input = Input::of_path(&record.source);
    if record.reading.converted {
        let message = "the rows were made from an export, and the job's copy of them is gone";
        return Err(CliError::new(Exit::Input, "copy_gone", message)
            .hint("import the export again as a job of its own"));
    }
    if input == Input::Stdin {
        let message = "the rows came from stdin, and the job's copy of them is gone";
        return Err(CliError::new(Exit::Input, "copy_gone", message)
            .hint("import them again as a job of their own"));
    }
    let opened = source::copy(&input, record.reading.encoding, folder, on_bytes)?;
    let (bytes, hash) = opened.origin.unwrap_or_default();
    prepare::same_bytes(record, &record.source, bytes, &hash).inspect_err(|_| {
        // A copy of other rows must not be taken for this job's.
        let _other = std::fs::remove_file(&opened.rows);
    })?;
    Ok(opened.rows)
}

/// Removes the copy of a job that needs it no more: every row is settled well, and the source
/// itself can be read again. What came from stdin cannot, and what was made from an export is not in
/// it, so those copies stay with the job.
pub fn release(record: &JobRecord, folder: &JobFolder) -> bool {
    let from_file = Input::of_path(&record.source) != Input::Stdin;
    let is_copy = record.reading.spool.is_some() && !record.reading.converted;
    is_copy && from_file && std::fs::remove_file(rows_path(record, folder.path())).is_ok()
}

/// Says how a source is read, when that is not how most are.
pub fn sentence(opened: &Opened, reading: &Reading, input: &Input, kept: &str) -> Option<String> {
    let kept = match &opened.converted {
        Some(_) => {
            "the rows made from it are kept in a private copy (mode 0600) as long as the job"
        }
        None => kept,
    };
    let name = name_of(input);
    let read = how_read(opened, reading.delimiter, input);
    match (opened.spooled, read) {
        (false, read) => read,
        (true, Some(read)) => Some(format!("{read}; {kept}")),
        (true, None) => Some(format!("reading {name}; {kept}")),
    }
}

fn name_of(input: &Input) -> String {
    match input {
        Input::Stdin => "stdin".to_owned(),
        Input::File(path) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

/// Says as what a source is read; nothing when that is plain UTF-8 with commas.
pub fn how_read(opened: &Opened, delimiter: Delimiter, input: &Input) -> Option<String> {
    let mut how = Vec::new();
    match opened.packing {
        Packing::None => {}
        packed @ (Packing::Gzip | Packing::Zstd) => how.push(packed.as_str().to_owned()),
    }
    if opened.encoding != Encoding::Utf8 {
        how.push(opened.encoding.to_string());
    }
    if delimiter != Delimiter::Comma {
        how.push(format!("cells separated by {}", delimiter.plural()));
    }
    (!how.is_empty()).then(|| format!("reading {} as {}", name_of(input), how.join(", ")))
}
