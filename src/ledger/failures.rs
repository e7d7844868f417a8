//! Why rows failed: failed and parked rows, counted by code, with one example each.

use super::codes::Code;
use super::error::Fault;
use crate::model::{Origin, RowNumber, RowState, Step};
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;

/// Codes that get a group of their own. The target chooses its codes, so they are not trusted to
/// be few: what comes later is counted under [`OTHER`].
const GROUPS_MAX: usize = 200;

/// The group of codes beyond [`GROUPS_MAX`].
const OTHER: &str = "other";

/// Failed and parked rows with one code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureGroup {
    /// The stable code: one of ours, or the target's.
    pub code: String,
    /// How many rows failed.
    pub failed: u64,
    /// How many rows are parked.
    pub parked: u64,
    /// The step of the example.
    pub step: Option<Step>,
    /// The lowest row: the example.
    pub row: RowNumber,
    /// What was said about it. Holds no personal data.
    pub message: String,
}

impl FailureGroup {
    /// Returns how many rows it stands for.
    pub fn rows(&self) -> u64 {
        self.failed + self.parked
    }
}

/// Counts every failed and parked row: the largest group first, equal ones by code. The rows are
/// read as a stream; memory grows with the codes, which are few.
pub(super) fn groups(conn: &Connection) -> Result<Vec<FailureGroup>, Fault> {
    let mut read = conn.prepare_cached(
        "SELECT row, state, step, code, message FROM outcome WHERE state IN (?1, ?2) ORDER BY row",
    )?;
    let states = [RowState::Failed.code(), RowState::Parked.code()];
    let mut rows = read.query(states)?;
    let mut groups: BTreeMap<String, FailureGroup> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let code = row.get_ref(3)?.as_str_or_null().unwrap_or_default();
        let mut code = code.unwrap_or(OTHER);
        if groups.len() >= GROUPS_MAX && !groups.contains_key(code) {
            code = OTHER;
        }
        let group = match groups.get_mut(code) {
            Some(group) => group,
            None => groups.entry(code.to_owned()).or_insert(example(code, row)?),
        };
        match RowState::of(row.get(1)?)? {
            RowState::Parked => group.parked += 1,
            _ => group.failed += 1,
        }
    }
    let mut groups: Vec<FailureGroup> = groups.into_values().collect();
    groups.sort_by(|a, b| b.rows().cmp(&a.rows()).then_with(|| a.code.cmp(&b.code)));
    Ok(groups)
}

/// Counts the users that this job made for rows that failed or are parked, and that no row which
/// went well stands for: they stay. Rows of one user share a leader, so only those are compared.
pub(super) fn users_left(conn: &Connection) -> Result<u64, Fault> {
    let sql = "SELECT COUNT(DISTINCT bad.user_id)
         FROM outcome bad LEFT JOIN follower f ON f.row = bad.row
         WHERE bad.state IN (?1, ?2) AND bad.user_id IS NOT NULL AND bad.user_origin <> ?3
         AND NOT EXISTS (
             SELECT 1 FROM outcome good WHERE good.row = COALESCE(f.leader, bad.row)
             AND good.state IN (?4, ?5) AND good.user_id = bad.user_id)
         AND NOT EXISTS (
             SELECT 1 FROM follower g JOIN outcome good ON good.row = g.row
             WHERE g.leader = COALESCE(f.leader, bad.row)
             AND good.state IN (?4, ?5) AND good.user_id = bad.user_id)";
    let codes = [
        RowState::Failed.code(),
        RowState::Parked.code(),
        Origin::Before.code(),
        RowState::Created.code(),
        RowState::Recovered.code(),
    ];
    let count: i64 = conn.query_row(sql, codes, |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// A group without rows yet, the row its example.
fn example(code: &str, row: &Row<'_>) -> Result<FailureGroup, Fault> {
    Ok(FailureGroup {
        code: code.to_owned(),
        failed: 0,
        parked: 0,
        step: row.get::<_, Option<i64>>(2)?.map(Step::of).transpose()?,
        row: RowNumber(row.get(0)?),
        message: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(u32, RowState, Option<&str>)]) -> Connection {
        let folder = tempfile::tempdir().unwrap();
        // The file is unlinked with its folder, and stays open as long as the connection.
        let conn = super::super::schema::create(&folder.path().join("ledger")).unwrap();
        for (row, state, code) in rows {
            conn.execute(
                "INSERT INTO outcome (row, state, step, attempts, code, message)
                 VALUES (?1, ?2, 1, 0, ?3, 'row ' || ?1)",
                (row, state.code(), code),
            )
            .unwrap();
        }
        conn
    }

    #[test]
    fn groups_add_up_and_their_example_is_the_lowest_row() {
        let found = groups(&table(&[
            (1, RowState::Created, None),
            (2, RowState::Failed, Some("b")),
            (3, RowState::Failed, Some("a")),
            (4, RowState::Parked, Some("a")),
            (5, RowState::Failed, None),
            (6, RowState::Skipped, Some("user_exists")),
        ]))
        .unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|group| (group.code.as_str(), group.failed, group.parked, group.row.0))
            .collect();
        assert_eq!(shown, [("a", 1, 1, 3), ("b", 1, 0, 2), ("other", 1, 0, 5)]);
        assert_eq!(found[0].message, "row 3");
        assert_eq!(found[0].step, Some(Step::Validation));
    }

    #[test]
    fn users_left_are_those_that_only_rows_that_failed_stand_for() {
        let conn = table(&[
            (1, RowState::Failed, Some("invalid_role")),
            (2, RowState::Failed, Some("invalid_role")),
            (3, RowState::Created, None),
            (4, RowState::Failed, Some("invalid_role")),
            (5, RowState::Failed, Some("invalid_role")),
            (6, RowState::Parked, Some("server_error")),
            (7, RowState::Failed, Some("invalid_email")),
        ]);
        let made = Origin::Made(crate::model::Evidence::Answered).code();
        // Rows 1 and 2 are one person; row 4 follows row 3, whose user is counted as created.
        for (row, user, origin) in [
            (1, "u1", made),
            (2, "u1", made),
            (3, "u3", made),
            (4, "u3", made),
            (5, "u5", Origin::Before.code()),
            (6, "u6", made),
        ] {
            conn.execute(
                "UPDATE outcome SET user_id = ?2, user_origin = ?3 WHERE row = ?1",
                (row, user, origin),
            )
            .unwrap();
        }
        for (row, leader) in [(2, 1), (4, 3)] {
            conn.execute(
                "INSERT INTO follower (row, leader) VALUES (?1, ?2)",
                (row, leader),
            )
            .unwrap();
        }
        assert_eq!(users_left(&conn).unwrap(), 2);
    }

    #[test]
    fn codes_without_end_share_a_group() {
        let codes: Vec<String> = (0..300).map(|n| format!("c{n:03}")).collect();
        let rows: Vec<_> = (1..)
            .zip(&codes)
            .map(|(row, code)| (row, RowState::Failed, Some(code.as_str())))
            .collect();
        let found = groups(&table(&rows)).unwrap();
        assert_eq!(found.len(), GROUPS_MAX + 1);
        assert_eq!((found[0].code.as_str(), found[0].failed), (OTHER, 100));
        assert_eq!(found.iter().map(FailureGroup::rows).sum::<u64>(), 300);
    }
}
