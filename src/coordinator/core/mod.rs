//! The decisions of a run, without I/O: events and a time go in, effects come out.
//!
//! There is no clock, file, lock, log or runtime in here, which is what lets a simulator run it a
//! million times. [`Core::on_event`] is the only way in.

mod crew;
mod followers;
mod meter;
mod orgs;
mod probe;
mod roles;
mod scan;
mod stop;
#[cfg(test)]
mod tests;
mod valve;
mod work;

use crate::ledger::{Change, CommitReply, Fate, JobImage, OrgState, RunState};
use crate::model::event::{Progress, RunEvent};
use crate::model::plant;
use crate::model::rng::Rng;
use crate::model::scan::ExistingScan;
use crate::model::{
    FinishTally, MembershipTally, Mono, OrgKey, OrgTally, Origin, RateLimits, RowError, RowNumber,
    RowOutcome, RowState, RowTally, ServerMs, Step, WorkerId,
};
use crate::pace::{Breaker, Pacer, Throttle};
use crate::protocol::{FromWorker, NameAt, ToWorker};
use crate::source::index::org_key_hash;
use crate::target::RequestClass;
use crew::{Crew, Nudge, Phase, Succession};
use meter::Meter;
use orgs::{FAILURE_STANDS, OrgStep, Orgs};
use probe::{ProbeWhy, Probes};
use roles::Roles;
pub use scan::ROWS_MIN as SCAN_ROWS_MIN;
use scan::Scan;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stop::Stage;
pub use stop::state_of;
use valve::Valve;
#[cfg(test)]
pub use work::LAST_PASS_MAX;
use work::{Draft, Leasing, Work};

use super::config::{EndReason, FailureLimit, StopSignal};
use crate::ledger::LedgerError;

/// Progress is shown this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// The run's counters are refreshed in the ledger this often.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// Liveness is looked at this often.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Organizations told to a worker with one lease.
const HINTS_PER_GRANT: usize = 256;

/// Everything that can happen to a run.
#[derive(Debug)]
pub enum Event {
    /// Time passed; the core looks at its deadlines.
    Tick,
    /// A worker finished its handshake.
    WorkerReady {
        /// Who.
        worker: WorkerId,
        /// Its process id.
        pid: u32,
    },
    /// A worker said something.
    WorkerSaid {
        /// Who.
        worker: WorkerId,
        /// What.
        message: FromWorker,
    },
    /// A worker's stream cannot be trusted any more.
    WorkerBroken {
        /// Who.
        worker: WorkerId,
        /// Why, in words.
        reason: String,
        /// It does not speak our protocol.
        stranger: bool,
    },
    /// A worker ended, and everything it had said was delivered before.
    WorkerGone {
        /// Who.
        worker: WorkerId,
        /// How, in words.
        how: String,
    },
    /// A commit succeeded.
    Committed {
        /// Which.
        ticket: u64,
        /// What it returned.
        reply: CommitReply,
    },
    /// A commit failed: the ledger takes no more.
    CommitFailed {
        /// Which.
        ticket: u64,
        /// Why.
        error: Arc<LedgerError>,
    },
    /// The machine was suspended for this long; the monotonic clock stood still.
    Slept(Duration),
    /// A signal asks the run to end.
    Signal(StopSignal),
}

