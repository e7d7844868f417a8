//! The core on a small stage: scripted workers, a ledger that only counts, one seed per play.

use super::*;
use crate::ledger::{FollowerFacts, FollowerImage, LeaseImage};
use crate::model::scan::ScanTally;
use crate::model::{
    ChunkHash, ChunkId, ChunkSpec, Evidence, Follower, LeaseId, MembershipOutcome, MembershipState,
    RateShift, UserOutcome,
};
use crate::protocol::{Grant, OrgAnswer, OrgVerdict, ProbeResult, SamplePick};
use crate::target::StopReason;
use std::collections::{BTreeSet, VecDeque};

const MS: u64 = 1_000_000;

fn image(rows: u32, chunk_rows: u32, followers: &[(u32, u32)]) -> JobImage {
    let chunks = (0..rows.div_ceil(chunk_rows)).map(|n| ChunkSpec {
        id: ChunkId(n),
        offset: u64::from(n) * 1000,
        length: 1000,
        first_row: RowNumber(n * chunk_rows + 1),
        rows: chunk_rows.min(rows - n * chunk_rows),
        first_line: 1,
        hash: ChunkHash([0; 16]),
    });
    let followers = followers.iter().map(|(row, leader)| FollowerImage {
        follower: Follower {
            row: RowNumber(*row),
            leader: RowNumber(*leader),
            previous_pair: None,
        },
        waits_for: None,
    });
    JobImage {
        chunks: chunks.collect(),
        followers: followers.collect(),
        rows: RowTally::of(u64::from(rows)),
        ..JobImage::default()
    }
}

fn config(workers: u32) -> CoreConfig {
    CoreConfig {
        started: Mono::default(),
        workers,
        at_work_max: usize::MAX,
        concurrency: 4,
        limits: RateLimits::default(),
        auto_rate: false,
        create_orgs: true,
        dry_run: false,
        any_environment: false,
        max_outage: Duration::from_hours(1),
        max_failures: None,
        limit: None,
        existing_scan: ExistingScan::Probe,
        scan_rows_min: SCAN_ROWS_MIN,
        time_scale: 1.0,
        seed: 1,
        wall: ServerMs(1_000_000),
    }
}

/// A play: the core, what waits to happen to it, and what the ledger has seen.
struct Play {
    core: Core,
    now: Mono,
    rng: Rng,
    coming: VecDeque<Event>,
    alive: BTreeSet<WorkerId>,
    /// Rows whose user the ledger knows.
    users: BTreeSet<RowNumber>,
    settled: BTreeMap<RowNumber, RowState>,
    /// Of every commit of outcomes: whether it was said to be alone.
    alone: Vec<bool>,
    leased: BTreeSet<RowNumber>,
    grants: BTreeMap<LeaseId, WorkerId>,
    fate: fn(RowNumber) -> RowState,
    /// Percent of grants whose worker dies halfway.
    deaths: f64,
    /// Who says that it is there, and then nothing.
    silent: Option<WorkerId>,
    /// What a sample finds, and how many workers die of listing.
    sample: (u32, u32),
    scan_deaths: u32,
    picks: Vec<SamplePick>,
    unconnected: u32,
    scans: Vec<u32>,
    knows: BTreeSet<WorkerId>,
    probe: ProbeResult,
    finished: Option<EndReason>,
    effects_seen: usize,
}

impl Play {
    fn new(image: JobImage, workers: u32, seed: u64) -> Self {
        Self::of(config(workers), image, seed)
    }

