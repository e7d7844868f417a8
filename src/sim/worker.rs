//! A worker without a runtime: the real machines, gate, cache and outbox, driven step by step.
//!
//! The shell and the serve loop are mirrored line by line; only the awaits are states here.

use super::plan::Plan;
use crate::model::event::WorkerGauge;
use crate::model::rng::Rng;
use crate::model::{ChunkSpec, LeaseId, Mono, OrgKey, RowNumber, RowOutcome, Step, WorkerId};
use crate::protocol::{
    FromWorker, Grant, NameAt, OrgAnswer, OrgVerdict, ProbeResult, RowContext, SamplePick, ToWorker,
};
use crate::target::classify::NotApplied;
use crate::target::{Entity, ListPage, Op, Reply, RequestClass, StopReason, Verdict};
use crate::worker::cache::{Asked, OrgCache};
use crate::worker::gate::{Gate, Pass, Turn};
use crate::worker::org_steps::{OrgAction, OrgMachine};
use crate::worker::outbox::{OUTCOMES_WAIT, Outbox};
use crate::worker::scan::{Course, List, NamedOrgs, SoughtOrgs, Walk, WalkAction};
use crate::worker::steps::{Action, Recall, RowMachine};
use reqwest::header::DATE;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot::{self, error::TryRecvError};

const HOLD_MAX: Duration = Duration::from_secs(5);
const HOLD_MIN: Duration = Duration::from_millis(50);
const CONNECT_AGAIN: Duration = Duration::from_millis(250);
const CREDITS_MAX: usize = 8;

/// What a worker does to the world.
#[derive(Debug)]
pub enum Out {
    /// A frame for the coordinator.
    Frame(FromWorker),
    /// The file of a listing is there.
    Known(u32, Rc<Remembered>),
    /// A request; its answer comes to that task.
    Request {
        task: u32,
        op: Op,
        row: Option<RowNumber>,
        lease: Option<LeaseId>,
        probe: bool,
    },
}

#[derive(Debug)]
enum Machine {
    Row {
        lease: LeaseId,
        number: RowNumber,
        machine: Box<RowMachine>,
    },
    Org {
        key: OrgKey,
        machine: Box<OrgMachine>,
    },
    Probe(Box<Probing>),
    /// A row of a sample.
    Ask,
    Walk(Box<Walk>),
}

/// What a listing found: the file of a real run.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    users: Vec<Entity>,
    memberships: BTreeMap<(String, String), Entity>,
}

impl Remembered {
    fn recall(&self, what: &Recall) -> Option<&Entity> {
        match what {
            Recall::Membership { user_id, org_id } => {
                self.memberships.get(&(user_id.clone(), org_id.clone()))
            }
            Recall::User {
                email_norm,
                external_id,
            } => {
                let mut users = self.users.iter();
                let by_id = external_id
                    .as_ref()
                    .and_then(|id| users.find(|user| user.external_id.as_ref() == Some(id)));
                by_id.or_else(|| {
                    let norm = |user: &&Entity| user.email.as_ref() == Some(email_norm);
                    self.users.iter().find(norm)
                })
            }
        }
    }
}

/// A sample or a listing under way.
#[derive(Debug)]
struct Scanning {
    number: u32,
    course: Course,
    found: Remembered,
    sought: SoughtOrgs,
    orgs: VecDeque<String>,
    /// Rows that were looked up, and users among them.
    sampled: (u32, u32),
    samples: bool,
}

impl Scanning {
    fn new(number: u32, pages_max: Option<u32>) -> Self {
        Self {
            number,
            course: Course::new(pages_max),
            found: Remembered::default(),
            sought: SoughtOrgs::default(),
            orgs: VecDeque::new(),
            sampled: (0, 0),
            samples: false,
        }
    }
}

/// A probe: the target itself, then users that must be there.
#[derive(Debug)]
struct Probing {
    number: u32,
    sentinels: VecDeque<String>,
    found: Option<ProbeResult>,
}

