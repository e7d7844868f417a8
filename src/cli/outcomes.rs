//! `results` and `rejects`: the ledger's outcomes beside the source's rows, chunk by chunk.

use super::args::{RejectsArgs, ResultsArgs};
use super::context::Context;
use super::desk::{self, Listed, Want};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::opening::{self, RowsFile};
use super::output::Output;
use super::resolve::Place;
use crate::ledger::LedgerReader;
use crate::model::{ChunkSpec, Delimiter, RowNumber, RowOutcome, RowState};
use crate::report::rejects::RejectsWriter;
use crate::report::results::{ResultRow, ResultsWriter};
use crate::report::words;
use crate::source::chunk::{read_bytes, read_header};
use crate::source::{Columns, CsvRecord, Reencoder, read_chunk, records};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;

/// Runs `results`.
pub fn results(ctx: &Context, args: &ResultsArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let job = desk::pick(&place, args.job.as_deref(), Want::Newest)?;
    let of_job = |error: CliError| error.job(job.name());
    let rows = opening::rows_to_read(&job.summary.record, &job.folder).map_err(of_job)?;
    let file = open_rows(&rows).map_err(of_job)?;
    let out = Output::open(args.out.as_deref(), Some(&job.summary.record.source))?;
    let done = write_results(&job, &file, out, args.jsonl).map_err(of_job)?;
    if args.out.is_some() {
        ctx.screen
            .say(&format!("{} written", words::counted(done, "row")));
    }
    Ok(Exit::Success)
}

fn write_results(job: &Listed, file: &File, out: Output, jsonl: bool) -> CliResult<u64> {
    let mut writer = if jsonl {
        ResultsWriter::jsonl(out)
    } else {
        match ResultsWriter::csv(out) {
            Ok(writer) => writer,
            Err(error) => return stopped(error).map(|()| 0),
        }
    };
    let columns = &job.summary.record.columns;
    let mut rows = 0;
    let result = each_row(
        job,
        &mut ChunkRecords { file, columns },
        &mut |record, outcome| {
            rows += 1;
            writer.write(&ResultRow {
                row: record.number,
                line: record.line,
                email: cell(record, Some(columns.email)),
                external_id: cell(record, columns.external_id),
                outcome,
            })
        },
    );
    match result {
        Err(Stopped::Writing(error)) => stopped(error)?,
        Err(Stopped::Reading(error)) => return Err(error),
        Ok(()) => match writer.finish() {
            Ok(out) => out.finish()?,
            Err(error) => stopped(error)?,
        },
    }
    Ok(rows)
}

fn cell(record: &CsvRecord, column: Option<usize>) -> &str {
    column
        .and_then(|column| record.fields.get(column))
        .unwrap_or_default()
        .trim()
}

/// Runs `rejects`.
pub fn rejects(ctx: &Context, args: &RejectsArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let job = desk::pick(&place, args.job.as_deref(), Want::Newest)?;
    let of_job = |error: CliError| error.job(job.name());
    let rows = opening::rows_to_read(&job.summary.record, &job.folder).map_err(of_job)?;
    let file = open_rows(&rows).map_err(of_job)?;
    let out = Output::open(args.out.as_deref(), Some(&job.summary.record.source))?;
    let records = write_rejects(&job, &file, out).map_err(of_job)?;
    if args.out.is_some() {
        let count = words::counted(records, "row");
        ctx.screen.say(&format!(
            "{count} written, unchanged; import the corrected file as it is"
        ));
    }
    Ok(Exit::Success)
}