    fn of(config: CoreConfig, image: JobImage, seed: u64) -> Self {
        let now = Mono(1_000 * MS);
        Self {
            core: Core::new(config, image, now),
            now,
            rng: Rng::new(seed),
            coming: VecDeque::from([Event::Tick]),
            alive: BTreeSet::new(),
            users: BTreeSet::new(),
            settled: BTreeMap::new(),
            alone: Vec::new(),
            leased: BTreeSet::new(),
            grants: BTreeMap::new(),
            fate: |_| RowState::Created,
            deaths: 0.0,
            silent: None,
            sample: (10, 5),
            scan_deaths: 0,
            picks: Vec::new(),
            unconnected: 0,
            scans: Vec::new(),
            knows: BTreeSet::new(),
            probe: ProbeResult::Ok {
                date: Some(ServerMs(7_000_000)),
                empty: false,
            },
            finished: None,
            effects_seen: 0,
        }
    }

    fn run(&mut self) -> EndReason {
        for _ in 0..200_000 {
            if let Some(reason) = &self.finished {
                return reason.clone();
            }
            self.step();
        }
        panic!("no end after 200,000 steps; settled {}", self.settled.len());
    }

    fn step(&mut self) {
        let event = self.pick().unwrap_or_else(|| {
            self.now = self.core.deadline(self.now).max(Mono(self.now.0 + 1));
            Event::Tick
        });
        let mut effects = Vec::new();
        self.core.on_event(self.now, event, &mut effects);
        for effect in effects {
            self.effects_seen += 1;
            self.perform(effect);
        }
        let (rows, ..) = self.core.tallies();
        assert!(rows.balances(), "I14");
    }

    /// Events of one worker keep their order; events of different origin may overtake.
    fn pick(&mut self) -> Option<Event> {
        let origin = |event: &Event| match event {
            Event::WorkerReady { worker, .. }
            | Event::WorkerSaid { worker, .. }
            | Event::WorkerBroken { worker, .. }
            | Event::WorkerGone { worker, .. } => Some(*worker),
            _ => None,
        };
        if self.coming.is_empty() {
            return None;
        }
        let at = self.rng.below(self.coming.len());
        let from = origin(&self.coming[at]);
        let first = self.coming.iter().position(|event| origin(event) == from)?;
        self.coming.remove(first)
    }

    fn say(&mut self, worker: WorkerId, message: FromWorker) {
        if self.alive.contains(&worker) {
            self.coming.push_back(Event::WorkerSaid { worker, message });
        }
    }

    fn die(&mut self, worker: WorkerId) {
        if self.alive.remove(&worker) {
            self.coming.push_back(Event::WorkerGone {
                worker,
                how: "died".into(),
            });
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { worker } => {
                self.alive.insert(worker);
                self.coming.push_back(Event::WorkerReady {
                    worker,
                    pid: worker.0,
                });
                if self.silent != Some(worker) {
                    self.say(worker, FromWorker::Credit);
                }
            }
            Effect::Send { worker, message } => self.hear(worker, message),
            Effect::CloseInput { worker }
            | Effect::Terminate { worker }
            | Effect::Kill { worker } => {
                self.die(worker);
            }
            Effect::Commit {
                ticket,
                changes,
                alone,
            } => {
                if matches!(changes[..], [Change::Settle(_)]) {
                    self.alone.push(alone);
                }
                self.commit(ticket, changes);
            }
            Effect::Emit(RunEvent::NotConnected { .. }) => self.unconnected += 1,
            Effect::Emit(_) => {}
            Effect::Finish(reason) => self.finished = Some(reason),
        }
    }

    /// No more workers have rows than may.
    fn few_have_rows(&self) {
        let holders = self.core.work.holders();
        assert!(
            holders <= self.core.config.at_work_max,
            "{holders} have rows"
        );
    }

    /// Should everything die now: rows that are leased and have no outcome.
    fn few_are_in_doubt(&self) {
        let open = |row: &&RowNumber| !self.settled.contains_key(row);
        let doubtful = self.leased.iter().filter(open).count();
        // A chunk of five for each, which is more than the four rows in flight.
        let most = 5 * self.core.config.workers as usize;
        assert!(doubtful <= most, "{doubtful} rows in doubt");
    }

