//! `--events FILE`: every event of a run as a line of JSON, written by a thread of its own.
//!
//! # Owns
//! The file, the writer's thread, and what happens when the disk is slower than the run.
//! # Never
//! Drops a result or an error, whatever `--events-overflow` says; writes personal data.

mod line;
mod queue;

pub use line::EventLine;
pub use queue::Overflow;

use super::outfile::append_private;
use crate::model::clock::wall_ms;
use crate::model::event::RunEvent;
use queue::{Gone, Keep, Queue};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Events waiting for the disk, at most: about 4 MiB of calls.
pub const QUEUE_EVENTS_MAX: usize = 16_384;

/// Events written between two writes, at most.
pub const BATCH_EVENTS_MAX: usize = 500;

/// Bytes written at once, about.
const WRITE_BYTES: usize = 64 * 1024;

/// How an events file is written.
#[derive(Clone, Copy, Debug)]
pub struct EventOptions {
    /// What happens when the queue is full.
    pub overflow: Overflow,
    /// Events that may wait.
    pub queue: usize,
    /// Events a write may hold.
    pub batch: usize,
}

impl EventOptions {
    /// The usual queue with this policy.
    pub const fn usual(overflow: Overflow) -> Self {
        Self {
            overflow,
            queue: QUEUE_EVENTS_MAX,
            batch: BATCH_EVENTS_MAX,
        }
    }
}

/// The writer of an events file.
#[derive(Debug)]
pub struct EventLog {
    queue: Arc<Queue<(i64, RunEvent)>>,
    gone: bool,
    thread: JoinHandle<io::Result<()>>,
}

impl EventLog {
    /// Opens `path` for appending and starts the writer.
    pub fn start(path: &Path, options: EventOptions) -> io::Result<Self> {
        let file = append_private(path)?;
        let queue = Arc::new(Queue::new(options.queue, options.overflow));
        let events = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let written = write_all(file, &events, options.batch);
                events.writer_is_gone();
                written
            })?;
        Ok(Self {
            queue,
            gone: false,
            thread,
        })
    }

    /// Hands over one event. After a write error the writer is gone and [`EventLog::finish`] says
    /// why.
    pub fn on_event(&mut self, event: &RunEvent) {
        if !self.gone {
            let pushed = self.queue.push((wall_ms(), event.clone()), keep(event));
            self.gone = pushed == Err(Gone);
        }
    }

    /// Waits until everything is written; returns how many events were dropped.
    pub fn finish(self) -> io::Result<u64> {
        self.queue.close();
        match self.thread.join() {
            Ok(written) => written.map(|()| self.queue.dropped()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Results and errors stay; what a later event of its kind makes up for may go.
const fn keep(event: &RunEvent) -> Keep {
    match event {
        RunEvent::Call { .. }
        | RunEvent::Worker { .. }
        | RunEvent::Leased { .. }
        | RunEvent::Progress(_) => Keep::IfRoom,
        RunEvent::Started { .. }
        | RunEvent::Connected
        | RunEvent::Existing(_)
        | RunEvent::WorkerReady { .. }
        | RunEvent::WorkerGone { .. }
        | RunEvent::Settled(_)
        | RunEvent::Organization { .. }
        | RunEvent::Roles { .. }
        | RunEvent::Throttled { .. }
        | RunEvent::Rate { .. }
        | RunEvent::NotConnected { .. }
        | RunEvent::OutageBegan { .. }
        | RunEvent::OutageEnded
        | RunEvent::Draining { .. } => Keep::Always,
    }
}

fn write_all(mut file: File, events: &Queue<(i64, RunEvent)>, batch_max: usize) -> io::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), Vec::with_capacity(2 * WRITE_BYTES));
    while events.take(&mut batch) {
        for part in batch.chunks(batch_max.max(1)) {
            for (ts, event) in part {
                write_line(&mut bytes, *ts, event)?;
                if bytes.len() >= WRITE_BYTES {
                    file.write_all(&bytes)?;
                    bytes.clear();
                }
            }
            // Whoever follows the file sees whole batches.
            file.write_all(&bytes)?;
            bytes.clear();
        }
        batch.clear();
    }
    let dropped = events.dropped();
    if dropped > 0 {
        let ts = wall_ms();
        writeln!(
            file,
            "{{\"ts\":{ts},\"event\":\"dropped\",\"count\":{dropped}}}"
        )?;
    }
    Ok(())
}

fn write_line(out: &mut Vec<u8>, ts: i64, event: &RunEvent) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &EventLine { ts, event })?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::CallRecord;
    use crate::model::{RowError, RowNumber, RowOutcome, Step, WorkerId};
    use serde_json::Value;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn every_event_is_a_line_and_runs_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        for run in 0..2_u64 {
            let mut log = EventLog::start(&path, EventOptions::usual(Overflow::Block)).unwrap();
            for n in 0..5_000 {
                log.on_event(&RunEvent::Throttled {
                    wait_ms: run * 10_000 + n,
                });
            }
            assert_eq!(log.finish().unwrap(), 0);
        }
        let lines = lines(&path);
        let waits = lines.iter().map(|line| line["wait_ms"].as_u64().unwrap());
        assert!(waits.eq((0..5_000).chain(10_000..15_000)));
    }

    #[test]
    fn calls_may_be_dropped_and_results_may_not() {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("events.jsonl");
            let options = EventOptions {
                overflow,
                queue: 4,
                batch: 1,
            };
            let mut log = EventLog::start(&path, options).unwrap();
            let error = || RowError::local("x", "y");
            for n in 1..=3_000 {
                let row = RowNumber(n);
                let outcome = RowOutcome::failed(row, Step::Validation, error());
                log.on_event(&call(row));
                log.on_event(&RunEvent::Settled([outcome].into()));
            }
            let dropped = log.finish().unwrap();
            let lines = lines(&path);
            let of = |name: &str| lines.iter().filter(|line| line["event"] == *name).count();
            assert_eq!(of("settled"), 3_000);
            assert_eq!(of("call") as u64 + dropped, 3_000, "{overflow:?}");
            let told = lines.iter().find(|line| line["event"] == "dropped");
            assert_eq!(
                told.and_then(|line| line["count"].as_u64()).unwrap_or(0),
                dropped
            );
        }
    }

    fn call(row: RowNumber) -> RunEvent {
        let call = CallRecord {
            row: Some(row),
            op: "create_user".to_owned(),
            verdict: "ok".to_owned(),
            status: Some(201),
            request_id: None,
            micros: 5,
        };
        RunEvent::Call {
            worker: WorkerId(1),
            call,
        }
    }

    #[test]
    fn a_full_disk_is_told_at_the_end_and_stops_nothing() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let mut log = EventLog::start(full, EventOptions::usual(Overflow::Block)).unwrap();
        for _ in 0..100_000 {
            log.on_event(&RunEvent::Connected);
        }
        assert!(log.finish().is_err());
    }
}
