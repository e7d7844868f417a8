//! `bench ledger`: the job's memory as a run uses it, at three depths: the real file, every commit
//! on the disk.
//!
//! # Never
//! Writes the ledger past its one writer. Who competes for leases asks the writer's thread, as
//! workers do through the coordinator; a second process is refused by the job lock, and that is
//! what is measured of it.

mod asking;
mod crowd;
mod desk;
mod reading;

use super::timing::{of_operations, seconds, spread_cells};
use super::{BenchError, Budget, Measure, Progress, Section, SuiteReport, Table, Unit};
use crate::ledger::{Change, Holder, Ledger};
use crate::model::RowOutcome;
use crate::report::words;
use desk::Desk;
pub(super) use desk::created;

/// Chunks of a job at each depth.
const DEPTHS: [u32; 3] = [100, 10_000, 1_000_000];

/// Rows of a chunk: the usual `--chunk-size`.
const CHUNK_ROWS: u32 = 250;

/// A job of more chunks than this is made once.
const CHUNKS_OFTEN: u32 = 100_000;

/// Operations of one kind in a run.
const OPERATIONS_QUICK: u32 = 40;
const OPERATIONS_FULL: u32 = 400;

/// Runs the suite.
///
/// # Errors
/// When a ledger cannot be made, read or written, or does not add up at the end.
pub fn run(budget: &Budget, progress: &mut dyn Progress) -> Result<SuiteReport, BenchError> {
    let depths = budget.rows.map_or(DEPTHS.to_vec(), |rows| vec![rows]);
    let mut sections = Vec::new();
    let mut begin = Vec::new();
    for (at, chunks) in depths.iter().enumerate() {
        let mut bench = Bench {
            budget,
            progress: &mut *progress,
            desk: Desk::new(&budget.folder, *chunks, CHUNK_ROWS)?,
            begin: Vec::new(),
        };
        let (section, mut ledger) = bench.operations()?;
        sections.push(section);
        if at + 1 == depths.len() {
            let askers;
            let readers;
            (askers, ledger) = bench.askers(ledger)?;
            (readers, ledger) = bench.readers(ledger)?;
            sections.extend([askers, readers]);
        }
        bench.end(ledger)?;
        begin.append(&mut bench.begin);
    }
    sections.insert(0, beginning(begin));
    let advice = advice_of(&sections);
    Ok(SuiteReport {
        suite: "ledger".to_owned(),
        sections,
        advice,
    })
}

struct Bench<'a> {
    budget: &'a Budget,
    progress: &'a mut dyn Progress,
    desk: Desk,
    /// What a job of this depth costs before its first row and after a crash.
    begin: Vec<Measure>,
}

