//! `bench events`: the writer of `--events`, in the way a run uses it.
//!
//! # Never
//! Believes a writer that loses count: every file is read again, and its lines and what was dropped
//! must add up to what was sent, in order.

use super::timing::{of_operations, per_second, remove, seconds, spread_cells};
use super::{BenchError, Budget, Measure, Progress, Section, SuiteReport, Table, Unit};
use crate::model::clock::wall_ms;
use crate::model::event::{CallRecord, RunEvent};
use crate::model::{RowNumber, WorkerId};
use crate::report::{EventLine, EventLog, EventOptions, Overflow, words};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

/// Events of a run unless all sizes are wanted.
const EVENTS_QUICK: u32 = 300_000;

/// Events of a run with `--full`.
const EVENTS_FULL: u32 = 3_000_000;

/// Events of a run that are timed one by one, at most.
const TIMED_MAX: u32 = 300_000;

/// Events between two writes.
const BATCHES: [usize; 5] = [1, 10, 50, 100, 500];

/// Events that may wait where a full queue is wanted.
const SMALL_QUEUE: usize = 64;

const POLICIES: [(Overflow, &str); 3] = [
    (Overflow::Block, "block"),
    (Overflow::DropOldest, "drop-oldest"),
    (Overflow::DropNewest, "drop-newest"),
];

/// Runs the suite.
///
/// # Errors
/// When the file cannot be written, or what is in it does not add up.
pub fn run(budget: &Budget, progress: &mut dyn Progress) -> Result<SuiteReport, BenchError> {
    let bench = Bench {
        budget,
        events: budget.size(EVENTS_QUICK, EVENTS_FULL),
        path: budget.folder.join("events.jsonl"),
    };
    let ways = bench.ways(progress)?;
    let overflow = bench.overflow(progress)?;
    remove(&bench.path)?;
    let advice = advice_of(&ways);
    Ok(SuiteReport {
        suite: "events".to_owned(),
        sections: vec![ways, overflow],
        advice,
    })
}

struct Bench<'a> {
    budget: &'a Budget,
    events: u32,
    path: PathBuf,
}

/// One file written.
#[derive(Debug, Default)]
struct Written {
    /// Seconds from the first event until all of them were in the file.
    total: f64,
    /// Seconds the run was held up by each event.
    held_up: Vec<f64>,
    /// Seconds from the last event to the end of the writer.
    shutdown: f64,
    dropped: u64,
}

