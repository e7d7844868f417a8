//! `status`: what the ledger says, also while another process writes it.

use super::args::StatusArgs;
use super::context::Context;
use super::desk::{self, Listed, Want};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Place;
use crate::ledger::{JobLock, RunState};
use crate::report::{screen, words};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

/// How often `--watch` looks: counters in the ledger are at most about a second old.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Moves the cursor home and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Runs `status`.
pub fn run(ctx: &Context, args: &StatusArgs) -> CliResult<Exit> {
    let place = Place::resolve(&args.place, &ctx.env)?;
    let mut job = desk::pick(&place, args.job.as_deref(), Want::Newest)?;
    desk::check(&job)?;
    if args.json {
        screen::print_json(&job.to_summary(&place)).map_err(|error| CliError::stdout(&error))?;
        return Ok(Exit::Success);
    }
    let redraw = args.watch && std::io::stdout().is_terminal();
    loop {
        let clear = if redraw { CLEAR } else { "" };
        let text = format!("{clear}{}", screen::printable(&describe(&place, &job)));
        screen::print_data(text.as_bytes()).map_err(|error| CliError::stdout(&error))?;
        if !args.watch || job.state != RunState::Running {
            return Ok(Exit::Success);
        }
        std::thread::park_timeout(WATCH_EVERY);
        job = desk::read(job.folder)?;
    }
}

fn describe(place: &Place, job: &Listed) -> String {
    let record = &job.summary.record;
    let mut text = job.to_summary(place).table();
    let _infallible = writeln!(text, "  {:<14} {}", "file", record.source.display());
    let _infallible = writeln!(
        text,
        "  {:<14} {}",
        "made",
        words::wall_time(record.created_ms)
    );
    if let Ok(Some(lock)) = JobLock::holder(job.folder.path()) {
        let holder = match &lock.holder {
            Some(who) if lock.is_led() => who.to_string(),
            Some(_) => "workers of a run that was killed; they end by themselves".to_owned(),
            None => "a process".to_owned(),
        };
        let _infallible = writeln!(text, "  {:<14} {holder}", "held by");
    }
    for line in job.next_steps(place) {
        let _infallible = writeln!(text, "{line}");
    }
    text
}
