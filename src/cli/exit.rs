//! Exit codes: one enum, documented here, in the README and nowhere else.

use crate::coordinator::{EndReason, StopSignal};
use crate::model::RowTally;
use crate::target::StopReason;

macro_rules! exits {
    ($($(#[$meta:meta])* $variant:ident = $code:literal, $meaning:literal;)+) => {
        /// What the process tells its caller. The numbers follow `sysexits.h` and, for signals,
        /// the shell's 128 + n.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Exit { $($(#[$meta])* $variant,)+ }

        impl Exit {
            /// Every code, ascending.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the number the process exits with.
            pub const fn as_u8(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Returns what it means, in the words of the README's table.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// Reads a stored number back.
            pub fn from_u8(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|exit| exit.as_u8() == code)
            }
        }
    };
}

exits! {
    /// Every row settled well.
    Success = 0, "every row settled well";
    /// The job is finished and some rows need a person.
    RowsFailed = 1, "finished, with failed or parked rows";
    /// The command line cannot be carried out as written.
    Usage = 2, "usage: an option or argument is wrong";
    /// The CSV is refused.
    Input = 65, "the input is refused: a bad or changed CSV";
    /// The target refuses the run.
    TargetRefuses = 69, "the target refuses: 403, redirect, TLS, not the expected API";
    /// A bug, or workers that cannot be kept alive.
    Internal = 70, "internal error";
    /// Another process holds the job.
    Held = 73, "the job is held by another process";
    /// Reading or writing the disk failed.
    Disk = 74, "disk I/O failed, a full disk included";
    /// The target is out, or the run was paused.
    Outage = 75, "outage or pause; resumable";
    /// The key is missing or not accepted.
    Auth = 77, "authentication: no key, or the target does not accept it";
    /// SIGHUP.
    Hangup = 129, "interrupted by SIGHUP; resumable";
    /// SIGINT.
    Interrupt = 130, "interrupted by SIGINT (Ctrl-C); resumable";
    /// SIGTERM.
    Terminate = 143, "interrupted by SIGTERM; resumable";
}

impl Exit {
    /// Returns the code of a run that ended because of `why` with these rows.
    pub fn of_run(why: &EndReason, rows: &RowTally) -> Self {
        match why {
            EndReason::Completed | EndReason::Limited => Self::of_rows(rows),
            EndReason::Interrupted(StopSignal::Hangup) => Self::Hangup,
            EndReason::Interrupted(StopSignal::Interrupt) => Self::Interrupt,
            EndReason::Interrupted(StopSignal::Terminate) => Self::Terminate,
            EndReason::Outage(_) | EndReason::TooManyFailures(_) => Self::Outage,
            EndReason::Refused(StopReason::Unauthorized) => Self::Auth,
            EndReason::Refused(
                StopReason::Forbidden(_)
                | StopReason::NotThisApi(_)
                | StopReason::Certificate(_)
                | StopReason::OtherEnvironment,
            ) => Self::TargetRefuses,
            EndReason::Ledger(error) => super::error::ledger_exit(error),
            EndReason::SourceChanged(_) => Self::Input,
            EndReason::SourceUnreadable(_) => Self::Disk,
            EndReason::Internal(_) => Self::Internal,
        }
    }

    /// Returns the code of a finished job.
    pub fn of_rows(rows: &RowTally) -> Self {
        if rows.has_problems() {
            Self::RowsFailed
        } else {
            Self::Success
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.as_u8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_u8(exit.as_u8()), Some(*exit));
        }
        assert_eq!(Exit::from_u8(3), None);
    }

    #[test]
    fn a_completed_run_exits_by_its_rows() {
        let mut rows = RowTally::of(2);
        rows.settle(crate::model::RowState::Created);
        assert_eq!(Exit::of_run(&EndReason::Completed, &rows), Exit::Success);
        rows.settle(crate::model::RowState::Parked);
        assert_eq!(Exit::of_run(&EndReason::Completed, &rows), Exit::RowsFailed);
    }

    #[test]
    fn every_other_end_has_its_own_code() {
        let rows = RowTally::of(1);
        let table = [
            (EndReason::Interrupted(StopSignal::Hangup), 129),
            (EndReason::Interrupted(StopSignal::Interrupt), 130),
            (EndReason::Interrupted(StopSignal::Terminate), 143),
            (EndReason::Outage(String::new()), 75),
            (EndReason::Refused(StopReason::Unauthorized), 77),
            (EndReason::Refused(StopReason::Forbidden(String::new())), 69),
            (
                EndReason::Refused(StopReason::NotThisApi(String::new())),
                69,
            ),
            (
                EndReason::Refused(StopReason::Certificate(String::new())),
                69,
            ),
            (EndReason::SourceChanged(String::new()), 65),
            (EndReason::SourceUnreadable(String::new()), 74),
            (EndReason::Internal(String::new()), 70),
        ];
        for (why, code) in table {
            assert_eq!(Exit::of_run(&why, &rows).as_u8(), code, "{why:?}");
        }
    }
}
