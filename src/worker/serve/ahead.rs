//! A thread that reads granted chunks and holds their rows against the rules, ahead of the one that
//! takes them further: a dry run with fewer workers than processors has nothing else for the others.
//!
//! Rows come back in the order of their grants, many at a time: to wake a thread costs as much as
//! twenty rows. They are given back when they are through, so that memory is freed where it was
//! asked for; without it the thread waits.

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

/// Grants whose rows are read and not through, at most: what was read should still be in the
/// processor's caches when it is taken further.
const GRANTS_AHEAD: usize = 8;

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
    used: Sender<Vec<JudgedRow>>,
}

impl ReadAhead {
    /// Starts the thread; it ends when this is dropped. What it reads comes out of the receiver.
    pub(super) fn start(
        file: File,
        columns: Columns,
        rules: RowRules,
    ) -> io::Result<(Self, UnboundedReceiver<Read>)> {
        let (grants, granted) = channel();
        let (used, spare) = channel();
        for _ in 0..GRANTS_AHEAD {
            drop(used.send(Vec::new()));
        }
        let (say, read) = unbounded_channel();
        let reader = Reader {
            record: CsvRecord::blank(&columns),
            names: NewNames::default(),
            file,
            columns,
            rules,
            kept: None,
            spare,
        };
        Builder::new()
            .name("rows-ahead".to_owned())
            .spawn(move || reader.run(&granted, &say))?;
        Ok((Self { grants, used }, read))
    }

    /// Asks for the rows of a grant.
    pub(super) fn ask(&self, grant: Grant) {
        // A thread that is gone has said why.
        drop(self.grants.send(grant));
    }

    /// Gives back rows that are through.
    pub(super) fn give_back(&self, rows: Vec<JudgedRow>) {
        drop(self.used.send(rows));
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
    /// Memory for rows: what there is of it bounds how far ahead they are read.
    spare: Receiver<Vec<JudgedRow>>,
    kept: Option<Vec<JudgedRow>>,
}

impl Reader {
    fn run(mut self, granted: &Receiver<Grant>, say: &UnboundedSender<Read>) {
        while let Some(read) = self.read(granted) {
            let failed = read.is_err();
            if say.send(read).is_err() || failed {
                return;
            }
        }
    }

    /// Reads grants until they are worth a wake-up, or there is none, or no memory for it: what was
    /// read is said before anything is waited for. `None` when nobody listens any more.
    fn read(&mut self, granted: &Receiver<Grant>) -> Option<Read> {
        let (mut out, mut count) = (Vec::new(), 0);
        let kept = self.kept.take();
        let mut rows = kept.or_else(|| self.spare.recv().ok())?;
        let mut grant = granted.recv().ok()?;
        loop {
            if let Err(error) = self.fill(&mut rows, &grant) {
                return Some(Err(error));
            }
            count += rows.len();
            out.push(ReadGrant { grant, rows, at: 0 });
            if count >= ROWS_PER_WAKE {
                return Some(Ok(out));
            }
            let Ok(spare) = self.spare.try_recv() else {
                return Some(Ok(out));
            };
            let Ok(next) = granted.try_recv() else {
                self.kept = Some(spare);
                return Some(Ok(out));
            };
            (rows, grant) = (spare, next);
        }
    }

    fn fill(&mut self, rows: &mut Vec<JudgedRow>, grant: &Grant) -> Result<(), SourceError> {
        rows.clear();
        rows.reserve(grant.row_count());
        let Self {
            columns,
            rules,
            names,
            record,
            ..
        } = self;
        Rows::of(&self.file, columns, grant)?.read_on(columns, record, |record| {
            if grant.gives(record.number) {
                rows.push(judge_row(record, columns, rules, Some(names)));
            }
            true
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::granted::tests::{grant, people};
    use super::*;
    use crate::model::OrgMode;

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
                for ReadGrant { grant, rows, .. } in read.blocking_recv().unwrap().unwrap() {
                    for judged in &rows {
                        let row = judged.row.as_ref().unwrap();
                        assert_eq!(row.number, judged.number);
                        assert_eq!(row.email, format!("person.{}@example.com", judged.number.0));
                        assert!(!judged.is_noticed);
                        seen.push((grant.lease.0, judged.number.0));
                    }
                    ahead.give_back(rows);
                }
            }
        }
        let once = [(1, 5), (1, 6), (1, 7), (1, 8), (2, 2), (2, 4), (3, 9)];
        assert_eq!(seen, [once; 3].concat());
        drop(ahead);
        assert!(read.blocking_recv().is_none(), "the thread ends");
    }

    #[test]
    fn a_file_that_changed_is_said_and_nothing_after_it() {
        let (mut file, index) = people();
        file.as_file_mut().set_len(20).unwrap();
        let (ahead, mut read) =
            ReadAhead::start(file.into_file(), index.columns.clone(), rules()).unwrap();
        ahead.ask(grant(1, &index.chunks[1], None));
        ahead.ask(grant(2, &index.chunks[0], None));
        let error = read.blocking_recv().unwrap().err().unwrap();
        assert_eq!(error.code(), "file_changed");
        assert!(read.blocking_recv().is_none());
        // Nobody listens any more, and nothing comes of it.
        ahead.ask(grant(3, &index.chunks[2], None));
    }
}
