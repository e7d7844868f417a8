//! `retry`: failed and parked rows become pending again, and everything still adds up.

use super::codes::Code as _;
use super::commit::Known;
use super::error::Fault;
use super::image;
use super::rows::OUTCOME_COLUMNS;
use super::store::CONFLICT_IN_FILE;
use crate::model::{RowNumber, RowState, Step};
use rusqlite::Transaction;

/// What a retry opened again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reopened {
    /// Rows that had failed.
    pub failed: u64,
    /// Rows that were parked.
    pub parked: u64,
    /// Those of them that the file decides: they failed a local rule, before any request.
    pub by_file: u64,
    /// The generation that is open now: the old one when nothing was to open.
    pub generation: u32,
}

/// Which failed and parked rows are meant; what is empty does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPick {
    /// In this state only.
    pub state: Option<RowState>,
    /// With one of these codes.
    pub codes: Vec<String>,
    /// One of these rows.
    pub rows: Vec<RowNumber>,
}

impl RetryPick {
    /// Returns whether every failed and parked row is meant.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The rows to open, as a condition over `outcome`: failed (7) and parked (8), except those
    /// that the file itself decides (it cannot change, and a request for them would be wrong).
    fn condition(&self) -> String {
        let mut all = vec![
            "state IN (7, 8)".to_owned(),
            format!("code IS NOT '{CONFLICT_IN_FILE}'"),
        ];
        all.extend(self.state.map(|state| format!("state = {}", state.code())));
        if !self.codes.is_empty() {
            let quoted = |code: &String| format!("'{}'", code.replace('\'', "''"));
            let codes: Vec<String> = self.codes.iter().map(quoted).collect();
            all.push(format!("code IN ({})", codes.join(", ")));
        }
        if !self.rows.is_empty() {
            let rows: Vec<String> = self.rows.iter().map(ToString::to_string).collect();
            all.push(format!("row IN ({})", rows.join(", ")));
        }
        all.join(" AND ")
    }
}

pub(super) fn retry(
    tx: &Transaction<'_>,
    known: &mut Known,
    pick: &RetryPick,
) -> Result<Reopened, Fault> {
    let open = pick.condition();
    let before = known.totals;
    let (failed, parked, by_file): (Option<i64>, Option<i64>, Option<i64>) = tx.query_row(
        &format!(
            "SELECT sum(state = 7), sum(state = 8), sum(step IS {}) FROM outcome WHERE {open}",
            Step::Validation.code()
        ),
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let count = |n: Option<i64>| n.unwrap_or_default().cast_unsigned();
    let mut reopened = Reopened {
        failed: count(failed),
        parked: count(parked),
        by_file: count(by_file),
        generation: known.generation,
    };
    if reopened.failed + reopened.parked == 0 {
        return Ok(reopened);
    }
    keep_suspects(tx, known)?;
    carry_over(tx, &open)?;
    known.totals.reopen(tx, &open)?;
    set_aside(tx, known.generation, &open)?;
    known.generation += 1;
    reopened.generation = known.generation;
    tx.execute("UPDATE job SET generation = ?1", [known.generation])?;
    known.totals.store(tx, Some(&before))?;
    Ok(reopened)
}

/// Leases of the old generation make nothing suspect any more: rows that are suspect now, leased
/// and never settled, have to be remembered by name.
fn keep_suspects(tx: &Transaction<'_>, known: &Known) -> Result<(), Fault> {
    let mut remember = tx.prepare(
        "INSERT INTO carry (row, suspect) VALUES (?1, 1) ON CONFLICT DO UPDATE SET suspect = 1",
    )?;
    for row in image::all_suspects(tx, known)? {
        remember.execute([row.0])?;
    }
    Ok(())
}

/// The user a row has stays its user, with its origin; one that an earlier generation knew too.
/// `wrong_echo` is the exception: the id it holds is somebody else's.
fn carry_over(tx: &Transaction<'_>, open: &str) -> Result<(), Fault> {
    tx.execute(
        &format!(
            "INSERT INTO carry (row, user_id, user_origin, suspect)
             SELECT row, iif(code IS 'wrong_echo', NULL, user_id),
                    iif(code IS 'wrong_echo', NULL, user_origin), state = 8
             FROM outcome WHERE {open}
             ON CONFLICT DO UPDATE SET
                 user_origin = iif(excluded.user_id IS NULL, user_origin, excluded.user_origin),
                 user_id = coalesce(excluded.user_id, user_id),
                 suspect = excluded.suspect"
        ),
        [],
    )?;
    Ok(())
}

fn set_aside(tx: &Transaction<'_>, generation: u32, open: &str) -> Result<(), Fault> {
    tx.execute(
        &format!(
            "INSERT INTO outcome_history (generation, {OUTCOME_COLUMNS})
             SELECT ?1, {OUTCOME_COLUMNS} FROM outcome WHERE {open}"
        ),
        [generation],
    )?;
    tx.execute(&format!("DELETE FROM outcome WHERE {open}"), [])?;
    tx.execute(
        "UPDATE chunk SET settled = (SELECT count(*) FROM outcome AS o
             WHERE o.row >= first_row AND o.row < first_row + chunk.rows)
         WHERE settled > 0",
        [],
    )?;
    Ok(())
}
