//! `import`: a new job, or the same unfinished one.

use super::args::ImportArgs;
use super::context::Context;
use super::desk::{self, Listed};
use super::error::CliResult;
use super::exit::Exit;
use super::resolve::{self, Place};
use super::{check, prepare};
use super::{identity, resume, run};
use crate::ledger::{Checkpoints, Ledger, job_name_for};
use crate::model::{JobOptions, TargetKind};
use std::path::Path;

/// Runs `import`.
pub fn run(ctx: &mut Context, args: &ImportArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let options = resolve::job_options(&args.identity)?;
    let file = resolve::source_file(&args.file)?;
    if args.dry_run {
        return dry_run(ctx, args, &file, options);
    }
    let checkpoints = Checkpoints::open(&place.checkpoints)?;
    checkpoints.sweep()?;
    if let Some(warning) = checkpoints.warning() {
        ctx.say(&format!("warning: {warning}"));
    }
    let name = args
        .job
        .clone()
        .unwrap_or_else(|| job_name_for(&file, options.target, options.base_url.as_deref()));
    let newest = match desk::newest_of(&checkpoints, &name) {
        // A job that cannot be read stands in the way of its own continuation only.
        Err(error) if args.fresh => {
            ctx.say(&error.rendered());
            None
        }
        newest => newest?,
    };
    match newest {
        Some(job) if args.fresh => ctx.say(&format!(
            "starting beside job {}, which stays as it is",
            job.name()
        )),
        Some(job) if job.is_finished() => ctx.say(&format!(
            "job {} is finished and stays as it is; this is a new job, {}",
            job.name(),
            checkpoints.next_free_name(&name)?
        )),
        Some(job) => return continue_job(ctx, args, &place, &file, &options, &job),
        None => {}
    }
    let name = checkpoints.next_free_name(&name)?;
    new_job(ctx, args, &place, &checkpoints, &name, &file, options)
}

/// Continues the same unfinished job, after making sure that it is the same.
fn continue_job(
    ctx: &mut Context,
    args: &ImportArgs,
    place: &Place,
    file: &Path,
    options: &JobOptions,
    job: &Listed,
) -> CliResult<Exit> {
    let record = &job.summary.record;
    identity::check_destination(options, &record.options)
        .and_then(|()| identity::check_file(file, &record.source))
        .and_then(|()| identity::check(&args.identity, &record.options))
        .map_err(|error| error.job(job.name()))?;
    ctx.say(&format!("continuing job {}", job.name()));
    resume::continue_job(ctx, place, &args.tuning, job)
}

#[expect(
    clippy::too_many_arguments,
    reason = "every one of them is a thing of its own"
)]
fn new_job(
    ctx: &mut Context,
    args: &ImportArgs,
    place: &Place,
    checkpoints: &Checkpoints,
    name: &str,
    file: &Path,
    options: JobOptions,
) -> CliResult<Exit> {
    let profile = resolve::profile(&args.identity)?.unwrap_or_default();
    let indexed = prepare::index(ctx, file, &options, &profile)?;
    let rows = indexed.rows();
    let admission = run::admit(ctx, &args.tuning, &options, u64::from(rows), false)?;
    if let Some(warning) = checkpoints.check_space(rows)? {
        ctx.say(&format!("warning: {warning}"));
    }
    announce(ctx, name, &options);
    let new = prepare::new_job(name, file, options, indexed);
    let job = prepare::publish(checkpoints, name, &new)?;
    run::run_job(ctx, place, &args.tuning, job, admission)
}

fn announce(ctx: &Context, name: &str, options: &JobOptions) {
    let words = match (options.target, &options.base_url) {
        (TargetKind::Sandbox, None) => {
            "the built-in sandbox: nothing leaves this machine; for real: --target workos"
                .to_owned()
        }
        (_, Some(url)) => url.clone(),
        (TargetKind::Workos, None) => resolve::WORKOS_ORIGIN.to_owned(),
    };
    ctx.say(&format!("job {name} goes to {words}"));
}

/// Everything but the socket, over a ledger in a folder that vanishes.
fn dry_run(
    ctx: &mut Context,
    args: &ImportArgs,
    file: &Path,
    options: JobOptions,
) -> CliResult<Exit> {
    let profile = resolve::profile(&args.identity)?.unwrap_or_default();
    let indexed = prepare::index(ctx, file, &options, &profile)?;
    let report = check::report_of(file, indexed.index(), &options)?;
    let rows = u64::from(indexed.rows());
    let admission = run::admit(ctx, &args.tuning, &options, rows, true)?;
    let folder = resolve::temporary_folder()?;
    let path = folder.path().join("ledger");
    let new = prepare::new_job("dry-run", file, options, indexed);
    Ledger::create(&path, &new)?;
    let problems = check::groups_of(&report);
    run::rehearse(ctx, &args.tuning, &new.record, &path, problems, admission)
}
