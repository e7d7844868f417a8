//! `retry`: what is opened, what is kept, and that it still adds up.

use super::*;
use crate::model::{OrgKey, Reached};

#[test]
fn failed_and_parked_rows_are_pending_again_with_what_is_known_of_them() {
    let desk = Desk::new(&job(10, 5));
    let mut ledger = desk.open();
    let wrong = RowOutcome {
        user: Some(user(99)),
        ..parked(4, "wrong_echo")
    };
    let settled = vec![
        created(1),
        half_failed(2),
        parked(3, "poison"),
        wrong,
        created(5),
    ];
    ledger
        .commit(&[lease(1, 0, 100), Change::settle(settled)])
        .unwrap();
    assert_eq!(ledger.load().unwrap().complete, [ChunkId(0)]);
    let opened = ledger.retry(&RetryPick::default()).unwrap();
    assert_eq!((opened.failed, opened.parked, opened.generation), (1, 2, 2));
    ledger.verify_totals().unwrap();

    let mut ledger = desk.open();
    assert_eq!(ledger.record().unwrap().generation, 2);
    let image = ledger.load().unwrap();
    assert_eq!(
        (image.rows.created, image.rows.failed, image.rows.parked),
        (2, 0, 0)
    );
    assert_eq!((image.rows.pending, image.memberships.failed), (8, 0));
    assert_eq!(image.remaining[&ChunkId(0)], numbers(&[2, 3, 4]));
    let lease = &image.leases[&ChunkId(0)];
    assert_eq!((lease.t_lo, lease.suspects.len()), (ServerMs(100), 0));
    assert_eq!(
        image.carry[&RowNumber(2)],
        Carry {
            user: Some(user(2)),
            suspect: false,
            ..Carry::default()
        }
    );
    assert_eq!(
        image.carry[&RowNumber(3)],
        Carry {
            user: None,
            suspect: true,
            ..Carry::default()
        }
    );
    assert_eq!(
        image.carry[&RowNumber(4)],
        Carry {
            user: None,
            suspect: true,
            ..Carry::default()
        }
    );

    ledger
        .commit(&[super::lease(2, 0, 900), Change::settle(vec![created(2)])])
        .unwrap();
    let image = ledger.load().unwrap();
    assert_eq!(
        image.leases[&ChunkId(0)].t_lo,
        ServerMs(100),
        "the first lease ever"
    );
    assert_eq!(image.leases[&ChunkId(0)].suspects, numbers(&[3, 4]));
    assert!(!image.carry.contains_key(&RowNumber(2)));
    ledger.verify_totals().unwrap();
}

#[test]
fn a_row_that_was_suspect_and_never_settled_stays_suspect() {
    let desk = Desk::new(&job(10, 5));
    let mut ledger = desk.open();
    let settled = Change::settle(vec![failed(1, Step::User, "invalid_email")]);
    ledger
        .commit(&[lease_rows(1, 0, 100, &[1, 2]), settled])
        .unwrap();
    ledger.retry(&RetryPick::default()).unwrap();
    let image = ledger.load().unwrap();
    assert!(image.leases[&ChunkId(0)].suspects.is_empty());
    assert_eq!(image.carry[&RowNumber(1)], Carry::default());
    assert_eq!(
        image.carry[&RowNumber(2)],
        Carry {
            user: None,
            suspect: true,
            ..Carry::default()
        }
    );
}

#[test]
fn a_user_known_two_generations_ago_is_not_forgotten() {
    let desk = Desk::new(&job(10, 5));
    let mut ledger = desk.open();
    ledger
        .commit(&[Change::settle(vec![half_failed(1)])])
        .unwrap();
    ledger.retry(&RetryPick::default()).unwrap();
    ledger
        .commit(&[Change::settle(vec![parked(1, "poison")])])
        .unwrap();
    ledger.retry(&RetryPick::default()).unwrap();
    let carry = ledger.load().unwrap().carry;
    assert_eq!(
        carry[&RowNumber(1)],
        Carry {
            user: Some(user(1)),
            suspect: true,
            ..Carry::default()
        }
    );
    ledger
        .commit(&[Change::settle(vec![failed(1, Step::User, "x")])])
        .unwrap();
    assert_eq!(ledger.retry(&RetryPick::default()).unwrap().generation, 4);
    let carry = ledger.load().unwrap().carry;
    assert_eq!(
        carry[&RowNumber(1)],
        Carry {
            user: Some(user(1)),
            suspect: false,
            ..Carry::default()
        }
    );
    let kept: i64 = ledger
        .connection()
        .query_row("SELECT count(*) FROM outcome_history", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 3);
}

