//! How much is leased to whom, and what a crash leaves in doubt.

use super::*;
use crate::ledger::LeaseImage;
use crate::model::ChunkHash;

fn image(rows: u32, chunk_rows: u32) -> JobImage {
    let chunks = (0..rows.div_ceil(chunk_rows)).map(|n| ChunkSpec {
        id: ChunkId(n),
        offset: 0,
        length: 1,
        first_row: RowNumber(n * chunk_rows + 1),
        rows: chunk_rows.min(rows - n * chunk_rows),
        first_line: 1,
        hash: ChunkHash([0; 16]),
    });
    JobImage {
        chunks: chunks.collect(),
        ..JobImage::default()
    }
}

fn numbers(rows: impl IntoIterator<Item = u32>) -> Vec<RowNumber> {
    rows.into_iter().map(RowNumber).collect()
}

/// Leases the next unit to `worker`; returns its rows.
fn lease(work: &mut Work, worker: u32) -> Option<(LeaseId, Vec<RowNumber>)> {
    let unit = work.next_unit(WorkerId(worker))?;
    let rows = unit.rows.clone();
    let (_, draft) = work.lease(unit, WorkerId(worker), ServerMs(1)).unwrap();
    Some((draft.grant.lease, rows))
}

fn settle(work: &mut Work, worker: u32, lease: LeaseId, rows: &[RowNumber]) {
    for row in rows {
        work.on_outcome(WorkerId(worker), lease, *row).unwrap();
    }
}

#[test]
fn a_window_is_a_chunk_or_as_many_as_are_in_flight() {
    for (chunk, in_flight, max, low) in [
        (1000, 64, 1000, 192),
        (250, 64, 250, 187),
        (100, 64, 100, 75),
        (64, 64, 64, 48),
        (10, 64, 70, 52),
        (1, 64, 64, 48),
        (1, 1, 1, 0),
        (5, 4, 5, 3),
        (3, 3, 3, 2),
        (2, 2, 2, 1),
    ] {
        let window = Window::new(chunk, Leasing::Limited(in_flight));
        assert_eq!((window.max, window.low), (max, low), "{chunk} {in_flight}");
    }
    assert_eq!(Window::new(250, Leasing::Rehearsed).max, usize::MAX);
}

#[test]
fn a_worker_gets_more_before_it_runs_dry_and_never_more_than_a_chunk_in_all() {
    let (mut work, _) = Work::load(&mut image(1000, 250), Leasing::Limited(64), None);
    let (first, rows) = lease(&mut work, 1).unwrap();
    assert_eq!(rows, numbers(1..=250));
    assert!(lease(&mut work, 1).is_none());
    settle(&mut work, 1, first, &numbers(1..=62));
    assert!(lease(&mut work, 1).is_none(), "188 are unfinished");
    settle(&mut work, 1, first, &numbers([63]));
    let (second, rows) = lease(&mut work, 1).unwrap();
    assert_eq!(rows, numbers(251..=313));
    assert_eq!(work.unfinished(WorkerId(1)), 250);
    settle(&mut work, 1, first, &numbers(64..=250));
    settle(&mut work, 1, second, &numbers(251..=300));
    assert_eq!(work.unfinished(WorkerId(1)), 13);
    let (_, rows) = lease(&mut work, 1).unwrap();
    assert_eq!(rows, numbers(314..=500), "what was left of its chunk");
}

#[test]
fn without_a_limit_a_worker_gets_whole_chunks_beside_what_it_has() {
    for (chunk, in_flight, max) in [(1000, 64, 2000), (250, 64, 500), (100, 64, 300), (1, 1, 4)] {
        let window = Window::new(chunk, Leasing::Unlimited(in_flight));
        assert_eq!((window.max, window.low), (max, 0), "{chunk} {in_flight}");
    }
    let (mut work, _) = Work::load(&mut image(1000, 250), Leasing::Unlimited(64), None);
    let (first, rows) = lease(&mut work, 1).unwrap();
    assert_eq!(rows, numbers(1..=250));
    assert_eq!(lease(&mut work, 1).unwrap().1, numbers(251..=500));
    assert!(lease(&mut work, 1).is_none());
    settle(&mut work, 1, first, &numbers(1..=249));
    assert!(lease(&mut work, 1).is_none(), "251 are unfinished");
    settle(&mut work, 1, first, &numbers([250]));
    assert_eq!(lease(&mut work, 1).unwrap().1, numbers(501..=750));
}

#[test]
fn small_chunks_are_leased_whole_until_the_window_is_full() {
    let (mut work, _) = Work::load(&mut image(1000, 10), Leasing::Limited(64), None);
    let mut leases = Vec::new();
    while let Some((id, rows)) = lease(&mut work, 1) {
        assert_eq!(rows.len(), 10);
        leases.push((id, rows));
    }
    assert_eq!(work.unfinished(WorkerId(1)), 70);
    let (id, rows) = &leases[0];
    settle(&mut work, 1, *id, rows);
    assert_eq!(lease(&mut work, 1).unwrap().1, numbers(71..=80));
}

#[test]
fn one_row_that_takes_for_ever_does_not_hold_up_its_worker() {
    let (mut work, _) = Work::load(&mut image(1000, 250), Leasing::Limited(64), None);
    let (first, rows) = lease(&mut work, 1).unwrap();
    settle(&mut work, 1, first, &rows[1..]);
    assert_eq!(lease(&mut work, 1).unwrap().1, numbers(251..=499));
}