#[derive(Debug)]
enum State {
    /// Nothing began yet.
    New,
    /// The first thing to send.
    Begun(Op),
    Org(oneshot::Receiver<OrgAnswer>),
    Gate(oneshot::Receiver<Pass>, Op),
    /// On the wire; probes pass no gate.
    Wire(Op, Option<Pass>),
    /// A verdict that is acted upon after a wait.
    Reacting(Mono, RequestClass, Verdict),
    Asleep(Mono),
    /// Halted: the coordinator ends the run.
    Stuck,
}

#[derive(Debug)]
struct Task {
    machine: Machine,
    state: State,
    turn: Turn,
}

enum Todo {
    Recall(Recall),
    Walked,
    AskOrg(OrgKey),
    Send(Op),
    Backoff(Duration),
    WaitOut(Duration, Option<Mono>),
    Settle,
    Done(OrgVerdict),
    Halt(StopReason),
}

impl From<Action> for Todo {
    fn from(action: Action) -> Self {
        match action {
            Action::AskOrg(key) => Self::AskOrg(key),
            Action::Send(op) => Self::Send(op),
            Action::Recall(what) => Self::Recall(what),
            Action::Backoff(wait) => Self::Backoff(wait),
            Action::WaitOut { wait, since } => Self::WaitOut(wait, since),
            Action::Settle => Self::Settle,
            Action::Halt(reason) => Self::Halt(reason),
        }
    }
}

impl From<WalkAction> for Todo {
    fn from(action: WalkAction) -> Self {
        match action {
            WalkAction::Send(op) => Self::Send(op),
            WalkAction::Backoff(wait) => Self::Backoff(wait),
            WalkAction::Done => Self::Walked,
            WalkAction::Halt(reason) => Self::Halt(reason),
        }
    }
}

impl From<OrgAction> for Todo {
    fn from(action: OrgAction) -> Self {
        match action {
            OrgAction::Send(op) => Self::Send(op),
            OrgAction::Backoff(wait) => Self::Backoff(wait),
            OrgAction::Done(verdict) => Self::Done(verdict),
            OrgAction::Halt(reason) => Self::Halt(reason),
        }
    }
}

#[derive(Debug)]
struct Job {
    lease: LeaseId,
    row: RowNumber,
    context: RowContext,
}

/// One incarnation of a worker.
#[derive(Debug)]
pub struct SimWorker {
    pub id: WorkerId,
    /// Which coordinator started it.
    pub epoch: u32,
    /// Nothing reaches it before then: it is stopped.
    pub frozen_until: Mono,
    /// When it next wants to be woken, as told to the world.
    pub wake_planned: Option<Mono>,
    /// The pause it acknowledged last (I11).
    pub pause_until: Mono,
    /// What it was told to use.
    pub known: Option<Rc<Remembered>>,
    scan_chunks: Vec<ChunkSpec>,
    scanning: Option<Scanning>,
    /// Pages that walks have not acted upon yet.
    pages: BTreeMap<u32, ListPage>,
    gate: Gate,
    cache: OrgCache,
    outbox: Outbox,
    rng: Rng,
    time_scale: f64,
    concurrency: usize,
    prefetch: usize,
    alive: BTreeMap<RequestClass, u64>,
    queue: VecDeque<Job>,
    tasks: BTreeMap<u32, Task>,
    next_task: u32,
    credits: usize,
    grant_rows: usize,
    draining: bool,
    drained: bool,
    /// Something waits in the outbox that is not urgent.
    dirty: bool,
    flush_at: Option<Mono>,
    gate_at: Option<Mono>,
}

impl SimWorker {
    pub fn new(plan: &Plan, id: WorkerId, epoch: u32, seed: u64, paced: (bool, bool)) -> Self {
        let mut worker = Self {
            id,
            epoch,
            frozen_until: Mono(0),
            wake_planned: None,
            pause_until: Mono(0),
            known: None,
            scan_chunks: Vec::new(),
            scanning: None,
            pages: BTreeMap::new(),
            gate: Gate::new(paced.0, paced.1),
            cache: OrgCache::new(plan.org_cache),
            outbox: Outbox::default(),
            rng: Rng::new(seed),
            time_scale: plan.time_scale,
            concurrency: plan.concurrency as usize,
            prefetch: plan.concurrency as usize * if paced.0 { 1 } else { 2 },
            alive: BTreeMap::new(),
            queue: VecDeque::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            credits: 0,
            grant_rows: usize::MAX,
            draining: false,
            drained: false,
            dirty: false,
            flush_at: None,
            gate_at: None,
        };
        worker.ask_for_work();
        worker
    }

