//! The suite `workers`: how many worker processes pay, where, and why.
//!
//! Every run is the program's own `import` as a process of its own, into a fresh server or (dry)
//! into none. Counts take turns, so that a machine that grows slower meanwhile is fair to all.

mod local;
mod remote;
mod start;

use super::drive::{Import, Took};
use super::model::Reached;
use super::{
    BenchError, Budget, Chart, ChartKind, Measure, Progress, Section, Series, SuiteReport, Table,
    Unit, stats,
};
use crate::model::RateLimit;
use crate::model::rate::parse_duration;
use crate::sandbox::Latency;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What is varied, and the target that is simulated.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Rows of one's own instead of generated ones.
    pub csv: Option<PathBuf>,
    /// Worker counts, ascending.
    pub workers: Vec<u32>,
    /// How long answers of the simulated target take.
    pub latency: SimulatedLatency,
    /// Writes the simulated target allows.
    pub rate: RateLimit,
    /// Rows in flight per worker.
    pub concurrency: u32,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            csv: None,
            workers: vec![1, 2, 4, 8],
            latency: SimulatedLatency {
                words: "200ms~50%".to_owned(),
                mean: Duration::from_millis(200),
            },
            rate: RateLimit::per_seconds(500, 10),
            concurrency: 64,
        }
    }
}

/// `--latency`: the words for the simulated target, and their mean for the prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedLatency {
    /// As the sandbox reads it.
    pub words: String,
    /// Its mean.
    pub mean: Duration,
}

impl FromStr for SimulatedLatency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Latency>().map_err(|error| error.to_string())?;
        let mean = text.split('~').next().unwrap_or_default().trim();
        Ok(Self {
            words: text.to_owned(),
            mean: parse_duration(mean).ok_or_else(|| format!("`{mean}` is no duration"))?,
        })
    }
}

/// Measures.
pub(super) fn run(budget: &Budget, progress: &mut dyn Progress) -> Result<SuiteReport, BenchError> {
    let mut report = SuiteReport {
        suite: "workers".to_owned(),
        ..SuiteReport::default()
    };
    let mut add = |(section, advice): (Section, Option<String>)| {
        report.sections.push(section);
        report.advice.extend(advice);
    };
    add(remote::limited(budget, progress)?);
    add(remote::distant(budget, progress)?);
    add((remote::in_flight(budget, progress)?, None));
    add(remote::unlimited(budget, progress)?);
    add(local::dry(budget, progress)?);
    add((local::isolation(budget, progress)?, None));
    add((local::shapes(budget, progress)?, None));
    add((remote::fast_limit(budget, progress)?, None));
    add((start::start(budget, progress)?, None));
    Ok(report)
}

/// Runs every count in turn, `runs` times; the first import of all is a warm-up.
fn sweep(
    budget: &Budget,
    (name, runs): (&str, u32),
    progress: &mut dyn Progress,
    once: &dyn Fn(u32) -> Result<Took, BenchError>,
) -> Result<Vec<(u32, Vec<Took>)>, BenchError> {
    let counts = &budget.sweep.workers;
    let mut all: Vec<(u32, Vec<Took>)> = counts.iter().map(|n| (*n, Vec::new())).collect();
    if runs > 1
        && let Some(first) = counts.first()
    {
        progress.say(&format!("workers: {name}: warm-up"));
        once(*first)?;
    }
    for run in 1..=runs {
        for (workers, took) in &mut all {
            let count = crate::report::words::counted(u64::from(*workers), "worker");
            progress.say(&format!("workers: {name}: {count}, run {run} of {runs}"));
            took.push(once(*workers)?);
        }
    }
    Ok(all)
}

/// Returns a value of every run; none if one of them lacks it.
fn values(took: &[Took], value: impl Fn(&Took) -> Option<f64>) -> Option<Vec<f64>> {
    took.iter()
        .map(value)
        .collect::<Option<Vec<f64>>>()
        .filter(|values| !values.is_empty())
}

fn middle(took: &[Took], value: impl Fn(&Took) -> Option<f64>) -> Option<f64> {
    values(took, value).map(|values| stats::median(&values))
}