    fn hear(&mut self, worker: WorkerId, message: ToWorker) {
        if !self.alive.contains(&worker) {
            return;
        }
        match message {
            ToWorker::Probe { probe, .. } => {
                let result = self.probe.clone();
                self.say(worker, FromWorker::Probed { probe, result });
            }
            ToWorker::Grant(grant) => {
                assert!(!self.core.scan.holds_back(), "rows wait for the listing");
                self.work(worker, *grant);
            }
            ToWorker::LookUpOrg { key } => {
                self.say(
                    worker,
                    FromWorker::OrgDone {
                        key,
                        verdict: OrgVerdict::Absent,
                    },
                );
            }
            ToWorker::CreateOrg { key, .. } => {
                let origin = Origin::Made(Evidence::Answered);
                let verdict = OrgVerdict::Ready {
                    id: "org_1".into(),
                    origin,
                };
                self.say(worker, FromWorker::OrgDone { key, verdict });
            }
            ToWorker::Drain => self.say(worker, FromWorker::Drained),
            ToWorker::Sample { scan, picks } => {
                self.picks.extend(picks);
                let (asked, found) = self.sample;
                self.say(worker, FromWorker::Sampled { scan, asked, found });
            }
            ToWorker::Scan { scan, .. } if self.scan_deaths > 0 => {
                self.scan_deaths -= 1;
                self.scans.push(scan);
                self.die(worker);
            }
            ToWorker::Scan { scan, .. } => {
                self.scans.push(scan);
                let result = Ok(ScanTally::default());
                self.say(worker, FromWorker::Scanned { scan, result });
            }
            ToWorker::Known { scan } => {
                assert_eq!(
                    self.scans.last(),
                    Some(&scan),
                    "the file of another listing"
                );
                self.knows.insert(worker);
            }
            _ => {}
        }
    }

    fn work(&mut self, worker: WorkerId, grant: Grant) {
        self.grants.insert(grant.lease, worker);
        let all = (0..grant.chunk.rows)
            .map(|n| RowNumber(grant.chunk.first_row.0 + n))
            .collect();
        let rows = grant.rows.clone().unwrap_or(all);
        let contexts: BTreeMap<_, _> = grant.contexts.into_iter().collect();
        let stop = (self.rng.unit() < self.deaths).then(|| self.rng.below(rows.len()));
        for (n, row) in rows.iter().enumerate() {
            assert!(
                self.leased.contains(row),
                "I1: {row} granted without a lease"
            );
            assert!(
                !self.settled.contains_key(row),
                "I2: {row} granted after it was settled"
            );
            if stop == Some(n) {
                return self.die(worker);
            }
            let context = contexts.get(row).cloned().unwrap_or_default();
            let outcome = self.outcome(*row, context.follower);
            self.say(worker, FromWorker::Outcomes(vec![(grant.lease, outcome)]));
        }
        self.say(worker, FromWorker::Credit);
    }

    fn outcome(&self, row: RowNumber, follower: bool) -> RowOutcome {
        let state = if follower {
            RowState::Merged
        } else {
            (self.fate)(row)
        };
        let user = UserOutcome {
            id: "u".into(),
            origin: Origin::Made(Evidence::Answered),
        };
        let happy = !matches!(state, RowState::Failed | RowState::Parked);
        RowOutcome {
            state,
            step: (!happy).then_some(Step::User),
            user: happy.then_some(user),
            membership: happy.then_some(MembershipOutcome {
                id: Some("m".into()),
                state: MembershipState::Created,
                repeat: false,
            }),
            ..RowOutcome::failed(row, Step::User, RowError::local("invalid_email", ""))
        }
    }

