//! What the rules make of a record, before any step: the part of a row's way that needs nothing of
//! its worker.

use crate::model::{RowError, RowNumber, RowOutcome, Step, plant};
use crate::source::{
    Columns, CsvRecord, NewNames, Problems, RowRules, SourceRow, parse_row_telling,
};
use std::sync::Arc;

/// A record that was held against the rules.
pub(super) struct JudgedRow {
    /// Its number.
    pub(super) number: RowNumber,
    /// The row to be sent, or what became of it.
    pub(super) row: Result<Arc<SourceRow>, Box<RowOutcome>>,
    /// There is something to tell of it.
    pub(super) is_noticed: bool,
}

/// Holds a record against the rules. Only with `names`, those that rows gave so far to
/// organizations, is it said whether there is something to tell of it.
#[inline]
pub(super) fn judge_row(
    record: &CsvRecord,
    columns: &Columns,
    rules: &RowRules,
    names: Option<&mut NewNames>,
) -> JudgedRow {
    let number = record.number;
    let crashes = plant::is(102) && number == RowNumber(7);
    assert!(
        !crashes,
        "planted: {:?}",
        record.fields.iter().collect::<Vec<_>>()
    );
    if let Some(outcome) = left_out(record, columns) {
        return JudgedRow {
            number,
            row: Err(Box::new(outcome)),
            is_noticed: false,
        };
    }
    let mut problems = Problems::default();
    let row = parse_row_telling(record, columns, rules, &mut problems);
    let is_noticed = names.is_some_and(|names| {
        let may_be_first = names.may_be_first(record, columns, &rules.org_mode);
        may_be_first || !problems.is_empty()
    });
    let failed = |error| Box::new(RowOutcome::failed(number, Step::Validation, error));
    JudgedRow {
        number,
        row: row.map_err(failed),
        is_noticed,
    }
}

/// Returns the outcome of a row that its profile leaves out.
fn left_out(record: &CsvRecord, columns: &Columns) -> Option<RowOutcome> {
    let reason = record.left_out(columns)?;
    let CsvRecord { number, line, .. } = record;
    let message = format!("row {number}, line {line}: {reason}");
    Some(RowOutcome::left_out(
        *number,
        RowError::local("dropped_by_profile", message),
    ))
}
