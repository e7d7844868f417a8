//! How long a 429 makes everybody wait.

use crate::model::Mono;
use crate::model::rng::Rng;
use std::time::Duration;

/// `Retry-After: 0` still means "not now".
const WAIT_MIN: Duration = Duration::from_millis(50);

/// No server may stop us longer than this at once.
const WAIT_MAX: Duration = Duration::from_mins(15);

/// Without a `Retry-After`: 1, 2, 4 … 60 s, with full jitter.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Remembers how often the target throttled without saying for how long.
#[derive(Debug, Default)]
pub struct Throttle {
    tries: u32,
    until: Mono,
}

impl Throttle {
    /// Returns the end of the pause that a 429 asks for, or `None` when a pause that ends no
    /// earlier is already in force: answers to requests sent before it say nothing new.
    pub fn on_429(&mut self, now: Mono, asked: Option<Duration>, rng: &mut Rng) -> Option<Mono> {
        let in_force = now < self.until;
        let wait = match asked {
            Some(asked) => asked.clamp(WAIT_MIN, WAIT_MAX),
            None if in_force => return None,
            None => self.backoff(rng),
        };
        let until = now.after(wait);
        if in_force && until <= self.until {
            return None;
        }
        self.until = until;
        Some(until)
    }

    /// Returns when the last pause ends; an instant in the past when none is in force.
    pub const fn until(&self) -> Mono {
        self.until
    }

    /// Notes a success: the next silent 429 starts over at one second.
    pub fn on_success(&mut self) {
        self.tries = 0;
    }

    fn backoff(&mut self, rng: &mut Rng) -> Duration {
        let ceiling = Duration::from_secs(1 << self.tries.min(6)).min(BACKOFF_MAX);
        self.tries = self.tries.saturating_add(1);
        ceiling.mul_f64(rng.unit()).max(WAIT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(throttle: &mut Throttle, now: Mono, asked: Option<u64>) -> Option<Duration> {
        let asked = asked.map(Duration::from_secs);
        throttle
            .on_429(now, asked, &mut Rng::new(1))
            .map(|until| until.since(now))
    }

    #[test]
    fn what_the_target_asks_for_is_kept_within_bounds() {
        for (asked, expected) in [
            (0, WAIT_MIN),
            (3, Duration::from_secs(3)),
            (86_400, WAIT_MAX),
        ] {
            assert_eq!(
                wait(&mut Throttle::default(), Mono(9), Some(asked)),
                Some(expected)
            );
        }
    }

    #[test]
    fn late_answers_of_one_storm_do_not_extend_the_pause() {
        let mut throttle = Throttle::default();
        assert!(wait(&mut throttle, Mono(0), Some(3)).is_some());
        assert_eq!(wait(&mut throttle, Mono(1000), None), None);
        assert_eq!(wait(&mut throttle, Mono(1000), Some(1)), None);
        assert!(wait(&mut throttle, Mono(1000), Some(9)).is_some());
    }

    #[test]
    fn without_a_word_the_wait_doubles_up_to_a_minute_and_starts_over_after_a_success() {
        let mut throttle = Throttle::default();
        let mut now = Mono(0);
        for n in 0..12_u32 {
            let ceiling = Duration::from_secs(1 << n.min(6)).min(BACKOFF_MAX);
            let got = wait(&mut throttle, now, None).unwrap();
            assert!(got <= ceiling, "{n}: {got:?}");
            now = now.after(got);
        }
        throttle.on_success();
        assert!(wait(&mut throttle, now, None).unwrap() <= Duration::from_secs(1));
    }
}
