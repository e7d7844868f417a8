//! Which requests go wrong, and how slow answers are. Pure: seeded, drawn per request number.

use super::rng;
use crate::model::rate::parse_duration;
use std::str::FromStr;
use std::time::Duration;

/// Parts per million in one whole.
const WHOLE_PPM: u32 = 1_000_000;

/// Keeps the draws of one request apart: each purpose reads a stream of its own.
const STREAM_FAULT: u64 = 0x6661_756c_7400_0000;
const STREAM_LATENCY: u64 = 0x6c61_7465_6e63_7900;
const STREAM_COIN: u64 = 0x636f_696e_0000_0000;

/// One way for a request to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Applied, then the connection closes without an answer.
    DropAfter,
    /// Not applied; the connection closes without an answer.
    DropBefore,
    /// Not applied; answers 500.
    ServerError,
    /// Applied; answers 500.
    ServerErrorAfter,
    /// Not applied; answers 429.
    Throttle,
    /// A coin decides whether it is applied; never answered.
    Hang,
    /// Applied; the body of the answer is cut in the middle.
    Malformed,
    /// Applied; answered seconds later.
    Slow,
}

impl Fault {
    /// Every fault, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::DropAfter,
        Self::DropBefore,
        Self::ServerError,
        Self::ServerErrorAfter,
        Self::Throttle,
        Self::Hang,
        Self::Malformed,
        Self::Slow,
    ];

    /// Returns the word of `--faults`, also shown in the history.
    pub const fn word(self) -> &'static str {
        match self {
            Self::DropAfter => "drop-after",
            Self::DropBefore => "drop-before",
            Self::ServerError => "500",
            Self::ServerErrorAfter => "500-after",
            Self::Throttle => "429",
            Self::Hang => "hang",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
        }
    }
}

/// The shares of `--faults`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultSpec {
    shares_ppm: Vec<(Fault, u32)>,
    /// `Retry-After` of an injected 429, in seconds.
    pub retry_after_s: u32,
}

/// Why `--faults` could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultParseError {
    /// An entry that is not `NAME=P%`.
    #[error("`{0}` is not a fault: write NAME=P%, for example drop-after=2% or 429=5%:3")]
    Shape(String),
    /// An unknown name.
    #[error(
        "unknown fault `{0}`: known are drop-after, drop-before, 500, 500-after, 429, hang, malformed, slow"
    )]
    Name(String),
    /// A name given twice.
    #[error("fault `{0}` is given twice")]
    Twice(&'static str),
    /// A sum above 100 %.
    #[error("the faults add up to more than 100 %")]
    TooMuch,
}

impl FromStr for FaultSpec {
    type Err = FaultParseError;

    /// Reads `drop-after=2%,429=5%:0`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut spec = Self::default();
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            spec.add(entry)?;
        }
        let sum: u64 = spec.shares_ppm.iter().map(|(_, ppm)| u64::from(*ppm)).sum();
        if sum > u64::from(WHOLE_PPM) {
            return Err(FaultParseError::TooMuch);
        }
        Ok(spec)
    }
}

impl FaultSpec {
    fn add(&mut self, entry: &str) -> Result<(), FaultParseError> {
        let shape = || FaultParseError::Shape(entry.to_owned());
        let (name, value) = entry.split_once('=').ok_or_else(shape)?;
        let fault = Fault::ALL
            .into_iter()
            .find(|fault| fault.word() == name.trim())
            .ok_or_else(|| FaultParseError::Name(name.trim().to_owned()))?;
        if self.shares_ppm.iter().any(|(known, _)| *known == fault) {
            return Err(FaultParseError::Twice(fault.word()));
        }
        let share = match (fault, value.split_once(':')) {
            (Fault::Throttle, Some((share, seconds))) => {
                self.retry_after_s = seconds.trim().parse().map_err(|_| shape())?;
                share
            }
            (_, Some(_)) => return Err(shape()),
            (_, None) => value,
        };
        let ppm = parse_percent_ppm(share).ok_or_else(shape)?;
        self.shares_ppm.push((fault, ppm));
        Ok(())
    }

    /// Returns the fault of request number `sequence`, if it has one.
    pub fn draw(&self, seed: u64, sequence: u64) -> Option<Fault> {
        let mut roll = below(rng::nth(seed ^ STREAM_FAULT, sequence), WHOLE_PPM);
        for (fault, ppm) in &self.shares_ppm {
            if roll < *ppm {
                return Some(*fault);
            }
            roll -= ppm;
        }
        None
    }
}

/// Returns the coin of request number `sequence`.
pub fn coin(seed: u64, sequence: u64) -> bool {
    rng::nth(seed ^ STREAM_COIN, sequence) & 1 == 0
}