fn rows_per_s(took: &[Took]) -> f64 {
    middle(took, |took| Some(took.rows_per_s)).unwrap_or_default()
}

fn reached(all: &[(u32, Vec<Took>)]) -> Vec<Reached> {
    all.iter()
        .map(|(workers, took)| Reached {
            workers: *workers,
            rows_per_s: rows_per_s(took),
        })
        .collect()
}

/// What is measured of every count: speed, processor time per row, peaks of memory.
fn usual_measures(key: &str, all: &[(u32, Vec<Took>)]) -> Vec<Measure> {
    let mut measures = Vec::new();
    for (workers, took) in all {
        let mut add = |what: &str, unit, values: Option<Vec<f64>>| {
            let name = format!("{key}/{workers}{what}");
            measures.extend(values.map(|values| Measure::new(name, unit, values)));
        };
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let of = |value: &dyn Fn(&Took) -> Option<f64>| values(took, value);
        add("", Unit::RowsPerSecond, of(&|took| Some(took.rows_per_s)));
        add("/cpu-per-row", Unit::Seconds, of(&Took::cpu_per_row));
        add(
            "/coordinator-memory",
            Unit::Bytes,
            of(&|took| bytes(took.usage.peak_bytes)),
        );
        add(
            "/worker-memory",
            Unit::Bytes,
            of(&|took| bytes(took.usage.child_peak_bytes)),
        );
    }
    measures
}

fn or_dash(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), shown)
}

fn mebibytes(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| bytes as f64 / 1_048_576.0)
}

/// How the table of a sweep is to be read.
const COLUMNS: &str = "µs CPU: processor time of a row, coordinator and workers; coord.: the \
    coordinator's part of it; MiB: peaks of the coordinator and of one worker.";

/// The table of a sweep without a limit: what a further worker brings, and what it costs.
fn speed_table(all: &[(u32, Vec<Took>)]) -> Table {
    let mut table = Table::new(&[
        "workers",
        "rows/s",
        "min–max",
        "speed",
        "eff.",
        "µs CPU",
        "coord.",
        "MiB c/w",
    ]);
    let first = all
        .first()
        .map(|(workers, took)| (f64::from(*workers), rows_per_s(took)));
    let (base_workers, base) = first.unwrap_or((1.0, 0.0));
    for (workers, took) in all {
        let speed = rows_per_s(took);
        let times = if base > 0.0 { speed / base } else { 0.0 };
        let all_speeds: Vec<f64> = took.iter().map(|took| took.rows_per_s).collect();
        let (low, high) = stats::range(&all_speeds);
        let whole = |value: f64| format!("{value:.0}");
        table.row([
            workers.to_string(),
            crate::report::words::rate(speed),
            format!("{}–{}", brief(low), brief(high)),
            format!("{times:.2} x"),
            whole(100.0 * times * base_workers / f64::from(*workers)) + " %",
            or_dash(middle(took, Took::cpu_per_row), |s| {
                format!("{:.1}", s * 1e6)
            }),
            or_dash(middle(took, own_share), |share| whole(share * 100.0) + " %"),
            format!(
                "{}/{}",
                or_dash(middle(took, |took| mebibytes(took.usage.peak_bytes)), whole),
                or_dash(
                    middle(took, |took| mebibytes(took.usage.child_peak_bytes)),
                    whole
                ),
            ),
        ]);
    }
    table
}

/// The coordinator's share of what coordinator and workers took together.
pub(super) fn own_share(took: &Took) -> Option<f64> {
    let (own, workers) = (took.usage.cpu_s?, took.usage.children_cpu_s?);
    (own + workers > 0.0).then(|| own / (own + workers))
}

/// Returns a number in few characters: `740k`, `8.4k`, `93`.
fn brief(value: f64) -> String {
    if value >= 99_500.0 {
        format!("{:.0}k", value / 1000.0)
    } else if value >= 995.0 {
        format!("{:.1}k", value / 1000.0)
    } else {
        format!("{value:.0}")
    }
}

