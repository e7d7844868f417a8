//! The messages. Two enums, one per direction; plain data, no references to anybody's state.

use crate::model::event::{CallRecord, WorkerGauge};
use crate::model::scan::{RoleScope, ScanTally};
use crate::model::tally::OrgCacheTally;
use crate::model::{
    ChunkSpec, ExistingPolicy, FinishTally, LeaseId, Mono, OrgKey, OrgMode, Origin, Reached,
    RequestTally, RowNumber, RowOutcome, ServerMs, UserOutcome, WorkerId,
};
use crate::source::Columns;
use crate::target::{RequestClass, StopReason};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What the coordinator says.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// First frame: who is speaking, the configuration and the key.
    Hello(Box<HelloToWorker>),
    /// Send one cheap GET now, past the gate, and tell what came back.
    Probe {
        /// Echoed in the answer.
        probe: u32,
        /// Users of this job: read them too, and say so if none of them is there.
        sentinels: Vec<String>,
    },
    /// Chunks whose rows the next [`ToWorker::Scan`] is about; more may follow.
    ScanChunks(Vec<ChunkSpec>),
    /// Look up some rows, and tell how many users are there.
    Sample {
        /// Echoed in the answer.
        scan: u32,
        /// Which.
        picks: Vec<SamplePick>,
    },
    /// List the target's users, and the memberships of the organizations that rows of those chunks
    /// name; keep what is found in the file with that number.
    Scan {
        /// Echoed in the answer.
        scan: u32,
        /// Stop after so many pages.
        pages_max: Option<u32>,
    },
    /// The file with that number may be used.
    Known {
        /// Its number.
        scan: u32,
    },
    /// These rows are yours; their lease is durable.
    Grant(Box<Grant>),
    /// Permission to start requests at given instants.
    Slots(SlotLease),
    /// Start nothing before `until`; slots of older generations are void.
    Pause {
        /// The new generation of slots and of wants.
        generation: u32,
        /// When it ends, unless another pause follows.
        until: Mono,
    },
    /// The answer to an [`FromWorker::AskOrg`].
    Org {
        /// Which.
        key: OrgKey,
        /// What it is.
        answer: OrgAnswer,
    },
    /// Organizations other workers found: worth keeping while there is room.
    OrgHints(Vec<(OrgKey, String)>),
    /// You alone look this organization up.
    LookUpOrg {
        /// Which.
        key: OrgKey,
    },
    /// You alone create this organization; the intent is durable.
    CreateOrg {
        /// Which.
        key: OrgKey,
        /// The row that names it; none means its external id is its name.
        name_at: Option<NameAt>,
        /// When creating it was first intended: what appears later is ours.
        intent: ServerMs,
        /// A request may have been sent before: look first.
        suspect: bool,
    },
    /// You alone read which roles there are, and say so with [`FromWorker::RolesRead`].
    ReadRoles(RoleScope),
    /// The answer to a [`FromWorker::AskRoles`].
    Roles {
        /// Whose.
        scope: RoleScope,
        /// Their slugs, or why nobody knows.
        roles: RoleList,
    },
    /// The target answered a probe.
    Alive {
        /// Writes that fail from now on fail for their own sake: their attempts count.
        writes: bool,
        /// It was out: start with one request in flight, then 2, 4, …
        ramp: bool,
    },
    /// Answer, or be taken for dead.
    Ping {
        /// Echoed in the answer.
        nonce: u32,
    },
    /// The machine has slept: connections are dead, and so is what was under way on them.
    Woke,
    /// Start no new row; finish the started ones; say so.
    Drain,
}

// The key must never reach a log: the hello prints without it, everything else as derived.
/// Rows of one chunk that may be looked up for a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplePick {
    /// The chunk.
    pub chunk: ChunkSpec,
    /// More of its rows than are needed: one that breaks a local rule cannot be looked up.
    pub rows: Vec<RowNumber>,
    /// How many of them are.
    pub take: usize,
}

