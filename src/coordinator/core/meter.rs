//! Numbers of the run: totals, latencies, speeds over the last seconds.

use crate::ledger::{RunSnapshot, RunState};
use crate::model::tally::OrgCacheTally;
use crate::model::{FinishTally, Mono, RateLimits, RequestTally};
use crate::protocol::StatsDelta;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::Duration;

/// Speeds are means over this long.
const SPEED_WINDOW: Duration = Duration::from_secs(5);

/// Latencies above this are counted as this: the request timeout is half of it.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What this run has done so far.
#[derive(Debug)]
pub(super) struct Meter {
    started: Mono,
    limits: RateLimits,
    pub(super) requests: RequestTally,
    pub(super) finish: FinishTally,
    pub(super) org_cache: OrgCacheTally,
    pub(super) settled: u64,
    latencies: Histogram<u64>,
    /// Those since the last snapshot.
    recent_latencies: Histogram<u64>,
    writes_between: Option<(Mono, Mono)>,
    recent: VecDeque<(Mono, u64, u64)>,
}

impl Meter {
    pub(super) fn new(started: Mono, limits: RateLimits) -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .or_else(|_| Histogram::new(3))
            .unwrap_or_else(|_| unreachable!("three significant digits are always allowed"));
        let recent_latencies = latencies.clone();
        Self {
            started,
            limits,
            requests: RequestTally::default(),
            finish: FinishTally::default(),
            org_cache: OrgCacheTally::default(),
            settled: 0,
            latencies,
            recent_latencies,
            writes_between: None,
            recent: VecDeque::new(),
        }
    }

    /// Adds what a worker reports.
    pub(super) fn add(&mut self, delta: &StatsDelta) {
        self.requests.add(&delta.requests);
        self.finish.add(&delta.finish);
        self.org_cache.add(&delta.org_cache);
        for micros in &delta.latencies_us {
            let micros = u64::from(*micros).clamp(1, LATENCY_US_MAX);
            self.latencies.saturating_record(micros);
            self.recent_latencies.saturating_record(micros);
        }
        if let Some((first, last)) = delta.writes_between {
            let (from, to) = self.writes_between.unwrap_or((first, last));
            self.writes_between = Some((from.min(first), to.max(last)));
        }
    }

    /// Returns writes and settled rows per second over the last seconds.
    pub(super) fn speeds(&mut self, now: Mono) -> (f64, f64) {
        self.recent
            .push_back((now, self.requests.writes, self.settled));
        while self.recent.len() > 2
            && self
                .recent
                .front()
                .is_some_and(|(at, ..)| now.since(*at) > SPEED_WINDOW)
        {
            self.recent.pop_front();
        }
        let Some((at, writes, settled)) = self.recent.front().copied() else {
            return (0.0, 0.0);
        };
        let seconds = now.since(at).as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        // Workers report in bunches; the pacer never lets more through than is allowed.
        let most = self.writes_allowed().unwrap_or(f64::INFINITY);
        (
            per_second(self.requests.writes, writes).min(most),
            per_second(self.settled, settled),
        )
    }

    /// A snapshot was taken: the next one tells of what comes after it.
    pub(super) fn on_snapshot(&mut self) {
        self.recent_latencies.reset();
    }

    /// Returns the allowed writes per second.
    pub(super) fn writes_allowed(&self) -> Option<f64> {
        self.limits.writes.map(crate::model::RateLimit::per_second)
    }

    /// Returns the counters for the ledger.
    pub(super) fn snapshot(
        &self,
        now: Mono,
        state: RunState,
        workers: u32,
        restarts: u32,
    ) -> RunSnapshot {
        let quantile = |q: f64| self.latencies.value_at_quantile(q) as f64 / 1000.0;
        let recent = |q: f64| self.recent_latencies.value_at_quantile(q) as f64 / 1000.0;
        RunSnapshot {
            state,
            exit: None,
            requests: self.requests,
            org_cache: self.org_cache,
            latency_ms: [quantile(0.50), quantile(0.95), quantile(0.99)],
            recent_ms: [recent(0.50), recent(0.99)],
            writes_per_s: self.writes_allowed(),
            rate_used: self.rate_used(),
            auto_rate: None,
            workers,
            restarts,
            settled: self.settled,
            elapsed_s: now.since(self.started).as_secs_f64(),
        }
    }

    /// Writes sent after the first ÷ (declared limit × seconds from first to last write): between
    /// two writes lies one interval, not two.
    fn rate_used(&self) -> Option<f64> {
        let allowed = self.writes_allowed()?;
        let (first, last) = self.writes_between?;
        let seconds = last.since(first).as_secs_f64();
        let after_first = self.requests.writes.saturating_sub(1);
        (seconds > 0.0).then(|| after_first as f64 / (allowed * seconds))
    }
}
