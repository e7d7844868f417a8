//! What went wrong, for a person and for a script: every room's error becomes an exit code, a
//! sentence and a hint here.

use super::exit::Exit;
use crate::ledger::{FolderError, LedgerError, LockError, ReplaceError};
use crate::report::problems::ProblemGroup;
use crate::sandbox::{JournalError, SandboxError};
use crate::source::{GenerateError, SourceError};
use crate::supervise::SandboxChildError;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The result of a command's part.
pub type CliResult<T> = Result<T, CliError>;

/// An expected failure of the command line.
#[derive(Clone, Debug)]
pub struct CliError(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    exit: Exit,
    code: String,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    at: At,
    job: Option<String>,
    problems: Vec<ProblemGroup>,
}

/// Where in the source it went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The row, from 1.
    pub row: Option<u64>,
    /// The physical line, from 1.
    pub line: Option<u64>,
    /// The column, by name.
    pub column: Option<String>,
}

impl CliError {
    /// Makes an error.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            exit,
            code: code.to_owned(),
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            at: At::default(),
            job: None,
            problems: Vec::new(),
        }))
    }

    /// Makes an error of the command line itself.
    pub fn usage(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what to do after what the hint says already.
    #[must_use]
    pub fn then(mut self, next: &str) -> Self {
        self.0.hint = Some(match self.0.hint.take() {
            Some(hint) => format!("{hint}; then {next}"),
            None => next.to_owned(),
        });
        self
    }

    /// Adds every place of which the error names the first.
    #[must_use]
    pub fn problems(mut self, problems: Vec<ProblemGroup>) -> Self {
        self.0.problems = problems;
        self
    }

    /// Adds where.
    #[must_use]
    pub fn at(mut self, at: At) -> Self {
        self.0.at = at;
        self
    }

    /// Adds the job it happened to; what to do about it names that job.
    #[must_use]
    pub fn job(mut self, job: &str) -> Self {
        if let Some(hint) = &mut self.0.hint {
            *hint = hint
                .replace("recover JOB", &format!("recover {job}"))
                .replace("status JOB", &format!("status {job}"));
        }
        self.0.job.get_or_insert_with(|| job.to_owned());
        self
    }

    /// Adds the chain of causes under `error`.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            let words = cause.to_string();
            if !self.0.message.contains(&words) && !self.0.causes.contains(&words) {
                self.0.causes.push(words);
            }
            source = cause.source();
        }
        self
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// Returns whether the words of the command line themselves are wrong, so that its usage
    /// helps: not what they found, such as no job of that name.
    pub fn is_misspelt(&self) -> bool {
        const MISSPELT: [&str; 4] = ["bad_base_url", "bad_path", "empty_org", "stdin_unsupported"];
        self.exit() == Exit::Usage && MISSPELT.contains(&self.code())
    }

    /// Returns the stable word for what went wrong.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the form for people, with a line end.
    pub fn rendered(&self) -> String {
        let mut out = format!("error: {}\n", self.0.message);
        for cause in &self.0.causes {
            let _infallible = writeln!(out, "caused by: {cause}");
        }
        if let Some(hint) = &self.0.hint {
            let _infallible = writeln!(out, "hint: {hint}");
        }
        out
    }

    /// Returns the `error` object for scripts.
    pub fn json_error(&self) -> Value {
        let parts = &*self.0;
        json!({
            "code": parts.code,
            "message": parts.message,
            "hint": parts.hint,
            "row": parts.at.row,
            "line": parts.at.line,
            "column": parts.at.column,
        })
    }

    /// Returns the whole object that `--json` prints instead of a summary.
    pub fn json(&self) -> Value {
        let mut whole = json!({
            "error": self.json_error(),
            "exit": self.0.exit.as_u8(),
            "job": self.0.job,
        });
        if !self.0.problems.is_empty() {
            whole["problems"] = json!(self.0.problems);
        }
        whole
    }
}

/// Returns the exit code of a ledger's refusal or failure.
pub fn ledger_exit(error: &LedgerError) -> Exit {
    match error {
        LedgerError::Exists { .. } => Exit::Usage,
        LedgerError::Missing { .. }
        | LedgerError::Full { .. }
        | LedgerError::Io { .. }
        | LedgerError::Busy { .. }
        | LedgerError::Corrupt { .. }
        | LedgerError::NotALedger { .. }
        | LedgerError::Newer { .. }
        | LedgerError::Poisoned { .. } => Exit::Disk,
        LedgerError::Reopened => Exit::Held,
        LedgerError::Invariant { .. } | LedgerError::Panicked(_) => Exit::Internal,
    }
}

fn ledger_code(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::Missing { .. } => "ledger_missing",
        LedgerError::Exists { .. } => "ledger_exists",
        LedgerError::Full { .. } => "disk_full",
        LedgerError::Io { .. } => "ledger_io",
        LedgerError::Busy { .. } => "ledger_busy",
        LedgerError::Corrupt { .. } => "ledger_corrupt",
        LedgerError::NotALedger { .. } => "not_a_ledger",
        LedgerError::Newer { .. } => "ledger_newer",
        LedgerError::Invariant { .. } => "invariant",
        LedgerError::Poisoned { .. } => "ledger_closed",
        LedgerError::Reopened => "job_reopened",
        LedgerError::Panicked(_) => "ledger_panicked",
    }
}

impl CliError {
    /// Words a ledger's error.
    pub fn of_ledger(error: &LedgerError) -> Self {
        Self::new(ledger_exit(error), ledger_code(error), error.to_string())
            .hint(error.hint())
            .caused_by(error)
    }

