//! A job made up for measuring: chunks of rows that are nobody's.

use super::super::timing::{remove, seconds};
use super::super::{BenchError, Budget};
use crate::ledger::{
    Change, JobRecord, Ledger, LedgerError, LedgerReader, NewJob, RunSnapshot, RunState, store,
};
use crate::model::clock::wall_ms;
use crate::model::tally::OrgCacheTally;
use crate::model::{
    ChunkHash, ChunkId, ChunkSpec, Evidence, ExistingPolicy, JobOptions, LeaseId,
    MembershipOutcome, MembershipState, OrgMode, Origin, Reading, RequestTally, RowError,
    RowNumber, RowOutcome, RowState, ServerMs, Step, TargetKind, UserOutcome, WorkerId,
};
use crate::source::Columns;
use std::path::{Path, PathBuf};

/// Bytes of a chunk of the made-up file.
const CHUNK_BYTES: u32 = 28_000;

/// The job's folder and how far it has come.
#[derive(Debug)]
pub(super) struct Desk {
    folder: PathBuf,
    path: PathBuf,
    pub(super) chunks: u32,
    chunk_rows: u32,
    /// Leases given out so far; their numbers count up from 1.
    pub(super) leases: u64,
    /// Chunks whose rows are all settled: the first ones.
    settled: u32,
}

impl Desk {
    pub(super) fn new(folder: &Path, chunks: u32, chunk_rows: u32) -> Result<Self, BenchError> {
        let chunks = chunks.clamp(1, u32::MAX / chunk_rows.max(1) - 1);
        let desk = Self {
            folder: folder.to_owned(),
            path: folder.join(store::LEDGER_FILE),
            chunks,
            chunk_rows,
            leases: 0,
            settled: 0,
        };
        desk.remove()?;
        Ok(desk)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the ledger anew and returns the seconds it took: every chunk in one commit.
    pub(super) fn create(&self) -> Result<f64, BenchError> {
        self.remove()?;
        let job = self.job();
        let ((), took) = seconds(|| Ledger::create(&self.path, &job))?;
        Ok(took)
    }

    /// Removes the ledger and its logs.
    pub(super) fn remove(&self) -> Result<(), BenchError> {
        for end in ["", "-wal", "-shm"] {
            let mut name = self.path.as_os_str().to_owned();
            name.push(end);
            remove(Path::new(&name))?;
        }
        Ok(())
    }

    /// Asks for the status as `userferry status` does: opens the file, reads totals and last run.
    pub(super) fn status_of(path: &Path) -> Result<(), LedgerError> {
        LedgerReader::open(path)?.summary().map(drop)
    }

    /// Returns the intent to work on the next chunk, round and round.
    pub(super) fn next_lease(&mut self) -> Change {
        self.leases += 1;
        lease(self.leases, self.chunks)
    }

    /// Returns the outcomes of the next chunk, `None` when all are settled.
    pub(super) fn next_settled(&mut self, one: fn(u32) -> RowOutcome) -> Option<Change> {
        if self.settled == self.chunks {
            return None;
        }
        let first = self.settled * self.chunk_rows + 1;
        self.settled += 1;
        let rows = first..first + self.chunk_rows;
        Some(Change::Settle(rows.map(one).collect()))
    }

    /// Returns the rows that must be settled by now.
    pub(super) fn rows_settled(&self) -> u64 {
        u64::from(self.settled) * u64::from(self.chunk_rows)
    }

    /// Returns how many chunks each of `parts` measurements may settle in every run.
    pub(super) fn share(&self, budget: &Budget, parts: u32, wanted: u32) -> u32 {
        let runs = budget.runs.max(1) + 1;
        (self.chunks / (parts * runs).max(1)).clamp(1, wanted)
    }

    fn job(&self) -> NewJob {
        let rows = self.chunk_rows;
        let chunk = |id: u32| ChunkSpec {
            id: ChunkId(id),
            offset: u64::from(id) * u64::from(CHUNK_BYTES),
            length: CHUNK_BYTES,
            first_row: RowNumber(id * rows + 1),
            rows,
            first_line: u64::from(id) * u64::from(rows) + 2,
            hash: ChunkHash((u128::from(id) * 0x9e37_79b9_7f4a_7c15_f39c_c060).to_le_bytes()),
        };
        NewJob {
            record: record(rows),
            chunks: (0..self.chunks).map(chunk).collect(),
            followers: Vec::new(),
            conflicts: Vec::new(),
            org_names: Vec::new(),
            hash_key: 1,
            rows: self.chunks * rows,
            settings: crate::ledger::Settings::default(),
        }
    }
}

/// Returns the lease of that number.
pub(super) fn lease(number: u64, chunks: u32) -> Change {
    let chunk = u32::try_from(number % u64::from(chunks)).unwrap_or_default();
    Change::Lease {
        id: LeaseId(number),
        chunk: ChunkId(chunk),
        worker: WorkerId(1),
        at: ServerMs(wall_ms()),
        rows: None,
        followers: Vec::new(),
    }
}

fn record(chunk_size: u32) -> JobRecord {
    JobRecord {
        name: "bench".to_owned(),
        source: PathBuf::from("/bench.csv"),
        source_bytes: 0,
        source_hash: String::new(),
        reading: Reading::default(),
        columns: Columns {
            count: 1,
            ..Columns::default()
        },
        options: JobOptions {
            target: TargetKind::Sandbox,
            base_url: None,
            org_mode: OrgMode::Columns,
            create_orgs: false,
            on_existing: ExistingPolicy::Link,
            reactivate: false,
            require_membership: false,
            chunk_size,
            profile: crate::source::profile::NONE.to_owned(),
            password_hashes: None,
            hash_parameters: None,
        },
        created_ms: wall_ms(),
        generation: 1,
        rebuilt_from: None,
    }
}

/// A row whose user and membership were made: ids as long as the target's.
pub(in crate::bench) fn created(row: u32) -> RowOutcome {
    RowOutcome {
        row: RowNumber(row),
        state: RowState::Created,
        step: None,
        user: Some(UserOutcome {
            id: format!("user_{row:026}"),
            origin: Origin::Made(Evidence::Answered),
        }),
        org_id: Some(format!("org_{:026}", row % 500)),
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

/// A row that the target refused.
pub(super) fn failed(row: u32) -> RowOutcome {
    let error = RowError {
        code: "email_not_available".to_owned(),
        message: "the target refused the email (422)".to_owned(),
        http_status: Some(422),
        request_id: Some(format!("req_{row:026}")),
    };
    RowOutcome::failed(RowNumber(row), Step::User, error)
}

/// Counters as a run writes them with its commits.
pub(super) fn snapshot(settled: u64) -> RunSnapshot {
    RunSnapshot {
        state: RunState::Running,
        exit: None,
        requests: RequestTally::default(),
        org_cache: OrgCacheTally::default(),
        latency_ms: [0.0; 3],
        recent_ms: [0.0; 2],
        writes_per_s: None,
        rate_used: None,
        auto_rate: None,
        workers: 1,
        restarts: 0,
        settled,
        elapsed_s: 0.0,
    }
}