/// Everything a run can do.
#[derive(Debug)]
pub enum Effect {
    /// Start a worker process.
    Spawn {
        /// Who it will be.
        worker: WorkerId,
    },
    /// Tell a worker something.
    Send {
        /// Whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
    /// Close a worker's input: it ends within a second.
    CloseInput {
        /// Whose.
        worker: WorkerId,
    },
    /// SIGTERM.
    Terminate {
        /// Whom.
        worker: WorkerId,
    },
    /// SIGKILL.
    Kill {
        /// Whom.
        worker: WorkerId,
    },
    /// Make changes durable, in one transaction.
    Commit {
        /// Echoed in [`Event::Committed`].
        ticket: u64,
        /// What.
        changes: Vec<Change>,
        /// Outcomes, and neither is a row under way whose outcome could share the transaction, nor
        /// can one be leased before they are committed.
        alone: bool,
    },
    /// Tell people.
    Emit(RunEvent),
    /// The run is over.
    Finish(EndReason),
}

/// What the core is told once.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options of the command line that have nothing to do with each other"
)]
pub struct CoreConfig {
    /// When the process began: what `elapsed_s` counts from.
    pub started: Mono,
    /// Worker processes.
    pub workers: u32,
    /// How many of them have rows at one time.
    pub at_work_max: usize,
    /// Rows one worker has in flight at most.
    pub concurrency: u32,
    /// The limits to keep.
    pub limits: RateLimits,
    /// Whether less than them is used after 429s.
    pub auto_rate: bool,
    /// Whether a missing organization is created.
    pub create_orgs: bool,
    /// Everything but the socket: there is nothing to connect to.
    pub dry_run: bool,
    /// Go on although the target knows none of the users this job made.
    pub any_environment: bool,
    /// How long the target may be out.
    pub max_outage: Duration,
    /// How many rows of this run may go wrong.
    pub max_failures: Option<FailureLimit>,
    /// Only rows up to this one are worked on.
    pub limit: Option<RowNumber>,
    /// Whether the target's users are listed before.
    pub existing_scan: ExistingScan,
    /// With fewer rows than this it is not even considered, unless it is asked for.
    pub scan_rows_min: u64,
    /// Scales backoffs and outages.
    pub time_scale: f64,
    /// Seed of every jitter.
    pub seed: u64,
    /// The local wall clock at the start: what stands in for the target's until it says its own.
    pub wall: ServerMs,
}

/// What a commit in flight means once it is durable.
#[derive(Debug)]
enum Pending {
    Grant(Box<Draft>),
    Settle(Arc<[RowOutcome]>),
    OrgIntent(OrgKey, ServerMs),
    Org(OrgKey, OrgState),
    Snapshot,
    Last,
}

/// The state of a run.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    stage: Stage,
    crew: Crew,
    work: Work,
    orgs: Orgs,
    pacer: Pacer,
    throttle: Throttle,
    breaker: Breaker,
    probes: Probes,
    scan: Scan,
    roles: Roles,
    meter: Meter,
    valve: Valve,
    rng: Rng,
    rows: RowTally,
    memberships: MembershipTally,
    organizations: OrgTally,
    org_names: Vec<(u64, RowNumber)>,
    hash_key: u64,
    tickets: BTreeMap<u64, Pending>,
    last_ticket: u64,
    server_base: (Mono, ServerMs),
    strangers: u32,
    progress_at: Mono,
    snapshot_at: Mono,
    watch_at: Mono,
    effects: Vec<Effect>,
}

impl Core {
    /// Takes a job as the ledger knows it. The first effects come with the first event.
    pub fn new(config: CoreConfig, mut image: JobImage, now: Mono) -> Self {
        let pacer = if config.auto_rate {
            Pacer::adaptive(config.limits, now)
        } else {
            Pacer::new(config.limits, now)
        };
        let in_flight = config.concurrency as usize;
        let leasing = match (config.dry_run, pacer.paces(RequestClass::Write)) {
            (true, _) => Leasing::Rehearsed,
            (false, true) => Leasing::Limited(in_flight),
            (false, false) => Leasing::Unlimited(in_flight),
        };
        let (mut work, doomed) = Work::load(&mut image, leasing, config.limit);
        work.doubt_from(now);
        let mut core = Self {
            stage: Stage::Connecting { since: now },
            crew: Crew::new(config.workers, now, config.time_scale),
            work,
            orgs: Orgs::load(image.orgs, config.create_orgs).all_intended(image.every_org_intent),
            pacer,
            throttle: Throttle::default(),
            breaker: Breaker::new(config.time_scale),
            probes: Probes::new(if config.any_environment {
                Vec::new()
            } else {
                image.sentinels
            }),
            scan: Scan::new(config.existing_scan, config.scan_rows_min),
            roles: Roles::default(),
            meter: Meter::new(config.started, config.limits),
            valve: Valve::new(config.max_failures),
            rng: Rng::new(config.seed),
            rows: image.rows,
            memberships: image.memberships,
            organizations: image.organizations,
            org_names: image.org_names,
            hash_key: image.hash_key,
            tickets: BTreeMap::new(),
            last_ticket: 0,
            server_base: (now, config.wall),
            strangers: 0,
            progress_at: now,
            snapshot_at: now,
            watch_at: now.after(WATCH_EVERY),
            effects: Vec::new(),
            config,
        };
        if plant::is(15) {
            core.memberships.created *= 2;
        }
        core.settle_doomed(doomed);
        core
    }

