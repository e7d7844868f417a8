//! How much of a limit is used while others use it too (`--rate auto`).
//!
//! A 429 below the declared limit means that less than it is free. The rate then falls at once and
//! comes back along a cubic, as TCP does (RFC 9438): fast at first, hardly at all near where
//! the last 429 came, faster again once that is left behind without another. So somebody else's
//! traffic is met about once in eighty seconds, and what it leaves free is found and used.
//!
//! A share is never above one: the budgets keep the declared limit whatever this says.

use crate::model::{AutoRate, Mono, RateLimit, RateShift};
use std::collections::VecDeque;
use std::time::Duration;

/// After a 429 this much of what seems to be free is used.
const BACK_TO: f64 = 0.8;

/// At least this much of the rate at a 429 is taken for free, whatever was accepted before: there
/// may have been little to send.
const FREE_MIN: f64 = 0.5;

/// The smallest share: below it, pauses do what is left to do, and a target that throttles at
/// random is not crawled after.
const SHARE_MIN: f64 = 0.1;

/// The rate is where the last 429 came again after this many windows of the limit,
const RECOVERY_WINDOWS: u32 = 6;
/// but no later than this.
const RECOVERY_MAX: Duration = Duration::from_mins(1);

/// Answers to requests sent before a pause may still come this long after the first 429.
const LATE_ANSWERS: Duration = Duration::from_secs(1);

/// The way back is at least this steep, as a share of the declared limit: from the bottom it would
/// take hours otherwise.
const STEEP_MIN: f64 = 0.02;

/// Time without an answer counts as a window of the limit, or as this much if that is longer:
/// nothing was learned in it.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A rise is worth telling when it is this large, as a share of the declared limit.
const TOLD_RISE: f64 = 0.05;

/// What was accepted is counted in this many parts of a window.
const PARTS: u32 = 20;

/// The share of one limit.
#[derive(Debug)]
pub struct Share {
    limit: RateLimit,
    /// Requests per second of the whole, as people are told it.
    shown: f64,
    used: f64,
    told: f64,
    lowest: f64,
    curve: Option<Curve>,
    accepted: Accepted,
}

/// The way back up.
#[derive(Debug)]
struct Curve {
    /// Where the last 429 came.
    top: f64,
    /// Where it starts.
    bottom: f64,
    /// How far below the top it starts when nothing is in the way.
    depth: f64,
    /// Time spent on it.
    spent: Duration,
    /// When the last answer came.
    heard: Mono,
    /// 429s belong to the same episode until something is accepted after this.
    episode_until: Option<Mono>,
}

impl Share {
    /// Makes the share of a limit: all of it, until a 429 comes.
    pub fn new(limit: RateLimit, now: Mono) -> Self {
        Self {
            limit,
            shown: limit.per_second(),
            used: 1.0,
            told: 1.0,
            lowest: 1.0,
            curve: None,
            accepted: Accepted::new(limit.window, now),
        }
    }

    /// Tells the rate as a share of `limit`: another one may be the tighter of two.
    #[must_use]
    pub fn shown_of(mut self, limit: RateLimit) -> Self {
        self.shown = limit.per_second();
        self
    }

    /// Returns the share in use, above 0 and at most 1.
    pub const fn now(&self) -> f64 {
        self.used
    }

    /// Returns the requests per second in use, and the fewest there have been.
    pub fn rate(&self) -> AutoRate {
        AutoRate {
            current: self.shown * self.used,
            lowest: self.shown * self.lowest,
        }
    }

    /// Takes a 429 for which everybody pauses until `until`. All that come before something is
    /// accepted again are one episode: they say nothing about the rate after it.
    pub fn on_429(&mut self, now: Mono, until: Mono) -> Option<RateShift> {
        let episode_until = until.max(now.after(LATE_ANSWERS));
        if let Some(until) = self.curve.as_mut().and_then(|c| c.episode_until.as_mut()) {
            *until = episode_until.max(*until);
            return None;
        }
        let top = self.top(now);
        let bottom = (top * BACK_TO).max(self.share_min());
        if bottom >= 1.0 {
            return None;
        }
        let falls = bottom < self.used;
        self.used = bottom;
        self.told = bottom;
        self.lowest = self.lowest.min(bottom);
        self.curve = Some(Curve {
            top: top.max(bottom),
            bottom,
            depth: (top - bottom).max(STEEP_MIN),
            spent: Duration::ZERO,
            heard: now,
            episode_until: Some(episode_until),
        });
        falls.then_some(RateShift::BackedOff)
    }

    /// Takes `count` answers that were not 429: the rate rises with the time they come in.
    pub fn on_accepted(&mut self, now: Mono, count: u32) -> Option<RateShift> {
        self.accepted.add(now, count);
        let recovery = self
            .limit
            .window
            .saturating_mul(RECOVERY_WINDOWS)
            .min(RECOVERY_MAX);
        let silence = self.limit.window.max(SILENCE_MAX);
        let curve = self.curve.as_mut()?;
        if let Some(until) = curve.episode_until {
            if now < until {
                return None;
            }
            curve.episode_until = None;
            curve.heard = now;
        }
        curve.spent += now.since(curve.heard).min(silence);
        curve.heard = now;
        self.used = curve.at(recovery).min(1.0);
        if self.used >= 1.0 {
            self.curve = None;
            self.told = 1.0;
            return Some(RateShift::Recovered);
        }
        let is_news = self.used - self.told >= TOLD_RISE;
        is_news.then(|| {
            self.told = self.used;
            RateShift::Rising
        })
    }

    /// Returns the rate that seems to be free at a 429: what was accepted over the last window, once
    /// one was watched.
    fn top(&self, now: Mono) -> f64 {
        let accepted = self.accepted.over_window(now);
        let share = accepted.map_or(self.used, |count| count / f64::from(self.limit.count));
        share.clamp(self.used * FREE_MIN, self.used)
    }

    /// One request per window goes always.
    fn share_min(&self) -> f64 {
        SHARE_MIN.max(1.0 / f64::from(self.limit.count)).min(1.0)
    }
}

impl Curve {
    fn at(&self, recovery: Duration) -> f64 {
        let x = self.spent.as_secs_f64() / recovery.as_secs_f64().max(1e-9) - 1.0;
        (self.top + self.depth * x.powi(3)).max(self.bottom)
    }
}

/// Counts what was accepted over the last window.
#[derive(Debug)]
struct Accepted {
    window: Duration,
    since: Mono,
    parts: VecDeque<(Mono, u32)>,
}

impl Accepted {
    const fn new(window: Duration, since: Mono) -> Self {
        Self {
            window,
            since,
            parts: VecDeque::new(),
        }
    }

    fn add(&mut self, now: Mono, count: u32) {
        let oldest = now.before(self.window);
        while self.parts.front().is_some_and(|(at, _)| *at < oldest) {
            self.parts.pop_front();
        }
        match self.parts.back_mut() {
            Some((at, n)) if now.since(*at) < self.window / PARTS => *n = n.saturating_add(count),
            _ => self.parts.push_back((now, count)),
        }
    }

    /// Returns how many there were, once a whole window was watched.
    fn over_window(&self, now: Mono) -> Option<f64> {
        if now.since(self.since) < self.window {
            return None;
        }
        let oldest = now.before(self.window);
        let within = self.parts.iter().filter(|(at, _)| *at >= oldest);
        Some(within.map(|(_, n)| f64::from(*n)).sum())
    }
}

#[cfg(test)]
mod tests;
