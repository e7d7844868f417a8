//! What one play is about: a small file, what the target holds already, and the run's options.

use crate::ledger::{JobRecord, NewJob};
use crate::model::rng::Rng;
use crate::model::scan::ExistingScan;
use crate::model::{
    ChunkHash, ChunkId, ChunkSpec, ExistingPolicy, ExternalIdConflict, Follower, JobOptions,
    OrgKey, OrgMode, RateLimit, RateLimits, RowError, RowNumber, TargetKind,
};
use crate::source::index::org_key_hash;
use crate::source::{Columns, SourceRow, Totp};
use crate::worker::steps::RowPolicy;
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::time::Duration;

/// Users whose last name is this are refused by the server for their data.
pub const REFUSED: &str = "Refused";
/// Organizations whose external id starts with this are refused.
pub const REFUSED_ORG: &str = "refused";
/// A role the server does not know.
pub const BAD_ROLE: &str = "nobody";
/// A locale the server does not know.
pub const BAD_LOCALE: &str = "xx";
/// Factors with this issuer are refused.
pub const BAD_ISSUER: &str = "refused";

/// One row of the file.
#[derive(Clone, Debug)]
pub struct PlannedRow {
    /// What the rules make of it.
    pub parsed: Result<SourceRow, RowError>,
    /// As grouped by the index, also for a row that breaks a rule.
    pub email_norm: String,
}

/// A user that was there before the job.
#[derive(Clone, Debug)]
pub struct OldUser {
    pub email: String,
    pub external_id: Option<String>,
    pub first_name: Option<String>,
    /// Organization (external id) and status of its membership.
    pub memberships: Vec<(String, &'static str)>,
}

/// Everything that is fixed before a play begins.
#[derive(Debug)]
pub struct Plan {
    pub rows: Vec<PlannedRow>,
    pub job: NewJob,
    pub policy: RowPolicy,
    pub create_orgs: bool,
    pub workers: u32,
    /// How many of them are given rows at one time.
    pub at_work_max: usize,
    pub concurrency: u32,
    pub org_cache: u32,
    pub limits: RateLimits,
    /// Whether less than the limits is used after 429s.
    pub auto_rate: bool,
    pub time_scale: f64,
    pub max_outage: Duration,
    /// External ids of organizations that were there before; `org_id`s are made of them.
    pub old_orgs: Vec<String>,
    pub old_users: Vec<OldUser>,
    /// Whether the target is listed first.
    pub existing_scan: ExistingScan,
}

/// Returns the id of an organization that was there before.
pub fn old_org_id(external_id: &str) -> String {
    format!("org_old_{external_id}")
}

struct Maker {
    rng: Rng,
    external_share: f64,
    org_share: f64,
    repeat_share: f64,
    trouble_share: f64,
    locale_share: f64,
    factor_share: f64,
    orgs: Vec<OrgKey>,
}

impl Maker {
    fn chance(&mut self, share: f64) -> bool {
        self.rng.unit() < share
    }

    fn between(&mut self, from: u32, to: u32) -> u32 {
        from + u32::try_from(self.rng.below((to - from + 1) as usize)).unwrap()
    }

    /// Returns what is set on the row's user when it is there.
    fn finish(&mut self, number: u32) -> (Option<CompactString>, Option<Box<Totp>>) {
        let locale = if !self.chance(self.locale_share) {
            None
        } else if self.chance(self.trouble_share) {
            Some(BAD_LOCALE.into())
        } else {
            Some(format!("en-{number:03}").into())
        };
        let totp = self.chance(self.factor_share).then(|| Totp {
            secret: format!("SECRET{number}").into(),
            issuer: self
                .chance(self.trouble_share)
                .then(|| BAD_ISSUER.to_owned()),
        });
        (locale, totp.map(Box::new))
    }

