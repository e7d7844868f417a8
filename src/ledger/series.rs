//! How a run went over time: at most [`SAMPLES_MAX`] samples a run, of the last [`RUNS_KEPT`] runs.
//!
//! A sample holds the run's counters at the end of its interval. Intervals last a second at first
//! and twice as long whenever the samples would become too many: the older ones are then folded in
//! pairs, so that every interval of a run is as long as every other.

use super::error::Fault;
use super::types::RunSnapshot;
use rusqlite::{Connection, Row};

/// Samples of one run: as many points as a chart can show.
const SAMPLES_MAX: i64 = 600;

/// Runs whose samples are kept.
const RUNS_KEPT: i64 = 20;

/// The counters of a run at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Where its interval begins, in seconds since the process began.
    pub at_s: u64,
    /// Rows settled by the run so far.
    pub settled: u64,
    /// Writes sent so far.
    pub writes: u64,
    /// Reads sent so far.
    pub reads: u64,
    /// Answers so far that said "too many requests".
    pub throttled: u64,
    /// The median latency of the interval in milliseconds, of folded ones their mean; 0 without
    /// requests.
    pub p50_ms: f64,
    /// The 99th percentile of its latencies in milliseconds, of folded ones the higher.
    pub p99_ms: f64,
}

/// A run, and how it went.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSeries {
    /// Its number, from 1.
    pub run: i64,
    /// When it began, local wall clock in milliseconds.
    pub started_ms: i64,
    /// Its counters at the end; none if it never committed any.
    pub last: Option<RunSnapshot>,
    /// Its samples, ascending; at most [`SAMPLES_MAX`].
    pub samples: Vec<Sample>,
}

/// Returns how long intervals are when a run has lasted `second` seconds: a power of two.
fn stride_at(second: i64) -> i64 {
    let mut stride = 1;
    while second / stride >= SAMPLES_MAX {
        stride *= 2;
    }
    stride
}

/// Enters the counters of `run` as they are now.
pub(super) fn add(conn: &Connection, run: i64, snapshot: &RunSnapshot) -> Result<(), Fault> {
    let second = whole_seconds(snapshot.elapsed_s);
    let stride = stride_at(second);
    if stride > 1 {
        fold(conn, run, stride)?;
    }
    let [p50, p99] = snapshot.recent_ms;
    let requests = &snapshot.requests;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT INTO sample VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (run, at_s) DO UPDATE SET settled = excluded.settled,
             writes = excluded.writes, reads = excluded.reads, throttled = excluded.throttled,
             p50_ms = iif(min(p50_ms, excluded.p50_ms) > 0, (p50_ms + excluded.p50_ms) / 2,
                          max(p50_ms, excluded.p50_ms)),
             p99_ms = max(p99_ms, excluded.p99_ms)",
    )?
    .execute((
        run,
        second - second % stride,
        number(snapshot.settled),
        number(requests.writes),
        number(requests.reads),
        number(requests.throttled),
        p50,
        p99,
    ))?;
    Ok(())
}

/// Makes intervals `stride` seconds long, if they are shorter.
fn fold(conn: &Connection, run: i64, stride: i64) -> Result<(), Fault> {
    let short: bool = conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sample WHERE run = ?1 AND at_s % ?2 <> 0)")?
        .query_row((run, stride), |row| row.get(0))?;
    if !short {
        return Ok(());
    }
    conn.execute(
        "INSERT OR REPLACE INTO sample
         SELECT run, at_s - at_s % ?2, max(settled), max(writes), max(reads), max(throttled),
                coalesce(avg(nullif(p50_ms, 0)), 0), max(p99_ms)
         FROM sample WHERE run = ?1 GROUP BY at_s - at_s % ?2",
        (run, stride),
    )?;
    conn.execute(
        "DELETE FROM sample WHERE run = ?1 AND at_s % ?2 <> 0",
        (run, stride),
    )?;
    Ok(())
}

/// Forgets the samples of runs long before `run`.
pub(super) fn forget_old(conn: &Connection, run: i64) -> Result<(), Fault> {
    conn.execute("DELETE FROM sample WHERE run <= ?1", [run - RUNS_KEPT])?;
    Ok(())
}

/// Reads the last runs, oldest first. A ledger that was last written before samples were kept has
/// runs without.
pub(super) fn read(conn: &Connection) -> Result<Vec<RunSeries>, Fault> {
    let mut runs =
        conn.prepare_cached("SELECT id, started_ms, snapshot FROM run ORDER BY id DESC LIMIT ?1")?;
    let mut found = runs.query([RUNS_KEPT])?;
    let mut series = Vec::new();
    while let Some(row) = found.next()? {
        let run = row.get(0)?;
        series.push(RunSeries {
            run,
            started_ms: row.get(1)?,
            last: super::read::snapshot(row, 2)?,
            samples: samples(conn, run)?,
        });
    }
    series.reverse();
    Ok(series)
}

fn samples(conn: &Connection, run: i64) -> Result<Vec<Sample>, Fault> {
    if !has_table(conn, "sample")? {
        return Ok(Vec::new());
    }
    let mut read = conn.prepare_cached(
        "SELECT at_s, settled, writes, reads, throttled, p50_ms, p99_ms FROM sample
         WHERE run = ?1 ORDER BY at_s",
    )?;
    let samples = read.query_map([run], sample)?;
    Ok(samples.collect::<Result<_, _>>()?)
}

fn sample(row: &Row<'_>) -> Result<Sample, rusqlite::Error> {
    let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(Sample {
        at_s: number(0)?,
        settled: number(1)?,
        writes: number(2)?,
        reads: number(3)?,
        throttled: number(4)?,
        p50_ms: row.get(5)?,
        p99_ms: row.get(6)?,
    })
}

/// Returns whether a ledger has a table that older formats lack.
pub(super) fn has_table(conn: &Connection, name: &str) -> Result<bool, Fault> {
    let mut find =
        conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)")?;
    Ok(find.query_row([name], |row| row.get(0))?)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, and no run lasts for 290 billion years"
)]
fn whole_seconds(seconds: f64) -> i64 {
    seconds.max(0.0).floor() as i64
}
