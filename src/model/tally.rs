//! Counters of the summary: plain sums, the same words in the ledger, the summary and `status`.

use super::{MembershipOutcome, MembershipState, RowState};
use serde::{Deserialize, Serialize};

/// Rows by state. `total` is the file's; `pending` is what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowTally {
    /// Rows of the file.
    pub total: u64,
    /// See [`RowState::Created`].
    pub created: u64,
    /// See [`RowState::Recovered`].
    pub recovered: u64,
    /// See [`RowState::Linked`].
    pub linked: u64,
    /// See [`RowState::Updated`].
    pub updated: u64,
    /// See [`RowState::Merged`].
    pub merged: u64,
    /// See [`RowState::Skipped`].
    pub skipped: u64,
    /// See [`RowState::Failed`].
    pub failed: u64,
    /// See [`RowState::Parked`].
    pub parked: u64,
    /// Rows without an outcome, leased ones included.
    pub pending: u64,
}

impl RowTally {
    /// Makes the tally of a file of which no row is settled.
    pub fn of(total: u64) -> Self {
        Self {
            total,
            pending: total,
            ..Self::default()
        }
    }

    /// Returns the counter of `state`.
    pub fn count_mut(&mut self, state: RowState) -> &mut u64 {
        match state {
            RowState::Created => &mut self.created,
            RowState::Recovered => &mut self.recovered,
            RowState::Linked => &mut self.linked,
            RowState::Updated => &mut self.updated,
            RowState::Merged => &mut self.merged,
            RowState::Skipped => &mut self.skipped,
            RowState::Failed => &mut self.failed,
            RowState::Parked => &mut self.parked,
        }
    }

    /// Moves one row from pending to `state`.
    pub fn settle(&mut self, state: RowState) {
        *self.count_mut(state) += 1;
        self.pending = self.pending.saturating_sub(1);
    }

    /// Returns how many rows have an outcome.
    pub fn settled(&self) -> u64 {
        self.created
            + self.recovered
            + self.linked
            + self.updated
            + self.merged
            + self.skipped
            + self.failed
            + self.parked
    }

    /// Returns whether every row of the file is in exactly one state (invariant I14).
    pub fn balances(&self) -> bool {
        self.settled() + self.pending == self.total
    }

    /// Returns whether some row failed or was parked.
    pub fn has_problems(&self) -> bool {
        self.failed > 0 || self.parked > 0
    }
}

/// Memberships by what became of them, each membership counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipTally {
    /// Made by this job.
    pub created: u64,
    /// Made by this job, its answer lost.
    pub recovered: u64,
    /// There before, active.
    pub existing: u64,
    /// There before, inactive, re-activated by this job.
    pub reactivated: u64,
    /// Refused.
    pub failed: u64,
}

impl MembershipTally {
    /// Counts one row's membership, unless a lower row already stands for it.
    pub fn count(&mut self, membership: &MembershipOutcome) {
        if membership.repeat {
            return;
        }
        match membership.state {
            MembershipState::Created => self.created += 1,
            MembershipState::Recovered => self.recovered += 1,
            MembershipState::Existing => self.existing += 1,
            MembershipState::Reactivated => self.reactivated += 1,
            MembershipState::Failed => self.failed += 1,
        }
    }
}

/// Organizations by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgTally {
    /// Made by this job.
    pub created: u64,
    /// There before.
    pub found: u64,
    /// Missing and not to be created, or refused.
    pub failed: u64,
}

/// What one run set on users it made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishTally {
    /// Locales.
    pub locales: u64,
    /// Second factors.
    pub factors: u64,
}

impl FinishTally {
    /// Adds another tally to this one.
    pub const fn add(&mut self, other: &Self) {
        self.locales += other.locales;
        self.factors += other.factors;
    }
}

/// Requests of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestTally {
    /// All of them.
    pub total: u64,
    /// Those that are not a GET.
    pub writes: u64,
    /// GETs.
    pub reads: u64,
    /// Answered 429.
    pub throttled: u64,
    /// Sent again after an answer that settled nothing.
    pub retried: u64,
    /// Without an answer that says whether they were applied.
    pub ambiguous: u64,
}

impl RequestTally {
    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.writes += other.writes;
        self.reads += other.reads;
        self.throttled += other.throttled;
        self.retried += other.retried;
        self.ambiguous += other.ambiguous;
    }
}

/// What the workers' organization caches did in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgCacheTally {
    /// Answered by a worker's own cache.
    pub hits: u64,
    /// Asked of the coordinator.
    pub misses: u64,
    /// Entries a worker got from the coordinator's merged cache.
    pub merged: u64,
    /// Entries a full cache dropped.
    pub evicted: u64,
}

impl OrgCacheTally {
    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.merged += other.merged;
        self.evicted += other.evicted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_settled_row_leaves_pending_and_the_sum_stays() {
        let count = u64::try_from(RowState::ALL.len()).unwrap();
        let mut tally = RowTally::of(count);
        for state in RowState::ALL {
            tally.settle(*state);
            assert!(tally.balances());
        }
        assert_eq!((tally.pending, tally.settled()), (0, count));
    }
}