    fn row(&mut self, number: u32, rows: &[PlannedRow]) -> PlannedRow {
        let lower = rows.len();
        let email = if lower > 0 && self.chance(self.repeat_share) {
            rows[self.rng.below(lower)].email_norm.clone()
        } else {
            format!("row{number}@x.org")
        };
        let written = if self.chance(0.3) {
            email.to_uppercase()
        } else {
            email.clone()
        };
        let external_id = self.chance(self.external_share).then(|| {
            let of = if lower > 0 && self.chance(0.05) {
                self.rng.below(lower)
            } else {
                lower
            };
            format!("ext-{}", of + 1)
        });
        let org = if self.chance(self.org_share) {
            let pick = self.rng.below(self.orgs.len());
            self.orgs.get(pick).cloned()
        } else {
            None
        };
        let last_name = if self.chance(self.trouble_share) {
            REFUSED
        } else {
            "Lee"
        };
        let role = match self.rng.below(8) {
            0 => vec!["admin".into()],
            1 if self.chance(self.trouble_share) => vec![BAD_ROLE.into()],
            _ => Vec::new(),
        };
        let (locale, totp) = self.finish(number);
        let org_name = match &org {
            Some(OrgKey::External(id)) if self.chance(0.5) => {
                Some(format!("{id} of row {number}").into())
            }
            _ => None,
        };
        let parsed = if self.chance(self.trouble_share) {
            Err(RowError::local(
                "email_verified_invalid",
                "a cell breaks a rule",
            ))
        } else {
            Ok(SourceRow {
                number: RowNumber(number),
                other_norm: (written != email).then(|| email.as_str().into()),
                email: written.into(),
                first_name: self.chance(0.8).then(|| format!("First{number}").into()),
                last_name: Some(last_name.into()),
                email_verified: self.chance(0.5).then_some(true),
                external_id: external_id.map(CompactString::from),
                locale,
                credential: None,
                totp,
                metadata: Vec::new(),
                org,
                org_name,
                role_slugs: role,
            })
        };
        PlannedRow {
            parsed,
            email_norm: email,
        }
    }

    fn old_user(&mut self, row: &SourceRow, old_orgs: &[String]) -> OldUser {
        let external_id = match self.rng.below(4) {
            0 => row.external_id.clone().map(String::from),
            1 => Some(format!("theirs-{}", row.number)),
            _ => None,
        };
        // The external id under another email: a conflict.
        let elsewhere = external_id.is_some()
            && external_id.as_deref() == row.external_id.as_deref()
            && self.chance(0.3);
        let email = if elsewhere {
            format!("other{}@x.org", row.number)
        } else {
            row.email_norm().to_owned()
        };
        let mut memberships = Vec::new();
        for org in old_orgs {
            if self.chance(0.5) {
                let status = ["active", "active", "inactive", "pending"][self.rng.below(4)];
                memberships.push((org.clone(), status));
            }
        }
        OldUser {
            email,
            external_id,
            first_name: (self.chance(0.5).then(|| row.first_name.clone()).flatten())
                .map(String::from),
            memberships,
        }
    }

    fn organizations(&mut self) -> Vec<OrgKey> {
        let mut orgs: Vec<OrgKey> = (1..=self.between(1, 3))
            .map(|n| OrgKey::External(format!("new{n}").into()))
            .collect();
        orgs.push(OrgKey::External("old1".into()));
        orgs.push(OrgKey::Id(old_org_id("old2").into()));
        if self.chance(0.2) {
            orgs.push(OrgKey::Id("org_missing".into()));
            orgs.push(OrgKey::External(format!("{REFUSED_ORG}1").into()));
        }
        let keep = self.between(1, u32::try_from(orgs.len()).unwrap()) as usize;
        orgs.truncate(keep);
        orgs
    }

    fn old_users(&mut self, rows: &[PlannedRow], old_orgs: &[String]) -> Vec<OldUser> {
        let existing = [0.0, 0.0, 0.2, 0.6][self.rng.below(4)];
        let mut old_users: Vec<OldUser> = Vec::new();
        for row in rows.iter().filter_map(|row| row.parsed.as_ref().ok()) {
            if self.chance(existing) {
                let user = self.old_user(row, old_orgs);
                let clash = old_users.iter().any(|other| {
                    other.email == user.email
                        || (other.external_id.is_some() && other.external_id == user.external_id)
                });
                if !clash {
                    old_users.push(user);
                }
            }
        }
        old_users
    }

