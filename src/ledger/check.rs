//! Whether a ledger can be trusted, found out by reading only.
//!
//! # Owns
//! The look at every page and every value before a ledger is opened for writing.
//! # Never
//! Writes: the file of a ledger that is refused stays as it was, for `recover` and for people.

use super::commit::{self, Known};
use super::error::{Fault, LedgerError};
use super::image;
use super::rows::{self, OUTCOME};
use super::schema;
use super::store::{check_plan, read_job};
use rusqlite::Connection;
use std::path::Path;

/// Reads the ledger at `path` from end to end; `Ok` only when its pages, its tables, its totals
/// and every value in it agree. Takes as long as reading the file takes.
pub(super) fn sound(path: &Path) -> Result<(), LedgerError> {
    let (conn, format) = schema::open_any_format(path)?;
    let look = || -> Result<(), Fault> {
        let tx = conn.unchecked_transaction()?;
        pages(&tx)?;
        schema::check_definitions(&tx, format)?;
        // What an older format holds is for its migration to read.
        if format == schema::format_known() {
            contents(&tx)?;
        }
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
    outcomes(conn, job.rows)?;
    image::load(conn, &known)?;
    Ok(())
}

/// Reads every outcome as `results` would.
fn outcomes(conn: &Connection, rows: u32) -> Result<(), Fault> {
    let mut read = conn.prepare(&format!("SELECT {OUTCOME}"))?;
    let mut found = read.query([])?;
    while let Some(row) = found.next()? {
        let row = rows::outcome(row)?.row;
        if !(1..=rows).contains(&row.0) {
            return Err(Fault::Stored(format!(
                "row {row} has an outcome, and the file has {rows} rows"
            )));
        }
    }
    Ok(())
}
