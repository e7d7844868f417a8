//! Getting a job in hand: a new one from a file, or an old one checked against its file.

use super::context::Context;
use super::desk::Listed;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::run::Job;
use crate::ledger::{Checkpoints, JobLock, JobRecord, Ledger, NewJob};
use crate::model::clock::wall_ms;
use crate::model::rng::entropy;
use crate::model::{JobOptions, Mono};
use crate::report::words;
use crate::source::profile::{self, ProfileChoice};
use crate::source::{self, Index, IndexOptions};
use std::path::Path;

/// A file that was read once and may become a job.
#[derive(Debug)]
pub struct Indexed {
    index: Index,
    hash_key: u64,
}

impl Indexed {
    /// Returns what the one pass told.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns how many rows the file has.
    pub fn rows(&self) -> u32 {
        self.index.rows
    }
}

/// Reads the whole file once; says what people should know about it.
pub fn index(
    ctx: &mut Context,
    file: &Path,
    options: &JobOptions,
    profile: &ProfileChoice,
) -> CliResult<Indexed> {
    let hash_key = entropy();
    let shape = IndexOptions {
        chunk_size: options.chunk_size,
        org_mode: options.org_mode.clone(),
        hash_key,
        profile: profile.clone(),
    };
    let total = std::fs::metadata(file).map_or(0, |meta| meta.len());
    let display = &mut ctx.display;
    let index = source::build(file, &shape, &mut |done| {
        display.on_bytes(Mono::now(), done, total);
    })?;
    if let Some(read_as) = &index.read_as {
        ctx.say(read_as);
    }
    for warning in &index.warnings {
        ctx.say(&format!("warning: {warning}"));
    }
    if !index.differing.is_empty() {
        let rows = words::counted(index.differing.len() as u64, "row");
        ctx.say(&format!(
            "note: {rows} repeat an email with other user fields; the values of the lowest \
                 row count"
        ));
    }
    Ok(Indexed { index, hash_key })
}

/// Returns what the ledger of a new job starts from.
pub fn new_job(name: &str, file: &Path, options: JobOptions, indexed: Indexed) -> NewJob {
    let Indexed { index, hash_key } = indexed;
    let plan = index.columns.plan.as_ref();
    let options = JobOptions {
        profile: plan.map_or_else(|| profile::NONE.to_owned(), |plan| plan.profile.clone()),
        ..options
    };
    NewJob {
        record: JobRecord {
            name: name.to_owned(),
            source: file.to_owned(),
            source_bytes: index.bytes,
            source_hash: index.hash,
            columns: index.columns,
            options,
            created_ms: wall_ms(),
            generation: 1,
            rebuilt_from: None,
        },
        chunks: index.chunks,
        followers: index.followers,
        conflicts: index.conflicts,
        org_names: index.org_names,
        hash_key,
        rows: index.rows,
    }
}

/// Makes the job's folder in one step and keeps its lock.
pub fn publish(checkpoints: &Checkpoints, name: &str, job: &NewJob) -> CliResult<Job> {
    let folder = checkpoints.begin_job()?;
    Ledger::create(&folder.ledger_path(), job)?;
    let (folder, lock) = folder.publish(name)?;
    let ledger = Ledger::open(&folder.ledger_path())?;
    Ok(Job {
        folder,
        record: job.record.clone(),
        ledger,
        lock,
    })
}

/// Takes the lock of an existing job and checks that its file is the one that was indexed.
pub fn reopen(ctx: &mut Context, listed: &Listed) -> CliResult<Job> {
    let name = listed.name();
    let of_job = |error: CliError| error.job(name);
    let lock = JobLock::acquire(listed.folder.path()).map_err(|error| of_job(error.into()))?;
    let mut ledger = Ledger::open(&listed.folder.ledger_path())
        .map_err(|error| CliError::of_ledger(&error).job(name))?;
    let record = ledger.record().map_err(|error| of_job(error.into()))?;
    check_bytes(ctx, &record).map_err(of_job)?;
    Ok(Job {
        folder: listed.folder.clone(),
        record,
        ledger,
        lock,
    })
}

fn check_bytes(ctx: &mut Context, record: &JobRecord) -> CliResult<()> {
    let total = record.source_bytes;
    let display = &mut ctx.display;
    let (bytes, hash) = source::file_hash(&record.source, &mut |done| {
        display.on_bytes(Mono::now(), done, total);
    })?;
    same_bytes(record, &record.source, bytes, &hash)
}

/// Refuses a file that is not the one the job was indexed from.
pub fn same_bytes(record: &JobRecord, file: &Path, bytes: u64, hash: &str) -> CliResult<()> {
    if (bytes, hash) == (record.source_bytes, record.source_hash.as_str()) {
        return Ok(());
    }
    let how = if bytes == record.source_bytes {
        "it is as long as it was and reads differently".to_owned()
    } else {
        let [now, before] = [bytes, record.source_bytes].map(|n| words::counted(n, "byte"));
        format!("it has {now} now and had {before}")
    };
    let file = file.display();
    let message = format!("{file} changed after job {} began: {how}", record.name);
    Err(CliError::new(Exit::Input, "file_changed", message).hint(
        "put the file back as it was to continue, or import the new one as a job of its own with \
         `userferry import --fresh`",
    ))
}
