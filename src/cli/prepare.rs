//! Getting a job in hand: a new one from a file, or an old one checked against its file.

use super::context::Context;
use super::desk::Listed;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::opening::{self, ReadingAsk};
use super::run::Job;
use crate::ledger::{JobLock, JobRecord, Ledger, NewFolder, NewJob, Settings};
use crate::model::clock::wall_ms;
use crate::model::rng::entropy;
use crate::model::{JobOptions, Mono, Reading, Rename, Spool};
use crate::report::words;
use crate::source::profile::{self, ProfileChoice};
use crate::source::{self, Index, IndexOptions, Input, Opened};
use std::path::{Path, PathBuf};

/// A source that was read once and may become a job.
#[derive(Clone, Debug)]
pub struct Indexed {
    input: Input,
    opened: Opened,
    renames: Vec<Rename>,
    index: Index,
    hash_key: u64,
}

impl Indexed {
    /// Returns what the one pass told.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns how many rows the source has.
    pub fn rows(&self) -> u32 {
        self.index.rows
    }

    /// Returns the file that rows are read from for now.
    pub fn rows_path(&self) -> &Path {
        &self.opened.rows
    }

    fn reading(&self) -> Reading {
        Reading {
            delimiter: self.index.columns.delimiter,
            encoding: self.opened.encoding,
            packing: self.opened.packing,
            renames: self.renames.clone(),
            spool: self.opened.spooled.then(|| Spool {
                bytes: self.index.bytes,
                hash: self.index.hash.clone(),
            }),
            converted: self.opened.converted.is_some(),
        }
    }
}

/// Where a source is read from, how, and where a copy of it goes if it needs one.
pub struct Reader<'a> {
    /// The source.
    pub input: &'a Input,
    /// What is known about it.
    pub ask: ReadingAsk,
    /// How its profile is chosen.
    pub profile: ProfileChoice,
    /// Names the folder of a copy; called when there is one.
    pub folder: &'a mut dyn FnMut() -> CliResult<PathBuf>,
    /// How long the copy is kept, in words.
    pub kept: &'a str,
}

/// Reads the whole source once; says what people should know about it.
pub fn index(ctx: &mut Context, reader: Reader<'_>, options: &JobOptions) -> CliResult<Indexed> {
    let hash_key = entropy();
    let Reader {
        input,
        ask,
        profile,
        folder,
        kept,
    } = reader;
    let shape = IndexOptions {
        chunk_size: options.chunk_size,
        org_mode: options.org_mode.clone(),
        hash_key,
        delimiter: ask.ask.delimiter.unwrap_or_default(),
        renames: ask.renames.clone(),
        profile,
    };
    let total = std::fs::metadata(input.path()).map_or(0, |meta| meta.len());
    let display = &mut ctx.display;
    let (opened, index) = source::read(input, &ask.ask, &shape, folder, &mut |done| {
        display.on_bytes(Mono::now(), done, total.max(done));
    })?;
    let indexed = Indexed {
        input: input.clone(),
        opened,
        renames: ask.renames,
        index,
        hash_key,
    };
    announce(ctx, &indexed, kept);
    Ok(indexed)
}

fn announce(ctx: &Context, indexed: &Indexed, kept: &str) {
    let Indexed { opened, input, .. } = indexed;
    if let Some(how) = opening::sentence(opened, &indexed.reading(), input, kept) {
        ctx.say(&how);
    }
    let converted = opened
        .converted
        .iter()
        .flat_map(|converted| &converted.told);
    for sentence in converted.chain(&indexed.index.read_as) {
        ctx.say(sentence);
    }
    for warning in &indexed.index.warnings {
        ctx.say(&format!("warning: {warning}"));
    }
    if let Some(left_out) = &indexed.index.left_out {
        ctx.say(&format!("note: {left_out}"));
    }
    if indexed.index.rows == 0 {
        ctx.say(opening::NO_ROWS);
    }
    if !indexed.index.differing.is_empty() {
        let differing = indexed.index.differing.len() as u64;
        let rows = words::counted(differing, "row");
        let repeat = words::agreeing(differing, "repeats", "repeat");
        ctx.say(&format!(
            "note: {rows} {repeat} an email with other user fields; the values of the first row \
             count"
        ));
    }
}

/// Returns what the ledger of a new job starts from; `settings` are what its next run keeps.
pub fn new_job(name: &str, options: JobOptions, settings: Settings, indexed: Indexed) -> NewJob {
    let reading = indexed.reading();
    let Indexed {
        input,
        opened,
        index,
        hash_key,
        ..
    } = indexed;
    let (source_bytes, source_hash) = opened.origin.unwrap_or((index.bytes, index.hash));
    let plan = index.columns.plan.as_ref();
    let options = JobOptions {
        profile: match (&opened.converted, plan) {
            (Some(converted), _) => converted.profile.clone(),
            (None, Some(plan)) => plan.profile.clone(),
            (None, None) => profile::NONE.to_owned(),
        },
        ..options
    };
    NewJob {
        record: JobRecord {
            name: name.to_owned(),
            source: input.path().to_owned(),
            source_bytes,
            source_hash,
            reading,
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
        settings,
    }
}

/// Makes the job's folder appear in one step and keeps its lock.
pub fn publish(folder: NewFolder, name: &str, job: &NewJob) -> CliResult<Job> {
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
    // Both take as long as reading takes: the ledger and the rows are read side by side.
    let path = listed.folder.ledger_path();
    let seen = &listed.summary.record;
    let check = || opening::check(ctx, seen, &listed.folder);
    let (opened, checked) = Ledger::open_beside(&path, check);
    let mut ledger = opened.map_err(|error| CliError::of_ledger(&error).job(name))?;
    let record = ledger.record().map_err(|error| of_job(error.into()))?;
    let checked = if has_same_rows(seen, &record) {
        checked
    } else {
        // Somebody made the job anew before its lock was ours.
        opening::check(ctx, &record, &listed.folder)
    };
    checked.map_err(of_job)?;
    Ok(Job {
        folder: listed.folder.clone(),
        record,
        ledger,
        lock,
    })
}

/// Returns whether two records are of the same rows, read in the same way.
fn has_same_rows(one: &JobRecord, other: &JobRecord) -> bool {
    one.source_bytes == other.source_bytes
        && one.source_hash == other.source_hash
        && one.source == other.source
        && one.reading == other.reading
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
    let file = match Input::of_path(file) {
        Input::Stdin => "what stdin holds".to_owned(),
        Input::File(file) => file.display().to_string(),
    };
    let message = format!("{file} changed after job {} began: {how}", record.name);
    Err(CliError::new(Exit::Input, "file_changed", message).hint(
        "put the file back as it was to continue, or import the new one as a job of its own with \
         `userferry import --fresh`",
    ))
}
