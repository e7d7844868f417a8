//! What went wrong and where rows went, grouped by the database: bounded answers at any size.

use super::codes::Code;
use super::error::Fault;
use crate::model::{RowNumber, RowState, Step};
use rusqlite::Connection;

/// Groups of problems that are told apart; a target's codes are words, so there are few.
const GROUPS_MAX: u32 = 100;

/// Rows named as examples of a group.
const EXAMPLES: u32 = 3;

/// Rows that went wrong in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `failed`, `parked` or `skipped`.
    pub state: RowState,
    /// Where it happened.
    pub step: Option<Step>,
    /// The stable code; empty when there is none.
    pub code: String,
    /// How many rows.
    pub rows: u64,
    /// The first of them, ascending.
    pub examples: Vec<Example>,
}

/// One of the rows of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Which row.
    pub row: RowNumber,
    /// One sentence, cleaned.
    pub message: String,
    /// The deciding status of the target.
    pub http_status: Option<u16>,
    /// The target's id of the request.
    pub request_id: Option<String>,
}

/// Settled rows of one organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrgRows {
    /// The target's id.
    pub id: String,
    /// The external id it is known by in the file.
    pub key: Option<String>,
    /// Settled rows.
    pub rows: u64,
    /// Failed or parked rows among them.
    pub problems: u64,
}

/// Where settled rows went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Organizations {
    /// Those with the most rows, most first.
    pub top: Vec<OrgRows>,
    /// How many others there are.
    pub others: u64,
    /// Settled rows of those others.
    pub others_rows: u64,
    /// Rows that were settled well and ask for none.
    pub without: u64,
    /// Rows that failed, were parked or were skipped before they reached one: whether they name
    /// one, only the file knows.
    pub unreached: u64,
    /// Failed or parked rows among them.
    pub unreached_problems: u64,
}

/// Groups skipped, failed and parked rows, the largest group first.
pub(super) fn read(conn: &Connection) -> Result<Vec<Problem>, Fault> {
    let mut groups = conn.prepare_cached(
        "SELECT state, step, code, count(*), min(row) FROM outcome WHERE state IN (6, 7, 8)
         GROUP BY state, step, code ORDER BY count(*) DESC, min(row) LIMIT ?1",
    )?;
    let mut found = groups.query([GROUPS_MAX])?;
    let mut problems = Vec::new();
    while let Some(group) = found.next()? {
        let (state, step, code): (i64, Option<i64>, Option<String>) =
            (group.get(0)?, group.get(1)?, group.get(2)?);
        let examples = examples(conn, (state, step, code.as_deref()), group.get(4)?)?;
        problems.push(Problem {
            state: RowState::of(state)?,
            step: step.map(Step::of).transpose()?,
            code: code.unwrap_or_default(),
            rows: group.get::<_, i64>(3)?.cast_unsigned(),
            examples,
        });
    }
    Ok(problems)
}

fn examples(
    conn: &Connection,
    (state, step, code): (i64, Option<i64>, Option<&str>),
    first: u32,
) -> Result<Vec<Example>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT row, message, http_status, request_id FROM outcome
         WHERE row >= ?4 AND state = ?1 AND step IS ?2 AND code IS ?3 ORDER BY row LIMIT ?5",
    )?;
    let rows = read.query_map((state, step, code, first, EXAMPLES), |row| {
        Ok(Example {
            row: RowNumber(row.get(0)?),
            message: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
            http_status: row.get(2)?,
            request_id: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Counts settled rows per organization; names the `top` largest.
pub(super) fn organizations(conn: &Connection, top: u32) -> Result<Organizations, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT g.id, (SELECT key FROM org WHERE org.id = g.id AND kind <> 0 LIMIT 1), n, bad
         FROM (SELECT org, count(*) AS n, sum(state IN (7, 8)) AS bad FROM outcome
               WHERE org IS NOT NULL GROUP BY org ORDER BY n DESC, org LIMIT ?1) AS o
         JOIN org_id AS g ON g.code = o.org ORDER BY n DESC, g.id",
    )?;
    let rows = read.query_map([top], |row| {
        Ok(OrgRows {
            id: row.get(0)?,
            key: row.get(1)?,
            rows: row.get::<_, i64>(2)?.cast_unsigned(),
            problems: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    })?;
    let top: Vec<OrgRows> = rows.collect::<Result<_, _>>()?;
    let (with, orgs, none, unreached, problems): (i64, i64, i64, i64, i64) = conn.query_row(
        "SELECT count(org), count(DISTINCT org), count(*) FILTER (WHERE org IS NULL),
                count(*) FILTER (WHERE org IS NULL AND state IN (6, 7, 8)),
                count(*) FILTER (WHERE org IS NULL AND state IN (7, 8)) FROM outcome",
        [],
        |row| {
            let column = |at: usize| row.get(at);
            Ok((column(0)?, column(1)?, column(2)?, column(3)?, column(4)?))
        },
    )?;
    let named: u64 = top.iter().map(|org| org.rows).sum();
    Ok(Organizations {
        others: orgs.cast_unsigned().saturating_sub(top.len() as u64),
        others_rows: with.cast_unsigned().saturating_sub(named),
        without: none.saturating_sub(unreached).cast_unsigned(),
        unreached: unreached.cast_unsigned(),
        unreached_problems: problems.cast_unsigned(),
        top,
    })
}
