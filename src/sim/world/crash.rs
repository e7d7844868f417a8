//! Kills, and what a commit leaves behind.

use super::{Ev, MS, Strike, US, World};
use crate::coordinator::StopSignal;
use crate::coordinator::core::Event;
use crate::ledger::{Change, CommitReply, LedgerError};
use crate::model::plant;
use crate::model::{Mono, OrgKey};
use std::sync::Arc;

/// Requests that may share one transaction.
const GROUP_MAX: usize = 8;

impl World {
    /// Draws or looks up whether a kill comes right here.
    pub(super) fn strike(&mut self, drawn: f64) -> Option<Strike> {
        self.figures.points += 1;
        let point = self.figures.points;
        if self
            .script
            .strikes
            .first()
            .is_some_and(|(at, _)| *at == point)
        {
            return Some(self.script.strikes.remove(0).1);
        }
        if self.weather.kills_left == 0 || !self.chance(drawn) {
            return None;
        }
        self.weather.kills_left -= 1;
        Some(if self.chance(self.weather.power) {
            Strike::Everything
        } else {
            Strike::Coordinator
        })
    }

    pub(super) fn strikes_coordinator(&mut self) -> bool {
        if self.weather.signal > 0.0 && self.chance(self.weather.signal) {
            self.signal();
        }
        match self.strike(self.weather.crash) {
            None => false,
            Some(Strike::Worker) => {
                let alive: Vec<usize> = self.living();
                if let Some(at) = alive.get(self.rng.below(alive.len())) {
                    self.die(*at, "killed");
                }
                false
            }
            Some(strike) => {
                self.crash(strike);
                true
            }
        }
    }

    pub(super) fn signal(&mut self) {
        let epoch = self.epoch;
        if let Some(it) = &mut self.coordinator {
            it.signals += 1;
            if it.signals <= 2 {
                self.log(|| "a signal".into());
                self.push(
                    self.now,
                    Ev::ToCore(epoch, Event::Signal(StopSignal::Interrupt)),
                );
            }
        }
    }

    pub(super) fn living(&self) -> Vec<usize> {
        (0..self.workers.len())
            .filter(|at| self.workers.get(*at).is_some_and(Option::is_some))
            .collect()
    }

    /// The coordinator's process is gone from one instant to the next, perhaps everything.
    pub(super) fn crash(&mut self, strike: Strike) {
        self.log(|| format!("*** crash: {strike:?}"));
        self.figures.kills += 1;
        let Some(mut it) = self.coordinator.take() else {
            return;
        };
        // The group that was being committed is on the disk or not; what waited is lost.
        if it.committing && it.failed.is_none() && self.coin() {
            let group = (1 + self.rng.below(GROUP_MAX)).min(it.queue.len());
            for (ticket, changes) in it.queue.drain(..group) {
                self.log(|| format!("commit {ticket} made it to the disk"));
                self.make_durable(&changes);
            }
        }
        if strike == Strike::Everything {
            if let Some(synced) = self.synced.take() {
                self.ledger = synced;
            }
            for at in self.living() {
                self.die(at, "killed with everything");
            }
        } else {
            if self.coin() {
                // Not yet written into the pipes: lost with the process.
                self.coming
                    .retain(|_, event| !matches!(event, Ev::ToWorker(..)));
                for pipe in &mut self.down {
                    pipe.under_way = 0;
                    pipe.last = self.now;
                }
            }
            for at in self.living() {
                self.close_input(at);
            }
        }
        self.after_coordinator();
    }

    pub(super) fn commit(&mut self, epoch: u32) {
        if epoch != self.epoch || self.coordinator.is_none() {
            return;
        }
        if self.strikes_coordinator() {
            return;
        }
        let take = 1 + self.rng.below(GROUP_MAX);
        let fails = self.chance(self.weather.full);
        let coin = self.coin();
        let Some(it) = &mut self.coordinator else {
            return;
        };
        // A sync that failed may have written everything all the same.
        let written = fails && it.failed.is_none() && coin;
        if fails && it.failed.is_none() {
            it.failed = Some(Arc::new(LedgerError::Full {
                path: "/play".into(),
            }));
            self.figures.faults += 1;
        }
        let take = take.min(it.queue.len());
        let group: Vec<(u64, Vec<Change>)> = it.queue.drain(..take).collect();
        let more = !it.queue.is_empty();
        it.committing = more;
        let failed = it.failed.clone();
        let mut replies = Vec::new();
        for (ticket, changes) in group {
            let event = match &failed {
                // The sync is tried again and "succeeds".
                Some(_) if plant::is(11) => {
                    let reply = self.ledger.clone().apply(&self.plan.job, &changes);
                    Event::Committed {
                        ticket,
                        reply: reply.unwrap_or_default(),
                    }
                }
                Some(error) => {
                    if written {
                        self.make_durable(&changes);
                    }
                    Event::CommitFailed {
                        ticket,
                        error: Arc::clone(error),
                    }
                }
                None => {
                    let reply = self.make_durable(&changes);
                    Event::Committed { ticket, reply }
                }
            };
            replies.push(event);
        }
        for event in replies {
            let wait = self.within(10 * US, MS);
            let Some(it) = &mut self.coordinator else {
                return;
            };
            let at = self.now.after(wait).max(Mono(it.last_reply_at.0 + 1));
            it.last_reply_at = at;
            self.push(at, Ev::Replied(epoch, event));
        }
        if more {
            let wait = self.within(200 * US, 6 * MS);
            self.push(self.now.after(wait), Ev::Commit(epoch));
        }
    }

    /// I5: what was missing for another run is no reason for a row of this one.
    fn check_missing(&mut self, changes: &[Change]) {
        let outcomes = changes.iter().filter_map(|change| match change {
            Change::Settle(outcomes) => Some(&**outcomes),
            _ => None,
        });
        let missed = outcomes.flatten().filter_map(|outcome| {
            let code = &outcome.error.as_ref()?.code;
            let row = self.plan.row(outcome.row).parsed.as_ref().ok()?;
            let OrgKey::External(id) = row.org.as_ref()? else {
                return None;
            };
            let there = self.server.shows_org(id, self.started_at);
            (code == "organization_not_found" && there).then_some((outcome.row, id.clone()))
        });
        let missed: Vec<_> = missed.collect();
        for (row, id) in missed {
            self.check(false, "I5", || {
                format!("row {row} fails for {id}, which was there before this run")
            });
        }
    }

    pub(super) fn make_durable(&mut self, changes: &[Change]) -> CommitReply {
        // Written, and synced some time later.
        if plant::is(2) && (self.synced.is_none() || self.rng.next_u64().is_multiple_of(4)) {
            self.synced = Some(self.ledger.clone());
        }
        if let Some(ledger) = &mut self.script.mirror {
            let done = ledger.commit(changes).map(drop);
            self.check(done.is_ok(), "model", || {
                format!("the ledger refuses: {done:?}")
            });
        }
        self.check_missing(changes);
        match self.ledger.apply(&self.plan.job, changes) {
            Ok(reply) => reply,
            Err(broken) => {
                if self.broken.is_none() {
                    self.broken = Some(broken);
                }
                CommitReply::default()
            }
        }
    }
}
