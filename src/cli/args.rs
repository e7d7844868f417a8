//! The command line as clap reads it: words and ranges, nothing resolved.

use super::rates::{LimitArg, MaxFailuresArg, RateArg};
use crate::bench::SUITES;
use crate::bench::workers::SimulatedLatency;
use crate::model::escape::shown;
use crate::model::rate::parse_duration;
use crate::model::{Delimiter, Encoding, ExistingPolicy, RateLimit, Rename, RowState, TargetKind};
use crate::report::Overflow;
use crate::sandbox::SandboxArgs;
use crate::source::{GenerateArgs, header, known};
use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const IDENTITY: &str = "Identity (stored with the job; a different value later is refused)";
const TUNING: &str = "Tuning (may change from run to run)";
const PLACE: &str = "Job";
const PICK: &str = "Which rows [default: every failed and parked one]";

/// Carries a CSV of users into an identity provider: every row exactly once, at the full speed
/// the API allows, resumable at any instant.
#[derive(Debug, Parser)]
#[command(
    name = "userferry",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import a CSV of users; continues the same unfinished job by itself
    Import(Box<ImportArgs>),
    /// Continue an interrupted job
    Resume(Box<ContinueArgs>),
    /// Make failed and parked rows pending again and run
    Retry(Box<RetryArgs>),
    /// Make a new ledger for a job whose ledger is damaged, and continue
    Recover(Box<RecoverArgs>),
    /// Check a CSV without importing it: every problem with row, line, column and rule
    Check(Box<CheckArgs>),
    /// Show the state of a job, also while it runs in another terminal
    Status(StatusArgs),
    /// List jobs, or remove one
    Jobs(JobsArgs),
    /// Write every row's outcome with its new ids
    Results(ResultsArgs),
    /// Write failed and parked rows as a CSV that can be imported again
    Rejects(RejectsArgs),
    /// Write one HTML page about a job: counts, causes with advice, charts over time
    Report(ReportArgs),
    /// Run the rehearsal directory as a server of its own
    Sandbox(SandboxArgs),
    /// Write a realistic CSV of users
    Generate(GenerateArgs),
    /// Measure worker counts and components on this machine
    Bench(Box<BenchArgs>),
    /// The worker subprocess: started by the importer, never by hand
    #[command(hide = true)]
    Worker,
    /// The bare client that `bench http` compares with: started by it, never by hand
    #[command(hide = true)]
    BareLoop,
    /// The child that `bench pipe` talks to: started by it, never by hand
    #[command(hide = true)]
    EchoLoop,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The suite, or `all`
    #[arg(value_name = "SUITE", help = suites_help(), hide_possible_values = true,
          value_parser = PossibleValuesParser::new(super::bench::suite_names()))]
    pub suite: String,
    /// Rows of your own instead of generated ones (workers, where rows are neither repeated nor
    /// put into chunks of several sizes)
    #[arg(value_name = "CSV")]
    pub csv: Option<PathBuf>,
    /// Every size, however long it takes; otherwise a suite ends within 40 s on 2 cores
    #[arg(long)]
    pub full: bool,
    /// Repetitions, after a warm-up that is not kept, 1 to 100; what takes long by itself, such as
    /// keeping a limit, runs once
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Rows of every measurement instead of the suite's own sizes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Option<u32>,
    /// Keep the figures in this file, for `--baseline` and for programs
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the figures and charts as one page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Compare with the file of an earlier --json; exit 1 if something became slower or larger
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// How much worse a median must be, with every run beyond the earlier ones, to count as worse
    #[arg(long, value_name = "P%", default_value = "15%", requires = "baseline",
          value_parser = super::bench::parse_threshold)]
    pub threshold: Percent,
    /// Where files are written meanwhile: the disk to measure [default: the system's folder for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Do not say on stderr what is being measured
    #[arg(long)]
    pub quiet: bool,
    /// Worker counts to compare (workers) [default: 1,2,4,8]
    #[arg(long, value_name = "N,N", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<Vec<u32>>,
    /// How long answers of the simulated target take (workers) [default: 200ms~50%]
    #[arg(long, value_name = "TIME[~P%]")]
    pub latency: Option<SimulatedLatency>,
    /// Writes the simulated target allows (workers) [default: 500/10s]
    #[arg(long, value_name = "N/D")]
    pub rate: Option<RateLimit>,
    /// Rows in flight per worker (workers) [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
}

