//! Whether a ledger can be trusted, found out by reading only.
//!
//! # Owns
//! The look at every page and every value before a ledger is opened for writing.
//! # Never
//! Writes: the file of a ledger that is refused stays as it was, for `recover` and for people.

use super::commit::{self, Known};
use super::error::{Fault, LedgerError};
use super::image;
use super::schema;
use super::store::{check_plan, read_job};
use rusqlite::Connection;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// Reads the ledger at `path` from end to end; `Ok` only when its pages, its tables, its totals
/// and every value in it agree. Takes as long as reading the file takes: pages and values are
/// looked at side by side.
pub(super) fn sound(path: &Path) -> Result<(), LedgerError> {
    let (pages, values) = thread::scope(|scope| {
        let look = || look(path, |conn, _| pages(conn));
        let pages = thread::Builder::new().spawn_scoped(scope, look);
        let values = look_at_values(path);
        let pages = match pages {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_no_thread) => look(),
        };
        (pages, values)
    });
    // Where a page is damaged, its words say more than what was read from it.
    pages.and(values)
}

fn look_at_values(path: &Path) -> Result<(), LedgerError> {
    look(path, |conn, format| {
        schema::check_definitions(conn, format)?;
        // What an older format holds is for its migration to read.
        if format == schema::format_known() {
            contents(conn)?;
        }
        Ok(())
    })
}

/// Looks at one state of the ledger, through a connection of its own.
fn look(
    path: &Path,
    at: impl FnOnce(&Connection, i64) -> Result<(), Fault>,
) -> Result<(), LedgerError> {
    let (conn, format) = schema::open_any_format(path)?;
    let look = || -> Result<(), Fault> {
        let tx = conn.unchecked_transaction()?;
        at(&tx, format)?;
        Ok(tx.commit()?)
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

fn contents(conn: &Connection) -> Result<(), Fault> {
    let job = read_job(conn)?;
    check_plan(&image::specs(conn)?, job.rows)?;
    let known = Known::load(conn)?;
    commit::verify(conn, &known)?;
    image::load(conn, &known)?;
    Ok(())
}