    fn commit(&mut self, ticket: u64, changes: Vec<Change>) {
        let mut reply = CommitReply::default();
        for change in changes {
            match change {
                Change::Lease {
                    chunk,
                    rows,
                    followers,
                    ..
                } => {
                    for ask in followers {
                        assert!(
                            self.users.contains(&ask.leader),
                            "a follower before its leader"
                        );
                        let user = UserOutcome {
                            id: "u".into(),
                            origin: Origin::Made(Evidence::Answered),
                        };
                        reply.followers.push(FollowerFacts {
                            row: ask.row,
                            user,
                            membership_id: None,
                        });
                    }
                    let spec = self.core.work.chunk_of(RowNumber(chunk.0 * 5 + 1)).cloned();
                    let spec = spec.expect("plays use chunks of five rows");
                    let all = (0..spec.rows).map(|n| RowNumber(spec.first_row.0 + n));
                    self.leased.extend(rows.unwrap_or_else(|| all.collect()));
                    self.few_are_in_doubt();
                    self.few_have_rows();
                }
                Change::Settle(outcomes) => {
                    for outcome in &*outcomes {
                        let twice = self.settled.insert(outcome.row, outcome.state);
                        assert_eq!(twice, None, "I8: {} settled twice", outcome.row);
                        if outcome.user.is_some() {
                            self.users.insert(outcome.row);
                        }
                    }
                }
                Change::OrgIntent { .. } | Change::Org { .. } | Change::Run(_) => {}
            }
        }
        self.coming.push_back(Event::Committed { ticket, reply });
    }
}

fn followers() -> Vec<(u32, u32)> {
    vec![(4, 1), (12, 2), (13, 2), (14, 2), (28, 27), (30, 1)]
}

#[test]
fn every_row_is_settled_once_whatever_overtakes_whatever() {
    for seed in 0..200 {
        let workers = 1 + u32::try_from(seed % 8).unwrap();
        let mut play = Play::new(image(31, 5, &followers()), workers, seed);
        assert!(matches!(play.run(), EndReason::Completed), "seed {seed}");
        assert_eq!(play.settled.len(), 31, "seed {seed}");
    }
}

#[test]
fn outcomes_wait_for_company_while_there_are_rows_to_come_and_the_last_ones_do_not() {
    for seed in 0..50 {
        let mut play = Play::new(image(31, 5, &[]), 3, seed);
        assert!(matches!(play.run(), EndReason::Completed), "seed {seed}");
        let (last, others) = play.alone.split_last().unwrap();
        assert!(
            *last && !others.contains(&true),
            "seed {seed}: {:?}",
            play.alone
        );
    }
}

