//! What a run is given and what it ends with.

use super::noticed::Noticed;
use crate::ledger::RunSnapshot;
use crate::model::scan::ExistingScan;
use crate::model::{
    FinishTally, JobOptions, MembershipTally, Mono, OrgTally, RateLimits, RowNumber, RowTally,
    TargetKind,
};
use crate::source::Columns;
use crate::supervise::ThreadEntry;
use crate::target::StopReason;
use secrecy::SecretString;
use std::path::PathBuf;
use std::time::Duration;

/// What may differ from run to run of one job.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Worker subprocesses.
    pub workers: u32,
    /// Rows in flight per worker: a cap, not a throttle.
    pub concurrency: u32,
    /// Organizations each worker remembers.
    pub org_cache: u32,
    /// The limits to keep; pacing leaves a part of each free.
    pub limits: RateLimits,
    /// Whether less than the limits is used after 429s below them (`--rate auto`).
    pub auto_rate: bool,
    /// How long the target may be out before the run pauses with exit 75.
    pub max_outage: Duration,
    /// More failures than this pause the run with exit 75.
    pub max_failures: Option<FailureLimit>,
    /// Only rows up to this one are worked on.
    pub limit: Option<RowNumber>,
    /// Whether the target's users are listed before the rows are worked on.
    pub existing_scan: ExistingScan,
}

/// How many rows of a run may fail or be parked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureLimit {
    /// This many.
    Rows(u64),
    /// This share in percent, once [`FailureLimit::PERCENT_AFTER`] rows are settled.
    Percent(f64),
}

impl FailureLimit {
    /// A share of fewer rows says little.
    pub const PERCENT_AFTER: u64 = 200;

    /// Returns whether `bad` of `settled` rows are too many, even if the rows `under_way` all end
    /// well.
    pub fn is_exceeded(self, bad: u64, settled: u64, under_way: u64) -> bool {
        match self {
            Self::Rows(most) => bad > most,
            Self::Percent(most) => {
                let known = settled.saturating_add(under_way);
                settled >= Self::PERCENT_AFTER && bad as f64 * 100.0 > most * known as f64
            }
        }
    }
}

impl std::fmt::Display for FailureLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows(most) => write!(f, "{most}"),
            Self::Percent(most) => write!(f, "{most}%"),
        }
    }
}

/// How a run failed too often.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureStop {
    /// Failed and parked rows of the run.
    pub bad: u64,
    /// Rows of the run.
    pub settled: u64,
    /// What was allowed.
    pub limit: FailureLimit,
    /// Codes and how many rows each, most first.
    pub causes: Vec<(String, u64)>,
}

/// Everything a run needs, resolved.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The job's name (a placeholder in a dry run).
    pub job: String,
    /// The program to start as `userferry worker`.
    pub program: PathBuf,
    /// Workers run on threads of this process instead, for measuring what a process costs.
    pub threads: Option<ThreadEntry>,
    /// The source file, absolute.
    pub source: PathBuf,
    /// Where what a listing of the target finds is kept during the run: the job's folder.
    pub known_in: PathBuf,
    /// Which column is which.
    pub columns: Columns,
    /// The job's identity.
    pub options: JobOptions,
    /// The API's origin, without a trailing slash.
    pub base_url: String,
    /// Travels to workers in the handshake and nowhere else.
    pub api_key: SecretString,
    /// Worker count, rates and the like.
    pub tuning: Tuning,
    /// Everything but the socket.
    pub dry_run: bool,
    /// A dry run that reads the target for real, and writes nothing.
    pub check_target: bool,
    /// Go on although the target knows none of the users this job made.
    pub any_environment: bool,
    /// Whether every call is reported as an event.
    pub record_calls: bool,
    /// Scales backoffs and outages, 1.0 in real life; only tests say otherwise.
    pub time_scale: f64,
    /// Seed of every jitter of this run.
    pub seed: u64,
    /// When the process began: what the summary's `elapsed_s` counts from.
    pub started: Mono,
}

impl RunConfig {
    /// Returns whether organizations that rows name are taken for there: a dry run that asks a real
    /// target nothing cannot know. The built-in sandbox has none, and missing ones may be made.
    pub fn assumes_orgs(&self) -> bool {
        let options = &self.options;
        let built_in = options.target == TargetKind::Sandbox && options.base_url.is_none();
        self.dry_run && !self.check_target && !options.create_orgs && !built_in
    }
}

/// Signals that end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopSignal {
    /// The terminal is gone: exit 129.
    Hangup,
    /// Ctrl-C: exit 130.
    Interrupt,
    /// A polite kill: exit 143.
    Terminate,
}

/// Why a run ended.
#[derive(Clone, Debug)]
pub enum EndReason {
    /// Every row is settled.
    Completed,
    /// Every row up to the limit is settled, and the limit is below the last row.
    Limited,
    /// More rows failed than may.
    TooManyFailures(Box<FailureStop>),
    /// A signal.
    Interrupted(StopSignal),
    /// The target was out for too long, or cannot be reached at all.
    Outage(String),
    /// The target refuses the run.
    Refused(StopReason),
    /// The ledger cannot be written.
    Ledger(std::sync::Arc<crate::ledger::LedgerError>),
    /// The file is not the one that was indexed.
    SourceChanged(String),
    /// The file cannot be read any more.
    SourceUnreadable(String),
    /// Workers cannot be kept alive, or an invariant broke.
    Internal(String),
}

/// What a run ended with. Counters are those of the last commit.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// Why.
    pub why: EndReason,
    /// This run's counters.
    pub snapshot: RunSnapshot,
    /// Rows of the job.
    pub rows: RowTally,
    /// Memberships of the job.
    pub memberships: MembershipTally,
    /// Organizations of the job.
    pub organizations: OrgTally,
    /// What this run set on users it made.
    pub finish: FinishTally,
    /// Of a dry run: what its workers noticed of rows.
    pub noticed: Noticed,
}
