//! The jobs of a checkpoints folder as commands see them: found, picked, their state told.

use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Place;
use super::stop::{self, Ending};
use crate::ledger::{
    Checkpoints, FailureGroup, JobFolder, JobLock, JobSummary, LedgerReader, RunSnapshot, RunState,
};
use crate::model::tally::OrgCacheTally;
use crate::model::{RequestTally, RowTally};
use crate::report::{Summary, SummaryFacts};
use std::path::Path;

/// No job is what was asked for.
const NO_JOB: &str = "no_job";

/// A job as it stands.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its folder.
    pub folder: JobFolder,
    /// What its ledger says.
    pub summary: JobSummary,
    /// Its state, the lock considered: a killed run is interrupted, whatever it wrote last.
    pub state: RunState,
}

/// Which job a command without JOB means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The only unfinished one.
    Unfinished,
    /// The newest with failed or parked rows.
    WithProblems,
    /// The newest.
    Newest,
}

/// Opens the folder of the jobs without making it.
pub fn open_existing(place: &Place) -> CliResult<Checkpoints> {
    if place.checkpoints.is_dir() {
        Ok(Checkpoints::open(&place.checkpoints)?)
    } else {
        Err(no_jobs(place))
    }
}

fn no_jobs(place: &Place) -> CliError {
    let message = format!("there are no jobs in {}", place.checkpoints.display());
    CliError::usage(NO_JOB, message)
        .hint("start one with `userferry import CSV`, or name its folder with --checkpoints")
}

/// Reads one job.
pub fn read(folder: JobFolder) -> CliResult<Listed> {
    let summary = LedgerReader::open(&folder.ledger_path())
        .and_then(|reader| reader.summary())
        .map_err(|error| CliError::of_ledger(&error).job(folder.name()))?;
    let at_work = JobLock::holder(folder.path())
        .map_err(CliError::from)?
        .is_some_and(|lock| lock.is_led());
    let state = state_of(&summary, at_work);
    Ok(Listed {
        folder,
        summary,
        state,
    })
}

/// Reads all of a job's ledger and refuses one that cannot be trusted. One that is being written
/// was read by its writer, and is not read again.
pub fn check(job: &Listed) -> CliResult<()> {
    if job.state == RunState::Running {
        return Ok(());
    }
    LedgerReader::check(&job.folder.ledger_path())
        .map_err(|error| CliError::of_ledger(&error).job(job.name()))
}

/// Every job of a folder.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Those that can be read, oldest first.
    pub jobs: Vec<Listed>,
    /// The names of the others, and what is wrong with them.
    pub broken: Vec<(String, CliError)>,
}

/// Reads every job.
pub fn list(checkpoints: &Checkpoints) -> CliResult<Shelf> {
    let Shelf {
        mut jobs,
        mut broken,
    } = Shelf::default();
    for folder in checkpoints.list()? {
        let name = folder.name().to_owned();
        match read(folder) {
            Ok(job) => jobs.push(job),
            Err(error) => broken.push((name, error)),
        }
    }
    jobs.sort_by(|a, b| a.age().cmp(&b.age()));
    Ok(Shelf { jobs, broken })
}

/// Finds the job of that name, or the one that `want` means.
pub fn pick(place: &Place, name: Option<&str>, want: Want) -> CliResult<Listed> {
    let checkpoints = open_existing(place)?;
    if let Some(name) = name {
        return read(checkpoints.job(name)?);
    }
    let Shelf { jobs, broken } = list(&checkpoints)?;
    let is_empty = jobs.is_empty();
    choose(jobs, want).map_err(|error| match broken.into_iter().next() {
        // It may well be the one that is meant.
        Some((_, unreadable)) if error.code() == NO_JOB => unreadable,
        None if is_empty => no_jobs(place),
        Some(_) | None => error,
    })
}

fn choose(mut jobs: Vec<Listed>, want: Want) -> CliResult<Listed> {
    jobs.retain(|job| match want {
        Want::Unfinished => !job.is_finished(),
        Want::WithProblems => job.rows().has_problems(),
        Want::Newest => true,
    });
    if want == Want::Unfinished && jobs.len() > 1 {
        let names: Vec<&str> = jobs.iter().map(Listed::name).collect();
        let message = format!("{} jobs are unfinished: {}", jobs.len(), names.join(", "));
        return Err(CliError::usage("job_ambiguous", message).hint("name the one you mean"));
    }
    jobs.pop().ok_or_else(|| {
        let message = match want {
            Want::Unfinished => "no job is unfinished",
            Want::WithProblems => "no job has failed or parked rows",
            Want::Newest => "there is no job",
        };
        CliError::usage(NO_JOB, message).hint("`userferry jobs` lists them")
    })
}

/// Returns the newest job of a family: `name`, `name-2`, …
pub fn newest_of(checkpoints: &Checkpoints, name: &str) -> CliResult<Option<Listed>> {
    let mut newest: Option<Listed> = None;
    for folder in checkpoints.list()? {
        if is_of_family(folder.name(), name) {
            let job = read(folder)?;
            if newest
                .as_ref()
                .is_none_or(|newest| newest.age() < job.age())
            {
                newest = Some(job);
            }
        }
    }
    Ok(newest)
}

