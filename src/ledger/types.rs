//! What crosses the ledger's door: changes going in, facts coming back, the image of a job.

use super::settings::Settings;
use crate::model::tally::OrgCacheTally;
use crate::model::{
    AutoRate, ChunkId, ChunkSpec, ExternalIdConflict, Follower, JobOptions, LeaseId,
    MembershipTally, OrgKey, OrgTally, Origin, Reached, Reading, RequestTally, RowNumber,
    RowOutcome, RowTally, ServerMs, UserOutcome, WorkerId,
};
use crate::source::Columns;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What a job is, written once when its folder appears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name: the folder's.
    pub name: String,
    /// The source file, absolute; `-` for stdin.
    pub source: PathBuf,
    /// Its size in bytes.
    pub source_bytes: u64,
    /// BLAKE3 of the whole file, as hex.
    pub source_hash: String,
    /// How it is read.
    #[serde(default)]
    pub reading: Reading,
    /// Which column is which.
    pub columns: Columns,
    /// The options that may not change.
    pub options: JobOptions,
    /// When it was made, local wall clock in milliseconds: for showing only.
    pub created_ms: i64,
    /// 1, and one more with every `retry`.
    pub generation: u32,
    /// Set when `recover` made this ledger because the one before could not be trusted: what the
    /// job did since then, by the target's clock, is unknown. Every row and every organization is
    /// suspect from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt_from: Option<ServerMs>,
}

/// One durable change. Changes of one request are committed in one transaction, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Intent to send requests for rows of a chunk. Never deleted.
    Lease {
        /// Its number, never used twice.
        id: LeaseId,
        /// The chunk.
        chunk: ChunkId,
        /// The worker it goes to.
        worker: WorkerId,
        /// The target's time: the chunk's first lease is the `t_lo` of its rows.
        at: ServerMs,
        /// Which rows: the chunk's own unsettled rows that are not waiting followers
        /// (`None`), or exactly these.
        rows: Option<Vec<RowNumber>>,
        /// Followers among them whose leader's facts the grant needs.
        followers: Vec<FollowerAsk>,
    },
    /// Outcomes of rows; settled here and only here. Shared with whoever waits for the commit.
    Settle(Arc<[RowOutcome]>),
    /// Intent to create an organization, before the request.
    OrgIntent {
        /// Which.
        key: OrgKey,
        /// The target's time.
        at: ServerMs,
    },
    /// What became of an organization. One that is there is write-once: another id for a known key
    /// is an error. One that failed may be found, or made, later.
    Org {
        /// Which.
        key: OrgKey,
        /// Its facts.
        record: OrgRecord,
    },
    /// Counters of the current run, for `status`.
    Run(Box<RunSnapshot>),
}

impl Change {
    /// Settles rows.
    pub fn settle(outcomes: impl Into<Arc<[RowOutcome]>>) -> Self {
        Self::Settle(outcomes.into())
    }
}

/// A follower about to be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerAsk {
    /// The follower.
    pub row: RowNumber,
    /// The settled row whose user it joins.
    pub leader: RowNumber,
    /// The settled lower row with the same user and organization, if any.
    pub previous_pair: Option<RowNumber>,
}

/// The committed facts a follower builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerFacts {
    /// The follower.
    pub row: RowNumber,
    /// Its leader's user.
    pub user: UserOutcome,
    /// The membership that the previous pair row found or made, if it has one.
    pub membership_id: Option<String>,
}

/// What a commit returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReply {
    /// Facts for every [`FollowerAsk`] of the request's leases, in order.
    pub followers: Vec<FollowerFacts>,
}

/// The state of an organization in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgRecord {
    /// What is known.
    pub state: OrgState,
}

/// What is known about an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrgState {
    /// It is there.
    Ready {
        /// The target's id.
        id: String,
        /// Who made it.
        origin: Origin,
    },
    /// Missing and not to be created, or refused: rows naming it fail or are parked.
    Failed {
        /// A stable code.
        code: String,
        /// One sentence, cleaned.
        message: String,
        /// The deciding status.
        http_status: Option<u16>,
        /// Unclear rather than refused: rows are parked, not failed.
        parked: bool,
    },
}

/// An organization as loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrgImage {
    /// When creating it was first intended, if ever.
    pub intent: Option<ServerMs>,
    /// What is known, if anything.
    pub state: Option<OrgState>,
}

/// How a settled row bears on rows that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has a user: followers add memberships to it.
    User,
    /// Skipped by policy: followers are skipped.
    Skipped,
    /// Failed by policy (`user_exists`): followers fail the same.
    PolicyFailed,
    /// Parked without a usable user: followers are parked `leader_parked`.
    Parked,
    /// Failed for its own data, no user: the next row of the group leads.
    OwnFault,
}

impl Fate {
    /// Returns how `outcome` bears on the rows that wait for it.
    pub fn of(outcome: &RowOutcome) -> Self {
        use crate::model::{RowState, Step};
        let late = outcome
            .step
            .is_some_and(|step| step == Step::Membership || step.is_last());
        match outcome.state {
            RowState::Created
            | RowState::Recovered
            | RowState::Linked
            | RowState::Updated
            | RowState::Merged => Self::User,
            RowState::Skipped => Self::Skipped,
            RowState::Failed | RowState::Parked if late && outcome.user.is_some() => Self::User,
            RowState::Parked => Self::Parked,
            RowState::Failed
                if outcome
                    .error
                    .as_ref()
                    .is_some_and(|error| error.code == "user_exists") =>
            {
                Self::PolicyFailed
            }
            RowState::Failed => Self::OwnFault,
        }
    }
}

