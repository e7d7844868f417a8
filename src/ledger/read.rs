//! Reading a ledger, also while its owner writes: totals, the last run, every outcome.

use super::check;
use super::error::{Fault, LedgerError};
use super::failures::{self, FailureGroup};
use super::holder::Holder;
use super::image;
use super::problems::{self, Organizations, Problem};
use super::rows::{self, OUTCOME};
use super::schema;
use super::series::{self, RunSeries};
use super::settings::{self, Settings};
use super::store::read_job;
use super::totals::Totals;
use super::types::{JobRecord, RunSnapshot};
use crate::model::{ChunkSpec, RowNumber, RowOutcome};
use rusqlite::{Connection, OptionalExtension, Row};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Outcomes read under one snapshot: a longer one would keep the writer's log from shrinking.
const PAGE_ROWS: usize = 4096;

/// A read-only view of a ledger.
#[derive(Debug)]
pub struct LedgerReader {
    path: PathBuf,
    conn: Connection,
}

/// A job at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// What the job is, its current generation included.
    pub record: JobRecord,
    /// Totals, equal to the rows of this commit.
    pub totals: Totals,
    /// The last run, if there was any.
    pub run: Option<RunView>,
    /// What the next run keeps unless told otherwise.
    pub settings: Settings,
}

/// One process's work on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// Its number, from 1.
    pub id: i64,
    /// The process; whether it lives is for [`JobLock::holder`] to say.
    ///
    /// [`JobLock::holder`]: super::JobLock::holder
    pub holder: Holder,
    /// The generation it works on.
    pub generation: u32,
    /// When it ended by itself, local wall clock in milliseconds.
    pub ended_ms: Option<i64>,
    /// Its counters, at most about a second old while it lives; none before the first commit.
    pub snapshot: Option<RunSnapshot>,
}

impl LedgerReader {
    /// Opens the ledger at `path` for reading.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let conn = schema::open_reader(path)?;
        Ok(Self {
            path: path.to_owned(),
            conn,
        })
    }

    /// Reads the ledger at `path` from end to end; `Ok` only when all of it can be trusted. Takes as
    /// long as reading the file takes.
    pub fn check(path: &Path) -> Result<(), LedgerError> {
        check::sound(path)
    }

    /// Returns the job, its totals and its last run, all of one commit. Cheap at any size.
    pub fn summary(&self) -> Result<JobSummary, LedgerError> {
        self.snapshot(|conn| {
            let job = read_job(conn)?;
            let totals = Totals::load(conn, job.rows)?;
            Ok(JobSummary {
                record: job.record,
                totals,
                run: last_run(conn)?,
                settings: settings::read(conn)?,
            })
        })
    }

    /// Returns why rows failed or were parked: counted by code, the largest group first. Reads
    /// every outcome.
    pub fn failures(&self) -> Result<Vec<FailureGroup>, LedgerError> {
        self.snapshot(failures::groups)
    }

    /// Returns how many users were made for rows that failed or are parked, and stay.
    pub fn users_left(&self) -> Result<u64, LedgerError> {
        self.snapshot(failures::users_left)
    }

    /// Returns where every chunk of the file lies, ascending.
    pub fn chunks(&self) -> Result<Vec<ChunkSpec>, LedgerError> {
        self.snapshot(image::specs)
    }

    /// Returns skipped, failed and parked rows in groups, the largest first. Reads every outcome.
    pub fn problems(&self) -> Result<Vec<Problem>, LedgerError> {
        self.snapshot(problems::read)
    }

    /// Returns where settled rows went; the `top` largest organizations by name. Reads every
    /// outcome.
    pub fn organizations(&self, top: u32) -> Result<Organizations, LedgerError> {
        self.snapshot(|conn| problems::organizations(conn, top))
    }

    /// Returns how the last runs went, oldest first.
    pub fn series(&self) -> Result<Vec<RunSeries>, LedgerError> {
        self.snapshot(series::read)
    }

    /// Calls `visit` with every outcome from row `from` on, ascending; rows that are pending are
    /// left out. `visit` may stop it.
    ///
    /// Memory stays bounded, and so does every snapshot: of a live run, rows settled meanwhile
    /// may or may not be seen. Settled rows never change within a generation; a new generation
    /// ends the reading with [`LedgerError::Reopened`].
    pub fn for_each_outcome(
        &self,
        from: RowNumber,
        mut visit: impl FnMut(&RowOutcome) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut next = from.0;
        let mut generation = None;
        loop {
            let (now, page) =
                self.snapshot(|conn| Ok((generation_of(conn)?, page(conn, next)?)))?;
            if *generation.get_or_insert(now) != now {
                return Err(LedgerError::Reopened);
            }
            for outcome in &page {
                if visit(outcome).is_break() {
                    return Ok(());
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS) else {
                return Ok(());
            };
            next = last.row.0.saturating_add(1);
        }
    }

    fn snapshot<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        let done = (|| {
            let tx = self.conn.unchecked_transaction()?;
            let done = read(&tx)?;
            tx.commit()?;
            Ok(done)
        })();
        done.map_err(|fault: Fault| fault.at(&self.path))
    }
}

fn generation_of(conn: &Connection) -> Result<u32, Fault> {
    let mut read = conn.prepare_cached("SELECT generation FROM job")?;
    Ok(read.query_row([], |row| row.get(0))?)
}

fn page(conn: &Connection, from: u32) -> Result<Vec<RowOutcome>, Fault> {
    let sql = format!("SELECT {OUTCOME} WHERE o.row >= ?1 ORDER BY o.row LIMIT ?2");
    let mut read = conn.prepare_cached(&sql)?;
    let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
    let mut found = read.query((from, limit))?;
    let mut page = Vec::new();
    while let Some(row) = found.next()? {
        page.push(rows::outcome(row)?);
    }
    Ok(page)
}

fn last_run(conn: &Connection) -> Result<Option<RunView>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT id, generation, pid, host, boot_id, start_time, started_ms, ended_ms, snapshot
         FROM run ORDER BY id DESC LIMIT 1",
    )?;
    read.query_row([], |row| Ok(run(row)))
        .optional()?
        .transpose()
}

/// Reads the counters of a run.
pub(super) fn snapshot(row: &Row<'_>, at: usize) -> Result<Option<RunSnapshot>, Fault> {
    let text: Option<String> = row.get(at)?;
    let read = text.map(|text| serde_json::from_str(&text));
    read.transpose()
        .map_err(|error| Fault::Stored(format!("the counters of a run cannot be read: {error}")))
}

fn run(row: &Row<'_>) -> Result<RunView, Fault> {
    let start_time: i64 = row.get(5)?;
    let holder = Holder {
        pid: row.get(2)?,
        host: row.get(3)?,
        boot_id: row.get(4)?,
        start_time: start_time.cast_unsigned(),
        // Not kept: whether a run lives is told by the lock.
        pid_space: String::new(),
        since_ms: row.get(6)?,
    };
    let snapshot = snapshot(row, 8)?;
    Ok(RunView {
        id: row.get(0)?,
        holder,
        generation: row.get(1)?,
        ended_ms: row.get(7)?,
        snapshot,
    })
}