impl Bench<'_> {
    fn say(&mut self, what: &str) {
        let chunks = words::counted(self.desk.chunks.into(), "chunk");
        self.progress.say(&format!("ledger: {chunks}: {what}"));
    }

    fn name(&self, what: &str) -> String {
        format!("{what}/{}", self.desk.chunks)
    }

    fn wanted(&self) -> u32 {
        if self.budget.full {
            OPERATIONS_FULL
        } else {
            OPERATIONS_QUICK
        }
    }

    /// Measures each operation by itself, one after the other.
    fn operations(&mut self) -> Result<(Section, Ledger), BenchError> {
        let mut ledger = self.create()?;
        let leases;
        (leases, ledger) = self.leases(ledger)?;
        let measures = vec![
            leases,
            self.commits(&mut ledger, "settle", created)?,
            self.commits(&mut ledger, "fail", desk::failed)?,
            self.statuses()?,
        ];
        let section = Section {
            title: format!(
                "ledger: {}",
                words::counted(self.desk.chunks.into(), "chunk")
            ),
            about: format!(
                "One at a time, each on the disk before the next begins. lease: asked of the \
                 writer's thread, until it is granted. settle, fail: {CHUNK_ROWS} rows in one \
                 commit. status: what `userferry status` reads."
            ),
            table: Some(operations_table(&measures)),
            measures: measures.into_iter().flatten().collect(),
            charts: Vec::new(),
        };
        Ok((section, ledger))
    }

    /// Makes the ledger, once for every run unless that takes long, and opens it.
    fn create(&mut self) -> Result<Ledger, BenchError> {
        self.say("making the ledger");
        let chunks = f64::from(self.desk.chunks);
        let runs = if self.desk.chunks > CHUNKS_OFTEN {
            vec![self.desk.create()?]
        } else {
            self.budget.repeat(|_| self.desk.create())?
        };
        let each = runs.iter().map(|took| took / chunks).collect();
        self.begin.push(
            Measure::new(self.name("enqueue"), Unit::Seconds, each)
                .note("a chunk's share of the one commit that enters all of them"),
        );
        self.begin
            .push(Measure::new(self.name("create"), Unit::Seconds, runs));
        let (mut ledger, took) = seconds(|| Ledger::open(self.desk.path()))?;
        self.begin.push(
            Measure::new(self.name("open"), Unit::Seconds, vec![took])
                .note("reads the whole file to see whether it can be trusted"),
        );
        ledger.begin_run(&Holder::current())?;
        Ok(ledger)
    }

    fn leases(&mut self, ledger: Ledger) -> Result<(Option<Measure>, Ledger), BenchError> {
        self.say("leases");
        let each = self.wanted();
        let (mut ledger, mut runs) = (ledger, Vec::new());
        for run in 0..=self.budget.runs.max(1) {
            let asked;
            (asked, ledger) = asking::compete(ledger, &mut self.desk, 1, each)?;
            if run > 0 {
                runs.push(asked.took);
            }
        }
        Ok((of_operations(self.name("lease"), &runs), ledger))
    }

    /// Settles chunks, a commit each.
    fn commits(
        &mut self,
        ledger: &mut Ledger,
        what: &str,
        one: fn(u32) -> RowOutcome,
    ) -> Result<Option<Measure>, BenchError> {
        self.say(what);
        let each = self.desk.share(self.budget, 4, self.wanted());
        let mut runs = Vec::new();
        for run in 0..=self.budget.runs.max(1) {
            let mut took = Vec::new();
            for _ in 0..each {
                let Some(change) = self.desk.next_settled(one) else {
                    break;
                };
                let settled = self.desk.rows_settled();
                let changes = [change, Change::Run(Box::new(desk::snapshot(settled)))];
                took.push(seconds(|| ledger.commit(&changes))?.1);
            }
            if run > 0 {
                runs.push(took);
            }
        }
        Ok(of_operations(self.name(what), &runs))
    }

    fn statuses(&mut self) -> Result<Option<Measure>, BenchError> {
        self.say("status");
        let mut runs = Vec::new();
        for run in 0..=self.budget.runs.max(1) {
            let mut took = Vec::new();
            for _ in 0..self.wanted() {
                took.push(seconds(|| Desk::status_of(self.desk.path()))?.1);
            }
            if run > 0 {
                runs.push(took);
            }
        }
        Ok(of_operations(self.name("status"), &runs))
    }

    /// Loads the job as a resume does, and holds the ledger against what was put into it.
    fn end(&mut self, mut ledger: Ledger) -> Result<(), BenchError> {
        self.say("loading the job");
        let (image, took) = seconds(|| ledger.load())?;
        self.begin.push(
            Measure::new(self.name("load"), Unit::Seconds, vec![took])
                .note("everything a resume needs, after the work above"),
        );
        ledger.verify_totals()?;
        let settled = ledger.totals().rows.settled();
        if (settled, image.last_lease.0) != (self.desk.rows_settled(), self.desk.leases) {
            return Err(BenchError::Wrong(format!(
                "{} rows were settled and {} leases given, and the ledger holds {settled} and {}",
                self.desk.rows_settled(),
                self.desk.leases,
                image.last_lease
            )));
        }
        drop(ledger);
        let (reopened, took) = seconds(|| Ledger::open(self.desk.path()))?;
        drop(reopened);
        self.begin.push(
            Measure::new(self.name("reopen"), Unit::Seconds, vec![took]).note(
                "reads the whole file to see whether it can be trusted, after the work above",
            ),
        );
        self.desk.remove()
    }
}

