//! A copy of the file with safe repairs, and nothing else changed.
//!
//! # Owns
//! What a safe repair is: spaces around a cell, the spelling of yes and no, names of columns, the
//! byte order mark, UTF-8. A row means the same before and after, which a property test holds it to.
//! # Never
//! Changes an address, a verification, a password or a cell it does not know; drops or adds a row.

use super::check::{CheckError, Finding, short};
use super::chunk::{read_bytes, read_header};
use super::header::{KNOWN, known};
use super::records::{Fields, blank_lines_len, records, unescape};
use super::rules::catalog::{
    BYTE_ORDER_MARK, CELL_TRIMMED, ENCODING_UTF8, FLAG_SPELLED_OUT, HEADER_NAME, Rule,
};
use super::rules::harmless::may_show;
use super::rules::{Problem, verdict_of};
use super::{Columns, Index, RawRecord};
use crate::model::{Delimiter, Encoding, RowNumber};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};

/// UTF-8's byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Columns whose cells are copied as they are: spaces may belong to a password, and repairs are shown.
const UNTOUCHED: &[&str] = &[
    "password",
    "password_hash",
    "password_hash_type",
    "totp_secret",
];

/// Copies an indexed file to `out` with every safe repair; `visit` gets each of them in order.
pub fn fix(
    file: &File,
    index: &Index,
    out: &mut dyn Write,
    visit: &mut dyn FnMut(&Finding) -> io::Result<()>,
) -> Result<(), CheckError> {
    let columns = &index.columns;
    let mut fixer = Fixer {
        names: names_of(columns),
        columns,
        single: columns.count == 1,
        delimiter: columns.delimiter,
        out,
        visit,
    };
    fixer.header(&read_header(file, columns)?)?;
    for spec in &index.chunks {
        let bytes = read_bytes(file, spec)?;
        let mut copied = 0;
        let mut all = records(&bytes, spec, columns.delimiter);
        while let Some((record, fields)) = all.next_with_fields() {
            fixer.copy(bytes.get(copied..record.offset))?;
            fixer.record(&record, fields)?;
            copied = record.offset + record.bytes.len();
        }
        fixer.copy(bytes.get(copied..))?;
    }
    Ok(())
}

/// Returns the finding that a source in another encoding is written as UTF-8.
pub fn rewritten(encoding: Encoding) -> Option<Finding> {
    (encoding != Encoding::Utf8).then(|| Finding {
        row: None,
        line: 1,
        problem: Problem {
            rule: ENCODING_UTF8,
            column: "all".into(),
            words: format!("the text is written as UTF-8; it was {encoding}"),
            suggestion: None,
        },
        value: None,
    })
}

/// Returns the known name of every position.
fn names_of(columns: &Columns) -> Vec<Option<&'static str>> {
    let mut names = vec![None; columns.count];
    for name in KNOWN {
        if let Some(slot) = columns.position(name).and_then(|at| names.get_mut(at)) {
            *slot = Some(*name);
        }
    }
    names
}

struct Fixer<'a> {
    columns: &'a Columns,
    names: Vec<Option<&'static str>>,
    /// A record of one blank cell would be a blank line, and no record any more.
    single: bool,
    delimiter: Delimiter,
    out: &'a mut dyn Write,
    visit: &'a mut dyn FnMut(&Finding) -> io::Result<()>,
}

/// Returns the new text of a cell, if it gets one, after telling so.
type NewCell<'c> =
    dyn FnMut(&mut Fixer<'_>, usize, &str) -> Result<Option<Cow<'static, str>>, CheckError> + 'c;

/// A repair: the rule it goes by, and the cell's new text.
type Repair<'a> = (Rule, Cow<'a, str>);

/// What a repair made of a cell that may be shown, both shortened and escaped.
struct Change {
    before: String,
    after: String,
}

impl Change {
    fn of(before: &str, after: &str) -> Self {
        Self {
            before: short(before),
            after: short(after),
        }
    }
}