#[test]
fn workers_may_die_at_any_row() {
    for seed in 0..300 {
        let mut play = Play::new(image(31, 5, &followers()), 3, seed);
        play.deaths = 0.15;
        match play.run() {
            EndReason::Completed => assert_eq!(play.settled.len(), 31, "seed {seed}"),
            // Many deaths in no time at all: giving up is right, and nothing is settled twice.
            EndReason::Internal(_) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

#[test]
fn a_leader_that_fails_hands_over_and_a_parked_one_takes_its_followers_along() {
    let mut play = Play::new(image(31, 5, &followers()), 2, 1);
    play.fate = |row| match row.0 {
        1 => RowState::Failed,
        2 => RowState::Parked,
        _ => RowState::Created,
    };
    assert!(matches!(play.run(), EndReason::Completed));
    let state = |row| play.settled[&RowNumber(row)];
    assert_eq!((state(4), state(30)), (RowState::Created, RowState::Merged));
    assert_eq!((state(12), state(13)), (RowState::Parked, RowState::Parked));
}

#[test]
fn a_limit_settles_the_first_rows_and_no_other() {
    for limit in [1, 5, 7, 30] {
        let config = CoreConfig {
            limit: Some(RowNumber(limit)),
            ..config(3)
        };
        let mut play = Play::of(config, image(31, 5, &followers()), 2);
        assert!(matches!(play.run(), EndReason::Limited), "{limit}");
        let rows: Vec<u32> = play.settled.keys().map(|row| row.0).collect();
        assert!(rows.into_iter().eq(1..=limit), "{limit}");
        assert!(play.leased.iter().all(|row| row.0 <= limit), "{limit}");
    }
    let config = CoreConfig {
        limit: Some(RowNumber(31)),
        ..config(3)
    };
    let mut play = Play::of(config, image(31, 5, &followers()), 2);
    assert!(matches!(play.run(), EndReason::Completed));
}

#[test]
fn no_more_workers_are_given_rows_than_may_be_and_others_take_the_place_of_the_dead() {
    let config = || CoreConfig {
        at_work_max: 2,
        ..config(4)
    };
    let mut play = Play::of(config(), image(400, 5, &followers()), 3);
    assert!(matches!(play.run(), EndReason::Completed));
    let mut completed = 0;
    for seed in 0..100 {
        let config = CoreConfig {
            at_work_max: 1 + usize::from(seed % 2 == 0),
            ..config()
        };
        let mut play = Play::of(config, image(31, 5, &followers()), seed);
        play.deaths = 0.15;
        match play.run() {
            EndReason::Completed => completed += 1,
            // Many deaths in no time at all: giving up is right, and nobody waits for a dead one.
            EndReason::Internal(_) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(completed > 50, "{completed}");
}

#[test]
fn a_worker_that_is_there_and_asks_for_nothing_keeps_nobody_from_working() {
    let config = CoreConfig {
        at_work_max: 1,
        ..config(2)
    };
    let mut play = Play::of(config, image(31, 5, &[]), 1);
    play.silent = Some(WorkerId(1));
    assert!(matches!(play.run(), EndReason::Completed));
    assert_eq!(play.settled.len(), 31);
}

#[test]
fn too_many_failures_drain_the_run_and_name_the_cause() {
    let config = CoreConfig {
        max_failures: Some(FailureLimit::Rows(3)),
        ..config(1)
    };
    let mut play = Play::of(config, image(400, 5, &[]), 1);
    play.fate = |_| RowState::Failed;
    let EndReason::TooManyFailures(stop) = play.run() else {
        panic!("every row failed");
    };
    assert!(stop.bad > 3 && stop.bad <= stop.settled, "{stop:?}");
    assert_eq!(stop.causes.iter().map(|(_, n)| n).sum::<u64>(), stop.bad);
    assert!(play.settled.len() < 400, "it stopped early");
}

#[test]
fn a_wrong_key_ends_the_run_before_any_lease() {
    let mut play = Play::new(image(31, 5, &[]), 2, 1);
    play.probe = ProbeResult::Unauthorized;
    assert!(matches!(
        play.run(),
        EndReason::Refused(StopReason::Unauthorized)
    ));
    assert!(play.leased.is_empty());
}

#[test]
fn no_connection_at_the_start_ends_within_ten_seconds() {
    let mut play = Play::new(image(31, 5, &[]), 2, 1);
    play.probe = ProbeResult::Connect("refused".into());
    let from = play.now;
    assert!(matches!(play.run(), EndReason::Outage(_)));
    assert!(play.now.since(from) < Duration::from_secs(10));
}

#[test]
fn a_target_in_trouble_is_probed_until_max_outage() {
    let mut play = Play::new(image(31, 5, &[]), 2, 1);
    play.probe = ProbeResult::Trouble("503".into());
    let from = play.now;
    assert!(matches!(play.run(), EndReason::Outage(_)));
    let waited = play.now.since(from);
    assert!(waited >= Duration::from_hours(1), "{waited:?}");
}

#[test]
fn the_first_signal_drains_and_says_interrupted() {
    let mut play = Play::new(image(31, 5, &[]), 2, 1);
    while !play.core.stage.is_running() {
        play.step();
    }
    play.coming.push_back(Event::Signal(StopSignal::Interrupt));
    let end = play.run();
    assert!(matches!(
        end,
        EndReason::Interrupted(StopSignal::Interrupt) | EndReason::Completed
    ));
}

#[test]
fn a_worker_that_reports_somebody_elses_row_is_killed_and_replaced() {
    let mut play = Play::new(image(31, 5, &[]), 2, 1);
    while !play.core.stage.is_running() {
        play.step();
    }
    let worker = *play.alive.first().unwrap();
    let outcome = play.outcome(RowNumber(31), false);
    play.say(worker, FromWorker::Outcomes(vec![(LeaseId(999), outcome)]));
    assert!(matches!(play.run(), EndReason::Completed));
    assert!(!play.alive.contains(&worker));
    assert_eq!(play.settled.len(), 31);
}

#[test]
fn one_organization_is_looked_up_by_one_worker_and_told_to_all() {
    let mut play = Play::new(image(5, 5, &[]), 2, 1);
    while play.core.crew.in_phase(Phase::Ready).len() < 2 {
        play.step();
    }
    let key = OrgKey::External("acme".into());
    let workers: Vec<WorkerId> = play.alive.iter().copied().collect();
    let mut told = Vec::new();
    let mut queue: VecDeque<Event> = workers
        .iter()
        .map(|worker| Event::WorkerSaid {
            worker: *worker,
            message: FromWorker::AskOrg(key.clone()),
        })
        .collect();
    while let Some(event) = queue.pop_front() {
        let mut effects = Vec::new();
        play.core.on_event(play.now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send {
                    worker,
                    message: ToWorker::Org { answer, .. },
                } => {
                    assert!(matches!(answer, OrgAnswer::Ready { .. }));
                    told.push(worker);
                }
                Effect::Send {
                    worker,
                    message: ToWorker::LookUpOrg { key },
                } => {
                    let message = FromWorker::OrgDone {
                        key,
                        verdict: OrgVerdict::Absent,
                    };
                    queue.push_back(Event::WorkerSaid { worker, message });
                }
                Effect::Send {
                    worker,
                    message: ToWorker::CreateOrg { key, .. },
                } => {
                    let origin = Origin::Made(Evidence::Answered);
                    let verdict = OrgVerdict::Ready {
                        id: "org_1".into(),
                        origin,
                    };
                    let message = FromWorker::OrgDone { key, verdict };
                    queue.push_back(Event::WorkerSaid { worker, message });
                }
                Effect::Commit { ticket, .. } => {
                    queue.push_back(Event::Committed {
                        ticket,
                        reply: CommitReply::default(),
                    });
                }
                _ => {}
            }
        }
    }
    told.sort();
    assert_eq!(told, workers);
    assert_eq!(play.core.tallies().2.created, 1);
}

#[test]
fn a_resumed_job_whose_users_are_unknown_to_the_target_stops_before_any_lease() {
    let mut image = image(31, 5, &[]);
    image.sentinels = vec!["user_1".into()];
    let mut play = Play::new(image, 2, 1);
    play.probe = ProbeResult::OtherEnvironment;
    assert!(matches!(
        play.run(),
        EndReason::Refused(StopReason::OtherEnvironment)
    ));
    assert!(play.leased.is_empty());
}

#[test]
fn a_probe_that_waits_for_a_worker_wakes_nobody_in_vain() {
    let now = Mono(1_000 * MS);
    let mut core = Core::new(config(2), image(5, 5, &[]), now);
    let mut effects = Vec::new();
    core.on_event(now, Event::Tick, &mut effects);
    assert!(core.deadline(now) > now, "the workers are still starting");
}

#[test]
fn after_a_sleep_slots_are_void_connections_are_made_anew_and_the_targets_clock_went_on() {
    let mut play = Play::new(image(31, 5, &[]), 1, 1);
    while play.leased.is_empty() {
        play.step();
    }
    let now = play.now;
    let before = (play.core.server_now(now), play.core.pacer.generation());
    let mut effects = Vec::new();
    let slept = Duration::from_hours(8);
    play.core.on_event(now, Event::Slept(slept), &mut effects);
    assert_eq!(play.core.server_now(now), before.0.after(slept));
    let said: Vec<&ToWorker> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert!(matches!(said[0], ToWorker::Woke), "{said:?}");
    assert!(
        matches!(said[1], ToWorker::Pause { generation, until }
            if *generation == before.1 + 1 && *until == now),
        "{said:?}"
    );
}

#[test]
fn a_sleep_ends_no_pause() {
    let mut play = Play::new(image(31, 5, &[]), 1, 1);
    while play.leased.is_empty() {
        play.step();
    }
    let wait = Duration::from_mins(10);
    play.core
        .on_throttled(play.now, RequestClass::Write, Some(wait));
    let until = play.core.pacer.paused_until();
    let mut effects = Vec::new();
    play.core.on_event(
        play.now,
        Event::Slept(Duration::from_hours(8)),
        &mut effects,
    );
    assert_eq!(play.core.pacer.paused_until(), until);
}

#[test]
fn with_auto_a_429_lowers_the_rate_of_its_class_once_and_tells() {
    let config = CoreConfig {
        auto_rate: true,
        limits: RateLimits::WORKOS,
        ..config(1)
    };
    let mut play = Play::of(config, image(31, 5, &[]), 1);
    while play.leased.is_empty() {
        play.step();
    }
    let wait = Some(Duration::from_secs(1));
    for class in [RequestClass::Write, RequestClass::Write, RequestClass::Read] {
        play.core.on_throttled(play.now, class, wait);
    }
    let told: Vec<_> = play
        .core
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Emit(RunEvent::Rate { class, reason, .. }) => Some((*class, *reason)),
            _ => None,
        })
        .collect();
    let down = RateShift::BackedOff;
    assert_eq!(told, [("writes", down), ("reads", down)]);
    let auto = play.core.snapshot(play.now, RunState::Running).auto_rate;
    let auto = auto.unwrap();
    assert!((auto.current - 40.0).abs() < 1e-9, "{auto:?}");
    assert!((auto.lowest - 40.0).abs() < 1e-9, "{auto:?}");
}

#[test]
fn a_run_that_ends_waits_for_its_last_commit_without_being_woken_in_vain() {
    let start = Mono(1_000 * MS);
    let mut core = Core::new(config(1), image(5, 5, &[]), start);
    let worker = WorkerId(1);
    let said = |message| Event::WorkerSaid { worker, message };
    let probed = FromWorker::Probed {
        probe: 1,
        result: ProbeResult::Ok {
            date: None,
            empty: false,
        },
    };
    let changed = FromWorker::SourceChanged("chunk 0".into());
    let mut effects = Vec::new();
    for event in [
        Event::Tick,
        Event::WorkerReady { worker, pid: 1 },
        said(probed),
        said(FromWorker::Credit),
        said(changed),
    ] {
        core.on_event(start, event, &mut effects);
    }
    // The lease is still being committed when the time to close is up and the worker is gone.
    let late = start.after(Duration::from_secs(3));
    let how = "its input ended".to_owned();
    core.on_event(late, Event::WorkerGone { worker, how }, &mut effects);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Finish(_)))
    );
    assert!(core.deadline(late) > late, "the reply is the next event");
}

