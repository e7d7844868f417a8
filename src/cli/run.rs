//! The one place that runs a job: key, limits, sandbox, coordinator, what is said at the end.

use super::args::TuningArgs;
use super::context::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::opening;
use super::rates::RateArg;
use super::resolve::{self, Place};
use super::{desk, key, settings, stop};
use crate::coordinator::{self, EndReason, Noticed, RunConfig, RunEnd, Tuning};
use crate::ledger::{
    Holder, JobFolder, JobImage, JobLock, JobRecord, Ledger, LedgerReader, RunSnapshot, RunState,
};
use crate::model::escape::shown;
use crate::model::event::RunEvent;
use crate::model::rng::entropy;
use crate::model::{JobOptions, Mono, OrgMode, RateLimits, TargetKind};
use crate::report::findings::Findings;
use crate::report::outfile::same_file;
use crate::report::plan::{Plan, PlanFacts};
use crate::report::problems::ProblemGroup;
use crate::report::{EventLog, EventOptions, Overflow, Summary, SummaryFacts, screen, words};
use crate::supervise::sandbox_child::state_path;
use crate::supervise::{SandboxChild, SandboxOptions, ThreadEntry};
use crate::target::proxy::proxy_for;
use crate::worker::known::forget;
use secrecy::SecretString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Where requests of a dry run are addressed; none is ever sent.
const NOWHERE: &str = "http://127.0.0.1";

/// A job that is ours: locked, and checked against its file.
#[derive(Debug)]
pub struct Job {
    /// Its folder.
    pub folder: JobFolder,
    /// What it is.
    pub record: JobRecord,
    /// Its memory.
    pub ledger: Ledger,
    /// Held until the end of the run and of every worker.
    pub lock: JobLock,
}

/// The key, if one is needed, what follows from it, and the open events file.
#[derive(Debug)]
pub struct Admission {
    key: Option<SecretString>,
    tuning: Tuning,
    events: Option<EventLog>,
}

/// What wants to run.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The job's options.
    pub options: &'a JobOptions,
    /// The file it reads.
    pub source: &'a Path,
    /// How many rows would be sent.
    pub rows: u64,
    /// Everything but the socket.
    pub dry_run: bool,
}

/// Finds the key, asks before a live one is used, decides the limits and opens the events file:
/// what can be refused is refused before a job is made or changed.
pub fn admit(ctx: &Context, args: &TuningArgs, asking: Asking<'_>) -> CliResult<Admission> {
    let Asking {
        options,
        rows,
        dry_run,
        ..
    } = asking;
    let file = args.api_key_file.as_deref();
    let key = match (options.target, &options.base_url) {
        _ if dry_run => None,
        (TargetKind::Sandbox, None) => None,
        (TargetKind::Sandbox, Some(_)) => Some(key::find_for_sandbox(file, &ctx.env)?),
        (TargetKind::Workos, _) => Some(key::find(file, &ctx.env)?),
    };
    if let Some(key) = &key {
        let url = options.base_url.as_deref().unwrap_or_default();
        let go = words::agreeing(rows, "goes", "go");
        let question = format!("{} {go} to {url}.", words::counted(rows, "row"));
        let (stdin, stderr) = (io::stdin().lock(), io::stderr().lock());
        key::confirm_live(key, args.yes, ctx.env.interactive, &question, stdin, stderr)?;
    }
    decide(ctx, args, asking, key)
}

/// Finds the key of a target that is only read, and decides the limits.
pub fn admit_to_look(ctx: &Context, args: &TuningArgs, asking: Asking<'_>) -> CliResult<Admission> {
    let options = asking.options;
    let file = args.api_key_file.as_deref();
    let key = match (options.target, &options.base_url) {
        (TargetKind::Sandbox, None) => {
            let message =
                "--check-target has nothing to look at: the built-in sandbox starts empty";
            let error = CliError::usage("nothing_to_check", message);
            return Err(error.hint("say where users go: --target workos, or --base-url"));
        }
        (TargetKind::Sandbox, Some(_)) => key::find_for_sandbox(file, &ctx.env)?,
        (TargetKind::Workos, _) => key::find(file, &ctx.env)?,
    };
    decide(ctx, args, asking, Some(key))
}

/// Decides the limits, says so, and opens the events file.
fn decide(
    ctx: &Context,
    args: &TuningArgs,
    asking: Asking<'_>,
    key: Option<SecretString>,
) -> CliResult<Admission> {
    let live = key.as_ref().is_some_and(key::is_live);
    let (mut tuning, notes) = resolve::tuning(args, &ctx.env, asking.options, live);
    if asking.dry_run {
        // It tells how many would fail: all of them.
        tuning.max_failures = None;
    }
    for note in notes {
        ctx.say(&note);
    }
    Ok(Admission {
        key,
        tuning,
        events: open_events(args, asking.source)?,
    })
}