#[test]
fn what_the_file_decides_stays_decided() {
    let mut new = job(10, 5);
    new.conflicts = vec![ExternalIdConflict {
        row: RowNumber(4),
        winner: RowNumber(2),
    }];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    assert_eq!(
        ledger.retry(&RetryPick::default()).unwrap(),
        Reopened {
            generation: 1,
            ..Reopened::default()
        }
    );
    ledger
        .commit(&[Change::settle(vec![parked(1, "poison")])])
        .unwrap();
    assert_eq!(ledger.retry(&RetryPick::default()).unwrap().parked, 1);
    let image = ledger.load().unwrap();
    assert_eq!((image.rows.failed, image.rows.pending), (1, 9));
    ledger.verify_totals().unwrap();
}

#[test]
fn a_failed_organization_stays_counted_until_it_is_there() {
    let desk = Desk::new(&job(10, 5));
    let mut ledger = desk.open();
    let key = |name: &str| OrgKey::External(name.into());
    let org = |name: &str, state: OrgState| Change::Org {
        key: key(name),
        record: OrgRecord { state },
    };
    let refused = OrgState::Failed {
        code: "x".into(),
        message: "x".into(),
        http_status: Some(422),
        parked: false,
    };
    let intent = Change::OrgIntent {
        key: key("a"),
        at: ServerMs(5),
    };
    let rows = [1, 2].map(|row| failed(row, Step::Organization, "x"));
    ledger
        .commit(&[
            intent,
            org("a", refused.clone()),
            org("b", refused.clone()),
            Change::settle(rows.to_vec()),
        ])
        .unwrap();
    let pick = RetryPick {
        rows: numbers(&[2]),
        ..RetryPick::default()
    };
    assert_eq!(ledger.retry(&pick).unwrap().failed, 1);
    let image = ledger.load().unwrap();
    assert_eq!((image.rows.failed, image.organizations.failed), (1, 2));
    assert_eq!(image.orgs[&key("a")].intent, Some(ServerMs(5)));
    ledger.verify_totals().unwrap();

    let ready = OrgState::Ready {
        id: "org_b".into(),
        origin: Origin::Before,
    };
    ledger.commit(&[org("b", ready)]).unwrap();
    ledger.verify_totals().unwrap();
    let organizations = ledger.load().unwrap().organizations;
    assert_eq!((organizations.found, organizations.failed), (1, 1));
}

#[test]
fn only_the_rows_that_are_meant_are_opened() {
    let outcomes = || {
        vec![
            failed(1, Step::Membership, "invalid_role"),
            failed(2, Step::Organization, "organization_not_found"),
            parked(3, "server_error"),
            failed(4, Step::Membership, "invalid_role"),
            failed(5, Step::User, "it's"),
        ]
    };
    let picks: [(RetryPick, &[u32]); 6] = [
        (
            RetryPick {
                state: Some(RowState::Parked),
                ..RetryPick::default()
            },
            &[3],
        ),
        (
            RetryPick {
                codes: vec!["invalid_role".to_owned(), "it's".to_owned()],
                ..RetryPick::default()
            },
            &[1, 4, 5],
        ),
        (
            RetryPick {
                rows: numbers(&[2, 3, 9]),
                ..RetryPick::default()
            },
            &[2, 3],
        ),
        (
            RetryPick {
                state: Some(RowState::Failed),
                rows: numbers(&[3, 4]),
                ..RetryPick::default()
            },
            &[4],
        ),
        (
            RetryPick {
                codes: vec!["x' OR 1=1 --".to_owned()],
                ..RetryPick::default()
            },
            &[],
        ),
        (RetryPick::default(), &[1, 2, 3, 4, 5]),
    ];
    for (pick, expected) in picks {
        let desk = Desk::new(&job(5, 5));
        let mut ledger = desk.open();
        ledger
            .commit(&[lease(1, 0, 100), Change::settle(outcomes())])
            .unwrap();
        let opened = ledger.retry(&pick).unwrap();
        assert_eq!(
            opened.failed + opened.parked,
            expected.len() as u64,
            "{pick:?}"
        );
        ledger.verify_totals().unwrap();
        let image = ledger.load().unwrap();
        let pending = image
            .remaining
            .get(&ChunkId(0))
            .cloned()
            .unwrap_or_default();
        assert_eq!(pending, numbers(expected), "{pick:?}");
    }
}

