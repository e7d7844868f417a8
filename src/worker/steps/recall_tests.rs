//! Rows after a listing: what is taken for known, and what is asked all the same.

use super::fixtures::source_row;
use super::{Action, OrgAnswer, Recall, RowContext, RowMachine, RowPolicy};
use crate::model::{ExistingPolicy, MembershipState, OrgKey, RowOutcome, RowState, ServerMs};
use crate::source::SourceRow;
use crate::target::classify::USER_OR_ORG_MISSING;
use crate::target::{Entity, Rejection, Verdict};

const LINK: RowPolicy = RowPolicy {
    on_existing: ExistingPolicy::Link,
    reactivate: false,
};

fn row() -> SourceRow {
    SourceRow {
        external_id: Some("7".into()),
        org: Some(OrgKey::External("acme".into())),
        ..source_row()
    }
}

fn listed(id: &str, external_id: Option<&str>) -> Entity {
    Entity {
        id: id.to_owned(),
        email: Some(source_row().email_norm().to_owned()),
        external_id: external_id.map(str::to_owned),
        created_at: Some(ServerMs(5)),
        ..Entity::default()
    }
}

fn member(status: &str) -> Entity {
    Entity {
        id: "om_1".to_owned(),
        status: Some(status.to_owned()),
        ..Entity::default()
    }
}

/// Plays a row: what was listed as its user and as its membership, and what the target answers.
fn play(
    context: RowContext,
    policy: RowPolicy,
    (user, membership): (Option<Entity>, Option<Entity>),
    answers: Vec<Verdict>,
) -> (String, RowOutcome) {
    let mut machine = RowMachine::new(row(), context, policy);
    machine.recall_first();
    let (mut trace, mut answers) = (Vec::new(), answers.into_iter());
    let mut action = machine.start();
    loop {
        action = match action {
            Action::AskOrg(_) => machine.on_org(OrgAnswer::Ready {
                id: "org_1".to_owned(),
            }),
            Action::Recall(Recall::User { .. }) => machine.on_recalled(user.as_ref()),
            Action::Recall(Recall::Membership { .. }) => machine.on_recalled(membership.as_ref()),
            Action::Send(op) => {
                trace.push(op.name());
                let answer = answers.next();
                machine.on_verdict(answer.unwrap_or_else(|| panic!("{trace:?}")), 1)
            }
            Action::Backoff(_) | Action::WaitOut { .. } => machine.on_timer(),
            Action::Settle => return (trace.join(" "), machine.into_outcome().unwrap()),
            Action::Halt(reason) => panic!("{reason:?}"),
        };
    }
}

fn missing() -> Verdict {
    Verdict::Rejected(Rejection {
        code: USER_OR_ORG_MISSING.to_owned(),
        ..Rejection::default()
    })
}

#[test]
fn a_listed_user_with_a_listed_membership_costs_no_request() {
    for external_id in [Some("7"), None] {
        let memory = (Some(listed("user_1", external_id)), Some(member("active")));
        let (trace, outcome) = play(RowContext::default(), LINK, memory, Vec::new());
        assert_eq!((trace.as_str(), outcome.state), ("", RowState::Linked));
        let membership = outcome.membership.unwrap();
        assert_eq!(membership.state, MembershipState::Existing);
        assert_eq!(outcome.user.unwrap().id, "user_1");
    }
}

#[test]
fn a_policy_needs_no_request_either() {
    for (on_existing, state) in [
        (ExistingPolicy::Skip, RowState::Skipped),
        (ExistingPolicy::Fail, RowState::Failed),
    ] {
        let policy = RowPolicy {
            on_existing,
            ..LINK
        };
        let memory = (Some(listed("user_1", Some("7"))), None);
        let (trace, outcome) = play(RowContext::default(), policy, memory, Vec::new());
        assert_eq!((trace.as_str(), outcome.state), ("", state));
    }
}

#[test]
fn nothing_listed_means_nothing() {
    let made = Verdict::Ok(Box::new(listed("user_2", Some("7"))));
    let answers = vec![made, Verdict::Ok(Box::new(member("active")))];
    let (trace, outcome) = play(RowContext::default(), LINK, (None, None), answers);
    assert_eq!(trace, "create_user create_membership");
    assert_eq!(outcome.state, RowState::Created);
}

#[test]
fn a_row_fails_only_by_what_is_read_for_it() {
    let conflict = listed("user_1", Some("8"));
    let answers = vec![Verdict::Absent, Verdict::Ok(Box::new(conflict.clone()))];
    let (trace, outcome) = play(RowContext::default(), LINK, (Some(conflict), None), answers);
    assert_eq!(trace, "find_user_by_external_id find_user_by_email");
    assert_eq!(outcome.error.unwrap().code, "external_id_conflict");

    let memory = (Some(listed("user_1", None)), Some(member("inactive")));
    let answers = vec![Verdict::Ok(Box::new(member("inactive")))];
    let (trace, outcome) = play(RowContext::default(), LINK, memory, answers);
    assert_eq!(trace, "find_membership");
    assert_eq!(outcome.error.unwrap().code, "membership_inactive");

    // Somebody has activated it meanwhile.
    let memory = (Some(listed("user_1", None)), Some(member("inactive")));
    let answers = vec![Verdict::Ok(Box::new(member("active")))];
    let (_, outcome) = play(RowContext::default(), LINK, memory, answers);
    assert_eq!(outcome.state, RowState::Linked);
}

