//! The stage: one virtual clock, one queue of things to come, one seed for every choice.

use super::ledger::LedgerModel;
use super::plan::Plan;
use super::server::{self, Server};
use super::weather::{Trouble, Weather};
use super::worker::{Out, SimWorker};
use crate::coordinator::core::{Core, CoreConfig, Effect, Event};
use crate::coordinator::{EndReason, StopSignal};
use crate::ledger::{Change, CommitReply, Holder, Ledger, LedgerError};
use crate::model::plant;
use crate::model::rng::Rng;
use crate::model::{LeaseId, Mono, OrgKey, RowNumber, ServerMs, WorkerId};
use crate::pace::Pacer;
use crate::protocol::{FromWorker, Grant, ToWorker};
use crate::target::{Op, Reply, RequestClass, StopReason, TransportError};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Microseconds and milliseconds of the virtual clock.
const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// More events than this in one play mean that it does not end (I18).
const STEPS_MAX: u64 = 400_000;
/// From the last fault to the end of the job, at most (I18).
const CALM_MAX: Duration = Duration::from_hours(2);
/// Messages that may be under way to one worker: the bound of its queue (I16).
const TO_WORKER_MAX: usize = 4096;
/// Rows, requests and flights one worker may hold (I16).
const WORKER_LOAD_MAX: usize = 256;

/// Something to come.
#[derive(Debug)]
enum Ev {
    /// A coordinator starts.
    Start,
    /// Something a worker's process did reaches its coordinator.
    ToCore(u32, Event),
    /// The ledger's writer takes the next group.
    Commit(u32),
    /// The fate of a commit reaches the coordinator.
    Replied(u32, Event),
    ToWorker(usize, ToWorker),
    /// A worker's input ended.
    Eof(usize),
    Wake(usize),
    /// A request reaches the server.
    Arrive(u64),
    /// An answer reaches the worker.
    Answer(u64, Reply),
    SignUp(RowNumber, bool),
}

/// A request under way.
#[derive(Debug)]
struct Wire {
    worker: usize,
    task: u32,
    op: Op,
    row: Option<RowNumber>,
    trouble: Trouble,
    back: Duration,
    gives_up_at: Mono,
    answered: bool,
    arrived: bool,
}

/// A living coordinator.
struct Coordinator {
    core: Core,
    /// Told to the ledger's writer and not committed.
    queue: VecDeque<(u64, Vec<Change>)>,
    committing: bool,
    failed: Option<Arc<LedgerError>>,
    workers: BTreeMap<WorkerId, usize>,
    /// Rows of live grants as the outside sees them (I2).
    granted: BTreeMap<RowNumber, (LeaseId, WorkerId)>,
    /// Whose end it knows of: what it still says to them reaches nobody.
    gone: BTreeSet<WorkerId>,
    last_reply_at: Mono,
    last_tick: Mono,
    idle_ticks: u32,
    signals: u32,
}

/// One end of a pipe: order is kept.
#[derive(Clone, Copy, Debug, Default)]
struct Pipe {
    last: Mono,
    under_way: usize,
    broken: bool,
}

/// What a crash hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    Coordinator,
    Worker,
    Everything,
}

/// What can be done to a play besides its weather.
#[derive(Debug, Default)]
pub struct Script {
    /// Kills at these points (counted over all effects and acts), ascending.
    pub strikes: Vec<(u64, Strike)>,
    /// Prints what happens.
    pub trace: bool,
    /// A real ledger commits the same.
    pub mirror: Option<Ledger>,
}

/// What a play came to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub steps: u64,
    pub points: u64,
    pub coordinators: u32,
    pub kills: u32,
    pub requests: u64,
    pub faults: u64,
    pub virtual_ms: u64,
}

/// One play.
pub struct World {
    pub plan: Plan,
    pub server: Server,
    /// What survives.
    pub ledger: LedgerModel,
    pub weather: Weather,
    pub figures: Figures,
    /// The first invariant that broke, with its id.
    pub broken: Option<String>,
    /// Faults of requests that left a row's fate unclear, by row; 0 for organizations.
    pub unclear: BTreeMap<RowNumber, u32>,
    pub deaths: u32,
    /// Starts of requests, for the rate.
    pub starts: Vec<(Mono, RequestClass)>,
    /// Starts of coordinators and probes: each may put one request more into a window.
    pub extras: Vec<Mono>,
    pub completed: bool,
    script: Script,
    rng: Rng,
    now: Mono,
    serial: u64,
    coming: BTreeMap<(Mono, u64), Ev>,
    coordinator: Option<Coordinator>,
    epoch: u32,
    /// The newest coordinator that granted something (I12).
    granting_epoch: u32,
    start_planned: bool,
    workers: Vec<Option<Box<SimWorker>>>,
    down: Vec<Pipe>,
    up: Vec<Pipe>,
    wires: BTreeMap<u64, Wire>,
    synced: Option<LedgerModel>,
    calm_since: Option<Mono>,
}