/// A share, 1 is the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

fn suites_help() -> String {
    let lines = SUITES
        .iter()
        .map(|suite| format!("{}: {}", suite.name, suite.about));
    let lines: Vec<String> = lines.collect();
    format!("What to measure; `all`, or {}", lines.join("; "))
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The CSV of users, also packed (.gz, .zst); `-` reads stdin
    #[arg(value_name = "CSV")]
    pub file: PathBuf,
    /// See [`IdentityArgs`].
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// See [`TuningArgs`].
    #[command(flatten)]
    pub tuning: TuningArgs,
    /// Name of the job [default: the file's name and 6 hex digits]
    #[arg(long = "job", value_name = "NAME", value_parser = parse_job_name, help_heading = PLACE)]
    pub job: Option<String>,
    /// Start a new numbered job even if this one exists; deletes nothing
    #[arg(long, help_heading = PLACE)]
    pub fresh: bool,
    /// Do everything but send requests; leaves no job behind
    #[arg(long, help_heading = PLACE)]
    pub dry_run: bool,
    /// With --dry-run: read the target (never write it), so that the plan knows which users,
    /// memberships and organizations exist already
    #[arg(long, requires = "dry_run", help_heading = PLACE)]
    pub check_target: bool,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `check`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("check_org").args(["org_id", "org_external_id"]))]
pub struct CheckArgs {
    /// The CSV of users
    #[arg(value_name = "CSV")]
    pub file: PathBuf,
    /// As it will be imported with: every row goes into the organization with this id
    #[arg(long, value_name = "ID")]
    pub org_id: Option<String>,
    /// As it will be imported with: every row goes into the organization with this external id
    #[arg(long, value_name = "ID")]
    pub org_external_id: Option<String>,
    /// Whether a name alone means an organization.
    #[arg(
        long,
        conflicts_with_all = ["org_id", "org_external_id"],
        help = "As it will be imported with: org_name alone means the organization of that name"
    )]
    pub orgs_by_name: bool,
    /// As it will be imported with: rows that name no organization fail
    #[arg(long)]
    pub require_membership: bool,
    /// Read the file as an export of this product, with this profile of your own, or as it is
    /// [default: auto, by its header]
    #[arg(
        long,
        value_name = "auto|none|auth0|clerk|firebase|cognito|okta|FILE.toml"
    )]
    pub profile: Option<String>,
    /// As it will be imported with: the file of password hashes that Auth0 gives
    #[arg(long, value_name = "FILE")]
    pub password_hashes: Option<PathBuf>,
    /// As it will be imported with: the parameters of the hashes in a Firebase export, or `none`
    #[arg(long, value_name = "FILE|none")]
    pub hash_parameters: Option<PathBuf>,
    /// A column of the file under its known name; repeatable [default: by name]
    #[arg(long, value_name = "NAME=COLUMN", value_parser = parse_map)]
    pub map: Vec<Rename>,
    /// What separates cells: `,`, `;`, `|` or `tab` [default: found out]
    #[arg(long, value_name = "CHAR", value_parser = parse_delimiter)]
    pub delimiter: Option<Delimiter>,
    /// How the file writes characters [default: found out]
    #[arg(long, value_enum, value_name = "ENCODING")]
    pub encoding: Option<EncodingArg>,
    /// Write a copy with safe repairs to this new file, and list every one of them
    #[arg(long, value_name = "FILE")]
    pub fix: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Write every problem to this file (mode 0600), as CSV
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write it as JSON lines instead
    #[arg(long, requires = "out")]
    pub jsonl: bool,
    /// Replace the files of --out and --fix if they are there
    #[arg(long)]
    pub force: bool,
}

