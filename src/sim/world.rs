//! The stage: one virtual clock, one queue of things to come, one seed for every choice.

use super::ledger::LedgerModel;
use super::plan::Plan;
use super::server::Server;
use super::weather::{Trouble, Weather};
use super::worker::{Remembered, SimWorker};
use crate::coordinator::core::{Core, Event};
use crate::ledger::{Change, Ledger, LedgerError};
use crate::model::rng::Rng;
use crate::model::scan::ExistingScan;
use crate::model::{LeaseId, Mono, RowNumber, WorkerId};
use crate::protocol::ToWorker;
use crate::target::{Op, Reply, RequestClass};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
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

mod coordinator;
mod crash;
mod noise;
mod requests;
mod workers;

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
    /// Somebody makes a missing organization.
    Opening(u32),
    Vanish(RowNumber),
    /// The machine sleeps: its clock stands still, the world goes on.
    Sleep(Duration),
    /// Something a worker cannot read reaches it.
    Noise(usize),
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
    /// The machine slept, and nothing happened since: this is what it hears first.
    slept: Duration,
    signals: u32,
    /// The users it looks for to know the environment again.
    sentinels: Vec<String>,
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
    /// When the coordinator started, by the server's clock.
    started_at: Mono,
    /// The newest coordinator that granted something (I12).
    granting_epoch: u32,
    start_planned: bool,
    workers: Vec<Option<Box<SimWorker>>>,
    /// Files of listings, by coordinator and number.
    known: BTreeMap<(u32, u32), Rc<Remembered>>,
    down: Vec<Pipe>,
    up: Vec<Pipe>,
    wires: BTreeMap<u64, Wire>,
    synced: Option<LedgerModel>,
    calm_since: Option<Mono>,
}

impl World {
    pub fn new(plan: Plan, weather: Weather, seed: u64, script: Script) -> Self {
        let ledger = LedgerModel::new(&plan);
        let server = Server::new(
            &plan.old_orgs,
            &plan.old_users,
            (weather.lag, weather.behind),
        );
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
            started_at: Mono(0),
            granting_epoch: 0,
            start_planned: false,
            workers: Vec::new(),
            known: BTreeMap::new(),
            down: Vec::new(),
            up: Vec::new(),
            wires: BTreeMap::new(),
            synced: None,
            calm_since: None,
            plan,
            weather,
        };
        let may_open = !world.plan.create_orgs;
        for (at, org) in world
            .weather
            .openings
            .clone()
            .into_iter()
            .filter(|_| may_open)
        {
            world.push(at, Ev::Opening(org));
        }
        for (at, row, like_it) in world.weather.sign_ups.clone() {
            world.push(at, Ev::SignUp(row, like_it));
        }
        if world.plan.existing_scan != ExistingScan::Probe {
            for (at, row) in world.weather.vanish.clone() {
                world.push(at, Ev::Vanish(row));
            }
        }
        for (at, length) in world.weather.sleeps.clone() {
            world.push(at, Ev::Sleep(length));
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

    fn coin(&mut self) -> bool {
        self.rng.next_u64().is_multiple_of(2)
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
            Ev::Noise(at) => self.with_worker(at, Ev::Noise(at)),
            Ev::Sleep(length) => self.sleep(length),
            Ev::Arrive(wire) => self.arrive(wire),
            Ev::Answer(wire, reply) => self.answered(wire, reply),
            Ev::Opening(org) => {
                let external_id = format!("new{org}");
                let clock = self.server.clock(self.now);
                if self.server.open_org(clock, &external_id) {
                    self.log(|| format!("somebody makes {external_id}"));
                }
            }
            Ev::Vanish(row) => {
                let email = self.plan.row(row).email_norm.clone();
                if self.server.vanish(&email) {
                    self.log(|| format!("somebody deletes {email}"));
                }
            }
            Ev::SignUp(row, like_it) => {
                let planned = self.plan.row(row);
                let email = planned.email_norm.clone();
                let row = planned.parsed.as_ref().ok();
                let first = row
                    .and_then(|row| row.first_name.clone())
                    .filter(|_| like_it);
                let verified = like_it && row.is_some_and(|row| row.email_verified == Some(true));
                let clock = self.server.clock(self.now);
                if self
                    .server
                    .sign_up(clock, &email, first.as_deref(), verified)
                {
                    self.log(|| format!("somebody signs up as {email}"));
                }
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "a replay shows what happens")]
fn say(line: &str) {
    println!("{line}");
}