impl std::fmt::Debug for ToWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Hello(_) => "Hello",
            Self::Probe { .. } => "Probe",
            Self::ScanChunks(_) => "ScanChunks",
            Self::Sample { .. } => "Sample",
            Self::Scan { .. } => "Scan",
            Self::Known { .. } => "Known",
            Self::Grant(grant) => return write!(f, "Grant({:?}, {:?})", grant.lease, grant.rows),
            Self::Slots(slots) => return slots.fmt(f),
            Self::Pause { .. } => "Pause",
            Self::Org { key, answer } => return write!(f, "Org({key}, {answer:?})"),
            Self::OrgHints(_) => "OrgHints",
            Self::LookUpOrg { .. } => "LookUpOrg",
            Self::CreateOrg { .. } => "CreateOrg",
            Self::ReadRoles(_) => "ReadRoles",
            Self::Roles { .. } => "Roles",
            Self::Alive { .. } => "Alive",
            Self::Ping { .. } => "Ping",
            Self::Woke => "Woke",
            Self::Drain => "Drain",
        };
        f.write_str(name)
    }
}

/// The coordinator's first frame.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloToWorker {
    /// [`super::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// [`super::BUILD`].
    pub build: String,
    /// Echoed in the answer: proves that it is an answer.
    pub nonce: u64,
    /// The worker's number.
    pub worker: WorkerId,
    /// What it needs to know for its whole life.
    pub config: WorkerConfig,
    /// The API key.
    pub api_key: String,
}

impl std::fmt::Debug for HelloToWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HelloToWorker")
            .field("worker", &self.worker)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What a worker needs to know for its whole life.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// The source file.
    pub source: PathBuf,
    /// Which column is which.
    pub columns: Columns,
    /// Where what a listing finds is kept: the job's folder.
    pub known_in: PathBuf,
    /// The key of its hashes, drawn anew for every run.
    pub known_key: [u64; 4],
    /// The API's origin, without a trailing slash.
    pub base_url: String,
    /// Where organizations come from.
    pub org_mode: OrgMode,
    /// What happens to users that were there before.
    pub on_existing: ExistingPolicy,
    /// Whether an inactive membership is re-activated.
    pub reactivate: bool,
    /// Whether a row without an organization fails.
    pub require_membership: bool,
    /// Everything but the socket.
    pub dry_run: bool,
    /// A dry run that reads the target for real, and writes nothing.
    pub check_target: bool,
    /// A dry run that takes every named organization to be there.
    pub assume_orgs: bool,
    /// Whether every call is reported.
    pub record_calls: bool,
    /// Rows in flight.
    pub concurrency: u32,
    /// A new chunk is asked for when fewer rows than this are waiting to start.
    pub prefetch_rows: u32,
    /// Whether a second thread reads rows and holds them against the rules: only in a dry run.
    pub reads_ahead: bool,
    /// Organizations to remember.
    pub org_cache: u32,
    /// Whether writes need slots.
    pub paced_writes: bool,
    /// Whether reads need slots.
    pub paced_reads: bool,
    /// Scales backoffs.
    pub time_scale: f64,
    /// Seed of this worker's jitter.
    pub seed: u64,
}

/// Rows of one chunk under one lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// Where their bytes are.
    pub chunk: ChunkSpec,
    /// Which rows, ascending; all of the chunk when `None`.
    pub rows: Option<Vec<RowNumber>>,
    /// When the chunk was first leased, by the target's clock.
    pub t_lo: ServerMs,
    /// What is special about some of them, ascending by row.
    pub contexts: Vec<(RowNumber, RowContext)>,
}

impl Grant {
    /// Returns how many rows it gives.
    pub fn row_count(&self) -> usize {
        let some = self.rows.as_ref().map(Vec::len);
        some.unwrap_or(self.chunk.rows as usize)
    }

