//! The suite `http`: the importer beside a bare client of the same library, taking turns.
//!
//! Both talk to servers of the same kind on this machine, fresh for every run, without a limit.
//! The importer leases, records every outcome with full synchronisation and checks every row
//! meanwhile; the bare client does nothing else.

use super::bare::{Client, Done, Order};
use super::drive::{Import, Took, into_server, rows_file, server};
use super::{
    BenchError, Better, Budget, Chart, ChartKind, Measure, Progress, Section, Series, SuiteReport,
    Table, Unit, stats,
};
use crate::model::Mono;
use crate::report::words;
use crate::supervise::{Measured, SandboxChild};
use secrecy::ExposeSecret as _;

/// Rows of a run by default and with `--full`.
const ROWS: (u32, u32) = (40_000, 200_000);
/// Rows in flight per process: the importer's default.
const CONCURRENCY: u32 = 64;
/// Processes of either kind, by default and with `--full`.
const QUICK: &[u32] = &[1, 2];
const FULL: &[u32] = &[1, 2, 4];

/// What the importer is to reach of the bare client.
const RATIO_WANTED: f64 = 0.8;

/// Runs of one number of processes.
struct Pair {
    processes: u32,
    imports: Vec<Took>,
    bare: Vec<f64>,
}

impl Pair {
    fn import(&self) -> f64 {
        stats::median(&self.imports_per_s())
    }

    fn imports_per_s(&self) -> Vec<f64> {
        self.imports
            .iter()
            .map(|took| took.requests_per_s)
            .collect()
    }

    fn rows_per_s(&self) -> Vec<f64> {
        self.imports.iter().map(|took| took.rows_per_s).collect()
    }

    /// The import beside the bare client of the same turn.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.imports.iter().zip(&self.bare);
        let ratio = |(took, bare): (&Took, &f64)| took.requests_per_s / bare;
        pairs.map(ratio).collect()
    }

    fn bare(&self) -> f64 {
        stats::median(&self.bare)
    }

    fn values(&self, value: impl Fn(&Took) -> Option<f64>) -> Option<Vec<f64>> {
        self.imports.iter().map(value).collect()
    }
}

/// Measures.
pub(super) fn run(budget: &Budget, progress: &mut dyn Progress) -> Result<SuiteReport, BenchError> {
    let rows = budget.size(ROWS.0, ROWS.1);
    let csv = rows_file(budget, "http", rows, 0)?;
    let counts = if budget.full { FULL } else { QUICK };
    let mut pairs: Vec<Pair> = counts
        .iter()
        .map(|processes| Pair {
            processes: *processes,
            imports: Vec::new(),
            bare: Vec::new(),
        })
        .collect();
    // The first round is the warm-up.
    for run in 0..=budget.runs {
        for pair in &mut pairs {
            let processes = pair.processes;
            let clients = words::counted(u64::from(processes), "bare client");
            progress.say(&format!(
                "http: {} and {clients}, run {run} of {}",
                words::counted(u64::from(processes), "worker"),
                budget.runs
            ));
            let import = Import {
                csv: csv.clone(),
                workers: processes,
                concurrency: Some(CONCURRENCY),
                ..Import::default()
            };
            let took = into_server(budget, &import, &[])?;
            let bare = bare(budget, rows, processes)?;
            if run > 0 {
                pair.imports.push(took);
                pair.bare.push(bare);
            }
        }
    }
    let section = section(rows, &pairs);
    let advice = advice(&pairs).into_iter().collect();
    Ok(SuiteReport {
        suite: "http".to_owned(),
        sections: vec![section],
        advice,
    })
}

/// Runs bare clients side by side; returns their requests per second together, from the start of the
/// first process to the end of the last, as for the import.
fn bare(budget: &Budget, rows: u32, processes: u32) -> Result<f64, BenchError> {
    let server = server(budget, &[])?;
    let org_id = organization(&server)?;
    let share = rows.div_ceil(processes);
    let mut running = Vec::new();
    let began = Mono::now();
    for process in 0..processes {
        let order = Order {
            base_url: server.base_url.clone(),
            key: server.key.expose_secret().to_owned(),
            org_id: org_id.clone(),
            first: process * share,
            rows: share,
            concurrency: CONCURRENCY,
        };
        let measured = Measured {
            program: budget.program.clone(),
            arguments: vec!["bare-loop".into()],
            input: serde_json::to_vec(&order).unwrap_or_default(),
        };
        running.push(measured.start().map_err(BenchError::io("a bare client"))?);
    }
    let mut requests = 0;
    for client in running {
        let ended = client.end().map_err(BenchError::io("a bare client"))?;
        let done: Result<Done, _> = serde_json::from_slice(&ended.stdout);
        let done = done.map_err(|_no_answer| {
            let words = String::from_utf8_lossy(&ended.stderr);
            BenchError::Wrong(format!("a bare client failed: {}", words.trim()))
        })?;
        requests += done.requests;
    }
    let took = Mono::now().since(began);
    Ok(requests as f64 / took.as_secs_f64().max(1e-6))
}

