//! Reading one chunk: its bytes, checked against the index, and its records.

use super::cells::{Cells, KeptCells};
use super::error::{Place, SourceError};
use super::records::{Bookmark, Fields, RECORD_BYTES_MAX, RawRecord, Records, records};
use super::rules::harmless::looks_like_hash;
use super::{Columns, window};
use crate::model::{ChunkSpec, RowNumber};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A chunk is closed before it grows beyond this, whatever its rows: workers hold some in memory.
pub(super) const CHUNK_BYTES_MAX: usize = 8 << 20;

/// The most bytes the index puts in one chunk: its records, and the blank lines after them.
const READ_BYTES_MAX: usize = CHUNK_BYTES_MAX + RECORD_BYTES_MAX;

/// What most records fit in, in bytes.
const RECORD_BYTES_USUAL: usize = 256;

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
    pub fields: KeptCells,
    /// The cell of the file (from 0) that has text after its closing quote.
    pub stray: Option<usize>,
}

impl CsvRecord {
    /// Makes one to be filled.
    pub fn blank(columns: &Columns) -> Self {
        Self {
            number: RowNumber(0),
            line: 0,
            fields: KeptCells::with_capacity(RECORD_BYTES_USUAL, columns.count),
            stray: None,
        }
    }

    /// Puts a record of a chunk, whose bytes are `text`, in place of what it holds; `None` where it
    /// lies in the middle of a character.
    #[inline]
    fn fill(
        &mut self,
        raw: &RawRecord<'_>,
        fields: &Fields,
        text: &str,
        columns: &Columns,
    ) -> Option<()> {
        let text = text.get(raw.offset..raw.offset + raw.bytes.len())?;
        (self.number, self.line) = (raw.number, raw.line);
        self.stray = fields.stray();
        Cells::new(text, fields, columns).fill(&mut self.fields);
        Some(())
    }

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
    let mut chunk = OpenChunk::read(file, spec, columns)?;
    let mut out = Vec::with_capacity(spec.rows as usize);
    let mut open = CsvRecord::blank(columns);
    chunk.read_on(columns, &mut open, |record| {
        out.push(record.clone());
        true
    })?;
    Ok(out)
}

/// Reads a chunk like [`read_chunk`] and returns the records of some of its rows.
pub fn find_records(
    file: &File,
    spec: &ChunkSpec,
    columns: &Columns,
    wanted: impl Fn(RowNumber) -> bool,
) -> Result<Vec<CsvRecord>, SourceError> {
    let mut found = Vec::new();
    each_wanted(
        &read_bytes(file, spec)?,
        spec,
        columns,
        wanted,
        &mut |record| {
            found.push(record.clone());
            Ok::<(), SourceError>(())
        },
    )?;
    Ok(found)
}

/// A chunk whose records are read one by one, when somebody asks for them: until then they take no
/// more memory than in the file. That there are as many as the index says is known when the last
/// one was read: the same bytes are the same records.
pub struct OpenChunk {
    spec: ChunkSpec,
    text: String,
    next: Bookmark,
    /// Records read so far.
    rows: u32,
}

impl fmt::Debug for OpenChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold passwords.
        f.debug_struct("OpenChunk")
            .field("spec", &self.spec)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl OpenChunk {
    /// Reads a chunk with `pread` and checks its hash.
    pub fn read(file: &File, spec: &ChunkSpec, columns: &Columns) -> Result<Self, SourceError> {
        let text = String::from_utf8(read_bytes(file, spec)?).map_err(|_| changed(spec))?;
        Ok(Self {
            text,
            next: Bookmark::new(spec, columns.delimiter),
            spec: spec.clone(),
            rows: 0,
        })
    }

    /// Calls `visit` with one record after another, in place of what `record` holds, as long as it
    /// says to go on; returns whether there are no more. After an error there is nothing to read on.
    #[inline]
    pub fn read_on(
        &mut self,
        columns: &Columns,
        record: &mut CsvRecord,
        mut visit: impl FnMut(&CsvRecord) -> bool,
    ) -> Result<bool, SourceError> {
        let bookmark = std::mem::take(&mut self.next);
        let mut records = Records::resume(self.text.as_bytes(), bookmark);
        while let Some((raw, fields)) = records.next_with_fields() {
            self.rows += 1;
            let filled = record.fill(&raw, fields, &self.text, columns);
            if filled.is_none() || self.rows > self.spec.rows {
                return Err(changed(&self.spec));
            }
            if !visit(record) {
                self.next = records.bookmark();
                return Ok(false);
            }
        }
        if self.rows == self.spec.rows {
            Ok(true)
        } else {
            Err(changed(&self.spec))
        }
    }
}

/// Calls `visit` with the records of a chunk that are wanted, in order; one record's memory serves
/// them all. `bytes` is what [`read_bytes`] returned for `spec`.
pub(super) fn each_wanted<E: From<SourceError>>(
    bytes: &[u8],
    spec: &ChunkSpec,
    columns: &Columns,
    wanted: impl Fn(RowNumber) -> bool,
    visit: &mut dyn FnMut(&CsvRecord) -> Result<(), E>,
) -> Result<(), E> {
    // Once for all of them: the records are slices of it.
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| changed(spec))?;
    let mut all = records(bytes, spec, columns.delimiter);
    let mut open = CsvRecord::blank(columns);
    let mut rows = 0;
    while let Some((raw, fields)) = all.next_with_fields() {
        rows += 1;
        if !wanted(raw.number) {
            continue;
        }
        let filled = open.fill(&raw, fields, text, columns);
        filled.ok_or_else(|| changed(spec))?;
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
