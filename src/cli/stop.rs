//! Why a run stopped, in words, and what to do next.

use super::error::CliError;
use super::exit::Exit;
use super::resolve::Place;
use crate::coordinator::{EndReason, FailureStop};
use crate::ledger::{FailureGroup, RunState};
use crate::model::{JobOptions, RowTally, Step};
use crate::report::advice::advice;
use crate::report::words;
use crate::target::StopReason;

/// Causes that the error of a paused run names.
const CAUSES_TOLD: usize = 5;

/// How a job stands, as far as it matters for what to do next.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Its state.
    pub state: RunState,
    /// Its rows.
    pub rows: &'a RowTally,
    /// The row up to which it is worked on.
    pub limit: Option<u32>,
    /// What went wrong.
    pub failures: &'a [FailureGroup],
    /// What it was started with.
    pub options: &'a JobOptions,
}

impl Ending<'_> {
    /// Returns whether trying again can change anything: not what the file itself decides.
    fn retry_can_help(&self) -> bool {
        let by_file = |group: &FailureGroup| group.step == Some(Step::Validation);
        self.rows.has_problems() && !self.failures.iter().all(by_file)
    }

    /// Returns rows that failed because their organization may not be created.
    fn missing_organizations(&self) -> u64 {
        let missing = |group: &&FailureGroup| group.code == "organization_not_found";
        let rows = self.failures.iter().filter(missing).map(FailureGroup::rows);
        if self.options.create_orgs {
            0
        } else {
            rows.sum()
        }
    }
}

/// Returns the error that ended the run; none when it completed or was interrupted. `resume` is the
/// command that continues `job`.
pub fn error_of(why: &EndReason, job: Option<&str>, resume: Option<&str>) -> Option<CliError> {
    let error = match why {
        EndReason::Completed | EndReason::Limited | EndReason::Interrupted(_) => return None,
        EndReason::TooManyFailures(stop) => return Some(too_many(stop, job)),
        EndReason::Outage(reason) => CliError::new(
            Exit::Outage,
            "outage",
            format!("the target cannot be reached: {reason}; no row was failed by this"),
        ),
        EndReason::Refused(reason) => refused(reason),
        // It says itself what makes a new one; this one cannot be continued.
        EndReason::Ledger(error) if error.is_damage() => {
            let error = CliError::of_ledger(error);
            return Some(match job {
                Some(job) => error.job(job),
                None => error,
            });
        }
        EndReason::Ledger(error) => CliError::of_ledger(error),
        EndReason::SourceChanged(words) => {
            CliError::new(Exit::Input, "file_changed", words.clone())
                .hint("put the file back as it was")
        }
        EndReason::SourceUnreadable(words) => {
            CliError::new(Exit::Disk, "file_not_read", words.clone())
                .hint("check the disk and the file's permissions")
        }
        EndReason::Internal(words) => CliError::new(Exit::Internal, "internal", words.clone()),
    };
    Some(match resume {
        Some(resume) => error.then(&format!("continue with `{resume}`")),
        None => error,
    })
}

fn too_many(stop: &FailureStop, job: Option<&str>) -> CliError {
    let causes = stop.causes.iter().take(CAUSES_TOLD);
    let mut causes: Vec<String> = causes
        .map(|(code, n)| format!("{} {code}", words::count(*n)))
        .collect();
    let others = stop.causes.len().saturating_sub(CAUSES_TOLD);
    if others > 0 {
        causes.push(format!("{} more", words::counted(others as u64, "cause")));
    }
    let message = format!(
        "paused: {} of {} of this run failed or {} parked, more than --max-failures {} allows: {}",
        words::count(stop.bad),
        words::counted(stop.settled, "row"),
        words::agreeing(stop.bad, "was", "were"),
        stop.limit,
        causes.join(", ")
    );
    let job = job.unwrap_or("JOB");
    let first = stop.causes.first().map(|(code, _)| advice(code));
    CliError::new(Exit::Outage, "too_many_failures", message).hint(format!(
        "{}; then `userferry resume {job}` for the rows that are left (the limit counts anew; \
         `--max-failures none` lifts it), and `userferry retry {job}` for those that failed, or \
         `userferry rejects {job}` where the file is at fault",
        first.unwrap_or("find the cause")
    ))
}