    /// Returns what is known of a row of the chunk before its first step; none when the row is not
    /// granted.
    pub fn context(&self, row: RowNumber) -> Option<RowContext> {
        if let Some(rows) = &self.rows {
            rows.binary_search(&row).ok()?;
        }
        let known = self.contexts.binary_search_by_key(&row, |(row, _)| *row);
        let known = known.ok().and_then(|at| self.contexts.get(at));
        Some(known.map_or_else(
            || RowContext {
                t_lo: self.t_lo,
                ..RowContext::default()
            },
            |(_, context)| context.clone(),
        ))
    }
}

/// What is known of a row before its first step. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowContext {
    /// It was leased before and has no outcome: what it sent may have been applied.
    pub suspect: bool,
    /// Nobody has sent anything for it since then without its outcome being known: its owner died,
    /// or the run began.
    pub doubt_since: Mono,
    /// Its chunk's first lease, by the target's clock.
    pub t_lo: ServerMs,
    /// The user it already has: its leader's, or its own from an earlier generation.
    pub user: Option<UserOutcome>,
    /// It repeats a lower row's email: it only adds a membership.
    pub follower: bool,
    /// The membership that the lower row with the same user and organization has.
    pub pair_membership: Option<String>,
    /// What it had reached in an earlier generation: only its last steps are left.
    pub reached: Option<Box<Reached>>,
}

/// Where an organization's name stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameAt {
    /// The chunk.
    pub chunk: ChunkSpec,
    /// The row in it.
    pub row: RowNumber,
}

/// What is known of an organization, for rows that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrgAnswer {
    /// It is there.
    Ready {
        /// The target's id.
        id: String,
    },
    /// It is not to be had.
    Failed {
        /// A stable code.
        code: String,
        /// One sentence, cleaned.
        message: String,
        /// The deciding status.
        http_status: Option<u16>,
        /// Unclear rather than refused: rows are parked.
        parked: bool,
    },
}

/// What the one worker that resolved an organization found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrgVerdict {
    /// It is there.
    Ready {
        /// The target's id.
        id: String,
        /// Who made it.
        origin: Origin,
    },
    /// It is not there.
    Absent,
    /// Refused or unclear.
    Failed {
        /// A stable code.
        code: String,
        /// One sentence, cleaned.
        message: String,
        /// The deciding status.
        http_status: Option<u16>,
        /// Unclear rather than refused.
        parked: bool,
    },
}

/// The slugs of the roles that the target knows, or why they could not be read, in words.
pub type RoleList = Result<Vec<String>, String>;

/// Consecutive slots: the n-th request may start at `first + n * interval`, at most `expiry` late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLease {
    /// Void once a pause named a later one.
    pub generation: u32,
    /// For reads or for writes.
    pub class: RequestClass,
    /// The first slot.
    pub first: Mono,
    /// From slot to slot, nanoseconds.
    pub interval_ns: u64,
    /// How many.
    pub count: u32,
    /// How late a slot may be used, nanoseconds; after that it is dead.
    pub expiry_ns: u64,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First frame.
    Hello(HelloFromWorker),
    /// The answer to a probe.
    Probed {
        /// Echoed.
        probe: u32,
        /// What came back.
        result: ProbeResult,
    },
    /// The answer to a [`ToWorker::Sample`].
    Sampled {
        /// Echoed.
        scan: u32,
        /// Rows that were looked up.
        asked: u32,
        /// Rows whose user is there.
        found: u32,
    },
    /// How far a listing is.
    Scanning {
        /// Echoed.
        scan: u32,
        /// What was found so far.
        tally: ScanTally,
    },
    /// The answer to a [`ToWorker::Scan`]: what was found, or why nothing was.
    Scanned {
        /// Echoed.
        scan: u32,
        /// What came of it.
        result: Result<ScanTally, String>,
    },
    /// Few rows are left to start: one more chunk, please.
    Credit,
    /// Of these rows there is something to tell, errors or warnings: what, whoever makes the plan
    /// of a dry run finds out. Comes before what became of them.
    Noticed(Vec<RowNumber>),
    /// What became of rows of live leases.
    Outcomes(Vec<(LeaseId, RowOutcome)>),
    /// This many more requests of a class wait for slots.
    Want {
        /// The generation of slots they wait for.
        generation: u32,
        /// Reads or writes.
        class: RequestClass,
        /// How many more.
        count: u32,
    },
    /// Answers since the last report that speak for or against the target's health.
    Health {
        /// Reads or writes: one may work while the other does not.
        class: RequestClass,
        /// Answers of any meaning.
        ok: u32,
        /// 5xx, timeouts, resets, refused connections.
        bad: u32,
    },
    /// A 429.
    Throttled {
        /// Reads or writes: each has its own rate.
        class: RequestClass,
        /// What it asked for.
        wait: Option<Duration>,
    },
    /// A 401: the row stays as it was.
    Unauthorized,
    /// An answer that stops the run: the row stays as it was.
    Halt(StopReason),
    /// Which organization is this?
    AskOrg(OrgKey),
    /// The result of a look-up or creation.
    OrgDone {
        /// Which.
        key: OrgKey,
        /// What was found.
        verdict: OrgVerdict,
    },
    /// Which roles are there?
    AskRoles(RoleScope),
    /// The result of reading them.
    RolesRead {
        /// Whose.
        scope: RoleScope,
        /// Their slugs (of an organization only its own), or why nobody knows.
        roles: RoleList,
    },
    /// Counters since the last report.
    Stats(Box<StatsDelta>),
    /// Calls since the last report, when they are recorded.
    Calls(Vec<CallRecord>),
    /// The answer to a ping.
    Pong {
        /// Echoed.
        nonce: u32,
    },
    /// A chunk's bytes are not those of the index.
    SourceChanged(String),
    /// The source file cannot be opened or read.
    SourceUnreadable(String),
    /// After a drain: nothing is under way any more.
    Drained,
}

