//! `report`: one page about a job, from its ledger; the file is read only to name lines.

use super::args::ReportArgs;
use super::context::Context;
use super::desk::{self, Listed, Want};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::opening;
use super::output::{Output, Present};
use super::resolve::Place;
use crate::ledger::{LedgerReader, Problem};
use crate::model::clock::wall_ms;
use crate::model::{ChunkSpec, Delimiter, RowNumber};
use crate::report::html::{self, Page};
use crate::report::screen::quiet_epipe;
use crate::source::chunk::read_bytes;
use crate::source::records;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

/// Organizations that are named; the others are one line.
const ORGANIZATIONS: u32 = 20;

/// Runs `report`.
pub fn run(ctx: &Context, args: &ReportArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let job = desk::pick(&place, args.job.as_deref(), Want::Newest)?;
    let present = Present::of(args.force);
    let source = Some(job.summary.record.source.as_path());
    let mut out = Output::open_as(args.out.as_deref(), source, present)?;
    let page = page(&place, &job).map_err(|error| error.job(job.name()))?;
    quiet_epipe(out.write_all(html::render(&page).as_bytes()))
        .map_err(|error| CliError::output(&error))?;
    out.finish()?;
    if let Some(path) = &args.out {
        ctx.screen.say(&format!("{} written", path.display()));
    }
    Ok(Exit::Success)
}

fn page(place: &Place, job: &Listed) -> CliResult<Page> {
    let reader = LedgerReader::open(&job.folder.ledger_path())?;
    let problems = reader.problems()?;
    Ok(Page {
        lines: lines_of(job, &reader, &problems),
        summary: job.to_summary(place),
        source: job.summary.record.source.clone(),
        generation: job.summary.record.generation,
        made_ms: job.summary.record.created_ms,
        now_ms: wall_ms(),
        problems,
        organizations: reader.organizations(ORGANIZATIONS)?,
        runs: reader.series()?,
        stopped_at_limit: job
            .summary
            .settings
            .limit
            .is_some_and(|limit| job.rows().settled() >= u64::from(limit)),
    })
}

/// Finds the physical lines of the rows that are named; those that cannot be read any more are
/// left out, their numbers say enough.
fn lines_of(job: &Listed, reader: &LedgerReader, problems: &[Problem]) -> BTreeMap<RowNumber, u64> {
    let examples = problems.iter().flat_map(|problem| &problem.examples);
    let rows: Vec<RowNumber> = examples.map(|example| example.row).collect();
    let record = &job.summary.record;
    let rows_file = opening::rows_to_read(record, &job.folder);
    let file = rows_file.as_ref().map(|rows| File::open(&rows.path));
    let (Ok(Ok(file)), Ok(chunks)) = (file, reader.chunks()) else {
        return BTreeMap::new();
    };
    rows.into_iter()
        .filter_map(|row| Some((row, line_of(&file, &chunks, record.columns.delimiter, row)?)))
        .collect()
}

fn line_of(file: &File, chunks: &[ChunkSpec], delimiter: Delimiter, row: RowNumber) -> Option<u64> {
    let after = chunks.partition_point(|chunk| chunk.first_row <= row);
    let chunk = chunks.get(after.checked_sub(1)?)?;
    let bytes = read_bytes(file, chunk).ok()?;
    let record = records(&bytes, chunk, delimiter).find(|record| record.number == row);
    Some(record?.line)
}
