//! What this worker has to say, gathered until it is worth a frame.
//!
//! Outcomes go out 96 at a time, or when they are as many as the rows that are left, or after 5 ms;
//! questions, wants and alarms go out at once and take along what is there.

use crate::model::event::{CallRecord, WorkerGauge};
use crate::model::{LeaseId, Mono, RowNumber, RowOutcome};
use crate::protocol::{FromWorker, StatsDelta};
use crate::target::RequestClass;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Notify;

/// Outcomes worth a frame of their own: every frame wakes the coordinator, and what it does then
/// takes processor time and caches from whoever sends requests.
const OUTCOMES_PER_FRAME: usize = 96;

/// Most outcomes in one frame: keeps the longest messages under the frame's limit.
const OUTCOMES_PER_FRAME_MAX: usize = 256;

/// Most rows in one frame that says no more of them than their number.
const NOTICED_PER_FRAME_MAX: usize = 4096;

/// How long outcomes wait for company.
pub(crate) const OUTCOMES_WAIT: Duration = Duration::from_millis(5);

/// Counters are reported this often.
const STATS_EVERY: Duration = Duration::from_millis(200);

/// Latencies kept between two reports; more than that at once are sampled away.
const LATENCIES_MAX: usize = 16_384;

#[derive(Debug, Default)]
struct Letters {
    noticed: Vec<RowNumber>,
    /// Outcomes in frames, of which the last may grow.
    frames: Vec<Vec<(LeaseId, RowOutcome)>>,
    calls: Vec<CallRecord>,
    messages: Vec<FromWorker>,
    stats: StatsDelta,
    /// Good and bad answers to writes and to reads.
    health: BTreeMap<RequestClass, (u32, u32)>,
    urgent: bool,
    /// Whoever sends them was told that something is there, and has not taken it yet.
    rung: bool,
    reported_at: Mono,
}

impl Letters {
    /// Adds an outcome: a dry run may have thousands, and they are moved once at most.
    fn add(&mut self, lease: LeaseId, outcome: RowOutcome) {
        let last = self.frames.last().map(Vec::len);
        if last.is_none_or(|outcomes| outcomes == OUTCOMES_PER_FRAME_MAX) {
            // After one that is full there are many.
            let room = last.map_or(OUTCOMES_PER_FRAME, |_| OUTCOMES_PER_FRAME_MAX);
            self.frames.push(Vec::with_capacity(room));
        }
        if let Some(frame) = self.frames.last_mut() {
            if frame.len() == OUTCOMES_PER_FRAME {
                frame.reserve_exact(OUTCOMES_PER_FRAME_MAX - OUTCOMES_PER_FRAME);
            }
            frame.push((lease, outcome));
        }
    }

    /// Returns how many outcomes there are, as long as they are not worth a frame: then they are in
    /// the first.
    fn first_outcomes(&self) -> usize {
        self.frames.first().map_or(0, Vec::len)
    }

    /// Says that something is there; returns whether whoever sends has to be told.
    const fn ring(&mut self) -> bool {
        !std::mem::replace(&mut self.rung, true)
    }
}

/// The outgoing side, shared by everything in the worker. One thread, no await inside.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    letters: RefCell<Letters>,
    /// Something is there to be sent, now or soon.
    pub(crate) any: Notify,
    /// Something is there that should not wait; heard only by who waits for it at that moment.
    pub(crate) now: Notify,
}

impl Outbox {
    /// Says something at once.
    pub(crate) fn say(&self, message: FromWorker) {
        let mut letters = self.letters.borrow_mut();
        letters.messages.push(message);
        letters.urgent = true;
        drop(letters);
        self.wake_now();
    }

    /// Reports what became of a row. `left` is how many rows this worker still has: when it has said
    /// nothing of half of what it was given, it may be about to run dry.
    pub(crate) fn settle(&self, lease: LeaseId, outcome: RowOutcome, left: usize) {
        let mut letters = self.letters.borrow_mut();
        letters.add(lease, outcome);
        // Whoever sends them is told once.
        let enough = !letters.urgent && letters.first_outcomes() >= left.min(OUTCOMES_PER_FRAME);
        letters.urgent |= enough;
        let rings = letters.ring();
        drop(letters);
        if enough {
            self.wake_now();
        } else if rings {
            self.any.notify_one();
        }
    }

    /// Says that there is something to tell of a row; it goes out with what becomes of it.
    pub(crate) fn notice(&self, row: RowNumber) {
        self.letters.borrow_mut().noticed.push(row);
    }

    /// Adds to the counters.
    pub(crate) fn count(&self, add: impl FnOnce(&mut StatsDelta)) {
        let mut letters = self.letters.borrow_mut();
        add(&mut letters.stats);
        letters.stats.latencies_us.truncate(LATENCIES_MAX);
        let rings = letters.ring();
        drop(letters);
        if rings {
            self.any.notify_one();
        }
    }

    /// Records a call.
    pub(crate) fn record(&self, call: CallRecord) {
        self.letters.borrow_mut().calls.push(call);
    }

    /// Counts an answer for or against the target's health; bad news travel at once.
    pub(crate) fn health(&self, class: RequestClass, good: bool) {
        let mut letters = self.letters.borrow_mut();
        let (ok, bad) = letters.health.entry(class).or_default();
        if good {
            *ok += 1;
            return;
        }
        *bad += 1;
        letters.urgent = true;
        drop(letters);
        self.wake_now();
    }

    /// Returns whether something should go out at once.
    pub(crate) fn is_urgent(&self) -> bool {
        self.letters.borrow().urgent
    }

