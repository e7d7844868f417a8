//! `jobs` and `jobs rm`.

use super::args::{JobsArgs, JobsCommand};
use super::context::Context;
use super::desk::{self, Listed, Shelf};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Place;
use crate::model::escape::shown;
use crate::report::{screen, table, words};
use serde_json::json;

const HEAD: [&str; 8] = [
    "JOB", "STATE", "TARGET", "ROWS", "PENDING", "FAILED", "PARKED", "MADE",
];

/// Runs `jobs`.
pub fn run(ctx: &Context, args: &JobsArgs) -> CliResult<Exit> {
    match &args.command {
        None if args.json => list_json(&Place::resolve(&args.place, &ctx.env)?),
        None => list(ctx, &Place::resolve(&args.place, &ctx.env)?),
        Some(JobsCommand::Rm { job, place }) => remove(ctx, &Place::resolve(place, &ctx.env)?, job),
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
        let rows: Vec<Vec<String>> = jobs.iter().rev().map(line).collect();
        let text = table::aligned(&HEAD, &rows);
        screen::print_data(text.as_bytes()).map_err(|error| CliError::stdout(&error))?;
    }
    for (name, error) in broken {
        ctx.screen
            .say(&format!("job {name} cannot be read: {}", error.rendered()));
    }
    Ok(Exit::Success)
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

fn remove(ctx: &Context, place: &Place, name: &str) -> CliResult<Exit> {
    let checkpoints = desk::open_existing(place)?;
    let folder = checkpoints.job(name)?;
    checkpoints
        .remove(&folder)
        .map_err(|error| CliError::from(error).job(name))?;
    ctx.screen.say(&format!(
        "job {name} is removed; nothing was changed at its target"
    ));
    Ok(Exit::Success)
}
