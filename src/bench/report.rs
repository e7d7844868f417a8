//! The whole of a measurement: what `--json` writes and `--baseline` reads.

use super::stats;
use super::{Load, Machine, Measure, SuiteReport};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The form of the file; a newer one is refused.
const FORMAT: u32 = 1;

/// Longest file that is read: a full run of every suite is a hundredth of it.
const BYTES_MAX: u64 = 16 << 20;

/// Runs that lie further apart than this share of their median say little.
const SCATTER_MAX: f64 = 0.25;

/// A load above this share of the cores means that others were at work.
const LOAD_MAX: f64 = 0.5;

/// What was measured, on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this file.
    pub format: u32,
    /// The machine and the build.
    pub machine: Machine,
    /// How busy it was.
    pub load: Load,
    /// When, wall clock in milliseconds since 1970.
    pub at_ms: i64,
    /// Whether every size was measured.
    pub full: bool,
    /// Repetitions asked for.
    pub runs: u32,
    /// The suite and the options that say what is measured; `None` in older files.
    #[serde(default)]
    pub asked: Option<String>,
    /// What the suites found.
    pub suites: Vec<SuiteReport>,
}

/// Why an earlier measurement cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no file of `--json`.
    #[error("it is not a file that `bench --json` wrote: {0}")]
    Form(String),
}

impl Report {
    /// Makes a report without suites.
    pub fn new(machine: Machine, at_ms: i64, full: bool, runs: u32) -> Self {
        Self {
            format: FORMAT,
            machine,
            load: Load::default(),
            at_ms,
            full,
            runs,
            asked: None,
            suites: Vec::new(),
        }
    }

    /// Reads the file of an earlier measurement.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        if std::fs::metadata(path)?.len() > BYTES_MAX {
            return Err(BaselineError::Form("it is too long".to_owned()));
        }
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        let form = |words: String| BaselineError::Form(words);
        let report: Self = serde_json::from_str(text).map_err(|error| form(error.to_string()))?;
        if report.format > FORMAT {
            return Err(form("a newer userferry wrote it".to_owned()));
        }
        let mut measures = report.measures();
        if let Some((_, measure)) = measures.find(|(_, measure)| measure.values.is_empty()) {
            return Err(form(format!("{} has no values", measure.name)));
        }
        drop(measures);
        Ok(report)
    }

    /// Returns every measure with the suite it belongs to.
    pub fn measures(&self) -> impl Iterator<Item = (&str, &Measure)> {
        self.suites.iter().flat_map(|suite| {
            let sections = suite.sections.iter();
            sections.flat_map(|section| {
                let measures = section.measures.iter();
                measures.map(|measure| (suite.suite.as_str(), measure))
            })
        })
    }

    /// Returns why the numbers may be worth less than they look.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.machine.build == "debug" {
            let words = "this is a debug build: its figures say nothing about a release build";
            doubts.push(words.to_owned());
        }
        let cores = f64::from(self.machine.cores.max(1));
        if let Some(load) = self.load.before.filter(|load| *load > cores * LOAD_MAX) {
            doubts.push(format!(
                "the machine was busy before it began (load {load:.1} on {} cores): figures are too low",
                self.machine.cores
            ));
        }
        doubts.extend(self.scattered());
        doubts
    }

    fn scattered(&self) -> Option<String> {
        let far =
            |measure: &Measure| measure.judged && stats::scatter(&measure.values) > SCATTER_MAX;
        let mut apart: Vec<&Measure> = self
            .measures()
            .map(|(_, measure)| measure)
            .filter(|measure| far(measure))
            .collect();
        apart.sort_by(|one, other| {
            stats::scatter(&other.values).total_cmp(&stats::scatter(&one.values))
        });
        let worst = apart.first()?;
        let others = match apart.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more over {:.0} %", SCATTER_MAX * 100.0),
        };
        Some(format!(
            "runs lie apart by up to {:.0} % of their median ({}{others}): something else was at \
             work, or there were too few rows; more --runs or --full tell more",
            stats::scatter(&worst.values) * 100.0,
            worst.name
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{Section, Unit};

    /// A report of one suite with these measures.
    pub(crate) fn report_of(measures: Vec<Measure>) -> Report {
        let machine = Machine {
            cores: 2,
            cpu: "test".to_owned(),
            build: "release".to_owned(),
            ..Machine::default()
        };
        let mut report = Report::new(machine, 0, false, 3);
        report.suites.push(SuiteReport {
            suite: "workers".to_owned(),
            sections: vec![Section {
                title: "dry run".to_owned(),
                measures,
                ..Section::default()
            }],
            advice: vec!["Use 2 workers.".to_owned()],
        });
        report
    }

    fn measure(values: &[f64]) -> Measure {
        Measure::new("dry/1", Unit::RowsPerSecond, values.to_vec())
    }

    #[test]
    fn a_report_survives_its_file() {
        let report = report_of(vec![measure(&[1.5, 2.0, 2.25])]);
        let text = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(Report::parse(&text).unwrap(), report);
    }

    #[test]
    fn other_files_are_no_baseline() {
        let newer = serde_json::to_string(&Report {
            format: 2,
            ..report_of(Vec::new())
        });
        let empty = serde_json::to_string(&report_of(vec![measure(&[])]));
        for text in ["", "{}", "[1]", &newer.unwrap(), &empty.unwrap()] {
            assert!(Report::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn doubts_are_said() {
        let mut report = report_of(vec![measure(&[10.0, 10.5, 11.0])]);
        assert!(report.doubts().is_empty());
        report.load.before = Some(1.5);
        report.machine.build = "debug".to_owned();
        assert_eq!(report.doubts().len(), 2);
        let wild = report_of(vec![measure(&[5.0, 10.0, 11.0])]);
        assert!(wild.doubts()[0].contains("60 %"), "{:?}", wild.doubts());
        let described = report_of(vec![measure(&[5.0, 10.0, 11.0]).circumstance()]);
        assert!(described.doubts().is_empty());
    }
}
