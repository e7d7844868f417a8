//! What a broken rule says of a row, and where it is collected.

use super::catalog::{Rule, Severity};
use crate::model::RowError;
use crate::source::CsvRecord;
use std::borrow::Cow;

/// What a rule says when it is broken, before its column is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) rule: Rule,
    /// The words after the place. Never a piece of an email, a name, a secret or metadata.
    pub(super) words: String,
    /// What may have been meant. May hold a piece of the cell: it is for the screen only.
    pub(super) suggestion: Option<String>,
}

impl Broken {
    pub(super) fn new(rule: Rule, words: impl Into<String>) -> Self {
        Self {
            rule,
            words: words.into(),
            suggestion: None,
        }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// One thing wrong with one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule that is broken.
    pub rule: Rule,
    /// The column, as the contract names it; `number N` when it has no such name.
    pub column: Cow<'static, str>,
    /// What is wrong and what is allowed. Holds no personal data: a ledger may keep it.
    pub words: String,
    /// What may have been meant; may hold a piece of the cell.
    pub suggestion: Option<String>,
}

impl Problem {
    /// Returns the error of the row it breaks.
    pub(super) fn row_error(&self, record: &CsvRecord) -> RowError {
        let CsvRecord { number, line, .. } = record;
        let Self { column, words, .. } = self;
        let message = format!("row {number}, line {line}, column {column}: {words}");
        RowError::local(self.rule.id, message)
    }
}

/// What is wrong with one row. A good row costs nothing.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, column: impl Into<Cow<'static, str>>, broken: Broken) {
        self.0.push(Problem {
            rule: broken.rule,
            column: column.into(),
            words: broken.words,
            suggestion: broken.suggestion,
        });
    }

    /// Adds a problem that is not of the row alone.
    pub(in crate::source) fn tell(
        &mut self,
        rule: Rule,
        column: &'static str,
        words: impl Into<String>,
    ) {
        self.add(column, Broken::new(rule, words));
    }

    /// Takes what a reader of one column found; its value when it was readable.
    pub(super) fn value<T>(&mut self, column: &'static str, read: Result<T, Broken>) -> Option<T> {
        read.map_err(|broken| self.add(column, broken)).ok()
    }

    /// Returns the first error: what the row fails by.
    pub fn error(&self) -> Option<&Problem> {
        let is_error = |problem: &&Problem| problem.rule.severity == Severity::Error;
        self.0.iter().find(is_error)
    }

    /// Returns whether there is nothing to tell.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes them all out.
    pub fn drain(&mut self) -> impl Iterator<Item = Problem> + '_ {
        self.0.drain(..)
    }
}
