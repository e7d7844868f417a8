//! `recover`: a job whose ledger cannot be trusted gets a new one and goes on.
//!
//! # Invariants
//! The old ledger is only read, and kept. Every row is suspect in the new one: the target is asked
//! about it before anything is sent for it.

use super::args::{RecoverArgs, TuningArgs};
use super::context::Context;
use super::desk;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::identity;
use super::opening::{self, ReadingAsk};
use super::prepare::{self, Reader};
use super::resolve::{self, Place};
use super::run::{self, Job};
use super::settings;
use crate::ledger::{
    JobFolder, JobLock, JobRecord, Ledger, LedgerReader, NewJob, Salvage, Settings, earliest_trace,
    salvage, set_aside_and_replace,
};
use crate::model::clock::wall_ms;
use crate::model::escape::shown;
use crate::model::{JobOptions, ServerMs, TargetKind};
use crate::report::words;
use crate::source::Input;
use crate::source::profile::{self, ProfileChoice};
use crate::supervise::sandbox_child::state_path;

/// Runs `recover`.
pub fn run(ctx: &mut Context, args: &RecoverArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let checkpoints = desk::open_existing(&place)?;
    let folder = checkpoints.job(&args.job)?;
    let of_job = |error: CliError| error.job(&args.job);
    // Before the lock is taken: that writes to its file.
    let trace_ms = earliest_trace(&folder);
    let lock = JobLock::acquire(folder.path()).map_err(|error| of_job(error.into()))?;
    refuse_sound(&place, &folder).map_err(of_job)?;
    let old = salvage(&folder).map_err(|error| of_job(error.into()))?;
    let plan = plan(args, &folder, &old, trace_ms).map_err(of_job)?;
    let tuning = keep(ctx, &old, &args.tuning).map_err(of_job)?;
    announce(ctx, &folder, &plan);
    let kept = settings::of(&tuning);
    let new = rebuild(ctx, &folder, &old, plan, kept).map_err(of_job)?;
    // The key comes before the change: a job that cannot run keeps what it has.
    let asking = run::Asking {
        options: &new.record.options,
        source: &new.record.source,
        rows: u64::from(new.rows),
        dry_run: false,
    };
    let admission = run::admit(ctx, &tuning, asking).map_err(of_job)?;
    if let Some(warning) = checkpoints
        .check_space(new.rows)
        .map_err(|error| of_job(error.into()))?
    {
        ctx.say(&format!("warning: {warning}"));
    }
    let kept = set_aside_and_replace(&folder, &new).map_err(|error| of_job(error.into()))?;
    if let Some(kept) = kept {
        ctx.say(&format!("the old ledger is kept as {}", kept.display()));
    }
    let ledger = Ledger::open(&folder.ledger_path()).map_err(|error| of_job(error.into()))?;
    let job = Job {
        folder,
        record: new.record,
        ledger,
        lock,
    };
    run::run_job(ctx, &place, &tuning, job, admission)
}

/// Adds what the job kept of its last run. Where that cannot be read any more, whether only the
/// first rows were meant to go is for a person to say.
fn keep(ctx: &Context, old: &Salvage, tuning: &TuningArgs) -> CliResult<TuningArgs> {
    let Some(kept) = &old.settings else {
        if tuning.limit.is_none() {
            let message = "the damaged ledger no longer says whether the job was limited to its \
                           first rows";
            return Err(CliError::usage("limit_unknown", message)
                .hint("give the --limit of its last run, or --limit 0 for every row"));
        }
        return Ok(settings::effective(tuning, &Settings::default())?.0);
    };
    let (tuning, notes) = settings::effective(tuning, kept)?;
    for note in notes {
        ctx.say(&note);
    }
    Ok(tuning)
}

/// A ledger that can be trusted knows more than the target: it is not replaced. What is not the
/// ledger's own damage, such as a disk that cannot be read, is no reason to replace it either.
fn refuse_sound(place: &Place, folder: &JobFolder) -> CliResult<()> {
    match LedgerReader::check(&folder.ledger_path()) {
        Err(error) if error.is_damage() => Ok(()),
        Err(error) => Err(CliError::of_ledger(&error)),
        Ok(()) => {
            let message = format!("the ledger of job {} is sound", folder.name());
            let hint = format!("continue with `{}`", place.command("resume", folder.name()));
            Err(CliError::usage("ledger_sound", message).hint(hint))
        }
    }
}

