//! Reading one chunk: its bytes, checked against the index, and its records.

use super::cells::Cells;
use super::error::{Place, SourceError};
use super::records::{RECORD_BYTES_MAX, records};
use super::rules::harmless::looks_like_hash;
use super::{Columns, window};
use crate::model::{ChunkSpec, RowNumber};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A chunk is closed before it grows beyond this, whatever its rows: a worker holds it in memory.
pub(super) const CHUNK_BYTES_MAX: usize = 8 << 20;

/// The most bytes the index puts in one chunk: its records, and the blank lines after them.
const READ_BYTES_MAX: usize = CHUNK_BYTES_MAX + RECORD_BYTES_MAX;

/// Longest reason for leaving a row out that is repeated, in bytes.
const REASON_BYTES_MAX: usize = 200;

/// One record of a chunk, unescaped, and mapped by its profile.
#[derive(Clone, Debug)]
pub struct CsvRecord {
    /// Its number.
    pub number: RowNumber,
    /// The physical line (from 1) on which it starts.
    pub line: u64,
    /// Its fields.
    pub fields: csv::StringRecord,
    /// The cell of the file (from 0) that has text after its closing quote.
    pub stray: Option<usize>,
}

impl CsvRecord {
    /// Returns why its profile leaves it out, if it does.
    pub fn left_out(&self, columns: &Columns) -> Option<&str> {
        reason_of(self.fields.get(columns.skip?)?)
    }
}

/// Returns the reason for leaving a row out that a cell gives.
pub(super) fn reason_of(cell: &str) -> Option<&str> {
    let reason = cell.trim();
    if reason.contains('@') || looks_like_hash(reason) || reason.len() > REASON_BYTES_MAX {
        // No reason of a profile: the record has slipped, and its cells are somebody's.
        return Some("its userferry_skip is not blank");
    }
    (!reason.is_empty()).then_some(reason)
}

/// Reads a chunk with `pread`, checks its hash, and returns its records in order, their cells at
/// the positions of `columns`.
pub fn read_chunk(
    file: &File,
    spec: &ChunkSpec,
    columns: &Columns,
) -> Result<Vec<CsvRecord>, SourceError> {
    let bytes = read_bytes(file, spec)?;
    let mut out = Vec::with_capacity(spec.rows as usize);
    each_record(&bytes, spec, columns, &mut |record| {
        out.push(record.clone());
        Ok::<(), SourceError>(())
    })?;
    Ok(out)
}

/// Reads a chunk like [`read_chunk`] and calls `visit` with every record in order; one record's
/// memory serves them all.
pub fn visit_chunk<E: From<SourceError>>(
    file: &File,
    spec: &ChunkSpec,
    columns: &Columns,
    visit: &mut dyn FnMut(&CsvRecord) -> Result<(), E>,
) -> Result<(), E> {
    each_record(&read_bytes(file, spec)?, spec, columns, visit)
}

/// Calls `visit` with every record of a chunk in order; one record's memory serves them all.
/// `bytes` is what [`read_bytes`] returned for `spec`.
pub(super) fn each_record<E: From<SourceError>>(
    bytes: &[u8],
    spec: &ChunkSpec,
    columns: &Columns,
    visit: &mut dyn FnMut(&CsvRecord) -> Result<(), E>,
) -> Result<(), E> {
    each_wanted(bytes, spec, columns, |_| true, visit)
}

/// Does what [`each_record`] does, for the records that are wanted.
pub(super) fn each_wanted<E: From<SourceError>>(
    bytes: &[u8],
    spec: &ChunkSpec,
    columns: &Columns,
    wanted: impl Fn(RowNumber) -> bool,
    visit: &mut dyn FnMut(&CsvRecord) -> Result<(), E>,
) -> Result<(), E> {
    // Once for all of them: the records are slices of it.
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| changed(spec))?;
    let mut raw = records(bytes, spec, columns.delimiter);
    let mut open = CsvRecord {
        number: spec.first_row,
        line: spec.first_line,
        fields: csv::StringRecord::with_capacity(256, columns.count),
        stray: None,
    };
    let mut rows = 0;
    while let Some((record, fields)) = raw.next_with_fields() {
        rows += 1;
        if !wanted(record.number) {
            continue;
        }
        let range = record.offset..record.offset + record.bytes.len();
        let text = text.get(range).ok_or_else(|| changed(spec))?;
        (open.number, open.line) = (record.number, record.line);
        open.stray = fields.stray();
        Cells::new(text, fields, columns).fill(&mut open.fields);
        visit(&open)?;
    }
    if rows == spec.rows {
        Ok(())
    } else {
        Err(changed(spec).into())
    }
}

/// Reads exactly the bytes of a chunk and checks them against the index.
pub fn read_bytes(file: &File, spec: &ChunkSpec) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    read_bytes_into(file, spec, &mut bytes)?;
    Ok(bytes)
}

/// Does what [`read_bytes`] does, in place of what `bytes` holds.
pub(super) fn read_bytes_into(
    file: &File,
    spec: &ChunkSpec,
    bytes: &mut Vec<u8>,
) -> Result<(), SourceError> {
    let length = spec.length as usize;
    if length > READ_BYTES_MAX {
        return Err(changed(spec));
    }
    bytes.resize(length, 0);
    match file.read_exact_at(bytes, spec.offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed(spec)),
        other => other.map_err(SourceError::Read)?,
    }
    if window::truncated(&blake3::hash(bytes)) == spec.hash {
        Ok(())
    } else {
        Err(changed(spec))
    }
}

/// Reads the header exactly as the file holds it, up to the first byte after its line end.
pub fn read_header(file: &File, columns: &Columns) -> Result<Vec<u8>, SourceError> {
    let length = usize::try_from(columns.header_bytes).unwrap_or(usize::MAX);
    // A byte order mark and blank lines may precede the record.
    if length > 2 * RECORD_BYTES_MAX + BLOCK_SLACK {
        return Err(SourceError::Read(io::ErrorKind::InvalidData.into()));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)
        .map_err(SourceError::Read)?;
    Ok(bytes)
}

/// Room for the byte order mark.
const BLOCK_SLACK: usize = 16;

fn changed(spec: &ChunkSpec) -> SourceError {
    SourceError::Changed {
        chunk: spec.id,
        at: Place {
            row: Some(spec.first_row),
            line: spec.first_line,
            column: None,
            byte: spec.offset,
        },
    }
}
