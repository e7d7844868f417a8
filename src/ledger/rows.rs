//! An outcome as a row of the tables, and back.

use super::codes::Code;
use super::error::Fault;
use crate::model::{
    MembershipOutcome, MembershipState, Origin, RowError, RowNumber, RowOutcome, RowState, Step,
    UserOutcome,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};

/// The columns of an outcome, the organization's id in place of its number.
pub(super) const OUTCOME: &str = "o.row, o.state, o.step, o.user_id, o.user_origin, g.id,
    o.membership, o.membership_id, o.membership_repeat, o.attempts, o.code, o.message,
    o.http_status, o.request_id
    FROM outcome AS o LEFT JOIN org_id AS g ON g.code = o.org";

/// The same without the organization, whose id is in a table of its own.
pub(super) const OUTCOME_ALONE: &str = "o.row, o.state, o.step, o.user_id, o.user_origin, NULL,
    o.membership, o.membership_id, o.membership_repeat, o.attempts, o.code, o.message,
    o.http_status, o.request_id
    FROM outcome AS o";

/// The columns of `outcome` as they are, in the order of the table.
pub(super) const OUTCOME_COLUMNS: &str = "row, state, step, user_id, user_origin, org, membership,
    membership_id, membership_repeat, attempts, code, message, http_status, request_id";

/// The statements that add an outcome unless the row has one.
pub(super) struct Insert<'a> {
    /// For rows that went well: nearly all, and every column that is not bound saves time.
    good: CachedStatement<'a>,
    any: CachedStatement<'a>,
}

impl<'a> Insert<'a> {
    pub(super) fn new(conn: &'a Connection) -> Result<Self, Fault> {
        Ok(Self {
            good: conn.prepare_cached(
                "INSERT INTO outcome (row, state, user_id, user_origin, org, membership,
                     membership_id, membership_repeat, attempts)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (row) DO NOTHING",
            )?,
            any: conn.prepare_cached(
                "INSERT INTO outcome
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                 ON CONFLICT (row) DO NOTHING",
            )?,
        })
    }

    /// Adds `outcome`, whose organization has the number `org`; returns whether it was new.
    pub(super) fn add(&mut self, outcome: &RowOutcome, org: Option<i64>) -> Result<bool, Fault> {
        let user = outcome.user.as_ref();
        let membership = outcome.membership.as_ref();
        let user_id = user.map(|user| user.id.as_str());
        let origin = user.map(|user| user.origin.code());
        let state = membership.map(|membership| membership.state.code());
        let membership_id = membership.and_then(|membership| membership.id.as_deref());
        let repeat = membership.map(|membership| membership.repeat);
        let added = match (&outcome.error, outcome.step) {
            (None, None) => self.good.execute((
                outcome.row.0,
                outcome.state.code(),
                user_id,
                origin,
                org,
                state,
                membership_id,
                repeat,
                outcome.attempts,
            ))?,
            (error, step) => self.any.execute((
                outcome.row.0,
                outcome.state.code(),
                step.map(Code::code),
                user_id,
                origin,
                org,
                state,
                membership_id,
                repeat,
                outcome.attempts,
                error.as_ref().map(|error| error.code.as_str()),
                error.as_ref().map(|error| error.message.as_str()),
                error.as_ref().and_then(|error| error.http_status),
                error.as_ref().and_then(|error| error.request_id.as_deref()),
            ))?,
        };
        Ok(added == 1)
    }
}

/// Reads the outcome of one row, if it has one.
pub(super) fn find(conn: &Connection, row: RowNumber) -> Result<Option<RowOutcome>, Fault> {
    let mut read = conn.prepare_cached(&format!("SELECT {OUTCOME} WHERE o.row = ?1"))?;
    read.query_row([row.0], |row| Ok(outcome(row)))
        .optional()?
        .transpose()
}

/// Reads a row of [`OUTCOME`].
pub(super) fn outcome(row: &Row<'_>) -> Result<RowOutcome, Fault> {
    let error = match row.get::<_, Option<String>>(10)? {
        None => None,
        Some(code) => Some(Box::new(RowError {
            code,
            message: row.get(11)?,
            http_status: row.get(12)?,
            request_id: row.get(13)?,
        })),
    };
    Ok(RowOutcome {
        row: RowNumber(row.get(0)?),
        state: RowState::of(row.get(1)?)?,
        step: row.get::<_, Option<i64>>(2)?.map(Step::of).transpose()?,
        user: user(row, 3)?,
        org_id: row.get(5)?,
        membership: membership(row, 6)?,
        attempts: row.get(9)?,
        error,
        unknown_role: None,
    })
}

/// Reads the state of a membership and, in the next columns, its id and whether it is a repeat.
pub(super) fn membership(row: &Row<'_>, at: usize) -> Result<Option<MembershipOutcome>, Fault> {
    Ok(match row.get::<_, Option<i64>>(at)? {
        None => None,
        Some(state) => Some(MembershipOutcome {
            state: MembershipState::of(state)?,
            id: row.get(at + 1)?,
            repeat: row.get(at + 2)?,
        }),
    })
}

/// Reads a user id and, in the next column, its origin.
pub(super) fn user(row: &Row<'_>, at: usize) -> Result<Option<UserOutcome>, Fault> {
    Ok(match row.get(at)? {
        None => None,
        Some(id) => Some(UserOutcome {
            id,
            origin: Origin::of(row.get(at + 1)?)?,
        }),
    })
}

/// A set of rows of one chunk as bytes: bit `n % 8` of byte `n / 8` is the chunk's row `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSet(pub(super) Vec<u8>);

impl RowSet {
    /// Makes the set of these positions within a chunk.
    pub(super) fn of(positions: impl Iterator<Item = u32>) -> Self {
        let mut bytes = Vec::new();
        for position in positions {
            let at = usize::try_from(position / 8).unwrap_or(usize::MAX);
            if bytes.len() <= at {
                bytes.resize(at + 1, 0_u8);
            }
            if let Some(byte) = bytes.get_mut(at) {
                *byte |= 1 << (position % 8);
            }
        }
        Self(bytes)
    }

    /// Returns whether the set holds this position.
    pub(super) fn has(&self, position: u32) -> bool {
        usize::try_from(position / 8)
            .ok()
            .and_then(|at| self.0.get(at))
            .is_some_and(|byte| byte & (1 << (position % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_row_set_holds_what_was_put_in(rows in proptest::collection::btree_set(0..1000_u32, 0..50)) {
            let set = RowSet::of(rows.iter().copied());
            let found: BTreeSet<u32> = (0..1100).filter(|row| set.has(*row)).collect();
            prop_assert_eq!(found, rows);
        }
    }
}
