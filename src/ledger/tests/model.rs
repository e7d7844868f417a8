//! Random histories of leases, outcomes, organizations, retries and crashes, against a model that
//! keeps everything in plain maps.

use super::*;
use crate::model::{MembershipTally, OrgKey, OrgTally, RowTally};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ROWS: u32 = 23;
const CHUNK_ROWS: u32 = 5;

#[derive(Clone, Debug)]
enum Step_ {
    LeaseChunk(u32),
    LeaseRow(u32),
    Settle(Vec<(u32, u8)>),
    Echo,
    Contradict,
    Intent(u8),
    Org(u8, u8),
    Retry,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step_>> {
    let row = 1..=ROWS;
    let settle = proptest::collection::vec((row.clone(), 0..10_u8), 1..8);
    let step = prop_oneof![
        4 => (0..ROWS.div_ceil(CHUNK_ROWS)).prop_map(Step_::LeaseChunk),
        3 => row.prop_map(Step_::LeaseRow),
        8 => settle.prop_map(Step_::Settle),
        1 => Just(Step_::Echo),
        1 => Just(Step_::Contradict),
        1 => (0..4_u8).prop_map(Step_::Intent),
        2 => (0..4_u8, 0..3_u8).prop_map(|(key, kind)| Step_::Org(key, kind)),
        1 => Just(Step_::Retry),
        2 => Just(Step_::Crash),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Groups of one email: `(follower, which lower row leads, does it repeat the pair before it)`.
fn groups() -> impl Strategy<Value = Vec<Follower>> {
    proptest::collection::vec((any::<bool>(), any::<u32>(), any::<bool>()), 22).prop_map(|picks| {
        let mut followers: Vec<Follower> = Vec::new();
        for (row, (is_follower, pick, repeats)) in (2..).zip(picks) {
            let leads = |lower: &u32| !followers.iter().any(|f| f.row.0 == *lower);
            let leaders: Vec<u32> = (1..row).filter(leads).collect();
            if is_follower {
                let leader = leaders[usize::try_from(pick).unwrap() % leaders.len()];
                let mut group = followers
                    .iter()
                    .filter(|f| f.leader.0 == leader)
                    .map(|f| f.row.0);
                let pair = repeats.then(|| group.next_back().unwrap_or(leader));
                followers.push(follower(row, leader, pair));
            }
        }
        followers
    })
}

fn outcome(row: u32, kind: u8) -> RowOutcome {
    let linked = RowOutcome {
        state: RowState::Linked,
        user: Some(UserOutcome {
            id: format!("old_{row}"),
            origin: Origin::Before,
        }),
        membership: None,
        org_id: None,
        ..created(row)
    };
    let repeat = MembershipOutcome {
        id: Some("om_1".into()),
        state: MembershipState::Existing,
        repeat: true,
    };
    match kind {
        0..=2 => created(row),
        3 => linked,
        4 => RowOutcome {
            state: RowState::Merged,
            membership: Some(repeat),
            ..created(row)
        },
        5 => RowOutcome {
            state: RowState::Skipped,
            user: None,
            ..linked
        },
        6 => failed(row, Step::User, "user_exists"),
        7 => failed(row, Step::User, "invalid_email"),
        8 => half_failed(row),
        _ => RowOutcome {
            user: Some(user(row)),
            ..parked(row, "wrong_echo")
        },
    }
}

struct Lease {
    chunk: u32,
    generation: u32,
    at: i64,
    covered: BTreeSet<u32>,
}

struct Model {
    job: NewJob,
    generation: u32,
    outcomes: BTreeMap<u32, RowOutcome>,
    leases: Vec<Lease>,
    carry: BTreeMap<u32, Carry>,
    orgs: BTreeMap<OrgKey, OrgImage>,
}

impl Model {
    fn rows_of(&self, chunk: u32) -> std::ops::Range<u32> {
        let spec = &self.job.chunks[usize::try_from(chunk).unwrap()];
        spec.first_row.0..spec.first_row.0 + spec.rows
    }

    fn is_open(&self, row: u32) -> bool {
        !self.outcomes.contains_key(&row)
    }

    fn waits(&self, row: u32) -> bool {
        let follower = self.job.followers.iter().find(|f| f.row.0 == row);
        follower.is_some_and(|f| {
            self.is_open(f.leader.0) || f.previous_pair.is_some_and(|pair| self.is_open(pair.0))
        })
    }

    fn suspects(&self, chunk: u32) -> BTreeSet<u32> {
        let live = self.leases.iter().filter(|l| l.chunk == chunk);
        live.filter(|lease| lease.generation == self.generation)
            .flat_map(|lease| lease.covered.iter().copied())
            .filter(|row| self.is_open(*row))
            .collect()
    }

    fn retry(&mut self) {
        let opens = |o: &RowOutcome| {
            matches!(o.state, RowState::Failed | RowState::Parked)
                && o.error.as_ref().unwrap().code != "external_id_conflict_in_file"
        };
        let opened: Vec<RowOutcome> = self
            .outcomes
            .values()
            .filter(|o| opens(o))
            .cloned()
            .collect();
        if opened.is_empty() {
            return;
        }
        let chunks = 0..u32::try_from(self.job.chunks.len()).unwrap();
        for row in chunks
            .flat_map(|chunk| self.suspects(chunk))
            .collect::<Vec<_>>()
        {
            self.carry.entry(row).or_default().suspect = true;
        }
        for outcome in opened {
            self.outcomes.remove(&outcome.row.0);
            let carry = self.carry.entry(outcome.row.0).or_default();
            carry.suspect = outcome.state == RowState::Parked;
            if outcome.error.unwrap().code != "wrong_echo" && outcome.user.is_some() {
                carry.user = outcome.user;
            }
        }
        self.generation += 1;
    }

    fn sentinels(&self) -> Vec<String> {
        let users = self
            .outcomes
            .values()
            .rev()
            .filter_map(|outcome| outcome.user.as_ref());
        users.take(5).map(|user| user.id.clone()).collect()
    }

    fn image(&self) -> JobImage {
        let mut image = JobImage {
            chunks: self.job.chunks.clone(),
            orgs: self.orgs.clone(),
            hash_key: self.job.hash_key,
            sentinels: self.sentinels(),
            last_lease: LeaseId(u64::try_from(self.leases.len()).unwrap()),
            rows: RowTally::of(u64::from(ROWS)),
            memberships: MembershipTally::default(),
            organizations: OrgTally::default(),
            ..JobImage::default()
        };
        for outcome in self.outcomes.values() {
            image.rows.settle(outcome.state);
            outcome
                .membership
                .iter()
                .for_each(|m| image.memberships.count(m));
        }
        for org in self.orgs.values().filter_map(|org| org.state.as_ref()) {
            *match org {
                OrgState::Ready {
                    origin: Origin::Before,
                    ..
                } => &mut image.organizations.found,
                OrgState::Ready { .. } => &mut image.organizations.created,
                OrgState::Failed { .. } => &mut image.organizations.failed,
            } += 1;
        }
        for chunk in 0..u32::try_from(self.job.chunks.len()).unwrap() {
            self.add_chunk(&mut image, chunk);
        }
        self.add_groups(&mut image);
        let open = self.carry.iter().filter(|(row, _)| self.is_open(**row));
        image.carry = open
            .map(|(row, carry)| (RowNumber(*row), carry.clone()))
            .collect();
        // What an open follower made is what its leader, touched and open again, starts with.
        for follower in &self.job.followers {
            let made = image
                .carry
                .get(&follower.row)
                .and_then(|carry| carry.user.clone());
            if let Some(user) = made.filter(|_| Self::is_open_again(&image, follower.leader)) {
                let leader = image.carry.entry(follower.leader).or_default();
                leader.user.get_or_insert(user);
            }
        }
        image
    }

    /// Its chunk was leased or settled in part, and it has no outcome.
    fn is_open_again(image: &JobImage, row: RowNumber) -> bool {
        image.remaining.values().any(|rows| rows.contains(&row))
    }

    fn add_chunk(&self, image: &mut JobImage, chunk: u32) {
        let rows = self.rows_of(chunk);
        let open: Vec<u32> = rows.clone().filter(|row| self.is_open(*row)).collect();
        let first = self.leases.iter().find(|lease| lease.chunk == chunk);
        if open.is_empty() {
            image.complete.push(ChunkId(chunk));
            return;
        }
        if first.is_some() || open.len() < rows.len() {
            image.remaining.insert(ChunkId(chunk), numbers(&open));
        }
        if let Some(first) = first {
            let suspects = self.suspects(chunk).into_iter().map(RowNumber).collect();
            let lease = LeaseImage {
                t_lo: ServerMs(first.at),
                suspects,
            };
            image.leases.insert(ChunkId(chunk), lease);
        }
    }

    fn open_pair(&self, pair: Option<RowNumber>) -> Option<RowNumber> {
        let row = pair?;
        if self.is_open(row.0) {
            return pair;
        }
        let of = self.job.followers.iter().find(|other| other.row == row)?;
        self.open_pair(of.previous_pair)
    }

    fn add_groups(&self, image: &mut JobImage) {
        for follower in self.job.followers.iter().copied() {
            let open = self.is_open(follower.row.0);
            if open {
                let waits_for = self.open_pair(follower.previous_pair);
                image.followers.push(FollowerImage {
                    follower,
                    waits_for,
                });
            }
            let leader = follower.leader;
            if !open && !Self::is_open_again(image, leader) {
                continue;
            }
            let others = self.job.followers.iter().filter(|f| f.leader == leader);
            for row in others.map(|f| f.row).chain([leader]) {
                if let Some(outcome) = self.outcomes.get(&row.0) {
                    let fate = Fate::of(outcome);
                    image.fates.insert(row, GroupFate { leader, fate });
                }
            }
        }
    }
}

/// Model and ledger side by side.
struct Pair {
    desk: Desk,
    ledger: Ledger,
    model: Model,
    clock: i64,
}

impl Pair {
    fn new(followers: Vec<Follower>) -> Self {
        let mut job = job(ROWS, CHUNK_ROWS);
        job.conflicts = vec![ExternalIdConflict {
            row: RowNumber(17),
            winner: RowNumber(3),
        }];
        job.followers = followers;
        let desk = Desk::new(&job);
        let ledger = desk.open();
        let mut first = failed(17, Step::Validation, "external_id_conflict_in_file");
        first.membership = None;
        let model = Model {
            job,
            generation: 1,
            outcomes: BTreeMap::from([(17, first)]),
            leases: Vec::new(),
            carry: BTreeMap::new(),
            orgs: BTreeMap::new(),
        };
        Self {
            desk,
            ledger,
            model,
            clock: 1000,
        }
    }

    fn lease(&mut self, chunk: u32, rows: Option<&[u32]>) {
        // Later leases may even seem earlier: a run's clock is only as good as a `Date`.
        self.clock -= 7;
        let id = u64::try_from(self.model.leases.len()).unwrap() + 1;
        let change = match rows {
            Some(rows) => lease_rows(id, chunk, self.clock, rows),
            None => lease(id, chunk, self.clock),
        };
        self.ledger.commit(&[change]).unwrap();
        let all = self
            .model
            .rows_of(chunk)
            .filter(|row| !self.model.waits(*row));
        let covered = rows.map_or_else(|| all.collect(), |rows| rows.iter().copied().collect());
        let generation = self.model.generation;
        self.model.leases.push(Lease {
            chunk,
            generation,
            at: self.clock,
            covered,
        });
    }

    fn org(&mut self, key: u8, kind: u8) {
        let key = org_key(key);
        let state = match kind {
            0 => OrgState::Ready {
                id: format!("org_{key}"),
                origin: MADE,
            },
            1 => OrgState::Ready {
                id: format!("org_{key}"),
                origin: Origin::Before,
            },
            _ => OrgState::Failed {
                code: "organization_not_found".into(),
                message: "there is none".into(),
                http_status: None,
                parked: false,
            },
        };
        let record = OrgRecord {
            state: state.clone(),
        };
        let done = self.ledger.commit(&[Change::Org {
            key: key.clone(),
            record,
        }]);
        let org = self.model.orgs.entry(key).or_default();
        let is_ready = matches!(org.state, Some(OrgState::Ready { .. }));
        let is_fine = !is_ready || org.state == Some(state.clone());
        assert_eq!(done.is_ok(), is_fine, "{done:?}");
        if is_fine {
            org.state = Some(state);
        }
    }

    fn intent(&mut self, key: u8) {
        let key = org_key(key);
        let at = ServerMs(self.clock);
        let done = self.ledger.commit(&[Change::OrgIntent {
            key: key.clone(),
            at,
        }]);
        let is_fine = self
            .model
            .orgs
            .get(&key)
            .is_none_or(|org| !matches!(org.state, Some(OrgState::Ready { .. })));
        assert_eq!(done.is_ok(), is_fine, "{done:?}");
        if is_fine {
            self.model
                .orgs
                .entry(key)
                .or_default()
                .intent
                .get_or_insert(at);
        }
    }

    fn settle(&mut self, picks: &[(u32, u8)]) {
        let mut outcomes = BTreeMap::new();
        for (row, kind) in picks.iter().filter(|(row, _)| self.model.is_open(*row)) {
            outcomes.insert(*row, outcome(*row, *kind));
        }
        let change = Change::settle(outcomes.values().cloned().collect::<Vec<_>>());
        self.ledger.commit(&[change]).unwrap();
        self.model.outcomes.extend(outcomes);
    }

    /// Sends a settled row again, the same or with another attempt count.
    fn again(&mut self, is_same: bool) {
        let known = self
            .model
            .outcomes
            .values()
            .find(|o| o.row != RowNumber(17))
            .cloned();
        let Some(mut outcome) = known else { return };
        if !is_same {
            outcome.attempts += 1;
        }
        let done = self.ledger.commit(&[Change::settle(vec![outcome])]);
        assert_eq!(done.is_ok(), is_same);
    }

    fn step(&mut self, step: &Step_) {
        match step {
            Step_::LeaseChunk(chunk) => self.lease(*chunk, None),
            Step_::LeaseRow(row) if self.model.is_open(*row) => {
                self.lease((row - 1) / CHUNK_ROWS, Some(&[*row]));
            }
            Step_::LeaseRow(_) => {}
            Step_::Settle(picks) => self.settle(picks),
            Step_::Echo => self.again(true),
            Step_::Contradict => self.again(false),
            Step_::Intent(key) => self.intent(*key),
            Step_::Org(key, kind) => self.org(*key, *kind),
            Step_::Retry => {
                self.model.retry();
                assert_eq!(
                    self.ledger.retry(&RetryPick::default()).unwrap().generation,
                    self.model.generation
                );
            }
            Step_::Crash => self.ledger = self.after_kill(),
        }
    }

    /// What a process finds after a kill: the files as they are, without the old connection
    /// having had a chance to close.
    fn after_kill(&self) -> Ledger {
        let folder = self.desk.path.parent().unwrap();
        let copy = folder.join("copy");
        let name = |base: &Path, end: &str| {
            base.with_file_name(format!("{}{end}", base.file_name().unwrap().display()))
        };
        for end in ["", "-wal"] {
            let _ = std::fs::remove_file(name(&copy, end));
            let from = name(&self.desk.path, end);
            if from.exists() {
                std::fs::copy(from, name(&copy, end)).unwrap();
            }
        }
        let mut copied = Ledger::open(&copy).unwrap();
        assert_eq!(copied.load().unwrap(), self.model.image());
        drop(copied);
        self.desk.open()
    }
}

fn org_key(key: u8) -> OrgKey {
    if key == 0 {
        OrgKey::Id("org_0".into())
    } else {
        OrgKey::External(format!("ext-{key}").into())
    }
}

proptest! {
    // Every step syncs: a quarter of the usual cases.
    #![proptest_config(crate::fuzz::cases(64))]
    #[test]
    fn the_ledger_is_what_the_model_says(followers in groups(), steps in steps()) {
        let mut pair = Pair::new(followers);
        for step in &steps {
            pair.step(step);
            prop_assert_eq!(pair.ledger.load().unwrap(), pair.model.image(), "{:?}", step);
            pair.ledger.verify_totals().unwrap();
        }
        let mut found = BTreeMap::new();
        LedgerReader::open(&pair.desk.path).unwrap().for_each_outcome(RowNumber(1), |outcome| {
            found.insert(outcome.row.0, outcome.clone());
            std::ops::ControlFlow::Continue(())
        }).unwrap();
        let words = found.get_mut(&17).unwrap().error.as_mut().unwrap();
        prop_assert!(words.message.contains("row 3"));
        *words = pair.model.outcomes[&17].error.clone().unwrap();
        prop_assert_eq!(found, pair.model.outcomes);
    }
}
