//! `resume` and `retry`: an existing job goes on.

use super::args::{ContinueArgs, RetryArgs, TuningArgs};
use super::context::Context;
use super::desk::{self, Listed, Want};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Place;
use super::run::Job;
use super::{identity, prepare, run, settings};
use crate::ledger::{CONFLICT_IN_FILE, FailureGroup, RetryPick};
use crate::model::{RowNumber, RowState, Step};
use crate::report::words;

/// Runs `resume`.
pub fn resume(ctx: &mut Context, args: &ContinueArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let job = desk::pick(&place, args.job.as_deref(), Want::Unfinished)?;
    check_identity(args, &job)?;
    continue_job(ctx, &place, &args.tuning, &job)
}

/// Continues a job; of a finished one, shows what came of it and sends nothing.
pub fn continue_job(
    ctx: &mut Context,
    place: &Place,
    tuning: &TuningArgs,
    listed: &Listed,
) -> CliResult<Exit> {
    if listed.is_finished() {
        desk::check(listed)?;
        return show_finished(ctx, place, tuning, listed);
    }
    let of_job = |error: CliError| error.job(listed.name());
    let mut job = prepare::reopen(ctx, listed)?;
    // The last holder may have finished it while we waited for the lock.
    let rows = job.ledger.totals().rows;
    if rows.pending == 0 {
        drop(job);
        let listed = desk::read(listed.folder.clone())?;
        return show_finished(ctx, place, tuning, &listed);
    }
    let tuning = &keep(ctx, &mut job, tuning).map_err(of_job)?;
    if let Some(limit) = tuning.limit
        && job
            .ledger
            .settled_up_to(limit)
            .map_err(|error| of_job(error.into()))?
            >= u64::from(limit).min(rows.total)
    {
        drop(job);
        let words = format!(
            "the first {} of job {}",
            words::counted(limit.into(), "row"),
            listed.name()
        );
        let are = words::agreeing(limit.into(), "is", "are");
        ctx.say(&format!("{words} {are} settled already; nothing was sent"));
        return show(ctx, place, tuning, &desk::read(listed.folder.clone())?);
    }
    let admission = run::admit(ctx, tuning, asking(&job, rows.pending)).map_err(of_job)?;
    run::run_job(ctx, place, tuning, job, admission)
}

/// Adds what the job keeps of its last run, and says so.
fn keep(ctx: &Context, job: &mut Job, tuning: &TuningArgs) -> CliResult<TuningArgs> {
    let kept = job.ledger.settings()?;
    let (tuning, notes) = settings::effective(tuning, &kept)?;
    for note in notes {
        ctx.say(&note);
    }
    Ok(tuning)
}

/// Runs `retry`.
pub fn retry(ctx: &mut Context, args: &RetryArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.job.place, &ctx.env)?;
    let listed = desk::pick(&place, args.job.job.as_deref(), Want::WithProblems)?;
    check_identity(&args.job, &listed)?;
    let of_job = |error: CliError| error.job(listed.name());
    let pick = pick_of(args);
    let mut job = prepare::reopen(ctx, &listed)?;
    let failures = desk::failures_of(&listed.folder.ledger_path(), listed.rows());
    let by_file = |group: &FailureGroup| group.step == Some(Step::Validation);
    if pick.is_all() && listed.rows().pending == 0 && failures.iter().all(by_file) {
        ctx.say(
            "no row is tried again: the file decides what failed. Correct the rows that \
             `userferry rejects` writes and import those",
        );
        drop(job);
        return show_finished(ctx, &place, &args.job.tuning, &listed);
    }
    let tuning = &keep(ctx, &mut job, &args.job.tuning).map_err(of_job)?;
    // Key and events file come before the change: a retry that cannot run opens nothing.
    let rows = *listed.rows();
    let open = rows.pending + rows.failed + rows.parked;
    let admission = run::admit(ctx, tuning, asking(&job, open)).map_err(of_job)?;
    let reopened = job
        .ledger
        .retry(&pick)
        .map_err(|error| of_job(error.into()))?;
    let again = reopened.failed + reopened.parked;
    if again == 0 && (!pick.is_all() || rows.pending == 0) {
        return Err(of_job(nothing_to_retry(&pick, &failures)));
    }
    ctx.say(&format!(
        "job {}: {} pending again{}",
        listed.name(),
        words::counted(again, "row"),
        decided_by_file(reopened.by_file)
    ));
    run::run_job(ctx, &place, tuning, job, admission)
}

fn asking(job: &Job, rows: u64) -> run::Asking<'_> {
    run::Asking {
        options: &job.record.options,
        source: &job.record.source,
        rows,
        dry_run: false,
    }
}

fn pick_of(args: &RetryArgs) -> RetryPick {
    RetryPick {
        state: args.state.map(RowState::from),
        codes: args.codes.clone(),
        rows: args.rows.iter().copied().map(RowNumber).collect(),
    }
}

/// Rules change from version to version, so these rows are opened all the same.
fn decided_by_file(rows: u64) -> String {
    if rows == 0 {
        return String::new();
    }
    format!(
        "; the file decides {} of them, which will fail the same way: correct the rejects and \
         import them",
        words::count(rows)
    )
}

/// Says what there is instead of what was asked for.
fn nothing_to_retry(pick: &RetryPick, failures: &[FailureGroup]) -> CliError {
    if pick.codes.iter().any(|code| code == CONFLICT_IN_FILE)
        && let Some(group) = failures.iter().find(|it| it.code == CONFLICT_IN_FILE)
    {
        let message = format!(
            "the file decides {} with code {CONFLICT_IN_FILE}: a retry cannot help",
            words::counted(group.rows(), "row")
        );
        return CliError::usage("nothing_to_retry", message)
            .hint("correct the rows that `userferry rejects` writes and import those");
    }
    let told: Vec<String> = failures
        .iter()
        .map(|group| {
            format!(
                "{} with code {}",
                words::counted(group.rows(), "row"),
                group.code
            )
        })
        .collect();
    let message = "no failed or parked row of this job is one of those that were asked for";
    let hint = if told.is_empty() {
        "no row failed and none is parked".to_owned()
    } else {
        format!("there are: {}", told.join("; "))
    };
    CliError::usage("nothing_to_retry", message).hint(hint)
}

fn check_identity(args: &ContinueArgs, job: &Listed) -> CliResult<()> {
    let record = &job.summary.record;
    identity::check(&args.identity, &record.options)
        .and_then(|()| identity::check_reading(&args.identity, &record.reading))
        .map_err(|error| error.job(job.name()))
}

fn show_finished(
    ctx: &Context,
    place: &Place,
    tuning: &TuningArgs,
    listed: &Listed,
) -> CliResult<Exit> {
    ctx.say(&format!(
        "job {} is finished; nothing was sent",
        listed.name()
    ));
    show(ctx, place, tuning, listed)
}

fn show(ctx: &Context, place: &Place, tuning: &TuningArgs, listed: &Listed) -> CliResult<Exit> {
    run::show_summary(ctx, tuning, &listed.to_summary(place))?;
    for line in listed.next_steps(place) {
        ctx.say(&line);
    }
    Ok(listed.exit())
}
