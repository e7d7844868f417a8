//! How often and how soon a step is tried again. Pure: waits are returned, never slept.

use crate::target::Rejection;
use std::time::Duration;

/// Attempts a step gets before a person has to look.
pub const ATTEMPTS_MAX: u8 = 8;

/// Waits before re-reading what is said to exist and cannot be found: 0.5 s, 2 s and 5 s after the
/// first look. Targets may show a new entity later to readers than to writers.
pub const READ_LAG: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1_500),
    Duration::from_secs(3),
];

/// After its answer was lost, or its sender died, a request may still be applied for this long: it
/// may have lain on the way, or in a queue of the target. Twice the time that is waited for an
/// answer, and the longest time readers may be behind. Only what nothing makes unique has to wait so.
pub const LATE: Duration = Duration::from_secs(75);

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Why something is looked up: what is done when it is not found.
#[derive(Clone, Debug)]
pub enum Why {
    /// Before the first send of this run: send.
    First,
    /// The target says it exists: re-read after [`READ_LAG`], then send again.
    Exists {
        /// Re-reads so far.
        reread: usize,
    },
    /// The answer of a send was lost: send again.
    Unclear,
    /// The target refuses it, but an earlier send may have been applied: re-read after
    /// [`READ_LAG`], then fail.
    BeforeFailing {
        /// Why it fails then.
        rejection: Box<Rejection>,
        /// Re-reads so far.
        reread: usize,
    },
}

impl Why {
    /// Returns the next look and the wait before it, if finding nothing may only be read lag.
    pub fn look_again(&self) -> Option<(Duration, Self)> {
        let mut next = self.clone();
        let (Self::Exists { reread } | Self::BeforeFailing { reread, .. }) = &mut next else {
            return None;
        };
        let wait = *READ_LAG.get(*reread)?;
        *reread += 1;
        Some((wait, next))
    }
}

/// The attempts of the current step of one row or organization.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    spent: u8,
    unclear_in_a_row: u32,
    /// The `alive` count at which an attempt was last counted.
    counted_at: Option<u64>,
}

impl Attempts {
    /// Notes an answer that settled nothing and returns how long to wait, before jitter.
    ///
    /// `alive` counts successes of other rows: an attempt is spent only when something else
    /// worked since the last one that was. So an outage spends no attempts.
    pub fn note_unclear(&mut self, alive: u64) -> Duration {
        if self.counted_at != Some(alive) {
            self.counted_at = Some(alive);
            self.spent = self.spent.saturating_add(1);
        }
        let factor = 2_u32.saturating_pow(self.unclear_in_a_row);
        self.unclear_in_a_row = self.unclear_in_a_row.saturating_add(1);
        BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_MAX)
    }

    /// Notes that what is said to exist stayed invisible. Always spends an attempt: the target
    /// answers, so it is no outage.
    pub fn note_invisible(&mut self) {
        self.spent = self.spent.saturating_add(1);
    }

    /// Returns whether the step has had all its attempts.
    pub const fn are_spent(&self) -> bool {
        self.spent >= ATTEMPTS_MAX
    }

    /// Starts the next step with all its attempts.
    pub fn start_step(&mut self) {
        self.spent = 0;
        self.unclear_in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_thirty_seconds() {
        let mut attempts = Attempts::default();
        let waits: Vec<u128> = (0..9)
            .map(|alive| attempts.note_unclear(alive).as_millis())
            .collect();
        let expected = [
            500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000,
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn eight_attempts_are_spent_while_others_succeed() {
        let mut attempts = Attempts::default();
        for alive in 0..7 {
            attempts.note_unclear(alive);
            assert!(!attempts.are_spent());
        }
        attempts.note_unclear(7);
        assert!(attempts.are_spent());
    }

    #[test]
    fn an_outage_spends_one_attempt_however_long_it_lasts() {
        let mut attempts = Attempts::default();
        for _ in 0..10_000 {
            attempts.note_unclear(3);
        }
        assert!(!attempts.are_spent());
        assert_eq!(attempts.spent, 1);
    }

    #[test]
    fn the_next_step_starts_fresh_but_remembers_the_outage() {
        let mut attempts = Attempts::default();
        attempts.note_unclear(3);
        attempts.start_step();
        assert_eq!(attempts.note_unclear(3), BACKOFF_FIRST);
        assert_eq!(attempts.spent, 0);
    }

    #[test]
    fn an_invisible_entity_always_spends() {
        let mut attempts = Attempts::default();
        for _ in 0..ATTEMPTS_MAX {
            attempts.note_invisible();
        }
        assert!(attempts.are_spent());
    }
}
