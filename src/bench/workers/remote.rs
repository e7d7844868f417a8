//! Against a server: without a limit, with a latency, and with the limit of a real target.

use super::super::drive::{Import, Took, into_server};
use super::super::model::{self, Bounds, Decides};
use super::super::{BenchError, Better, Budget, Measure, Progress, Section, Series, Table, Unit};
use super::{
    cpu_chart, import_of, middle, or_dash, reached, rows_per_s, speed_chart, speed_table, sweep,
    usual_measures, values,
};
use crate::model::RateLimit;
use crate::report::words;

/// Rows into the server without limit, by default and with `--full`.
const ROWS: (u32, u32) = (3_000, 50_000);
/// Seconds that one run under the limit takes.
const LIMITED_S: (u32, u32) = (2, 60);
/// Seconds that one run with a latency and without a limit takes, if the prediction holds.
const DISTANT_S: f64 = 0.5;
/// Rows in flight of one worker that are compared.
const IN_FLIGHT: [u32; 3] = [16, 64, 256];
/// Writes of an imported row: its user and its membership.
const CALLS: f64 = 2.0;
/// Rows for a run that has to hold still for its seconds, at least.
const ROWS_MIN: u32 = 20;

/// The limit that the importer can just keep on two cores, and its workers.
const FAST: (RateLimit, &str, u32) = (RateLimit::per_seconds(5_000, 1), "1ms", 4);
/// Seconds of it.
const FAST_S: (u32, u32) = (1, 60);

fn rows_for(per_second: f64, seconds: f64) -> u32 {
    let rows = words::whole(per_second * seconds);
    u32::try_from(rows).unwrap_or(u32::MAX).max(ROWS_MIN)
}