    /// Returns how many rows and requests it keeps waiting (I16).
    pub fn load(&self) -> usize {
        self.queue.len() + self.tasks.len() + self.gate.waiting()
    }

    /// Takes a message of its coordinator.
    pub fn hear(&mut self, now: Mono, message: ToWorker, plan: &Plan, out: &mut Vec<Out>) {
        match message {
            // Hellos are said by the stage, and nobody sleeps on it.
            // The stage has put it there.
            // Only a dry run that looks at its target asks for roles, and this is none.
            ToWorker::Hello(_)
            | ToWorker::Woke
            | ToWorker::Known { .. }
            | ToWorker::ReadRoles(_)
            | ToWorker::Roles { .. } => {}
            ToWorker::Probe { probe, sentinels } => {
                let probing = Probing {
                    number: probe,
                    sentinels: sentinels.into(),
                    found: None,
                };
                self.begin(
                    Machine::Probe(Box::new(probing)),
                    State::Wire(Op::Probe, None),
                );
                let task = self.next_task;
                out.push(Out::Request {
                    task,
                    op: Op::Probe,
                    row: None,
                    lease: None,
                    probe: true,
                });
            }
            ToWorker::ScanChunks(chunks) => self.scan_chunks.extend(chunks),
            ToWorker::Sample { scan, picks } => self.begin_sample(scan, &picks, plan),
            ToWorker::Scan { scan, pages_max } => self.begin_scan(scan, pages_max, plan),
            ToWorker::Grant(grant) => self.on_grant(*grant),
            ToWorker::Slots(lease) => self.gate.on_slots(&lease),
            ToWorker::Pause { generation, until } => {
                self.gate.on_pause(generation, until);
                self.pause_until = until;
            }
            ToWorker::Org { key, answer } => {
                let cache = &mut self.cache;
                self.outbox
                    .count(|delta| cache.on_answer(&key, &answer, &mut delta.org_cache));
                self.dirty = true;
            }
            ToWorker::OrgHints(hints) => {
                let cache = &mut self.cache;
                self.outbox
                    .count(|delta| cache.on_hints(hints, &mut delta.org_cache));
                self.dirty = true;
            }
            ToWorker::LookUpOrg { key } => self.fly(key.clone(), OrgMachine::lookup(key)),
            ToWorker::CreateOrg {
                key,
                name_at,
                intent,
                suspect,
            } => {
                let name = org_name(plan, &key, name_at.as_ref());
                self.fly(key.clone(), OrgMachine::create(key, name, intent, suspect));
            }
            ToWorker::Alive { writes, ramp } => {
                self.bump(RequestClass::Read);
                if writes {
                    self.bump(RequestClass::Write);
                }
                if ramp {
                    self.gate.ramp();
                }
            }
            ToWorker::Ping { nonce } => self.outbox.say(FromWorker::Pong { nonce }),
            ToWorker::Drain => self.drain(),
        }
        self.pump(now, plan, out);
    }

    fn drain(&mut self) {
        self.draining = true;
        self.queue.clear();
        self.gate.drain();
        self.cache.drain();
    }

    /// Takes the answer to a task's request.
    pub fn answer(&mut self, now: Mono, task: u32, reply: &Reply, plan: &Plan, out: &mut Vec<Out>) {
        self.take_reply(now, task, reply, out);
        self.pump(now, plan, out);
    }

    /// Looks at its timers.
    pub fn wake(&mut self, now: Mono, plan: &Plan, out: &mut Vec<Out>) {
        self.pump(now, plan, out);
    }

    /// Returns when it wants to be woken.
    pub fn wake_at(&self) -> Option<Mono> {
        let timers = self.tasks.values().filter_map(|task| match task.state {
            State::Reacting(at, ..) | State::Asleep(at) => Some(at),
            _ => None,
        });
        timers.chain(self.flush_at).chain(self.gate_at).min()
    }

