//! A thread that reads granted chunks and holds their rows against the rules, ahead of the one that
//! takes them further: a dry run with workers for half of the processors has nothing else for the
//! others.
//!
//! Rows come back in the order of their grants, many at a time: to wake a thread costs as much as
//! twenty rows. They are given back when they are through, so that memory is freed where it was
//! asked for, and the thread is never far ahead.

use super::granted::Rows;
use super::judge::{JudgedRow, judge_row};
use crate::protocol::Grant;
use crate::source::{Columns, CsvRecord, NewNames, RowRules, SourceError};
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Rows that are worth a wake-up, unless there are no more to be read.
const ROWS_PER_WAKE: usize = 1000;

/// Rows that are read and not through, unless two grants have more: what was read should still be in
/// the processor's caches when it is taken further.
const ROWS_AHEAD: usize = 2000;

/// Bytes of the file that they have, unless one grant has more: rows may be large.
const BYTES_AHEAD: u64 = 512 * 1024;

/// A grant whose rows were read.
pub(super) struct ReadGrant {
    pub(super) grant: Grant,
    pub(super) rows: Vec<JudgedRow>,
    /// The first that is not begun.
    pub(super) at: usize,
}

/// Some grants in order; the error ends the run.
pub(super) type Read = Result<Vec<ReadGrant>, SourceError>;

/// The asking end.
pub(super) struct ReadAhead {
    grants: Sender<Grant>,
    through: Sender<ReadGrant>,
}

impl ReadAhead {
    /// Starts the thread; it ends when this is dropped. What it reads comes out of the receiver.
    pub(super) fn start(
        file: File,
        columns: Columns,
        rules: RowRules,
    ) -> io::Result<(Self, UnboundedReceiver<Read>)> {
        let (grants, granted) = channel();
        let (through, given_back) = channel();
        let (say, read) = unbounded_channel();
        let reader = Reader {
            record: CsvRecord::blank(&columns),
            names: NewNames::default(),
            file,
            columns,
            rules,
            kept: None,
            given_back,
            ahead: Load::default(),
            spare: Vec::new(),
        };
        Builder::new()
            .name("rows-ahead".to_owned())
            .spawn(move || reader.run(&granted, &say))?;
        Ok((Self { grants, through }, read))
    }

    /// Asks for the rows of a grant.
    pub(super) fn ask(&self, grant: Grant) {
        // A thread that is gone has said why.
        drop(self.grants.send(grant));
    }

    /// Gives back a grant whose rows are through.
    pub(super) fn give_back(&self, grant: ReadGrant) {
        drop(self.through.send(grant));
    }
}

/// What the thread works with.
struct Reader {
    file: File,
    columns: Columns,
    rules: RowRules,
    /// Names of organizations that rows gave so far.
    names: NewNames,
    /// The memory of the record that is read.
    record: CsvRecord,
    /// A grant for which there was no room.
    kept: Option<Grant>,
    given_back: Receiver<ReadGrant>,
    /// What was read and is not through.
    ahead: Load,
    /// Memory for rows.
    spare: Vec<Vec<JudgedRow>>,
}

/// How much some grants are.
#[derive(Debug, Default)]
struct Load {
    grants: usize,
    rows: usize,
    bytes: u64,
}

impl Load {
    fn add(&mut self, grant: &Grant) {
        self.grants += 1;
        self.rows += grant.row_count();
        self.bytes += u64::from(grant.chunk.length);
    }

    fn remove(&mut self, grant: &Grant) {
        self.grants = self.grants.saturating_sub(1);
        self.rows = self.rows.saturating_sub(grant.row_count());
        self.bytes = self.bytes.saturating_sub(u64::from(grant.chunk.length));
    }

    /// Returns whether a grant more may be read.
    fn has_room(&self, grant: &Grant) -> bool {
        let few = self.grants < 2 || self.rows + grant.row_count() <= ROWS_AHEAD;
        let small = self.bytes + u64::from(grant.chunk.length) <= BYTES_AHEAD;
        self.grants == 0 || (few && small)
    }
}

impl Reader {
    fn run(mut self, granted: &Receiver<Grant>, say: &UnboundedSender<Read>) {
        while let Some(first) = self.kept.take().or_else(|| granted.recv().ok()) {
            // Everything that was read is said.
            while !self.ahead.has_room(&first) {
                let Ok(through) = self.given_back.recv() else {
                    return;
                };
                self.take_back(through);
            }
            let (read, failed) = self.read_some(first, granted);
            let is_last = failed.is_some();
            let mut said = std::iter::once(Ok(read)).chain(failed.map(Err));
            let is_heard = said.all(|read| say.send(read).is_ok());
            if is_last || !is_heard {
                return;
            }
        }
    }

