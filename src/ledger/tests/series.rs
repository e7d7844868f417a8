//! Samples of a run: bounded, folded evenly, and gone with old runs.

use super::*;

fn at(second: u32, settled: u64) -> RunSnapshot {
    RunSnapshot {
        elapsed_s: f64::from(second) + 0.25,
        requests: crate::model::RequestTally {
            writes: settled * 2,
            ..Default::default()
        },
        recent_ms: [f64::from(second % 3), f64::from(second)],
        ..snapshot(settled)
    }
}

fn samples(desk: &Desk) -> Vec<Sample> {
    let series = LedgerReader::open(&desk.path).unwrap().series().unwrap();
    series.last().unwrap().samples.clone()
}

#[test]
fn a_long_run_keeps_few_samples_at_even_distances() {
    let desk = Desk::new(&job(5, 5));
    let mut ledger = desk.open();
    ledger.begin_run(&Holder::current()).unwrap();
    let seconds = 2500_u32;
    for second in 0..seconds {
        let snapshot = Box::new(at(second, u64::from(second) + 1));
        ledger.commit(&[Change::Run(snapshot)]).unwrap();
    }
    let samples = samples(&desk);
    assert!(samples.len() <= 600, "{}", samples.len());
    let stride = 8;
    for (at, sample) in samples.iter().enumerate() {
        assert_eq!(sample.at_s, at as u64 * stride);
        let last = (sample.at_s + stride).min(u64::from(seconds));
        assert_eq!((sample.settled, sample.writes), (last, 2 * last));
        assert!(
            (sample.p99_ms - (last - 1) as f64).abs() < 1e-9,
            "{sample:?}"
        );
        assert!(sample.p50_ms > 0.0 && sample.p50_ms <= 2.0, "{sample:?}");
    }
}

#[test]
fn samples_of_old_runs_go_and_those_of_the_last_stay() {
    let desk = Desk::new(&job(5, 5));
    let mut ledger = desk.open();
    for _ in 0..25 {
        ledger.begin_run(&Holder::current()).unwrap();
        ledger.commit(&[Change::Run(Box::new(at(1, 1)))]).unwrap();
        ledger.end_run(&at(2, 1), 9).unwrap();
    }
    let series = LedgerReader::open(&desk.path).unwrap().series().unwrap();
    let runs: Vec<i64> = series.iter().map(|run| run.run).collect();
    assert!(runs.into_iter().eq(6..=25));
    assert!(
        series.iter().all(|run| run.samples.len() == 2),
        "{series:?}"
    );
}

#[test]
fn settings_stay_with_the_job() {
    let desk = Desk::new(&job(5, 5));
    let settings = Settings {
        limit: Some(3),
        rate: Some("500/10s".to_owned()),
        ..Settings::default()
    };
    let mut ledger = desk.open();
    assert_eq!(ledger.settings().unwrap(), Settings::default());
    ledger.keep_settings(&settings).unwrap();
    ledger.keep_settings(&settings).unwrap();
    drop(ledger);
    assert_eq!(desk.open().settings().unwrap(), settings);
    let reader = LedgerReader::open(&desk.path).unwrap();
    assert_eq!(reader.summary().unwrap().settings, settings);
}

#[test]
fn problems_and_organizations_are_grouped_and_add_up() {
    let desk = Desk::new(&job(30, 10));
    let mut ledger = desk.open();
    let outcomes = (1..=28).map(|row| match row {
        1..=20 => created(row),
        21..=25 => failed(row, Step::Membership, "invalid_role"),
        26 => failed(row, Step::Validation, "email_invalid"),
        _ => parked(row, "server_error"),
    });
    ledger
        .commit(&[Change::settle(outcomes.collect::<Vec<_>>())])
        .unwrap();
    let reader = LedgerReader::open(&desk.path).unwrap();
    let problems = reader.problems().unwrap();
    let told: Vec<_> = problems
        .iter()
        .map(|p| (p.state, p.code.as_str(), p.rows, p.examples.len()))
        .collect();
    assert_eq!(
        told,
        [
            (RowState::Failed, "invalid_role", 5, 3),
            (RowState::Parked, "server_error", 2, 2),
            (RowState::Failed, "email_invalid", 1, 1),
        ]
    );
    assert_eq!(problems[0].examples[0].row, RowNumber(21));
    assert_eq!(problems[0].examples[0].http_status, Some(422));
    let orgs = reader.organizations(3).unwrap();
    assert_eq!((orgs.top.len(), orgs.others), (3, 4));
    // What failed before it reached an organization is not said to ask for none.
    assert_eq!(
        (orgs.without, orgs.unreached, orgs.unreached_problems),
        (0, 8, 8)
    );
    let named: u64 = orgs.top.iter().map(|org| org.rows).sum();
    assert_eq!(named + orgs.others_rows + orgs.unreached, 28);
}

#[test]
fn a_ledger_of_the_first_format_is_read_as_it_is_and_brought_up_to_date_by_a_writer() {
    let desk = Desk::new(&job(5, 5));
    {
        let mut ledger = desk.open();
        ledger.begin_run(&Holder::current()).unwrap();
        let old = "DROP TABLE sample; DROP TABLE settings; PRAGMA user_version = 1;";
        ledger.connection().execute_batch(old).unwrap();
        ledger.checkpoint().unwrap();
    }
    let reader = LedgerReader::open(&desk.path).unwrap();
    assert_eq!(reader.summary().unwrap().settings, Settings::default());
    assert!(reader.series().unwrap()[0].samples.is_empty());
    drop(reader);
    let mut ledger = desk.open();
    ledger.begin_run(&Holder::current()).unwrap();
    ledger.commit(&[Change::Run(Box::new(at(1, 1)))]).unwrap();
    assert_eq!(samples(&desk).len(), 1);
}