/// Runs a job to its end and says what came of it.
pub fn run_job(
    ctx: &mut Context,
    place: &Place,
    args: &TuningArgs,
    job: Job,
    admission: Admission,
) -> CliResult<Exit> {
    let name = job.folder.name().to_owned();
    run_locked(ctx, place, args, job, admission).map_err(|error| error.job(&name))
}

fn run_locked(
    ctx: &mut Context,
    place: &Place,
    args: &TuningArgs,
    mut job: Job,
    admission: Admission,
) -> CliResult<Exit> {
    job.ledger.keep_settings(&settings::of(args))?;
    let image = job.ledger.load()?;
    let sandbox = start_sandbox(&job, args)?;
    let (base_url, key) = match (&sandbox, admission.key) {
        (Some(child), _) => (child.base_url.clone(), child.key.clone()),
        (None, key) => (
            job.record.options.base_url.clone().unwrap_or_default(),
            key.unwrap_or_default(),
        ),
    };
    let to = Way {
        base_url,
        api_key: key,
        rows: opening::rows_path(&job.record, job.folder.path()),
        known_in: job.folder.path().to_owned(),
        looks: true,
    };
    let config = config(ctx, args, &job.record, to, admission.tuning, false)?;
    if let Some(proxy) = proxy_for(&config.base_url) {
        ctx.say(&format!("requests go through the proxy {proxy}"));
    }
    let run = job.ledger.begin_run(&Holder::current())?;
    let lock = job.lock.as_fd().try_clone_to_owned().map_err(|error| {
        CliError::new(
            Exit::Internal,
            "lock",
            format!("the job lock cannot be handed on: {error}"),
        )
    })?;
    let events = Events {
        log: admission.events,
        watch: &mut |_| (),
    };
    let (mut end, written) = perform(ctx, &config, image, job.ledger, Some(lock), events);
    let exit = exit_of(&end, &written);
    end.snapshot = stored_snapshot(&job.folder, end.snapshot);
    // The sandbox ends before the job is free: a successor finds its log closed.
    drop(sandbox);
    let resume = place.command("resume", job.folder.name());
    let ledger = job.folder.ledger_path();
    let shown = Shown {
        plan: None,
        job: Some(&job.folder),
        resume: Some(resume),
        run,
        options: &job.record.options,
        ledger: &ledger,
    };
    conclude(ctx, args, &shown, &end, written, Some(place))?;
    if exit == Exit::Success && opening::release(&job.record, &job.folder) {
        ctx.say("every row is settled well: the copy of the file's text is removed");
    }
    Ok(exit)
}

/// Runs everything but the socket over a ledger that is deleted afterwards.
pub fn rehearse(
    ctx: &mut Context,
    args: &TuningArgs,
    (record, rows): (&JobRecord, &Path),
    (path, mut ledger): (&Path, Ledger),
    problems: impl FnOnce(&Noticed) -> CliResult<Vec<ProblemGroup>>,
    admission: Admission,
) -> CliResult<Exit> {
    let image = ledger.load()?;
    let origin = record
        .options
        .base_url
        .clone()
        .unwrap_or_else(|| NOWHERE.to_owned());
    let to = Way {
        base_url: origin,
        looks: admission.key.is_some(),
        api_key: admission.key.unwrap_or_default(),
        rows: rows.to_owned(),
        known_in: path.parent().unwrap_or(path).to_owned(),
    };
    let config = config(ctx, args, record, to, admission.tuning, true)?;
    let run = ledger.begin_run(&Holder::current())?;
    let mut found = Findings {
        looks_before: names_organizations(record),
        ..Findings::default()
    };
    let mut watch = |event: &RunEvent| found.on_event(event);
    let events = Events {
        log: admission.events,
        watch: &mut watch,
    };
    let (end, written) = perform(ctx, &config, image, ledger, None, events);
    let exit = exit_of(&end, &written);
    // Whatever else ends it is told at once, not after the rest of the file.
    let ended_well = matches!(
        end.why,
        EndReason::Completed | EndReason::Limited | EndReason::TooManyFailures(_)
    );
    let problems = if ended_well {
        problems(&end.noticed)?
    } else {
        Vec::new()
    };
    let plan = Plan::new(PlanFacts {
        rows: &end.rows,
        users_left: desk::users_left(path, &end.rows),
        memberships: &end.memberships,
        organizations: &end.organizations,
        target: config.check_target.then_some(found),
        finish: end.finish,
        limits: config.tuning.limits,
        concurrency: config.tuning.concurrency,
        problems,
        first_rows: args.limit.filter(|_| matches!(end.why, EndReason::Limited)),
        organizations_assumed: config.assumes_orgs(),
        next: resolve::command_without(&["--dry-run", "--check-target", "--json"]),
    });
    let shown = Shown {
        plan: Some(plan),
        job: None,
        resume: None,
        run,
        options: &record.options,
        ledger: path,
    };
    conclude(ctx, args, &shown, &end, written, None)?;
    Ok(exit)
}