    fn on_grant(&mut self, grant: Grant) {
        self.credits = self.credits.saturating_sub(1);
        let mut contexts: BTreeMap<RowNumber, RowContext> = grant.contexts.into_iter().collect();
        let before = self.queue.len();
        let first = grant.chunk.first_row.0;
        for row in (first..first + grant.chunk.rows).map(RowNumber) {
            if grant
                .rows
                .as_ref()
                .is_some_and(|rows| rows.binary_search(&row).is_err())
            {
                continue;
            }
            let context = contexts.remove(&row).unwrap_or(RowContext {
                t_lo: grant.t_lo,
                ..RowContext::default()
            });
            self.queue.push_back(Job {
                lease: grant.lease,
                row,
                context,
            });
        }
        let rows = self.queue.len() - before;
        let seen = Some(self.grant_rows).filter(|rows| *rows != usize::MAX);
        self.grant_rows = rows.max(seen.unwrap_or(1));
    }

    fn active_rows(&self) -> usize {
        self.tasks
            .values()
            .filter(|task| matches!(task.machine, Machine::Row { .. }))
            .count()
    }

    fn start_rows(&mut self, now: Mono, plan: &Plan, out: &mut Vec<Out>) {
        while self.active_rows() < self.concurrency && !self.draining {
            let Some(job) = self.queue.pop_front() else {
                break;
            };
            match &plan.row(job.row).parsed {
                Err(error) => {
                    let outcome = RowOutcome::failed(job.row, Step::Validation, error.clone());
                    self.settle(job.lease, outcome);
                }
                Ok(row) => {
                    let mut machine = RowMachine::new(row.clone(), job.context, plan.policy);
                    if self.known.is_some() {
                        machine.recall_first();
                    }
                    let action = machine.start();
                    let machine = Box::new(machine);
                    let machine = Machine::Row {
                        lease: job.lease,
                        number: job.row,
                        machine,
                    };
                    self.begin(machine, State::New);
                    self.take(now, self.next_task, action.into(), out);
                }
            }
        }
        self.ask_for_work();
    }

    fn ask_for_work(&mut self) {
        loop {
            let coming = self.credits.saturating_mul(self.grant_rows);
            if self.draining
                || self.credits >= CREDITS_MAX
                || self.queue.len().saturating_add(coming) >= self.prefetch
            {
                return;
            }
            self.credits += 1;
            self.outbox.say(FromWorker::Credit);
        }
    }

    fn fly(&mut self, key: OrgKey, machine: OrgMachine) {
        self.cache.on_flight(&key);
        let machine = Box::new(machine);
        self.begin(Machine::Org { key, machine }, State::New);
    }

    fn begin_sample(&mut self, number: u32, picks: &[SamplePick], plan: &Plan) {
        self.scanning = Some(Scanning {
            samples: true,
            ..Scanning::new(number, None)
        });
        for pick in picks {
            let parsed = |row: &RowNumber| plan.row(*row).parsed.as_ref().ok();
            let rows = pick.rows.iter().filter_map(parsed).take(pick.take);
            for row in rows {
                let op = Op::FindUserByEmail(row.email_norm().to_owned());
                self.begin(Machine::Ask, State::Begun(op));
            }
        }
    }

    fn begin_scan(&mut self, number: u32, pages_max: Option<u32>, plan: &Plan) {
        let chunks = std::mem::take(&mut self.scan_chunks);
        let rows = |chunk: &ChunkSpec| {
            let first = chunk.first_row.0;
            (first..first + chunk.rows).map(RowNumber)
        };
        let mut named = NamedOrgs::default();
        for row in chunks.iter().flat_map(rows) {
            let parsed = plan.row(row).parsed.as_ref().ok();
            if let Some(org) = parsed.and_then(|row| row.org.as_ref()) {
                named.note(org);
            }
        }
        let (ids, sought) = named.worth_listing();
        let count = sought.count();
        self.scanning = Some(Scanning {
            sought,
            orgs: ids.into(),
            ..Scanning::new(number, pages_max)
        });
        for oldest_first in [true, false] {
            self.begin_walk(Walk::new(List::Users { oldest_first }));
        }
        self.begin_walk(Walk::within(List::Orgs, count));
    }

    fn begin_walk(&mut self, walk: Walk) {
        self.begin(Machine::Walk(Box::new(walk)), State::New);
    }