impl Fixer<'_> {
    fn copy(&mut self, bytes: Option<&[u8]>) -> Result<(), CheckError> {
        let bytes = bytes.unwrap_or_default();
        self.out.write_all(bytes).map_err(CheckError::Write)
    }

    /// Copies the header record and what precedes it.
    fn header(&mut self, bytes: &[u8]) -> Result<(), CheckError> {
        let mut rest = bytes;
        // A second mark would become the first one, and be lost to the next reader.
        if let Some(after) = bytes
            .strip_prefix(MARK)
            .filter(|after| !after.starts_with(MARK))
        {
            rest = after;
            let words = "the byte order mark was removed".to_owned();
            self.tell((None, 1), "email", BYTE_ORDER_MARK, words, None)?;
        }
        let blank = blank_lines_len(rest, self.delimiter);
        self.copy(rest.get(..blank))?;
        let record = rest.get(blank..).unwrap_or_default();
        let mut fields = Fields::new(self.delimiter);
        fields.scan(record, true);
        let line = 1 + super::records::lines_in(rest.get(..blank).unwrap_or_default());
        self.each_cell(record, &fields, &mut |fixer, at, raw| {
            let value = unescape(raw);
            if let Some(taken) = known(&value).filter(|_| fixer.name(at).is_none()) {
                let name = format!("unused_{taken}");
                let words = format!("another column is {taken}, so that this one is called {name}");
                let shown = Some(Change::of(&value, &name));
                fixer.tell((None, line), taken, HEADER_NAME, words, shown)?;
                return Ok(Some(Cow::Owned(name)));
            }
            let Some(name) = fixer.name(at).filter(|name| *name != value) else {
                return Ok(None);
            };
            let words = format!("the column is called {name}");
            let shown = Some(Change::of(&value, name));
            fixer.tell((None, line), name, HEADER_NAME, words, shown)?;
            Ok(Some(Cow::Borrowed(name)))
        })
    }

    fn record(&mut self, record: &RawRecord<'_>, fields: &Fields) -> Result<(), CheckError> {
        self.each_cell(record.bytes, fields, &mut |fixer, at, raw| {
            let Some(name) = fixer.name(at).filter(|name| !UNTOUCHED.contains(name)) else {
                return Ok(None);
            };
            let value = unescape(raw);
            let Some((rule, new)) = repair(name, &value) else {
                return Ok(None);
            };
            let words = rule.title.to_owned();
            let place = (Some(record.number), record.line);
            let may_show = may_show(name, &value, fixer.columns);
            let shown = may_show.then(|| Change::of(&value, &new));
            fixer.tell(place, name, rule, words, shown)?;
            Ok(Some(Cow::Owned(new.into_owned())))
        })
    }

    /// Writes a record; `cell` returns the new text of a cell that changes.
    fn each_cell(
        &mut self,
        record: &[u8],
        fields: &Fields,
        cell: &mut NewCell<'_>,
    ) -> Result<(), CheckError> {
        // The index checked this very text before.
        let text = std::str::from_utf8(record).unwrap_or_default();
        let mut copied = 0;
        for at in 0..fields.len() {
            let Some((range, raw)) = fields.range(at).and_then(|range| {
                let raw = text.get(range.clone())?;
                Some((range, raw))
            }) else {
                continue;
            };
            if let Some(new) = cell(self, at, raw)? {
                self.copy(record.get(copied..range.start))?;
                let quoted = raw.starts_with('"') || (self.single && new.is_empty());
                let written = as_cell(&new, quoted);
                self.copy(Some(written.as_bytes()))?;
                copied = range.end;
            }
        }
        self.copy(record.get(copied..))
    }

    fn name(&self, at: usize) -> Option<&'static str> {
        self.names.get(at).copied().flatten()
    }

    fn tell(
        &mut self,
        (row, line): (Option<RowNumber>, u64),
        column: &'static str,
        rule: Rule,
        words: String,
        change: Option<Change>,
    ) -> Result<(), CheckError> {
        let (value, suggestion) = change.map(|change| (change.before, change.after)).unzip();
        let problem = Problem {
            rule,
            column: column.into(),
            words,
            suggestion,
        };
        let finding = Finding {
            row,
            line,
            problem,
            value,
        };
        (self.visit)(&finding).map_err(CheckError::Write)
    }
}

/// Returns how a cell is repaired, if it is.
fn repair<'a>(name: &str, value: &'a str) -> Option<Repair<'a>> {
    let trimmed = value.trim();
    if name == "email_verified"
        && let Some(verified) = verdict_of(trimmed)
    {
        let word = if verified { "true" } else { "false" };
        return (word != value).then_some((FLAG_SPELLED_OUT, Cow::Borrowed(word)));
    }
    (trimmed.len() < value.len()).then_some((CELL_TRIMMED, Cow::Borrowed(trimmed)))
}

/// Writes a cell, in quotes when it had them or needs them.
fn as_cell(value: &str, quoted: bool) -> Cow<'_, str> {
    let needs = |c: char| matches!(c, ',' | ';' | '\t' | '|' | '"' | '\n' | '\r');
    if quoted || value.contains(needs) {
        Cow::Owned(format!("\"{}\"", value.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests;