fn refused(reason: &StopReason) -> CliError {
    let target = |code, message| CliError::new(Exit::TargetRefuses, code, message);
    match reason {
        StopReason::Unauthorized => CliError::new(
            Exit::Auth,
            "unauthorized",
            "the target does not accept the API key (401); no row was failed by this",
        )
        .hint("check WORKOS_API_KEY or --api-key-file"),
        StopReason::Forbidden(words) => target(
            "forbidden",
            format!("the target forbids this key what the import needs (403): {words}"),
        ),
        StopReason::NotThisApi(words) => target(
            "not_this_api",
            format!("the target does not answer like the API this import speaks: {words}"),
        )
        .hint("check --base-url"),
        StopReason::Certificate(words) => target(
            "certificate",
            format!("the target's certificate is not acceptable: {words}"),
        ),
        StopReason::OtherEnvironment => target(
            "other_environment",
            "the target knows none of the users this job made: the key belongs to another \
             environment, or somebody deleted them"
                .to_owned(),
        )
        .hint("use a key of the environment the job began in; --yes goes on all the same"),
    }
}

/// Returns what a person can do now, a line each.
pub fn next_steps(place: &Place, job: &str, ending: &Ending<'_>) -> Vec<String> {
    let command = |verb: &str| place.command(verb, job);
    let rows = ending.rows;
    if rows.pending > 0 {
        let all_done = |limit| rows.settled() >= u64::from(limit);
        return match ending.state {
            RunState::Running => vec![line("watch it", &format!("{} --watch", command("status")))],
            RunState::Paused if ending.limit.is_some_and(all_done) => {
                vec![line(
                    "the rest",
                    &format!("{} --limit 0", command("resume")),
                )]
            }
            RunState::Completed
            | RunState::Interrupted
            | RunState::Paused
            | RunState::Cancelled
            | RunState::Failed => vec![line("continue", &command("resume"))],
        };
    }
    let mut lines = vec![line(
        "every row",
        &format!("{} --out results.csv", command("results")),
    )];
    if rows.has_problems() {
        let rejects = format!("{} --out rejects.csv", command("rejects"));
        lines.push(line("to correct", &rejects));
        if ending.retry_can_help() {
            lines.push(line("try again", &command("retry")));
        } else {
            lines.push(line(
                "",
                "the file decides these failures: correct the rejects and import them",
            ));
        }
    }
    let missing = ending.missing_organizations();
    if missing > 0 {
        let rows = words::counted(missing, "row");
        let words = format!("{rows}: create them first, or `import --fresh … --create-orgs`");
        lines.push(line("no such org.", &words));
    }
    lines.push(line(
        "one page",
        &format!("{} --out report.html", command("report")),
    ));
    lines
}

/// Returns a line aligned with the summary's.
fn line(what: &str, command: &str) -> String {
    format!("  {what:<14} {command}")
}

#[cfg(test)]
mod tests {
    use super::super::args::IdentityArgs;
    use super::super::resolve;
    use super::*;
    use crate::coordinator::{FailureLimit, StopSignal};
    use crate::ledger::LedgerError;
    use crate::model::{RowNumber, RowState};
    use std::path::PathBuf;

    fn place() -> Place {
        Place {
            checkpoints: PathBuf::from("/c"),
            flag: String::new(),
        }
    }

