//! The ledger of a dry run: in no hurry to the disk, and otherwise one like any other.

use super::*;

fn rehearsal(job: &NewJob) -> (Desk, Ledger) {
    let desk = Desk::empty();
    let ledger = Ledger::rehearsal(&desk.path, job).unwrap();
    (desk, ledger)
}

#[test]
fn a_rehearsal_counts_and_can_be_read_like_any_other() {
    let (desk, mut ledger) = rehearsal(&job(2000, 100));
    let failed = RowOutcome::failed(RowNumber(2), Step::User, RowError::local("x", "no"));
    ledger
        .commit(&[
            lease(1, 0, 1),
            Change::settle(vec![created(1), failed.clone()]),
        ])
        .unwrap();
    ledger
        .commit(&[Change::settle((3..=2000).map(created).collect::<Vec<_>>())])
        .unwrap();
    ledger.verify_totals().unwrap();
    assert_eq!(ledger.totals().rows.created, 1999);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let again = desk.open().totals().rows;
    assert_eq!((again.created, again.failed, again.pending), (1999, 1, 0));
}

#[test]
fn a_rehearsals_commit_is_all_or_nothing() {
    let (_desk, mut ledger) = rehearsal(&job(10, 5));
    ledger
        .commit(&[Change::settle(vec![created(1), created(11)])])
        .unwrap_err();
    assert_eq!(ledger.totals().rows.created, 0);
    ledger.commit(&[Change::settle(vec![created(1)])]).unwrap();
    ledger.verify_totals().unwrap();
}
