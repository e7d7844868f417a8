//! `results` and `rejects`: the ledger's outcomes beside the source's rows, chunk by chunk.

use super::again::import_command;
use super::args::{RejectsArgs, ResultsArgs};
use super::context::Context;
use super::desk::{self, Listed, Want};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::opening::{self, RowsFile};
use super::output::{Output, Present};
use super::resolve::Place;
use crate::ledger::LedgerReader;
use crate::model::{ChunkSpec, Delimiter, RowNumber, RowOutcome, RowState};
use crate::report::reasons::{self, ReasonsWriter};
use crate::report::rejects::RejectsWriter;
use crate::report::results::{ResultRow, ResultsWriter};
use crate::report::words;
use crate::source::chunk::{read_bytes, read_header};
use crate::source::{Columns, CsvRecord, Reencoder, read_chunk, records};
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Runs `results`.
pub fn results(ctx: &Context, args: &ResultsArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let job = desk::pick(&place, args.job.as_deref(), Want::Newest)?;
    let of_job = |error: CliError| error.job(job.name());
    let rows = opening::rows_to_read(&job.summary.record, &job.folder).map_err(of_job)?;
    let file = open_rows(&rows).map_err(of_job)?;
    let source = Some(job.summary.record.source.as_path());
    let out = Output::open_as(args.out.as_deref(), source, Present::of(args.force))?;
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
    let source = Some(job.summary.record.source.as_path());
    let reasons_at = args.out.as_deref().and_then(beside_file);
    let present = Present::of(args.force);
    let mut sinks = Sinks {
        rejects: Output::open_as(args.out.as_deref(), source, present)?,
        reasons: match &reasons_at {
            Some(path) => Some(Output::open_as(Some(path), source, present)?),
            None => None,
        },
    };
    let records = write_rejects(&job, &file, &mut sinks).map_err(of_job)?;
    // The rejects appear last: whoever sees them finds their reasons.
    if let Some(reasons) = sinks.reasons {
        reasons.finish()?;
    }
    sinks.rejects.finish()?;
    if let Some(out) = &args.out {
        let record = &job.summary.record;
        let count = words::counted(records, "row");
        let reasons = reasons_at.map_or_else(String::new, |path| {
            format!("; {} says why each is there", path.display())
        });
        ctx.screen.say(&format!(
            "{count} written, unchanged{reasons}. Import the corrected file with `{}`",
            import_command(out, &record.options, &record.reading)
        ));
    }
    Ok(Exit::Success)
}

/// Returns where reasons go beside `--out`; nowhere beside a pipe or a device.
fn beside_file(rejects: &Path) -> Option<PathBuf> {
    let special = std::fs::metadata(rejects).is_ok_and(|meta| !meta.is_file());
    (!special).then(|| reasons::path_beside(rejects))
}

/// Where rejects and their reasons go.
struct Sinks {
    rejects: Output,
    reasons: Option<Output>,
}