    /// Words a failure to write to stdout.
    pub fn stdout(error: &std::io::Error) -> Self {
        Self::new(
            Exit::Disk,
            "stdout",
            format!("stdout cannot be written: {error}"),
        )
    }

    /// Words a failure to write data.
    pub fn output(error: &std::io::Error) -> Self {
        let hint = "make room, or name another place with --out";
        Self::new(
            Exit::Disk,
            "output",
            format!("the output cannot be written: {error}"),
        )
        .hint(hint)
    }
}

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        Self::of_ledger(&error)
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        let (exit, code) = match error {
            LockError::Held { .. } => (Exit::Held, "job_held"),
            LockError::Removed { .. } => (Exit::Usage, "no_job"),
            LockError::Io { .. } => (Exit::Disk, "lock_io"),
        };
        Self::new(exit, code, error.to_string())
            .hint(error.hint())
            .caused_by(&error)
    }
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        let (exit, code) = match error {
            FolderError::BadName { .. } => (Exit::Usage, "bad_job_name"),
            FolderError::NoJob { .. } => (Exit::Usage, "no_job"),
            FolderError::Exists { .. } => (Exit::Usage, "job_exists"),
            FolderError::NotAFolder { .. } => (Exit::Disk, "not_a_folder"),
            FolderError::Network { .. } => (Exit::Disk, "network_file_system"),
            FolderError::NoSpace { .. } => (Exit::Disk, "disk_full"),
            FolderError::Io { .. } => (Exit::Disk, "folder_io"),
            FolderError::Lock(error) => return error.into(),
        };
        Self::new(exit, code, error.to_string())
            .hint(error.hint())
            .caused_by(&error)
    }
}

impl From<ReplaceError> for CliError {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Ledger(error) => error.into(),
            ReplaceError::Folder(error) => error.into(),
        }
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        // Everything about the file's content refuses the input; what cannot be read or written is
        // the disk's.
        let exit = match error {
            SourceError::Read(_) | SourceError::Spill(_) | SourceError::Spool(_) => Exit::Disk,
            // The file may be right: two things were asked for that exclude each other.
            SourceError::OrganizationColumns { .. }
            | SourceError::MapColumnMissing { .. }
            | SourceError::MapAndProfile { .. }
            | SourceError::EncodingContradicted { .. }
            | SourceError::HashParameters { .. }
            | SourceError::BesideNothing { .. } => Exit::Usage,
            _ => Exit::Input,
        };
        let place = error.place();
        let at = place.map_or_else(At::default, |place| At {
            row: place.row.map(|row| u64::from(row.0)),
            line: Some(place.line),
            column: place.column,
        });
        let worded = Self::new(exit, error.code(), error.to_string())
            .at(at)
            .caused_by(&error);
        match (error.hint(), &error) {
            (Some(hint), SourceError::FieldCount { ragged, .. }) if ragged.count > 1 => {
                let count = ragged.count;
                worded.hint(format!(
                    "{hint}; {count} rows are like that: `userferry check` lists them"
                ))
            }
            (Some(hint), _) => worded.hint(hint),
            (None, _) => worded,
        }
    }
}

impl From<GenerateError> for CliError {
    fn from(error: GenerateError) -> Self {
        let (exit, code) = match error {
            GenerateError::Arguments(_) => (Exit::Usage, "bad_arguments"),
            GenerateError::Create { .. } | GenerateError::Write(_) => (Exit::Disk, "output"),
        };
        Self::new(exit, code, error.to_string()).caused_by(&error)
    }
}

impl From<SandboxChildError> for CliError {
    fn from(error: SandboxChildError) -> Self {
        let hint = "try `userferry sandbox` by itself: it says what is wrong";
        Self::new(Exit::Internal, "sandbox", error.to_string())
            .hint(hint)
            .caused_by(&error)
    }
}

impl From<SandboxError> for CliError {
    fn from(error: SandboxError) -> Self {
        let (exit, code) = match &error {
            SandboxError::NotLoopback(_) => (Exit::Usage, "not_loopback"),
            SandboxError::Listen { .. } => (Exit::Usage, "address"),
            SandboxError::Journal(JournalError::Held(_)) => (Exit::Held, "sandbox_held"),
            SandboxError::Journal(
                JournalError::Io { .. } | JournalError::Foreign(_) | JournalError::Damaged { .. },
            ) => (Exit::Disk, "sandbox_log"),
            SandboxError::Key(_) => (Exit::Auth, "sandbox_key"),
            SandboxError::Announce(_) => (Exit::Disk, "stdout"),
            SandboxError::Runtime(_) => (Exit::Internal, "runtime"),
        };
        Self::new(exit, code, error.to_string()).caused_by(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_well_and_is_one_object() {
        let error = CliError::new(
            Exit::Input,
            "header_duplicated",
            "column `email` appears twice",
        )
        .hint("remove one of them")
        .at(At {
            row: None,
            line: Some(1),
            column: Some("email".to_owned()),
        })
        .job("users-1f3a9c");
        assert_eq!(
            error.rendered(),
            "error: column `email` appears twice\nhint: remove one of them\n"
        );
        assert_eq!(
            error.json(),
            json!({
                "error": {"code": "header_duplicated", "message": "column `email` appears twice",
                          "hint": "remove one of them", "row": null, "line": 1, "column": "email"},
                "exit": 65,
                "job": "users-1f3a9c",
            })
        );
    }
}
