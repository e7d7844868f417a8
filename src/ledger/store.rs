//! The ledger itself: made once, opened by the one writer, and what a run says about itself.

use super::check;
use super::commit::{self, Known};
use super::error::{Fault, LedgerError};
use super::holder::Holder;
use super::image;
use super::retry::{self, Reopened, RetryPick};
use super::schema;
use super::series;
use super::settings::{self, Settings};
use super::totals::Totals;
use super::types::{Change, CommitReply, JobImage, JobRecord, NewJob, RunSnapshot};
use crate::model::{ChunkSpec, RowError, RowOutcome, ServerMs, Step};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Its name in the job folder.
pub const LEDGER_FILE: &str = "ledger.sqlite";

/// The code of rows that lost their `external_id` to a lower row of the file. The file decides it
/// and cannot change, so a retry does not open such a row again.
pub const CONFLICT_IN_FILE: &str = "external_id_conflict_in_file";

/// The job's memory, open for writing. There is one at a time: its owner has the job lock.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    conn: Connection,
    known: Known,
    /// An error left the connection in doubt: not one more statement goes through it.
    poisoned: bool,
    /// Nothing has to outlive a power cut.
    is_rehearsal: bool,
}

impl Ledger {
    /// Makes the ledger of a new job at `path`, everything the index found in it, in one
    /// transaction, closes it and puts it on the disk: it, or its folder, is about to be renamed.
    pub fn create(path: &Path, job: &NewJob) -> Result<(), LedgerError> {
        let mut conn = schema::create(path)?;
        fill(&mut conn, job).map_err(|fault| fault.at(path))?;
        conn.close()
            .map_err(|(_, error)| Fault::from(error).at(path))?;
        schema::sync(path)
    }

