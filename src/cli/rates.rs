//! Which limits a run keeps: pure rules from what was asked, the target and the kind of key.

use crate::coordinator::FailureLimit;
use crate::model::rate::RateParseError;
use crate::model::{RateLimit, RateLimits, TargetKind};
use std::fmt;
use std::str::FromStr;

/// Share of the published limits a live key gets by default, in percent: an import shares them
/// with people who sign in.
const LIVE_PERCENT: u32 = 80;

/// `--rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateArg {
    /// The published limits of `WorkOS`, all three.
    Workos,
    /// No limit at all.
    Unlimited,
    /// This many writes.
    Writes(RateLimit),
    /// The published limits, or this many writes, and less after 429s below them.
    Auto(Option<RateLimit>),
}

impl fmt::Display for RateArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workos => f.write_str("workos"),
            Self::Unlimited => f.write_str("none"),
            Self::Writes(limit) => limit.fmt(f),
            Self::Auto(None) => f.write_str("auto"),
            Self::Auto(Some(limit)) => write!(f, "auto:{limit}"),
        }
    }
}

impl FromStr for RateArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let explain = |error: RateParseError| {
            format!("{error}; or `workos`, or `none`, or `auto`, or `auto:500/10s`")
        };
        match text {
            "workos" => Ok(Self::Workos),
            "none" => Ok(Self::Unlimited),
            "auto" => Ok(Self::Auto(None)),
            _ => match text.strip_prefix("auto:") {
                Some(limit) => {
                    let limit = limit.parse().map_err(explain)?;
                    Ok(Self::Auto(Some(limit)))
                }
                None => text.parse().map(Self::Writes).map_err(explain),
            },
        }
    }
}

/// `--read-rate` and `--total-rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitArg {
    /// No limit.
    Unlimited,
    /// This one.
    Limit(RateLimit),
}

impl LimitArg {
    const fn limit(self) -> Option<RateLimit> {
        match self {
            Self::Unlimited => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}

impl fmt::Display for LimitArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("none"),
            Self::Limit(limit) => limit.fmt(f),
        }
    }
}

impl FromStr for LimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::Unlimited);
        }
        text.parse()
            .map(Self::Limit)
            .map_err(|error: RateParseError| format!("{error}; or `none`"))
    }
}

/// `--max-failures`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailuresArg {
    /// Any number.
    Unlimited,
    /// As many as this.
    Limit(FailureLimit),
}

impl MaxFailuresArg {
    /// Returns the limit, if there is one.
    pub const fn limit(self) -> Option<FailureLimit> {
        match self {
            Self::Unlimited => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}

impl fmt::Display for MaxFailuresArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("none"),
            Self::Limit(limit) => limit.fmt(f),
        }
    }
}

impl FromStr for MaxFailuresArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || format!("`{text}` is none of: a number, a share such as 5%, `none`");
        if text == "none" {
            return Ok(Self::Unlimited);
        }
        let limit = match text.strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.trim().parse().map_err(|_| refuse())?;
                if !(0.0..=100.0).contains(&share) {
                    return Err(refuse());
                }
                FailureLimit::Percent(share)
            }
            None => FailureLimit::Rows(text.parse().map_err(|_| refuse())?),
        };
        Ok(Self::Limit(limit))
    }
}

/// What the limits depend on.
#[derive(Clone, Copy, Debug)]
pub struct RateAsk {
    /// `--rate`, if given.
    pub rate: Option<RateArg>,
    /// `--read-rate`, if given.
    pub reads: Option<LimitArg>,
    /// `--total-rate`, if given.
    pub total: Option<LimitArg>,
    /// Where users go.
    pub target: TargetKind,
    /// Whether the key is one of a production environment.
    pub live_key: bool,
}

/// The limits, and what a person should be told about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// To be kept by this run.
    pub limits: RateLimits,
    /// Whether less than them is used after 429s below them.
    pub auto: bool,
    /// Sentences.
    pub notes: Vec<String>,
}

/// Decides the limits of a run.
pub fn decide(ask: &RateAsk) -> Rates {
    let mut notes = Vec::new();
    let mut limits = default_limits(ask, &mut notes);
    match ask.rate {
        Some(RateArg::Workos) => limits = RateLimits::WORKOS,
        Some(RateArg::Auto(None)) if ask.target == TargetKind::Sandbox => {
            limits = RateLimits::WORKOS;
        }
        Some(RateArg::Unlimited) => limits = RateLimits::default(),
        // The defaults are the published limits, or what a live key gets of them.
        None | Some(RateArg::Auto(None)) => {}
        Some(RateArg::Writes(writes) | RateArg::Auto(Some(writes))) => {
            limits.writes = Some(writes);
            limits.reads = raised(limits.reads, ask.reads, writes, "read", &mut notes);
            limits.total = raised(limits.total, ask.total, writes, "total", &mut notes);
        }
    }
    if let Some(reads) = ask.reads {
        limits.reads = reads.limit();
    }
    if let Some(total) = ask.total {
        limits.total = total.limit();
    }
    Rates {
        limits,
        auto: matches!(ask.rate, Some(RateArg::Auto(_))),
        notes,
    }
}

