//! Counts of requests, and the largest sliding windows they came in.

use super::api::route::Op;
use super::faults::Fault;
use super::limit::{PeakWindow, Scope};
use crate::model::Mono;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Largest windows of one class of requests.
#[derive(Debug)]
struct Peaks {
    second: PeakWindow,
    ten_seconds: PeakWindow,
}

/// How they are shown.
#[derive(Debug, Serialize)]
struct PeaksView {
    #[serde(rename = "1s")]
    second: usize,
    #[serde(rename = "10s")]
    ten_seconds: usize,
}

impl Default for Peaks {
    fn default() -> Self {
        Self {
            second: PeakWindow::new(Duration::from_secs(1)),
            ten_seconds: PeakWindow::new(Duration::from_secs(10)),
        }
    }
}

impl Peaks {
    fn count(&mut self, now: Mono) {
        self.second.count(now);
        self.ten_seconds.count(now);
    }

    const fn view(&self) -> PeaksView {
        PeaksView {
            second: self.second.peak(),
            ten_seconds: self.ten_seconds.peak(),
        }
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Stats {
    received: BTreeMap<Op, u64>,
    answered: BTreeMap<(Op, u16), u64>,
    faults: BTreeMap<Fault, u64>,
    applied: u64,
    refused: u64,
    writes: Peaks,
    user_writes: Peaks,
    user_reads: Peaks,
    all: Peaks,
}

#[derive(Debug, Serialize)]
struct RequestsView {
    received: u64,
    answered: u64,
    applied: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct WindowsView {
    writes: PeaksView,
    user_management_writes: PeaksView,
    user_management_reads: PeaksView,
    all: PeaksView,
}

/// The counts as `/_sandbox/stats` shows them.
#[derive(Debug, Serialize)]
pub struct StatsView {
    requests: RequestsView,
    by_kind: BTreeMap<&'static str, u64>,
    by_status: BTreeMap<u16, u64>,
    by_kind_and_status: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    by_fault: BTreeMap<&'static str, u64>,
    largest_windows: WindowsView,
}

/// What happened to a request at the door.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    pub at: Mono,
    pub op: Op,
    pub scope: Scope,
    pub is_write: bool,
    pub fault: Option<Fault>,
    /// Answered 401 or 429 at the door: it draws on no limit and counts in no window.
    pub is_refused: bool,
}

impl Stats {
    /// Counts a request when its head has arrived.
    pub fn arrive(&mut self, arrived: Arrived) {
        *self.received.entry(arrived.op).or_default() += 1;
        if let Some(fault) = arrived.fault {
            *self.faults.entry(fault).or_default() += 1;
        }
        if arrived.is_refused {
            self.refused += 1;
            return;
        }
        self.all.count(arrived.at);
        if arrived.is_write {
            self.writes.count(arrived.at);
        }
        match arrived.scope {
            Scope::UserWrite => self.user_writes.count(arrived.at),
            Scope::UserRead => self.user_reads.count(arrived.at),
            Scope::Other => {}
        }
    }

    /// Counts an applied write.
    pub const fn apply(&mut self) {
        self.applied += 1;
    }

    /// Counts an answer.
    pub fn answer(&mut self, op: Op, status: u16) {
        *self.answered.entry((op, status)).or_default() += 1;
    }

    /// Shows the counts.
    pub fn view(&self) -> StatsView {
        let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
        let mut by_kind_and_status: BTreeMap<_, BTreeMap<u16, u64>> = BTreeMap::new();
        for ((op, status), count) in &self.answered {
            *by_status.entry(*status).or_default() += count;
            by_kind_and_status
                .entry(op.word())
                .or_default()
                .insert(*status, *count);
        }
        StatsView {
            requests: RequestsView {
                received: self.received.values().sum(),
                answered: self.answered.values().sum(),
                applied: self.applied,
                refused: self.refused,
            },
            by_kind: self
                .received
                .iter()
                .map(|(op, n)| (op.word(), *n))
                .collect(),
            by_status,
            by_kind_and_status,
            by_fault: self
                .faults
                .iter()
                .map(|(fault, n)| (fault.word(), *n))
                .collect(),
            largest_windows: WindowsView {
                writes: self.writes.view(),
                user_management_writes: self.user_writes.view(),
                user_management_reads: self.user_reads.view(),
                all: self.all.view(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refused_requests_are_in_no_window() {
        let mut stats = Stats::default();
        for n in 0..6 {
            stats.arrive(Arrived {
                at: Mono(n * 400_000_000),
                op: Op::CreateUser,
                scope: Scope::UserWrite,
                is_write: true,
                fault: (n == 0).then_some(Fault::Slow),
                is_refused: n % 2 == 1,
            });
            stats.answer(Op::CreateUser, if n % 2 == 1 { 429 } else { 201 });
        }
        stats.apply();
        let view = serde_json::to_value(stats.view()).unwrap();
        assert_eq!(
            view["requests"],
            json!({"received": 6, "answered": 6, "applied": 1, "refused": 3})
        );
        assert_eq!(
            view["largest_windows"]["writes"],
            json!({"1s": 2, "10s": 3})
        );
        assert_eq!(view["largest_windows"]["user_management_reads"]["10s"], 0);
        assert_eq!(view["by_status"], json!({"201": 3, "429": 3}));
        assert_eq!(view["by_kind_and_status"]["create_user"]["429"], 3);
        assert_eq!(view["by_fault"], json!({"slow": 1}));
    }
}
