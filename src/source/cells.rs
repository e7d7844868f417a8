//! One record as the index sees it: its cells by the positions of [`Columns`], computed by the
//! profile when there is one.

use super::Columns;
use super::records::Fields;
use super::row::trimmed;
use std::borrow::Cow;

/// The cells of one record.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    /// The record as the file holds it.
    text: &'a str,
    fields: &'a Fields,
    /// Which column is which.
    pub(super) columns: &'a Columns,
}

impl<'a> Cells<'a> {
    /// Looks at a record.
    pub(super) fn new(text: &'a str, fields: &'a Fields, columns: &'a Columns) -> Self {
        Self {
            text,
            fields,
            columns,
        }
    }

    /// Returns a cell, unescaped; one that is not there is empty.
    #[inline]
    pub(super) fn value(&self, column: usize) -> Cow<'a, str> {
        let Self { text, fields, .. } = *self;
        match &self.columns.plan {
            None => fields.value(text, column),
            Some(plan) => plan.value(column, &move |cell| fields.value(text, cell)),
        }
    }

    /// Returns a cell when its column exists and it is not blank.
    #[inline]
    pub(super) fn some(&self, column: Option<usize>) -> Option<Cow<'a, str>> {
        let value = self.value(column?);
        (!trimmed(&value).is_empty()).then_some(value)
    }

    /// Puts every cell, unescaped and in the order of the columns, in place of what `all` holds.
    pub(super) fn fill(&self, all: &mut csv::StringRecord) {
        all.clear();
        let count = self.columns.plan.as_ref().map_or(0, |plan| plan.len());
        match &self.columns.plan {
            None => {
                for raw in self.fields.raw(self.text) {
                    all.push_field(&super::records::unescape(raw));
                }
            }
            Some(_) => {
                for column in 0..count {
                    all.push_field(&self.value(column));
                }
            }
        }
    }
}