#[test]
fn a_dry_run_leases_as_much_as_it_is_asked_for() {
    let (mut work, _) = Work::load(&mut image(1000, 250), Leasing::Rehearsed, None);
    for _ in 0..4 {
        assert_eq!(lease(&mut work, 1).unwrap().1.len(), 250);
    }
}

/// What a crash left in doubt comes first, alone: rows beside it that were never leased do not come
/// into doubt before the last of it is given out.
#[test]
fn after_a_crash_only_rows_in_doubt_are_given_out_first() {
    let mut crashed = image(30, 10);
    for (chunk, suspects, remaining) in [(0, 4..=6, 4..=10), (1, 11..=12, 11..=20)] {
        let lease = LeaseImage {
            t_lo: ServerMs(7),
            suspects: numbers(suspects),
        };
        crashed.leases.insert(ChunkId(chunk), lease);
        crashed.remaining.insert(ChunkId(chunk), numbers(remaining));
    }
    let (mut work, _) = Work::load(&mut crashed, Leasing::Limited(10), None);
    let mut order = Vec::new();
    for worker in 1.. {
        let Some((_, rows)) = lease(&mut work, worker) else {
            break;
        };
        order.push(rows);
    }
    let expected = [4..=6, 11..=12, 7..=10, 13..=20, 21..=30].map(numbers);
    assert_eq!(order, expected);
}

#[test]
fn what_a_dead_worker_held_comes_before_the_rest_of_a_chunk() {
    let (mut work, _) = Work::load(&mut image(1000, 250), Leasing::Limited(64), None);
    let (first, rows) = lease(&mut work, 1).unwrap();
    let (_, held) = lease(&mut work, 2).unwrap();
    settle(&mut work, 1, first, &rows[..190]);
    // 190 of the third chunk, whose rest waits for the next who asks.
    assert_eq!(lease(&mut work, 1).unwrap().1.len(), 190);
    work.on_worker_gone(WorkerId(2));
    assert_eq!(lease(&mut work, 3).unwrap().1, held);
    assert_eq!(lease(&mut work, 4).unwrap().1, numbers(691..=750));
}

fn unclear(row: RowNumber) -> RowOutcome {
    use crate::model::{RowError, Step};
    RowOutcome::parked(row, Step::User, RowError::local("server_error", "500"))
}

#[test]
fn a_row_that_met_only_errors_is_tried_once_more_when_all_else_is_done() {
    let (mut work, _) = Work::load(&mut image(4, 2), Leasing::Limited(2), None);
    let (first, _) = lease(&mut work, 1).unwrap();
    settle(&mut work, 1, first, &numbers([1, 2]));
    assert_eq!(work.unless_set_aside(unclear(RowNumber(1))), None);
    let (second, rows) = lease(&mut work, 1).unwrap();
    assert_eq!(rows, numbers([3, 4]), "everything else comes first");
    assert!(!work.has_next());
    settle(&mut work, 1, second, &rows);
    assert!(!work.is_idle());
    let unit = work.next_unit(WorkerId(2)).unwrap();
    assert_eq!(unit.rows, numbers([1]));
    let (_, draft) = work.lease(unit, WorkerId(2), ServerMs(9)).unwrap();
    let (row, context) = draft.grant.contexts.first().unwrap();
    assert_eq!((*row, context.suspect), (RowNumber(1), true));
    settle(&mut work, 2, draft.grant.lease, &numbers([1]));
    let outcome = unclear(RowNumber(1));
    assert_eq!(work.unless_set_aside(outcome.clone()), Some(outcome));
    assert!(work.is_idle());
}

#[test]
fn only_a_few_rows_are_set_aside() {
    let (mut work, _) = Work::load(&mut image(100, 100), Leasing::Limited(100), None);
    let (id, rows) = lease(&mut work, 1).unwrap();
    settle(&mut work, 1, id, &rows);
    let kept = rows
        .iter()
        .filter(|row| work.unless_set_aside(unclear(**row)).is_none());
    assert_eq!(kept.count(), LAST_PASS_MAX);
}

/// Row 1 made the user of its group and is open again; row 2, which follows it, is settled.
fn reopened(leads: bool) -> (Change, Grant) {
    let mut image = image(1, 1);
    let fate = crate::ledger::GroupFate {
        leader: RowNumber(1),
        fate: Fate::User,
    };
    image.fates = BTreeMap::from([(RowNumber(2), fate)]);
    let reached = Reached {
        org_id: None,
        membership: None,
        locale_set: false,
        leads,
    };
    let carry = Carry {
        reached: Some(reached),
        ..Carry::default()
    };
    image.carry = BTreeMap::from([(RowNumber(1), carry)]);
    let (mut work, _) = Work::load(&mut image, Leasing::Limited(1), None);
    let unit = work.next_unit(WorkerId(1)).unwrap();
    let (change, draft) = work.lease(unit, WorkerId(1), ServerMs(1)).unwrap();
    (change, draft.grant)
}

#[test]
fn a_row_that_has_its_last_steps_left_goes_on_as_the_one_that_leads() {
    for leads in [true, false] {
        let (change, grant) = reopened(leads);
        let Change::Lease { followers, .. } = change else {
            panic!("no lease");
        };
        assert_eq!(followers.is_empty(), leads);
        let reached = grant.contexts[0].1.reached.as_ref().unwrap();
        assert_eq!(reached.leads, leads);
    }
}