/// A worker's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloFromWorker {
    /// [`super::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// [`super::BUILD`].
    pub build: String,
    /// Echoed.
    pub nonce: u64,
    /// Its process id.
    pub pid: u32,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeResult {
    /// The target answers us.
    Ok {
        /// Its `Date`.
        date: Option<ServerMs>,
        /// It has no users at all.
        empty: bool,
    },
    /// It does not know the key.
    Unauthorized,
    /// It refuses the run.
    Stop(StopReason),
    /// It answers, but knows none of the users that this job knows.
    OtherEnvironment,
    /// No connection.
    Connect(String),
    /// It throttles.
    Throttled(Option<Duration>),
    /// It answers with trouble, or too late.
    Trouble(String),
}

/// Counters since the last report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsDelta {
    /// Requests.
    pub requests: RequestTally,
    /// What was set on users.
    pub finish: FinishTally,
    /// Cache.
    pub org_cache: OrgCacheTally,
    /// Latencies of answered requests, in microseconds.
    pub latencies_us: Vec<u32>,
    /// When the first and the last write since the last report were sent.
    pub writes_between: Option<(Mono, Mono)>,
    /// What it is doing now.
    pub gauge: WorkerGauge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChunkHash, ChunkId};

    #[test]
    fn a_grant_knows_its_rows_and_what_is_special_about_some() {
        let special = RowContext {
            suspect: true,
            ..RowContext::default()
        };
        let mut grant = Grant {
            lease: LeaseId(1),
            chunk: ChunkSpec {
                id: ChunkId(0),
                offset: 0,
                length: 1,
                first_row: RowNumber(1),
                rows: 9,
                first_line: 2,
                hash: ChunkHash([0; 16]),
            },
            rows: Some(vec![RowNumber(2), RowNumber(5)]),
            t_lo: ServerMs(7),
            contexts: vec![(RowNumber(5), special.clone())],
        };
        let usual = RowContext {
            t_lo: ServerMs(7),
            ..RowContext::default()
        };
        assert_eq!(grant.context(RowNumber(2)), Some(usual.clone()));
        assert_eq!(grant.context(RowNumber(3)), None);
        assert_eq!(grant.context(RowNumber(5)), Some(special));
        grant.rows = None;
        assert_eq!(grant.context(RowNumber(3)), Some(usual));
    }
}