    #[test]
    fn every_stop_has_its_exit_and_a_way_on() {
        let table = [
            (EndReason::Outage("timeout".to_owned()), 75),
            (EndReason::Refused(StopReason::Unauthorized), 77),
            (
                EndReason::Refused(StopReason::Forbidden("x".to_owned())),
                69,
            ),
            (
                EndReason::Refused(StopReason::NotThisApi("x".to_owned())),
                69,
            ),
            (
                EndReason::Refused(StopReason::Certificate("x".to_owned())),
                69,
            ),
            (
                EndReason::SourceChanged("chunk 3 reads differently".to_owned()),
                65,
            ),
            (EndReason::Internal("x".to_owned()), 70),
            (
                EndReason::TooManyFailures(Box::new(FailureStop {
                    bad: 3,
                    settled: 4,
                    limit: FailureLimit::Rows(2),
                    causes: vec![("invalid_role".to_owned(), 3)],
                })),
                75,
            ),
        ];
        for (why, exit) in table {
            let error = error_of(&why, Some("j"), Some("userferry resume j")).unwrap();
            assert_eq!(error.exit().as_u8(), exit, "{why:?}");
            assert_eq!(
                error.exit(),
                Exit::of_run(&why, &RowTally::of(1)),
                "{why:?}"
            );
            assert!(error.rendered().contains("hint: "), "{}", error.rendered());
        }
        for calm in [
            EndReason::Completed,
            EndReason::Limited,
            EndReason::Interrupted(StopSignal::Interrupt),
        ] {
            assert!(error_of(&calm, Some("j"), None).is_none());
        }
    }

    #[test]
    fn a_ledger_damaged_on_the_way_tells_how_this_job_is_recovered_and_not_to_resume_it() {
        let damage = LedgerError::Corrupt {
            path: PathBuf::from("/c/users-1f3a9c/ledger.sqlite"),
            detail: "page 7".to_owned(),
        };
        let why = EndReason::Ledger(damage.into());
        let error = error_of(&why, Some("users-1f3a9c"), Some("userferry resume j")).unwrap();
        let words = error.rendered();
        assert_eq!(error.exit(), Exit::Disk);
        let command = "`userferry recover users-1f3a9c --from-target`";
        assert!(words.contains(command), "{words}");
        assert!(!words.contains("resume"), "{words}");
    }

    fn ending<'a>(
        state: RunState,
        rows: &'a RowTally,
        failures: &'a [FailureGroup],
        options: &'a JobOptions,
    ) -> Ending<'a> {
        Ending {
            state,
            rows,
            limit: None,
            failures,
            options,
        }
    }

    fn problem(step: Step, code: &str) -> FailureGroup {
        FailureGroup {
            code: code.to_owned(),
            failed: 1,
            parked: 0,
            step: Some(step),
            row: RowNumber(1),
            message: String::new(),
        }
    }

    #[test]
    fn next_steps_fit_the_state() {
        let options = resolve::job_options(&IdentityArgs::default()).unwrap();
        let mut rows = RowTally::of(2);
        let at_work = ending(RunState::Interrupted, &rows, &[], &options);
        let lines = next_steps(&place(), "j", &at_work);
        assert_eq!(lines, ["  continue       userferry resume j"]);
        rows.settle(RowState::Created);
        let limited = Ending {
            limit: Some(1),
            ..ending(RunState::Paused, &rows, &[], &options)
        };
        let lines = next_steps(&place(), "j", &limited);
        assert_eq!(lines, ["  the rest       userferry resume j --limit 0"]);
        rows.settle(RowState::Failed);
        let problems = [problem(Step::Membership, "invalid_role")];
        let over = ending(RunState::Completed, &rows, &problems, &options);
        let done = next_steps(&place(), "j", &over).join("\n");
        for verb in ["results", "rejects", "retry", "report"] {
            assert!(done.contains(&format!("userferry {verb} j")), "{done}");
        }
    }

    #[test]
    fn what_cannot_help_is_not_offered() {
        let options = JobOptions {
            create_orgs: false,
            ..resolve::job_options(&IdentityArgs::default()).unwrap()
        };
        let mut rows = RowTally::of(1);
        rows.settle(RowState::Failed);
        let by_file = [problem(Step::Validation, "invalid_email")];
        let over = ending(RunState::Completed, &rows, &by_file, &options);
        let done = next_steps(&place(), "j", &over).join("\n");
        assert!(
            !done.contains("retry") && done.contains("rejects"),
            "{done}"
        );
        let missing = [problem(Step::Organization, "organization_not_found")];
        let over = ending(RunState::Completed, &rows, &missing, &options);
        let done = next_steps(&place(), "j", &over).join("\n");
        assert!(
            done.contains("--create-orgs") && done.contains("retry"),
            "{done}"
        );
    }
}