impl Bench<'_> {
    /// Every batch size through the queue, and beside it a run that writes every event itself.
    fn ways(&self, progress: &mut dyn Progress) -> Result<Section, BenchError> {
        let mut section = Section {
            title: "events: written".to_owned(),
            about: format!(
                "{} API calls sent as fast as possible. `direct` is a run that writes every line \
                 itself, as a yardstick; `queued` is what --events does: held up is what an event \
                 costs the run, shutdown how long the end waits for the disk.",
                words::count(self.events.into())
            ),
            ..Section::default()
        };
        let mut table = Table::new(&["way", "events", "held up p50", "p99", "max", "shutdown"]);
        let direct = self.repeated("direct", progress, &mut || self.direct())?;
        self.add("direct", &direct, &mut section, &mut table);
        for batch in BATCHES {
            let options = EventOptions {
                batch,
                ..EventOptions::usual(Overflow::Block)
            };
            let name = format!("queued/{batch}");
            let runs = self.repeated(&name, progress, &mut || self.queued(options))?;
            self.add(&name, &runs, &mut section, &mut table);
        }
        section.table = Some(table);
        Ok(section)
    }

    /// A queue far too small: what each policy costs the run and what it drops.
    fn overflow(&self, progress: &mut dyn Progress) -> Result<Section, BenchError> {
        let mut section = Section {
            title: "events: a full queue".to_owned(),
            about: format!(
                "The same events through a queue of {SMALL_QUEUE}. What was dropped is counted \
                 exactly: lines and dropped events add up to what was sent. The order is kept."
            ),
            ..Section::default()
        };
        let mut table = Table::new(&["--events-overflow", "events", "held up p99", "dropped"]);
        for (overflow, word) in POLICIES {
            let options = EventOptions {
                overflow,
                queue: SMALL_QUEUE,
                ..EventOptions::usual(overflow)
            };
            let runs = self.repeated(word, progress, &mut || self.queued(options))?;
            let rate = self.rate(&format!("overflow/{word}"), &runs);
            let lost: Vec<f64> = runs
                .iter()
                .map(|run| run.dropped as f64 / f64::from(self.events))
                .collect();
            let lost =
                Measure::new(format!("overflow/{word}/dropped"), Unit::Share, lost).circumstance();
            let held_up = Self::held_up(&format!("overflow/{word}"), &runs);
            let p99 = held_up
                .as_ref()
                .map(|measure| spread_cells(measure)[2].clone());
            table.row([
                word.to_owned(),
                rate.unit.shown(rate.median()),
                p99.unwrap_or_default(),
                lost.unit.shown(lost.median()),
            ]);
            section
                .measures
                .extend([Some(rate), held_up, Some(lost)].into_iter().flatten());
        }
        section.table = Some(table);
        Ok(section)
    }

    fn repeated(
        &self,
        name: &str,
        progress: &mut dyn Progress,
        write: &mut dyn FnMut() -> Result<Written, BenchError>,
    ) -> Result<Vec<Written>, BenchError> {
        progress.say(&format!("events: {name}"));
        let mut runs = Vec::new();
        self.budget.repeat(|run| {
            remove(&self.path)?;
            let written = write()?;
            self.check(written.dropped)?;
            let total = written.total;
            if run > 0 {
                runs.push(written);
            }
            Ok(total)
        })?;
        Ok(runs)
    }

    fn add(&self, name: &str, runs: &[Written], section: &mut Section, table: &mut Table) {
        let rate = self.rate(name, runs);
        let held_up = Self::held_up(name, runs);
        let shutdown: Vec<f64> = runs.iter().map(|run| run.shutdown).collect();
        let shutdown = Measure::new(format!("{name}/shutdown"), Unit::Seconds, shutdown);
        let cells = held_up.as_ref().map(spread_cells).unwrap_or_default();
        let [p50, _, p99, max, _] = cells;
        table.row([
            name.to_owned(),
            rate.unit.shown(rate.median()),
            p50,
            p99,
            max,
            shutdown.unit.shown(shutdown.median()),
        ]);
        let all = [Some(rate), held_up, Some(shutdown)].into_iter().flatten();
        // Nobody writes that way: it only shows what the queue is for.
        section.measures.extend(all.map(|measure| match name {
            "direct" => measure.circumstance(),
            _ => measure,
        }));
    }

    fn rate(&self, name: &str, runs: &[Written]) -> Measure {
        let rates = runs
            .iter()
            .map(|run| per_second(self.events.into(), run.total))
            .collect();
        Measure::new(name, Unit::EventsPerSecond, rates)
    }

    fn held_up(name: &str, runs: &[Written]) -> Option<Measure> {
        let runs: Vec<Vec<f64>> = runs.iter().map(|run| run.held_up.clone()).collect();
        of_operations(format!("{name}/held-up"), &runs)
    }

    /// Writes every event before the next one, as a run without a queue would.
    fn direct(&self) -> Result<Written, BenchError> {
        let mut file = File::create(&self.path).map_err(self.cannot_write())?;
        let mut line = Vec::new();
        let mut write = |event: &RunEvent| {
            line.clear();
            let event = EventLine {
                ts: wall_ms(),
                event,
            };
            serde_json::to_writer(&mut line, &event).map_err(io::Error::from)?;
            line.push(b'\n');
            file.write_all(&line)
        };
        self.send(&mut write)
    }

    fn queued(&self, options: EventOptions) -> Result<Written, BenchError> {
        let mut log = EventLog::start(&self.path, options).map_err(self.cannot_write())?;
        let sent = self.send(&mut |event| {
            log.on_event(event);
            Ok(())
        })?;
        let (dropped, shutdown) = seconds(|| log.finish()).map_err(self.cannot_write())?;
        Ok(Written {
            total: sent.total + shutdown,
            shutdown,
            dropped,
            ..sent
        })
    }

    /// Sends every event and times each, or every n-th when they are very many.
    fn send(
        &self,
        write: &mut dyn FnMut(&RunEvent) -> io::Result<()>,
    ) -> Result<Written, BenchError> {
        let every = self.events.div_ceil(TIMED_MAX).max(1);
        let mut held_up = Vec::new();
        let ((), total) = seconds(|| {
            for row in 1..=self.events {
                let event = call(row);
                if row.is_multiple_of(every) {
                    held_up.push(seconds(|| write(&event))?.1);
                } else {
                    write(&event)?;
                }
            }
            Ok(())
        })
        .map_err(self.cannot_write())?;
        Ok(Written {
            total,
            held_up,
            ..Written::default()
        })
    }

    /// Reads the file again: every event is there in order, or was counted as dropped.
    fn check(&self, dropped: u64) -> Result<(), BenchError> {
        let file = File::open(&self.path).map_err(self.cannot_write())?;
        let (mut lines, mut last) = (0_u64, 0);
        for line in BufReader::new(file).lines() {
            let line = line.map_err(self.cannot_write())?;
            let Some(row) = row_of(&line) else { continue };
            lines += 1;
            if row <= last {
                let words = format!("event {row} was written after event {last}");
                return Err(BenchError::Wrong(words));
            }
            last = row;
        }
        if lines + dropped == u64::from(self.events) {
            return Ok(());
        }
        Err(BenchError::Wrong(format!(
            "{} events were sent, {lines} written and {dropped} counted as dropped",
            self.events
        )))
    }

    fn cannot_write(&self) -> impl FnOnce(io::Error) -> BenchError + use<> {
        BenchError::io(self.path.display().to_string())
    }
}

