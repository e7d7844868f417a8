//! Why a run stopped, in words, and what to do next.

use super::error::CliError;
use super::exit::Exit;
use super::resolve::Place;
use crate::coordinator::EndReason;
use crate::ledger::RunState;
use crate::model::RowTally;
use crate::target::StopReason;

/// Returns the error that ended the run; none when it completed or was interrupted. `resume` is the
/// command that continues `job`.
pub fn error_of(why: &EndReason, job: Option<&str>, resume: Option<&str>) -> Option<CliError> {
    let error = match why {
        EndReason::Completed | EndReason::Interrupted(_) => return None,
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
pub fn next_steps(place: &Place, job: &str, state: RunState, rows: &RowTally) -> Vec<String> {
    let command = |verb: &str| place.command(verb, job);
    if rows.pending > 0 {
        return match state {
            RunState::Running => vec![line("watch it", &format!("{} --watch", command("status")))],
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
        lines.push(line("try again", &command("retry")));
    }
    lines
}

/// Returns a line aligned with the summary's.
fn line(what: &str, command: &str) -> String {
    format!("  {what:<14} {command}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::StopSignal;
    use crate::ledger::LedgerError;
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

    #[test]
    fn next_steps_fit_the_state() {
        let mut rows = RowTally::of(2);
        let interrupted = next_steps(&place(), "j", RunState::Interrupted, &rows);
        assert_eq!(interrupted, ["  continue       userferry resume j"]);
        rows.settle(crate::model::RowState::Created);
        rows.settle(crate::model::RowState::Failed);
        let done = next_steps(&place(), "j", RunState::Completed, &rows).join("\n");
        for verb in ["results", "rejects", "retry"] {
            assert!(done.contains(&format!("userferry {verb} j")), "{done}");
        }
    }
}
