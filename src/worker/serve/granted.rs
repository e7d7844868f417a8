//! The rows that were granted and are not started.
//!
//! They wait as the bytes of their chunks: a record is read when its row starts, into memory that
//! the row before it had.

use crate::model::LeaseId;
use crate::protocol::{Grant, RowContext};
use crate::source::{Columns, CsvRecord, OpenChunk, SourceError};
use std::collections::VecDeque;
use std::fs::File;

/// Rows of grants, in order.
#[derive(Debug, Default)]
pub(super) struct GrantedRows {
    grants: VecDeque<(Grant, OpenChunk)>,
    /// Rows of all of them that are not started.
    left: usize,
}

impl GrantedRows {
    /// Reads the chunk of a grant; returns how many rows it brings.
    pub(super) fn add(
        &mut self,
        file: &File,
        columns: &Columns,
        grant: Grant,
    ) -> Result<usize, SourceError> {
        let chunk = OpenChunk::read(file, &grant.chunk, columns)?;
        let rows = grant.len();
        self.left += rows;
        self.grants.push_back((grant, chunk));
        Ok(rows)
    }

    /// Puts the next row's record in place of what `record` holds; returns its lease and what is
    /// known of it.
    pub(super) fn next(
        &mut self,
        columns: &Columns,
        record: &mut CsvRecord,
    ) -> Result<Option<(LeaseId, RowContext)>, SourceError> {
        while let Some((grant, chunk)) = self.grants.front_mut() {
            if !chunk.next(columns, record)? {
                self.grants.pop_front();
            } else if let Some(context) = grant.context(record.number) {
                self.left = self.left.saturating_sub(1);
                return Ok(Some((grant.lease, context)));
            }
        }
        Ok(None)
    }

    /// Returns how many rows there are.
    pub(super) const fn len(&self) -> usize {
        self.left
    }

    /// Forgets them: whoever granted them gives them to another worker.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChunkSpec, Delimiter, OrgMode, RowNumber, ServerMs};
    use crate::source::profile::ProfileChoice;
    use crate::source::{Index, IndexOptions, build};
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    /// Twelve people in chunks of four.
    fn people() -> (NamedTempFile, Index) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(b"email\n").unwrap();
        for n in 1..=12 {
            writeln!(file, "person.{n}@example.com").unwrap();
        }
        let options = IndexOptions {
            chunk_size: 4,
            org_mode: OrgMode::Columns,
            hash_key: 1,
            delimiter: Delimiter::Comma,
            renames: Vec::new(),
            profile: ProfileChoice::Off,
        };
        let index = build(file.path(), &options, &mut |_| {}).unwrap();
        (file, index)
    }

    fn grant(lease: u32, chunk: &ChunkSpec, rows: Option<&[u32]>) -> Grant {
        Grant {
            lease: LeaseId(lease.into()),
            chunk: chunk.clone(),
            rows: rows.map(|rows| rows.iter().copied().map(RowNumber).collect()),
            t_lo: ServerMs(7),
            contexts: Vec::new(),
        }
    }

    #[test]
    fn rows_come_in_the_order_of_their_grants_and_no_others_do() {
        let (file, index) = people();
        let columns = &index.columns;
        let mut queue = GrantedRows::default();
        let mut add = |grant| queue.add(file.as_file(), columns, grant).unwrap();
        assert_eq!(add(grant(1, &index.chunks[1], None)), 4);
        assert_eq!(add(grant(2, &index.chunks[0], Some(&[2, 4]))), 2);
        assert_eq!(add(grant(3, &index.chunks[2], Some(&[9]))), 1);
        let mut record = CsvRecord::blank(columns);
        let mut seen = Vec::new();
        while let Some((lease, context)) = queue.next(columns, &mut record).unwrap() {
            assert_eq!(context.t_lo, ServerMs(7));
            let email = format!("person.{}@example.com", record.number.0);
            assert_eq!(record.fields.get(0), Some(email.as_str()));
            seen.push((lease.0, record.number.0, record.line, queue.len()));
        }
        assert_eq!(
            seen,
            [
                (1, 5, 6, 6),
                (1, 6, 7, 5),
                (1, 7, 8, 4),
                (1, 8, 9, 3),
                (2, 2, 3, 2),
                (2, 4, 5, 1),
                (3, 9, 10, 0)
            ]
        );
    }

    #[test]
    fn a_chunk_that_changed_gives_no_row_and_what_is_forgotten_does_not_come() {
        let (mut file, index) = people();
        let mut queue = GrantedRows::default();
        let columns = &index.columns;
        queue
            .add(file.as_file(), columns, grant(1, &index.chunks[0], None))
            .unwrap();
        file.as_file_mut().set_len(20).unwrap();
        let error = queue.add(file.as_file(), columns, grant(2, &index.chunks[1], None));
        assert_eq!(error.unwrap_err().code(), "file_changed");
        assert_eq!(queue.len(), 4);
        queue.clear();
        assert_eq!(queue.len(), 0);
        let next = queue.next(columns, &mut CsvRecord::blank(columns)).unwrap();
        assert!(next.is_none());
    }
}
