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
}

impl GrantedRows {
    /// Reads the chunk of a grant.
    pub(super) fn add(
        &mut self,
        file: &File,
        columns: &Columns,
        grant: Grant,
    ) -> Result<(), SourceError> {
        let chunk = OpenChunk::read(file, &grant.chunk, columns)?;
        self.grants.push_back((grant, chunk));
        Ok(())
    }

    /// Calls `visit` with the record of one row after another, in place of what `record` holds, its
    /// lease and what is known of it, as long as it says to go on.
    pub(super) fn read_on(
        &mut self,
        columns: &Columns,
        record: &mut CsvRecord,
        mut visit: impl FnMut(LeaseId, &CsvRecord, RowContext) -> bool,
    ) -> Result<(), SourceError> {
        while let Some((grant, chunk)) = self.grants.front_mut() {
            let ended = chunk.read_on(columns, record, |record| {
                let granted = grant.context(record.number);
                granted.is_none_or(|context| visit(grant.lease, record, context))
            })?;
            if !ended {
                return Ok(());
            }
            self.grants.pop_front();
        }
        Ok(())
    }

    /// Forgets them: whoever granted them gives them to another worker.
    pub(super) fn clear(&mut self) {
        self.grants.clear();
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
        for grant in [
            grant(1, &index.chunks[1], None),
            grant(2, &index.chunks[0], Some(&[2, 4])),
            grant(3, &index.chunks[2], Some(&[9])),
        ] {
            queue.add(file.as_file(), columns, grant).unwrap();
        }
        let mut seen = Vec::new();
        // Three at a time, as if others had to be waited for in between.
        for turn in 1..=3 {
            let mut record = CsvRecord::blank(columns);
            let visit = |lease: LeaseId, record: &CsvRecord, context: RowContext| {
                assert_eq!(context.t_lo, ServerMs(7));
                let email = format!("person.{}@example.com", record.number.0);
                assert_eq!(record.fields.get(0), Some(email.as_str()));
                seen.push((lease.0, record.number.0, record.line));
                seen.len() < 3 * turn
            };
            queue.read_on(columns, &mut record, visit).unwrap();
        }
        assert_eq!(
            seen,
            [
                (1, 5, 6),
                (1, 6, 7),
                (1, 7, 8),
                (1, 8, 9),
                (2, 2, 3),
                (2, 4, 5),
                (3, 9, 10)
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
        let mut rows = 0;
        let mut count = |_: LeaseId, _: &CsvRecord, _: RowContext| {
            rows += 1;
            rows < 2
        };
        let mut record = CsvRecord::blank(columns);
        queue.read_on(columns, &mut record, &mut count).unwrap();
        queue.clear();
        queue.read_on(columns, &mut record, &mut count).unwrap();
        assert_eq!(rows, 2);
    }
}
