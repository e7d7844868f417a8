//! `bench index`: the one pass over a file, beside what bounds it: a plain read, the `csv` crate's
//! own loop, the hash alone.
//!
//! # Never
//! Believes a pass that counts other rows than the `csv` crate does: its time would mean nothing.

use super::timing::{Took, per_second, remove, size_of, timed};
use super::{BenchError, Budget, Measure, Progress, Section, SuiteReport, Table, Unit};
use crate::model::{Delimiter, OrgMode};
use crate::report::words;
use crate::source::profile::ProfileChoice;
use crate::source::{self, GenerateArgs, Index, IndexOptions, Input, RowRules};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Rows of a file unless all sizes are wanted: about 110 MB.
const ROWS_QUICK: u32 = 1_000_000;

/// Rows of a file of about 1 GiB.
const ROWS_FULL: u32 = 9_600_000;

/// Bytes a plain read takes at once: as many as the index does.
const BLOCK_BYTES: usize = 256 << 10;

/// A kind of file.
struct Shape {
    name: &'static str,
    about: &'static str,
    orgs: u32,
    multi_org: &'static str,
    duplicates: &'static str,
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "people",
        about: "email, names, external id, metadata in half of the rows; no row repeats another",
        orgs: 0,
        multi_org: "0%",
        duplicates: "0%",
    },
    Shape {
        name: "organizations",
        about: "the same with 500 organizations; 10 % of the rows repeat a person in another \
                organization, 2 % repeat a row",
        orgs: 500,
        multi_org: "10%",
        duplicates: "2%",
    },
];

/// Runs the suite.
///
/// # Errors
/// When a file cannot be made or read, or a pass counts wrong.
pub fn run(budget: &Budget, progress: &mut dyn Progress) -> Result<SuiteReport, BenchError> {
    let rows = budget.size(ROWS_QUICK, ROWS_FULL);
    let mut sections = Vec::new();
    let mut advice = Vec::new();
    for shape in SHAPES {
        progress.say(&format!(
            "index: writing {} ({})",
            words::counted(rows.into(), "row"),
            shape.name
        ));
        let bench = Bench::new(budget, shape, rows)?;
        let figures = bench.figures(progress)?;
        if advice.is_empty() {
            advice.push(advice_of(&figures));
        }
        sections.push(section(shape, &bench, &figures));
        remove(&bench.path)?;
    }
    Ok(SuiteReport {
        suite: "index".to_owned(),
        sections,
        advice,
    })
}

/// One file under measurement.
struct Bench<'a> {
    budget: &'a Budget,
    path: PathBuf,
    bytes: f64,
    rows: u32,
    options: IndexOptions,
}

/// A way through the file, timed run by run.
struct Figure {
    /// Its part of the measures' names.
    key: &'static str,
    about: &'static str,
    /// Whether it is the product's.
    ours: bool,
    runs: Vec<Took>,
}

impl Figure {
    fn rates(&self, count: f64) -> Vec<f64> {
        let rate = |took: &Took| per_second(count, took.wall);
        self.runs.iter().map(rate).collect()
    }

    fn cpu(&self) -> f64 {
        super::stats::median(&self.runs.iter().map(|took| took.cpu).collect::<Vec<_>>())
    }

    fn wall(&self) -> f64 {
        super::stats::median(&self.runs.iter().map(|took| took.wall).collect::<Vec<_>>())
    }
}

impl<'a> Bench<'a> {
    fn new(budget: &'a Budget, shape: &Shape, rows: u32) -> Result<Self, BenchError> {
        let path = budget.folder.join(format!("{}.csv", shape.name));
        let share = |text: &str| text.parse().map_err(BenchError::Wrong);
        let args = GenerateArgs {
            rows,
            orgs: shape.orgs,
            multi_org: share(shape.multi_org)?,
            duplicates: share(shape.duplicates)?,
            bad: share("0%")?,
            seed: 1,
            force: true,
            out: Some(path.clone()),
        };
        source::generate(&args, &mut std::io::sink())?;
        Ok(Self {
            budget,
            bytes: size_of(&path)? as f64,
            path,
            rows,
            options: IndexOptions {
                chunk_size: 250,
                org_mode: OrgMode::Columns,
                hash_key: 0x5eed,
                delimiter: Delimiter::Comma,
                renames: Vec::new(),
                profile: ProfileChoice::Off,
            },
        })
    }

    fn figures(&self, progress: &mut dyn Progress) -> Result<Vec<Figure>, BenchError> {
        // The warm-up of each brings the file into memory: the disk is not what is measured.
        let index = source::build(&self.path, &self.options, &mut |_| {})?;
        let mut figure = |key, about, ours, pass: &mut dyn FnMut() -> Result<(), BenchError>| {
            progress.say(&format!("index: {about}"));
            let mut runs = Vec::new();
            self.budget.repeat(|run| {
                let (done, took) = timed(&mut *pass);
                done?;
                if run > 0 {
                    runs.push(took);
                }
                Ok(took.wall)
            })?;
            Ok::<_, BenchError>(Figure {
                key,
                about,
                ours,
                runs,
            })
        };
        Ok(vec![
            figure("read", "a plain read", false, &mut || {
                plain_read(&self.path)
            })?,
            figure("csv", "a loop of the csv crate", false, &mut || {
                self.expect(csv_loop(&self.path)?)
            })?,
            figure("hash", "the file's hash: resume", true, &mut || {
                let input = Input::of_path(&self.path);
                source::file_hash(&input, &mut |_| {})?;
                Ok(())
            })?,
            figure("index", "the index: hashes, repeats", true, &mut || {
                let index = source::build(&self.path, &self.options, &mut |_| {})?;
                self.expect(index.rows.into())
            })?,
            figure("check", "every rule, after the index", true, &mut || {
                self.expect(self.check(&index)?)
            })?,
        ])
    }