impl World {
    pub fn new(plan: Plan, weather: Weather, seed: u64, script: Script) -> Self {
        let ledger = LedgerModel::new(&plan);
        let server = Server::new(&plan.old_orgs, &plan.old_users, weather.lag);
        let mut world = Self {
            server,
            ledger,
            figures: Figures::default(),
            broken: None,
            unclear: BTreeMap::new(),
            deaths: 0,
            starts: Vec::new(),
            extras: Vec::new(),
            completed: false,
            script,
            rng: Rng::new(seed ^ 0x0077_6f72_6c64),
            now: Mono(SECOND),
            serial: 0,
            coming: BTreeMap::new(),
            coordinator: None,
            epoch: 0,
            granting_epoch: 0,
            start_planned: false,
            workers: Vec::new(),
            down: Vec::new(),
            up: Vec::new(),
            wires: BTreeMap::new(),
            synced: None,
            calm_since: None,
            plan,
            weather,
        };
        for (at, row, like_it) in world.weather.sign_ups.clone() {
            world.push(at, Ev::SignUp(row, like_it));
        }
        world.plan_start(0);
        world
    }

    /// Plays until the job is complete and nothing is under way, or an invariant broke.
    pub fn run(&mut self) {
        while !self.completed && self.broken.is_none() {
            self.advance();
        }
        // What was sent and not answered may still be applied.
        self.weather.clear_up();
        while self.broken.is_none() && self.wires.values().any(|wire| !wire.arrived) {
            self.advance();
        }
    }

    /// Resumes the complete job: nothing may be written by that (I13).
    pub fn run_again(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let before = (
            self.server.writes_applied,
            self.ledger.totals(&self.plan.job),
        );
        let sent = self
            .starts
            .iter()
            .filter(|start| start.1 == RequestClass::Write)
            .count();
        self.completed = false;
        self.plan_start(1);
        while !self.completed && self.broken.is_none() {
            self.advance();
        }
        let after = (
            self.server.writes_applied,
            self.ledger.totals(&self.plan.job),
        );
        let again = self
            .starts
            .iter()
            .filter(|start| start.1 == RequestClass::Write)
            .count();
        self.check(before == after && sent == again, "I13", || {
            "resuming a finished job wrote something".into()
        });
    }

    pub fn log(&self, line: impl FnOnce() -> String) {
        if self.script.trace {
            say(&format!("{:>12.3} ms  {}", self.now.0 as f64 / 1e6, line()));
        }
    }

