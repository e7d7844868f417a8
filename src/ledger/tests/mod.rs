//! Tests of the room as a whole: the ledger against a model of it, and what happens when the disk
//! or the file is against us.

mod faults;
mod image;
mod model;
mod reading;
mod rehearsal;
mod retrying;
mod ruins;
mod series;

use super::*;
use crate::model::{
    ChunkHash, ChunkId, ChunkSpec, Evidence, ExistingPolicy, ExternalIdConflict, Follower,
    JobOptions, LeaseId, MembershipOutcome, MembershipState, OrgMode, Origin, RowError, RowNumber,
    RowOutcome, RowState, ServerMs, Step, TargetKind, UserOutcome, WorkerId,
};
use crate::source::Columns;
use std::path::{Path, PathBuf};

const MADE: Origin = Origin::Made(Evidence::Answered);

/// A job in a folder of its own that vanishes with it.
struct Desk {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Desk {
    fn new(job: &NewJob) -> Self {
        let desk = Self::empty();
        Ledger::create(&desk.path, job).unwrap();
        desk
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(store::LEDGER_FILE);
        Self {
            _folder: folder,
            path,
        }
    }

    fn open(&self) -> Ledger {
        Ledger::open(&self.path).unwrap()
    }
}

fn record() -> JobRecord {
    JobRecord {
        name: "users-1f3a9c".into(),
        source: "/data/users.csv".into(),
        source_bytes: 1000,
        source_hash: "ab".into(),
        reading: crate::model::Reading::default(),
        columns: Columns {
            count: 1,
            ..Columns::default()
        },
        options: JobOptions {
            target: TargetKind::Sandbox,
            base_url: None,
            org_mode: OrgMode::Columns,
            create_orgs: true,
            on_existing: ExistingPolicy::Link,
            reactivate: false,
            require_membership: false,
            chunk_size: 250,
            profile: "none".to_owned(),
            password_hashes: None,
            hash_parameters: None,
        },
        created_ms: 1,
        generation: 1,
        rebuilt_from: None,
    }
}

fn job(rows: u32, chunk_rows: u32) -> NewJob {
    let chunk = |id: u32| ChunkSpec {
        id: ChunkId(id),
        offset: u64::from(id) * 1000,
        length: 1000,
        first_row: RowNumber(id * chunk_rows + 1),
        rows: chunk_rows.min(rows - id * chunk_rows),
        first_line: u64::from(id) * 10 + 2,
        hash: ChunkHash([u8::try_from(id % 256).unwrap(); 16]),
    };
    NewJob {
        record: record(),
        chunks: (0..rows.div_ceil(chunk_rows)).map(chunk).collect(),
        followers: Vec::new(),
        conflicts: Vec::new(),
        org_names: Vec::new(),
        hash_key: u64::MAX - 5,
        rows,
        settings: Settings::default(),
    }
}

fn follower(row: u32, leader: u32, previous_pair: Option<u32>) -> Follower {
    Follower {
        row: RowNumber(row),
        leader: RowNumber(leader),
        previous_pair: previous_pair.map(RowNumber),
    }
}

fn user(row: u32) -> UserOutcome {
    UserOutcome {
        id: format!("user_{row:026}"),
        origin: MADE,
    }
}

fn created(row: u32) -> RowOutcome {
    RowOutcome {
        row: RowNumber(row),
        state: RowState::Created,
        step: None,
        user: Some(user(row)),
        org_id: Some(format!("org_{:026}", row % 7)),
        membership: Some(MembershipOutcome {
            id: Some(format!("om_{row:026}")),
            state: MembershipState::Created,
            repeat: false,
        }),
        attempts: 2,
        error: None,
        unknown_role: None,
    }
}

fn failed(row: u32, step: Step, code: &str) -> RowOutcome {
    let error = RowError {
        code: code.into(),
        message: "refused".into(),
        http_status: Some(422),
        request_id: Some("req_1".into()),
    };
    RowOutcome::failed(RowNumber(row), step, error)
}

fn parked(row: u32, code: &str) -> RowOutcome {
    RowOutcome::parked(RowNumber(row), Step::User, RowError::local(code, "unclear"))
}

/// Created its user, and was refused the membership.
fn half_failed(row: u32) -> RowOutcome {
    let membership = MembershipOutcome {
        id: None,
        state: MembershipState::Failed,
        repeat: false,
    };
    RowOutcome {
        user: Some(user(row)),
        membership: Some(membership),
        ..failed(row, Step::Membership, "invalid_role")
    }
}

fn lease(id: u64, chunk: u32, at: i64) -> Change {
    Change::Lease {
        id: LeaseId(id),
        chunk: ChunkId(chunk),
        worker: WorkerId(1),
        at: ServerMs(at),
        rows: None,
        followers: Vec::new(),
    }
}

fn lease_rows(id: u64, chunk: u32, at: i64, rows: &[u32]) -> Change {
    Change::Lease {
        id: LeaseId(id),
        chunk: ChunkId(chunk),
        worker: WorkerId(1),
        at: ServerMs(at),
        rows: Some(numbers(rows)),
        followers: Vec::new(),
    }
}

fn numbers(rows: &[u32]) -> Vec<RowNumber> {
    rows.iter().copied().map(RowNumber).collect()
}

fn snapshot(settled: u64) -> RunSnapshot {
    RunSnapshot {
        state: RunState::Running,
        exit: None,
        requests: crate::model::RequestTally {
            total: 3,
            ..Default::default()
        },
        org_cache: crate::model::tally::OrgCacheTally::default(),
        latency_ms: [1.5, 2.0, 3.0],
        recent_ms: [1.25, 2.5],
        writes_per_s: Some(50.0),
        rate_used: None,
        auto_rate: None,
        workers: 4,
        restarts: 0,
        settled,
        elapsed_s: 1.25,
    }
}