/// What gives way when the events file cannot keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverflowArg {
    /// The run waits
    Block,
    /// The oldest events that are no results go
    DropOldest,
    /// The newest events that are no results go
    DropNewest,
}

impl From<OverflowArg> for Overflow {
    fn from(arg: OverflowArg) -> Self {
        match arg {
            OverflowArg::Block => Self::Block,
            OverflowArg::DropOldest => Self::DropOldest,
            OverflowArg::DropNewest => Self::DropNewest,
        }
    }
}

/// How users that exist already become known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExistingScanArg {
    /// List them if a sample of the rows says that it pays
    #[default]
    Auto,
    /// List them
    List,
    /// Every row asks for itself
    Probe,
}

/// `resume` and `retry`.
#[derive(Debug, Args)]
pub struct ContinueArgs {
    /// The job [default: the one it can only be]
    #[arg(value_name = "JOB", value_parser = parse_job_name)]
    pub job: Option<String>,
    /// See [`IdentityArgs`].
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// See [`TuningArgs`].
    #[command(flatten)]
    pub tuning: TuningArgs,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Only rows in this state
    #[arg(long, value_enum, value_name = "STATE", help_heading = PICK)]
    pub state: Option<RetryState>,
    /// Only rows with this error code; may be given several times
    #[arg(long = "code", value_name = "CODE", value_parser = parse_code, help_heading = PICK)]
    pub codes: Vec<String>,
    /// Only the row with this number; may be given several times
    #[arg(long = "row", value_name = "N", help_heading = PICK,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Vec<u32>,
    /// See [`ContinueArgs`].
    #[command(flatten)]
    pub job: ContinueArgs,
}

/// `retry --state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetryState {
    /// Rows that the target or the file refused
    Failed,
    /// Rows of which nobody knows what became
    Parked,
}

impl From<RetryState> for RowState {
    fn from(arg: RetryState) -> Self {
        match arg {
            RetryState::Failed => Self::Failed,
            RetryState::Parked => Self::Parked,
        }
    }
}

/// `recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The job
    #[arg(value_name = "JOB", value_parser = parse_job_name)]
    pub job: String,
    /// Ask the target what became of every row; required: no backup is read
    #[arg(long, required = true, help_heading = PLACE)]
    pub from_target: bool,
    /// The CSV of the job, if it moved or the old ledger no longer says where it is
    #[arg(long, value_name = "FILE", help_heading = PLACE)]
    pub csv: Option<PathBuf>,
    /// See [`IdentityArgs`].
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// See [`TuningArgs`].
    #[command(flatten)]
    pub tuning: TuningArgs,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Options that make a job what it is. `None` and `false` mean "not given".
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = IDENTITY)]
#[command(group = ArgGroup::new("one_org").args(["org_id", "org_external_id"]))]
pub struct IdentityArgs {
    /// Where users go: the built-in rehearsal server, or WorkOS [default: sandbox]
    #[arg(long, value_enum)]
    pub target: Option<TargetArg>,
    /// Origin of the API: https, or http on loopback [default: the target's own]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// A column of the file under its known name; repeatable [default: by name]
    #[arg(long, value_name = "NAME=COLUMN", value_parser = parse_map)]
    pub map: Vec<Rename>,
    /// What separates cells: `,`, `;`, `|` or `tab` [default: found out]
    #[arg(long, value_name = "CHAR", value_parser = parse_delimiter)]
    pub delimiter: Option<Delimiter>,
    /// How the file writes characters [default: found out]
    #[arg(long, value_enum, value_name = "ENCODING")]
    pub encoding: Option<EncodingArg>,
    /// Put every row into the organization with this id
    #[arg(long, value_name = "ID")]
    pub org_id: Option<String>,
    /// Put every row into the organization with this external id
    #[arg(long, value_name = "ID")]
    pub org_external_id: Option<String>,
    /// Name of that organization when it has to be created [default: its external id]
    #[arg(long, value_name = "NAME", requires = "org_external_id")]
    pub org_name: Option<String>,
    /// Whether a name alone means an organization.
    #[arg(
        long,
        conflicts_with = "one_org",
        help = "A row with org_name alone means the organization of that name"
    )]
    pub orgs_by_name: bool,
    /// Create organizations that are missing [default: only in the automatic sandbox]
    #[arg(long)]
    pub create_orgs: bool,
    /// What happens to users who existed before this job [default: link]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub on_existing: Option<ExistingArg>,
    /// Re-activate inactive memberships of users who existed before
    #[arg(long)]
    pub reactivate: bool,
    /// Fail rows that name no organization
    #[arg(long)]
    pub require_membership: bool,
    /// Read the file as an export of this product, with this profile of your own, or as it is
    /// [default: auto, by its header]
    #[arg(
        long,
        value_name = "auto|none|auth0|clerk|firebase|cognito|okta|FILE.toml"
    )]
    pub profile: Option<String>,
    /// Join the password hashes that Auth0 gives in a file of their own, by user id
    #[arg(long, value_name = "FILE")]
    pub password_hashes: Option<PathBuf>,
    /// Parameters of the hashes in a Firebase export, as its console shows them; `none` imports
    /// users without their passwords
    #[arg(long, value_name = "FILE|none")]
    pub hash_parameters: Option<PathBuf>,
    /// Rows per chunk, 1 to 1000 [default: 250]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub chunk_size: Option<u32>,
}