/// As fast as this machine goes, over real HTTP.
pub(super) fn unlimited(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<(Section, Option<String>), BenchError> {
    let import = import_of(budget, "unlimited", budget.size(ROWS.0, ROWS.1))?;
    let once = |workers| {
        let import = Import {
            workers,
            ..import.clone()
        };
        into_server(budget, &import, &[])
    };
    let all = sweep(budget, ("no limit", budget.runs), progress, &once)?;
    let place = "Into a server on this machine without a limit";
    let advice = model::sentence(place, &reached(&all), None);
    let mut charts = vec![speed_chart("HTTP without a limit", &all, None)];
    charts.extend(cpu_chart(&all));
    let section = Section {
        title: "HTTP without a limit".to_owned(),
        about: format!(
            "A server of its own on this machine that answers at once: coordinator, workers and \
             server share the cores. {}",
            super::COLUMNS
        ),
        measures: usual_measures("unlimited", &all),
        table: Some(speed_table(&all)),
        charts,
    };
    Ok((section, advice))
}

/// Answers that take their time, and no limit: rows in flight decide.
pub(super) fn distant(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<(Section, Option<String>), BenchError> {
    let latency = &budget.sweep.latency;
    let bounds = Bounds {
        writes_per_s: None,
        latency_s: latency.mean.as_secs_f64(),
        concurrency: budget.sweep.concurrency,
        calls_per_row: CALLS,
    };
    let size = |workers: u32| {
        let predicted = bounds.predict(workers).0.min(f64::from(ROWS.0));
        let seconds = if budget.full { 10.0 } else { DISTANT_S };
        budget.rows.unwrap_or(rows_for(predicted, seconds))
    };
    let once = |workers| {
        let import = Import {
            workers,
            ..import_of(budget, &format!("distant{workers}"), size(workers))?
        };
        into_server(budget, &import, &["--latency", &latency.words])
    };
    let runs = if budget.full { budget.runs } else { 1 };
    let all = sweep(budget, (&latency.words, runs), progress, &once)?;
    let mut section = predicted_section("distant", &all, &bounds);
    section.title = format!("answers after {}", latency.words);
    section.about = format!(
        "No limit. The model: workers × {} rows in flight ÷ (2 calls × latency). A run is short, so \
         that its start and its last rows weigh on it.",
        bounds.concurrency
    );
    Ok((section, None))
}

/// The same with one worker and more or fewer rows in flight.
pub(super) fn in_flight(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<Section, BenchError> {
    let latency = &budget.sweep.latency;
    let mut table = Table::new(&["rows in flight", "rows/s", "model", "of it", "µs CPU"]);
    let mut measures = Vec::new();
    let seconds = if budget.full { 10.0 } else { DISTANT_S };
    for concurrency in IN_FLIGHT {
        progress.say(&format!("workers: 1 worker, {concurrency} rows in flight"));
        let bounds = Bounds {
            writes_per_s: None,
            latency_s: latency.mean.as_secs_f64(),
            concurrency,
            calls_per_row: CALLS,
        };
        let (model, _) = bounds.predict(1);
        let rows = budget
            .rows
            .unwrap_or(rows_for(model.min(f64::from(ROWS.0)), seconds));
        let import = Import {
            workers: 1,
            concurrency: Some(concurrency),
            ..import_of(budget, &format!("flight{concurrency}"), rows)?
        };
        let took = vec![into_server(
            budget,
            &import,
            &["--latency", &latency.words],
        )?];
        let speed = rows_per_s(&took);
        let cpu = middle(&took, Took::cpu_per_row);
        table.row([
            concurrency.to_string(),
            words::rate(speed),
            words::rate(model),
            format!("{:.0} %", 100.0 * speed / model.max(f64::MIN_POSITIVE)),
            or_dash(cpu, |cpu| format!("{:.1}", cpu * 1e6)),
        ]);
        measures.push(Measure::new(
            format!("in-flight/{concurrency}"),
            Unit::RowsPerSecond,
            vec![speed],
        ));
    }
    Ok(Section {
        title: format!("rows in flight, answers after {}", latency.words),
        about: "One worker, no limit, --concurrency varied: with a slow target it does what more \
                workers would do, at no cost."
            .to_owned(),
        measures,
        table: Some(table),
        charts: Vec::new(),
    })
}

/// The limit of a real target.
pub(super) fn limited(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<(Section, Option<String>), BenchError> {
    let sweep_of = &budget.sweep;
    let (rate, latency) = (sweep_of.rate, &sweep_of.latency);
    let seconds = budget.size_of(LIMITED_S);
    let rows = budget
        .rows
        .unwrap_or(rows_for(rate.per_second() / CALLS, f64::from(seconds)));
    let import = import_of(budget, "limited", rows)?;
    let words_of_rate = rate.to_string();
    let once = |workers| {
        let import = Import {
            workers,
            rate: Some(words_of_rate.clone()),
            ..import.clone()
        };
        let options = ["--rate", &words_of_rate, "--latency", &latency.words];
        into_server(budget, &import, &options)
    };
    let name = format!("{rate}, {}", latency.words);
    // A run takes its seconds whatever the machine does: one says it all.
    let all = sweep(budget, (&name, 1), progress, &once)?;
    let calls = all
        .first()
        .and_then(|(_, took)| middle(took, |took| Some(took.writes_per_row)))
        .unwrap_or(CALLS);
    let bounds = Bounds {
        writes_per_s: Some(rate.per_second()),
        latency_s: latency.mean.as_secs_f64(),
        concurrency: sweep_of.concurrency,
        calls_per_row: calls,
    };
    let mut section = predicted_section("limited", &all, &bounds);
    section.title = format!("{rate} with answers after {}", latency.words);
    section.about = format!(
        "The server enforces the limit, the importer uses {:.1} % of it at most. The model: min(rate \
         ÷ {calls:.2} calls, workers × {} ÷ (calls × latency)).",
        rate.used_share() * 100.0,
        bounds.concurrency
    );
    let place = format!("At {rate} with answers after {}", latency.words);
    let reached = reached(&all);
    let chosen = model::recommended(&reached).map(|chosen| chosen.workers);
    let used = all
        .iter()
        .find(|(workers, _)| Some(*workers) == chosen)
        .and_then(|(_, took)| middle(took, |took| took.used));
    let advice = model::sentence(&place, &reached, used);
    Ok((section, advice))
}

/// A limit so high that slots come faster than a clock ticks.
pub(super) fn fast_limit(
    budget: &Budget,
    progress: &mut dyn Progress,
) -> Result<Section, BenchError> {
    let (rate, latency, workers) = FAST;
    let seconds = f64::from(budget.size_of(FAST_S));
    let rows = budget
        .rows
        .unwrap_or(rows_for(rate.per_second() / CALLS, seconds));
    progress.say(&format!("workers: {rate}, {latency}"));
    let rate = rate.to_string();
    let import = Import {
        csv: super::super::drive::rows_file(budget, "fast", rows, 0)?,
        workers,
        rate: Some(rate.clone()),
        ..Import::default()
    };
    let took = into_server(budget, &import, &["--rate", &rate, "--latency", latency])?;
    let all = vec![(workers, vec![took])];
    let bounds = Bounds {
        writes_per_s: Some(FAST.0.per_second()),
        latency_s: 0.001,
        concurrency: 64,
        calls_per_row: CALLS,
    };
    let mut section = predicted_section("fast", &all, &bounds);
    section.title = format!("{rate} with answers after {latency}");
    "A limit far above any real one: whether pacing keeps up.".clone_into(&mut section.about);
    section.charts.clear();
    Ok(section)
}

/// What was reached beside what was predicted, and how the limit was kept.
fn predicted_section(key: &str, all: &[(u32, Vec<Took>)], bounds: &Bounds) -> Section {
    let mut table = Table::new(&[
        "workers",
        "rows/s",
        "model",
        "of it",
        "decides",
        "limit used",
        "429",
        "in 10 s",
        "p50",
    ]);
    let mut measures = usual_measures(key, all);
    let mut expected = Vec::new();
    for (workers, took) in all {
        let (model, decides) = bounds.predict(*workers);
        expected.push(model);
        let speed = rows_per_s(took);
        let used = middle(took, |took| took.used);
        let window = middle(took, |took| took.window_10s);
        table.row([
            workers.to_string(),
            words::rate(speed),
            words::rate(model),
            format!("{:.0} %", 100.0 * speed / model.max(f64::MIN_POSITIVE)),
            match decides {
                Decides::Limit => "limit",
                Decides::Latency => "latency",
            }
            .to_owned(),
            or_dash(used, |used| format!("{:.1} %", used * 100.0)),
            or_dash(middle(took, |took| Some(took.throttled)), |n| {
                format!("{n:.0}")
            }),
            or_dash(window, |n| format!("{n:.0}")),
            or_dash(middle(took, |took| Some(took.latency_s)), |s| {
                Unit::Seconds.shown(s)
            }),
        ]);
        let mut add = |what: &str, unit, better, values: Option<Vec<f64>>| {
            let name = format!("{key}/{workers}/{what}");
            measures.extend(values.map(|values| Measure::new(name, unit, values).better(better)));
        };
        let (used, throttled) = (
            values(took, |t| t.used),
            values(took, |t| Some(t.throttled)),
        );
        add("rate-used", Unit::Share, Better::Higher, used);
        add("throttled", Unit::Count, Better::Lower, throttled);
        let windows = values(took, |took| took.window_10s);
        let name = format!("{key}/{workers}/window-10s");
        measures
            .extend(windows.map(|values| Measure::new(name, Unit::Count, values).circumstance()));
    }
    let predicted = Series::new("model", expected).dashed();
    Section {
        title: String::new(),
        about: String::new(),
        measures,
        table: Some(table),
        charts: vec![speed_chart("Rows per second", all, Some(predicted))],
    }
}
