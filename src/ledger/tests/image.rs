//! What is committed, and what comes back.

use super::*;
use crate::model::{OrgKey, OrgTally};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn a_new_job_comes_back_as_it_was_indexed() {
    let mut new = job(25, 10);
    new.record.source = PathBuf::from(OsStr::from_bytes(b"/data/\xff\xfe.csv"));
    new.followers = vec![follower(5, 2, None), follower(22, 2, Some(5))];
    new.conflicts = vec![ExternalIdConflict {
        row: RowNumber(9),
        winner: RowNumber(3),
    }];
    new.org_names = vec![(7, RowNumber(4)), (u64::MAX, RowNumber(1))];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    assert_eq!(ledger.record().unwrap(), new.record);
    let image = ledger.load().unwrap();
    assert_eq!(image.chunks, new.chunks);
    assert_eq!(image.org_names, new.org_names);
    assert_eq!(image.hash_key, new.hash_key);
    let followers: Vec<Follower> = image.followers.iter().map(|f| f.follower).collect();
    assert_eq!(followers, new.followers);
    assert_eq!(
        (image.rows.total, image.rows.failed, image.rows.pending),
        (25, 1, 24)
    );
    assert_eq!(
        image.remaining[&ChunkId(0)],
        numbers(&[1, 2, 3, 4, 5, 6, 7, 8, 10])
    );
    assert_eq!(image.remaining.len(), 1, "the other chunks are untouched");
    assert!(image.complete.is_empty() && image.leases.is_empty());
    ledger.verify_totals().unwrap();
}

#[test]
fn a_conflict_in_the_file_names_the_row_that_wins() {
    let mut new = job(5, 5);
    new.conflicts = vec![ExternalIdConflict {
        row: RowNumber(4),
        winner: RowNumber(2),
    }];
    let desk = Desk::new(&new);
    let mut found = Vec::new();
    let reader = LedgerReader::open(&desk.path).unwrap();
    reader
        .for_each_outcome(RowNumber(1), |outcome| {
            found.push(outcome.clone());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let error = found[0].error.as_ref().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].row, found[0].state),
        (RowNumber(4), RowState::Failed)
    );
    assert_eq!(found[0].step, Some(Step::Validation));
    assert_eq!(error.code, "external_id_conflict_in_file");
    let words = "row 4, column external_id: row 2 has the same external_id";
    assert!(error.message.starts_with(words), "{}", error.message);
}

#[test]
fn a_plan_that_does_not_add_up_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut new = job(25, 10);
    new.rows = 26;
    let error = Ledger::create(&folder.path().join("a"), &new).unwrap_err();
    assert!(
        matches!(error, LedgerError::Invariant { id: "I3", .. }),
        "{error}"
    );
    let mut new = job(25, 10);
    new.chunks.remove(1);
    assert!(Ledger::create(&folder.path().join("b"), &new).is_err());
}

#[test]
fn an_empty_file_is_a_job_too() {
    let desk = Desk::new(&job(0, 10));
    let image = desk.open().load().unwrap();
    assert!(image.chunks.is_empty());
    assert_eq!(image.rows.pending, 0);
}

#[test]
fn leased_rows_without_an_outcome_are_suspect_since_the_first_lease() {
    let desk = Desk::new(&job(20, 10));
    desk.open()
        .commit(&[
            lease(1, 0, 500),
            Change::settle(vec![created(1), created(3)]),
        ])
        .unwrap();
    desk.open().commit(&[lease_rows(2, 0, 900, &[4])]).unwrap();
    let image = desk.open().load().unwrap();
    let lease = &image.leases[&ChunkId(0)];
    assert_eq!(lease.t_lo, ServerMs(500));
    assert_eq!(lease.suspects, numbers(&[2, 4, 5, 6, 7, 8, 9, 10]));
    assert_eq!(image.last_lease, LeaseId(2));
    assert!(!image.remaining.contains_key(&ChunkId(1)));
}