/// `--latency`: how long an answer takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    mean: Duration,
    jitter_ppm: u32,
}

/// Why `--latency` could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a latency: write a duration, with a jitter of up to 100% if wanted: 200ms or 200ms~50%"
)]
pub struct LatencyParseError(String);

impl FromStr for Latency {
    type Err = LatencyParseError;

    /// Reads `200ms` or `200ms~50%`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || LatencyParseError(text.to_owned());
        let (mean, jitter) = match text.split_once('~') {
            Some((mean, jitter)) => (mean, parse_percent_ppm(jitter).ok_or_else(fail)?),
            None => (text, 0),
        };
        let mean = mean.trim();
        if !mean.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(fail());
        }
        Ok(Self {
            mean: parse_duration(mean).ok_or_else(fail)?,
            jitter_ppm: jitter,
        })
    }
}

impl Latency {
    /// Returns the latency of request number `sequence`: uniform in mean ± jitter.
    pub fn draw(&self, seed: u64, sequence: u64) -> Duration {
        if self.jitter_ppm == 0 {
            return self.mean;
        }
        let spread = 2 * self.jitter_ppm + 1;
        let offset = below(rng::nth(seed ^ STREAM_LATENCY, sequence), spread);
        let factor_ppm = u64::from(WHOLE_PPM - self.jitter_ppm + offset);
        let mean_us = u64::try_from(self.mean.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(mean_us.saturating_mul(factor_ppm) / u64::from(WHOLE_PPM))
    }
}

/// Maps 64 random bits to `0..bound` without noticeable bias.
fn below(random: u64, bound: u32) -> u32 {
    let scaled = (u128::from(random) * u128::from(bound)) >> 64;
    u32::try_from(scaled).unwrap_or_default()
}

/// Reads `2%` or `0.5%`, at most 100 %, as parts per million.
fn parse_percent_ppm(text: &str) -> Option<u32> {
    let number = text.trim().strip_suffix('%')?.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 4 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let fraction: u32 = format!("{fraction:0<4}").parse().ok()?;
    let ppm = whole.checked_mul(10_000)?.checked_add(fraction)?;
    (ppm <= WHOLE_PPM).then_some(ppm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_example_is_read() {
        let spec: FaultSpec =
            "drop-after=2%,drop-before=1%,500=2%,500-after=1%,429=5%:7,hang=0.5%,malformed=0.5%,slow=1%"
                .parse()
                .unwrap();
        assert_eq!(spec.retry_after_s, 7);
        assert_eq!(spec.shares_ppm.len(), 8);
        assert!(spec.shares_ppm.contains(&(Fault::Hang, 5_000)));
        assert_eq!("".parse(), Ok(FaultSpec::default()));
    }

    #[test]
    fn wrong_faults_are_named() {
        for (bad, words) in [
            ("drop=1%", "unknown fault `drop`"),
            ("500", "write NAME=P%"),
            ("500=1", "write NAME=P%"),
            ("500=1%:3", "write NAME=P%"),
            ("hang=-1%", "write NAME=P%"),
            ("hang=101%", "write NAME=P%"),
            ("hang=1%,hang=2%", "given twice"),
            ("hang=60%,slow=60%", "more than 100 %"),
        ] {
            let error = bad.parse::<FaultSpec>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn shares_are_kept_over_many_requests() {
        let spec: FaultSpec = "500=2%,drop-after=10%".parse().unwrap();
        let count = |wanted| {
            (0..100_000)
                .filter(|n| spec.draw(42, *n) == Some(wanted))
                .count()
        };
        assert!((1_800..2_200).contains(&count(Fault::ServerError)));
        assert!((9_600..10_400).contains(&count(Fault::DropAfter)));
        assert_eq!(count(Fault::Hang), 0);
    }

    #[test]
    fn wrong_latencies_are_refused() {
        for bad in ["", "ms", "200", "200ms~", "200ms~50", "200ms~200%", "-5ms"] {
            assert!(bad.parse::<Latency>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn latency_stays_within_its_jitter(seed: u64, n: u64, jitter in 0u32..=100) {
            let latency: Latency = format!("200ms~{jitter}%").parse().unwrap();
            let drawn = latency.draw(seed, n).as_micros();
            let slack = u128::from(jitter) * 2_000;
            prop_assert!(drawn + slack >= 200_000 && drawn <= 200_000 + slack);
        }

        #[test]
        fn a_certain_fault_always_happens(seed: u64, n: u64) {
            let spec: FaultSpec = "hang=100%".parse().unwrap();
            prop_assert_eq!(spec.draw(seed, n), Some(Fault::Hang));
        }
    }
}