fn write_rejects(job: &Listed, file: &File, sinks: &mut Sinks) -> CliResult<u64> {
    let record = &job.summary.record;
    let reader = LedgerReader::open(&job.folder.ledger_path())?;
    let mut copier = Copier {
        file,
        delimiter: record.columns.delimiter,
        chunks: reader.chunks()?.into_iter(),
        open: None,
    };
    let header = read_header(file, &record.columns)?;
    let mut copied = Ok(());
    let copy_all = || -> Result<u64, Stopped> {
        // The rows are read as UTF-8 and go back as they came.
        let out = Reencoder::new(&mut sinks.rejects, record.reading.encoding);
        let mut writer = RejectsWriter::start(out, &header).map_err(Stopped::Writing)?;
        let mut reasons = match &mut sinks.reasons {
            Some(out) => Some(ReasonsWriter::start(out).map_err(Stopped::Writing)?),
            None => None,
        };
        let read = reader.for_each_outcome(RowNumber(1), |outcome| {
            if !matches!(outcome.state, RowState::Failed | RowState::Parked) {
                return ControlFlow::Continue(());
            }
            copied = copier.copy(outcome, &mut writer, reasons.as_mut());
            match copied {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        copied?;
        read.map_err(CliError::from)?;
        if let Some(reasons) = reasons {
            reasons.finish().map_err(Stopped::Writing)?;
        }
        let (_, records) = writer.finish().map_err(Stopped::Writing)?;
        Ok(records)
    };
    match copy_all() {
        Ok(records) => Ok(records),
        Err(Stopped::Writing(error)) => stopped(error).map(|()| 0),
        Err(Stopped::Reading(error)) => Err(error),
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
    /// Copies the record of `outcome`, and says why where reasons go.
    fn copy(
        &mut self,
        outcome: &RowOutcome,
        rejects: &mut RejectsWriter<impl Write>,
        reasons: Option<&mut ReasonsWriter<impl Write>>,
    ) -> Result<(), Stopped> {
        let row = outcome.row;
        self.open_chunk_of(row)?;
        let found = self.open.as_ref().and_then(|(spec, bytes)| {
            records(bytes, spec, self.delimiter).find(|record| record.number == row)
        });
        let record = found.ok_or_else(|| unknown(row))?;
        rejects.write(record.bytes).map_err(Stopped::Writing)?;
        reasons.map_or(Ok(()), |reasons| {
            reasons
                .write(outcome, record.line)
                .map_err(Stopped::Writing)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OrgMode, RowError, Step};
    use crate::source;
    use crate::source::IndexOptions;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A field as somebody's program wrote it: raw when it can be, quoted otherwise or anyway.
    fn written(field: &str, quoted: bool) -> String {
        if quoted || field.contains(['"', ',', '\r', '\n']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    }

    fn field() -> impl Strategy<Value = String> {
        let odd = [
            "", " ", "=1+1", "\"", "a,b", "x\r\ny", "é", "'", "\t-", "@a", "\u{feff}",
        ];
        prop_oneof![
            proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
            "[a-z@.,\"\n ]{0,8}",
        ]
    }

    fn index(path: &Path, bytes: &[u8]) -> (File, source::Index) {
        std::fs::write(path, bytes).unwrap();
        let options = IndexOptions {
            profile: source::profile::ProfileChoice::Off,
            chunk_size: 3,
            org_mode: OrgMode::Columns,
            hash_key: 7,
            delimiter: Delimiter::Comma,
            renames: Vec::new(),
        };
        let index = source::build(path, &options, &mut |_| {}).unwrap();
        (File::open(path).unwrap(), index)
    }

    fn parsed(file: &File, index: &source::Index) -> Vec<csv::StringRecord> {
        let chunks = index.chunks.iter();
        let read = chunks.flat_map(|chunk| read_chunk(file, chunk, &index.columns).unwrap());
        read.map(|record| record.fields.iter().collect()).collect()
    }

    proptest! {
           #![proptest_config(ProptestConfig::with_cases(128))]

           /// What was rejected reads as the same records under the same header, whatever is in
           /// them and however they were written.
           #[test]
           fn rejects_read_as_the_rows_they_are(
               rows in vec((vec((field(), any::<bool>()), 2..=2), any::<bool>()), 1..20),
               crlf in any::<bool>(),
               mark in any::<bool>(),
               ended in any::<bool>(),
           ) {
               let line_end = if crlf { "\r\n" } else { "\n" };
               let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
               text.push_str(&["email", "\"first name\"", "notes"].join(","));
               for (at, (fields, _)) in rows.iter().enumerate() {
                   let cells = fields.iter().map(|(field, quoted)| written(field, *quoted));
                   let cells: Vec<String> = [format!("u{at}@x.org")].into_iter().chain(cells).collect();
                   text.push_str(line_end);
                   text.push_str(&cells.join(","));
               }
               if ended {
                   text.push_str(line_end);
               }
               let folder = tempfile::tempdir().unwrap();
               let (file, whole) = index(&folder.path().join("users.csv"), text.as_bytes());
               let all = parsed(&file, &whole);
               prop_assert_eq!(all.len(), rows.len());

               let chosen: BTreeSet<usize> = rows.iter().enumerate()
                   .filter(|(_, (_, rejected))| *rejected).map(|(at, _)| at).collect();
               let header = read_header(&file, &whole.columns).unwrap();
               let mut writer = RejectsWriter::start(Vec::new(), &header).unwrap();
               let mut reasons = ReasonsWriter::start(Vec::new()).unwrap();
               let mut copier = Copier {
    delimiter: Delimiter::Comma,
                   file: &file,
                   chunks: whole.chunks.clone().into_iter(),
                   open: None,
               };
               for at in &chosen {
                   let row = RowNumber(u32::try_from(*at).unwrap() + 1);
                   let outcome = RowOutcome::failed(row, Step::User, RowError::local("x", "y"));
                   let copied = copier.copy(&outcome, &mut writer, Some(&mut reasons));
                   prop_assert!(copied.is_ok());
               }
               let (bytes, count) = writer.finish().unwrap();
               prop_assert_eq!(count, chosen.len() as u64);
               let reasons = reasons.finish().unwrap();
               prop_assert_eq!(csv::Reader::from_reader(&*reasons).records().count(), chosen.len());
               if !chosen.is_empty() {
                   let (file, again) = index(&folder.path().join("rejects.csv"), &bytes);
                   let expected: Vec<_> = chosen.iter().map(|at| all[*at].clone()).collect();
                   prop_assert_eq!(parsed(&file, &again), expected);
                   prop_assert_eq!(read_header(&file, &again.columns).unwrap(), header);
               }
           }
       }
}
