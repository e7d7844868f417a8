//! Readers that ask for the status while a run settles rows as fast as the disk takes them.

use super::super::BenchError;
use super::super::timing::seconds;
use super::asking;
use super::desk::{Desk, created, snapshot};
use crate::ledger::{Change, Ledger, LedgerError, Request};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a reader waits between two questions: the run and all readers share the cores, and a
/// person who watches looks less often.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests that wait for the writer: enough for it never to idle.
const AHEAD: usize = 16;

/// What came of reading.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Seconds of every status that was answered.
    pub(super) took: Vec<f64>,
    /// Questions to which the library said that the file is busy.
    pub(super) busy: u64,
    /// Questions that failed otherwise.
    pub(super) failed: u64,
    /// Rows settled meanwhile.
    pub(super) settled: u64,
    /// Seconds that all of it took.
    pub(super) total: f64,
}

/// Lets `readers` threads ask `each` times while the writer's thread has no rest.
pub(super) fn read(
    ledger: Ledger,
    desk: &mut Desk,
    readers: u32,
    each: u32,
) -> Result<(Read, Ledger), BenchError> {
    let (writer, hear) = asking::start(ledger, 1)?;
    let hear = hear.first();
    let at_work = AtomicU32::new(readers);
    let before = desk.rows_settled();
    let path = desk.path().to_owned();
    let (done, total) = seconds(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..readers)
                .map(|reader| {
                    let (at_work, path) = (&at_work, &path);
                    // Spread over the pause, as people's terminals are.
                    let begin = PAUSE * reader / readers.max(1);
                    scope.spawn(move || {
                        let read = one(begin, each, &|| Desk::status_of(path));
                        at_work.fetch_sub(1, Ordering::Relaxed);
                        read
                    })
                })
                .collect();
            let mut waiting = 0;
            while at_work.load(Ordering::Relaxed) > 0 || waiting > 0 {
                if at_work.load(Ordering::Relaxed) > 0 && waiting < AHEAD {
                    let changes = more(desk);
                    let sent = writer.send(Request {
                        ticket: 0,
                        changes,
                        alone: false,
                    });
                    sent.map_err(|_| BenchError::Wrong("the ledger's writer is gone".to_owned()))?;
                    waiting += 1;
                    continue;
                }
                let answer = hear.map(std::sync::mpsc::Receiver::recv);
                waiting -= 1;
                if let Some(Ok(Err(why))) = answer {
                    return Err(BenchError::Wrong(why));
                }
            }
            let mut all = Read::default();
            for thread in threads {
                match thread.join() {
                    Ok(read) => all.add(read),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(all)
        })
    })?;
    let read = Read {
        settled: desk.rows_settled() - before,
        total,
        ..done
    };
    Ok((read, asking::finish(writer)?))
}

impl Read {
    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.busy += other.busy;
        self.failed += other.failed;
    }
}

/// What a run commits next: a chunk's outcomes with its counters, or a lease when all are settled.
fn more(desk: &mut Desk) -> Vec<Change> {
    match desk.next_settled(created) {
        Some(settled) => vec![
            settled,
            Change::Run(Box::new(snapshot(desk.rows_settled()))),
        ],
        None => vec![desk.next_lease()],
    }
}

/// One reader.
fn one(begin: Duration, each: u32, status: &dyn Fn() -> Result<(), LedgerError>) -> Read {
    // Nobody sends anything: the receiver is a timer.
    let (_never, timer) = channel::<()>();
    let mut read = Read::default();
    let mut pause = begin;
    for _ in 0..each {
        if timer.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        pause = PAUSE;
        match seconds(status) {
            Ok(((), took)) => read.took.push(took),
            Err(LedgerError::Busy { .. }) => read.busy += 1,
            Err(_) => read.failed += 1,
        }
    }
    read
}
