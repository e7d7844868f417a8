//! Every problem of a file: the rules of a row, and what rows have to do with each other.
//!
//! # Owns
//! Going through the rows of an indexed file, counting what they break, keeping a few examples.
//! # Never
//! Keeps more than the examples: whoever wants every problem takes them as they come.

mod names;

use super::chunk::{each_wanted, read_bytes};
use super::rules::catalog::{
    EXTERNAL_ID_CONFLICT, MEMBERSHIP_REPEATED, Rule, Severity, USER_FIELDS_DIFFER,
};
use super::rules::harmless::may_show;
use super::rules::{Problem, Problems, RowRules, judge};
use super::{Columns, CsvRecord, Index, SourceError};
use crate::model::escape::shown;
use crate::model::{ExternalIdConflict, Follower, RowNumber};
pub use names::NewNames;
use names::OrgNames;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::iter::Peekable;
use std::slice::Iter;

/// Examples kept of every rule.
const EXAMPLES_MAX: usize = 5;

/// Longest piece of a cell that is shown, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Columns of which nothing is ever shown.
const SECRET: &[&str] = &["password", "password_hash", "totp_secret"];

/// One problem with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The row; none for the header.
    pub row: Option<RowNumber>,
    /// The physical line on which the record starts.
    pub line: u64,
    /// What is wrong.
    pub problem: Problem,
    /// The cell, shortened and escaped; none for secrets, and for what could be one.
    pub value: Option<String>,
}

/// What became of all rows.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Rows of the file.
    pub rows: u64,
    /// Rows that break a rule whose breaking is an error: an import would fail them.
    pub failing: u64,
    groups: BTreeMap<&'static str, RuleGroup>,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct RuleGroup {
    /// Which.
    pub rule: Rule,
    /// How often.
    pub count: u64,
    /// The first ones.
    pub examples: Vec<Finding>,
}

impl CheckReport {
    /// Counts a finding and keeps it if it is one of the first of its rule.
    pub fn add(&mut self, finding: Finding) {
        let rule = finding.problem.rule;
        let group = self.groups.entry(rule.id).or_insert_with(|| RuleGroup {
            rule,
            count: 0,
            examples: Vec::new(),
        });
        group.count += 1;
        if group.examples.len() < EXAMPLES_MAX {
            group.examples.push(finding);
        }
    }

    /// Returns the broken rules: errors first, the most frequent first.
    pub fn groups(&self) -> Vec<&RuleGroup> {
        let mut groups: Vec<&RuleGroup> = self.groups.values().collect();
        groups.sort_by_key(|group| (group.rule.severity, u64::MAX - group.count, group.rule.id));
        groups
    }

    /// Returns how many problems of one severity there are.
    pub fn count(&self, severity: Severity) -> u64 {
        let of_it = self
            .groups
            .values()
            .filter(|group| group.rule.severity == severity);
        of_it.map(|group| group.count).sum()
    }
}

/// Why a check ended early.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Where problems or the repaired file are written to.
    #[error("cannot write the result")]
    Write(#[source] io::Error),
}

/// Holds every row of an indexed file against the rules; `visit` gets every problem, ascending by
/// row. Memory does not grow with the file.
pub fn check(
    file: &File,
    index: &Index,
    rules: &RowRules,
    visit: &mut dyn FnMut(&Finding) -> io::Result<()>,
) -> Result<CheckReport, CheckError> {
    check_some(file, index, rules, &|_| true, visit)
}

/// Does what [`check`] does, where it is known of most rows that there is nothing to tell of them.
///
/// `may_tell` says of which rows there may be something to tell by themselves: those that break a
/// rule of a row, and the lowest that gives an organization some name ([`NewNames`]). It may be said
/// of more. What rows have to do with each other otherwise, the index knows.
pub fn check_some(
    file: &File,
    index: &Index,
    rules: &RowRules,
    may_tell: &dyn Fn(RowNumber) -> bool,
    visit: &mut dyn FnMut(&Finding) -> io::Result<()>,
) -> Result<CheckReport, CheckError> {
    let mut pass = Pass {
        columns: &index.columns,
        rules,
        between: Between::new(index),
        names: OrgNames::new(&index.columns, &rules.org_mode),
        problems: Problems::default(),
        report: CheckReport {
            rows: u64::from(index.rows),
            ..CheckReport::default()
        },
        visit,
    };
    let wanted = |row: RowNumber| may_tell(row) || tells_of(index, row);
    for spec in &index.chunks {
        let mut rows = (0..spec.rows).map(|n| RowNumber(spec.first_row.0.saturating_add(n)));
        if rows.any(wanted) {
            let bytes = read_bytes(file, spec)?;
            let mut visit = |record: &CsvRecord| pass.row(record);
            each_wanted(&bytes, spec, &index.columns, wanted, &mut visit)?;
        }
    }
    Ok(pass.report)
}