/// A settled row of a group, and the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFate {
    /// The group's leader as indexed (the row itself, when it is the leader).
    pub leader: RowNumber,
    /// How it bears on the rows that wait.
    pub fate: Fate,
}

/// Facts that `retry` carries over for a row that is pending again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// The user it already has, origin kept.
    pub user: Option<UserOutcome>,
    /// It was parked: what it sent may have been applied.
    pub suspect: bool,
    /// What it had reached, if it ended at one of its last steps.
    pub reached: Option<Reached>,
}

/// A follower without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerImage {
    /// As indexed.
    pub follower: Follower,
    /// The highest lower row of its pair that has no outcome: settled ones between the two (a retry
    /// may open what is around them) are no reason to go first.
    pub waits_for: Option<RowNumber>,
}

/// Leases of a chunk that is not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseImage {
    /// The first lease ever: `t_lo` of its rows.
    pub t_lo: ServerMs,
    /// Rows leased in this generation and without an outcome.
    pub suspects: Vec<RowNumber>,
}

/// Everything the coordinator needs to start or continue a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobImage {
    /// Every chunk, ascending.
    pub chunks: Vec<ChunkSpec>,
    /// Chunks that are neither untouched nor complete: their rows without an outcome, ascending,
    /// followers included.
    pub remaining: BTreeMap<ChunkId, Vec<RowNumber>>,
    /// Chunks whose every row has an outcome.
    pub complete: Vec<ChunkId>,
    /// Leases of chunks that are not complete.
    pub leases: BTreeMap<ChunkId, LeaseImage>,
    /// Followers without an outcome, ascending by row.
    pub followers: Vec<FollowerImage>,
    /// Settled rows of every group that still has a follower without an outcome: the leader and
    /// its settled followers.
    pub fates: BTreeMap<RowNumber, GroupFate>,
    /// Rows that `retry` made pending again.
    pub carry: BTreeMap<RowNumber, Carry>,
    /// Organizations with an intent or a state.
    pub orgs: BTreeMap<OrgKey, OrgImage>,
    /// An intent to create any of them: set in a ledger that `recover` made.
    pub every_org_intent: Option<ServerMs>,
    /// Keyed hash of an organization key and the lowest row that names it (`org_name`), sorted.
    pub org_names: Vec<(u64, RowNumber)>,
    /// The key of those hashes.
    pub hash_key: u64,
    /// Up to five users this job knows: a target that knows none of them is another one.
    pub sentinels: Vec<String>,
    /// The highest lease number so far.
    pub last_lease: LeaseId,
    /// Rows by state.
    pub rows: RowTally,
    /// Memberships by state.
    pub memberships: MembershipTally,
    /// Organizations by state.
    pub organizations: OrgTally,
}

/// What a new job's index contributes to its ledger.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The job.
    pub record: JobRecord,
    /// Its chunks.
    pub chunks: Vec<ChunkSpec>,
    /// Its followers, ascending by row.
    pub followers: Vec<Follower>,
    /// Rows that fail `external_id_conflict_in_file` before any request.
    pub conflicts: Vec<ExternalIdConflict>,
    /// See [`JobImage::org_names`].
    pub org_names: Vec<(u64, RowNumber)>,
    /// See [`JobImage::hash_key`].
    pub hash_key: u64,
    /// How many rows.
    pub rows: u32,
    /// What its next run keeps unless it is told otherwise.
    pub settings: Settings,
}

/// The state of a run and so of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// At work (or killed: `status` compares the holder).
    Running,
    /// Every row is settled.
    Completed,
    /// Stopped by a signal.
    Interrupted,
    /// Stopped by an outage or a pause.
    Paused,
    /// Cancelled.
    Cancelled,
    /// Stopped by an error.
    Failed,
}

impl RunState {
    /// Returns the stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Counters of one run, refreshed with the group commit: `status` needs nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSnapshot {
    /// State.
    pub state: RunState,
    /// The exit code once it ended.
    pub exit: Option<u8>,
    /// Requests of this run.
    pub requests: RequestTally,
    /// Organization caches of this run.
    pub org_cache: OrgCacheTally,
    /// Latency percentiles in milliseconds: p50, p95, p99.
    pub latency_ms: [f64; 3],
    /// Latency percentiles in milliseconds of the time since the last snapshot: p50, p99.
    #[serde(default)]
    pub recent_ms: [f64; 2],
    /// Allowed writes per second, without a limit none.
    pub writes_per_s: Option<f64>,
    /// Writes sent ÷ (declared limit × seconds from first to last write).
    pub rate_used: Option<f64>,
    /// With `--rate auto`: the writes per second allowed now, and the fewest so far.
    #[serde(default)]
    pub auto_rate: Option<AutoRate>,
    /// Workers asked for.
    pub workers: u32,
    /// Workers restarted.
    pub restarts: u32,
    /// Rows settled by this run.
    pub settled: u64,
    /// Seconds since the process started.
    pub elapsed_s: f64,
}

impl Eq for RunSnapshot {}

impl RunSnapshot {
    /// Returns whether the run has not written its last counts: it was killed, or is at work.
    pub fn lacks_its_end(&self) -> bool {
        self.state == RunState::Running
    }
}
