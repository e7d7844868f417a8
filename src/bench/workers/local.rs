//! Without a server: what this machine can do when nothing has to be waited for.

use super::super::drive::{Import, Took, dry_run, rows_file};
use super::super::{BenchError, Budget, Measure, Progress, Section, Table, Unit, model, stats};
use super::{
    cpu_chart, import_of, own_share, rows_per_s, speed_chart, speed_table, sweep, usual_measures,
    values,
};
use crate::report::words;

/// Rows of a dry run by default and with `--full`.
const DRY_ROWS: (u32, u32) = (150_000, 1_000_000);
/// Rows where processes are compared with threads.
const ISOLATION_ROWS: (u32, u32) = (60_000, 1_000_000);
/// Rows where shapes of files and of grants are compared.
const SHAPE_ROWS: (u32, u32) = (20_000, 500_000);

/// Everything but the socket, for every worker count.
pub(super) fn dry(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<(Section, Option<String>), BenchError> {
    let rows = budget.size(DRY_ROWS.0, DRY_ROWS.1);
    let mut import = import_of(budget, "dry", rows)?;
    // A file that was brought along is rehearsed whole.
    import.limit = None;
    let once = |workers| {
        let import = Import {
            workers,
            ..import.clone()
        };
        dry_run(budget, &import)
    };
    let all = sweep(budget, ("dry run", budget.runs), progress, &once)?;
    let advice = model::sentence("Without a target (dry run)", &super::reached(&all), None);
    let seen = all.first().and_then(|(_, took)| took.first());
    let mut charts = vec![speed_chart("Dry run", &all, None)];
    charts.extend(cpu_chart(&all));
    let section = Section {
        title: "dry run".to_owned(),
        about: format!(
            "{} rows through index, checks, workers, requests and a ledger, from the start of the \
             process to its summary; only the socket is missing. No more workers than processors \
             are given rows: the others are started and wait. {}",
            words::count(seen.map_or(0, |took| words::whole(took.rows))),
            super::COLUMNS
        ),
        measures: usual_measures("dry", &all),
        table: Some(speed_table(&all)),
        charts,
    };
    Ok((section, advice))
}

/// Workers as processes beside workers as threads.
pub(super) fn isolation(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<Section, BenchError> {
    let rows = budget.size(ISOLATION_ROWS.0, ISOLATION_ROWS.1);
    let import = import_of(budget, "isolation", rows)?;
    let counts: Vec<u32> = budget.sweep.workers.iter().copied().take(2).collect();
    let mut table = Table::new(&[
        "workers",
        "processes",
        "threads",
        "ratio",
        "CPU proc.",
        "CPU thr.",
    ]);
    let mut measures = Vec::new();
    for workers in counts {
        let mut took: [Vec<Took>; 2] = Default::default();
        for run in 1..=budget.runs {
            progress.say(&format!(
                "workers: {} as processes and as threads, run {run} of {}",
                words::counted(u64::from(workers), "worker"),
                budget.runs
            ));
            for (took, threads) in took.iter_mut().zip([false, true]) {
                let import = Import {
                    workers,
                    threads,
                    ..import.clone()
                };
                took.push(dry_run(budget, &import)?);
            }
        }
        let [processes, threads] = &took;
        let (apart, together) = (rows_per_s(processes), rows_per_s(threads));
        let cpu = |took: &[Took]| {
            super::or_dash(super::middle(took, cpu_of_all), |s| Unit::Seconds.shown(s))
        };
        table.row([
            workers.to_string(),
            words::rate(apart),
            words::rate(together),
            format!("{:.2} x", apart / together.max(f64::MIN_POSITIVE)),
            cpu(processes),
            cpu(threads),
        ]);
        let pairs = processes.iter().zip(threads);
        let ratios = pairs.map(|(one, other)| one.rows_per_s / other.rows_per_s.max(0.001));
        measures.push(Measure::new(
            format!("isolation/{workers}"),
            Unit::Ratio,
            ratios.collect(),
        ));
    }
    Ok(Section {
        title: "processes and threads".to_owned(),
        about: "The same dry run with workers as processes of their own and as threads of the \
                coordinator, over pipes both times: what isolation costs. CPU is per row, \
                everything together."
            .to_owned(),
        measures,
        table: Some(table),
        charts: Vec::new(),
    })
}

/// Threads have no account of their own, so that both are counted together.
fn cpu_of_all(took: &Took) -> Option<f64> {
    let usage = &took.usage;
    Some((usage.cpu_s? + usage.children_cpu_s.unwrap_or(0.0)) / took.rows.max(1.0))
}

/// What shape of file and of grants costs, with two workers.
pub(super) fn shapes(budget: &Budget, progress: &mut dyn Progress) -> Result<Section, BenchError> {
    let rows = budget.size(SHAPE_ROWS.0, SHAPE_ROWS.1);
    let mut table = Table::new(&[
        "2 workers, dry run",
        "rows/s",
        "min – max",
        "coordinator CPU",
    ]);
    let mut measures = Vec::new();
    let mut cases = Vec::new();
    for percent in [0, 50, 95] {
        let csv = rows_file(budget, &format!("repeated{percent}"), rows, percent)?;
        cases.push((format!("repeated/{percent}%"), csv, None));
    }
    let plain = cases.first().map(|(_, csv, _)| csv.clone());
    for chunk_size in [25, 250, 1000] {
        let csv = plain.clone().unwrap_or_default();
        cases.push((format!("chunk/{chunk_size}"), csv, Some(chunk_size)));
    }
    let mut took: Vec<Vec<Took>> = vec![Vec::new(); cases.len()];
    for run in 1..=budget.runs {
        for ((name, csv, chunk_size), took) in cases.iter().zip(&mut took) {
            progress.say(&format!("workers: {name}, run {run} of {}", budget.runs));
            let import = Import {
                csv: csv.clone(),
                workers: 2,
                chunk_size: *chunk_size,
                ..Import::default()
            };
            took.push(dry_run(budget, &import)?);
        }
    }
    for ((name, ..), took) in cases.iter().zip(&took) {
        let speeds = values(took, |took| Some(took.rows_per_s)).unwrap_or_default();
        let (low, high) = stats::range(&speeds);
        table.row([
            name.clone(),
            words::rate(rows_per_s(took)),
            format!("{} – {}", super::brief(low), super::brief(high)),
            super::or_dash(super::middle(took, own_share), |share| {
                Unit::Share.shown(share)
            }),
        ]);
        measures.push(Measure::new(name.clone(), Unit::RowsPerSecond, speeds));
    }
    Ok(Section {
        title: "shape of the file and of the chunks".to_owned(),
        about: format!(
            "{} rows of which a share repeats an earlier one (one user, decided by the index), and \
             rows per chunk.",
            words::count(u64::from(rows))
        ),
        measures,
        table: Some(table),
        charts: Vec::new(),
    })
}
