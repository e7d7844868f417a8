//! Stops a run in which too much goes wrong, before the rest of the file goes the same way.

use crate::coordinator::config::{EndReason, FailureLimit, FailureStop};
use crate::model::{RowOutcome, RowState};
use std::collections::BTreeMap;

/// Causes that are told apart: more would help nobody, and the map stays bounded.
const CAUSES_MAX: usize = 100;

/// Counts what this run settles, and says when it is too bad to go on.
#[derive(Debug)]
pub(super) struct Valve {
    limit: Option<FailureLimit>,
    settled: u64,
    bad: u64,
    causes: BTreeMap<String, u64>,
}

impl Valve {
    pub(super) const fn new(limit: Option<FailureLimit>) -> Self {
        Self {
            limit,
            settled: 0,
            bad: 0,
            causes: BTreeMap::new(),
        }
    }

    /// Counts a committed outcome.
    pub(super) fn count(&mut self, outcome: &RowOutcome) {
        self.settled += 1;
        if !matches!(outcome.state, RowState::Failed | RowState::Parked) {
            return;
        }
        self.bad += 1;
        let code = outcome.error.as_ref().map_or("", |error| &error.code);
        if let Some(n) = self.causes.get_mut(code) {
            *n += 1;
        } else if self.causes.len() < CAUSES_MAX {
            self.causes.insert(code.to_owned(), 1);
        }
    }

    /// Returns why the run has to stop, if it has to. `under_way` rows are given out and have no
    /// outcome yet: bad rows fail at once while good ones wait for the rate limit, so that a share
    /// of the settled ones alone would be one of a biased sample.
    pub(super) fn verdict(&self, under_way: u64) -> Option<EndReason> {
        let limit = self.limit?;
        if !limit.is_exceeded(self.bad, self.settled, under_way) {
            return None;
        }
        let causes = self.causes.iter().map(|(code, n)| (code.clone(), *n));
        let mut causes: Vec<(String, u64)> = causes.collect();
        causes.sort_by(|(_, a), (_, b)| b.cmp(a));
        Some(EndReason::TooManyFailures(Box::new(FailureStop {
            bad: self.bad,
            settled: self.settled,
            limit,
            causes,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RowError, RowNumber, Step};

    fn failed(code: &str) -> RowOutcome {
        RowOutcome::failed(RowNumber(1), Step::User, RowError::local(code, "words"))
    }

    fn good() -> RowOutcome {
        RowOutcome {
            state: RowState::Created,
            error: None,
            ..failed("")
        }
    }

    #[test]
    fn a_number_is_how_many_may_fail() {
        let mut valve = Valve::new(Some(FailureLimit::Rows(2)));
        for code in ["invalid_role", "user_exists"] {
            valve.count(&failed(code));
            assert!(valve.verdict(0).is_none());
        }
        valve.count(&failed("user_exists"));
        let Some(EndReason::TooManyFailures(stop)) = valve.verdict(0) else {
            panic!("three are more than two");
        };
        let causes = [
            ("user_exists".to_owned(), 2),
            ("invalid_role".to_owned(), 1),
        ];
        assert_eq!(stop.causes, causes);
        assert_eq!((stop.bad, stop.settled), (3, 3));
    }

    #[test]
    fn a_share_counts_once_there_are_enough_rows() {
        let mut valve = Valve::new(Some(FailureLimit::Percent(5.0)));
        for _ in 0..10 {
            valve.count(&failed("x"));
        }
        for _ in 10..199 {
            valve.count(&good());
        }
        assert!(valve.verdict(0).is_none(), "199 rows say nothing yet");
        valve.count(&good());
        assert!(valve.verdict(0).is_none(), "5 % is not more than 5 %");
        valve.count(&failed("x"));
        assert!(valve.verdict(0).is_some());
        assert!(
            valve.verdict(20).is_none(),
            "11 of 221, if those under way are good"
        );
        assert!(valve.verdict(18).is_some());
    }

    #[test]
    fn without_a_limit_everything_may_fail() {
        let mut valve = Valve::new(None);
        for _ in 0..1000 {
            valve.count(&failed("x"));
        }
        assert!(valve.verdict(0).is_none());
    }
}