/// What the new ledger starts from.
#[derive(Debug)]
struct Plan {
    input: Input,
    options: JobOptions,
    ask: ReadingAsk,
    profile: ProfileChoice,
    t_lo: ServerMs,
    /// When the job was made, local clock.
    created_ms: i64,
}

fn plan(
    args: &RecoverArgs,
    folder: &JobFolder,
    old: &Salvage,
    trace_ms: Option<i64>,
) -> CliResult<Plan> {
    let now_ms = wall_ms();
    let (input, options) = match &old.record {
        Some(record) => known(args, record)?,
        None => told(args, folder)?,
    };
    let ask = match &old.record {
        Some(record) => ReadingAsk::of_rows(&record.reading),
        None => ReadingAsk::of(&args.identity, args.tuning.yes)?,
    };
    let made_ms = old.record.as_ref().map(|record| record.created_ms);
    Ok(Plan {
        input,
        profile: profile_of(args, old)?,
        options,
        ask,
        t_lo: old.t_lo(trace_ms, now_ms),
        created_ms: made_ms.or(trace_ms).unwrap_or(now_ms),
    })
}

/// The profile the file was read with: a built-in one is known by its name, a person's own has to
/// be given again.
fn profile_of(args: &RecoverArgs, old: &Salvage) -> CliResult<ProfileChoice> {
    let given = resolve::profile(&args.identity)?;
    let stored = old
        .record
        .as_ref()
        .map(|record| record.options.profile.as_str());
    let (Some(stored), None | Some(ProfileChoice::Detect)) = (stored, &given) else {
        return Ok(given.unwrap_or_default());
    };
    let converted = old
        .record
        .as_ref()
        .is_some_and(|record| record.reading.converted);
    // The rows in the job's own copy are named as ours are.
    if stored == profile::NONE || converted {
        return Ok(ProfileChoice::Off);
    }
    profile::named(stored)
        .map(ProfileChoice::Use)
        .ok_or_else(|| {
            let message = format!(
                "the job was read with a profile of its own, `{}`",
                shown(stored)
            );
            CliError::usage("profile_unknown", message).hint("give it again: --profile FILE.toml")
        })
}

/// The old ledger says what the job is; what the command line says must be the same. The file may
/// have moved: its bytes are compared, not its path.
fn known(args: &RecoverArgs, record: &JobRecord) -> CliResult<(Input, JobOptions)> {
    identity::check(&args.identity, &record.options)?;
    identity::check_reading(&args.identity, &record.reading)?;
    let input = match &args.csv {
        Some(file) => resolve::source_input(file)?,
        // Its rows are in the folder: the source may be gone.
        None if record.reading.spool.is_some() => Input::of_path(&record.source),
        None => resolve::source_input(&record.source)?,
    };
    Ok((input, record.options.clone()))
}

/// The old ledger says nothing: the command line must say all of it, where to included.
fn told(args: &RecoverArgs, folder: &JobFolder) -> CliResult<(Input, JobOptions)> {
    let (Some(csv), Some(_)) = (&args.csv, args.identity.target) else {
        let message = format!(
            "the ledger of job {} no longer says which file it carries and where to",
            folder.name()
        );
        return Err(CliError::usage("job_unknown", message).hint(
            "say it again as it was said to `import`: --csv FILE, --target, and every other \
             identity option that was given",
        ));
    };
    let options = resolve::job_options(&args.identity)?;
    let rehearses = options.target == TargetKind::Sandbox && options.base_url.is_none();
    let rehearsed = state_path(folder.path()).exists();
    if rehearses != rehearsed {
        let message = if rehearsed {
            "this job went to the automatic sandbox: its data is in the folder"
        } else {
            "this job did not go to the automatic sandbox: the folder holds no data of one"
        };
        return Err(CliError::usage("job_identity", message)
            .hint("give --target and --base-url as they were given to `import`"));
    }
    Ok((resolve::source_input(csv)?, options))
}