/// Options that may change from run to run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = TUNING)]
pub struct TuningArgs {
    /// Worker subprocesses, 1 to 256 [default: as many as cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// Rows in flight per worker, 1 to 4096: a cap, not a throttle
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,
    /// Organizations each worker remembers, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub org_cache: u32,
    /// Writes allowed per time, e.g. 500/10s; `workos` for its three published limits; `none`;
    /// `auto` or `auto:500/10s` for as much of them as is free: less after a 429, then more again
    /// [default: workos for target workos (80 % of it with a live key), none for the sandbox]
    #[arg(long, value_name = "N/D|workos|auto|none")]
    pub rate: Option<RateArg>,
    /// Reads allowed per time, or `none`
    #[arg(long, value_name = "N/D|none")]
    pub read_rate: Option<LimitArg>,
    /// Requests allowed per time, or `none`
    #[arg(long, value_name = "N/D|none")]
    pub total_rate: Option<LimitArg>,
    /// Whether the target's users are listed before the rows are worked on, which is cheaper when
    /// many of them exist already
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ExistingScanArg::Auto)]
    pub existing_scan: ExistingScanArg,
    /// Failed and parked rows of this run that pause it with exit 75: a number, a share such as
    /// 5% (counted from 200 rows on), or `none`
    /// [default: 5% when the target is not on this machine, else none]
    #[arg(long, value_name = "N|P%|none")]
    pub max_failures: Option<MaxFailuresArg>,
    /// Work on the first N rows only; stays with the job until `resume --limit 0`
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// How long the target may be out before the run pauses with exit 75; an address where nobody
    /// takes the first connection pauses it after eight seconds already
    /// [default: 1h on a terminal or in CI, else 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_arg)]
    pub max_outage: Option<Duration>,
    /// Do not ask before using a live key, nor before a file is read as Windows-1252
    #[arg(long)]
    pub yes: bool,
    /// How progress is shown on stderr
    #[arg(long, value_enum, value_name = "MODE", default_value_t = ProgressArg::Auto)]
    pub progress: ProgressArg,
    /// Print the summary as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Append every event of the run to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// When events come faster than the disk takes them [default: block]. Results and errors are
    /// never dropped
    #[arg(long, value_enum, value_name = "POLICY", requires = "events")]
    pub events_overflow: Option<OverflowArg>,
    /// Diagnostics on stderr
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Warn)]
    pub log_level: LogLevel,
    /// The key file, if given.
    #[arg(
        long,
        value_name = "FILE",
        help = "Read the API key from this file (mode 0600) instead of WORKOS_API_KEY"
    )]
    pub api_key_file: Option<PathBuf>,
    /// Scales back-offs and outages; for tests
    #[arg(long, value_name = "FACTOR", hide = true, default_value_t = 1.0,
          value_parser = parse_time_scale)]
    pub time_scale: f64,
    /// Starts workers from this file instead of this very program; for tests
    #[arg(long, value_name = "FILE", hide = true)]
    pub worker_program: Option<PathBuf>,
    /// Runs workers on threads of this process; for measuring what a process costs
    #[arg(long, hide = true, conflicts_with = "worker_program")]
    pub worker_threads: bool,
}