    /// Opens the ledger at `path` for writing, once all of it was read and found sound: one that
    /// cannot be trusted is refused and left as it is.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        check::sound(path)?;
        Self::over(path, schema::open_writer(path)?, false)
    }

    /// Opens the ledger at `path` while something else is done: looking at all of it takes its time.
    pub fn open_beside<T>(
        path: &Path,
        other: impl FnOnce() -> T,
    ) -> (Result<Self, LedgerError>, T) {
        check::side_by_side(|| Self::open(path), other)
    }

    fn over(path: &Path, conn: Connection, is_rehearsal: bool) -> Result<Self, LedgerError> {
        let known = Known::load(&conn).map_err(|fault| fault.at(path))?;
        Ok(Self {
            path: path.to_owned(),
            conn,
            known,
            poisoned: false,
            is_rehearsal,
        })
    }

    /// Makes the ledger of a dry run, which is deleted with it: nothing has to outlive a power cut,
    /// so nothing waits for the disk, and no page is written twice. Everything else is as ever.
    pub fn rehearsal(path: &Path, job: &NewJob) -> Result<Self, LedgerError> {
        let mut conn = schema::create_rehearsal(path)?;
        fill(&mut conn, job).map_err(|fault| fault.at(path))?;
        Self::over(path, conn, true)
    }

    /// Returns whether it is thrown away after the run.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.is_rehearsal
    }

    /// Returns what the job is.
    pub fn record(&mut self) -> Result<JobRecord, LedgerError> {
        self.read(|conn, _| Ok(read_job(conn)?.record))
    }

    /// Returns everything needed to start or continue the job. Reads outcomes only of chunks that
    /// are begun and not complete, and of groups that still wait.
    pub fn load(&mut self) -> Result<JobImage, LedgerError> {
        self.read(image::load)
    }

    /// Returns the totals as of the last commit.
    pub fn totals(&self) -> Totals {
        self.known.totals
    }

    /// Commits `changes` in one transaction, in order, all or nothing. When it returns, they are
    /// on the disk.
    pub fn commit(&mut self, changes: &[Change]) -> Result<CommitReply, LedgerError> {
        let replies = self.commit_group(&[changes])?;
        Ok(replies.into_iter().next().unwrap_or_default())
    }

    /// Commits several requests in one transaction; one reply for each.
    pub fn commit_group(&mut self, group: &[&[Change]]) -> Result<Vec<CommitReply>, LedgerError> {
        self.write(|tx, known| {
            let mut work = commit::Work::new(tx, known);
            let mut replies = Vec::with_capacity(group.len());
            for changes in group {
                replies.push(work.apply_all(changes)?);
            }
            work.finish()?;
            Ok(replies)
        })
    }

    /// Enters this process as the one that now works on the job; returns the run's number.
    pub fn begin_run(&mut self, holder: &Holder) -> Result<i64, LedgerError> {
        self.write(|tx, known| {
            tx.execute(
                "INSERT INTO run (generation, pid, host, boot_id, start_time, started_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    known.generation,
                    holder.pid,
                    &holder.host,
                    &holder.boot_id,
                    holder.start_time.cast_signed(),
                    holder.since_ms,
                ),
            )?;
            let run = tx.last_insert_rowid();
            known.run = Some(run);
            series::forget_old(tx, run)?;
            Ok(run)
        })
    }

    /// Enters how the current run ended; `ended_ms` is the local wall clock.
    pub fn end_run(&mut self, last: &RunSnapshot, ended_ms: i64) -> Result<(), LedgerError> {
        self.write(|tx, known| {
            commit::write_snapshot(tx, known.run, last)?;
            tx.execute(
                "UPDATE run SET ended_ms = ?1 WHERE id = ?2",
                (ended_ms, known.run),
            )?;
            Ok(())
        })
    }

    /// Opens the failed and parked rows that `pick` means again, in a new generation.
    pub fn retry(&mut self, pick: &RetryPick) -> Result<Reopened, LedgerError> {
        self.write(|tx, known| retry::retry(tx, known, pick))
    }

    /// Returns what the next run keeps unless told otherwise.
    pub fn settings(&mut self) -> Result<Settings, LedgerError> {
        self.read(|conn, _| settings::read(conn))
    }

    /// Keeps `settings` for the runs to come.
    pub fn keep_settings(&mut self, settings: &Settings) -> Result<(), LedgerError> {
        self.write(|tx, _| settings::write(tx, settings))
    }

    /// Returns how many rows up to `row` have an outcome.
    pub fn settled_up_to(&mut self, row: u32) -> Result<u64, LedgerError> {
        self.read(|conn, _| {
            let sql = "SELECT count(*) FROM outcome WHERE row <= ?1";
            let settled: i64 = conn.query_row(sql, [row], |found| found.get(0))?;
            Ok(settled.cast_unsigned())
        })
    }

    /// Counts everything anew and compares: `Ok` only when every total and every chunk's counter
    /// agrees with the rows. Slow: reads all outcomes.
    pub fn verify_totals(&mut self) -> Result<(), LedgerError> {
        self.read(commit::verify)
    }

    /// Moves the log into the file, so that the folder holds one file again.
    pub fn checkpoint(&mut self) -> Result<(), LedgerError> {
        self.usable()?;
        let done = schema::checkpoint(&self.conn);
        self.judge(done)
    }

    /// Opens the connection to tests that make it fail.
    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.conn
    }

    fn usable(&self) -> Result<(), LedgerError> {
        if self.poisoned {
            return Err(LedgerError::Poisoned {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    /// Runs `read` over one snapshot.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection, &Known) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        self.usable()?;
        let done = (|| {
            let tx = self
                .conn
                .transaction_with_behavior(TransactionBehavior::Deferred)?;
            let done = read(&tx, &self.known)?;
            tx.commit()?;
            Ok(done)
        })();
        self.judge(done)
    }

    /// Runs `write` in one transaction. What it changed in [`Known`] counts only once the commit
    /// returned.
    fn write<T>(
        &mut self,
        write: impl FnOnce(&Transaction<'_>, &mut Known) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        self.usable()?;
        let before = self.known.volatile();
        // A panic in between leaves it so: memory and file may disagree then.
        self.poisoned = true;
        let done = (|| {
            let tx = self
                .conn
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = write(&tx, &mut self.known)?;
            tx.commit()?;
            Ok(done)
        })();
        self.poisoned = false;
        if done.is_err() {
            self.known.restore(before);
        }
        self.judge(done)
    }

    /// Names the file in an error, and closes the ledger to further use where the connection is
    /// in doubt: a sync that failed must never be tried again, it may succeed with data lost.
    fn judge<T>(&mut self, done: Result<T, Fault>) -> Result<T, LedgerError> {
        done.map_err(|fault| {
            let error = fault.at(&self.path);
            if !error.leaves_connection_usable() {
                self.poisoned = true;
                // Closing must not write either. Where even this fails, closing may checkpoint
                // what was committed before: harmless, it was synced.
                let quiet = self
                    .conn
                    .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                tracing::debug!(?quiet, %error, "the ledger is closed to further use");
            }
            error
        })
    }
}

/// The single row of table `job`.
pub(super) struct JobRow {
    pub(super) record: JobRecord,
    pub(super) hash_key: u64,
    pub(super) rows: u32,
}

pub(super) fn read_job(conn: &Connection) -> Result<JobRow, Fault> {
    let sql = "SELECT record, source, hash_key, rows, generation FROM job";
    let (text, source, hash_key, rows, generation) = conn.query_row(sql, [], |row| {
        let text: String = row.get(0)?;
        let source: Vec<u8> = row.get(1)?;
        let hash_key: i64 = row.get(2)?;
        Ok((text, source, hash_key, row.get(3)?, row.get(4)?))
    })?;
    let mut record: JobRecord = serde_json::from_str(&text)
        .map_err(|error| Fault::Stored(format!("the job's record cannot be read: {error}")))?;
    record.source = PathBuf::from(OsString::from_vec(source));
    record.generation = generation;
    Ok(JobRow {
        record,
        hash_key: hash_key.cast_unsigned(),
        rows,
    })
}

fn fill(conn: &mut Connection, job: &NewJob) -> Result<(), Fault> {
    check_plan(&job.chunks, job.rows)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    write_job(&tx, job)?;
    write_chunks(&tx, &job.chunks)?;
    if let Some(since) = job.record.rebuilt_from {
        lease_everything(&tx, job, since)?;
    }
    {
        let mut follower = tx.prepare("INSERT INTO follower VALUES (?1, ?2, ?3)")?;
        for f in &job.followers {
            follower.execute((f.row.0, f.leader.0, f.previous_pair.map(|row| row.0)))?;
        }
        let mut name = tx.prepare("INSERT INTO org_name VALUES (?1, ?2)")?;
        for (hash, row) in &job.org_names {
            name.execute((row.0, hash.cast_signed()))?;
        }
    }
    settings::write(&tx, &job.settings)?;
    Totals::of_rows(job.rows).store(&tx, None)?;
    let mut known = Known::load(&tx)?;
    let mut work = commit::Work::new(&tx, &mut known);
    work.apply_all(&[Change::settle(conflicts(job))])?;
    work.finish()?;
    tx.commit()?;
    schema::checkpoint(conn)
}

/// Every row of the file is in exactly one chunk, or nothing that is counted later adds up.
pub(super) fn check_plan(chunks: &[ChunkSpec], rows: u32) -> Result<(), Fault> {
    let mut next = 1_u64;
    for (id, chunk) in (0_u32..).zip(chunks) {
        if chunk.id.0 != id || u64::from(chunk.first_row.0) != next || chunk.rows == 0 {
            let detail = format!("chunk {} is not the {id}th from row {next}", chunk.id);
            return Err(Fault::Invariant("I3", detail));
        }
        next += u64::from(chunk.rows);
    }
    if next != u64::from(rows) + 1 {
        let detail = format!("the chunks hold {} rows, the file {rows}", next - 1);
        return Err(Fault::Invariant("I3", detail));
    }
    Ok(())
}

fn write_job(tx: &Transaction<'_>, job: &NewJob) -> Result<(), Fault> {
    // JSON knows no bytes: the exact path has a column of its own.
    let shown = PathBuf::from(job.record.source.to_string_lossy().into_owned());
    let record = JobRecord {
        source: shown,
        ..job.record.clone()
    };
    let text = serde_json::to_string(&record)
        .map_err(|error| Fault::Invariant("I3", format!("the job's record: {error}")))?;
    tx.execute(
        "INSERT INTO job VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        (
            text,
            job.record.source.as_os_str().as_bytes(),
            job.hash_key.cast_signed(),
            job.rows,
            job.record.generation,
        ),
    )?;
    Ok(())
}

fn write_chunks(tx: &Transaction<'_>, chunks: &[ChunkSpec]) -> Result<(), Fault> {
    let mut insert = tx.prepare("INSERT INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)")?;
    for chunk in chunks {
        insert.execute((
            chunk.id.0,
            chunk.offset.cast_signed(),
            chunk.length,
            chunk.first_row.0,
            chunk.rows,
            chunk.first_line.cast_signed(),
            chunk.hash.0,
        ))?;
    }
    Ok(())
}

/// Enters for every chunk the lease that the lost ledger may have held: its rows are suspect, and
/// nothing older than `since` is this job's.
fn lease_everything(tx: &Transaction<'_>, job: &NewJob, since: ServerMs) -> Result<(), Fault> {
    // No run of this ledger and no worker of it ever held them.
    let mut insert = tx.prepare("INSERT INTO lease VALUES (?1, ?2, ?3, NULL, 0, ?4, NULL)")?;
    for (id, chunk) in (1_i64..).zip(&job.chunks) {
        insert.execute((id, chunk.id.0, job.record.generation, since.0))?;
    }
    Ok(())
}

fn conflicts(job: &NewJob) -> Vec<RowOutcome> {
    let refuse = |row, winner| {
        let message = format!(
            "row {row}, column external_id: row {winner} has the same external_id with another \
             email; the first row keeps it: correct one of the two"
        );
        RowOutcome::failed(
            row,
            Step::Validation,
            RowError::local(CONFLICT_IN_FILE, message),
        )
    };
    job.conflicts
        .iter()
        .map(|conflict| refuse(conflict.row, conflict.winner))
        .collect()
}