fn operations_table(measures: &[Option<Measure>]) -> Table {
    let mut table = Table::new(&["operation", "p50", "p95", "p99", "max", "times"]);
    for measure in measures.iter().flatten() {
        let what = measure.name.split('/').next().unwrap_or_default();
        table.row(std::iter::once(what.to_owned()).chain(spread_cells(measure)));
    }
    table
}

/// What a job costs before its first row.
fn beginning(measures: Vec<Measure>) -> Section {
    let mut table = Table::new(&["before the first row", "time"]);
    for measure in &measures {
        table.row([measure.name.clone(), measure.unit.shown(measure.median())]);
    }
    Section {
        title: "ledger: before the first row".to_owned(),
        about: "By number of chunks. create: all chunks entered in one commit, enqueue: one chunk's \
                share of it. A resume opens the ledger, which reads every page of it, and loads the \
                job. The long ones are measured once."
            .to_owned(),
        measures,
        table: Some(table),
        charts: Vec::new(),
    }
}

fn advice_of(sections: &[Section]) -> Vec<String> {
    let measures = || sections.iter().flat_map(|section| &section.measures);
    let Some(lease) = measures().rfind(|measure| measure.name.starts_with("lease/")) else {
        return Vec::new();
    };
    let p99 = lease.spread.map_or(f64::NAN, |spread| spread.p99);
    vec![format!(
        "A lease waits {} for the disk in 99 of 100 cases ({}), once for a whole chunk: the ledger \
         holds back an import only if that comes near a second. Keep --checkpoints on a local disk, \
         and watch with as many `status` as you like: they do not slow the run.",
        Unit::Seconds.shown(p99),
        lease.name
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    struct Silent;

    impl Progress for Silent {
        fn say(&mut self, _: &str) {}
    }

    fn budget(folder: &Path, chunks: u32) -> Budget {
        Budget {
            full: false,
            runs: 1,
            rows: Some(chunks),
            folder: folder.to_owned(),
            program: PathBuf::new(),
            sweep: super::super::workers::Sweep::default(),
        }
    }

    #[test]
    fn nothing_is_lost_given_twice_or_busy() {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&budget(folder.path(), 60), &mut Silent).unwrap();
        let measures: Vec<_> = report.sections.iter().flat_map(|it| &it.measures).collect();
        let names: std::collections::BTreeSet<_> = measures.iter().map(|it| &it.name).collect();
        assert_eq!(
            names.len(),
            measures.len(),
            "every measure has a name of its own"
        );
        for (end, value) in [("/conflicts", 0.0), ("/busy", 0.0), ("/answered", 1.0)] {
            let of: Vec<_> = measures
                .iter()
                .filter(|it| it.name.ends_with(end))
                .collect();
            assert_eq!(of.len(), 3, "{end}");
            let all = of.iter().flat_map(|it| &it.values);
            assert!(
                all.clone().all(|it| (it - value).abs() < f64::EPSILON),
                "{end}"
            );
        }
        for name in [
            "enqueue/60",
            "create/60",
            "open/60",
            "load/60",
            "lease/60",
            "settle/60",
        ] {
            assert!(names.contains(&name.to_owned()), "{name} of {names:?}");
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "the lock file only: {left:?}");
    }

    #[test]
    fn a_ledger_that_does_not_add_up_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let budget = budget(folder.path(), 3);
        let mut bench = Bench {
            budget: &budget,
            progress: &mut Silent,
            desk: Desk::new(folder.path(), 3, 5).unwrap(),
            begin: Vec::new(),
        };
        let ledger = bench.create().unwrap();
        // A lease that was promised and never committed.
        bench.desk.next_lease();
        assert!(matches!(bench.end(ledger), Err(BenchError::Wrong(_))));
    }

    #[test]
    fn a_lease_given_twice_is_a_conflict() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(folder.path(), 3, 5).unwrap();
        desk.create().unwrap();
        let ledger = Ledger::open(desk.path()).unwrap();
        let (asked, ledger) = asking::compete(ledger, &mut desk, 2, 3).unwrap();
        assert_eq!((asked.conflicts, asked.took.len()), (0, 6));
        // The same numbers again.
        desk.leases = 0;
        let (asked, _ledger) = asking::compete(ledger, &mut desk, 1, 1).unwrap();
        assert_eq!(asked.conflicts, 1);
    }
}
