//! The job's totals: counted with every change, in its transaction, and checkable against rows.

use super::codes::Code;
use super::error::Fault;
use crate::model::{MembershipState, MembershipTally, OrgTally, RowOutcome, RowState, RowTally};
use rusqlite::Connection;

/// Everything that is counted over a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows by state.
    pub rows: RowTally,
    /// Memberships by state.
    pub memberships: MembershipTally,
    /// Organizations by state.
    pub organizations: OrgTally,
}

impl Totals {
    pub(super) fn of_rows(total: u32) -> Self {
        Self {
            rows: RowTally::of(u64::from(total)),
            ..Self::default()
        }
    }

    /// Counts an outcome.
    pub(super) fn settle(&mut self, outcome: &RowOutcome) {
        self.rows.settle(outcome.state);
        if let Some(membership) = &outcome.membership {
            self.memberships.count(membership);
        }
    }

    /// Adds what was counted of other rows of the same file.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, n) in other.named() {
            if let Some(count) = self.by_name(name) {
                *count += n;
            }
        }
        let rows = &mut self.rows;
        rows.pending = rows.total.saturating_sub(rows.settled());
    }

    /// Takes back every row that matches `condition` over `outcome`, before it is removed.
    pub(super) fn reopen(&mut self, conn: &Connection, condition: &str) -> Result<(), Fault> {
        let counts = count_groups(conn, &format!("WHERE {condition}"))?;
        for (state, n) in counts.rows {
            let count = self.rows.count_mut(state);
            *count = count.saturating_sub(n);
            self.rows.pending += n;
        }
        for (state, n) in counts.memberships {
            let count = membership_count(&mut self.memberships, state);
            *count = count.saturating_sub(n);
        }
        Ok(())
    }

    /// The stored counters: stable names, and what is stored under them. `pending` is not: it is
    /// the file's rows less all others.
    fn named(&self) -> [(&'static str, u64); 16] {
        let Self {
            rows,
            memberships,
            organizations,
        } = self;
        [
            ("rows.created", rows.created),
            ("rows.recovered", rows.recovered),
            ("rows.linked", rows.linked),
            ("rows.updated", rows.updated),
            ("rows.merged", rows.merged),
            ("rows.skipped", rows.skipped),
            ("rows.failed", rows.failed),
            ("rows.parked", rows.parked),
            ("memberships.created", memberships.created),
            ("memberships.recovered", memberships.recovered),
            ("memberships.existing", memberships.existing),
            ("memberships.reactivated", memberships.reactivated),
            ("memberships.failed", memberships.failed),
            ("organizations.created", organizations.created),
            ("organizations.found", organizations.found),
            ("organizations.failed", organizations.failed),
        ]
    }

    fn by_name(&mut self, name: &str) -> Option<&mut u64> {
        let Self {
            rows,
            memberships,
            organizations,
        } = self;
        let (family, word) = name.split_once('.')?;
        Some(match (family, word) {
            ("rows", word) => rows.count_mut(RowState::from_word(word)?),
            ("memberships", word) => {
                membership_count(memberships, MembershipState::from_word(word)?)
            }
            ("organizations", "created") => &mut organizations.created,
            ("organizations", "found") => &mut organizations.found,
            ("organizations", "failed") => &mut organizations.failed,
            _ => return None,
        })
    }

    /// Writes the counters that differ from `before`; every one of a new ledger.
    pub(super) fn store(&self, conn: &Connection, before: Option<&Self>) -> Result<(), Fault> {
        if !self.rows.balances() {
            return Err(Fault::Invariant(
                "I14",
                format!("the states do not add up: {self:?}"),
            ));
        }
        let old = before.map(Self::named);
        let mut write = conn.prepare_cached("INSERT OR REPLACE INTO tally VALUES (?1, ?2)")?;
        for (at, (name, n)) in self.named().into_iter().enumerate() {
            if old.and_then(|old| old.get(at).copied()) != Some((name, n)) {
                write.execute((name, i64::try_from(n).unwrap_or(i64::MAX)))?;
            }
        }
        Ok(())
    }

    /// Reads the stored counters of a job of `total` rows.
    pub(super) fn load(conn: &Connection, total: u32) -> Result<Self, Fault> {
        let mut totals = Self {
            rows: RowTally::default(),
            ..Self::default()
        };
        let mut read = conn.prepare_cached("SELECT name, n FROM tally")?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let (name, n): (String, i64) = (row.get(0)?, row.get(1)?);
            let count = totals.by_name(&name);
            *count.ok_or_else(|| Fault::Stored(format!("`{name}` is no counter")))? = natural(n)?;
        }
        totals.rows.total = u64::from(total);
        let pending = totals.rows.total.checked_sub(totals.rows.settled());
        totals.rows.pending = pending.ok_or_else(|| {
            Fault::Stored(format!(
                "more rows are counted as settled than the file has ({total})"
            ))
        })?;
        Ok(totals)
    }

    /// Counts the organizations anew.
    pub(super) fn organizations_in(conn: &Connection) -> Result<OrgTally, Fault> {
        let orgs = "SELECT sum(id IS NOT NULL AND origin <> 0), sum(id IS NOT NULL AND origin = 0),
                           sum(code IS NOT NULL) FROM org";
        let [created, found, failed] = conn.query_row(orgs, [], |row| {
            let n = |at| row.get::<_, Option<i64>>(at).map(Option::unwrap_or_default);
            Ok([n(0)?, n(1)?, n(2)?])
        })?;
        Ok(OrgTally {
            created: natural(created)?,
            found: natural(found)?,
            failed: natural(failed)?,
        })
    }
}

fn membership_count(tally: &mut MembershipTally, state: MembershipState) -> &mut u64 {
    match state {
        MembershipState::Created => &mut tally.created,
        MembershipState::Recovered => &mut tally.recovered,
        MembershipState::Existing => &mut tally.existing,
        MembershipState::Reactivated => &mut tally.reactivated,
        MembershipState::Failed => &mut tally.failed,
    }
}

/// Rows and memberships by state.
struct Counts {
    rows: Vec<(RowState, u64)>,
    memberships: Vec<(MembershipState, u64)>,
}

/// Counts outcomes in groups; `filter` is a `WHERE` clause of ours or empty.
fn count_groups(conn: &Connection, filter: &str) -> Result<Counts, Fault> {
    let sql = format!(
        "SELECT state, CASE membership_repeat WHEN 0 THEN membership END, count(*)
         FROM outcome {filter} GROUP BY 1, 2"
    );
    let mut counts = Counts {
        rows: Vec::new(),
        memberships: Vec::new(),
    };
    let mut read = conn.prepare(&sql)?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let n = natural(row.get(2)?)?;
        counts.rows.push((RowState::of(row.get(0)?)?, n));
        if let Some(state) = row.get::<_, Option<i64>>(1)? {
            counts.memberships.push((MembershipState::of(state)?, n));
        }
    }
    Ok(counts)
}

fn natural(n: i64) -> Result<u64, Fault> {
    u64::try_from(n).map_err(|_| Fault::Stored(format!("a count is {n}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_name_finds_its_counter() {
        let mut totals = Totals::default();
        for (n, (name, _)) in (1..).zip(Totals::default().named()) {
            *totals.by_name(name).unwrap() = n;
        }
        let values: Vec<u64> = totals.named().iter().map(|(_, n)| *n).collect();
        assert_eq!(values, (1..=16).collect::<Vec<u64>>());
        assert!(totals.by_name("rows.pending").is_none());
        assert!(totals.by_name("rows").is_none());
    }
}