/// Where jobs live.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// The folder, if given.
    #[arg(long, value_name = "DIR", help_heading = PLACE,
          help = "Folder of the jobs [env: USERFERRY_CHECKPOINTS] [default: ./checkpoints]")]
    pub checkpoints: Option<PathBuf>,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The job [default: the newest]
    #[arg(value_name = "JOB", value_parser = parse_job_name)]
    pub job: Option<String>,
    /// Show it again every second until the run ends
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Print the summary as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `jobs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct JobsArgs {
    /// Without one: list.
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
    /// Print the jobs as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `jobs …`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Remove a job: its ledger, its sandbox data; nothing at the target
    Rm {
        /// The job; without it, they are listed
        #[arg(value_name = "JOB", value_parser = parse_job_name)]
        job: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// See [`PlaceArgs`].
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// `results`.
#[derive(Debug, Args)]
pub struct ResultsArgs {
    /// The job [default: the newest]
    #[arg(value_name = "JOB", value_parser = parse_job_name)]
    pub job: Option<String>,
    /// One JSON object a line instead of CSV
    #[arg(long)]
    pub jsonl: bool,
    /// Write to this file (mode 0600) instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file of --out if it is there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The job [default: the newest]
    #[arg(value_name = "JOB", value_parser = parse_job_name)]
    pub job: Option<String>,
    /// Write to this file (mode 0600) instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file of --out if it is there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `rejects`.
#[derive(Debug, Args)]
pub struct RejectsArgs {
    /// The job [default: the newest]
    #[arg(value_name = "JOB", value_parser = parse_job_name)]
    pub job: Option<String>,
    /// Write to this file (mode 0600) instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file of --out if it is there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// See [`PlaceArgs`].
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `--target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetArg {
    /// The built-in rehearsal server: nothing leaves this machine
    Sandbox,
    /// WorkOS User Management, or a server that speaks its API
    Workos,
}

impl From<TargetArg> for TargetKind {
    fn from(arg: TargetArg) -> Self {
        match arg {
            TargetArg::Sandbox => Self::Sandbox,
            TargetArg::Workos => Self::Workos,
        }
    }
}

/// `--encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncodingArg {
    /// UTF-8
    #[value(name = "utf-8")]
    Utf8,
    /// UTF-16, low byte first
    #[value(name = "utf-16le")]
    Utf16Le,
    /// UTF-16, high byte first
    #[value(name = "utf-16be")]
    Utf16Be,
    /// Windows-1252, what Excel writes without UTF-8 in Western Europe and America
    #[value(name = "windows-1252")]
    Windows1252,
}

impl From<EncodingArg> for Encoding {
    fn from(arg: EncodingArg) -> Self {
        match arg {
            EncodingArg::Utf8 => Self::Utf8,
            EncodingArg::Utf16Le => Self::Utf16Le,
            EncodingArg::Utf16Be => Self::Utf16Be,
            EncodingArg::Windows1252 => Self::Windows1252,
        }
    }
}

/// `--on-existing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExistingArg {
    /// Leave the user's attributes, add the membership
    Link,
    /// Write nothing
    Skip,
    /// Fail the row
    Fail,
}