#[test]
fn a_waiting_follower_is_not_covered_by_its_chunks_lease() {
    let mut new = job(10, 5);
    new.followers = vec![
        follower(4, 1, None),
        follower(5, 2, Some(4)),
        follower(7, 1, None),
    ];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    ledger.commit(&[lease(1, 0, 1)]).unwrap();
    let suspects = |ledger: &mut Ledger, chunk| {
        ledger.load().unwrap().leases[&ChunkId(chunk)]
            .suspects
            .clone()
    };
    assert_eq!(suspects(&mut ledger, 0), numbers(&[1, 2, 3]));
    // Its leader is settled before the lease of its own chunk: it may have gone along.
    ledger
        .commit(&[Change::settle(vec![created(1)]), lease(2, 1, 2)])
        .unwrap();
    assert_eq!(suspects(&mut ledger, 1), numbers(&[6, 7, 8, 9, 10]));
    // And as work of its own it is covered by its own lease.
    ledger.commit(&[lease_rows(3, 0, 3, &[4])]).unwrap();
    assert_eq!(suspects(&mut ledger, 0), numbers(&[2, 3, 4]));
}

#[test]
fn a_chunk_whose_rows_are_all_settled_is_complete() {
    let desk = Desk::new(&job(20, 10));
    let mut ledger = desk.open();
    ledger
        .commit(&[
            lease(1, 0, 1),
            Change::settle((1..=10).map(created).collect::<Vec<_>>()),
        ])
        .unwrap();
    let image = desk.open().load().unwrap();
    assert_eq!(image.complete, [ChunkId(0)]);
    assert!(image.leases.is_empty() && image.remaining.is_empty());
    assert_eq!((image.rows.created, image.memberships.created), (10, 10));
}

#[test]
fn the_same_outcome_again_is_ignored_and_another_one_breaks_nothing() {
    let desk = Desk::new(&job(10, 10));
    let mut ledger = desk.open();
    ledger.commit(&[Change::settle(vec![created(1)])]).unwrap();
    ledger
        .commit(&[Change::settle(vec![created(1), created(2)])])
        .unwrap();
    assert_eq!(ledger.totals().rows.created, 2);
    let other = RowOutcome {
        attempts: 3,
        ..created(1)
    };
    let error = ledger
        .commit(&[Change::settle(vec![created(3), other])])
        .unwrap_err();
    assert!(
        matches!(error, LedgerError::Invariant { id: "I8", .. }),
        "{error}"
    );
    assert_eq!(
        ledger.totals().rows.created,
        2,
        "nothing of that transaction is kept"
    );
    ledger.verify_totals().unwrap();
    ledger.commit(&[Change::settle(vec![created(3)])]).unwrap();
    ledger.verify_totals().unwrap();
}