    fn limits(&mut self) -> RateLimits {
        match self.rng.below(3) {
            0 => RateLimits::default(),
            1 => RateLimits::WORKOS,
            _ => RateLimits {
                writes: Some(RateLimit::per_seconds(20, 2)),
                reads: Some(RateLimit::per_seconds(30, 2)),
                total: Some(RateLimit::per_seconds(40, 2)),
            },
        }
    }
}

/// Groups rows as the index does.
fn shared(rows: &[PlannedRow]) -> (Vec<Follower>, Vec<ExternalIdConflict>) {
    let mut leaders: BTreeMap<&str, u32> = BTreeMap::new();
    let mut pairs: BTreeMap<(&str, &OrgKey), u32> = BTreeMap::new();
    let mut externals: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
    let (mut followers, mut conflicts) = (Vec::new(), Vec::new());
    for (number, row) in (1..).zip(rows) {
        let email = row.email_norm.as_str();
        let parsed = row.parsed.as_ref().ok();
        let mut loses = false;
        if let Some(external) = parsed.and_then(|row| row.external_id.as_deref()) {
            let winner = *externals.entry(external).or_insert((number, email));
            loses = winner.1 != email;
            if loses {
                let winner = RowNumber(winner.0);
                conflicts.push(ExternalIdConflict {
                    row: RowNumber(number),
                    winner,
                });
            }
        }
        let org = parsed.and_then(|row| row.org.as_ref());
        let previous = org.and_then(|org| pairs.get(&(email, org)).copied());
        if let Some(org) = org.filter(|_| !loses) {
            pairs.insert((email, org), number);
        }
        if let Some(leader) = leaders.get(email) {
            followers.push(Follower {
                row: RowNumber(number),
                leader: RowNumber(*leader),
                previous_pair: previous.map(RowNumber),
            });
        } else {
            leaders.insert(email, number);
        }
    }
    (followers, conflicts)
}

fn new_job(rows: &[PlannedRow], chunk_rows: u32, record: JobRecord, hash_key: u64) -> NewJob {
    let total = u32::try_from(rows.len()).unwrap();
    let chunk = |id: u32| ChunkSpec {
        id: ChunkId(id),
        offset: u64::from(id) * 1000,
        length: 1000,
        first_row: RowNumber(id * chunk_rows + 1),
        rows: chunk_rows.min(total - id * chunk_rows),
        first_line: u64::from(id * chunk_rows) + 2,
        hash: ChunkHash([7; 16]),
    };
    let (followers, conflicts) = shared(rows);
    let mut names: BTreeMap<u64, RowNumber> = BTreeMap::new();
    for row in rows.iter().filter_map(|row| row.parsed.as_ref().ok()) {
        if let (Some(key), Some(_)) = (&row.org, &row.org_name) {
            names
                .entry(org_key_hash(hash_key, key))
                .or_insert(row.number);
        }
    }
    NewJob {
        record,
        chunks: (0..total.div_ceil(chunk_rows)).map(chunk).collect(),
        followers,
        conflicts,
        org_names: names.into_iter().collect(),
        hash_key,
        rows: total,
        settings: crate::ledger::Settings::default(),
    }
}

fn record(policy: RowPolicy, create_orgs: bool) -> JobRecord {
    JobRecord {
        name: "play".into(),
        source: "/play.csv".into(),
        source_bytes: 1,
        source_hash: String::new(),
        reading: crate::model::Reading::default(),
        columns: Columns {
            count: 1,
            ..Columns::default()
        },
        options: JobOptions {
            target: TargetKind::Workos,
            base_url: None,
            org_mode: OrgMode::Columns,
            create_orgs,
            on_existing: policy.on_existing,
            reactivate: policy.reactivate,
            require_membership: false,
            chunk_size: 7,
            profile: "none".to_owned(),
            password_hashes: None,
            hash_parameters: None,
        },
        created_ms: 1,
        generation: 1,
        rebuilt_from: None,
    }
}

impl Plan {
    /// Makes the play of a seed.
    pub fn of(seed: u64) -> Self {
        let mut maker = Maker {
            rng: Rng::new(seed ^ 0x706c_616e),
            external_share: 0.0,
            org_share: 0.0,
            repeat_share: 0.0,
            trouble_share: 0.0,
            locale_share: 0.0,
            factor_share: 0.0,
            orgs: Vec::new(),
        };
        maker.external_share = [0.0, 0.5, 1.0][maker.rng.below(3)];
        maker.org_share = [0.0, 0.6, 1.0, 1.0][maker.rng.below(4)];
        maker.repeat_share = [0.0, 0.2, 0.5][maker.rng.below(3)];
        maker.trouble_share = [0.0, 0.05, 0.15][maker.rng.below(3)];
        maker.locale_share = [0.0, 0.0, 0.5][maker.rng.below(3)];
        maker.factor_share = [0.0, 0.0, 0.3, 1.0][maker.rng.below(4)];
        let old_orgs = vec!["old1".to_owned(), "old2".to_owned()];
        maker.orgs = maker.organizations();
        let count = if maker.chance(0.85) {
            maker.between(6, 16)
        } else {
            maker.between(17, 40)
        };
        let mut rows = Vec::new();
        for number in 1..=count {
            let row = maker.row(number, &rows);
            rows.push(row);
        }
        let old_users = maker.old_users(&rows, &old_orgs);
        let on_existing = [
            ExistingPolicy::Link,
            ExistingPolicy::Link,
            ExistingPolicy::Skip,
            ExistingPolicy::Fail,
        ][maker.rng.below(4)];
        let policy = RowPolicy {
            on_existing,
            reactivate: maker.chance(0.3),
        };
        let create_orgs = maker.chance(0.8);
        let chunk_rows = maker.between(1, 7);
        let job = new_job(
            &rows,
            chunk_rows,
            record(policy, create_orgs),
            maker.rng.next_u64(),
        );
        let limits = maker.limits();
        Self {
            rows,
            job,
            policy,
            create_orgs,
            workers: maker.between(1, 3),
            at_work_max: match Rng::new(seed ^ 0x6174_776f).below(6) {
                0 => 1,
                1 => 2,
                _ => usize::MAX,
            },
            concurrency: maker.between(1, 4),
            org_cache: maker.between(1, 4),
            limits,
            // Drawn apart: a seed plays the same file as before there was such an option.
            auto_rate: Rng::new(seed ^ 0x6175_746f).unit() < 0.4,
            time_scale: [1.0, 1.0, 0.2][maker.rng.below(3)],
            max_outage: Duration::from_secs(u64::from(maker.between(20, 120))),
            old_orgs,
            old_users,
            existing_scan: [ExistingScan::Probe, ExistingScan::Auto, ExistingScan::List]
                [Rng::new(seed ^ 0x7363_616e).below(3)],
        }
    }

