//! Of which rows of a dry run there may be something to tell.
//!
//! # Owns
//! Two bits a row: whether a worker held it against the rules, and whether it found something.
//! # Never
//! Keeps what was found: whoever makes the plan reads those rows again, in the order of the file.

use crate::model::RowNumber;
use crate::protocol::FromWorker;

/// What workers said of rows.
#[derive(Clone, Debug, Default)]
pub struct Noticed {
    judged: Rows,
    remarkable: Rows,
}

impl Noticed {
    /// Makes it for rows up to `last`; what is said of higher ones need not be kept.
    pub(super) fn up_to(last: u64) -> Self {
        Self {
            judged: Rows::up_to(last),
            remarkable: Rows::up_to(last),
        }
    }

    /// Takes what a worker says. It speaks of what it noticed before it says what became of a row.
    pub(super) fn on_said(&mut self, message: &FromWorker) {
        match message {
            FromWorker::Noticed(rows) => rows.iter().for_each(|row| self.remarkable.add(*row)),
            FromWorker::Outcomes(outcomes) => {
                let rows = outcomes.iter().map(|(_, outcome)| outcome.row);
                rows.for_each(|row| self.judged.add(row));
            }
            _ => {}
        }
    }

    /// Returns whether there may be something to tell of a row: no worker reported on it, or one
    /// found something.
    pub fn may_tell(&self, row: RowNumber) -> bool {
        !self.judged.has(row) || self.remarkable.has(row)
    }
}

/// A set of rows, a bit each.
#[derive(Clone, Debug, Default)]
struct Rows(Vec<u64>);

impl Rows {
    fn up_to(last: u64) -> Self {
        let words = usize::try_from(last / u64::from(u64::BITS) + 1);
        Self(vec![0; words.unwrap_or_default()])
    }

    fn place(row: RowNumber) -> (usize, u64) {
        let word = usize::try_from(row.0 / u64::BITS).unwrap_or(usize::MAX);
        (word, 1 << (row.0 % u64::BITS))
    }

    fn add(&mut self, row: RowNumber) {
        let (word, bit) = Self::place(row);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn has(&self, row: RowNumber) -> bool {
        let (word, bit) = Self::place(row);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaseId, RowError, RowOutcome, Step};

    fn outcomes(rows: &[u32]) -> FromWorker {
        let outcome = |row: &u32| {
            let error = RowError::local("x", "y");
            let outcome = RowOutcome::failed(RowNumber(*row), Step::Validation, error);
            (LeaseId(1), outcome)
        };
        FromWorker::Outcomes(rows.iter().map(outcome).collect())
    }

    #[test]
    fn rows_nobody_reported_on_may_tell_something_and_so_may_those_noticed() {
        let mut noticed = Noticed::up_to(200);
        noticed.on_said(&FromWorker::Noticed(vec![RowNumber(2), RowNumber(64)]));
        noticed.on_said(&outcomes(&[1, 2, 64, 128, 200]));
        noticed.on_said(&FromWorker::Credit);
        let quiet = (1..=200).filter(|row| !noticed.may_tell(RowNumber(*row)));
        assert_eq!(quiet.collect::<Vec<_>>(), [1, 128, 200]);
    }

    #[test]
    fn rows_beyond_the_last_always_may() {
        let mut noticed = Noticed::up_to(10);
        noticed.on_said(&outcomes(&[4_000_000_000]));
        assert!(noticed.may_tell(RowNumber(4_000_000_000)));
        assert!(Noticed::default().may_tell(RowNumber(1)));
    }
}