    /// Takes one event; appends what is to be done to `effects`.
    pub fn on_event(&mut self, now: Mono, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::WorkerReady { worker, pid } => self.on_ready(now, worker, pid),
            Event::WorkerSaid { worker, message } => self.on_said(now, worker, message),
            Event::WorkerBroken {
                worker,
                reason,
                stranger,
            } => {
                self.on_broken(now, worker, &reason, stranger);
            }
            Event::WorkerGone { worker, how } => self.on_gone(now, worker, how),
            Event::Committed { ticket, reply } => self.on_committed(now, ticket, reply),
            Event::CommitFailed { error, .. } => self.on_commit_failed(now, error),
            Event::Slept(slept) => self.on_slept(now, slept),
            Event::Signal(signal) => self.on_signal(now, signal),
        }
        self.on_time(now);
        effects.append(&mut self.effects);
    }

    /// Returns when the core wants the next [`Event::Tick`] at the latest.
    pub fn deadline(&self, now: Mono) -> Mono {
        let mut at = self.progress_at.min(self.snapshot_at).min(self.watch_at);
        for deadline in [self.pacer.wake_at(now), self.crew.start_at()] {
            at = at.min(deadline.unwrap_or(at));
        }
        // A probe that is due waits for a ready worker, and a stage whose time is up for the last
        // commit: both are events.
        let waiting = [
            self.breaker.probe_at(),
            self.probes.deadline(),
            self.stage.deadline(),
        ];
        for deadline in waiting {
            at = at.min(deadline.filter(|due| *due > now).unwrap_or(at));
        }
        at
    }

    /// Returns rows, memberships and organizations of the job, from commits only.
    pub const fn tallies(&self) -> (RowTally, MembershipTally, OrgTally) {
        (self.rows, self.memberships, self.organizations)
    }

    /// Returns what this run set on users it made.
    pub const fn finish_tally(&self) -> FinishTally {
        self.meter.finish
    }

    /// Returns this run's counters.
    pub fn snapshot(&self, now: Mono, state: RunState) -> crate::ledger::RunSnapshot {
        let mut snapshot =
            self.meter
                .snapshot(now, state, self.config.workers, self.crew.restarts());
        snapshot.auto_rate = self.pacer.auto_rate(RequestClass::Write);
        snapshot
    }

    fn on_time(&mut self, now: Mono) {
        while let Some((worker, _slot)) = self.crew.start_due(now) {
            self.effects.push(Effect::Spawn { worker });
        }
        self.run_probes(now);
        self.run_scan();
        self.give_work(now);
        self.give_slots(now);
        self.watch(now);
        self.advance_stage(now);
        self.report(now);
    }

    fn on_ready(&mut self, now: Mono, worker: WorkerId, pid: u32) {
        self.crew.on_heard(worker, now);
        let Some(member) = self.crew.get_mut(worker) else {
            return;
        };
        member.phase = Phase::Ready;
        let slot = member.slot;
        self.emit(RunEvent::WorkerReady { slot, worker, pid });
        self.tell_known(worker);
        let until = self.pacer.paused_until();
        if until > now || self.pacer.generation() > 0 {
            let generation = self.pacer.generation();
            self.send(worker, ToWorker::Pause { generation, until });
        }
        if !self.stage.is_working() {
            self.send(worker, ToWorker::Drain);
            if let Some(member) = self.crew.get_mut(worker) {
                member.phase = Phase::Draining;
            }
        }
    }

    fn on_said(&mut self, now: Mono, worker: WorkerId, message: FromWorker) {
        self.crew.on_heard(worker, now);
        if self.crew.slot(worker).is_none() && !plant::is(6) {
            return;
        }
        match message {
            FromWorker::Hello(_) => self.on_broken(now, worker, "it said hello twice", true),
            FromWorker::Probed { probe, result } => self.on_probed(now, worker, probe, result),
            FromWorker::Sampled { scan, asked, found } => {
                self.on_sampled(worker, scan, asked, found);
            }
            FromWorker::Scanning { scan, tally } => self.on_scanning(worker, scan, tally),
            FromWorker::Scanned { scan, result } => self.on_scanned(worker, scan, result),
            FromWorker::Credit => {
                if let Some(member) = self.crew.get_mut(worker) {
                    member.credits = member.credits.saturating_add(1);
                }
            }
            FromWorker::Outcomes(outcomes) => self.on_outcomes(now, worker, outcomes),
            FromWorker::Want {
                generation,
                class,
                count,
            } => {
                self.pacer.want(worker, class, generation, count);
            }
            FromWorker::Health { class, ok, bad } => self.on_health(now, class, ok, bad),
            FromWorker::Throttled { class, wait } => self.on_throttled(now, class, wait),
            FromWorker::Unauthorized => self.suspend_for(now, ProbeWhy::Unauthorized),
            FromWorker::Halt(reason) => self.on_halt(now, reason),
            FromWorker::AskOrg(key) => {
                let step = self.orgs.on_ask(now, worker, &key);
                self.take_org_step(now, &key, step);
            }
            FromWorker::OrgDone { key, verdict } => {
                let step = self.orgs.on_done(worker, &key, verdict);
                self.take_org_step(now, &key, step);
            }
            FromWorker::AskRoles(scope) => self.on_ask_roles(worker, scope),
            FromWorker::RolesRead { scope, roles } => self.on_roles_read(worker, scope, roles),
            FromWorker::Stats(delta) => {
                self.meter.add(&delta);
                if let Some(slot) = self.crew.slot(worker) {
                    self.emit(RunEvent::Worker {
                        slot,
                        gauge: delta.gauge,
                    });
                }
            }
            FromWorker::Calls(calls) => {
                for call in calls {
                    self.emit(RunEvent::Call { worker, call });
                }
            }
            // Nothing to decide: the driver keeps what is noticed for whoever makes the plan.
            FromWorker::Pong { .. } | FromWorker::Noticed(_) => {}
            FromWorker::SourceChanged(message) => {
                self.end(now, EndReason::SourceChanged(message));
            }
            FromWorker::SourceUnreadable(message) => {
                self.end(now, EndReason::SourceUnreadable(message));
            }
            FromWorker::Drained => {
                if let Some(member) = self.crew.get_mut(worker) {
                    member.phase = Phase::Drained;
                }
            }
        }
    }

    fn on_outcomes(
        &mut self,
        now: Mono,
        worker: WorkerId,
        outcomes: Vec<(crate::model::LeaseId, RowOutcome)>,
    ) {
        let mut settled = Vec::with_capacity(outcomes.len());
        for (lease, outcome) in outcomes {
            if self.work.on_outcome(worker, lease, outcome.row).is_err() {
                self.on_broken(now, worker, "it reported a row that is not its own", false);
                break;
            }
            if let Some(outcome) = self.work.unless_set_aside(outcome) {
                settled.push(outcome);
            }
        }
        if plant::is(23) {
            for outcome in &settled {
                self.work.on_settled(outcome.row, Fate::of(outcome));
            }
        }
        self.settle(settled);
    }

    fn settle(&mut self, outcomes: Vec<RowOutcome>) {
        if !outcomes.is_empty() {
            let outcomes: Arc<[RowOutcome]> = outcomes.into();
            self.commit(
                vec![Change::Settle(Arc::clone(&outcomes))],
                Pending::Settle(outcomes),
            );
        }
    }

    fn on_committed(&mut self, now: Mono, ticket: u64, reply: CommitReply) {
        match self.tickets.remove(&ticket) {
            Some(Pending::Grant(draft)) => self.on_leased(*draft, reply),
            Some(Pending::Settle(outcomes)) => self.on_settled(&outcomes),
            Some(Pending::OrgIntent(key, at)) => {
                let step = self.orgs.on_intended(&key, at);
                self.take_org_step(now, &key, step);
            }
            Some(Pending::Org(key, state)) => self.on_org_recorded(now, &key, state),
            Some(Pending::Last) => self.stage.on_last_commit(),
            Some(Pending::Snapshot) | None => {}
        }
    }

    fn on_leased(&mut self, draft: Draft, reply: CommitReply) {
        let Draft {
            worker,
            mut grant,
            size,
            ..
        } = draft;
        // The worker may have died while the lease was committed; its rows are suspect already.
        if self.crew.slot(worker).is_none() {
            return;
        }
        Work::add_facts(&mut grant, reply.followers);
        self.work.on_delivered(grant.lease);
        self.emit(RunEvent::Leased {
            chunk: grant.chunk.id,
            rows: size,
            worker,
        });
        self.send_hints(worker);
        self.send(worker, ToWorker::Grant(Box::new(grant)));
    }

    fn send_hints(&mut self, worker: WorkerId) {
        let Some(member) = self.crew.get_mut(worker) else {
            return;
        };
        let (hints, seen) = self.orgs.hints(member.hints_seen, HINTS_PER_GRANT);
        member.hints_seen = seen;
        if !hints.is_empty() {
            let hints = hints.to_vec();
            self.send(worker, ToWorker::OrgHints(hints));
        }
    }

    fn on_settled(&mut self, outcomes: &Arc<[RowOutcome]>) {
        let mut doomed = Vec::new();
        for outcome in outcomes.iter() {
            self.rows.settle(outcome.state);
            self.valve.count(outcome);
            if let Some(membership) = &outcome.membership {
                self.memberships.count(membership);
            }
            doomed.extend(self.work.on_settled(outcome.row, Fate::of(outcome)));
        }
        self.meter.settled += outcomes.len() as u64;
        self.emit(RunEvent::Settled(Arc::clone(outcomes)));
        self.settle_doomed(doomed);
    }

    /// Rows that share their leader's fate are settled without a request, hence without a lease.
    fn settle_doomed(&mut self, doomed: Vec<(RowNumber, Fate)>) {
        let outcomes = doomed
            .into_iter()
            .map(|(row, fate)| doomed_outcome(row, fate))
            .collect();
        self.settle(outcomes);
    }

    fn take_org_step(&mut self, now: Mono, key: &OrgKey, step: Option<OrgStep>) {
        match step {
            None => {}
            Some(OrgStep::Answer(worker, answer)) => {
                self.send(
                    worker,
                    ToWorker::Org {
                        key: key.clone(),
                        answer,
                    },
                );
            }
            Some(OrgStep::LookUp(worker)) => {
                self.send(worker, ToWorker::LookUpOrg { key: key.clone() });
            }
            Some(OrgStep::Intend) => {
                let at = self.server_now(now);
                let change = Change::OrgIntent {
                    key: key.clone(),
                    at,
                };
                self.commit(vec![change], Pending::OrgIntent(key.clone(), at));
            }
            Some(OrgStep::Create {
                worker,
                intent,
                suspect,
            }) => {
                let name_at = self.name_of(key);
                let key = key.clone();
                self.send(
                    worker,
                    ToWorker::CreateOrg {
                        key,
                        name_at,
                        intent,
                        suspect,
                    },
                );
            }
            Some(OrgStep::Record(state)) => {
                let record = crate::ledger::OrgRecord {
                    state: state.clone(),
                };
                let change = Change::Org {
                    key: key.clone(),
                    record,
                };
                self.commit(vec![change], Pending::Org(key.clone(), state));
            }
        }
    }

    fn on_org_recorded(&mut self, now: Mono, key: &OrgKey, state: OrgState) {
        let before = self.orgs.recorded(key);
        if before != Some(&state) {
            let failed_before = before.is_some();
            self.count_org(key, &state, failed_before);
        }
        let stands = FAILURE_STANDS.mul_f64(self.config.time_scale);
        for step in self.orgs.on_recorded(key, state, now.after(stands)) {
            self.take_org_step(now, key, Some(step));
        }
    }

    /// Counts an organization as what it is now: before, it was nothing or had failed.
    fn count_org(&mut self, key: &OrgKey, state: &OrgState, failed_before: bool) {
        let tally = &mut self.organizations;
        tally.failed = tally.failed.saturating_sub(u64::from(failed_before));
        let (result, made) = match state {
            OrgState::Ready {
                id,
                origin: Origin::Made(_),
            } => {
                tally.created += 1;
                (Ok(id.clone()), true)
            }
            OrgState::Ready {
                id,
                origin: Origin::Before,
            } => {
                tally.found += 1;
                (Ok(id.clone()), false)
            }
            OrgState::Failed { code, .. } => {
                tally.failed += 1;
                (Err(code.clone()), false)
            }
        };
        self.emit(RunEvent::Organization {
            key: key.clone(),
            result,
            made,
        });
    }

    /// Returns where the name of an organization stands: in the lowest row that gives one.
    fn name_of(&self, key: &OrgKey) -> Option<NameAt> {
        let hash = org_key_hash(self.hash_key, key);
        let at = self
            .org_names
            .binary_search_by_key(&hash, |(hash, _)| *hash)
            .ok()?;
        let (_, row) = self.org_names.get(at)?;
        Some(NameAt {
            chunk: self.work.chunk_of(*row)?.clone(),
            row: *row,
        })
    }

    fn on_gone(&mut self, now: Mono, worker: WorkerId, how: String) {
        let Some(member) = self.crew.on_gone(worker) else {
            return;
        };
        self.pacer.forget(worker);
        self.work.doubt_from(now);
        let (poison, suspects) = self.work.on_worker_gone(worker);
        let expected = !self.stage.is_working();
        let slot = member.slot;
        self.emit(RunEvent::WorkerGone {
            slot,
            worker,
            how,
            suspects,
            expected,
        });
        self.settle(poison.into_iter().map(poison_outcome).collect());
        for (key, step) in self.orgs.on_worker_gone(worker) {
            self.take_org_step(now, &key, Some(step));
        }
        self.on_reader_of_roles_gone(worker);
        self.probes.on_worker_gone(worker);
        self.on_scanner_gone(worker);
        if self.stage.is_working() && self.crew.replace(slot, now) == Succession::GiveUp {
            self.end(
                now,
                EndReason::Internal(
                    "workers die as fast as they are started; the messages above say how".into(),
                ),
            );
        }
    }

    fn on_broken(&mut self, now: Mono, worker: WorkerId, reason: &str, stranger: bool) {
        self.strangers += u32::from(stranger);
        tracing::warn!(
            worker = worker.0,
            reason,
            "a worker cannot be trusted and is replaced"
        );
        self.effects.push(Effect::Kill { worker });
        if self.strangers >= 3 {
            let words = format!("workers do not speak this program's protocol: {reason}");
            self.end(now, EndReason::Internal(words));
        }
    }

    fn give_work(&mut self, now: Mono) {
        if !self.stage.is_running() || self.breaker.is_open() || self.scan.holds_back() {
            return;
        }
        // Asked after every event, and most events change nothing about it.
        if !self.crew.is_anybody_hungry() {
            return;
        }
        while let Some(worker) = self.hungriest() {
            let Some(unit) = self.work.next_unit(worker) else {
                break;
            };
            let server_now = self.server_now(now);
            let Some((change, draft)) = self.work.lease(unit, worker, server_now) else {
                break;
            };
            if let Some(member) = self.crew.get_mut(worker) {
                member.credits -= 1;
            }
            if plant::is(1) && draft.asks_nothing() {
                self.commit(vec![change], Pending::Snapshot);
                self.on_leased(draft, CommitReply::default());
                continue;
            }
            self.commit(vec![change], Pending::Grant(Box::new(draft)));
        }
    }

    /// Returns who asks for work, may have some, and holds the least.
    fn hungriest(&self) -> Option<WorkerId> {
        let alone = self.work.next_is_suspicious();
        let ready = self.crew.in_phase(Phase::Ready).into_iter();
        let crowded = self.work.holders() >= self.config.at_work_max;
        let may_have = ready.filter(|worker| {
            let wants = self.crew.get(*worker).is_some_and(|it| it.credits > 0);
            let busy = alone && self.work.has_live_leases(*worker);
            let too_many = crowded && self.work.unfinished(*worker) == 0;
            wants && !busy && !too_many && !self.work.is_quarantined(*worker)
        });
        may_have.min_by_key(|worker| self.work.unfinished(*worker))
    }

    fn give_slots(&mut self, now: Mono) {
        for (worker, lease) in self.pacer.pump(now) {
            self.send(worker, ToWorker::Slots(lease));
        }
    }

    fn watch(&mut self, now: Mono) {
        if now < self.watch_at {
            return;
        }
        self.watch_at = now.after(WATCH_EVERY);
        let (work, probes, scan) = (&self.work, &self.probes, &self.scan);
        let busy =
            |worker| work.has_live_leases(worker) || probes.is_with(worker) || scan.is_with(worker);
        for nudge in self.crew.nudges(now, busy) {
            match nudge {
                Nudge::Ping(worker) => self.send(worker, ToWorker::Ping { nonce: worker.0 }),
                Nudge::Terminate(worker) => self.effects.push(Effect::Terminate { worker }),
                Nudge::Kill(worker) => self.effects.push(Effect::Kill { worker }),
            }
        }
    }

    fn report(&mut self, now: Mono) {
        if now >= self.snapshot_at {
            self.snapshot_at = now.after(SNAPSHOT_EVERY);
            if self.stage.is_working() {
                let snapshot = Box::new(self.snapshot(now, RunState::Running));
                self.meter.on_snapshot();
                self.commit(vec![Change::Run(snapshot)], Pending::Snapshot);
            }
        }
        if now >= self.progress_at {
            self.progress_at = now.after(PROGRESS_EVERY);
            self.emit_progress(now);
        }
    }

    fn emit_progress(&mut self, now: Mono) {
        let (writes_per_s, rows_per_s) = self.meter.speeds(now);
        let progress = Progress {
            rows: self.rows,
            memberships: self.memberships,
            organizations: self.organizations,
            requests: self.meter.requests,
            org_cache: self.meter.org_cache,
            settled: self.meter.settled,
            writes_per_s,
            writes_allowed_per_s: self.meter.writes_allowed(),
            auto: self.pacer.auto_rate(RequestClass::Write),
            rows_per_s,
            restarts: self.crew.restarts(),
        };
        self.emit(RunEvent::Progress(Box::new(progress)));
    }

    /// The target's clock went on; slots of before are void; nobody is blamed for the silence.
    fn on_slept(&mut self, now: Mono, slept: Duration) {
        tracing::info!(?slept, "the machine has slept; connections are made anew");
        let (at, base) = self.server_base;
        self.server_base = (at, base.after(slept));
        for worker in self.crew.everybody() {
            self.crew.on_heard(worker, now);
            self.send(worker, ToWorker::Woke);
        }
        self.pause_all(self.pacer.paused_until().max(now));
    }

    /// Returns the target's time: its first `Date` plus monotonic time, or less if a later one is.
    fn server_now(&self, now: Mono) -> ServerMs {
        let (at, base) = self.server_base;
        base.after(now.since(at))
    }

    fn commit(&mut self, changes: Vec<Change>, pending: Pending) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        // Leases and organizations are waited for in any case.
        let alone = matches!(pending, Pending::Settle(_)) && self.work.is_idle();
        self.tickets.insert(ticket, pending);
        self.effects.push(Effect::Commit {
            ticket,
            changes,
            alone,
        });
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        self.effects.push(Effect::Send { worker, message });
    }

    fn emit(&mut self, event: RunEvent) {
        self.effects.push(Effect::Emit(event));
    }
}

fn poison_outcome(row: RowNumber) -> RowOutcome {
    let words = "every worker that handled this row alone died; the row may have been applied";
    RowOutcome::parked(row, Step::User, RowError::local("poison", words))
}

fn doomed_outcome(row: RowNumber, fate: Fate) -> RowOutcome {
    let leader = |code, words: &str| RowError::local(code, words);
    match fate {
        Fate::Skipped => RowOutcome {
            state: RowState::Skipped,
            step: None,
            ..RowOutcome::failed(
                row,
                Step::User,
                leader(
                    "leader_skipped",
                    "the first row with this email was skipped by policy",
                ),
            )
        },
        Fate::PolicyFailed => RowOutcome::failed(
            row,
            Step::User,
            leader(
                "user_exists",
                "the user existed before this job (--on-existing fail)",
            ),
        ),
        Fate::Parked | Fate::User | Fate::OwnFault => RowOutcome::parked(
            row,
            Step::User,
            leader(
                "leader_parked",
                "the first row with this email is parked; settle that one first",
            ),
        ),
    }
}
