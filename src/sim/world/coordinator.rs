//! The coordinator on the stage: what it is told, what its effects do.

use super::{Coordinator, Ev, MS, SECOND, TO_WORKER_MAX, US, World};
use crate::coordinator::EndReason;
use crate::coordinator::core::{Core, CoreConfig, Effect, Event, LAST_PASS_MAX};
use crate::ledger::{Holder, JobImage};
use crate::model::plant;
use crate::model::{Mono, RowNumber, ServerMs, WorkerId};
use crate::pace::Pacer;
use crate::protocol::{FromWorker, Grant, ToWorker};
use crate::sim::server::EPOCH_MS;
use crate::target::{RequestClass, StopReason};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

impl World {
    pub(super) fn start(&mut self) {
        self.start_planned = false;
        self.epoch += 1;
        self.started_at = self.server.clock(self.now);
        self.figures.coordinators += 1;
        let image = self.ledger.image(&self.plan.job);
        if let Some(ledger) = &mut self.script.mirror {
            ledger.begin_run(&Holder::current()).unwrap();
            let real = ledger.load().unwrap();
            let same = real == image;
            self.check(same, "model", || {
                format!("the ledger says {real:#?}, the model {image:#?}")
            });
        }
        let balances = image.rows.balances();
        self.check(balances, "I14", || "the image does not add up".into());
        self.check_doubt(&image);
        self.log(|| format!("--- coordinator {} starts", self.epoch));
        let config = CoreConfig {
            started: self.now,
            workers: self.plan.workers,
            at_work_max: self.plan.at_work_max,
            concurrency: self.plan.concurrency,
            limits: self.plan.limits,
            auto_rate: self.plan.auto_rate,
            create_orgs: self.plan.create_orgs,
            dry_run: false,
            // Where all who are known were deleted, a person says --yes.
            any_environment: !self.server.gone.0.is_empty(),
            max_outage: self.plan.max_outage,
            max_failures: None,
            limit: None,
            existing_scan: self.plan.existing_scan,
            scan_rows_min: 1,
            time_scale: self.plan.time_scale,
            seed: self.rng.next_u64(),
            wall: self.wall(),
        };
        let sentinels = image.sentinels.clone();
        self.coordinator = Some(Coordinator {
            core: Core::new(config, image, self.now),
            sentinels,
            queue: VecDeque::new(),
            committing: false,
            failed: None,
            workers: BTreeMap::new(),
            granted: BTreeMap::new(),
            gone: BTreeSet::new(),
            last_reply_at: self.now,
            last_tick: self.now,
            idle_ticks: 0,
            slept: Duration::ZERO,
            signals: 0,
        });
        let epoch = self.epoch;
        self.tell_core(epoch, Event::Tick);
    }

    /// No more rows are in doubt than may have been leased.
    fn check_doubt(&mut self, image: &JobImage) {
        let doubtful: usize = image
            .leases
            .values()
            .map(|lease| lease.suspects.len())
            .sum();
        let chunk = image.chunks.iter().map(|chunk| chunk.rows).max();
        let (chunk, in_flight) = (chunk.unwrap_or(1), self.plan.concurrency);
        let limited = Pacer::new(self.plan.limits, self.now).paces(RequestClass::Write);
        let chunks = if limited {
            in_flight.div_ceil(chunk)
        } else {
            (4 * in_flight).div_ceil(chunk).max(2)
        };
        let most = (self.plan.workers * chunk * chunks) as usize + LAST_PASS_MAX;
        self.check(doubtful <= most, "suspects", || {
            format!("{doubtful} rows are in doubt, at most {most} may be")
        });
    }

    /// The local wall clock: in some plays it is years off, otherwise with every run.
    fn wall(&mut self) -> ServerMs {
        const YEARS_MS: u64 = 5 * 365 * 86_400_000;
        let off = (self.rng.next_u64() % (2 * YEARS_MS)).cast_signed() - YEARS_MS.cast_signed();
        let off = if self.weather.wall_jumps { off } else { 0 };
        ServerMs(EPOCH_MS + off)
    }

