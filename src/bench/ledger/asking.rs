//! Askers that compete for leases at the writer's thread, and a second process at the lock.

use super::super::BenchError;
use super::super::timing::seconds;
use super::desk::{Desk, lease};
use crate::ledger::{Change, JobLock, Ledger, LockError, Replies, Request, Writer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Seconds from the question until the lease was on the disk.
    pub(super) took: Vec<f64>,
    /// Leases that were refused: two askers got the same.
    pub(super) conflicts: u64,
    /// Seconds for all of them.
    pub(super) total: f64,
}

/// Who asks gets `Ok`, or why not.
type Answer = Result<(), String>;

/// Starts the writer's thread; everybody who asks under the ticket `n` hears at the n-th receiver.
pub(super) fn start(
    ledger: Ledger,
    askers: u32,
) -> Result<(Writer, Vec<Receiver<Answer>>), BenchError> {
    let (tell, hear): (Vec<SyncSender<Answer>>, Vec<_>) =
        (0..askers).map(|_| sync_channel(64)).unzip();
    let on_replies = move |replies: Replies| {
        for (ticket, reply) in replies {
            let asker = usize::try_from(ticket).ok().and_then(|at| tell.get(at));
            let answer = reply.map(drop).map_err(|error| error.to_string());
            // Who does not listen any more has given up, and says why itself.
            drop(asker.map(|asker| asker.send(answer)));
        }
    };
    let writer = Writer::start(ledger, Box::new(on_replies))
        .map_err(BenchError::io("the ledger's writer"))?;
    Ok((writer, hear))
}

/// Ends the writer's thread and gives the ledger back.
pub(super) fn finish(writer: Writer) -> Result<Ledger, BenchError> {
    writer
        .finish()
        .map_err(|error| BenchError::Wrong(error.to_string()))
}

/// Lets `askers` threads ask for `each` leases one after the other, all at the same time.
pub(super) fn compete(
    ledger: Ledger,
    desk: &mut Desk,
    askers: u32,
    each: u32,
) -> Result<(Asked, Ledger), BenchError> {
    let (writer, hear) = start(ledger, askers)?;
    let numbers = AtomicU64::new(desk.leases);
    let chunks = desk.chunks;
    let one = |ticket: u64, hear: &Receiver<Answer>| -> Result<Asked, BenchError> {
        let mut asked = Asked::default();
        for _ in 0..each {
            let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
            let changes = vec![lease(number, chunks)];
            let (answer, took) = seconds(|| ask(&writer, ticket, changes, hear))?;
            asked.took.push(took);
            asked.conflicts += u64::from(answer.is_err());
        }
        Ok(asked)
    };
    let (all, total) = seconds(|| {
        thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = (0_u64..)
                .zip(hear)
                .map(|(ticket, hear)| scope.spawn(move || one(ticket, &hear)))
                .collect();
            let ended = threads.into_iter().map(|thread| match thread.join() {
                Ok(asked) => asked,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect::<Result<Vec<Asked>, BenchError>>()
        })
    })?;
    desk.leases = numbers.into_inner();
    let asked = Asked {
        conflicts: all.iter().map(|asked| asked.conflicts).sum(),
        took: all.into_iter().flat_map(|asked| asked.took).collect(),
        total,
    };
    Ok((asked, finish(writer)?))
}

/// Asks for one commit and waits until it is on the disk.
pub(super) fn ask(
    writer: &Writer,
    ticket: u64,
    changes: Vec<Change>,
    hear: &Receiver<Answer>,
) -> Result<Answer, BenchError> {
    let gone = || BenchError::Wrong("the ledger's writer is gone".to_owned());
    writer
        .send(Request {
            ticket,
            changes,
            alone: false,
        })
        .map_err(|_| gone())?;
    hear.recv().map_err(|_| gone())
}

/// Holds the job lock and times how long others take to hear so; every one must be refused.
pub(super) fn refused(desk: &Desk, times: u32) -> Result<Vec<f64>, BenchError> {
    let wrong = |error: LockError| BenchError::Wrong(error.to_string());
    let _held = JobLock::acquire(desk.folder()).map_err(wrong)?;
    let mut took = Vec::new();
    for _ in 0..times {
        let (second, seconds) =
            seconds(|| Ok::<_, BenchError>(JobLock::try_acquire(desk.folder())))?;
        match second {
            Err(LockError::Held { .. }) => took.push(seconds),
            Err(error) => return Err(wrong(error)),
            Ok(_) => return Err(BenchError::Wrong("two hold one job's lock".to_owned())),
        }
    }
    Ok(took)
}
