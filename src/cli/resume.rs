//! `resume` and `retry`: an existing job goes on.

use super::args::{ContinueArgs, TuningArgs};
use super::context::Context;
use super::desk::{self, Listed, Want};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Place;
use super::{identity, prepare, run, stop};
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
    let job = prepare::reopen(ctx, listed)?;
    // The last holder may have finished it while we waited for the lock.
    let rows = job.ledger.totals().rows;
    if rows.pending == 0 {
        drop(job);
        let listed = desk::read(listed.folder.clone())?;
        return show_finished(ctx, place, tuning, &listed);
    }
    let admission = run::admit(ctx, tuning, &job.record.options, rows.pending, false)
        .map_err(|error| error.job(listed.name()))?;
    run::run_job(ctx, place, tuning, job, admission)
}

/// Runs `retry`.
pub fn retry(ctx: &mut Context, args: &ContinueArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let listed = desk::pick(&place, args.job.as_deref(), Want::WithProblems)?;
    check_identity(args, &listed)?;
    let mut job = prepare::reopen(ctx, &listed)?;
    let of_job = |error: CliError| error.job(listed.name());
    // The key comes before the change: a retry that cannot run opens nothing.
    let rows = *listed.rows();
    let open = rows.pending + rows.failed + rows.parked;
    let admission =
        run::admit(ctx, &args.tuning, &job.record.options, open, false).map_err(of_job)?;
    let reopened = job.ledger.retry().map_err(|error| of_job(error.into()))?;
    let again = reopened.failed + reopened.parked;
    if job.ledger.totals().rows.pending == 0 {
        ctx.say("no row can be tried again: what failed is decided by the file");
        drop(job);
        return show_finished(
            ctx,
            &place,
            &args.tuning,
            &desk::read(listed.folder.clone())?,
        );
    }
    ctx.say(&format!(
        "job {}: {} pending again",
        listed.name(),
        words::counted(again, "row")
    ));
    run::run_job(ctx, &place, &args.tuning, job, admission)
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
    let summary = listed.to_summary(place);
    ctx.say(&format!(
        "job {} is finished; nothing was sent",
        listed.name()
    ));
    run::show_summary(ctx, tuning, &summary)?;
    for line in stop::next_steps(place, listed.name(), listed.state, listed.rows()) {
        ctx.say(&line);
    }
    Ok(listed.exit())
}