    /// Begins the next organization's walk, and ends the scan when nothing of it is left.
    fn go_on_scanning(&mut self, out: &mut Vec<Out>) {
        let is_walk = |task: &Task| matches!(task.machine, Machine::Walk(_) | Machine::Ask);
        let left = self.tasks.values().filter(|task| is_walk(task)).count();
        let Some(scanning) = &mut self.scanning else {
            return;
        };
        if !scanning.samples
            && left < 3
            && let Some(org_id) = scanning.orgs.pop_front()
        {
            return self.begin_walk(Walk::new(List::Memberships { org_id }));
        }
        if left > 0 {
            return;
        }
        let Some(scanning) = self.scanning.take() else {
            return;
        };
        let scan = scanning.number;
        if scanning.samples {
            let (asked, found) = scanning.sampled;
            return self.outbox.say(FromWorker::Sampled { scan, asked, found });
        }
        out.push(Out::Known(scan, Rc::new(scanning.found)));
        let result = Ok(scanning.course.end());
        self.outbox.say(FromWorker::Scanned { scan, result });
    }

    /// The gate turned a part of the scan away: nobody waits for the rest.
    fn give_up_scan(&mut self) {
        self.scanning = None;
        self.tasks
            .retain(|_, task| !matches!(task.machine, Machine::Walk(_) | Machine::Ask));
    }

    /// Keeps what a page shows.
    fn keep_page(&mut self, id: u32, page: ListPage) {
        let Some(Task {
            machine: Machine::Walk(walk),
            ..
        }) = self.tasks.get(&id)
        else {
            return;
        };
        let Some(scanning) = &mut self.scanning else {
            return;
        };
        match walk.list() {
            List::Users { .. } => {
                let users = page.items.iter().map(|item| item.entity.clone());
                scanning.found.users.extend(users);
            }
            List::Memberships { org_id } => {
                for item in &page.items {
                    let key = (item.user_id.clone().unwrap(), org_id.clone());
                    scanning.found.memberships.insert(key, item.entity.clone());
                }
            }
            List::Orgs => scanning.orgs.extend(scanning.sought.found_in(&page)),
        }
        self.pages.insert(id, page);
    }

    fn begin(&mut self, machine: Machine, state: State) {
        self.next_task += 1;
        self.tasks.insert(
            self.next_task,
            Task {
                machine,
                state,
                turn: Turn::Fresh,
            },
        );
    }

    fn settle(&mut self, lease: LeaseId, outcome: RowOutcome) {
        let left = self.queue.len() + self.active_rows();
        self.outbox.settle(lease, outcome, left);
        self.dirty = true;
    }

    fn back_off(&mut self, now: Mono, wait: Duration) -> Mono {
        let share = 0.5 + self.rng.unit() / 2.0;
        now.after(wait.mul_f64(share * self.time_scale))
    }

    fn waited_out(&self, now: Mono, wait: Duration, since: Option<Mono>) -> Mono {
        let from = since.unwrap_or(now);
        from.after(wait.mul_f64(self.time_scale)).max(now)
    }

    fn hold(&mut self, now: Mono, wait: Duration) {
        self.gate.hold(now.after(wait.min(HOLD_MAX)));
    }