fn announce(ctx: &Context, folder: &JobFolder, plan: &Plan) {
    let target = plan.options.base_url.as_deref();
    ctx.say(&format!(
        "job {}: every row of {} is looked up in {} before anything is sent for it; what appeared \
         there since {} counts as this job's",
        folder.name(),
        plan.input.path().display(),
        target.unwrap_or("the built-in sandbox"),
        words::wall_time(plan.t_lo.0),
    ));
}

/// Reads the rows anew, and makes sure that they are the job's own where that is known.
fn rebuild(
    ctx: &mut Context,
    folder: &JobFolder,
    old: &Salvage,
    plan: Plan,
    kept: Settings,
) -> CliResult<NewJob> {
    let mut record = old.record.clone();
    if let Some(record) = &mut record {
        plan.input.path().clone_into(&mut record.source);
    }
    let copied = record
        .as_ref()
        .filter(|record| record.reading.spool.is_some());
    if let Some(record) = copied {
        opening::check(ctx, record, folder)?;
    }
    let input = copied.map_or(plan.input, |record| {
        Input::File(opening::rows_path(record, folder.path()))
    });
    let reader = Reader {
        input: &input,
        ask: plan.ask,
        profile: plan.profile,
        folder: &mut || Ok(folder.path().to_owned()),
        kept: "its text is kept in the job's folder (mode 0600)",
    };
    let indexed = prepare::index(ctx, reader, &plan.options)?;
    let mut new = prepare::new_job(folder.name(), plan.options, kept, indexed);
    if let Some(copied) = copied {
        new.record.reading = copied.reading.clone();
        new.record
            .options
            .profile
            .clone_from(&copied.options.profile);
        new.record.source.clone_from(&copied.source);
        new.record.source_bytes = copied.source_bytes;
        new.record.source_hash.clone_from(&copied.source_hash);
    } else if let Some(record) = &record {
        let (bytes, hash) = (new.record.source_bytes, new.record.source_hash.as_str());
        prepare::same_bytes(record, input.path(), bytes, hash)?;
    }
    new.record.created_ms = plan.created_ms;
    new.record.rebuilt_from = Some(plan.t_lo);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::ledger::Checkpoints;
    use clap::Parser as _;

    fn args(words: &str) -> Box<RecoverArgs> {
        let words = format!("userferry recover j --from-target {words}");
        match Cli::try_parse_from(words.split_whitespace())
            .unwrap()
            .command
        {
            Command::Recover(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// A job folder with a CSV beside it.
    fn folder() -> (tempfile::TempDir, JobFolder) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let (folder, _lock) = checkpoints.begin_job().unwrap().publish("j").unwrap();
        (dir, folder)
    }

    #[test]
    fn without_from_target_it_is_refused() {
        assert!(Cli::try_parse_from(["userferry", "recover", "j"]).is_err());
        assert!(Cli::try_parse_from(["userferry", "recover", "--from-target"]).is_err());
    }

    #[test]
    fn a_job_that_nothing_is_known_of_has_to_be_told_where_to() {
        let (dir, folder) = folder();
        let csv = dir.path().join("a.csv");
        std::fs::write(&csv, "email\n").unwrap();
        let csv = csv.display();
        for words in [
            String::new(),
            format!("--csv {csv}"),
            "--target sandbox".to_owned(),
        ] {
            let error = told(&args(&words), &folder).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{words}");
            assert!(error.rendered().contains("--csv"), "{}", error.rendered());
        }
        let workos = args(&format!("--csv {csv} --target workos"));
        assert!(told(&workos, &folder).is_ok());
        let sandbox = args(&format!("--csv {csv} --target sandbox"));
        let error = told(&sandbox, &folder).unwrap_err();
        assert!(
            error.rendered().contains("did not go"),
            "{}",
            error.rendered()
        );
        std::fs::write(state_path(folder.path()), "").unwrap();
        assert!(told(&sandbox, &folder).is_ok());
        let error = told(&workos, &folder).unwrap_err();
        assert!(error.rendered().contains("went to"), "{}", error.rendered());
    }
}