fn default_limits(ask: &RateAsk, notes: &mut Vec<String>) -> RateLimits {
    if ask.target == TargetKind::Sandbox {
        return RateLimits::default();
    }
    if !ask.live_key {
        return RateLimits::WORKOS;
    }
    if matches!(ask.rate, None | Some(RateArg::Auto(None))) {
        notes.push(format!(
            "live key: keeping to {LIVE_PERCENT} % of the published limits, because people signing \
             in share them; --rate workos uses all of it"
        ));
    }
    let scaled = |limit: Option<RateLimit>| limit.map(|limit| limit.scaled(LIVE_PERCENT));
    RateLimits {
        writes: scaled(RateLimits::WORKOS.writes),
        reads: scaled(RateLimits::WORKOS.reads),
        total: scaled(RateLimits::WORKOS.total),
    }
}

/// Raises a *default* limit below `writes` to twice it, and says so. An explicit one is left alone.
fn raised(
    default: Option<RateLimit>,
    explicit: Option<LimitArg>,
    writes: RateLimit,
    name: &str,
    notes: &mut Vec<String>,
) -> Option<RateLimit> {
    let default = default?;
    if explicit.is_some() || default.per_second() >= writes.per_second() {
        return Some(default);
    }
    let twice = RateLimit {
        count: writes.count.saturating_mul(2),
        window: writes.window,
    };
    notes.push(format!(
        "the default {name} limit {default} is below --rate {writes}: raised to {twice}"
    ));
    Some(twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_failures_are_read_as_people_write_them() {
        for (text, limit) in [
            ("0", Some(FailureLimit::Rows(0))),
            ("12", Some(FailureLimit::Rows(12))),
            ("5%", Some(FailureLimit::Percent(5.0))),
            ("0.5 %", Some(FailureLimit::Percent(0.5))),
            ("none", None),
        ] {
            assert_eq!(
                text.parse::<MaxFailuresArg>().unwrap().limit(),
                limit,
                "{text}"
            );
        }
        for bad in ["", "-1", "101%", "x%", "5 percent", "NaN%"] {
            assert!(bad.parse::<MaxFailuresArg>().is_err(), "{bad}");
        }
    }

    fn ask(target: TargetKind, rate: Option<&str>) -> RateAsk {
        RateAsk {
            rate: rate.map(|text| text.parse().unwrap()),
            reads: None,
            total: None,
            target,
            live_key: false,
        }
    }

    fn words(rates: &Rates) -> String {
        let word = |limit: Option<RateLimit>| limit.map_or("none".to_owned(), |l| l.to_string());
        let RateLimits {
            writes,
            reads,
            total,
        } = rates.limits;
        format!("{} {} {}", word(writes), word(reads), word(total))
    }

    #[test]
    fn the_rules_table() {
        use TargetKind::{Sandbox, Workos};
        let table = [
            // target, --rate, live, writes reads total, notes
            (Sandbox, None, false, "none none none", 0),
            (
                Sandbox,
                Some("workos"),
                false,
                "500/10s 1000/10s 6000/60s",
                0,
            ),
            (Sandbox, Some("500/10s"), false, "500/10s none none", 0),
            (Sandbox, Some("none"), false, "none none none", 0),
            (Workos, None, false, "500/10s 1000/10s 6000/60s", 0),
            (Workos, None, true, "400/10s 800/10s 4800/60s", 1),
            (Workos, Some("workos"), true, "500/10s 1000/10s 6000/60s", 0),
            (Workos, Some("none"), true, "none none none", 0),
            (Workos, Some("20/1s"), false, "20/1s 1000/10s 6000/60s", 0),
            (Workos, Some("100/1s"), false, "100/1s 1000/10s 6000/60s", 0),
            (Workos, Some("200/1s"), false, "200/1s 400/1s 400/1s", 2),
            (Workos, Some("90/1s"), true, "90/1s 180/1s 180/1s", 2),
            (Workos, Some("auto"), false, "500/10s 1000/10s 6000/60s", 0),
            (Workos, Some("auto"), true, "400/10s 800/10s 4800/60s", 1),
            (
                Workos,
                Some("auto:20/1s"),
                true,
                "20/1s 800/10s 4800/60s",
                0,
            ),
            (Sandbox, Some("auto"), false, "500/10s 1000/10s 6000/60s", 0),
            (Sandbox, Some("auto:500/10s"), false, "500/10s none none", 0),
        ];
        for (target, rate, live_key, expected, notes) in table {
            let decided = decide(&RateAsk {
                live_key,
                ..ask(target, rate)
            });
            assert_eq!(
                words(&decided),
                expected,
                "{target} {rate:?} live {live_key}"
            );
            assert_eq!(decided.notes.len(), notes, "{:?}", decided.notes);
            let auto = rate.is_some_and(|rate| rate.starts_with("auto"));
            assert_eq!(decided.auto, auto, "{rate:?}");
        }
    }

    #[test]
    fn explicit_limits_win_and_are_never_raised() {
        let mut ask = ask(TargetKind::Workos, Some("200/1s"));
        ask.reads = Some("10/1s".parse().unwrap());
        ask.total = Some(LimitArg::Unlimited);
        let decided = decide(&ask);
        assert_eq!(words(&decided), "200/1s 10/1s none");
        assert!(decided.notes.is_empty(), "{:?}", decided.notes);
        ask.rate = Some(RateArg::Unlimited);
        assert_eq!(words(&decide(&ask)), "none 10/1s none");
    }

    #[test]
    fn a_bad_rate_says_what_is_allowed() {
        let error = "fast".parse::<RateArg>().unwrap_err();
        assert!(
            error.contains("500/10s") && error.contains("none"),
            "{error}"
        );
        assert!("workos".parse::<LimitArg>().is_err());
        assert!("auto:fast".parse::<RateArg>().is_err());
        for text in ["auto", "auto:500/10s"] {
            assert_eq!(text.parse::<RateArg>().unwrap().to_string(), text);
        }
    }
}