    /// Reads grants until they are worth a wake-up, or there is none, or no room for it; an error is
    /// the last of it.
    fn read_some(
        &mut self,
        first: Grant,
        granted: &Receiver<Grant>,
    ) -> (Vec<ReadGrant>, Option<SourceError>) {
        let (mut out, mut rows) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(grant) = next {
            rows += grant.row_count();
            match self.read(grant) {
                Ok(read) => out.push(read),
                Err(error) => return (out, Some(error)),
            }
            if rows >= ROWS_PER_WAKE {
                break;
            }
            while let Ok(through) = self.given_back.try_recv() {
                self.take_back(through);
            }
            next = granted.try_recv().ok();
            if next
                .as_ref()
                .is_some_and(|grant| !self.ahead.has_room(grant))
            {
                self.kept = next.take();
            }
        }
        (out, None)
    }

    fn take_back(&mut self, through: ReadGrant) {
        let ReadGrant {
            grant, mut rows, ..
        } = through;
        self.ahead.remove(&grant);
        rows.clear();
        self.spare.push(rows);
    }

    fn read(&mut self, grant: Grant) -> Result<ReadGrant, SourceError> {
        let mut rows = self.spare.pop().unwrap_or_default();
        rows.reserve(grant.row_count());
        let Self {
            columns,
            rules,
            names,
            record,
            ..
        } = self;
        Rows::of(&self.file, columns, &grant)?.read_on(columns, record, |record| {
            rows.push(judge_row(record, columns, rules, Some(names)));
            true
        })?;
        self.ahead.add(&grant);
        Ok(ReadGrant { grant, rows, at: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::granted::tests::{grant, people};
    use super::*;
    use crate::model::{ChunkSpec, OrgMode};

    fn rules() -> RowRules {
        RowRules {
            org_mode: OrgMode::Columns,
            require_membership: false,
        }
    }

    #[test]
    fn rows_come_in_the_order_of_their_grants_whatever_was_given_back() {
        let (file, index) = people();
        let (ahead, mut read) =
            ReadAhead::start(file.into_file(), index.columns.clone(), rules()).unwrap();
        let mut seen = Vec::new();
        for round in 0..3 {
            let grants = [
                grant(1, &index.chunks[1], None),
                grant(2, &index.chunks[0], Some(&[2, 4])),
                grant(3, &index.chunks[2], Some(&[9])),
            ];
            for grant in grants {
                ahead.ask(grant);
            }
            while seen.len() < 7 * (round + 1) {
                for through in read.blocking_recv().unwrap().unwrap() {
                    for judged in &through.rows {
                        let row = judged.row.as_ref().unwrap();
                        assert_eq!(row.number, judged.number);
                        assert_eq!(row.email, format!("person.{}@example.com", judged.number.0));
                        assert!(!judged.is_noticed);
                        seen.push((through.grant.lease.0, judged.number.0));
                    }
                    ahead.give_back(through);
                }
            }
        }
        let once = [(1, 5), (1, 6), (1, 7), (1, 8), (2, 2), (2, 4), (3, 9)];
        assert_eq!(seen, [once; 3].concat());
        drop(ahead);
        assert!(read.blocking_recv().is_none(), "the thread ends");
    }

    #[test]
    fn large_grants_are_read_one_by_one_and_small_ones_up_to_a_bound() {
        let (_file, index) = people();
        let of = |rows, length| {
            grant(
                1,
                &ChunkSpec {
                    length,
                    rows,
                    ..index.chunks[0].clone()
                },
                None,
            )
        };
        for (rows, length, expected) in [
            (1, 8 << 20, 1),
            (250, 34_000, 8),
            (5, 100, 400),
            (10_000, 200_000, 2),
            (250, 200_000, 2),
        ] {
            let grant = of(rows, length);
            let mut ahead = Load::default();
            while ahead.has_room(&grant) {
                ahead.add(&grant);
            }
            assert_eq!(ahead.grants, expected, "{rows} {length}");
            ahead.remove(&grant);
            assert!(ahead.has_room(&grant));
        }
    }

    #[test]
    fn a_file_that_changed_is_said_after_what_was_read_and_nothing_after_it() {
        let (mut file, index) = people();
        let end = index.chunks[1].offset + 3;
        file.as_file_mut().set_len(end).unwrap();
        let (ahead, mut read) =
            ReadAhead::start(file.into_file(), index.columns.clone(), rules()).unwrap();
        for (lease, chunk) in (1..).zip(&index.chunks) {
            ahead.ask(grant(lease, chunk, None));
        }
        let mut rows = 0;
        let error = loop {
            match read.blocking_recv().unwrap() {
                Ok(grants) => rows += grants.iter().map(|read| read.rows.len()).sum::<usize>(),
                Err(error) => break error,
            }
        };
        assert_eq!(rows, 4);
        assert_eq!(error.code(), "file_changed");
        assert!(read.blocking_recv().is_none());
        // Nobody listens any more, and nothing comes of it.
        ahead.ask(grant(3, &index.chunks[2], None));
    }
}
