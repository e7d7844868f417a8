//! What a person or a machine may know of a run while it happens.
//!
//! Events are self-contained: ids, counts and times, no references to live state and no personal
//! data. Reporters consume them; they never feed back into a decision.

use super::scan::{RoleScope, ScanNews};
use super::tally::OrgCacheTally;
use super::{
    AutoRate, ChunkId, MembershipTally, OrgKey, OrgTally, RateShift, RequestTally, RowNumber,
    RowOutcome, RowTally, WorkerId,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One API call as the worker saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The row it was for; none for probes and organizations.
    pub row: Option<RowNumber>,
    /// The operation (`create_user`, …).
    pub op: String,
    /// The verdict (`ok`, `absent`, `throttled`, `exists`, `ambiguous`, …).
    pub verdict: String,
    /// The status, when there was an answer.
    pub status: Option<u16>,
    /// The target's request id.
    pub request_id: Option<String>,
    /// From send to complete answer, in microseconds.
    pub micros: u32,
}

/// What one worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGauge {
    /// Rows between their first step and their outcome.
    pub active: u32,
    /// Rows granted and not started.
    pub queued: u32,
    /// Requests on the wire.
    pub in_flight: u32,
    /// Requests waiting for a slot.
    pub waiting: u32,
    /// Rows this incarnation has settled.
    pub done: u64,
}

/// Counters of the run so far, emitted a few times a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Rows of the job by state, from commits only.
    pub rows: RowTally,
    /// Memberships of the job.
    pub memberships: MembershipTally,
    /// Organizations of the job.
    pub organizations: OrgTally,
    /// Requests of this run.
    pub requests: RequestTally,
    /// Organization caches of this run.
    pub org_cache: OrgCacheTally,
    /// Rows settled by this run.
    pub settled: u64,
    /// Writes per second over the last few seconds.
    pub writes_per_s: f64,
    /// The allowed writes per second, if limited.
    pub writes_allowed_per_s: Option<f64>,
    /// With `--rate auto`: what is allowed now, and the least so far.
    pub auto: Option<AutoRate>,
    /// Rows settled per second over the last few seconds.
    pub rows_per_s: f64,
    /// Workers restarted.
    pub restarts: u32,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// Workers are being started.
    Started {
        /// Rows of the file.
        rows: u32,
        /// Rows already settled.
        settled: u64,
        /// Workers asked for.
        workers: u32,
    },
    /// The target answered the first request.
    Connected,
    /// Users of the target are looked up or listed before the rows are worked on.
    Existing(ScanNews),
    /// A worker finished its handshake.
    WorkerReady {
        /// Its slot on the screen, from 0.
        slot: u32,
        /// The incarnation.
        worker: WorkerId,
        /// Its process id.
        pid: u32,
    },
    /// A worker ended.
    WorkerGone {
        /// Its slot on the screen.
        slot: u32,
        /// The incarnation.
        worker: WorkerId,
        /// How, in words.
        how: String,
        /// Rows it held without an outcome.
        suspects: u32,
        /// Whether that was expected.
        expected: bool,
    },
    /// What a worker is doing.
    Worker {
        /// Its slot on the screen.
        slot: u32,
        /// Numbers.
        gauge: WorkerGauge,
    },
    /// A lease is durable and was granted.
    Leased {
        /// The chunk.
        chunk: ChunkId,
        /// Rows in this lease.
        rows: u32,
        /// To whom.
        worker: WorkerId,
    },
    /// Outcomes are durable.
    Settled(Arc<[RowOutcome]>),
    /// An organization is known for good.
    Organization {
        /// Which.
        key: OrgKey,
        /// Its id, or why not.
        result: Result<String, String>,
        /// Whether this job made it.
        made: bool,
    },
    /// The target was asked which roles it knows.
    Roles {
        /// Whose.
        scope: RoleScope,
        /// How many, or why nobody knows.
        result: Result<u32, String>,
    },
    /// An API call came back (only when calls are recorded).
    Call {
        /// Who made it.
        worker: WorkerId,
        /// The call.
        call: CallRecord,
    },
    /// The target throttles: every worker waits.
    Throttled {
        /// For how long, in milliseconds.
        wait_ms: u64,
    },
    /// The rate of a class changed, with `--rate auto`.
    Rate {
        /// `writes` or `reads`.
        class: &'static str,
        /// Requests per second that are allowed now.
        per_s: f64,
        /// Why.
        reason: RateShift,
    },
    /// The first connection did not come about, and is tried again for a few seconds. Told once.
    NotConnected {
        /// What was seen.
        reason: String,
    },
    /// The target fails or cannot be reached: nothing is sent but probes.
    OutageBegan {
        /// What was seen.
        reason: String,
        /// When the next probe is due, in milliseconds.
        probe_in_ms: u64,
    },
    /// The target answers again.
    OutageEnded,
    /// No new work is started; what is under way is finished.
    Draining {
        /// Why, in words.
        reason: String,
    },
    /// Counters.
    Progress(Box<Progress>),
}