/// Returns an event of the kind that there are most of: an API call.
fn call(row: u32) -> RunEvent {
    RunEvent::Call {
        worker: WorkerId(1),
        call: CallRecord {
            row: Some(RowNumber(row)),
            op: "create_user".to_owned(),
            verdict: "ok".to_owned(),
            status: Some(201),
            request_id: Some("req_01KBENCH0000000000000000".to_owned()),
            micros: 41_250,
        },
    }
}

/// Returns the row of a line that is a call.
fn row_of(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("\"row\":")?;
    rest.split(',').next()?.parse().ok()
}

fn advice_of(ways: &Section) -> Vec<String> {
    let of = |name: &str| ways.measures.iter().find(|measure| measure.name == name);
    let usual = format!("queued/{}", EventOptions::usual(Overflow::Block).batch);
    let (Some(rate), Some(held_up)) = (of(&usual), of(&format!("{usual}/held-up"))) else {
        return Vec::new();
    };
    let p99 = held_up.spread.map_or(f64::NAN, |spread| spread.p99);
    vec![format!(
        "--events writes {} here and holds the run up for {} at most in 99 of 100 events: leave it \
         on. `block` never loses one; the others are for a disk that stalls.",
        rate.unit.shown(rate.median()),
        Unit::Seconds.shown(p99)
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    struct Silent;

    impl Progress for Silent {
        fn say(&mut self, _: &str) {}
    }

    fn budget(folder: &Path, rows: u32) -> Budget {
        Budget {
            full: false,
            runs: 2,
            rows: Some(rows),
            folder: folder.to_owned(),
            program: PathBuf::new(),
            sweep: super::super::workers::Sweep::default(),
        }
    }

    #[test]
    fn every_way_writes_every_event_and_the_folder_is_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&budget(folder.path(), 2_000), &mut Silent).unwrap();
        let names: std::collections::BTreeSet<_> = report
            .sections
            .iter()
            .flat_map(|section| &section.measures)
            .map(|measure| measure.name.as_str())
            .collect();
        for name in [
            "direct",
            "queued/1",
            "queued/500/shutdown",
            "overflow/drop-oldest/dropped",
        ] {
            assert!(names.contains(name), "{name} of {names:?}");
        }
        let block = report.sections[1].measures.iter();
        let lost = block
            .clone()
            .find(|it| it.name == "overflow/block/dropped")
            .unwrap();
        assert_eq!(lost.values, [0.0, 0.0], "a run that waits loses nothing");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(report.advice.len(), 1);
    }

    #[test]
    fn a_file_that_does_not_add_up_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let budget = budget(folder.path(), 3);
        let bench = Bench {
            budget: &budget,
            events: 3,
            path: folder.path().join("events.jsonl"),
        };
        let line = |row: u32| {
            let event = call(row);
            serde_json::to_string(&EventLine {
                ts: 1,
                event: &event,
            })
            .unwrap()
                + "\n"
        };
        let holds = |rows: &[u32], dropped| {
            let text: String = rows.iter().map(|row| line(*row)).collect();
            std::fs::write(&bench.path, text).unwrap();
            bench.check(dropped)
        };
        assert!(holds(&[1, 2, 3], 0).is_ok());
        assert!(holds(&[1, 3], 1).is_ok());
        assert!(holds(&[1, 3], 0).is_err(), "one is missing");
        assert!(holds(&[1, 2, 3], 1).is_err(), "one too many");
        assert!(holds(&[2, 1, 3], 0).is_err(), "not in order");
    }
}
