//! Readers beside a live writer, and the writer thread over a real ledger.

use super::*;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

fn rows_read(reader: &LedgerReader, from: u32) -> Vec<u32> {
    let mut rows = Vec::new();
    reader
        .for_each_outcome(RowNumber(from), |outcome| {
            rows.push(outcome.row.0);
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

#[test]
fn a_live_run_is_seen_from_outside() {
    let desk = Desk::new(&job(10, 5));
    let reader = LedgerReader::open(&desk.path).unwrap();
    assert_eq!(reader.summary().unwrap().run, None);
    let mut ledger = desk.open();
    let me = Holder::current();
    let run = ledger.begin_run(&me).unwrap();
    assert_eq!(reader.summary().unwrap().run.unwrap().snapshot, None);
    let changes = [
        Change::settle(vec![created(1)]),
        Change::Run(Box::new(snapshot(1))),
    ];
    ledger.commit(&changes).unwrap();
    let summary = reader.summary().unwrap();
    assert_eq!(summary.record, record());
    assert_eq!(
        (summary.totals.rows.created, summary.totals.rows.pending),
        (1, 9)
    );
    let view = summary.run.unwrap();
    assert_eq!((view.id, view.ended_ms, view.generation), (run, None, 1));
    assert_eq!(view.snapshot, Some(snapshot(1)));
    let kept = Holder {
        pid_space: String::new(),
        ..me.clone()
    };
    assert_eq!(view.holder, kept);
    let last = RunSnapshot {
        state: RunState::Interrupted,
        exit: Some(130),
        ..snapshot(1)
    };
    ledger.end_run(&last, 77).unwrap();
    let view = reader.summary().unwrap().run.unwrap();
    assert_eq!((view.ended_ms, view.snapshot), (Some(77), Some(last)));
    assert_eq!(ledger.begin_run(&me).unwrap(), run + 1);
}

#[test]
fn outcomes_come_ascending_over_many_pages_and_may_be_stopped() {
    let desk = Desk::new(&job(10_000, 1000));
    let mut ledger = desk.open();
    let rows: Vec<u32> = (1..=10_000).filter(|row| row % 10 != 0).collect();
    let outcomes: Vec<_> = rows.iter().rev().map(|row| created(*row)).collect();
    ledger.commit(&[Change::settle(outcomes)]).unwrap();
    let reader = LedgerReader::open(&desk.path).unwrap();
    assert_eq!(rows_read(&reader, 1), rows);
    assert_eq!(rows_read(&reader, 9_998), [9_998, 9_999]);
    let mut seen = 0;
    reader
        .for_each_outcome(RowNumber(1), |_| {
            seen += 1;
            if seen == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn a_retry_between_two_pages_ends_the_reading() {
    let desk = Desk::new(&job(5000, 1000));
    let mut ledger = desk.open();
    ledger
        .commit(&[Change::settle(
            (1..=5000).map(|row| parked(row, "x")).collect::<Vec<_>>(),
        )])
        .unwrap();
    let reader = LedgerReader::open(&desk.path).unwrap();
    let mut retried = false;
    let error = reader
        .for_each_outcome(RowNumber(1), |_| {
            if !retried {
                ledger.retry(&RetryPick::default()).unwrap();
                retried = true;
            }
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert!(matches!(error, LedgerError::Reopened), "{error}");
}

#[test]
fn a_reader_cannot_write() {
    let desk = Desk::new(&job(5, 5));
    let conn = schema::open_reader(&desk.path).unwrap();
    assert!(conn.execute("DELETE FROM chunk", []).is_err());
}

/// Starts a writer whose replies are kept.
fn writer(desk: &Desk) -> (Writer, Arc<Mutex<Replies>>) {
    let replies = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&replies);
    let keep = Box::new(move |some| heard.lock().unwrap().extend(some));
    (Writer::start(desk.open(), keep).unwrap(), replies)
}

#[test]
fn the_writer_commits_everything_before_it_ends() {
    let desk = Desk::new(&job(1000, 100));
    let (writer, replies) = writer(&desk);
    for row in 1..=1000 {
        let changes = vec![Change::settle(vec![created(row)])];
        writer
            .send(Request {
                ticket: u64::from(row),
                changes,
                alone: false,
            })
            .unwrap();
    }
    let mut ledger = writer.finish().unwrap();
    let tickets: Vec<u64> = replies
        .lock()
        .unwrap()
        .iter()
        .map(|(ticket, _)| *ticket)
        .collect();
    assert_eq!(tickets, (1..=1000).collect::<Vec<u64>>());
    assert_eq!(ledger.totals().rows.pending, 0);
    ledger.verify_totals().unwrap();
    let log = desk
        .path
        .with_file_name(format!("{}-wal", store::LEDGER_FILE));
    assert_eq!(std::fs::metadata(log).unwrap().len(), 0);
}

#[test]
fn a_broken_rule_stops_the_writer_for_good() {
    let desk = Desk::new(&job(10, 10));
    let (writer, replies) = writer(&desk);
    let settle = |row| vec![Change::settle(vec![created(row)])];
    for (ticket, row) in [(1, 1), (2, 99), (3, 2)] {
        writer
            .send(Request {
                ticket,
                changes: settle(row),
                alone: false,
            })
            .unwrap();
    }
    drop(writer.finish().unwrap());
    let replies = replies.lock().unwrap();
    assert_eq!(replies.len(), 3);
    assert!(replies[2].1.is_err());
}

#[test]
fn a_panic_in_the_callback_is_reported() {
    let desk = Desk::new(&job(10, 10));
    let writer = Writer::start(desk.open(), Box::new(|_| panic!("callback"))).unwrap();
    let changes = vec![Change::settle(vec![created(1)])];
    let request = Request {
        ticket: 1,
        changes,
        alone: false,
    };
    writer.send(request).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(
        matches!(&error, WriterError::Panicked(words) if words == "callback"),
        "{error}"
    );
    desk.open().verify_totals().unwrap();
}

#[test]
fn parts_that_are_counted_apart_make_the_whole() {
    let desk = Desk::new(&job(1000, 7));
    let failed = |row| RowOutcome::failed(RowNumber(row), Step::User, RowError::local("x", "no"));
    let outcome = |row: u32| {
        if row.is_multiple_of(3) {
            failed(row)
        } else {
            created(row)
        }
    };
    let mut ledger = desk.open();
    ledger
        .commit(&[Change::settle((1..=700).map(outcome).collect::<Vec<_>>())])
        .unwrap();
    let known = commit::Known::load(ledger.connection()).unwrap();
    let count = |rows| commit::count(ledger.connection(), &known, rows).unwrap();
    let compare = |counted| commit::compare(ledger.connection(), &known, counted);
    let mut counted = count(1..=1);
    counted.add(&count(2..=300));
    counted.add(&count(301..=1000));
    compare(counted).unwrap();
    // A part that is forgotten, or that comes twice, is noticed.
    let mut short = count(1..=300);
    short.add(&count(302..=1000));
    compare(short).unwrap_err();
    let mut long = count(1..=700);
    long.add(&count(700..=700));
    compare(long).unwrap_err();
}

#[test]
fn a_ledger_that_is_written_meanwhile_is_not_taken_for_damaged() {
    let desk = Desk::new(&job(2000, 100));
    let mut ledger = desk.open();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for row in 1..=2000 {
                ledger
                    .commit(&[Change::settle(vec![created(row)])])
                    .unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            LedgerReader::check(&desk.path).unwrap();
        }
    });
    LedgerReader::check(&desk.path).unwrap();
}
