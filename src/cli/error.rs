//! What went wrong, for a person and for a script: every room's error becomes an exit code, a
//! sentence and a hint here.

use super::exit::Exit;
use crate::ledger::LedgerError;
use crate::source::SourceError;
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

    /// Adds what to do next unless something more precise is there.
    #[must_use]
    pub fn or_hint(mut self, hint: impl FnOnce() -> String) -> Self {
        self.0.hint.get_or_insert_with(hint);
        self
    }

    /// Adds where.
    #[must_use]
    pub fn at(mut self, at: At) -> Self {
        self.0.at = at;
        self
    }

    /// Adds the job it happened to.
    #[must_use]
    pub fn job(mut self, job: &str) -> Self {
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
        json!({
            "error": self.json_error(),
            "exit": self.0.exit.as_u8(),
            "job": self.0.job,
        })
    }
}

/// Returns the exit code of a ledger's refusal or failure.
pub fn ledger_exit(error: &LedgerError) -> Exit {
    match error {
        LedgerError::Full => Exit::Disk,
    }
}

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        Self::new(ledger_exit(&error), "disk_full", error.to_string()).caused_by(&error)
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        Self::new(Exit::Input, "changed", error.to_string()).caused_by(&error)
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