#[test]
fn a_leader_that_is_open_again_learns_which_row_made_the_user() {
    let mut new = job(6, 3);
    new.followers = vec![follower(2, 1, None), follower(5, 1, Some(1))];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    let bad = failed(1, Step::Organization, "organization_not_found");
    let settled = vec![bad, created(2), created(5)];
    ledger
        .commit(&[lease_rows(1, 0, 100, &[1, 2]), Change::settle(settled)])
        .unwrap();
    assert_eq!(ledger.retry(&RetryPick::default()).unwrap().failed, 1);
    let image = ledger.load().unwrap();
    assert!(image.followers.is_empty());
    let of_group = |fate| GroupFate {
        leader: RowNumber(1),
        fate,
    };
    assert_eq!(image.fates[&RowNumber(2)], of_group(Fate::User));
    assert!(!image.fates.contains_key(&RowNumber(1)));
    let ask = FollowerAsk {
        row: RowNumber(1),
        leader: RowNumber(2),
        previous_pair: None,
    };
    let lease = Change::Lease {
        id: LeaseId(2),
        chunk: ChunkId(0),
        worker: WorkerId(1),
        at: ServerMs(200),
        rows: Some(vec![ask.row]),
        followers: vec![ask],
    };
    let facts = &ledger.commit(&[lease]).unwrap().followers[0];
    assert_eq!(facts.user, user(2));
    // Row 5 wants the same organization and has made the membership.
    let membership = created(5).membership.unwrap();
    assert_eq!(facts.membership_id, membership.id);
}

#[test]
fn a_user_that_a_follower_made_is_the_open_leaders_user() {
    let mut new = job(6, 3);
    new.followers = vec![follower(2, 1, None)];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    let bad = failed(1, Step::Organization, "organization_not_found");
    ledger
        .commit(&[lease(1, 0, 100), Change::settle(vec![bad, half_failed(2)])])
        .unwrap();
    assert_eq!(ledger.retry(&RetryPick::default()).unwrap().failed, 2);
    let carry = ledger.load().unwrap().carry;
    for row in [1, 2] {
        assert_eq!(carry[&RowNumber(row)].user, Some(user(2)), "row {row}");
    }
}

#[test]
fn a_row_waits_for_the_open_one_of_its_pair_whatever_settled_between() {
    let mut new = job(9, 3);
    new.followers = vec![
        follower(2, 1, Some(1)),
        follower(5, 1, Some(2)),
        follower(8, 1, Some(5)),
    ];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    let no_member = |row| RowOutcome {
        user: Some(user(1)),
        ..half_failed(row)
    };
    let settled = Change::settle([1, 2, 5, 8].map(no_member).to_vec());
    ledger.commit(&[lease(1, 0, 100), settled]).unwrap();
    let pick = RetryPick {
        rows: numbers(&[1, 8]),
        ..RetryPick::default()
    };
    assert_eq!(ledger.retry(&pick).unwrap().failed, 2);
    let image = ledger.load().unwrap();
    let [waiting] = image.followers.as_slice() else {
        panic!("{:?}", image.followers)
    };
    assert_eq!(waiting.follower.row, RowNumber(8));
    assert_eq!(waiting.waits_for, Some(RowNumber(1)));
}

#[test]
fn a_row_that_ended_at_a_last_step_goes_on_there_with_what_it_had_reached() {
    let desk = Desk::new(&job(10, 5));
    let mut ledger = desk.open();
    let late = |row, step| RowOutcome {
        step: Some(step),
        state: RowState::Failed,
        error: failed(row, step, "x").error,
        ..created(row)
    };
    let settled = vec![late(1, Step::Factor), late(2, Step::Locale), created(3)];
    let kept = settled[0].clone();
    ledger.commit(&[Change::settle(settled)]).unwrap();
    let before = ledger.load().unwrap().memberships;
    ledger.retry(&RetryPick::default()).unwrap();
    ledger.verify_totals().unwrap();
    let image = ledger.load().unwrap();
    let reached = Reached {
        org_id: kept.org_id.clone(),
        membership: kept.membership.clone(),
        locale_set: true,
        leads: true,
    };
    for (row, locale_set) in [(1, true), (2, false)] {
        let carry = &image.carry[&RowNumber(row)];
        assert!(carry.user.is_some());
        let told = carry.reached.as_ref().unwrap();
        assert_eq!((told.leads, told.locale_set), (true, locale_set));
    }
    assert_eq!(image.carry[&RowNumber(1)].reached, Some(reached.clone()));
    // A generation that learnt nothing about it takes nothing away.
    ledger
        .commit(&[Change::settle(vec![parked(1, "poison"), created(2)])])
        .unwrap();
    ledger.retry(&RetryPick::default()).unwrap();
    let carry = ledger.load().unwrap().carry;
    assert_eq!(carry[&RowNumber(1)].reached, Some(reached));
    ledger.commit(&[Change::settle(vec![created(1)])]).unwrap();
    assert_eq!(ledger.load().unwrap().memberships, before);
    ledger.verify_totals().unwrap();
}
