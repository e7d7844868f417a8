//! The rows that were granted and are not started.
//!
//! Whole chunks wait as their bytes: a record is read when its row starts, into memory that the row
//! before it had. Of a chunk of which only some rows are granted, their records wait: one row would
//! hold the bytes of a thousand.

use crate::model::LeaseId;
use crate::protocol::{Grant, RowContext};
use crate::source::{Columns, CsvRecord, OpenChunk, SourceError, find_records};
use std::collections::VecDeque;
use std::fs::File;
use std::vec;

/// Rows of grants, in order.
#[derive(Default)]
pub(super) struct GrantedRows {
    grants: VecDeque<(Grant, Rows)>,
}

/// Where the rows of a grant come from.
pub(super) enum Rows {
    Whole(OpenChunk),
    Some(vec::IntoIter<CsvRecord>),
}

impl Rows {
    /// Reads the chunk of a grant.
    pub(super) fn of(file: &File, columns: &Columns, grant: &Grant) -> Result<Self, SourceError> {
        let chunk = &grant.chunk;
        Ok(match &grant.rows {
            None => Self::Whole(OpenChunk::read(file, chunk, columns)?),
            Some(rows) => {
                let wanted = |row| rows.binary_search(&row).is_ok();
                Self::Some(find_records(file, chunk, columns, wanted)?.into_iter())
            }
        })
    }

    /// Does what [`OpenChunk::read_on`] does.
    #[inline]
    pub(super) fn read_on(
        &mut self,
        columns: &Columns,
        record: &mut CsvRecord,
        mut visit: impl FnMut(&CsvRecord) -> bool,
    ) -> Result<bool, SourceError> {
        match self {
            Self::Whole(chunk) => chunk.read_on(columns, record, visit),
            Self::Some(records) => Ok(records.all(|record| visit(&record))),
        }
    }
}

impl GrantedRows {
    /// Reads the chunk of a grant.
    pub(super) fn add(
        &mut self,
        file: &File,
        columns: &Columns,
        grant: Grant,
    ) -> Result<(), SourceError> {
        let rows = Rows::of(file, columns, &grant)?;
        self.grants.push_back((grant, rows));
        Ok(())
    }

    /// Calls `visit` with the record of one row after another, in place of what `record` holds, its
    /// lease and what is known of it, as long as it says to go on. After an error there are none.
    pub(super) fn read_on(
        &mut self,
        columns: &Columns,
        record: &mut CsvRecord,
        mut visit: impl FnMut(LeaseId, &CsvRecord, RowContext) -> bool,
    ) -> Result<(), SourceError> {
        while let Some((grant, rows)) = self.grants.front_mut() {
            let read = rows.read_on(columns, record, |record| {
                let granted = grant.context(record.number);
                granted.is_none_or(|context| visit(grant.lease, record, context))
            });
            match read {
                Ok(true) => drop(self.grants.pop_front()),
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Forgets them: whoever granted them gives them to another worker.
    pub(super) fn clear(&mut self) {
        self.grants.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{ChunkSpec, Delimiter, OrgMode, RowNumber, ServerMs};
    use crate::source::profile::ProfileChoice;
    use crate::source::{Index, IndexOptions, build};
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    /// Twelve people in chunks of four.
    pub(in crate::worker::serve) fn people() -> (NamedTempFile, Index) {
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

    pub(in crate::worker::serve) fn grant(
        lease: u32,
        chunk: &ChunkSpec,
        rows: Option<&[u32]>,
    ) -> Grant {
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
    fn a_chunk_with_other_records_than_the_index_says_gives_none_after_them() {
        let (file, index) = people();
        let columns = &index.columns;
        for rows in [3, 5] {
            let spec = ChunkSpec {
                rows,
                ..index.chunks[0].clone()
            };
            let mut queue = GrantedRows::default();
            queue
                .add(file.as_file(), columns, grant(1, &spec, None))
                .unwrap();
            let mut record = CsvRecord::blank(columns);
            let error = queue.read_on(columns, &mut record, |_, _, _| true);
            assert_eq!(error.unwrap_err().code(), "file_changed", "{rows}");
            let next = queue.read_on(columns, &mut record, |_, _, _| panic!("a row"));
            next.unwrap();
        }
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
