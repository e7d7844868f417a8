//! Declared limits of a target, as people write them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Pacing leaves one part in this many of a window free: 1 %.
const FREE_PART: u32 = 100;

/// Jitter does not shrink with the window, so at least this much of one is left free: 1 % of a
/// second would forgive a stall of 10 ms, and busy machines stall longer.
const FREE_MIN: Duration = Duration::from_millis(25);

/// However short the window, no more than one part in this many is left free.
const FREE_MIN_PART: u32 = 10;

/// Windows that can be kept: timers of a millisecond still hit the slots of the shortest.
const WINDOWS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);

/// At most `count` requests in any sliding window of `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests allowed per window, at least 1.
    pub count: u32,
    /// The window, at least a millisecond.
    pub window: Duration,
}

impl RateLimit {
    /// Makes a limit of `count` per `seconds`.
    pub const fn per_seconds(count: u32, seconds: u64) -> Self {
        Self {
            count,
            window: Duration::from_secs(seconds),
        }
    }

    /// Returns the allowed requests per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.window.as_secs_f64()
    }

    /// Returns the part of the window that pacing leaves free: what keeps jitter between us and
    /// the target from ever filling it.
    pub fn left_free(self) -> Duration {
        let shortest = FREE_MIN.min(self.window / FREE_MIN_PART);
        (self.window / FREE_PART).max(shortest)
    }

    /// Returns the share of this limit that pacing uses, from 0 to 1: 0.99 over ten seconds,
    /// 0.975 over one.
    pub fn used_share(self) -> f64 {
        1.0 - self.free_share()
    }

    /// Returns the share of this limit that pacing leaves free, from 0 to 1.
    pub fn free_share(self) -> f64 {
        self.left_free().as_secs_f64() / self.window.as_secs_f64()
    }

    /// Returns this limit scaled to `percent` of its count, at least 1.
    #[must_use]
    pub fn scaled(self, percent: u32) -> Self {
        let scaled = u64::from(self.count) * u64::from(percent) / 100;
        Self {
            count: u32::try_from(scaled).unwrap_or(u32::MAX).max(1),
            window: self.window,
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.window.as_millis();
        if ms.is_multiple_of(1000) {
            write!(f, "{}/{}s", self.count, ms / 1000)
        } else {
            write!(f, "{}/{ms}ms", self.count)
        }
    }
}

/// Why a rate could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rate: write N/D, for example 500/10s, 50/1s or 6000/1m; D is at least 100ms and at most 24h"
)]
pub struct RateParseError(pub String);

impl FromStr for RateLimit {
    type Err = RateParseError;

    /// Reads `N/D`, where `D` is a duration such as `10s`, `500ms`, `1m` or `s`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || RateParseError(text.to_owned());
        let (count, window) = text.split_once('/').ok_or_else(fail)?;
        let count: u32 = count.trim().parse().map_err(|_| fail())?;
        let window = parse_duration(window.trim()).ok_or_else(fail)?;
        if count == 0 || !WINDOWS.contains(&window) {
            return Err(fail());
        }
        Ok(Self { count, window })
    }
}

/// Reads a duration such as `200ms`, `10s`, `1m`, `2h`; a bare unit means one of it.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len()
        - text
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .len();
    let (number, unit) = text.split_at(digits);
    let number: f64 = if number.is_empty() {
        1.0
    } else {
        number.parse().ok()?
    };
    let scale = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * scale).ok()
}

/// The three limits a run keeps. `None` means without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimits {
    /// Every request that is not a GET.
    pub writes: Option<RateLimit>,
    /// Every GET.
    pub reads: Option<RateLimit>,
    /// Every request.
    pub total: Option<RateLimit>,
}

impl RateLimits {
    /// The published limits of `WorkOS` (reference/rate-limits): writes 500/10 s, reads 1,000/10 s
    /// per environment, 6,000/60 s in all.
    pub const WORKOS: Self = Self {
        writes: Some(RateLimit::per_seconds(500, 10)),
        reads: Some(RateLimit::per_seconds(1000, 10)),
        total: Some(RateLimit::per_seconds(6000, 60)),
    };
}

/// Why the rate of a class changed (`--rate auto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateShift {
    /// A 429 came below the declared limit.
    BackedOff,
    /// Requests are accepted: a part of the way back is done.
    Rising,
    /// The declared limit is used again.
    Recovered,
}

impl RateShift {
    /// Returns the stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackedOff => "backed_off",
            Self::Rising => "rising",
            Self::Recovered => "recovered",
        }
    }
}

/// What `--rate auto` makes of the writes limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoRate {
    /// Writes per second that are allowed now: the limit, or less since a 429.
    pub current: f64,
    /// The fewest writes per second that were allowed so far in this run.
    pub lowest: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!("500/10s".parse(), Ok(RateLimit::per_seconds(500, 10)));
        assert_eq!("50/s".parse(), Ok(RateLimit::per_seconds(50, 1)));
        assert_eq!("6000/1m".parse(), Ok(RateLimit::per_seconds(6000, 60)));
        let off = ["5/99ms", "5/25h", "5/99999999h", "5/1e300h"];
        let bad = ["", "50", "0/s", "50/0s", "x/s", "50/parsec", "-1/s"];
        for bad in bad.into_iter().chain(off) {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_window_leaves_as_much_time_free_as_a_stall_takes() {
        for (window_ms, used) in [
            (60_000, 0.99),
            (10_000, 0.99),
            (1000, 0.975),
            (100, 0.9),
            (1, 0.9),
        ] {
            let window = Duration::from_millis(window_ms);
            let limit = RateLimit { count: 7, window };
            assert!((limit.used_share() - used).abs() < 1e-9, "{limit}");
        }
    }

    #[test]
    fn rates_print_as_they_are_read() {
        for text in ["500/10s", "7/250ms"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
    }
}