    /// Does what a machine asks for.
    #[expect(clippy::too_many_lines, reason = "one arm for each thing to do")]
    fn take(&mut self, now: Mono, id: u32, todo: Todo, out: &mut Vec<Out>) {
        let state = match todo {
            Todo::AskOrg(key) => {
                if !self.cache.knows(&key)
                    && let Some(Task {
                        machine: Machine::Row { machine, .. },
                        ..
                    }) = self.tasks.get_mut(&id)
                    && let Some(user_first) = machine.user_before_org()
                {
                    return self.take(now, id, user_first.into(), out);
                }
                let cache = &mut self.cache;
                let mut asked = None;
                self.outbox
                    .count(|delta| asked = Some(cache.ask(&key, &mut delta.org_cache)));
                self.dirty = true;
                match asked.unwrap() {
                    Asked::Hit(org) => {
                        let Some(Task {
                            machine: Machine::Row { machine, .. },
                            ..
                        }) = self.tasks.get_mut(&id)
                        else {
                            return;
                        };
                        let action = machine.on_org(OrgAnswer::Ready { id: org });
                        return self.take(now, id, action.into(), out);
                    }
                    Asked::Wait { answer, ask } => {
                        if ask {
                            self.outbox.say(FromWorker::AskOrg(key));
                        }
                        State::Org(answer)
                    }
                }
            }
            Todo::Send(op) => {
                let Some(task) = self.tasks.get(&id) else {
                    return;
                };
                if let Some(pass) = self.gate.try_pass(op.class(), now, task.turn) {
                    return self.send(id, op, pass, out);
                }
                let pass = self.gate.wait(op.class(), task.turn);
                State::Gate(pass, op)
            }
            Todo::Recall(what) => {
                let known = self.known.clone();
                let found = known.as_ref().and_then(|known| known.recall(&what));
                let Some(Task {
                    machine: Machine::Row { machine, .. },
                    ..
                }) = self.tasks.get_mut(&id)
                else {
                    return;
                };
                let action = machine.on_recalled(found);
                return self.take(now, id, action.into(), out);
            }
            Todo::Walked => {
                self.tasks.remove(&id);
                return;
            }
            Todo::Backoff(wait) => State::Asleep(self.back_off(now, wait)),
            Todo::WaitOut(wait, since) => State::Asleep(self.waited_out(now, wait, since)),
            Todo::Settle => {
                if let Some(Task {
                    machine: Machine::Row { lease, machine, .. },
                    ..
                }) = self.tasks.remove(&id)
                {
                    self.settle(lease, machine.into_outcome().expect("a settled row"));
                }
                return;
            }
            Todo::Done(verdict) => {
                if let Some(Task {
                    machine: Machine::Org { key, .. },
                    ..
                }) = self.tasks.remove(&id)
                {
                    self.outbox.say(FromWorker::OrgDone { key, verdict });
                }
                return;
            }
            Todo::Halt(reason) => {
                self.hold(now, HOLD_MAX);
                self.outbox.say(FromWorker::Halt(reason));
                State::Stuck
            }
        };
        let is_org = |task: &Task| matches!(task.machine, Machine::Org { .. });
        if matches!(state, State::Stuck) && self.tasks.get(&id).is_some_and(is_org) {
            self.tasks.remove(&id);
        } else if let Some(task) = self.tasks.get_mut(&id) {
            task.state = state;
        }
    }