/// Starts the automatic sandbox, if this job goes there.
fn start_sandbox(job: &Job, args: &TuningArgs) -> CliResult<Option<SandboxChild>> {
    let options = &job.record.options;
    if options.target != TargetKind::Sandbox || options.base_url.is_some() {
        return Ok(None);
    }
    let limits = match args.rate {
        // A rehearsal in real time: the server keeps the limits too.
        Some(RateArg::Workos | RateArg::Auto(None)) => RateLimits::WORKOS,
        Some(RateArg::Unlimited | RateArg::Writes(_) | RateArg::Auto(Some(_))) | None => {
            RateLimits::default()
        }
    };
    let child = SandboxChild::start(&SandboxOptions {
        program: resolve::program()?,
        state: Some(state_path(job.folder.path())),
        limits,
        more: Vec::new(),
    })?;
    Ok(Some(child))
}

fn open_events(args: &TuningArgs, source: &Path) -> CliResult<Option<EventLog>> {
    let Some(path) = &args.events else {
        return Ok(None);
    };
    if same_file(path, source) {
        let message = format!(
            "{} is the file that is imported",
            shown(&path.to_string_lossy())
        );
        return Err(CliError::usage("events_file", message).hint("name another file for --events"));
    }
    let overflow = args.events_overflow.map_or(Overflow::Block, Overflow::from);
    EventLog::start(path, EventOptions::usual(overflow))
        .map(Some)
        .map_err(|error| {
            let message = format!(
                "the events file {} cannot be opened: {error}",
                path.display()
            );
            CliError::new(Exit::Disk, "events_file", message)
        })
}

/// From where to where rows go.
struct Way {
    base_url: String,
    api_key: SecretString,
    /// The file that rows are read from.
    rows: PathBuf,
    /// Where what a listing finds is kept.
    known_in: PathBuf,
    /// Whether the target is read.
    looks: bool,
}

fn config(
    ctx: &Context,
    args: &TuningArgs,
    record: &JobRecord,
    way: Way,
    tuning: Tuning,
    dry_run: bool,
) -> CliResult<RunConfig> {
    Ok(RunConfig {
        job: record.name.clone(),
        program: match &args.worker_program {
            Some(program) => program.clone(),
            None => resolve::program()?,
        },
        threads: args
            .worker_threads
            .then_some(crate::worker::on_thread as ThreadEntry),
        source: way.rows,
        known_in: way.known_in,
        columns: record.columns.clone(),
        options: record.options.clone(),
        base_url: way.base_url,
        api_key: way.api_key,
        tuning,
        dry_run,
        check_target: dry_run && way.looks,
        any_environment: args.yes,
        record_calls: args.events.is_some(),
        time_scale: args.time_scale,
        seed: entropy(),
        started: ctx.started,
    })
}

/// Who is told what happens, beside the display.
struct Events<'a> {
    log: Option<EventLog>,
    watch: &'a mut dyn FnMut(&RunEvent),
}

/// The call: everything before it prepares, everything after it reports.
fn perform(
    ctx: &mut Context,
    config: &RunConfig,
    image: JobImage,
    ledger: Ledger,
    lock: Option<OwnedFd>,
    mut events: Events<'_>,
) -> (RunEnd, io::Result<u64>) {
    let display = &mut ctx.display;
    let mut observer = |event: &RunEvent| {
        display.on_event(Mono::now(), event);
        (events.watch)(event);
        if let Some(log) = &mut events.log {
            log.on_event(event);
        }
    };
    // A run that was killed may have left one; this one shall leave none.
    forget(&config.known_in);
    let end = coordinator::run(config, image, ledger, lock, &mut observer);
    forget(&config.known_in);
    display.finish();
    (end, events.log.map_or(Ok(0), EventLog::finish))
}

/// Returns the exit code: the run's, unless all went well but the events that were asked for.
fn exit_of(end: &RunEnd, events: &io::Result<u64>) -> Exit {
    match Exit::of_run(&end.why, &end.rows) {
        Exit::Success | Exit::RowsFailed if events.is_err() => Exit::Disk,
        exit => exit,
    }
}

