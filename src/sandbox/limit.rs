//! Sliding-window limits. Pure: the time is an argument and never goes back.

use crate::model::{Mono, RateLimit, RateLimits};
use std::collections::VecDeque;
use std::time::Duration;

/// Which published budgets a request draws on; every request draws on the total as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/user_management`, not a GET.
    UserWrite,
    /// `/user_management`, a GET.
    UserRead,
    /// Everything else.
    Other,
}

/// A request that found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whole seconds until every window it needs has room, rounded up, at least 1.
    pub retry_after_s: u32,
}

/// One limit and the admissions that still count against it.
///
/// A window is half-open: an admission stops counting exactly `window` after it happened.
#[derive(Clone, Debug)]
struct SlidingWindow {
    limit: RateLimit,
    admitted: VecDeque<Mono>,
}

impl SlidingWindow {
    const fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            admitted: VecDeque::new(),
        }
    }

    /// Returns how long until there is room for one more; zero when there is room now.
    fn wait(&mut self, now: Mono) -> Duration {
        while let Some(oldest) = self.admitted.front() {
            if now.since(*oldest) < self.limit.window {
                break;
            }
            self.admitted.pop_front();
        }
        let count = usize::try_from(self.limit.count).unwrap_or(usize::MAX);
        match self.admitted.front() {
            Some(oldest) if self.admitted.len() >= count => {
                oldest.after(self.limit.window).since(now)
            }
            _ => Duration::ZERO,
        }
    }
}

/// The three budgets of the API.
#[derive(Clone, Debug)]
pub struct Budgets {
    writes: Option<SlidingWindow>,
    reads: Option<SlidingWindow>,
    total: Option<SlidingWindow>,
}

impl Budgets {
    /// Starts with empty windows.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            writes: limits.writes.map(SlidingWindow::new),
            reads: limits.reads.map(SlidingWindow::new),
            total: limits.total.map(SlidingWindow::new),
        }
    }

    /// Admits a request into every window it draws on, or into none.
    pub fn admit(&mut self, now: Mono, scope: Scope) -> Result<(), Refused> {
        let own = match scope {
            Scope::UserWrite => self.writes.as_mut(),
            Scope::UserRead => self.reads.as_mut(),
            Scope::Other => None,
        };
        let mut windows: [Option<&mut SlidingWindow>; 2] = [own, self.total.as_mut()];
        let wait = windows
            .iter_mut()
            .flatten()
            .map(|window| window.wait(now))
            .max()
            .unwrap_or_default();
        if wait > Duration::ZERO {
            return Err(Refused {
                retry_after_s: whole_seconds_up(wait),
            });
        }
        for window in windows.iter_mut().flatten() {
            window.admitted.push_back(now);
        }
        Ok(())
    }
}

fn whole_seconds_up(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// The largest number of requests any sliding window of a fixed length has held.
#[derive(Clone, Debug)]
pub struct PeakWindow {
    window: Duration,
    inside: VecDeque<Mono>,
    peak: usize,
}

impl PeakWindow {
    /// Starts empty.
    pub const fn new(window: Duration) -> Self {
        Self {
            window,
            inside: VecDeque::new(),
            peak: 0,
        }
    }

    /// Counts a request.
    pub fn count(&mut self, now: Mono) {
        while let Some(oldest) = self.inside.front() {
            if now.since(*oldest) < self.window {
                break;
            }
            self.inside.pop_front();
        }
        self.inside.push_back(now);
        self.peak = self.peak.max(self.inside.len());
    }

    /// Returns the largest count so far.
    pub const fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn largest_window(times: &[u64], window: Duration) -> usize {
        let window = crate::model::clock::nanos(window);
        times
            .iter()
            .map(|start| {
                times
                    .iter()
                    .filter(|t| **t >= *start && **t - start < window)
                    .count()
            })
            .max()
            .unwrap_or_default()
    }

    proptest! {
        #[test]
        fn no_sliding_window_is_ever_over(
            gaps in prop::collection::vec(0u64..200, 1..300),
            count in 1u32..20,
            window_ms in 1u64..2_000,
        ) {
            let limit = RateLimit { count, window: Duration::from_millis(window_ms) };
            let mut budgets = Budgets::new(RateLimits { writes: Some(limit), ..RateLimits::default() });
            let mut now = 0;
            let mut admitted = Vec::new();
            for gap in gaps {
                now += gap * MS;
                match budgets.admit(Mono(now), Scope::UserWrite) {
                    Ok(()) => admitted.push(now),
                    Err(refused) => {
                        // Room is there once the wait is over, and the wait is tight to a second.
                        let mut later = budgets.clone();
                        let wait = u64::from(refused.retry_after_s) * 1_000_000_000;
                        prop_assert!(later.admit(Mono(now + wait), Scope::UserWrite).is_ok());
                        if wait > 1_000_000_000 {
                            let mut sooner = budgets.clone();
                            prop_assert!(sooner.admit(Mono(now + wait - 1_000_000_000), Scope::UserWrite).is_err());
                        }
                    }
                }
            }
            prop_assert!(largest_window(&admitted, limit.window) <= usize::try_from(count).unwrap());
        }

        #[test]
        fn the_peak_is_the_largest_window(gaps in prop::collection::vec(0u64..400, 1..200)) {
            let window = Duration::from_secs(1);
            let mut peak = PeakWindow::new(window);
            let mut now = 0;
            let times: Vec<u64> = gaps.iter().map(|gap| { now += gap * MS; now }).collect();
            for time in &times {
                peak.count(Mono(*time));
            }
            prop_assert_eq!(peak.peak(), largest_window(&times, window));
        }
    }

    #[test]
    fn a_refused_request_counts_in_no_window() {
        let mut budgets = Budgets::new(RateLimits {
            writes: Some(RateLimit::per_seconds(1, 10)),
            reads: None,
            total: Some(RateLimit::per_seconds(2, 60)),
        });
        assert_eq!(budgets.admit(Mono(0), Scope::UserWrite), Ok(()));
        for _ in 0..5 {
            assert_eq!(
                budgets.admit(Mono(1), Scope::UserWrite),
                Err(Refused { retry_after_s: 10 })
            );
        }
        assert_eq!(
            budgets.admit(Mono(2), Scope::Other),
            Ok(()),
            "the total still has one"
        );
        assert_eq!(
            budgets.admit(Mono(3), Scope::UserRead),
            Err(Refused { retry_after_s: 60 })
        );
    }
}
