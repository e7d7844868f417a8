//! One record as the index sees it: its cells by the positions of [`Columns`], computed by the
//! profile when there is one.

use super::Columns;
use super::records::{Fields, plain_text, put_unescaped};
use super::row::trimmed;
use std::borrow::Cow;
use std::fmt;
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
        match &self.columns.plan {
            None => all.keep(self.text, self.fields),
            Some(plan) => {
                all.clear();
                for column in 0..plan.len() {
                    all.push(&self.value(column));
                }
            }
        }
    }
}

/// Bytes that stay reserved for the next record.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Cells for which there stays room.
const KEPT_CELLS_MAX: usize = 1024;

/// The cells of one record, unescaped, in memory that the next one may have.
#[derive(Clone)]
pub struct KeptCells {
    /// The record as the file holds it, copied in one piece, and behind it each cell that is not a
    /// part of it; with a profile, the cells one after another.
    text: String,
    /// Where each cell stands in it: records are far shorter than 4 GiB, and may have very many.
    places: Vec<Range<u32>>,
}

impl fmt::Debug for KeptCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold passwords.
        f.debug_struct("KeptCells")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl KeptCells {
    /// Makes one with room for that many bytes and cells.
    pub(super) fn with_capacity(bytes: usize, cells: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            places: Vec::with_capacity(cells),
        }
    }

    /// Returns a cell, if there is one at that position (from 0).
    #[inline]
    pub fn get(&self, column: usize) -> Option<&str> {
        self.at(self.places.get(column)?)
    }

    /// Returns all cells in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let cell = |place| self.at(place).unwrap_or_default();
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
        let mut all = Self::with_capacity(0, 0);
        for cell in cells {
            all.push(cell);
        }
        all
    }

    #[inline]
    fn at(&self, place: &Range<u32>) -> Option<&str> {
        self.text.get(place.start as usize..place.end as usize)
    }

    /// Forgets the cells, and gives back what only a giant record needed.
    fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES_MAX);
        self.places.clear();
        self.places.shrink_to(KEPT_CELLS_MAX);
    }

    fn push(&mut self, cell: &str) {
        let start = self.text.len();
        self.text.push_str(cell);
        self.places.push(place(start..self.text.len()));
    }

    /// Takes all cells of a record, in place of what there is.
    fn keep(&mut self, record: &str, fields: &Fields) {
        self.clear();
        self.text.push_str(record);
        for range in fields.ranges() {
            let range = if record.as_bytes().get(range.start) == Some(&b'"') {
                self.keep_quoted(record, range)
            } else {
                range
            };
            self.places.push(place(range));
        }
    }

    /// Returns where the text of a quoted field is.
    fn keep_quoted(&mut self, record: &str, range: Range<usize>) -> Range<usize> {
        let raw = record.get(range.clone()).unwrap_or_default();
        if let Some(text) = plain_text(raw) {
            let start = range.start + 1;
            return start..start + text.len();
        }
        let start = self.text.len();
        put_unescaped(raw, &mut self.text);
        start..self.text.len()
    }
}

#[inline]
fn place(range: Range<usize>) -> Range<u32> {
    let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
    short(range.start)..short(range.end)
}

#[cfg(test)]
mod tests {
    use super::super::records::{RECORD_BYTES_MAX, Scan, blank_len, unescape};
    use super::*;
    use crate::model::Delimiter;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::fuzz::cases(2000))]

        #[test]
        fn cells_that_are_kept_are_those_of_any_soup(soup in "[ab\",;\t|\r\n\u{e9}]{0,40}") {
            for delimiter in Delimiter::ALL {
                let (columns, mut kept) = (Columns::default(), KeptCells::with_capacity(4, 1));
                let mut fields = Fields::new(delimiter);
                let mut at = blank_len(soup.as_bytes());
                while at < soup.len() {
                    let rest = &soup[at..];
                    // A quote that is never closed ends with the text.
                    let length = match fields.scan(rest.as_bytes(), true) {
                        Scan::Record(length) => length,
                        Scan::More(_) => rest.len(),
                    };
                    let record = &rest[..length];
                    Cells::new(record, &fields, &columns).fill(&mut kept);
                    let cells: Vec<_> = fields.raw(record).map(unescape).collect();
                    prop_assert_eq!(kept.iter().collect::<Vec<_>>(), cells.clone());
                    prop_assert_eq!(kept.count(), cells.len());
                    for (column, cell) in cells.iter().enumerate() {
                        prop_assert_eq!(kept.get(column), Some(&**cell));
                        prop_assert!(cell.len() <= kept.bytes_max());
                    }
                    prop_assert_eq!(kept.get(cells.len()), None);
                    at += length;
                    at += blank_len(&soup.as_bytes()[at..]);
                }
            }
        }
    }

    #[test]
    fn a_giant_record_keeps_its_memory_no_longer_than_it_is_there_and_says_no_cell() {
        let columns = Columns::default();
        let mut kept = KeptCells::with_capacity(16, 2);
        let mut fields = Fields::new(Delimiter::Comma);
        for record in [",".repeat(RECORD_BYTES_MAX), "\"secret\",b".to_owned()] {
            fields.scan(record.as_bytes(), true);
            Cells::new(&record, &fields, &columns).fill(&mut kept);
            assert_eq!(kept.count(), fields.len());
        }
        assert_eq!(kept.get(0), Some("secret"));
        assert!(kept.text.capacity() <= KEPT_BYTES_MAX);
        assert!(kept.places.capacity() <= KEPT_CELLS_MAX);
        let said = format!("{kept:?}");
        assert!(
            said.contains("count: 2") && !said.contains("secret"),
            "{said}"
        );
    }
}