    /// Gives the coordinator one event, sometimes several, then performs its effects.
    pub(super) fn tell_core(&mut self, epoch: u32, event: Event) {
        if epoch != self.epoch {
            return;
        }
        let mut effects = Vec::new();
        if let Some(it) = self.coordinator.as_mut().filter(|it| !it.slept.is_zero()) {
            let slept = std::mem::take(&mut it.slept);
            self.feed(Event::Slept(slept), &mut effects);
        }
        self.feed(event, &mut effects);
        while self.chance(self.weather.batch) {
            let Some((&(at, _), Ev::ToCore(of, _) | Ev::Replied(of, _))) =
                self.coming.first_key_value()
            else {
                break;
            };
            if *of != epoch || at > self.now.after(Duration::from_millis(2)) {
                break;
            }
            self.now = self.now.max(at);
            if let Some((_, Ev::ToCore(_, event) | Ev::Replied(_, event))) = self.coming.pop_first()
            {
                self.feed(event, &mut effects);
            }
        }
        for effect in effects {
            if self.coordinator.is_none() || self.broken.is_some() {
                return;
            }
            if self.strikes_coordinator() {
                return;
            }
            self.perform(effect);
        }
    }

    pub(super) fn feed(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let Some(mut it) = self.coordinator.take() else {
            return;
        };
        match &event {
            Event::WorkerSaid {
                worker,
                message: FromWorker::Outcomes(outcomes),
            } => {
                for (lease, outcome) in outcomes {
                    if it.granted.get(&outcome.row) == Some(&(*lease, *worker)) {
                        it.granted.remove(&outcome.row);
                    }
                }
            }
            Event::WorkerGone { worker, .. } => {
                it.granted.retain(|_, by| by.1 != *worker);
                it.gone.insert(*worker);
            }
            _ => {}
        }
        if !matches!(event, Event::Tick) {
            self.log(|| format!("core  <- {event:?}").chars().take(400).collect());
        }
        it.core.on_event(self.now, event, effects);
        let (rows, ..) = it.core.tallies();
        self.check(rows.balances(), "I14", || {
            format!("the core's rows do not add up: {rows:?}")
        });
        self.coordinator = Some(it);
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { worker } => self.spawn(worker),
            Effect::Send { worker, message } => self.tell(worker, message),
            Effect::CloseInput { worker } => {
                if let Some(at) = self.index_of(worker) {
                    self.close_input(at);
                }
            }
            Effect::Terminate { worker } | Effect::Kill { worker } => {
                self.log(|| format!("core  -> kill {worker}"));
                if let Some(at) = self.index_of(worker) {
                    self.die(at, "killed by its coordinator");
                }
            }
            Effect::Commit {
                ticket, changes, ..
            } => {
                self.log(|| {
                    format!("core  -> commit {ticket} {changes:?}")
                        .chars()
                        .take(500)
                        .collect()
                });
                let Some(it) = &mut self.coordinator else {
                    return;
                };
                it.queue.push_back((ticket, changes));
                let (begin, epoch, queued) = (!it.committing, self.epoch, it.queue.len());
                it.committing = true;
                self.check(queued <= 1024, "I16", || {
                    "the writer's queue overflows".into()
                });
                if begin {
                    let wait = self.within(200 * US, 6 * MS);
                    self.push(self.now.after(wait), Ev::Commit(epoch));
                }
            }
            Effect::Emit(event) => {
                use crate::model::event::RunEvent as E;
                if !matches!(event, E::Progress(_) | E::Worker { .. } | E::Settled(_)) {
                    self.log(|| format!("event    {event:?}").chars().take(200).collect());
                }
            }
            Effect::Finish(reason) => self.finish(&reason),
        }
    }

    pub(super) fn index_of(&self, worker: WorkerId) -> Option<usize> {
        self.coordinator.as_ref()?.workers.get(&worker).copied()
    }

    pub(super) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        if let ToWorker::Grant(grant) = &message {
            self.check_grant(worker, grant);
        }
        self.log(|| format!("core  -> {worker}: {message:?}"));
        let Some(at) = self.index_of(worker) else {
            return;
        };
        let lag = self.pipe_lag();
        if self.down.get(at).is_none_or(|pipe| pipe.broken) {
            return;
        }
        if !self.chance(self.weather.garble) {
            return self.say_down(at, lag, message);
        }
        let noise = self.noise(&message);
        for message in noise.whole {
            self.say_down(at, lag, message);
        }
        let wait = match noise.defect {
            Some(_) => lag,
            None => self.within(MS, 40 * SECOND),
        };
        if let Some(pipe) = self.down.get_mut(at) {
            pipe.broken = true;
            let noticed_at = self.now.after(wait).max(Mono(pipe.last.0 + 1));
            self.push(noticed_at, Ev::Noise(at));
        }
    }

    fn say_down(&mut self, at: usize, lag: Duration, message: ToWorker) {
        let Some(pipe) = self.down.get_mut(at) else {
            return;
        };
        pipe.last = self.now.after(lag).max(Mono(pipe.last.0 + 1));
        pipe.under_way += 1;
        let (deliver_at, under_way) = (pipe.last, pipe.under_way);
        self.check(under_way <= TO_WORKER_MAX, "I16", || {
            format!("{under_way} messages wait for one worker")
        });
        self.push(deliver_at, Ev::ToWorker(at, message));
    }

    pub(super) fn check_grant(&mut self, worker: WorkerId, grant: &Grant) {
        self.granting_epoch = self.epoch;
        if self
            .coordinator
            .as_ref()
            .is_none_or(|it| it.gone.contains(&worker))
        {
            return;
        }
        let first = grant.chunk.first_row.0;
        let all = (first..first + grant.chunk.rows).map(RowNumber);
        let rows = grant.rows.clone().unwrap_or_else(|| all.collect());
        for row in rows {
            let settled = self.ledger.outcomes().contains_key(&row);
            self.check(!settled, "I2", || {
                format!("row {row} is granted, and it is settled")
            });
            let leased = self.ledger.covers(row);
            self.check(leased, "I1", || {
                format!("row {row} is granted without a durable lease")
            });
            let Some(it) = &mut self.coordinator else {
                return;
            };
            let other = it.granted.insert(row, (grant.lease, worker));
            self.check(other.is_none(), "I2", || {
                format!("row {row} is granted to {worker}, and {other:?} has it")
            });
        }
    }

    pub(super) fn finish(&mut self, reason: &EndReason) {
        self.log(|| format!("--- coordinator {} ends: {reason:?}", self.epoch));
        let Some(mut it) = self.coordinator.take() else {
            return;
        };
        // The writer commits what is queued before the process ends.
        while let Some((_, changes)) = it.queue.pop_front() {
            if it.failed.is_none() {
                self.make_durable(&changes);
            }
        }
        let (rows, memberships, organizations) = it.core.tallies();
        let totals = self.ledger.totals(&self.plan.job);
        let same = totals.rows == rows
            && totals.memberships == memberships
            && totals.organizations == organizations;
        if !matches!(reason, EndReason::Ledger(_)) {
            self.check(same, "I14", || {
                format!(
                    "the run says {rows:?} {memberships:?} {organizations:?}, the ledger {totals:?}"
                )
            });
        }
        match reason {
            EndReason::Completed => {
                self.completed = true;
                self.check(rows.pending == 0, "I3", || {
                    format!("complete with {rows:?}")
                });
            }
            EndReason::Internal(words) => {
                let by_deaths = words.contains("workers die");
                self.check(by_deaths && self.deaths > 0, "I18", || words.clone());
            }
            EndReason::SourceChanged(words) | EndReason::SourceUnreadable(words) => {
                self.check(false, "I15", || words.clone());
            }
            EndReason::Refused(StopReason::Unauthorized)
            | EndReason::Interrupted(_)
            | EndReason::Outage(_)
            | EndReason::Limited
            | EndReason::TooManyFailures(_)
            | EndReason::Ledger(_) => {}
            // Users made a moment ago may be invisible yet; those known may be deleted by now.
            EndReason::Refused(StopReason::OtherEnvironment)
                if !self.weather.lag.is_zero() || self.server.are_gone(&it.sentinels) => {}
            EndReason::Refused(reason) => {
                self.check(false, "I18", || format!("nobody refused: {reason:?}"));
            }
        }
        for at in it.workers.into_values() {
            self.close_input(at);
        }
        self.after_coordinator();
    }

    /// The next one starts when the lock is free: when every worker is gone.
    pub(super) fn after_coordinator(&mut self) {
        let alone = self.workers.iter().all(Option::is_none) || plant::is(8);
        if self.coordinator.is_none() && !self.completed && alone {
            let wait = self.rng.next_u64() % 4;
            self.plan_start(wait);
        }
    }

    pub(super) fn close_input(&mut self, at: usize) {
        if self.workers.get(at).is_none_or(Option::is_none) {
            return;
        }
        let lag = self.pipe_lag();
        if let Some(pipe) = self.down.get_mut(at).filter(|pipe| !pipe.broken) {
            pipe.broken = true;
            let deliver_at = self.now.after(lag).max(Mono(pipe.last.0 + 1));
            self.push(deliver_at, Ev::Eof(at));
        }
    }
}
