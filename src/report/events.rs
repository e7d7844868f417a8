//! `--events FILE`: every event of a run as a line of JSON, written by a thread of its own.

use super::event_json::event_json;
use super::outfile::append_private;
use crate::model::clock::wall_ms;
use crate::model::event::RunEvent;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

/// Events waiting for the disk. When it is full the run waits: an event is never dropped.
const QUEUE_EVENTS_MAX: usize = 4096;

/// The writer of an events file.
#[derive(Debug)]
pub struct EventLog {
    queue: Option<SyncSender<(i64, RunEvent)>>,
    thread: JoinHandle<io::Result<()>>,
}

impl EventLog {
    /// Opens `path` for appending and starts the writer.
    pub fn start(path: &Path) -> io::Result<Self> {
        let file = append_private(path)?;
        let (queue, events) = sync_channel(QUEUE_EVENTS_MAX);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || write_all(file, &events))?;
        Ok(Self {
            queue: Some(queue),
            thread,
        })
    }

    /// Hands over one event; waits while the queue is full. After a write error the writer is gone
    /// and [`EventLog::finish`] says why.
    pub fn on_event(&mut self, event: &RunEvent) {
        let gone = self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.send((wall_ms(), event.clone())).is_err());
        if gone {
            self.queue = None;
        }
    }

    /// Waits until everything is written.
    pub fn finish(self) -> io::Result<()> {
        drop(self.queue);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn write_all(file: File, events: &Receiver<(i64, RunEvent)>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    while let Ok(first) = events.recv() {
        let mut next = Ok(first);
        while let Ok((ts, event)) = &next {
            write_line(&mut out, *ts, event)?;
            next = events.try_recv();
        }
        // Caught up: whoever follows the file sees everything so far.
        out.flush()?;
        if next.is_err_and(|error| error == TryRecvError::Disconnected) {
            break;
        }
    }
    out.flush()
}

fn write_line(out: &mut impl Write, ts: i64, event: &RunEvent) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &event_json(ts, event))?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_event_is_a_line_and_runs_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        for run in 0..2_u64 {
            let mut log = EventLog::start(&path).unwrap();
            for n in 0..5_000 {
                log.on_event(&RunEvent::Throttled {
                    wait_ms: run * 10_000 + n,
                });
            }
            log.finish().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let waits: Vec<u64> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["wait_ms"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert!(waits.iter().copied().eq((0..5_000).chain(10_000..15_000)));
    }

    #[test]
    fn a_full_disk_is_told_at_the_end_and_stops_nothing() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let mut log = EventLog::start(full).unwrap();
        for _ in 0..10_000 {
            log.on_event(&RunEvent::Connected);
        }
        assert!(log.finish().is_err());
    }
}