#[test]
fn a_row_in_doubt_does_not_recall() {
    let context = RowContext {
        suspect: true,
        ..RowContext::default()
    };
    let memory = (Some(listed("user_1", Some("7"))), Some(member("active")));
    let answers = vec![
        Verdict::Ok(Box::new(listed("user_1", Some("7")))),
        Verdict::Ok(Box::new(member("active"))),
    ];
    let (trace, outcome) = play(context, LINK, memory, answers);
    assert_eq!(trace, "find_user_by_external_id find_membership");
    assert_eq!(outcome.state, RowState::Recovered);
}

#[test]
fn a_listed_user_who_is_gone_is_found_out_anew_once() {
    let memory = || (Some(listed("user_1", Some("7"))), None);
    let made = Verdict::Ok(Box::new(listed("user_2", Some("7"))));
    let joined = Verdict::Ok(Box::new(member("active")));
    let answers = vec![Verdict::Absent, missing(), made, joined];
    let (trace, outcome) = play(RowContext::default(), LINK, memory(), answers);
    assert_eq!(
        trace,
        "find_membership create_membership create_user create_membership"
    );
    assert_eq!(outcome.state, RowState::Created);
    assert_eq!(outcome.user.unwrap().id, "user_2");

    // It is the organization that is gone: the row ends as it would without a listing.
    let there = || Verdict::Ok(Box::new(listed("user_1", Some("7"))));
    let exists = Verdict::Exists(Rejection::default());
    let mut answers = vec![Verdict::Absent, missing(), exists, there(), Verdict::Absent];
    answers.extend(std::iter::repeat_n(missing(), 4));
    answers.extend([there(), missing()]);
    let (_, outcome) = play(RowContext::default(), LINK, memory(), answers);
    assert_eq!(outcome.error.unwrap().code, "organization_not_found");
}

#[test]
fn the_membership_of_a_listed_user_who_is_gone_says_nothing_of_the_next_one() {
    let policy = RowPolicy {
        reactivate: true,
        ..LINK
    };
    let memory = (Some(listed("user_1", Some("7"))), Some(member("inactive")));
    let made = Verdict::Ok(Box::new(listed("user_2", Some("7"))));
    let answers = vec![
        Verdict::Ok(Box::new(member("inactive"))),
        missing(),
        made,
        Verdict::Ok(Box::new(member("active"))),
    ];
    let (trace, outcome) = play(RowContext::default(), policy, memory, answers);
    assert_eq!(
        trace,
        "find_membership create_membership create_user create_membership"
    );
    let membership = outcome.membership.unwrap();
    assert_eq!(membership.state, MembershipState::Created);
}

#[test]
fn a_listed_user_who_was_not_gone_keeps_what_is_known_of_its_membership() {
    let context = RowContext {
        t_lo: ServerMs(3),
        ..RowContext::default()
    };
    let memory = (Some(listed("user_1", Some("7"))), None);
    let ours = Entity {
        created_at: Some(ServerMs(1_000_000)),
        ..member("active")
    };
    let answers = vec![
        Verdict::Absent,
        // It is applied, and seen only later.
        Verdict::Ambiguous(Rejection::default()),
        Verdict::Absent,
        missing(),
        Verdict::Exists(Rejection::default()),
        Verdict::Ok(Box::new(listed("user_1", Some("7")))),
        Verdict::Ok(Box::new(ours)),
    ];
    let (trace, outcome) = play(context, LINK, memory, answers);
    assert_eq!(
        trace,
        "find_membership create_membership find_membership create_membership create_user \
         find_user_by_external_id find_membership"
    );
    let membership = outcome.membership.unwrap();
    assert_eq!(membership.state, MembershipState::Recovered);
}

#[test]
fn a_look_before_the_organization_recalls_and_believes_only_what_it_finds() {
    let policy = RowPolicy {
        on_existing: ExistingPolicy::Skip,
        ..LINK
    };
    let machine = || {
        let mut machine = RowMachine::new(row(), RowContext::default(), policy);
        machine.recall_first();
        assert!(matches!(machine.start(), Action::AskOrg(_)));
        let first = machine.user_before_org();
        assert!(matches!(first, Some(Action::Recall(Recall::User { .. }))));
        machine
    };
    let mut known = machine();
    let action = known.on_recalled(Some(&listed("user_1", Some("7"))));
    assert!(matches!(action, Action::Settle), "{action:?}");
    let state = known.outcome().map(|outcome| outcome.state);
    assert_eq!(state, Some(RowState::Skipped), "it is left alone");
    // Not listed is not absent: nobody makes an organization for that.
    let mut unknown = machine();
    assert!(matches!(unknown.on_recalled(None), Action::Send(_)));
    let looks = std::iter::from_fn(|| match unknown.on_verdict(Verdict::Absent, 1) {
        Action::Send(op) => Some(op.name()),
        Action::AskOrg(_) => None,
        other => panic!("{other:?}"),
    });
    assert!(looks.take(9).all(|name| name.starts_with("find_user")));
}