fn scanned(mode: ExistingScan, rows: u32, arrange: impl FnOnce(&mut Play)) -> Play {
    let config = CoreConfig {
        existing_scan: mode,
        scan_rows_min: 200,
        ..config(3)
    };
    let mut play = Play::of(config, image(rows, 5, &[]), 7);
    arrange(&mut play);
    assert!(matches!(play.run(), EndReason::Completed));
    assert_eq!(play.settled.len(), rows as usize);
    play
}

#[test]
fn a_listing_comes_before_the_first_row_and_everybody_is_told() {
    let play = scanned(ExistingScan::List, 30, |_| ());
    assert_eq!((play.scans.len(), play.knows.len()), (1, 3));
    let play = scanned(ExistingScan::Auto, 300, |_| ());
    assert_eq!((play.scans.len(), play.knows.len()), (1, 3));
    // Those who come later, too.
    let play = scanned(ExistingScan::List, 150, |play| play.deaths = 0.12);
    assert!(play.knows.len() > 3);
}

#[test]
fn only_rows_that_nobody_has_worked_on_are_sampled() {
    let image = |rows| {
        let mut image = image(rows, 5, &[]);
        let leased = |suspects: &[u32]| LeaseImage {
            t_lo: ServerMs(1),
            suspects: suspects.iter().copied().map(RowNumber).collect(),
        };
        image.complete = BTreeSet::from([ChunkId(0)]).into_iter().collect();
        // Settled in part, and in doubt; one row of chunk 3 was settled before the first run.
        image.leases = BTreeMap::from([(ChunkId(1), leased(&[])), (ChunkId(2), leased(&[11]))]);
        image.remaining = BTreeMap::from([
            (ChunkId(1), [9, 10].map(RowNumber).to_vec()),
            (ChunkId(2), [11, 12].map(RowNumber).to_vec()),
            (ChunkId(3), [17, 18, 19, 20].map(RowNumber).to_vec()),
        ]);
        image
    };
    let run = |rows, limit| {
        let config = CoreConfig {
            existing_scan: ExistingScan::Auto,
            scan_rows_min: 200,
            limit,
            ..config(3)
        };
        let mut play = Play::of(config, image(rows), 7);
        // The sample comes before the first row.
        while play.settled.is_empty() && play.finished.is_none() {
            play.step();
        }
        play
    };
    let asked: usize = run(216, None).picks.iter().map(|pick| pick.take).sum();
    assert_eq!(asked, 40);
    let play = run(216, None);
    let named = || play.picks.iter().flat_map(|pick| &pick.rows);
    assert!(
        named().count() >= 40 && named().all(|row| row.0 >= 17),
        "{:?}",
        play.picks
    );
    // 199 of them are too few, however many rows are left in all.
    assert_eq!(run(215, None).picks, []);
    assert_eq!(run(300, Some(RowNumber(215))).picks, []);
    let play = run(300, Some(RowNumber(216)));
    let named = play.picks.iter().flat_map(|pick| &pick.rows);
    assert_eq!(named.max().map(|row| row.0 <= 216), Some(true));
}