fn write_rejects(job: &Listed, file: &File, out: Output) -> CliResult<u64> {
    let record = &job.summary.record;
    let reader = LedgerReader::open(&job.folder.ledger_path())?;
    let chunks = reader.chunks()?;
    let header = read_header(file, &record.columns)?;
    // The rows are read as UTF-8 and go back as they came.
    let out = Reencoder::new(out, record.reading.encoding);
    let mut writer = match RejectsWriter::start(out, &header) {
        Ok(writer) => writer,
        Err(error) => return stopped(error).map(|()| 0),
    };
    let mut copier = Copier {
        file,
        delimiter: record.columns.delimiter,
        chunks: chunks.into_iter(),
        open: None,
    };
    let mut result = Ok(());
    reader.for_each_outcome(RowNumber(1), |outcome| {
        if !matches!(outcome.state, RowState::Failed | RowState::Parked) {
            return ControlFlow::Continue(());
        }
        result = copier.copy(outcome.row, &mut writer);
        if result.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    match result {
        Err(Stopped::Writing(error)) => stopped(error).map(|()| 0),
        Err(Stopped::Reading(error)) => Err(error),
        Ok(()) => match writer.finish() {
            Ok((out, records)) => out.into_inner().finish().map(|()| records),
            Err(error) => stopped(error).map(|()| 0),
        },
    }
}

/// Why going through the rows ended early.
enum Stopped {
    Reading(CliError),
    Writing(io::Error),
}

impl From<CliError> for Stopped {
    fn from(error: CliError) -> Self {
        Self::Reading(error)
    }
}

/// A reader that went away wants no more rows; anything else is an error.
fn stopped(error: io::Error) -> CliResult<()> {
    crate::report::screen::quiet_epipe(Err(error)).map_err(|error| CliError::output(&error))
}

fn open_rows(rows: &RowsFile) -> CliResult<File> {
    File::open(&rows.path).map_err(|error| {
        let message = format!("{} cannot be read: {error}", rows.path.display());
        CliError::new(Exit::Input, "unreadable", message)
            .hint("put the file back: the ledger holds no emails, they are read from it again")
    })
}

/// Reads parsed chunks.
struct ChunkRecords<'a> {
    file: &'a File,
    columns: &'a Columns,
}

/// Calls `visit` with every row of the file, ascending, beside its outcome if it has one. Holds
/// one chunk and one page of outcomes at a time.
fn each_row(
    job: &Listed,
    source: &mut ChunkRecords<'_>,
    visit: &mut dyn FnMut(&CsvRecord, Option<&RowOutcome>) -> io::Result<()>,
) -> Result<(), Stopped> {
    let reader = LedgerReader::open(&job.folder.ledger_path()).map_err(CliError::from)?;
    let chunks = reader.chunks().map_err(CliError::from)?;
    let mut rows = Rows {
        source,
        chunks: chunks.into_iter(),
        open: Vec::new().into_iter(),
    };
    let mut result = Ok(());
    let read = reader.for_each_outcome(RowNumber(1), |outcome| {
        result = rows.up_to(outcome, visit);
        if result.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    result?;
    read.map_err(CliError::from)?;
    while let Some(record) = rows.next()? {
        visit(&record, None).map_err(Stopped::Writing)?;
    }
    Ok(())
}

fn unknown(row: RowNumber) -> CliError {
    let message = format!("the ledger has an outcome for row {row}, and no chunk holds that row");
    CliError::new(Exit::Internal, "row_unknown", message)
}

/// The file's rows, chunk by chunk.
struct Rows<'a, 'b> {
    source: &'a mut ChunkRecords<'b>,
    chunks: std::vec::IntoIter<ChunkSpec>,
    open: std::vec::IntoIter<CsvRecord>,
}

impl Rows<'_, '_> {
    fn next(&mut self) -> Result<Option<CsvRecord>, Stopped> {
        loop {
            if let Some(record) = self.open.next() {
                return Ok(Some(record));
            }
            let Some(chunk) = self.chunks.next() else {
                return Ok(None);
            };
            let ChunkRecords { file, columns } = self.source;
            let read = read_chunk(file, &chunk, columns).map_err(CliError::from)?;
            self.open = read.into_iter();
        }
    }

    /// Visits the rows before the outcome's, which are pending, and the outcome's own.
    fn up_to(
        &mut self,
        outcome: &RowOutcome,
        visit: &mut dyn FnMut(&CsvRecord, Option<&RowOutcome>) -> io::Result<()>,
    ) -> Result<(), Stopped> {
        while let Some(record) = self.next()? {
            let is_it = record.number == outcome.row;
            visit(&record, is_it.then_some(outcome)).map_err(Stopped::Writing)?;
            if is_it {
                return Ok(());
            }
        }
        Err(unknown(outcome.row).into())
    }
}

/// Copies single records of the file; reads only chunks that hold one.
struct Copier<'a> {
    file: &'a File,
    delimiter: Delimiter,
    chunks: std::vec::IntoIter<ChunkSpec>,
    open: Option<(ChunkSpec, Vec<u8>)>,
}

impl Copier<'_> {
    fn copy(
        &mut self,
        row: RowNumber,
        writer: &mut RejectsWriter<Reencoder<Output>>,
    ) -> Result<(), Stopped> {
        self.open_chunk_of(row)?;
        let found = self.open.as_ref().and_then(|(spec, bytes)| {
            records(bytes, spec, self.delimiter).find(|record| record.number == row)
        });
        let record = found.ok_or_else(|| unknown(row))?;
        writer.write(record.bytes).map_err(Stopped::Writing)
    }

    fn open_chunk_of(&mut self, row: RowNumber) -> Result<(), Stopped> {
        if self
            .open
            .as_ref()
            .is_some_and(|(spec, _)| spec.contains(row))
        {
            return Ok(());
        }
        self.open = None;
        if let Some(spec) = self.chunks.find(|spec| spec.contains(row)) {
            let bytes = read_bytes(self.file, &spec).map_err(CliError::from)?;
            self.open = Some((spec, bytes));
        }
        Ok(())
    }
}
