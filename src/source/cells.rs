//! One record as the index sees it: its cells by the positions of [`Columns`], computed by the
//! profile when there is one.

use super::Columns;
use super::records::{Fields, plain, put_unescaped};
use super::row::trimmed;
use std::borrow::Cow;
use std::ops::Range;

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
    pub(super) fn fill(&self, all: &mut KeptCells) {
        all.clear();
        match &self.columns.plan {
            None => all.keep(self.text, self.fields),
            Some(plan) => {
                for column in 0..plan.len() {
                    all.push(&self.value(column));
                }
            }
        }
    }
}

/// The cells of one record, unescaped, in memory that the next one may have.
#[derive(Clone, Debug, Default)]
pub struct KeptCells {
    /// The record as the file holds it, copied in one piece, and behind it what is in a cell where
    /// that is not a part of it.
    text: String,
    /// Where each cell stands in it.
    places: Vec<Range<usize>>,
}

impl KeptCells {
    /// Has room for as many bytes and cells.
    pub(super) fn with_capacity(bytes: usize, cells: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            places: Vec::with_capacity(cells),
        }
    }

    /// Returns a cell, if there is one at that position (from 0).
    #[inline]
    pub fn get(&self, column: usize) -> Option<&str> {
        self.text.get(self.places.get(column)?.clone())
    }

    /// Returns all cells in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let cell = |place: &Range<usize>| self.text.get(place.clone()).unwrap_or_default();
        self.places.iter().map(cell)
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Returns a number of bytes that no cell is longer than.
    pub(super) fn bytes_max(&self) -> usize {
        self.text.len()
    }

    #[cfg(test)]
    pub(super) fn of(cells: &[String]) -> Self {
        let mut all = Self::default();
        for cell in cells {
            all.push(cell);
        }
        all
    }

    fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    fn push(&mut self, cell: &str) {
        let start = self.text.len();
        self.text.push_str(cell);
        self.places.push(start..self.text.len());
    }

    /// Takes the cells of a record as they are. There is nothing before them.
    fn keep(&mut self, record: &str, fields: &Fields) {
        self.text.push_str(record);
        for range in fields.ranges() {
            let place = if record.as_bytes().get(range.start) == Some(&b'"') {
                self.keep_quoted(record, range)
            } else {
                range
            };
            self.places.push(place);
        }
    }

    /// Returns where the text of a quoted field is.
    fn keep_quoted(&mut self, record: &str, range: Range<usize>) -> Range<usize> {
        let raw = record.get(range.clone()).unwrap_or_default();
        if let Some(text) = plain(raw) {
            let start = range.start + 1;
            return start..start + text.len();
        }
        let start = self.text.len();
        put_unescaped(raw, &mut self.text);
        start..self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::{Scan, unescape};
    use super::*;
    use crate::model::Delimiter;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cells_that_are_kept_are_those_of_the_record(
            records in prop::collection::vec("([ab\u{e9}]{0,9}|\"([a,\n]|\"\"){0,9}\"[a ]{0,2})(,[a\u{e9}]{0,3}|,\"([\u{e9},]|\"\"){0,5}\")?\r?\n", 1..4),
        ) {
            let mut kept = KeptCells::with_capacity(4, 1);
            let mut fields = Fields::new(Delimiter::Comma);
            for record in records {
                prop_assume!(!record.starts_with(['\r', '\n']));
                prop_assert_eq!(fields.scan(record.as_bytes(), true), Scan::Record(record.len()));
                kept.clear();
                kept.keep(&record, &fields);
                let cells: Vec<_> = fields.raw(&record).map(unescape).collect();
                prop_assert_eq!(kept.iter().collect::<Vec<_>>(), cells.clone());
                prop_assert_eq!(kept.count(), cells.len());
                for (column, cell) in cells.iter().enumerate() {
                    prop_assert_eq!(kept.get(column), Some(&**cell));
                    prop_assert!(cell.len() <= kept.bytes_max());
                }
                prop_assert_eq!(kept.get(cells.len()), None);
            }
        }
    }
}
