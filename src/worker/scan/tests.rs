//! Walks over a list that a few lines of test code serve.

use super::*;
use crate::target::{Entity, Listed, Rejection};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Users by their number, oldest first; the date of each.
fn serve(dates: &[Option<i64>], op: &Op, most: usize) -> ListPage {
    let (Op::ListUsers { page, .. } | Op::ListMemberships { page, .. } | Op::ListOrgs(page)) = op
    else {
        panic!("{op:?}");
    };
    let mut order: Vec<usize> = (0..dates.len()).collect();
    if matches!(
        op,
        Op::ListUsers {
            oldest_first: false,
            ..
        }
    ) {
        order.reverse();
    }
    let start = page.after.as_ref().map_or(0, |id| {
        let at = order.iter().position(|n| format!("u{n}") == *id);
        at.unwrap() + 1
    });
    let shown: Vec<usize> = order[start..]
        .iter()
        .copied()
        .take(most.min(page.limit as usize))
        .collect();
    let more = start + shown.len() < order.len();
    ListPage {
        after: shown.last().filter(|_| more).map(|n| format!("u{n}")),
        items: shown
            .into_iter()
            .map(|n| Listed {
                entity: Entity {
                    id: format!("u{n}"),
                    created_at: dates[n].map(ServerMs),
                    ..Entity::default()
                },
                ..Listed::default()
            })
            .collect(),
    }
}

fn good() -> Verdict {
    Verdict::Ok(Box::default())
}

/// Lets both walks go on in the order of `turns`; returns who was seen.
fn meet(
    dates: &[Option<i64>],
    most: usize,
    turns: &[bool],
    course: &mut Course,
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut walks: Vec<(Walk, Option<WalkAction>)> = [true, false]
        .map(|oldest_first| {
            let walk = Walk::new(List::Users { oldest_first });
            (walk, None)
        })
        .into();
    for (walk, action) in &mut walks {
        *action = Some(walk.next(course));
    }
    for turn in turns.iter().copied().chain((0..10_000).map(|n| n % 2 == 0)) {
        let (walk, action) = &mut walks[usize::from(turn)];
        if let Some(WalkAction::Send(op)) = action.take() {
            let page = serve(dates, &op, most);
            seen.extend(page.items.iter().map(|item| item.entity.id.clone()));
            *action = Some(walk.on_answer(&good(), Some(&page), 1, course));
        }
    }
    for (_, action) in walks {
        assert!(
            !matches!(action, Some(WalkAction::Send(_))),
            "a walk does not end"
        );
    }
    seen
}

proptest! {
    #![proptest_config(crate::fuzz::cases(512))]

    /// Whoever is there is seen, whichever walk is faster, and however many have one date.
    #[test]
    fn two_walks_miss_nobody(
        gaps in prop::collection::vec(0..3_i64, 0..60),
        undated in prop::option::weighted(0.2, 0..60_usize),
        most in 1..7_usize,
        turns in prop::collection::vec(any::<bool>(), 0..40),
    ) {
        let mut at = 0;
        let mut dates: Vec<Option<i64>> = gaps.iter().map(|gap| { at += gap; Some(at) }).collect();
        if let Some(date) = undated.and_then(|n| dates.get_mut(n)) {
            *date = None;
        }
        let mut course = Course::new(None);
        let seen = meet(&dates, most, &turns, &mut course);
        prop_assert_eq!(seen.len(), dates.len());
        prop_assert_eq!(course.tally.users, dates.len() as u64, "nobody counts twice");
        prop_assert!(course.end().whole);
    }
}

#[test]
fn two_walks_share_the_way() {
    let dates: Vec<_> = (0..1_000).map(Some).collect();
    let mut course = Course::new(None);
    meet(&dates, 10, &[], &mut course);
    // A hundred pages, and the one or two in which they meet.
    assert!(course.tally.pages <= 102, "{:?}", course.tally);
}

#[test]
fn a_listing_ends_with_its_budget_and_says_that_it_is_not_whole() {
    let dates: Vec<_> = (0..1_000).map(Some).collect();
    let mut course = Course::new(Some(7));
    let seen = meet(&dates, 10, &[], &mut course);
    // What the other walk had under way when it ended comes on top.
    assert_eq!((course.tally.pages, seen.len()), (8, 80));
    assert!(!course.end().whole);
}

#[test]
fn pages_that_are_too_long_are_asked_for_in_halves() {
    let mut course = Course::new(None);
    let mut walk = Walk::new(List::Orgs);
    let cut = Verdict::Ambiguous(Rejection {
        code: "oversized_answer".to_owned(),
        ..Rejection::default()
    });
    for limit in [50, 25, 12, 6, 3, 1] {
        let WalkAction::Send(Op::ListOrgs(page)) = walk.on_answer(&cut, None, 1, &mut course)
        else {
            panic!("it goes on");
        };
        assert_eq!(page.limit, limit);
    }
    let action = walk.on_answer(&cut, None, 1, &mut course);
    assert!(matches!(action, WalkAction::Backoff(_)));
}

#[test]
fn a_page_that_never_comes_ends_its_walk_and_nothing_else() {
    let mut course = Course::new(None);
    let mut walk = Walk::new(List::Orgs);
    let unclear = Verdict::Ambiguous(Rejection::default());
    let mut waits = 0;
    for alive in 0..20 {
        match walk.on_answer(&unclear, None, alive, &mut course) {
            WalkAction::Backoff(wait) => {
                assert!(wait <= BACKOFF_MAX);
                waits += 1;
            }
            WalkAction::Done => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, 7);
    assert!(!course.end().whole);
}

#[test]
fn organizations_that_one_row_names_are_not_listed() {
    let mut named = NamedOrgs::default();
    let key = |id: &str| OrgKey::External(id.into());
    for org in [
        key("a"),
        key("b"),
        key("a"),
        OrgKey::Id("o".into()),
        OrgKey::Id("o".into()),
    ] {
        named.note(&org);
    }
    let (ids, mut sought) = named.worth_listing();
    assert_eq!(
        (ids, sought.keys()),
        (vec!["o".to_owned()], &[key("a")][..])
    );
    let org = |id: &str, external: &str| Listed {
        entity: Entity {
            id: id.to_owned(),
            external_id: Some(external.to_owned()),
            ..Entity::default()
        },
        ..Listed::default()
    };
    let page = ListPage {
        items: vec![org("org_1", "z"), org("org_2", "a")],
        after: None,
    };
    assert_eq!(sought.found_in(&page), ["org_2"]);
    assert_eq!(sought.count(), 0);
}
