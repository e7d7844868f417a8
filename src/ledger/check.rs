//! Whether a ledger can be trusted, found out by reading only.
//!
//! # Owns
//! The look at every page and every value before a ledger is opened for writing.
//! # Never
//! Writes: the file of a ledger that is refused stays as it was, for `recover` and for people.

use super::commit::{self, Counted, Known};
use super::error::{Fault, LedgerError};
use super::image;
use super::schema;
use super::store::{check_plan, read_job};
use rusqlite::Connection;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// Looks at a ledger that others write to meanwhile.
const LOOKS_MAX: u32 = 3;

/// Threads that count outcomes: beyond, the file is read faster than it is understood.
const THREADS_MAX: u32 = 8;

/// Fewer rows are not worth a thread.
const THREAD_ROWS_MIN: u32 = 100_000;

/// Reads the ledger at `path` from end to end; `Ok` only when its pages, its tables, its totals
/// and every value in it agree. Takes as long as reading the file takes: pages and values are
/// looked at side by side.
pub(super) fn sound(path: &Path) -> Result<(), LedgerError> {
    let (pages, values) = side_by_side(
        || look(path, |conn, _| pages(conn)),
        || look_at_values(path),
    );
    // Where a page is damaged, its words say more than what was read from it.
    pages.and(values)
}

/// Looks at the values until nobody wrote meanwhile: several readings must be of one state. Whoever
/// writes has looked at all of it before, and keeps it sound.
fn look_at_values(path: &Path) -> Result<(), LedgerError> {
    let (watch, _) = schema::open_any_format(path)?;
    let version = || {
        let found = watch.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        found.map_err(|error| damage(Fault::from(error), path))
    };
    for _ in 0..LOOKS_MAX {
        let before = version()?;
        let found = look_at_one_state(path);
        if version()? == before {
            return found;
        }
    }
    Ok(())
}

fn look_at_one_state(path: &Path) -> Result<(), LedgerError> {
    let known = look(path, |conn, format| {
        schema::check_definitions(conn, format)?;
        // What an older format holds is for its migration to read.
        if format != schema::format_known() {
            return Ok(None);
        }
        let job = read_job(conn)?;
        check_plan(&image::specs(conn)?, job.rows)?;
        Ok(Some((Known::load(conn)?, rows_settled(conn)?)))
    })?;
    let Some((known, rows)) = known else {
        return Ok(());
    };
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (mine, others) = parts(&rows, u32::try_from(processors).unwrap_or(1));
    let counted = count(path, &known, &mine, &others)?;
    look(path, |conn, _| {
        commit::compare(conn, &known, counted)?;
        image::load(conn, &known)?;
        Ok(())
    })
}

/// Returns the first and the last row that has an outcome.
fn rows_settled(conn: &Connection) -> Result<RangeInclusive<u32>, Fault> {
    // Two questions: the library answers each from an end of the table, and both at once from all
    // of it.
    let row = |which: &str| -> Result<Option<u32>, Fault> {
        let sql = format!("SELECT {which}(row) FROM outcome");
        Ok(conn.query_row(&sql, [], |row| row.get(0))?)
    };
    Ok(row("min")?.unwrap_or(1)..=row("max")?.unwrap_or(0))
}

/// Counts the outcomes of the rows `mine` on this thread, and others beside it.
fn count(
    path: &Path,
    known: &Known,
    mine: &RangeInclusive<u32>,
    others: &[RangeInclusive<u32>],
) -> Result<Counted, LedgerError> {
    let count_mine = || look(path, |conn, _| commit::count(conn, known, mine.clone()));
    let Some((next, rest)) = others.split_first() else {
        return count_mine();
    };
    let (theirs, counted) = side_by_side(|| count(path, known, next, rest), count_mine);
    let mut counted = counted?;
    counted.add(&theirs?);
    Ok(counted)
}

/// Does `one` on a thread of its own, where there is one, and `other` on this one.
pub(super) fn side_by_side<A: Send, B>(
    one: impl Fn() -> A + Copy + Send,
    other: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, one);
        let other = other();
        let one = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_no_thread) => one(),
        };
        (one, other)
    })
}

/// Divides rows among processors, where there are enough: the first part, and the others.
fn parts(
    rows: &RangeInclusive<u32>,
    processors: u32,
) -> (RangeInclusive<u32>, Vec<RangeInclusive<u32>>) {
    let (first, last) = (*rows.start(), *rows.end());
    let all = last.saturating_sub(first).saturating_add(1);
    let parts = processors
        .min(THREADS_MAX)
        .min(all.div_ceil(THREAD_ROWS_MIN))
        .max(1);
    let size = all.div_ceil(parts).max(1);
    let part = |nth: u32| {
        let start = first.saturating_add(nth.saturating_mul(size));
        start..=start.saturating_add(size - 1).min(last)
    };
    (part(0), (1..parts).map(part).collect())
}

/// Looks at one state of the ledger, through a connection of its own.
fn look<T>(
    path: &Path,
    at: impl FnOnce(&Connection, i64) -> Result<T, Fault>,
) -> Result<T, LedgerError> {
    let (conn, format) = schema::open_any_format(path)?;
    let look = || -> Result<T, Fault> {
        let tx = conn.unchecked_transaction()?;
        let found = at(&tx, format)?;
        tx.commit()?;
        Ok(found)
    };
    look().map_err(|fault| damage(fault, path))
}

/// A rule that stored values break is no rule we are about to break: the file is damaged.
fn damage(fault: Fault, path: &Path) -> LedgerError {
    match fault {
        Fault::Invariant(_, detail) => Fault::Stored(detail).at(path),
        fault => fault.at(path),
    }
}

/// Lets the library look at every page, index entry and constraint.
fn pages(conn: &Connection) -> Result<(), Fault> {
    let first: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if first == "ok" {
        return Ok(());
    }
    // The library says on which page; the words fit on a line.
    let words = first.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Fault::Stored(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_part() {
        for (first, last) in [(1, 0), (1, 1), (7, 99_999), (1, 100_001), (5, 2_500_003)] {
            for processors in [1, 2, 3, 7, 64] {
                let (mine, mut parts) = parts(&(first..=last), processors);
                parts.insert(0, mine);
                assert_eq!(parts[0].start(), &first);
                assert_eq!(parts[parts.len() - 1].end(), &last);
                for pair in parts.windows(2) {
                    assert_eq!(*pair[0].end() + 1, *pair[1].start(), "{parts:?}");
                }
            }
        }
        assert_eq!(parts(&(1..=2_500_000), 3).1.len(), 2);
    }
}