    fn send(&mut self, id: u32, op: Op, pass: Pass, out: &mut Vec<Out>) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.turn = Turn::Started;
        task.state = State::Wire(op.clone(), Some(pass));
        let (row, lease) = match &task.machine {
            Machine::Row { lease, number, .. } => (Some(*number), Some(*lease)),
            Machine::Org { .. } | Machine::Probe(_) | Machine::Ask | Machine::Walk(_) => {
                (None, None)
            }
        };
        out.push(Out::Request {
            task: id,
            op,
            row,
            lease,
            probe: false,
        });
    }

    fn take_reply(&mut self, now: Mono, id: u32, reply: &Reply, out: &mut Vec<Out>) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let State::Wire(op, pass) = &mut task.state else {
            return;
        };
        let pass = pass.take();
        let verdict = reply.verdict(op);
        let class = op.class();
        self.outbox.count(|delta| {
            delta.requests.total += 1;
            match class {
                RequestClass::Write => delta.requests.writes += 1,
                RequestClass::Read => delta.requests.reads += 1,
            }
            delta.latencies_us.push(50);
        });
        self.dirty = true;
        if let Machine::Probe(probing) = &mut task.machine {
            let missing = matches!(verdict, Verdict::Absent);
            let result = match probing.found.take() {
                None => probe_result(verdict, reply),
                Some(_) if missing && probing.sentinels.is_empty() => ProbeResult::OtherEnvironment,
                Some(found) if !missing => {
                    probing.sentinels.clear();
                    found
                }
                Some(found) => found,
            };
            if matches!(result, ProbeResult::Ok { .. })
                && let Some(user) = probing.sentinels.pop_front()
            {
                probing.found = Some(result);
                let op = Op::GetUser(user);
                task.state = State::Wire(op.clone(), None);
                out.push(Out::Request {
                    task: id,
                    op,
                    row: None,
                    lease: None,
                    probe: true,
                });
                return;
            }
            let probe = probing.number;
            self.tasks.remove(&id);
            self.outbox.say(FromWorker::Probed { probe, result });
            return;
        }
        if let Some(page) = reply.page() {
            self.keep_page(id, page);
        }
        if let Some(pass) = pass {
            self.gate.on_answer(pass, now, is_good(&verdict));
        }
        let at = self.react(now, class, &verdict);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.state = State::Reacting(at, class, verdict);
        }
    }

    fn bump(&mut self, class: RequestClass) {
        *self.alive.entry(class).or_default() += 1;
    }

    /// Tells the coordinator; returns when the row may go on.
    fn react(&mut self, now: Mono, class: RequestClass, verdict: &Verdict) -> Mono {
        match verdict {
            Verdict::Ok(_)
            | Verdict::Made(_)
            | Verdict::Absent
            | Verdict::Rejected(_)
            | Verdict::Exists(_)
            | Verdict::OddEcho(_) => {
                self.bump(class);
                self.outbox.health(class, true);
            }
            Verdict::Ambiguous(_) => self.outbox.health(class, false),
            Verdict::NotApplied(NotApplied::Throttled(wait)) => {
                self.hold(now, wait.unwrap_or(HOLD_MAX).max(HOLD_MIN));
                let wait = *wait;
                self.outbox.say(FromWorker::Throttled { class, wait });
            }
            Verdict::NotApplied(NotApplied::Unauthorized) => {
                self.hold(now, HOLD_MAX);
                self.outbox.say(FromWorker::Unauthorized);
            }
            Verdict::NotApplied(NotApplied::Connect(_)) => {
                self.outbox.health(class, false);
                return self.back_off(now, CONNECT_AGAIN);
            }
            Verdict::Stop(_) => {}
        }
        now
    }

    /// Lets everything go on that can.
    fn pump(&mut self, now: Mono, plan: &Plan, out: &mut Vec<Out>) {
        loop {
            let look = self.gate.look(now);
            let generation = self.gate.generation();
            for (class, count) in look.wants {
                self.outbox.say(FromWorker::Want {
                    generation,
                    class,
                    count,
                });
            }
            self.gate_at = look.again_at;
            let ids: Vec<u32> = self.tasks.keys().copied().collect();
            let mut moved = false;
            for id in ids {
                moved |= self.step(now, id, out);
            }
            let tasks = self.tasks.len();
            self.go_on_scanning(out);
            moved |= tasks != self.tasks.len();
            let before = (self.queue.len(), self.tasks.len());
            self.start_rows(now, plan, out);
            if !moved && before == (self.queue.len(), self.tasks.len()) {
                break;
            }
        }
        if self.draining && self.tasks.is_empty() && !self.drained {
            self.drained = true;
            self.outbox.say(FromWorker::Drained);
        }
        self.flush(now, out);
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each machine and state")]
    fn step(&mut self, now: Mono, id: u32, out: &mut Vec<Out>) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        let todo: Todo = match &mut task.state {
            State::Org(answer) => match answer.try_recv() {
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => {
                    self.tasks.remove(&id);
                    return true;
                }
                Ok(answer) => match &mut task.machine {
                    Machine::Row { machine, .. } => machine.on_org(answer).into(),
                    _ => return false,
                },
            },
            State::Gate(waiter, op) => match waiter.try_recv() {
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => {
                    if matches!(task.machine, Machine::Walk(_) | Machine::Ask) {
                        self.give_up_scan();
                    }
                    self.tasks.remove(&id);
                    return true;
                }
                Ok(pass) => {
                    let op = op.clone();
                    self.send(id, op, pass, out);
                    return true;
                }
            },
            State::Reacting(at, class, verdict) if *at <= now => {
                let alive = self.alive.get(class).copied().unwrap_or(0);
                let verdict = verdict.clone();
                match &mut task.machine {
                    Machine::Row { machine, .. } => machine.on_verdict(verdict, alive).into(),
                    Machine::Org { machine, .. } => machine.on_verdict(verdict, alive).into(),
                    Machine::Walk(walk) => {
                        let page = self.pages.remove(&id);
                        let Some(scanning) = &mut self.scanning else {
                            return false;
                        };
                        let course = &mut scanning.course;
                        walk.on_answer(&verdict, page.as_ref(), alive, course)
                            .into()
                    }
                    Machine::Ask => {
                        if let Some(scanning) = &mut self.scanning {
                            let there = matches!(verdict, Verdict::Ok(_));
                            let told = there || matches!(verdict, Verdict::Absent);
                            scanning.sampled.0 += u32::from(told);
                            scanning.sampled.1 += u32::from(there);
                        }
                        Todo::Walked
                    }
                    Machine::Probe(_) => return false,
                }
            }
            State::Asleep(at) if *at <= now => match &mut task.machine {
                Machine::Row { machine, .. } => machine.on_timer().into(),
                Machine::Org { machine, .. } => machine.on_timer().into(),
                Machine::Walk(walk) => match &mut self.scanning {
                    Some(scanning) => walk.next(&mut scanning.course).into(),
                    None => return false,
                },
                Machine::Probe(_) | Machine::Ask => return false,
            },
            State::New => match &mut task.machine {
                Machine::Org { machine, .. } => machine.start().into(),
                Machine::Walk(walk) => match &mut self.scanning {
                    Some(scanning) => walk.next(&mut scanning.course).into(),
                    None => return false,
                },
                Machine::Row { .. } | Machine::Probe(_) | Machine::Ask => return false,
            },
            State::Begun(op) => Todo::Send(op.clone()),
            State::Reacting(..) | State::Asleep(_) | State::Wire(..) | State::Stuck => {
                return false;
            }
        };
        self.take(now, id, todo, out);
        true
    }

    fn flush(&mut self, now: Mono, out: &mut Vec<Out>) {
        let due = self.flush_at.is_some_and(|at| at <= now);
        if self.outbox.is_urgent() || due {
            let gauge = WorkerGauge::default();
            let frames = self.outbox.take(now, gauge, self.draining);
            out.extend(frames.into_iter().map(Out::Frame));
            self.dirty = false;
            self.flush_at = None;
        } else if self.dirty && self.flush_at.is_none() {
            self.flush_at = Some(now.after(OUTCOMES_WAIT));
        }
    }
}