impl From<ExistingArg> for ExistingPolicy {
    fn from(arg: ExistingArg) -> Self {
        match arg {
            ExistingArg::Link => Self::Link,
            ExistingArg::Skip => Self::Skip,
            ExistingArg::Fail => Self::Fail,
        }
    }
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    /// A line every few seconds
    Plain,
    /// JSON lines
    Json,
    /// Nothing
    None,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing
    Off,
    /// What went wrong
    Error,
    /// What may go wrong
    Warn,
    /// What happens
    Info,
    /// How it happens
    Debug,
    /// Everything
    Trace,
}

impl LogLevel {
    /// Returns the level's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Longest job name: a folder's name with room for a number.
const JOB_NAME_MAX: usize = 64;

/// Reads a job name: `[A-Za-z0-9._-]{1,64}`, not starting with a dot, so that it is one folder.
pub fn parse_job_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let dashed = text.starts_with(['.', '-']);
    if text.is_empty() || text.len() > JOB_NAME_MAX || dashed || !text.chars().all(plain) {
        return Err(format!(
            "a job name has 1 to {JOB_NAME_MAX} letters, digits, `.`, `_` or `-`, and starts with \
             a letter, a digit or `_`; `userferry jobs` lists them"
        ));
    }
    Ok(text.to_owned())
}

fn parse_delimiter(text: &str) -> Result<Delimiter, String> {
    let is_it =
        |delimiter: &Delimiter| text == delimiter.as_str() || text.as_bytes() == [delimiter.byte()];
    let escaped = (text == "\\t").then_some(Delimiter::Tab);
    let found = Delimiter::ALL.into_iter().find(is_it).or(escaped);
    found.ok_or_else(|| "cells are separated by `,`, `;`, `|` or `tab`".to_owned())
}

/// Reads `THEIR NAME=known_column`.
fn parse_map(text: &str) -> Result<Rename, String> {
    let columns = header::KNOWN.join(", ");
    let Some((theirs, column)) = text.rsplit_once('=') else {
        return Err(format!(
            "write the name in the file, =, and one of {columns}"
        ));
    };
    if theirs.trim().is_empty() {
        return Err("before the = stands the name of a column of the file".to_owned());
    }
    let column = column.trim();
    let known = known(column).ok_or_else(|| format!("{} is none of {columns}", shown(column)))?;
    Ok(Rename {
        theirs: theirs.trim().to_owned(),
        known: known.to_owned(),
    })
}

/// Reads an error code: a word as `results` prints it.
fn parse_code(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || text.len() > 100 || !text.chars().all(plain) {
        return Err("write a code as `results` and `report` show it, such as invalid_role".into());
    }
    Ok(text.to_owned())
}

fn parse_duration_arg(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a duration such as 30s, 10m or 2h".to_owned())
}

fn parse_time_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 1.0 => Ok(scale),
        Ok(_) | Err(_) => Err("a factor above 0 and at most 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help");
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{path} {} has no help",
                    arg.get_id()
                );
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&Cli::command(), "userferry");
    }

    #[test]
    fn options_that_are_not_built_are_refused() {
        for words in [
            "import a.csv --max-failures 101%",
            "import a.csv --limit -1",
            "retry --state created",
            "retry --row 0",
            "import a.csv --target scim",
            "import a.csv --on-existing update",
            "import a.csv --api-key sk_test",
            "import a.csv --org-id a --org-external-id b",
            "import a.csv --org-name n",
            "import a.csv --chunk-size 0",
            "import a.csv --chunk-size 1001",
            "import a.csv --workers 0",
            "check a.csv --jsonl",
            "check a.csv --org-id a --org-external-id b",
            "check a.csv --target workos",
            "undo x",
            "verify",
            "status --watch --json",
            "resume ../x",
            "resume a/b",
        ] {
            let args = std::iter::once("userferry").chain(words.split(' '));
            let error = Cli::try_parse_from(args).expect_err(words);
            assert_eq!(error.exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn job_names_are_single_folders() {
        for good in ["users-1f3a9c", "a", "x.y_z-2", "2024"] {
            assert_eq!(parse_job_name(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(parse_job_name(bad).is_err(), "{bad}");
        }
    }
}