struct Pass<'a> {
    columns: &'a Columns,
    rules: &'a RowRules,
    between: Between<'a>,
    names: OrgNames<'a>,
    problems: Problems,
    report: CheckReport,
    visit: &'a mut dyn FnMut(&Finding) -> io::Result<()>,
}

impl Pass<'_> {
    fn row(&mut self, record: &CsvRecord) -> Result<(), CheckError> {
        if record.left_out(self.columns).is_some() {
            return Ok(());
        }
        drop(judge(record, self.columns, self.rules, &mut self.problems));
        self.between.judge(record.number, &mut self.problems);
        self.names.judge(record, &mut self.problems);
        self.report.failing += u64::from(self.problems.error().is_some());
        for mut problem in self.problems.drain() {
            let value = value_of(record, self.columns, &problem.column);
            // What may have been meant is made of the cell.
            problem.suggestion = problem.suggestion.filter(|_| value.is_some());
            let finding = Finding {
                row: Some(record.number),
                line: record.line,
                value,
                problem,
            };
            (self.visit)(&finding).map_err(CheckError::Write)?;
            self.report.add(finding);
        }
        Ok(())
    }
}

/// Returns a cell for the screen.
fn value_of(record: &CsvRecord, columns: &Columns, column: &str) -> Option<String> {
    if SECRET.contains(&column) {
        return None;
    }
    let cell = record.fields.get(columns.position(column)?)?;
    let may_show = !cell.is_empty() && may_show(column, cell, columns);
    may_show.then(|| short(cell))
}

/// Returns a piece of a cell, escaped.
pub(super) fn short(cell: &str) -> String {
    match cell.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", shown(cell.get(..end).unwrap_or_default())),
        None => shown(cell),
    }
}

/// Returns whether [`Between`] tells something of a row.
fn tells_of(index: &Index, row: RowNumber) -> bool {
    let repeated = || {
        let follower = index.followers.binary_search_by_key(&row, |it| it.row);
        let follower = follower.ok().and_then(|at| index.followers.get(at));
        follower.is_some_and(|it| it.previous_pair.is_some())
    };
    let conflict = || index.conflicts.binary_search_by_key(&row, |it| it.row);
    index.differing.binary_search(&row).is_ok() || conflict().is_ok() || repeated()
}

/// What the index knows of rows that have to do with lower ones; all ascending by row.
struct Between<'a> {
    conflicts: Peekable<Iter<'a, ExternalIdConflict>>,
    followers: Peekable<Iter<'a, Follower>>,
    differing: Peekable<Iter<'a, RowNumber>>,
}

impl<'a> Between<'a> {
    fn new(index: &'a Index) -> Self {
        Self {
            conflicts: index.conflicts.iter().peekable(),
            followers: index.followers.iter().peekable(),
            differing: index.differing.iter().peekable(),
        }
    }

    fn judge(&mut self, row: RowNumber, problems: &mut Problems) {
        if let Some(conflict) = next_of(&mut self.conflicts, row, |conflict| conflict.row) {
            let words = format!(
                "row {} has the same external_id with another email; the first row keeps it: \
                 correct one of the two",
                conflict.winner
            );
            problems.tell(EXTERNAL_ID_CONFLICT, "external_id", words);
        }
        let differs = next_of(&mut self.differing, row, |differing| *differing);
        let Some(follower) = next_of(&mut self.followers, row, |follower| follower.row) else {
            return;
        };
        if differs.is_some() {
            let words = format!(
                "row {} has the same email and other user fields, and its values count",
                follower.leader
            );
            problems.tell(USER_FIELDS_DIFFER, "email", words);
        }
        if let Some(lower) = follower.previous_pair {
            let words = format!(
                "row {lower} puts the same person into the same organization; this row adds \
                 nothing, its roles neither"
            );
            problems.tell(MEMBERSHIP_REPEATED, "email", words);
        }
    }
}

/// Returns the entry of `row` if there is one; those of lower rows are stepped over.
fn next_of<'a, T>(
    entries: &mut Peekable<Iter<'a, T>>,
    row: RowNumber,
    row_of: impl Fn(&T) -> RowNumber,
) -> Option<&'a T> {
    while entries.next_if(|entry| row_of(entry) < row).is_some() {}
    entries.next_if(|entry| row_of(entry) == row)
}

#[cfg(test)]
pub(in crate::source) mod tests;