#[test]
fn nothing_is_listed_for_few_rows_nor_without_a_hit_nor_from_an_empty_target() {
    let none = |play: &Play| play.scans.is_empty() && play.knows.is_empty();
    assert!(none(&scanned(ExistingScan::Probe, 300, |_| ())));
    assert!(none(&scanned(ExistingScan::Auto, 199, |_| ())));
    assert!(none(&scanned(ExistingScan::Auto, 300, |play| play
        .sample =
        (40, 0))));
    let empty = |play: &mut Play| {
        play.probe = ProbeResult::Ok {
            date: None,
            empty: true,
        };
    };
    assert!(none(&scanned(ExistingScan::Auto, 300, empty)));
}

#[test]
fn a_listing_outlives_its_worker_but_not_every_worker() {
    let play = scanned(ExistingScan::List, 30, |play| play.scan_deaths = 2);
    assert_eq!((play.scans.len(), play.knows.is_empty()), (3, false));
    let play = scanned(ExistingScan::List, 30, |play| play.scan_deaths = 9);
    assert_eq!((play.scans.len(), play.knows.is_empty()), (3, true));
}

#[test]
fn a_target_that_is_not_there_is_told_once_and_tried_again() {
    let mut play = Play::new(image(5, 5, &[]), 1, 7);
    play.probe = ProbeResult::Connect("refused".to_owned());
    let mut told = 0;
    while play.finished.is_none() {
        play.step();
        told += std::mem::take(&mut play.unconnected);
    }
    assert!(matches!(play.finished, Some(EndReason::Outage(_))));
    assert_eq!(told, 1);
}