    /// Takes what is due at `now`; counters join when they are due or something else goes anyway
    /// at the end.
    pub(crate) fn take(&self, now: Mono, gauge: WorkerGauge, last: bool) -> Vec<FromWorker> {
        let mut letters = self.letters.borrow_mut();
        (letters.urgent, letters.rung) = (false, false);
        let mut out = Vec::new();
        for (class, (ok, bad)) in std::mem::take(&mut letters.health) {
            out.push(FromWorker::Health { class, ok, bad });
        }
        for rows in std::mem::take(&mut letters.noticed).chunks(NOTICED_PER_FRAME_MAX) {
            out.push(FromWorker::Noticed(rows.to_vec()));
        }
        out.extend(letters.frames.drain(..).map(FromWorker::Outcomes));
        if !letters.calls.is_empty() {
            let calls = std::mem::take(&mut letters.calls);
            out.extend(
                calls
                    .chunks(512)
                    .map(|calls| FromWorker::Calls(calls.to_vec())),
            );
        }
        if last || now.since(letters.reported_at) >= STATS_EVERY {
            letters.reported_at = now;
            let mut stats = std::mem::take(&mut letters.stats);
            stats.gauge = gauge;
            out.push(FromWorker::Stats(Box::new(stats)));
        }
        out.append(&mut letters.messages);
        out
    }

    /// Has what is there sent now.
    pub(crate) fn wake_now(&self) {
        self.any.notify_one();
        // Who is not waiting finds it urgent when it looks. Heard later, the call would hurry what is
        // said after it.
        self.now.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RowError, Step};

    fn outcome(row: u32) -> RowOutcome {
        RowOutcome::failed(RowNumber(row), Step::User, RowError::local("x", "y"))
    }

    #[test]
    fn outcomes_gather_until_there_are_enough() {
        let outbox = Outbox::default();
        for row in 1..96 {
            outbox.settle(LeaseId(1), outcome(row), 1000);
            assert!(!outbox.is_urgent());
        }
        outbox.settle(LeaseId(1), outcome(96), 1000);
        assert!(outbox.is_urgent());
        let out = outbox.take(Mono(0), WorkerGauge::default(), false);
        assert!(matches!(&out[..], [FromWorker::Outcomes(outcomes)] if outcomes.len() == 96));
        assert!(
            outbox
                .take(Mono(0), WorkerGauge::default(), false)
                .is_empty()
        );
    }

    #[test]
    fn outcomes_do_not_gather_while_the_worker_runs_dry() {
        let outbox = Outbox::default();
        for (row, left) in [(1, 4), (2, 3)] {
            outbox.settle(LeaseId(1), outcome(row), left);
            assert!(!outbox.is_urgent());
        }
        outbox.settle(LeaseId(1), outcome(3), 2);
        assert!(outbox.is_urgent());
    }

    #[tokio::test]
    async fn what_was_urgent_and_is_sent_hurries_nothing_else() {
        let outbox = Outbox::default();
        outbox.say(FromWorker::Credit);
        let soon = tokio::time::timeout(Duration::ZERO, outbox.now.notified());
        assert!(soon.await.is_err(), "a frame would go out for one outcome");
        // Whoever waits already is not left waiting.
        let waiting = outbox.now.notified();
        outbox.say(FromWorker::Credit);
        let heard = tokio::time::timeout(Duration::ZERO, waiting);
        assert!(heard.await.is_ok());
    }

    #[test]
    fn many_outcomes_go_in_frames_that_fit_and_none_is_lost() {
        let outbox = Outbox::default();
        for row in 1..=600 {
            outbox.settle(LeaseId(1), outcome(row), 1000);
        }
        let (mut rows, mut frames) = (Vec::new(), Vec::new());
        for message in outbox.take(Mono(0), WorkerGauge::default(), false) {
            let FromWorker::Outcomes(outcomes) = message else {
                panic!("{message:?}");
            };
            frames.push(outcomes.len());
            rows.extend(outcomes.iter().map(|(_, outcome)| outcome.row.0));
        }
        assert_eq!(rows, (1..=600).collect::<Vec<_>>());
        assert_eq!(frames, [256, 256, 88]);
    }

    #[test]
    fn what_is_noticed_of_rows_comes_before_what_became_of_them() {
        let outbox = Outbox::default();
        outbox.settle(LeaseId(1), outcome(1), 1000);
        for row in 1..=5000 {
            outbox.notice(RowNumber(row));
        }
        let out = outbox.take(Mono(0), WorkerGauge::default(), false);
        let [
            FromWorker::Noticed(first),
            FromWorker::Noticed(rest),
            FromWorker::Outcomes(_),
        ] = &out[..]
        else {
            panic!("{out:?}");
        };
        let rows: Vec<u32> = first.iter().chain(rest).map(|row| row.0).collect();
        assert_eq!(rows, (1..=5000).collect::<Vec<_>>());
    }

    #[test]
    fn bad_health_is_urgent_and_good_health_waits() {
        let outbox = Outbox::default();
        let class = RequestClass::Write;
        outbox.health(class, true);
        assert!(!outbox.is_urgent());
        outbox.health(class, false);
        assert!(outbox.is_urgent());
        let out = outbox.take(Mono(0), WorkerGauge::default(), false);
        assert_eq!(
            out,
            [FromWorker::Health {
                class,
                ok: 1,
                bad: 1
            }]
        );
    }

    #[test]
    fn outcomes_come_before_whatever_was_said_after_them() {
        let outbox = Outbox::default();
        outbox.settle(LeaseId(1), outcome(1), 1000);
        outbox.say(FromWorker::Drained);
        let out = outbox.take(Mono(0), WorkerGauge::default(), true);
        assert!(matches!(out.first(), Some(FromWorker::Outcomes(_))));
        assert_eq!(out.last(), Some(&FromWorker::Drained));
    }
}
