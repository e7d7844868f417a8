//! `jobs` and `jobs rm`.

use super::args::{JobsArgs, JobsCommand};
use super::confirm;
use super::context::Context;
use super::desk::{self, Listed, Shelf};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Place;
use crate::ledger::JobFolder;
use crate::model::escape::shown;
use crate::report::{screen, table, words};
use serde_json::json;
use std::io::{self, BufRead, Write};

const HEAD: [&str; 8] = [
    "JOB", "STATE", "TARGET", "ROWS", "PENDING", "FAILED", "PARKED", "MADE",
];

/// Runs `jobs`.
pub fn run(ctx: &Context, args: &JobsArgs) -> CliResult<Exit> {
    match &args.command {
        None if args.json => list_json(&Place::resolve(&args.place, &ctx.env)?),
        None => list(ctx, &Place::resolve(&args.place, &ctx.env)?),
        Some(JobsCommand::Rm { job, yes, place }) => {
            let place = Place::resolve(place, &ctx.env)?;
            match job {
                Some(job) => remove(ctx, &place, job, *yes),
                None => Err(which(ctx, &place)?),
            }
        }
    }
}

fn list(ctx: &Context, place: &Place) -> CliResult<Exit> {
    if !place.checkpoints.is_dir() {
        ctx.screen.say(&format!(
            "there are no jobs in {}",
            place.checkpoints.display()
        ));
        return Ok(Exit::Success);
    }
    let Shelf { jobs, broken } = desk::list(&desk::open_existing(place)?)?;
    if jobs.is_empty() {
        ctx.screen.say(&format!(
            "there are no jobs in {}",
            place.checkpoints.display()
        ));
    } else {
        screen::print_data(aligned(&jobs).as_bytes()).map_err(|error| CliError::stdout(&error))?;
    }
    for (name, error) in broken {
        ctx.screen
            .say(&format!("job {name} cannot be read: {}", error.rendered()));
    }
    Ok(Exit::Success)
}

/// Nobody said which job to remove: lists them on stderr, and says how to.
fn which(ctx: &Context, place: &Place) -> CliResult<CliError> {
    let shelf = if place.checkpoints.is_dir() {
        desk::list(&desk::open_existing(place)?)?
    } else {
        Shelf::default()
    };
    let error = CliError::usage(
        "job_missing",
        "no job is named, and none is removed by itself",
    );
    if shelf.jobs.is_empty() && shelf.broken.is_empty() {
        let folder = place.checkpoints.display();
        return Ok(error.hint(format!("there are no jobs in {folder}")));
    }
    if !shelf.jobs.is_empty() {
        ctx.screen.say(aligned(&shelf.jobs).trim_end());
    }
    for (name, _) in &shelf.broken {
        ctx.screen.say(&format!("job {name} cannot be read"));
    }
    Ok(error.hint(format!(
        "name one of them: `{}`",
        place.command("jobs rm", "JOB")
    )))
}

/// Returns jobs as a table, the newest first.
fn aligned(jobs: &[Listed]) -> String {
    let rows: Vec<Vec<String>> = jobs.iter().rev().map(line).collect();
    table::aligned(&HEAD, &rows)
}

/// One object: every job as `status --json` shows it, newest first, and those that cannot be read.
fn list_json(place: &Place) -> CliResult<Exit> {
    let shelf = if place.checkpoints.is_dir() {
        desk::list(&desk::open_existing(place)?)?
    } else {
        Shelf::default()
    };
    let newest_first = shelf.jobs.iter().rev();
    let jobs: Vec<_> = newest_first.map(|job| job.to_summary(place)).collect();
    let broken: Vec<_> = shelf
        .broken
        .iter()
        .map(|(name, error)| json!({"job": name, "error": error.json_error()}))
        .collect();
    let object = json!({"jobs": jobs, "unreadable": broken});
    screen::print_json(&object).map_err(|error| CliError::stdout(&error))?;
    Ok(Exit::Success)
}

fn line(job: &Listed) -> Vec<String> {
    let record = &job.summary.record;
    let rows = job.rows();
    vec![
        job.name().to_owned(),
        job.state.as_str().to_owned(),
        shown(
            record
                .options
                .base_url
                .as_deref()
                .unwrap_or(record.options.target.as_str()),
        ),
        words::count(rows.total),
        words::count(rows.pending),
        words::count(rows.failed),
        words::count(rows.parked),
        words::wall_time(record.created_ms),
    ]
}

fn remove(ctx: &Context, place: &Place, name: &str, yes: bool) -> CliResult<Exit> {
    let checkpoints = desk::open_existing(place)?;
    let folder = checkpoints.job(name)?;
    if !yes {
        let question = question(&folder);
        let (stdin, stderr) = (io::stdin().lock(), io::stderr().lock());
        ask_to_remove(name, &question, ctx.env.interactive, stdin, stderr)?;
    }
    checkpoints
        .remove(&folder)
        .map_err(|error| CliError::from(error).job(name))?;
    ctx.screen.say(&format!(
        "job {name} is removed; nothing was changed at its target"
    ));
    Ok(Exit::Success)
}

/// Says what goes with a job. One whose ledger cannot be read may be removed too.
fn question(folder: &JobFolder) -> String {
    let name = folder.name();
    let Ok(job) = desk::read(folder.clone()) else {
        return format!("Job {name} cannot be read; recovering it needs its folder, too.");
    };
    let rows = job.rows();
    let pending = match rows.pending {
        0 => String::new(),
        n => format!(", {} of them pending", words::count(n)),
    };
    format!(
        "Job {name} is {} and knows what became of {}{pending}. Without it nothing of them can be \
         continued, retried or told any more.",
        job.state.as_str(),
        words::counted(rows.total, "row")
    )
}

/// Asks before a job is removed: nothing brings it back.
fn ask_to_remove(
    name: &str,
    question: &str,
    interactive: bool,
    answer: impl BufRead,
    ask: impl Write,
) -> CliResult<()> {
    let refuse = |message: String| {
        let hint = format!("`userferry jobs rm {name} --yes` removes it without a question");
        CliError::usage("removal_unconfirmed", message)
            .hint(hint)
            .job(name)
    };
    if !interactive {
        let message = format!("job {name} is not removed: there is no terminal to confirm it on");
        return Err(refuse(message));
    }
    let question = format!("{question}\nType `yes` to remove it, anything else to keep it: ");
    if confirm::typed("yes", &question, answer, ask).is_ok_and(|yes| yes) {
        return Ok(());
    }
    Err(refuse(format!("job {name} is kept: it was not confirmed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_wants_the_word_and_a_terminal() {
        let asked = |interactive, typed: &str| {
            let mut shown = Vec::new();
            let result = ask_to_remove("a", "Job a.", interactive, typed.as_bytes(), &mut shown);
            (result.map_err(|error| error.exit()), shown.is_empty())
        };
        assert_eq!(asked(true, "yes\n"), (Ok(()), false));
        for typed in ["", "y\n", "no\n", "yes, please\n"] {
            assert_eq!(asked(true, typed), (Err(Exit::Usage), false), "{typed:?}");
        }
        assert_eq!(asked(false, "yes\n"), (Err(Exit::Usage), true));
    }
}