    /// Holds every row against the rules as `check` does.
    fn check(&self, index: &Index) -> Result<u64, BenchError> {
        let rules = RowRules {
            org_mode: self.options.org_mode.clone(),
            require_membership: false,
        };
        let file = File::open(&self.path).map_err(self.cannot_read())?;
        let report = source::check(&file, index, &rules, &mut |_| Ok(()))
            .map_err(|error| BenchError::Wrong(error.to_string()))?;
        Ok(report.rows)
    }

    fn expect(&self, rows: u64) -> Result<(), BenchError> {
        if rows == u64::from(self.rows) {
            return Ok(());
        }
        Err(BenchError::Wrong(format!(
            "{rows} rows were found in a file of {}",
            self.rows
        )))
    }

    fn cannot_read(&self) -> impl FnOnce(std::io::Error) -> BenchError {
        BenchError::io(self.path.display().to_string())
    }
}

fn plain_read(path: &Path) -> Result<(), BenchError> {
    let cannot = || BenchError::io(path.display().to_string());
    let mut file = File::open(path).map_err(cannot())?;
    let mut block = vec![0; BLOCK_BYTES];
    while file.read(&mut block).map_err(cannot())? > 0 {}
    Ok(())
}

fn csv_loop(path: &Path) -> Result<u64, BenchError> {
    let broken = |error: csv::Error| BenchError::Wrong(error.to_string());
    let mut reader = csv::Reader::from_path(path).map_err(broken)?;
    let mut record = csv::ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut record).map_err(broken)? {
        rows += 1;
    }
    Ok(rows)
}

fn section(shape: &Shape, bench: &Bench<'_>, figures: &[Figure]) -> Section {
    let rows = f64::from(bench.rows);
    let mut measures = Vec::new();
    let mut table = Table::new(&["pass over the file", "bytes", "rows", "CPU a row", "x read"]);
    let bare = figures.first().map_or(f64::NAN, |read| {
        super::stats::median(&read.rates(bench.bytes))
    });
    for figure in figures {
        let name = format!("{}/{}", shape.name, figure.key);
        let cpu = Unit::Seconds.shown(figure.cpu() / rows);
        let bytes = Measure::new(
            name.clone(),
            Unit::BytesPerSecond,
            figure.rates(bench.bytes),
        )
        .note(format!("{cpu} of a core a row"));
        let lines = Measure::new(
            format!("{name}/rows"),
            Unit::RowsPerSecond,
            figure.rates(rows),
        );
        table.row([
            figure.about.to_owned(),
            bytes.unit.shown(bytes.median()),
            lines.unit.shown(lines.median()),
            cpu,
            Unit::Ratio.shown(bytes.median() / bare),
        ]);
        for measure in [bytes, lines] {
            measures.push(if figure.ours {
                measure
            } else {
                measure.circumstance()
            });
        }
    }
    Section {
        title: format!("index: {}", shape.name),
        about: format!(
            "{}, {}: {}. Read from memory; the index reads and hashes ahead on a second thread. A \
             plain read and the csv crate's loop are yardsticks.",
            words::counted(bench.rows.into(), "row"),
            Unit::Bytes.shown(bench.bytes),
            shape.about
        ),
        measures,
        table: Some(table),
        charts: Vec::new(),
    }
}

fn advice_of(figures: &[Figure]) -> String {
    let of = |key: &str| {
        let figure = figures.iter().find(|figure| figure.key == key);
        Unit::Seconds.shown(figure.map_or(f64::NAN, Figure::wall))
    };
    format!(
        "A file of this size is indexed in {} before the first request and hashed in {} before a \
         resume: beside the target's own limit neither matters, so never split a file for speed.",
        of("index"),
        of("hash")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl Progress for Silent {
        fn say(&mut self, _: &str) {}
    }

    #[test]
    fn every_pass_counts_the_same_rows_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let budget = Budget {
            full: false,
            runs: 2,
            rows: Some(500),
            folder: folder.path().to_owned(),
            program: PathBuf::new(),
            sweep: super::super::workers::Sweep::default(),
        };
        let report = run(&budget, &mut Silent).unwrap();
        assert_eq!(report.sections.len(), SHAPES.len());
        for section in &report.sections {
            assert_eq!(section.measures.len(), 10);
            assert!(section.measures.iter().all(|it| it.values.len() == 2));
        }
        let names: std::collections::BTreeSet<_> = report
            .sections
            .iter()
            .flat_map(|section| &section.measures)
            .map(|measure| &measure.name)
            .collect();
        assert_eq!(names.len(), 20, "every measure has a name of its own");
        assert!(names.contains(&"people/index/rows".to_owned()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_pass_that_counts_other_rows_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let budget = Budget {
            full: false,
            runs: 1,
            rows: None,
            folder: folder.path().to_owned(),
            program: PathBuf::new(),
            sweep: super::super::workers::Sweep::default(),
        };
        let bench = Bench::new(&budget, &SHAPES[0], 10).unwrap();
        assert!(bench.expect(10).is_ok());
        assert!(matches!(bench.expect(9), Err(BenchError::Wrong(_))));
    }
}