/// Makes the organization that the bare clients' users join.
fn organization(server: &SandboxChild) -> Result<String, BenchError> {
    let wrong = |error: Box<dyn std::error::Error>| BenchError::Wrong(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("the runtime of the measurement"))?;
    let client = Client::new(&server.base_url, server.key.expose_secret()).map_err(wrong)?;
    let body = r#"{"name":"Bare","external_id":"bare"}"#.to_owned();
    runtime
        .block_on(client.post("/organizations", body))
        .map_err(wrong)
}

fn section(rows: u32, pairs: &[Pair]) -> Section {
    let mut measures: Vec<Measure> = pairs.iter().flat_map(measures_of).collect();
    measures.extend(best_ratio(pairs).map(|ratio| {
        Measure::new("ratio/best", Unit::Ratio, vec![ratio])
            .better(Better::Higher)
            .note("the fastest import beside the fastest bare client, whatever their processes")
    }));
    Section {
        title: "import beside a bare client".to_owned(),
        about: format!(
            "{} rows, 2 POSTs each, into a server of its own without a limit; both from the start of \
             their processes to the end, the import with a ledger that is synchronised to disk. \
             Coordinator CPU: its share of all processes, and of coordinator and workers.",
            words::count(u64::from(rows))
        ),
        measures,
        table: Some(table(pairs)),
        charts: vec![Chart {
            title: "Requests per second".to_owned(),
            unit: Unit::RequestsPerSecond,
            kind: ChartKind::Bars,
            x: "processes".to_owned(),
            labels: pairs
                .iter()
                .map(|pair| pair.processes.to_string())
                .collect(),
            series: vec![
                Series::new("import", pairs.iter().map(Pair::import)),
                Series::new("bare client", pairs.iter().map(Pair::bare)),
            ],
        }],
    }
}

fn table(pairs: &[Pair]) -> Table {
    let mut table = Table::new(&[
        "processes",
        "rows/s",
        "req/s",
        "bare req/s",
        "ratio",
        "coord. CPU",
        "of product",
    ]);
    let share = |values: Option<Vec<f64>>| match values {
        Some(values) => Unit::Share.shown(stats::median(&values)),
        None => "-".to_owned(),
    };
    for pair in pairs {
        table.row([
            pair.processes.to_string(),
            words::rate(stats::median(&pair.rows_per_s())),
            words::rate(pair.import()),
            words::rate(pair.bare()),
            format!("{:.2} x", stats::median(&pair.ratios())),
            share(pair.values(Took::coordinator_share)),
            share(pair.values(super::workers::own_share)),
        ]);
    }
    table
}

fn measures_of(pair: &Pair) -> Vec<Measure> {
    let n = pair.processes;
    let measure = |what: &str, unit, values| Measure::new(format!("{what}/{n}"), unit, values);
    let mut measures = vec![
        measure("import", Unit::RequestsPerSecond, pair.imports_per_s()),
        measure("rows", Unit::RowsPerSecond, pair.rows_per_s()),
        measure("ratio", Unit::Ratio, pair.ratios()),
        measure("bare", Unit::RequestsPerSecond, pair.bare.clone()).circumstance(),
    ];
    let share = pair.values(Took::coordinator_share);
    measures.extend(share.map(|share| measure("coordinator-share", Unit::Share, share)));
    measures
}

fn best_ratio(pairs: &[Pair]) -> Option<f64> {
    let import = pairs.iter().map(Pair::import).max_by(f64::total_cmp)?;
    let bare = pairs.iter().map(Pair::bare).max_by(f64::total_cmp)?;
    (bare > 0.0).then(|| import / bare)
}

fn advice(pairs: &[Pair]) -> Option<String> {
    let ratio = best_ratio(pairs)?;
    let best = pairs
        .iter()
        .max_by(|one, other| one.import().total_cmp(&other.import()))?;
    let verdict = if ratio >= RATIO_WANTED {
        "as it should be"
    } else {
        "less than it should be; `bench workers` tells where the time goes"
    };
    Some(format!(
        "Over HTTP the import reaches {:.0} % of what a bare client can send here ({} of {}), {verdict} \
         (0.80 or more). Real targets allow 50 requests/s: neither is the bottleneck.",
        ratio * 100.0,
        Unit::RequestsPerSecond.shown(best.import()),
        Unit::RequestsPerSecond.shown(best.import() / ratio)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(processes: u32, import: f64, bare: f64) -> Pair {
        let took = Took {
            rows_per_s: import / 2.0,
            requests_per_s: import,
            rows: 100.0,
            writes_per_row: 2.0,
            used: None,
            throttled: 0.0,
            latency_s: 0.0,
            usage: crate::supervise::Usage::default(),
            server_cpu_s: None,
            window_10s: None,
        };
        Pair {
            processes,
            imports: vec![took],
            bare: vec![bare],
        }
    }

    #[test]
    fn the_best_of_both_are_compared() {
        let pairs = [pair(1, 700.0, 1000.0), pair(2, 800.0, 900.0)];
        assert!((best_ratio(&pairs).unwrap() - 0.8).abs() < 1e-9);
        let words = advice(&pairs).unwrap();
        assert!(
            words.contains("reaches 80 %") && words.contains("as it should"),
            "{words}"
        );
        let section = section(100, &pairs);
        let names: Vec<&str> = section.measures.iter().map(|m| m.name.as_str()).collect();
        assert!(
            names.contains(&"ratio/2") && names.contains(&"ratio/best"),
            "{names:?}"
        );
    }
}