/// Returns whether `job` is `name` or `name-N` with N from 2. Six digits are a hash, not a number.
fn is_of_family(job: &str, name: &str) -> bool {
    let Some(rest) = job.strip_prefix(name) else {
        return false;
    };
    let Some(number) = rest.strip_prefix('-') else {
        return rest.is_empty();
    };
    (1..=5).contains(&number.len())
        && !number.starts_with('0')
        && number.parse::<u32>().is_ok_and(|number| number >= 2)
}

fn state_of(summary: &JobSummary, at_work: bool) -> RunState {
    if at_work {
        return RunState::Running;
    }
    if summary.totals.rows.pending == 0 {
        return RunState::Completed;
    }
    let last = summary.run.as_ref().and_then(|run| run.snapshot.as_ref());
    match last.map(|snapshot| snapshot.state) {
        // Killed, or opened again by `retry` and not run since.
        None | Some(RunState::Running | RunState::Completed) => RunState::Interrupted,
        Some(state) => state,
    }
}

impl Listed {
    /// Returns the job's name.
    pub fn name(&self) -> &str {
        self.folder.name()
    }

    /// Returns its rows by state.
    pub fn rows(&self) -> &RowTally {
        &self.summary.totals.rows
    }

    /// Returns whether every row is settled and nobody works on it.
    pub fn is_finished(&self) -> bool {
        self.state == RunState::Completed
    }

    /// Orders jobs by when they were made.
    fn age(&self) -> (i64, &str) {
        (self.summary.record.created_ms, self.name())
    }

    /// Returns what `--json` prints for it.
    pub fn to_summary(&self, place: &Place) -> Summary {
        let stored = self
            .summary
            .run
            .as_ref()
            .and_then(|run| run.snapshot.clone());
        let snapshot = stored.unwrap_or_else(nothing_done);
        let totals = self.summary.totals;
        Summary::new(SummaryFacts {
            job: Some(self.name()),
            target: self.summary.record.options.target,
            base_url: self.summary.record.options.base_url.as_deref(),
            resume: Some(place.command("resume", self.name())),
            state: self.state,
            rows: totals.rows,
            memberships: totals.memberships,
            organizations: totals.organizations,
            failures: failures_of(&self.folder.ledger_path(), &totals.rows),
            run: self.summary.run.as_ref().map_or(1, |run| run.id),
            snapshot: &snapshot,
        })
    }

    /// Returns what a person can do now, a line each.
    pub fn next_steps(&self, place: &Place) -> Vec<String> {
        let failures = failures_of(&self.folder.ledger_path(), self.rows());
        let ending = Ending {
            state: self.state,
            rows: self.rows(),
            limit: self.summary.settings.limit,
            failures: &failures,
            options: &self.summary.record.options,
        };
        stop::next_steps(place, self.name(), &ending)
    }

    /// Returns the code a finished job exited with.
    pub fn exit(&self) -> Exit {
        Exit::of_rows(self.rows())
    }
}

/// Returns why rows failed, as the ledger says. One that cannot be read right now leaves the
/// numbers without their reasons: whoever needs the ledger says why.
pub fn failures_of(ledger: &Path, rows: &RowTally) -> Vec<FailureGroup> {
    if !rows.has_problems() {
        return Vec::new();
    }
    let read = LedgerReader::open(ledger).and_then(|reader| reader.failures());
    read.unwrap_or_default()
}

/// Returns how many users were made for rows that failed or are parked, and stay.
pub fn users_left(ledger: &Path, rows: &RowTally) -> u64 {
    if !rows.has_problems() {
        return 0;
    }
    let read = LedgerReader::open(ledger).and_then(|reader| reader.users_left());
    read.unwrap_or_default()
}

/// The counters of a run that has not committed any.
fn nothing_done() -> RunSnapshot {
    RunSnapshot {
        state: RunState::Running,
        exit: None,
        requests: RequestTally::default(),
        org_cache: OrgCacheTally::default(),
        latency_ms: [0.0; 3],
        recent_ms: [0.0; 2],
        writes_per_s: None,
        rate_used: None,
        auto_rate: None,
        workers: 0,
        restarts: 0,
        settled: 0,
        elapsed_s: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_apart() {
        for (job, name, expected) in [
            ("users-1f3a9c", "users-1f3a9c", true),
            ("users-1f3a9c-2", "users-1f3a9c", true),
            ("users-1f3a9c-99", "users-1f3a9c", true),
            ("users-1f3a9c-1", "users-1f3a9c", false),
            ("users-1f3a9c-02", "users-1f3a9c", false),
            ("users-1f3a9c-x", "users-1f3a9c", false),
            ("users-1f3a9cd", "users-1f3a9c", false),
            ("users-123456", "users", false),
            ("users", "users-2", false),
        ] {
            assert_eq!(is_of_family(job, name), expected, "{job} {name}");
        }
    }
}