    fn check(&mut self, holds: bool, id: &str, detail: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("{id}: {}", detail()));
        }
    }

    fn push(&mut self, at: Mono, event: Ev) {
        self.serial += 1;
        self.coming.insert((at.max(self.now), self.serial), event);
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.unit() < share
    }

    fn within(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_nanos(from + self.rng.next_u64() % (to - from + 1))
    }

    fn plan_start(&mut self, wait_ms: u64) {
        if !self.start_planned {
            self.start_planned = true;
            let wait = self.within(MS, (wait_ms + 1) * 400 * MS);
            self.push(self.now.after(wait), Ev::Start);
        }
    }

    /// Does the next thing: an event, or a look of the coordinator at its deadlines.
    fn advance(&mut self) {
        self.figures.steps += 1;
        self.figures.virtual_ms = self.now.0 / MS;
        let steps = self.figures.steps;
        self.check(steps < STEPS_MAX, "I18", || "the play does not end".into());
        if self.calm_since.is_none() && self.now >= self.weather.calm_at {
            self.log(|| "calm from now on".into());
            self.weather.clear_up();
            self.calm_since = Some(self.now);
        }
        let calm = self
            .calm_since
            .map_or(Duration::ZERO, |since| self.now.since(since));
        self.check(calm < CALM_MAX, "I18", || {
            "hours without a fault, and no end".into()
        });
        let next = self.coming.first_key_value().map(|(key, _)| key.0);
        let tick = self.coordinator.as_ref().map(|it| {
            it.core
                .deadline(self.now)
                .max(it.last_tick.after(Duration::from_micros(200)))
        });
        match (next, tick) {
            (None, None) => self.check(false, "I18", || "nothing is left to happen".into()),
            (next, Some(at)) if next.is_none_or(|next| at < next) => {
                self.now = self.now.max(at);
                let wanted = |it: &Coordinator| it.core.deadline(self.now) <= it.last_tick;
                let early = self.coordinator.as_ref().is_some_and(wanted);
                if let Some(it) = &mut self.coordinator {
                    it.last_tick = self.now;
                    it.idle_ticks = if early { it.idle_ticks + 1 } else { 0 };
                    let idle = it.idle_ticks;
                    self.check(idle < 3, "I16", || {
                        "the coordinator asks to be woken in the past, over and over".into()
                    });
                }
                let epoch = self.epoch;
                self.tell_core(epoch, Event::Tick);
            }
            _ => {
                if let Some(((at, _), event)) = self.coming.pop_first() {
                    self.now = self.now.max(at);
                    self.happen(event);
                }
            }
        }
    }

    fn happen(&mut self, event: Ev) {
        match event {
            Ev::Start => self.start(),
            Ev::ToCore(epoch, event) | Ev::Replied(epoch, event) => self.tell_core(epoch, event),
            Ev::Commit(epoch) => self.commit(epoch),
            Ev::ToWorker(at, message) => {
                if let Some(pipe) = self.down.get_mut(at) {
                    pipe.under_way -= 1;
                }
                self.with_worker(at, Ev::ToWorker(at, message));
            }
            Ev::Eof(at) => self.with_worker(at, Ev::Eof(at)),
            Ev::Wake(at) => self.with_worker(at, Ev::Wake(at)),
            Ev::Arrive(wire) => self.arrive(wire),
            Ev::Answer(wire, reply) => self.answered(wire, reply),
            Ev::SignUp(row, like_it) => {
                let planned = self.plan.row(row);
                let email = planned.email_norm.clone();
                let row = planned.parsed.as_ref().ok();
                let first = row
                    .and_then(|row| row.first_name.clone())
                    .filter(|_| like_it);
                let verified = like_it && row.is_some_and(|row| row.email_verified == Some(true));
                if self
                    .server
                    .sign_up(self.now, &email, first.as_deref(), verified)
                {
                    self.log(|| format!("somebody signs up as {email}"));
                }
            }
        }
    }

    // --- the coordinator

    fn start(&mut self) {
        self.start_planned = false;
        self.epoch += 1;
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
        self.log(|| format!("--- coordinator {} starts", self.epoch));
        let config = CoreConfig {
            started: self.now,
            workers: self.plan.workers,
            limits: self.plan.limits,
            create_orgs: self.plan.create_orgs,
            dry_run: false,
            any_environment: false,
            max_outage: self.plan.max_outage,
            time_scale: self.plan.time_scale,
            seed: self.rng.next_u64(),
            wall: ServerMs(0),
        };
        self.extras.push(self.now);
        self.coordinator = Some(Coordinator {
            core: Core::new(config, image, self.now),
            queue: VecDeque::new(),
            committing: false,
            failed: None,
            workers: BTreeMap::new(),
            granted: BTreeMap::new(),
            gone: BTreeSet::new(),
            last_reply_at: self.now,
            last_tick: self.now,
            idle_ticks: 0,
            signals: 0,
        });
        let epoch = self.epoch;
        self.tell_core(epoch, Event::Tick);
    }

    /// Gives the coordinator one event, sometimes several, then performs its effects.
    fn tell_core(&mut self, epoch: u32, event: Event) {
        if epoch != self.epoch {
            return;
        }
        let mut effects = Vec::new();
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

    fn feed(&mut self, event: Event, effects: &mut Vec<Effect>) {
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

    fn perform(&mut self, effect: Effect) {
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
            Effect::Commit { ticket, changes } => {
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

    fn index_of(&self, worker: WorkerId) -> Option<usize> {
        self.coordinator.as_ref()?.workers.get(&worker).copied()
    }

    fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        if let ToWorker::Grant(grant) = &message {
            self.check_grant(worker, grant);
        }
        self.log(|| format!("core  -> {worker}: {message:?}"));
        let Some(at) = self.index_of(worker) else {
            return;
        };
        let lag = self.pipe_lag();
        let Some(pipe) = self.down.get_mut(at) else {
            return;
        };
        if pipe.broken {
            return;
        }
        pipe.last = self.now.after(lag).max(Mono(pipe.last.0 + 1));
        pipe.under_way += 1;
        let (deliver_at, under_way) = (pipe.last, pipe.under_way);
        self.check(under_way <= TO_WORKER_MAX, "I16", || {
            format!("{under_way} messages wait for worker {worker}")
        });
        self.push(deliver_at, Ev::ToWorker(at, message));
    }

    fn check_grant(&mut self, worker: WorkerId, grant: &Grant) {
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

    fn finish(&mut self, reason: &EndReason) {
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
                self.check(false, "I15", || words.clone())
            }
            EndReason::Refused(StopReason::Unauthorized)
            | EndReason::Interrupted(_)
            | EndReason::Outage(_)
            | EndReason::Ledger(_) => {}
            // Users made a moment ago may be invisible yet.
            EndReason::Refused(StopReason::OtherEnvironment) if !self.weather.lag.is_zero() => {}
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
    fn after_coordinator(&mut self) {
        let alone = self.workers.iter().all(Option::is_none) || plant::is(8);
        if self.coordinator.is_none() && !self.completed && alone {
            let wait = self.rng.next_u64() % 4;
            self.plan_start(wait);
        }
    }

    fn close_input(&mut self, at: usize) {
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

    // --- crashes

    /// Draws or looks up whether a kill comes right here.
    fn strike(&mut self, drawn: f64) -> Option<Strike> {
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

    fn strikes_coordinator(&mut self) -> bool {
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

    fn signal(&mut self) {
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

    fn living(&self) -> Vec<usize> {
        (0..self.workers.len())
            .filter(|at| self.workers.get(*at).is_some_and(Option::is_some))
            .collect()
    }

    /// The coordinator's process is gone from one instant to the next, perhaps everything.
    fn crash(&mut self, strike: Strike) {
        self.log(|| format!("*** crash: {strike:?}"));
        self.figures.kills += 1;
        let Some(mut it) = self.coordinator.take() else {
            return;
        };
        // The group that was being committed is on the disk or not; what waited is lost.
        if it.committing && it.failed.is_none() && self.rng.next_u64() % 2 == 0 {
            if let Some((ticket, changes)) = it.queue.pop_front() {
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
            if self.rng.next_u64() % 2 == 0 {
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

    // --- the ledger

    fn commit(&mut self, epoch: u32) {
        if epoch != self.epoch || self.coordinator.is_none() {
            return;
        }
        if self.strikes_coordinator() {
            return;
        }
        let take = 1 + self.rng.below(8);
        let fails = self.chance(self.weather.full);
        let coin = self.rng.next_u64() % 2 == 0;
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

    fn make_durable(&mut self, changes: &[Change]) -> CommitReply {
        // Written, and synced some time later.
        if plant::is(2) && (self.synced.is_none() || self.rng.next_u64() % 4 == 0) {
            self.synced = Some(self.ledger.clone());
        }
        if let Some(ledger) = &mut self.script.mirror {
            let done = ledger.commit(changes).map(drop);
            self.check(done.is_ok(), "model", || {
                format!("the ledger refuses: {done:?}")
            });
        }
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

    // --- workers

    fn pipe_lag(&mut self) -> Duration {
        if self.chance(self.weather.slow) {
            return self.within(MS, 3 * SECOND);
        }
        self.within(20 * US, 500 * US)
    }

    fn spawn(&mut self, id: WorkerId) {
        self.log(|| format!("core  -> spawn {id}"));
        let paces = |class| Pacer::new(self.plan.limits, self.now).paces(class);
        let paced = (paces(RequestClass::Write), paces(RequestClass::Read));
        let seed = self.rng.next_u64();
        let worker = SimWorker::new(&self.plan, id, self.epoch, seed, paced);
        let at = self.workers.len();
        self.workers.push(Some(Box::new(worker)));
        let ready_at = self.now.after(self.within(MS, 20 * MS));
        let pipe = Pipe {
            last: ready_at,
            ..Pipe::default()
        };
        self.down.push(pipe);
        self.up.push(pipe);
        if let Some(it) = &mut self.coordinator {
            it.workers.insert(id, at);
        }
        let (epoch, pid) = (self.epoch, id.0);
        self.push(
            ready_at,
            Ev::ToCore(epoch, Event::WorkerReady { worker: id, pid }),
        );
        self.push(ready_at, Ev::Wake(at));
    }

    /// Delivers to a worker, unless it is gone or stopped.
    fn with_worker(&mut self, at: usize, event: Ev) {
        let Some(Some(worker)) = self.workers.get_mut(at) else {
            return;
        };
        if worker.frozen_until > self.now {
            let thaw = worker.frozen_until;
            if let (Ev::ToWorker(..), Some(pipe)) = (&event, self.down.get_mut(at)) {
                pipe.under_way += 1;
            }
            self.push(thaw, event);
            return;
        }
        let Some(mut worker) = self.workers.get_mut(at).and_then(Option::take) else {
            return;
        };
        let mut out = Vec::new();
        let gone = match event {
            Ev::Eof(_) => true,
            Ev::ToWorker(_, message) => {
                worker.hear(self.now, message, &self.plan, &mut out);
                false
            }
            Ev::Wake(_) => {
                if worker
                    .wake_planned
                    .is_some_and(|planned| planned <= self.now)
                {
                    worker.wake_planned = None;
                }
                worker.wake(self.now, &self.plan, &mut out);
                false
            }
            _ => false,
        };
        self.put_back(at, worker);
        if gone {
            self.die(at, "its input ended");
        } else {
            self.act(at, out);
        }
    }

    fn put_back(&mut self, at: usize, worker: Box<SimWorker>) {
        let load = worker.load();
        self.check(load <= WORKER_LOAD_MAX, "I16", || {
            format!("a worker holds {load} things")
        });
        if let Some(place) = self.workers.get_mut(at) {
            *place = Some(worker);
        }
    }

    /// Performs what a worker does, one act after the other: it may die in between.
    fn act(&mut self, at: usize, out: Vec<Out>) {
        for act in out {
            let strike = self.strike(0.0);
            let dies = strike == Some(Strike::Worker)
                || (self.weather.kills_left > 0 && self.chance(self.weather.kill));
            if dies {
                self.weather.kills_left = self.weather.kills_left.saturating_sub(1);
                self.figures.kills += 1;
                self.die(at, "killed");
                return;
            }
            if let Some(strike @ (Strike::Coordinator | Strike::Everything)) = strike {
                self.crash(strike);
            }
            let Some(Some(worker)) = self.workers.get(at) else {
                return;
            };
            let (id, epoch) = (worker.id, worker.epoch);
            match act {
                Out::Frame(message) => self.frame(at, id, epoch, message),
                Out::Request {
                    task,
                    op,
                    row,
                    lease,
                    probe,
                } => {
                    self.request(at, task, (op, row, lease), probe);
                }
            }
        }
        let froze = self.chance(self.weather.freeze);
        let long = self.within(MS, 60 * SECOND);
        let Some(Some(worker)) = self.workers.get_mut(at) else {
            return;
        };
        if froze {
            worker.frozen_until = self.now.after(long);
        }
        let Some(wake_at) = worker.wake_at() else {
            return;
        };
        let wake_at = wake_at.max(Mono(self.now.0 + 1));
        if worker.wake_planned.is_none_or(|planned| wake_at < planned) {
            worker.wake_planned = Some(wake_at);
            self.push(wake_at, Ev::Wake(at));
        }
    }

    fn frame(&mut self, at: usize, worker: WorkerId, epoch: u32, message: FromWorker) {
        let lag = self.pipe_lag();
        let garbled = self.chance(self.weather.garble);
        let Some(pipe) = self.up.get_mut(at).filter(|pipe| !pipe.broken) else {
            return;
        };
        pipe.last = self.now.after(lag).max(Mono(pipe.last.0 + 1));
        let deliver_at = pipe.last;
        let event = if garbled {
            pipe.broken = true;
            self.figures.faults += 1;
            Event::WorkerBroken {
                worker,
                reason: "a frame's checksum".into(),
                stranger: false,
            }
        } else {
            Event::WorkerSaid { worker, message }
        };
        self.push(deliver_at, Ev::ToCore(epoch, event));
    }

    /// A worker ends; what it had written is delivered before its death.
    fn die(&mut self, at: usize, how: &str) {
        let Some(worker) = self.workers.get_mut(at).and_then(Option::take) else {
            return;
        };
        self.log(|| format!("worker {} of {} dies: {how}", worker.id, worker.epoch));
        self.deaths += u32::from(how.starts_with("killed"));
        let wait = self.within(10 * US, 5 * MS);
        if let Some(pipe) = self.up.get(at) {
            let gone_at = self.now.after(wait).max(Mono(pipe.last.0 + 1));
            let how = how.to_owned();
            let late = self.weather.late;
            if self.chance(late) {
                self.outlive(worker.id, worker.epoch, gone_at);
            }
            self.push(
                gone_at,
                Ev::ToCore(
                    worker.epoch,
                    Event::WorkerGone {
                        worker: worker.id,
                        how,
                    },
                ),
            );
        }
        // Requests that had not left the machine yet never arrive.
        let sent: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.worker == at && !wire.arrived)
            .map(|(id, _)| *id)
            .collect();
        for id in sent {
            if self.rng.next_u64() % 3 == 0 {
                self.wires.remove(&id);
            }
        }
        self.after_coordinator();
    }

    /// Words of a dead worker that come after the news of its death: nobody may believe them.
    fn outlive(&mut self, dead: WorkerId, of: u32, gone_at: Mono) {
        let is_its = |event: &Ev| {
            matches!(event, Ev::ToCore(epoch, Event::WorkerSaid { worker, .. })
                if *epoch == of && *worker == dead)
        };
        let tail: Vec<_> = self
            .coming
            .iter()
            .filter(|(_, event)| is_its(event))
            .map(|(key, _)| *key)
            .collect();
        for (n, key) in (1..).zip(tail) {
            if let Some(event) = self.coming.remove(&key) {
                let wait = self.within(MS, SECOND);
                self.push(gone_at.after(wait).max(Mono(gone_at.0 + n)), event);
            }
        }
    }

    // --- requests

    fn request(
        &mut self,
        at: usize,
        task: u32,
        (op, row, lease): (Op, Option<RowNumber>, Option<LeaseId>),
        probe: bool,
    ) {
        let Some(Some(worker)) = self.workers.get(at) else {
            return;
        };
        let (epoch, id, paused) = (worker.epoch, worker.id, worker.pause_until);
        self.log(|| {
            format!(
                "worker {id} of {epoch} sends {} for row {row:?} {lease:?}",
                op.name()
            )
        });
        self.check(probe || paused <= self.now, "I11", || {
            format!("worker {id} sends {} inside a pause", op.name())
        });
        self.check(epoch >= self.granting_epoch, "I12", || {
            format!("a worker of coordinator {epoch} still sends")
        });
        if op.class() == RequestClass::Write {
            self.check_intent(&op, row);
        }
        self.figures.requests += 1;
        self.starts.push((self.now, op.class()));
        if probe {
            self.extras.push(self.now);
        }
        let trouble = self.weather.trouble(self.now, &mut self.rng);
        if trouble != Trouble::None {
            self.figures.faults += 1;
            self.log(|| format!("         … {trouble:?}"));
        }
        if trouble.is_unclear() {
            *self.unclear.entry(row.unwrap_or_default()).or_default() += 1;
        }
        self.serial += 1;
        let serial = self.serial;
        let timeout = Duration::from_secs(30).mul_f64(self.plan.time_scale);
        let there = match trouble {
            Trouble::Hang => self
                .within(SECOND, 70 * SECOND)
                .mul_f64(self.plan.time_scale),
            _ => self.within(MS, 60 * MS),
        };
        let back = self.within(MS, 60 * MS);
        let gives_up_at = self.now.after(timeout);
        let wire = Wire {
            worker: at,
            task,
            op,
            row,
            trouble,
            back,
            gives_up_at,
            answered: false,
            arrived: false,
        };
        self.wires.insert(serial, wire);
        self.push(self.now.after(there), Ev::Arrive(serial));
        let lost = Reply::Transport(TransportError::Lost("no complete answer in time".into()));
        self.push(gives_up_at, Ev::Answer(serial, lost));
    }

    /// I1: no mutating request without its durable intent. I9: one creation at a time.
    fn check_intent(&mut self, op: &Op, row: Option<RowNumber>) {
        if let Some(row) = row {
            let leased = self.ledger.covers(row);
            self.check(leased, "I1", || {
                format!("{} for row {row} without a lease", op.name())
            });
            let settled = self.ledger.outcomes().contains_key(&row);
            self.check(!settled, "I2", || {
                format!("{} for row {row}, which is settled", op.name())
            });
        }
        if let Op::CreateOrg { external_id, .. } = op {
            let key = OrgKey::External(external_id.clone());
            let intended = self.ledger.intends(&key);
            self.check(intended, "I1", || {
                format!("{key} is created without an intent")
            });
            let other = self.wires.values().any(|wire| {
                let alive = self.workers.get(wire.worker).is_some_and(Option::is_some);
                alive && !wire.answered && matches!(&wire.op, Op::CreateOrg { external_id: id, .. } if id == external_id)
            });
            self.check(!other, "I9", || format!("{key} is created twice at once"));
        }
    }

    fn arrive(&mut self, serial: u64) {
        let Some(mut wire) = self.wires.remove(&serial) else {
            return;
        };
        wire.arrived = true;
        let now = self.now;
        let reset = || Reply::Transport(TransportError::Lost("connection reset".into()));
        let error = |rng: &mut Rng| {
            let status = [500, 502, 503, 504, 408][rng.below(5)];
            server::http(now, status, &json!({"message": "Internal Server Error"}))
        };
        let (op, row) = (&wire.op, wire.row);
        let reply = match wire.trouble {
            Trouble::None => self.server.handle(now, op, row),
            Trouble::Refused => Reply::Transport(TransportError::Connect("refused".into())),
            Trouble::LostBefore => reset(),
            Trouble::LostAfter => {
                self.server.handle(now, op, row);
                reset()
            }
            Trouble::Hang => self.server.handle(now, op, row),
            Trouble::ErrorBefore => error(&mut self.rng),
            Trouble::ErrorAfter => {
                self.server.handle(now, op, row);
                error(&mut self.rng)
            }
            Trouble::Cut => match self.server.handle(now, op, row) {
                Reply::Http {
                    status,
                    body: Some(body),
                    ..
                } => {
                    let keep = self.rng.below(body.len());
                    // Half a body reaches nobody as such, unless its length was not announced.
                    let half = (status < 300 && keep % 2 == 0).then(|| body[..keep].to_vec());
                    server::raw(now, status, None, half)
                }
                other => other,
            },
            Trouble::Throttled => {
                let wait = self.rng.below(4).to_string();
                server::raw(now, 429, Some(wait), Some(b"\"Ratelimited\"".to_vec()))
            }
            Trouble::ThrottledSilently => {
                server::raw(now, 429, None, Some(b"\"Ratelimited\"".to_vec()))
            }
            Trouble::Unauthorized => server::http(now, 401, &json!({"message": "Unauthorized"})),
        };
        self.log(|| {
            let status = match &reply {
                Reply::Http { status, body, .. } => format!(
                    "{status} {}",
                    String::from_utf8_lossy(body.as_deref().unwrap_or_default())
                ),
                Reply::Transport(error) => format!("{error:?}"),
            };
            format!(
                "server   {} of row {:?}: {status}",
                wire.op.name(),
                wire.row
            )
        });
        let back_at = now.after(wire.back);
        let in_time = back_at < wire.gives_up_at;
        if !wire.answered {
            self.wires.insert(serial, wire);
        }
        if in_time {
            self.push(back_at, Ev::Answer(serial, reply));
        }
    }

    fn answered(&mut self, serial: u64, reply: Reply) {
        let Some(wire) = self.wires.get_mut(&serial) else {
            return;
        };
        if wire.answered {
            return;
        }
        let (at, task) = (wire.worker, wire.task);
        if let Some(Some(worker)) = self.workers.get(at)
            && worker.frozen_until > self.now
        {
            let thaw = worker.frozen_until;
            self.push(thaw, Ev::Answer(serial, reply));
            return;
        }
        wire.answered = true;
        if wire.arrived {
            self.wires.remove(&serial);
        }
        let Some(mut worker) = self.workers.get_mut(at).and_then(Option::take) else {
            return;
        };
        let mut out = Vec::new();
        worker.answer(self.now, task, &reply, &self.plan, &mut out);
        self.put_back(at, worker);
        self.act(at, out);
    }
}

#[expect(clippy::print_stdout, reason = "a replay shows what happens")]
fn say(line: &str) {
    println!("{line}");
}