    /// The small job of the exhaustive plays: six rows, two organizations, two workers.
    pub fn small() -> Self {
        let mut plan = Self::of(1);
        let row = |number: u32, email: &str, org: &str| PlannedRow {
            parsed: Ok(SourceRow {
                number: RowNumber(number),
                email: email.into(),
                other_norm: None,
                first_name: Some("Ann".into()),
                last_name: Some("Lee".into()),
                email_verified: None,
                external_id: Some(format!("ext-{email}").into()),
                locale: None,
                credential: None,
                totp: (number == 2).then(|| {
                    Box::new(Totp {
                        secret: "SECRET".into(),
                        issuer: None,
                    })
                }),
                metadata: Vec::new(),
                org: Some(OrgKey::External(org.into())),
                org_name: None,
                role_slugs: Vec::new(),
            }),
            email_norm: email.to_owned(),
        };
        plan.rows = vec![
            row(1, "a@x.org", "new1"),
            row(2, "b@x.org", "new1"),
            row(3, "a@x.org", "new2"),
            row(4, "c@x.org", "new2"),
            row(5, "a@x.org", "new1"),
            row(6, "d@x.org", "new1"),
        ];
        plan.policy = RowPolicy {
            on_existing: ExistingPolicy::Link,
            reactivate: false,
        };
        plan.create_orgs = true;
        plan.job = new_job(&plan.rows, 2, record(plan.policy, true), 7);
        plan.workers = 2;
        plan.at_work_max = usize::MAX;
        plan.concurrency = 2;
        plan.limits = RateLimits::default();
        plan.auto_rate = false;
        plan.time_scale = 1.0;
        plan.old_users.clear();
        plan.existing_scan = ExistingScan::Probe;
        plan
    }

    /// Returns a row by its number.
    pub fn row(&self, row: RowNumber) -> &PlannedRow {
        &self.rows[row.0 as usize - 1]
    }
}