/// Prints the summary: the object on stdout for scripts, or the table on stderr for people.
pub fn show_summary(ctx: &Context, args: &TuningArgs, summary: &Summary) -> CliResult<()> {
    if args.json {
        return screen::print_json(summary).map_err(|error| CliError::stdout(&error));
    }
    ctx.say(&summary.table());
    Ok(())
}

/// Returns the run's counters as the ledger has them, so that `status` shows the very same; those
/// at hand when the last commit failed.
fn stored_snapshot(folder: &JobFolder, at_hand: RunSnapshot) -> RunSnapshot {
    let summary = LedgerReader::open(&folder.ledger_path()).and_then(|reader| reader.summary());
    let stored = summary.ok().and_then(|summary| summary.run?.snapshot);
    stored
        .filter(|stored| stored.state == at_hand.state)
        .unwrap_or(at_hand)
}

/// What names a run in its summary.
struct Shown<'a> {
    /// What a dry run found.
    plan: Option<Plan>,
    job: Option<&'a JobFolder>,
    resume: Option<String>,
    /// Number of the run, from 1.
    run: i64,
    options: &'a JobOptions,
    /// Why rows failed is read from here.
    ledger: &'a Path,
}

/// Returns whether rows of the job can name organizations.
const fn names_organizations(record: &JobRecord) -> bool {
    let columns = &record.columns;
    matches!(record.options.org_mode, OrgMode::Single { .. })
        || columns.org_id.is_some()
        || columns.org_external_id.is_some()
        || columns.org_name.is_some()
}

/// A row that failed is not a user that is missing: whoever corrects the file should know.
fn say_left(ctx: &Context, users: u64) {
    match users {
        0 => {}
        1 => ctx.say(
            "1 user of a failed or parked row was made before that and stays, without all that \
             its row asks for",
        ),
        n => ctx.say(&format!(
            "{} of failed or parked rows were made before that and stay, without all that their \
             rows ask for",
            words::counted(n, "user")
        )),
    }
}

/// Prints the summary, why the run was stopped, and what to do next.
fn conclude(
    ctx: &Context,
    args: &TuningArgs,
    shown: &Shown<'_>,
    end: &RunEnd,
    events: io::Result<u64>,
    place: Option<&Place>,
) -> CliResult<()> {
    let failures = desk::failures_of(shown.ledger, &end.rows);
    let mut summary = Summary::new(SummaryFacts {
        job: shown.job.map(JobFolder::name),
        target: shown.options.target,
        base_url: shown.options.base_url.as_deref(),
        resume: shown.resume.clone(),
        state: end.snapshot.state,
        rows: end.rows,
        memberships: end.memberships,
        organizations: end.organizations,
        failures: failures.clone(),
        run: shown.run,
        snapshot: &end.snapshot,
    });
    // A dry run of the first rows has nothing left to do: there is no job to go on with.
    if shown.plan.is_some() && matches!(end.why, EndReason::Limited) {
        summary.state = RunState::Completed;
    }
    // A run that was stopped counted only a part.
    if summary.state == RunState::Completed {
        summary.plan.clone_from(&shown.plan);
    }
    if let (Some(path), Ok(dropped @ 1..)) = (&args.events, &events) {
        let events = words::counted(*dropped, "event");
        ctx.say(&format!(
            "warning: {events} did not fit into {}: the disk was slower than the run (--events-overflow)",
            path.display()
        ));
    }
    let stopped = stop::error_of(
        &end.why,
        shown.job.map(JobFolder::name),
        shown.resume.as_deref(),
    )
    .or_else(|| {
        let path = args.events.as_ref()?.display();
        let message = format!("the events file {path} is not complete: {}", events.err()?);
        Some(CliError::new(Exit::Disk, "events_file", message))
    });
    if let Some(error) = &stopped {
        summary.error = Some(error.json_error());
        summary.exit = Some(error.exit().as_u8());
    }
    show_summary(ctx, args, &summary)?;
    if shown.plan.is_none() {
        say_left(ctx, desk::users_left(shown.ledger, &end.rows));
    }
    if let Some(error) = &stopped {
        ctx.say(&error.rendered());
    } else if let (Some(place), Some(job)) = (place, shown.job) {
        let ending = stop::Ending {
            state: end.snapshot.state,
            rows: &end.rows,
            limit: args.limit,
            failures: &failures,
            options: shown.options,
        };
        for line in stop::next_steps(place, job.name(), &ending) {
            ctx.say(&line);
        }
    }
    Ok(())
}