/// The picture of a sweep: what was reached beside what a model expects.
fn speed_chart(title: &str, all: &[(u32, Vec<Took>)], expected: Option<Series>) -> Chart {
    let measured = all.iter().map(|(_, took)| rows_per_s(took));
    let mut series = vec![Series::new("measured", measured)];
    series.extend(expected);
    Chart {
        title: title.to_owned(),
        unit: Unit::RowsPerSecond,
        kind: ChartKind::Bars,
        x: "workers".to_owned(),
        labels: all.iter().map(|(workers, _)| workers.to_string()).collect(),
        series,
    }
}

/// The picture of what a row costs in processor time.
fn cpu_chart(all: &[(u32, Vec<Took>)]) -> Option<Chart> {
    let per_row = |own: bool| {
        let part = move |took: &Took| {
            let usage = &took.usage;
            let cpu = if own {
                usage.cpu_s
            } else {
                usage.children_cpu_s
            };
            Some(cpu? / took.rows.max(1.0))
        };
        all.iter().map(move |(_, took)| middle(took, part))
    };
    let series = |name: &str, own| Series {
        name: name.to_owned(),
        values: per_row(own).collect(),
        dashed: false,
    };
    let parts = vec![series("coordinator", true), series("workers", false)];
    let known = parts
        .iter()
        .any(|part| part.values.iter().any(Option::is_some));
    known.then(|| Chart {
        title: "Processor time per row".to_owned(),
        unit: Unit::Seconds,
        kind: ChartKind::Bars,
        x: "workers".to_owned(),
        labels: all.iter().map(|(workers, _)| workers.to_string()).collect(),
        series: parts,
    })
}

/// The rows to import: one's own, or generated ones.
fn import_of(budget: &Budget, name: &str, rows: u32) -> Result<Import, BenchError> {
    let (csv, limit) = match &budget.sweep.csv {
        Some(csv) => (csv.clone(), Some(rows)),
        None => (super::drive::rows_file(budget, name, rows, 0)?, None),
    };
    Ok(Import {
        csv,
        limit,
        workers: 1,
        concurrency: Some(budget.sweep.concurrency),
        ..Import::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(rows_per_s: f64) -> Took {
        Took {
            rows_per_s,
            requests_per_s: 0.0,
            rows: 100.0,
            writes_per_row: 2.0,
            used: None,
            throttled: 0.0,
            latency_s: 0.0,
            usage: crate::supervise::Usage {
                cpu_s: Some(0.001),
                children_cpu_s: Some(0.003),
                peak_bytes: Some(10 << 20),
                child_peak_bytes: None,
                ..crate::supervise::Usage::default()
            },
            server_cpu_s: None,
            window_10s: None,
        }
    }

    #[test]
    fn a_sweep_says_what_a_worker_brings_and_costs() {
        let all = vec![
            (1, vec![took(100.0), took(110.0), took(90.0)]),
            (2, vec![took(150.0)]),
        ];
        let rows = speed_table(&all).rows;
        assert_eq!(
            rows[1],
            [
                "2",
                "150.0",
                "150–150",
                "1.50 x",
                "75 %",
                "40.0",
                "25 %",
                "10/-"
            ]
        );
        let names: Vec<String> = usual_measures("dry", &all)
            .into_iter()
            .map(|measure| measure.name)
            .collect();
        assert_eq!(
            names[..3],
            ["dry/1", "dry/1/cpu-per-row", "dry/1/coordinator-memory"]
        );
        assert_eq!(names.len(), 6);
        assert_eq!(cpu_chart(&all).unwrap().series.len(), 2);
    }

    #[test]
    fn latencies_are_read_as_the_sandbox_reads_them() {
        let latency: SimulatedLatency = "200ms~50%".parse().unwrap();
        assert_eq!(latency.mean, Duration::from_millis(200));
        assert!("soon".parse::<SimulatedLatency>().is_err());
    }

    #[test]
    fn numbers_are_brief() {
        assert_eq!(
            [740_123.0, 8_432.0, 93.2].map(brief),
            ["740k", "8.4k", "93"]
        );
    }
}
