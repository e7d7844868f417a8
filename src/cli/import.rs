//! `import`: a new job, or the same unfinished one.

use super::args::ImportArgs;
use super::context::Context;
use super::desk::{self, Listed};
use super::error::CliResult;
use super::exit::Exit;
use super::opening::ReadingAsk;
use super::prepare::{Indexed, Reader};
use super::resolve::{self, Place};
use super::{check, prepare};
use super::{identity, resume, run, settings};
use crate::coordinator::Noticed;
use crate::ledger::{Checkpoints, JobRecord, Ledger, NewFolder, Settings, job_name_for};
use crate::model::{JobOptions, TargetKind};
use crate::source::{self, Input};

/// Runs `import`.
pub fn run(ctx: &mut Context, args: &ImportArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let options = resolve::job_options(&args.identity)?;
    let input = resolve::source_input(&args.file)?;
    if args.dry_run {
        return dry_run(ctx, args, &input, options);
    }
    let checkpoints = Checkpoints::open(&place.checkpoints)?;
    checkpoints.sweep()?;
    if let Some(warning) = checkpoints.warning() {
        ctx.say(&format!("warning: {warning}"));
    }
    let name = args
        .job
        .clone()
        .unwrap_or_else(|| job_name_for(input.path(), options.target, options.base_url.as_deref()));
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
        Some(job) => return continue_job(ctx, args, &place, &input, &options, &job),
        None => {}
    }
    let name = checkpoints.next_free_name(&name)?;
    new_job(ctx, args, &place, &checkpoints, (&name, &input, options))
}

/// Continues the same unfinished job, after making sure that it is the same.
fn continue_job(
    ctx: &mut Context,
    args: &ImportArgs,
    place: &Place,
    input: &Input,
    options: &JobOptions,
    job: &Listed,
) -> CliResult<Exit> {
    let record = &job.summary.record;
    identity::check_destination(options, &record.options)
        .and_then(|()| identity::check_file(input.path(), &record.source))
        .and_then(|()| identity::check(&args.identity, &record.options))
        .and_then(|()| identity::check_reading(&args.identity, &record.reading))
        .and_then(|()| check_stdin(input, record))
        .map_err(|error| error.job(job.name()))?;
    ctx.say(&format!("continuing job {}", job.name()));
    resume::continue_job(ctx, place, &args.tuning, job)
}

/// What comes over stdin must be what came the first time; the job has its own copy of it.
fn check_stdin(input: &Input, record: &JobRecord) -> CliResult<()> {
    match input {
        Input::File(_) => Ok(()),
        Input::Stdin => {
            let (bytes, hash) = source::file_hash(input, &mut |_| {})?;
            prepare::same_bytes(record, input.path(), bytes, &hash)
        }
    }
}

fn new_job(
    ctx: &mut Context,
    args: &ImportArgs,
    place: &Place,
    checkpoints: &Checkpoints,
    (name, input, options): (&str, &Input, JobOptions),
) -> CliResult<Exit> {
    // Made early where a copy of the source goes into it; without a name it is no job yet.
    let mut folder = None;
    let reader = Reader {
        input,
        ask: reading_ask(args, &options)?,
        profile: resolve::profile(&args.identity)?.unwrap_or_default(),
        folder: &mut || {
            if folder.is_none() {
                folder = Some(checkpoints.begin_job()?);
            }
            let path = folder
                .as_ref()
                .map(|folder: &NewFolder| folder.path().to_owned());
            Ok(path.unwrap_or_default())
        },
        kept: match input {
            Input::File(_) => {
                "its text is kept in the job's folder (mode 0600) until every row is settled well"
            }
            Input::Stdin => "its text is kept in the job's folder (mode 0600) as long as the job",
        },
    };
    let indexed = prepare::index(ctx, reader, &options)?;
    let rows = indexed.rows();
    let admission = run::admit(ctx, &args.tuning, asking(&options, input, rows, false))?;
    if let Some(warning) = checkpoints.check_space(rows)? {
        ctx.say(&format!("warning: {warning}"));
    }
    announce(ctx, name, &options);
    let kept = settings::of(&args.tuning);
    let new = prepare::new_job(name, options, kept, indexed);
    let folder = match folder {
        Some(folder) => folder,
        None => checkpoints.begin_job()?,
    };
    let job = prepare::publish(folder, name, &new)?;
    run::run_job(ctx, place, &args.tuning, job, admission)
}

fn asking<'a>(
    options: &'a JobOptions,
    input: &'a Input,
    rows: u32,
    dry_run: bool,
) -> run::Asking<'a> {
    run::Asking {
        options,
        source: input.path(),
        rows: u64::from(rows),
        dry_run,
    }
}

fn reading_ask(args: &ImportArgs, options: &JobOptions) -> CliResult<ReadingAsk> {
    // A rehearsal shows what a wrong guess would do; people are not to be created by one.
    let may_guess = options.target == TargetKind::Sandbox || args.tuning.yes;
    ReadingAsk::of(&args.identity, may_guess)
}

fn announce(ctx: &Context, name: &str, options: &JobOptions) {
    let origin = options.base_url.as_deref();
    let words = origin
        .or(options.target.default_origin())
        .unwrap_or("the built-in sandbox: nothing leaves this machine; for real: --target workos");
    ctx.say(&format!("job {name} goes to {words}"));
}

/// Everything but the socket, over a ledger in a folder that vanishes.
fn dry_run(
    ctx: &mut Context,
    args: &ImportArgs,
    input: &Input,
    options: JobOptions,
) -> CliResult<Exit> {
    let folder = resolve::temporary_folder()?;
    let reader = Reader {
        input,
        ask: reading_ask(args, &options)?,
        profile: resolve::profile(&args.identity)?.unwrap_or_default(),
        folder: &mut || Ok(folder.path().to_owned()),
        kept: "its text is kept in a temporary folder during this run",
    };
    let indexed = prepare::index(ctx, reader, &options)?;
    let asking = asking(&options, input, indexed.rows(), true);
    let admission = if args.check_target {
        run::admit_to_look(ctx, &args.tuning, asking)?
    } else {
        run::admit(ctx, &args.tuning, asking)?
    };
    let path = folder.path().join("ledger");
    let (record, ledger) = {
        let indexed = Indexed::clone(&indexed);
        let new = prepare::new_job("dry-run", options, Settings::default(), indexed);
        let ledger = Ledger::rehearsal(&path, &new)?;
        (new.record, ledger)
    };
    let rows = indexed.rows_path();
    let problems = |noticed: &Noticed| {
        let may_tell = |row| noticed.may_tell(row);
        check::problems_of(rows, indexed.index(), &record.options, &may_tell)
    };
    let ledger = (path.as_path(), ledger);
    run::rehearse(
        ctx,
        &args.tuning,
        (&record, rows),
        ledger,
        problems,
        admission,
    )
}
