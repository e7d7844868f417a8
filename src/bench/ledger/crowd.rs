//! Many at one ledger: askers that compete for leases, readers while a run is at work.

use super::super::timing::{of_operations, per_second, spread_cells};
use super::super::{BenchError, Better, Measure, Section, Table, Unit};
use super::{Bench, asking, reading};
use crate::ledger::Ledger;
use crate::report::words;

/// Askers that compete for leases.
const ASKERS_QUICK: &[u32] = &[1, 4, 20];
const ASKERS_FULL: &[u32] = &[1, 2, 5, 10, 20];

/// Readers that ask for the status.
const READERS: &[u32] = &[10, 50, 100];

/// How often the lock of a held job is tried.
const REFUSALS: u32 = 200;

impl Bench<'_> {
    /// Measures askers that compete for leases.
    pub(super) fn askers(&mut self, mut ledger: Ledger) -> Result<(Section, Ledger), BenchError> {
        let counts = if self.budget.full {
            ASKERS_FULL
        } else {
            ASKERS_QUICK
        };
        let mut section = Section {
            title: "ledger: askers that compete".to_owned(),
            about: "Threads that ask the one writer for leases at the same time, as workers do \
                    through the coordinator: who waits shares the next commit. A conflict would be \
                    one lease given out twice. A second process is refused by the job lock before \
                    it opens the ledger."
                .to_owned(),
            ..Section::default()
        };
        let mut table = Table::new(&["askers", "leases", "p50", "p95", "p99", "conflicts"]);
        for &askers in counts {
            self.say(&words::counted(askers.into(), "asker"));
            let each = (self.wanted() * 4).div_ceil(askers);
            let (mut runs, mut rates, mut conflicts) = (Vec::new(), Vec::new(), 0);
            for run in 0..=self.budget.runs.max(1) {
                let asked;
                (asked, ledger) = asking::compete(ledger, &mut self.desk, askers, each)?;
                conflicts += asked.conflicts;
                if run > 0 {
                    rates.push(per_second(asked.took.len() as f64, asked.total));
                    runs.push(asked.took);
                }
            }
            let name = format!("askers/{askers}");
            let rate = Measure::new(format!("{name}/rate"), Unit::OperationsPerSecond, rates);
            let took = of_operations(&name, &runs);
            let [p50, p95, p99, ..] = took.as_ref().map(spread_cells).unwrap_or_default();
            let conflicts = Measure::new(
                format!("{name}/conflicts"),
                Unit::Count,
                vec![conflicts as f64],
            );
            table.row([
                askers.to_string(),
                rate.unit.shown(rate.median()),
                p50,
                p95,
                p99,
                conflicts.unit.shown(conflicts.median()),
            ]);
            let all = [took, Some(rate), Some(conflicts)];
            section.measures.extend(all.into_iter().flatten());
        }
        let refused = asking::refused(&self.desk, REFUSALS)?;
        if let Some(refused) = of_operations("lock/refused", &[refused]) {
            let [p50, p95, p99, _, count] = spread_cells(&refused);
            table.row([
                "a second process".to_owned(),
                format!("0 of {count}"),
                p50,
                p95,
                p99,
                "0".to_owned(),
            ]);
            section.measures.push(refused.note(
                "how long a second holder of the job waits for its refusal; every one was refused",
            ));
        }
        section.table = Some(table);
        Ok((section, ledger))
    }

    /// Measures readers of a job that is at work.
    pub(super) fn readers(&mut self, mut ledger: Ledger) -> Result<(Section, Ledger), BenchError> {
        let mut section = Section {
            title: "ledger: status while importing".to_owned(),
            about:
                "Connections of their own that ask for the status ten times a second each, while \
                    one writer settles rows as fast as the disk takes them. busy: answers of \
                    SQLITE_BUSY; there must be none. One run, with --full as many as asked for."
                    .to_owned(),
            ..Section::default()
        };
        let mut table = Table::new(&[
            "readers", "p50", "p95", "p99", "busy", "answered", "settled",
        ]);
        for &readers in READERS {
            self.say(&format!("{readers} readers"));
            let each = if self.budget.full { 50 } else { 10 };
            let (mut runs, mut busy, mut answered, mut settled) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            // Long ones: every run is a second, and what it settles is counted again at the end.
            let times = if self.budget.full {
                self.budget.runs.max(1)
            } else {
                1
            };
            for _ in 0..times {
                let read;
                (read, ledger) = reading::read(ledger, &mut self.desk, readers, each)?;
                let asked = read.took.len() as f64 + (read.busy + read.failed) as f64;
                answered.push(read.took.len() as f64 / asked.max(1.0));
                busy.push(read.busy as f64);
                settled.push(per_second(read.settled as f64, read.total));
                runs.push(read.took);
            }
            let name = format!("readers/{readers}");
            let took = of_operations(&name, &runs);
            let [p50, p95, p99, ..] = took.as_ref().map(spread_cells).unwrap_or_default();
            let busy = Measure::new(format!("{name}/busy"), Unit::Count, busy);
            let answered = Measure::new(format!("{name}/answered"), Unit::Share, answered)
                .better(Better::Higher);
            let settled = Measure::new(format!("{name}/settled"), Unit::RowsPerSecond, settled)
                .circumstance();
            table.row([
                readers.to_string(),
                p50,
                p95,
                p99,
                busy.unit.shown(busy.median()),
                answered.unit.shown(answered.median()),
                settled.unit.shown(settled.median()),
            ]);
            let all = [took, Some(busy), Some(answered), Some(settled)];
            section.measures.extend(all.into_iter().flatten());
        }
        section.table = Some(table);
        Ok((section, ledger))
    }
}