const fn is_good(verdict: &Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::NotApplied(_) | Verdict::Ambiguous(_) | Verdict::Stop(_)
    )
}

fn probe_result(verdict: Verdict, reply: &Reply) -> ProbeResult {
    match verdict {
        Verdict::Ok(_) | Verdict::Made(_) | Verdict::Absent | Verdict::OddEcho(_) => {
            let empty = reply.page().is_some_and(|page| page.items.is_empty());
            let Reply::Http { headers, .. } = reply else {
                return ProbeResult::Ok { date: None, empty };
            };
            let date = headers[DATE].to_str().unwrap();
            let time = httpdate::parse_http_date(date).unwrap();
            let elapsed = time.duration_since(std::time::UNIX_EPOCH).unwrap();
            let ms = i64::try_from(elapsed.as_millis()).unwrap();
            ProbeResult::Ok {
                date: Some(crate::model::ServerMs(ms)),
                empty,
            }
        }
        Verdict::NotApplied(NotApplied::Unauthorized) => ProbeResult::Unauthorized,
        Verdict::NotApplied(NotApplied::Throttled(wait)) => ProbeResult::Throttled(wait),
        Verdict::NotApplied(NotApplied::Connect(words)) => ProbeResult::Connect(words),
        Verdict::Stop(reason) => ProbeResult::Stop(reason),
        Verdict::Rejected(why) | Verdict::Exists(why) | Verdict::Ambiguous(why) => {
            ProbeResult::Trouble(why.code)
        }
    }
}

fn org_name(plan: &Plan, key: &OrgKey, name_at: Option<&NameAt>) -> String {
    let row = name_at.and_then(|at| plan.row(at.row).parsed.as_ref().ok());
    let named = row
        .filter(|row| row.org.as_ref() == Some(key))
        .and_then(|row| row.org_name.as_deref());
    named.unwrap_or(key.as_str()).to_owned()
}