#[test]
fn every_field_of_an_outcome_survives() {
    let desk = Desk::new(&job(10, 10));
    let membership = MembershipOutcome {
        id: None,
        state: MembershipState::Failed,
        repeat: true,
    };
    let odd = RowOutcome {
        user: Some(UserOutcome {
            id: "u".into(),
            origin: Origin::Made(Evidence::Weak),
        }),
        membership: Some(membership),
        attempts: u16::MAX,
        ..failed(2, Step::Factor, "x")
    };
    let all = vec![created(1), odd, parked(3, "poison"), half_failed(4)];
    desk.open().commit(&[Change::settle(all.clone())]).unwrap();
    let mut found = Vec::new();
    LedgerReader::open(&desk.path)
        .unwrap()
        .for_each_outcome(RowNumber(1), |outcome| {
            found.push(outcome.clone());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, all);
    desk.open().verify_totals().unwrap();
}

#[test]
fn rows_and_chunks_that_are_not_there_are_refused() {
    let desk = Desk::new(&job(10, 10));
    let mut ledger = desk.open();
    for change in [
        Change::settle(vec![created(0)]),
        Change::settle(vec![created(11)]),
        lease(1, 1, 0),
        lease_rows(1, 0, 0, &[11]),
        Change::Run(Box::new(snapshot(0))),
    ] {
        let error = ledger.commit(std::slice::from_ref(&change)).unwrap_err();
        assert!(
            matches!(error, LedgerError::Invariant { .. }),
            "{change:?}: {error}"
        );
    }
}

#[test]
fn a_lease_number_is_used_once_and_settled_rows_are_not_leased() {
    let desk = Desk::new(&job(10, 10));
    let mut ledger = desk.open();
    ledger
        .commit(&[lease(1, 0, 1), Change::settle(vec![created(2)])])
        .unwrap();
    for change in [
        lease(1, 0, 2),
        lease_rows(2, 0, 2, &[2]),
        lease_rows(2, 0, 2, &[1, 2, 3]),
    ] {
        let error = ledger.commit(&[change]).unwrap_err();
        assert!(
            matches!(error, LedgerError::Invariant { id: "I2", .. }),
            "{error}"
        );
    }
    ledger
        .commit(&[lease_rows(2, 0, 2, &[1, 3, 10])])
        .expect("what is settled between them is not among them");
}

#[test]
fn a_follower_gets_its_leaders_user_and_its_pairs_membership() {
    let mut new = job(10, 10);
    new.followers = vec![
        follower(4, 1, Some(1)),
        follower(5, 1, Some(3)),
        follower(6, 1, None),
    ];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    let settled = vec![created(1), half_failed(3)];
    ledger.commit(&[Change::settle(settled)]).unwrap();
    let ask = |row, leader, pair: Option<u32>| FollowerAsk {
        row: RowNumber(row),
        leader: RowNumber(leader),
        previous_pair: pair.map(RowNumber),
    };
    let with = |id, asks: Vec<FollowerAsk>| Change::Lease {
        id: LeaseId(id),
        chunk: ChunkId(0),
        worker: WorkerId(1),
        at: ServerMs(1),
        rows: Some(asks.iter().map(|ask| ask.row).collect()),
        followers: asks,
    };
    let asks = vec![ask(4, 1, Some(1)), ask(5, 1, Some(3)), ask(6, 1, None)];
    let reply = ledger.commit(&[with(1, asks)]).unwrap();
    let ids: Vec<Option<String>> = reply
        .followers
        .iter()
        .map(|facts| facts.membership_id.clone())
        .collect();
    assert_eq!(ids, [created(1).membership.unwrap().id, None, None]);
    assert!(reply.followers.iter().all(|facts| facts.user == user(1)));
    let rows: Vec<RowNumber> = reply.followers.iter().map(|facts| facts.row).collect();
    assert_eq!(rows, numbers(&[4, 5, 6]));
    for bad in [ask(4, 2, None), ask(4, 1, Some(2))] {
        let error = ledger.commit(&[with(2, vec![bad])]).unwrap_err();
        assert!(
            matches!(error, LedgerError::Invariant { id: "I3", .. }),
            "{error}"
        );
    }
}

#[test]
fn a_follower_looks_past_rows_of_its_pair_that_failed() {
    let mut new = job(4, 4);
    new.followers = vec![
        follower(2, 1, Some(1)),
        follower(3, 1, Some(2)),
        follower(4, 1, Some(3)),
    ];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    let bad = |row| failed(row, Step::Validation, "email_verified_invalid");
    let settled = vec![created(1), bad(2), bad(3)];
    ledger.commit(&[Change::settle(settled)]).unwrap();
    let ask = FollowerAsk {
        row: RowNumber(4),
        leader: RowNumber(1),
        previous_pair: Some(RowNumber(3)),
    };
    let lease = Change::Lease {
        id: LeaseId(1),
        chunk: ChunkId(0),
        worker: WorkerId(1),
        at: ServerMs(1),
        rows: Some(numbers(&[4])),
        followers: vec![ask],
    };
    let reply = ledger.commit(&[lease]).unwrap();
    let membership = created(1).membership.unwrap();
    assert_eq!(reply.followers[0].membership_id, membership.id);
}

#[test]
fn requests_of_one_commit_are_answered_apart() {
    let mut new = job(10, 10);
    new.followers = vec![follower(4, 1, None)];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    let settle = [Change::settle(vec![created(1)])];
    let ask = FollowerAsk {
        row: RowNumber(4),
        leader: RowNumber(1),
        previous_pair: None,
    };
    let grant = [Change::Lease {
        id: LeaseId(1),
        chunk: ChunkId(0),
        worker: WorkerId(1),
        at: ServerMs(1),
        rows: Some(vec![ask.row]),
        followers: vec![ask],
    }];
    let replies = ledger.commit_group(&[&settle, &grant]).unwrap();
    assert_eq!(replies[0].followers.len(), 0);
    assert_eq!(replies[1].followers.len(), 1);
}

#[test]
fn fates_tell_how_settled_rows_bear_on_waiting_ones() {
    let mut new = job(12, 4);
    new.followers = vec![
        follower(3, 1, None),
        follower(9, 1, None),
        follower(10, 2, None),
    ];
    let desk = Desk::new(&new);
    let mut ledger = desk.open();
    assert!(ledger.load().unwrap().fates.is_empty());
    let settled = vec![
        failed(1, Step::User, "invalid_email"),
        created(3),
        parked(2, "poison"),
    ];
    ledger.commit(&[Change::settle(settled)]).unwrap();
    let image = ledger.load().unwrap();
    let expected = [(1, Fate::OwnFault), (2, Fate::Parked), (3, Fate::User)];
    let fates: Vec<(u32, Fate)> = image
        .fates
        .iter()
        .map(|(row, group)| (row.0, group.fate))
        .collect();
    assert_eq!(fates, expected);
    ledger
        .commit(&[Change::settle(vec![created(9), created(10)])])
        .unwrap();
    assert!(
        ledger.load().unwrap().fates.is_empty(),
        "nobody waits any more"
    );
}

#[test]
fn an_organization_is_written_once_and_counted_by_who_made_it() {
    let desk = Desk::new(&job(10, 10));
    let mut ledger = desk.open();
    let key = |name: &str| OrgKey::External(name.into());
    let ready = |id: &str, origin| OrgRecord {
        state: OrgState::Ready {
            id: id.into(),
            origin,
        },
    };
    let refused = OrgRecord {
        state: OrgState::Failed {
            code: "organization_not_found".into(),
            message: "there is none".into(),
            http_status: None,
            parked: true,
        },
    };
    let intent = |name: &str, at| Change::OrgIntent {
        key: key(name),
        at: ServerMs(at),
    };
    let org = |name: &str, record: &OrgRecord| {
        [Change::Org {
            key: key(name),
            record: record.clone(),
        }]
    };
    ledger
        .commit(&[intent("a", 5), intent("a", 9), intent("d", 7)])
        .unwrap();
    ledger.commit(&org("a", &ready("org_1", MADE))).unwrap();
    ledger
        .commit(&org("b", &ready("org_2", Origin::Before)))
        .unwrap();
    ledger.commit(&org("c", &refused)).unwrap();
    ledger.commit(&org("a", &ready("org_1", MADE))).unwrap();
    for bad in [
        org("a", &ready("org_9", MADE)),
        org("a", &refused),
        [intent("b", 9)],
    ] {
        assert!(matches!(
            ledger.commit(&bad),
            Err(LedgerError::Invariant { .. })
        ));
    }
    let image = desk.open().load().unwrap();
    assert_eq!(
        image.organizations,
        OrgTally {
            created: 1,
            found: 1,
            failed: 1
        }
    );
    let a = &image.orgs[&key("a")];
    assert_eq!(
        (a.intent, a.state.clone()),
        (Some(ServerMs(5)), Some(ready("org_1", MADE).state))
    );
    assert_eq!(image.orgs[&key("c")].state, Some(refused.state));
    assert_eq!(
        image.orgs[&key("d")],
        OrgImage {
            intent: Some(ServerMs(7)),
            state: None
        }
    );
    ledger.verify_totals().unwrap();
}

#[test]
fn an_organization_that_failed_may_be_there_later() {
    let desk = Desk::new(&job(10, 5));
    let mut ledger = desk.open();
    let key = OrgKey::External("c".into());
    let org = |state: &OrgState| {
        [Change::Org {
            key: key.clone(),
            record: OrgRecord {
                state: state.clone(),
            },
        }]
    };
    let refused = OrgState::Failed {
        code: "organization_not_found".into(),
        message: "there is none".into(),
        http_status: None,
        parked: true,
    };
    let ready = OrgState::Ready {
        id: "org_3".into(),
        origin: MADE,
    };
    ledger.commit(&org(&refused)).unwrap();
    let intent = Change::OrgIntent {
        key: key.clone(),
        at: ServerMs(11),
    };
    ledger.commit(&[intent]).unwrap();
    let known = ledger.load().unwrap().orgs[&key].clone();
    assert_eq!(
        (known.intent, known.state),
        (Some(ServerMs(11)), Some(refused))
    );
    ledger.commit(&org(&ready)).unwrap();
    ledger.verify_totals().unwrap();
    let image = desk.open().load().unwrap();
    let there = OrgImage {
        intent: Some(ServerMs(11)),
        state: Some(ready),
    };
    assert_eq!(image.orgs[&key], there);
    let organizations = image.organizations;
    assert_eq!((organizations.created, organizations.failed), (1, 0));
}
