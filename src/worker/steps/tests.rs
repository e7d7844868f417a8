//! The machine against scripts: which requests it sends, and what it concludes.

use super::fixtures::source_row;
use super::*;
use crate::model::MembershipState;
use crate::model::ServerMs;
use crate::target::NotApplied;
use crate::target::classify::{PENDING_MEMBERSHIP, USER_OR_ORG_MISSING};
use crate::worker::reconcile::CLOCK_MARGIN_MS;
use compact_str::CompactString;

mod finish;

/// What was made from here on may be ours: as much before the lease as clocks may differ.
const T_LO: i64 = 1_000;

const LINK: RowPolicy = RowPolicy {
    on_existing: ExistingPolicy::Link,
    reactivate: false,
};

fn row(external_id: Option<&str>, org: bool) -> SourceRow {
    SourceRow {
        external_id: external_id.map(CompactString::from),
        email: "ann.lee@x.org".into(),
        org: org.then(|| OrgKey::External("acme".into())),
        ..source_row()
    }
}

fn context() -> RowContext {
    RowContext {
        t_lo: ServerMs(T_LO + CLOCK_MARGIN_MS),
        ..RowContext::default()
    }
}

fn suspect() -> RowContext {
    RowContext {
        suspect: true,
        ..context()
    }
}

fn with_user(origin: Origin) -> RowContext {
    RowContext {
        user: Some(UserOutcome {
            id: "user_1".to_owned(),
            origin,
        }),
        ..context()
    }
}

fn follower(origin: Origin) -> RowContext {
    RowContext {
        follower: true,
        ..with_user(origin)
    }
}

fn ok(id: &str) -> Verdict {
    Verdict::Ok(Box::new(Entity {
        id: id.to_owned(),
        ..Entity::default()
    }))
}

/// The row's user as a look-up shows it.
fn user(id: &str, external_id: Option<&str>, created_at: i64) -> Verdict {
    let row = source_row();
    Verdict::Ok(Box::new(Entity {
        id: id.to_owned(),
        email: Some(row.email.into()),
        external_id: external_id.map(str::to_owned),
        first_name: row.first_name.map(String::from),
        last_name: row.last_name.map(String::from),
        email_verified: row.email_verified,
        created_at: Some(ServerMs(created_at)),
        ..Entity::default()
    }))
}

fn membership(status: &str, created_at: i64) -> Verdict {
    Verdict::Ok(Box::new(Entity {
        id: "om_1".to_owned(),
        status: Some(status.to_owned()),
        created_at: Some(ServerMs(created_at)),
        ..Entity::default()
    }))
}

fn rejection(code: &str) -> Rejection {
    Rejection {
        code: code.to_owned(),
        message: "Ann (ann.lee@x.org) is not welcome".to_owned(),
        http_status: Some(400),
        request_id: Some("req_1".to_owned()),
    }
}

fn exists() -> Verdict {
    Verdict::Exists(rejection("email_not_available"))
}

fn unclear() -> Verdict {
    Verdict::Ambiguous(rejection("http_500"))
}

/// The trace of looking again for what readers may not see yet.
fn rereads(op: &str) -> String {
    format!(" 500ms {op} 1500ms {op} 3000ms {op}")
}

fn times(n: usize, round: &[Verdict]) -> Vec<Verdict> {
    std::iter::repeat_n(round, n).flatten().cloned().collect()
}

fn rejected(code: &str) -> Verdict {
    Verdict::Rejected(rejection(code))
}

const ABSENT: Verdict = Verdict::Absent;

/// Plays `script` and returns the requests and waits in order, and the outcome. The organization is
/// always ready; every verdict comes with a success elsewhere.
fn play(machine: &mut RowMachine, script: Vec<Verdict>) -> (String, RowOutcome) {
    let mut trace = Vec::new();
    let mut verdicts = script.into_iter();
    let mut alive = 0;
    let mut action = machine.start();
    loop {
        action = match action {
            Action::AskOrg(_) => {
                trace.push("ask_org".to_owned());
                let id = "org_1".to_owned();
                machine.on_org(OrgAnswer::Ready { id })
            }
            Action::Send(op) => {
                trace.push(op.name().to_owned());
                alive += 1;
                let Some(verdict) = verdicts.next() else {
                    panic!("the script ends before the row does: {trace:?}");
                };
                machine.on_verdict(verdict, alive)
            }
            Action::Recall(_) => {
                trace.push("recall".to_owned());
                machine.on_recalled(None)
            }
            Action::Backoff(wait) => {
                trace.push(format!("{}ms", wait.as_millis()));
                machine.on_timer()
            }
            Action::WaitOut { wait, since } => {
                let since = since.map_or(String::new(), |_| "_of_doubt".to_owned());
                trace.push(format!("wait_{}s{since}", wait.as_secs()));
                machine.on_timer()
            }
            Action::Settle => {
                assert_eq!(
                    verdicts.next(),
                    None,
                    "the row ends before its script: {trace:?}"
                );
                return (trace.join(" "), machine.outcome().cloned().unwrap());
            }
            Action::Halt(reason) => panic!("halted: {reason:?}"),
        };
    }
}

fn told(
    row: SourceRow,
    context: RowContext,
    policy: RowPolicy,
    script: Vec<Verdict>,
) -> (String, String) {
    let (trace, outcome) = play(&mut RowMachine::new(row, context, policy), script);
    (trace, in_short(&outcome))
}

/// State, step, code, user origin, membership: everything that counts, in one line.
fn in_short(outcome: &RowOutcome) -> String {
    let mut words = vec![outcome.state.to_string()];
    words.extend(outcome.step.map(|step| step.to_string()));
    words.extend(outcome.error.as_ref().map(|error| error.code.clone()));
    words.extend(
        outcome
            .user
            .as_ref()
            .map(|user| format!("{}:{}", user.id, user.origin.as_str())),
    );
    words.extend(outcome.membership.as_ref().map(|membership| {
        let id = membership.id.as_deref().unwrap_or("-");
        let repeat = if membership.repeat { ":repeat" } else { "" };
        format!("{id}:{}{repeat}", membership.state)
    }));
    words.join(" ")
}

fn check(
    (row, context, policy): (SourceRow, RowContext, RowPolicy),
    script: Vec<Verdict>,
    trace: &str,
    outcome: &str,
) {
    let told = told(row, context, policy, script);
    assert_eq!((told.0.as_str(), told.1.as_str()), (trace, outcome));
}

#[test]
fn a_row_without_an_organization_is_one_request() {
    let case = (row(None, false), context(), LINK);
    check(
        case,
        vec![ok("user_1")],
        "create_user",
        "created user_1:answered",
    );
}

#[test]
fn a_row_with_an_organization_asks_for_it_first() {
    let case = (row(None, true), context(), LINK);
    let script = vec![ok("user_1"), ok("om_1")];
    let trace = "ask_org create_user create_membership";
    check(case, script, trace, "created user_1:answered om_1:created");
}

#[test]
fn a_row_whose_organization_failed_sends_nothing() {
    for (parked, expected) in [(false, "failed"), (true, "parked")] {
        let mut machine = RowMachine::new(row(None, true), context(), LINK);
        assert!(matches!(machine.start(), Action::AskOrg(_)));
        let answer = OrgAnswer::Failed {
            code: "organization_not_found".to_owned(),
            message: "there is none".to_owned(),
            http_status: Some(404),
            parked,
        };
        assert!(matches!(machine.on_org(answer), Action::Settle));
        let outcome = machine.into_outcome().unwrap();
        let expected = format!("{expected} organization organization_not_found");
        assert_eq!(in_short(&outcome), expected);
        assert_eq!((outcome.attempts, outcome.org_id.clone()), (0, None));
    }
}

/// A row with an organization that nobody knows yet, whose user is to be left alone.
fn careful(context: RowContext, on_existing: ExistingPolicy) -> (RowMachine, Option<Action>) {
    let policy = RowPolicy {
        on_existing,
        ..LINK
    };
    let mut machine = RowMachine::new(row(None, true), context, policy);
    assert!(matches!(machine.start(), Action::AskOrg(_)));
    let first = machine.user_before_org();
    (machine, first)
}

#[test]
fn a_row_that_is_left_alone_asks_for_no_organization() {
    for (policy, expected) in [
        (ExistingPolicy::Skip, "skipped user_exists user_1:before"),
        (
            ExistingPolicy::Fail,
            "failed user user_exists user_1:before",
        ),
    ] {
        let (mut machine, first) = careful(context(), policy);
        let Some(Action::Send(op)) = first else {
            panic!("the user is not looked up: {first:?}");
        };
        assert!(matches!(op, Op::FindUserByEmail(_)), "{op:?}");
        let action = machine.on_verdict(user("user_1", None, 5_000), 1);
        assert!(matches!(action, Action::Settle), "{action:?}");
        let outcome = machine.into_outcome().unwrap();
        assert_eq!(
            (in_short(&outcome).as_str(), outcome.attempts),
            (expected, 1)
        );
        // What is known of another generation needs no look.
        let (_, first) = careful(with_user(Origin::Before), policy);
        assert!(matches!(first, Some(Action::Settle)), "{first:?}");
    }
}

#[test]
fn a_row_whose_user_is_not_there_waits_for_its_organization() {
    let (mut machine, first) = careful(context(), ExistingPolicy::Skip);
    assert!(matches!(first, Some(Action::Send(_))));
    assert!(matches!(machine.on_verdict(ABSENT, 1), Action::AskOrg(_)));
    assert!(machine.user_before_org().is_none(), "asked once");
    let id = "org_1".to_owned();
    let Action::Send(op) = machine.on_org(OrgAnswer::Ready { id }) else {
        panic!("nothing is sent");
    };
    assert!(matches!(op, Op::CreateUser(_)));

    // One that this job made is ours, organization or not.
    let (mut machine, _) = careful(suspect(), ExistingPolicy::Skip);
    let found = machine.on_verdict(user("user_1", None, T_LO), 1);
    assert!(matches!(found, Action::AskOrg(_)), "{found:?}");
    let id = "org_1".to_owned();
    let Action::Send(op) = machine.on_org(OrgAnswer::Ready { id }) else {
        panic!("nothing is sent");
    };
    assert!(matches!(op, Op::FindMembership { .. }), "{op:?}");

    for context in [
        follower(Origin::Before),
        with_user(Origin::Made(Evidence::Answered)),
    ] {
        let (_, first) = careful(context, ExistingPolicy::Skip);
        assert!(first.is_none());
    }
    let (_, first) = careful(context(), ExistingPolicy::Link);
    assert!(first.is_none(), "whoever is there joins it");
}

#[test]
fn what_was_not_applied_is_sent_again_and_not_counted() {
    let mut script = vec![
        Verdict::NotApplied(NotApplied::Throttled(None)),
        Verdict::NotApplied(NotApplied::Unauthorized),
    ];
    script.extend((0..50).map(|_| Verdict::NotApplied(NotApplied::Connect("refused".to_owned()))));
    script.push(ok("user_1"));
    let mut machine = RowMachine::new(row(None, false), context(), LINK);
    let (trace, outcome) = play(&mut machine, script);
    assert_eq!(trace, ["create_user"; 53].join(" "));
    assert_eq!((outcome.state, outcome.attempts), (RowState::Created, 1));
}

#[test]
fn a_stop_leaves_the_row_as_it_was() {
    let mut machine = RowMachine::new(row(None, false), context(), LINK);
    machine.start();
    let reason = StopReason::Forbidden("no".to_owned());
    let action = machine.on_verdict(Verdict::Stop(reason.clone()), 1);
    assert!(matches!(action, Action::Halt(halted) if halted == reason));
    assert!(matches!(
        machine.on_timer(),
        Action::Send(Op::CreateUser(_))
    ));
    let action = machine.on_verdict(ok("user_1"), 1);
    assert!(matches!(action, Action::Settle), "{action:?}");
    let outcome = machine.into_outcome().unwrap();
    assert_eq!((outcome.state, outcome.attempts), (RowState::Created, 1));
}

#[test]
fn a_rejected_user_fails_in_the_targets_words_without_the_person() {
    let mut machine = RowMachine::new(row(None, false), context(), LINK);
    let (_, outcome) = play(&mut machine, vec![rejected("invalid_email")]);
    assert_eq!(in_short(&outcome), "failed user invalid_email");
    let error = outcome.error.unwrap();
    assert_eq!(error.message, "… (…) is not welcome");
    assert_eq!(
        (error.http_status, error.request_id.as_deref()),
        (Some(400), Some("req_1"))
    );
}

#[test]
fn a_password_in_the_targets_words_is_cut_out() {
    let row = SourceRow {
        credential: Some(crate::source::Credential::Plain("hunter2".into())),
        metadata: vec![("team".into(), "moles".into())],
        ..row(None, false)
    };
    let refused = Rejection {
        message: "hunter2 is weak for moles".to_owned(),
        ..rejection("password_strength_error")
    };
    let mut machine = RowMachine::new(row, context(), LINK);
    let (_, outcome) = play(&mut machine, vec![Verdict::Rejected(refused)]);
    assert_eq!(outcome.error.unwrap().message, "… is weak for …");
}

#[test]
fn an_existing_user_is_linked_skipped_or_failed_by_policy() {
    let cases = [
        (ExistingPolicy::Link, "linked user_1:before"),
        (ExistingPolicy::Skip, "skipped user_exists user_1:before"),
        (
            ExistingPolicy::Fail,
            "failed user user_exists user_1:before",
        ),
    ];
    for (on_existing, expected) in cases {
        let policy = RowPolicy {
            on_existing,
            ..LINK
        };
        let case = (row(None, false), context(), policy);
        // young enough, but this row never was unclear: it is not ours
        let script = vec![exists(), user("user_1", None, T_LO + 1)];
        check(case, script, "create_user find_user_by_email", expected);

        // a retry of the row decides the same
        let case = (row(None, false), with_user(Origin::Before), policy);
        check(case, vec![], "", expected);
    }
}

#[test]
fn what_exists_is_looked_up_by_external_id_then_email_then_email_as_written() {
    let row = SourceRow {
        email: "Ann.Lee@x.org".into(),
        ..row(Some("7"), false)
    };
    let script = vec![exists(), ABSENT, ABSENT, user("user_1", None, 1)];
    let trace = "create_user find_user_by_external_id find_user_by_email find_user_by_email";
    let outcome = "linked user_1:before";
    check((row.clone(), context(), LINK), script, trace, outcome);

    let script = vec![exists(), user("user_1", Some("7"), 1)];
    check(
        (row, context(), LINK),
        script,
        "create_user find_user_by_external_id",
        outcome,
    );
}

#[test]
fn an_external_id_of_somebody_else_names_them() {
    let other = Verdict::Ok(Box::new(Entity {
        id: "user_9".to_owned(),
        email: Some("bob@x.org".to_owned()),
        external_id: Some("7".to_owned()),
        ..Entity::default()
    }));
    for (script, trace) in [
        (
            vec![exists(), other],
            "create_user find_user_by_external_id",
        ),
        (
            vec![exists(), ABSENT, user("user_9", Some("8"), 1)],
            "create_user find_user_by_external_id find_user_by_email",
        ),
    ] {
        let mut machine = RowMachine::new(row(Some("7"), false), context(), LINK);
        let (sent, outcome) = play(&mut machine, script);
        assert_eq!(sent, trace);
        assert_eq!(in_short(&outcome), "failed user external_id_conflict");
        let error = outcome.error.unwrap();
        assert!(error.message.contains("user_9"), "{}", error.message);
        assert_eq!(error.http_status, Some(400));
    }
}

#[test]
fn what_exists_but_is_invisible_is_re_read_then_sent_again_then_parked() {
    let round = [exists(), ABSENT, ABSENT, ABSENT, ABSENT];
    let round_trace = "create_user find_user_by_email 500ms find_user_by_email 1500ms \
                       find_user_by_email 3000ms find_user_by_email";
    let case = || (row(None, false), context(), LINK);
    let mut once = round.to_vec();
    once.push(ok("user_1"));
    let trace = format!("{round_trace} create_user");
    check(case(), once, &trace, "created user_1:answered");

    let expected = "parked user exists_but_invisible";
    check(
        case(),
        times(8, &round),
        &[round_trace; 8].join(" "),
        expected,
    );
}

#[test]
fn an_unclear_create_is_looked_up_before_it_is_sent_again() {
    let case = |external_id| (row(external_id, false), context(), LINK);
    check(
        case(None),
        vec![unclear(), ABSENT, ok("user_1")],
        "create_user 500ms find_user_by_email create_user",
        "created user_1:answered",
    );
    let trace = "create_user 500ms find_user_by_external_id";
    let found = |created_at| vec![unclear(), user("user_1", Some("7"), created_at)];
    check(
        case(Some("7")),
        found(T_LO),
        trace,
        "recovered user_1:dated",
    );
    check(
        case(Some("7")),
        found(T_LO - 1),
        trace,
        "linked user_1:before",
    );
    let trace = "create_user 500ms find_user_by_email";
    let script = vec![unclear(), user("user_1", None, T_LO)];
    check(case(None), script, trace, "recovered user_1:weak");
}

#[test]
fn an_unclear_create_beside_a_signup_is_parked() {
    let mut signup = user("user_1", None, T_LO);
    if let Verdict::Ok(entity) = &mut signup {
        entity.first_name = Some("Annabel".to_owned());
    }
    let case = (row(None, false), context(), LINK);
    let trace = "create_user 500ms find_user_by_email";
    let expected = "parked user maybe_concurrent_signup";
    check(case, vec![unclear(), signup], trace, expected);
}

#[test]
fn eight_unclear_creates_are_parked_after_a_last_look() {
    let mut script = times(8, &[unclear(), ABSENT]);
    let case = || RowMachine::new(row(None, false), context(), LINK);
    let (trace, outcome) = play(&mut case(), script.clone());
    assert_eq!(trace.matches("create_user").count(), 8);
    assert!(trace.ends_with("30000ms find_user_by_email"), "{trace}");
    assert_eq!(in_short(&outcome), "parked user server_error");
    assert_eq!(outcome.attempts, 16);
    assert_eq!(outcome.error.unwrap().http_status, Some(400));

    // the last one was applied after all
    script.pop();
    script.push(user("user_1", None, T_LO));
    let (_, outcome) = play(&mut case(), script);
    assert_eq!(in_short(&outcome), "recovered user_1:weak");
}

#[test]
fn eight_unclear_look_ups_are_parked() {
    let mut script = vec![exists()];
    script.extend(times(8, &[unclear()]));
    let mut machine = RowMachine::new(row(None, false), context(), LINK);
    let (_, outcome) = play(&mut machine, script);
    assert_eq!(in_short(&outcome), "parked user server_error");
}

#[test]
fn an_outage_parks_nothing_however_long_it_lasts() {
    let mut machine = RowMachine::new(row(None, false), context(), LINK);
    let mut action = machine.start();
    for _ in 0..1_000 {
        action = match action {
            Action::Send(_) => machine.on_verdict(unclear(), 5),
            Action::Backoff(wait) => {
                assert!(wait <= Duration::from_secs(30));
                machine.on_timer()
            }
            other => panic!("{other:?}"),
        };
    }
    // and then it ends
    while let Action::Backoff(_) = action {
        action = machine.on_timer();
    }
    let action = machine.on_verdict(user("user_1", None, T_LO), 6);
    assert!(matches!(action, Action::Settle), "{action:?}");
    let state = machine.outcome().map(|outcome| outcome.state);
    assert_eq!(state, Some(RowState::Recovered));
}

#[test]
fn a_rejection_after_an_unclear_create_is_checked_before_it_counts() {
    let case = || (row(None, false), context(), LINK);
    let trace = "create_user 500ms find_user_by_email create_user find_user_by_email";
    let script = |last| vec![unclear(), ABSENT, rejected("invalid_email"), last];
    let found = user("user_1", None, T_LO);
    check(case(), script(found), trace, "recovered user_1:weak");
    let mut nothing = script(ABSENT);
    nothing.extend(times(3, &[ABSENT]));
    let trace = format!("{trace}{}", rereads("find_user_by_email"));
    check(case(), nothing, &trace, "failed user invalid_email");
}

#[test]
fn an_odd_echo_keeps_the_id_and_is_parked() {
    let odd = Verdict::OddEcho(Box::new(Entity {
        id: "user_1".to_owned(),
        email: Some("bob@x.org".to_owned()),
        ..Entity::default()
    }));
    let case = (row(None, true), context(), LINK);
    let expected = "parked user wrong_echo user_1:answered";
    check(case, vec![odd], "ask_org create_user", expected);
}

#[test]
fn a_suspect_is_looked_up_before_anything_is_sent() {
    let case = || (row(Some("7"), false), suspect(), LINK);
    check(
        case(),
        vec![ABSENT, ABSENT, ok("user_1")],
        "find_user_by_external_id find_user_by_email create_user",
        "created user_1:answered",
    );
    let trace = "find_user_by_external_id";
    let found = |created_at| vec![user("user_1", Some("7"), created_at)];
    check(case(), found(T_LO), trace, "recovered user_1:dated");
    check(case(), found(T_LO - 1), trace, "linked user_1:before");
    // found late: the create says that it exists
    let script = vec![ABSENT, ABSENT, exists(), user("user_1", Some("7"), T_LO)];
    let trace = "find_user_by_external_id find_user_by_email create_user find_user_by_external_id";
    check(case(), script, trace, "recovered user_1:dated");
}

#[test]
fn a_follower_joins_its_leaders_user() {
    let made = Origin::Made(Evidence::Answered);
    check(
        (row(None, false), follower(made), LINK),
        vec![],
        "",
        "merged user_1:answered",
    );
    check(
        (row(None, true), follower(made), LINK),
        vec![ok("om_1")],
        "ask_org create_membership",
        "merged user_1:answered om_1:created",
    );
    check(
        (row(None, true), follower(Origin::Before), LINK),
        vec![ABSENT, ok("om_1")],
        "ask_org find_membership create_membership",
        "merged user_1:before om_1:created",
    );
}

#[test]
fn a_follower_of_the_same_pair_sends_nothing() {
    let pair = || RowContext {
        pair_membership: Some("om_1".to_owned()),
        ..follower(Origin::Before)
    };
    let expected = "merged user_1:before om_1:existing:repeat";
    check((row(None, true), pair(), LINK), vec![], "ask_org", expected);
    let by_id = SourceRow {
        org: Some(OrgKey::Id("org_7".into())),
        ..row(None, false)
    };
    let mut machine = RowMachine::new(by_id, pair(), LINK);
    let (trace, outcome) = play(&mut machine, vec![]);
    assert_eq!(
        (trace.as_str(), in_short(&outcome).as_str()),
        ("", expected)
    );
    assert_eq!(outcome.org_id.as_deref(), Some("org_7"));
}

#[test]
fn the_membership_of_a_user_there_before_is_read_in_every_status() {
    let reactivate = RowPolicy {
        reactivate: true,
        ..LINK
    };
    let read = "ask_org find_membership";
    let joined = "ask_org find_membership create_membership";
    let cases = [
        (
            LINK,
            vec![membership("active", T_LO)],
            read,
            "linked user_1:before om_1:existing",
        ),
        (
            LINK,
            vec![membership("inactive", 1)],
            read,
            "failed membership membership_inactive user_1:before om_1:failed",
        ),
        (
            LINK,
            vec![membership("pending", 1)],
            read,
            "failed membership membership_pending user_1:before om_1:failed",
        ),
        (
            LINK,
            vec![membership("dormant", 1)],
            read,
            "parked membership membership_status_unknown user_1:before",
        ),
        (
            LINK,
            vec![ABSENT, ok("om_1")],
            joined,
            "linked user_1:before om_1:created",
        ),
        (
            reactivate,
            vec![membership("inactive", 1), membership("active", 1)],
            joined,
            "linked user_1:before om_1:reactivated",
        ),
        (
            reactivate,
            vec![membership("pending", 1)],
            read,
            "failed membership membership_pending user_1:before om_1:failed",
        ),
    ];
    for (policy, script, trace, expected) in cases {
        check(
            (row(None, true), with_user(Origin::Before), policy),
            script,
            trace,
            expected,
        );
    }
}

#[test]
fn a_lost_answer_to_a_re_activation_is_looked_up() {
    let policy = RowPolicy {
        reactivate: true,
        ..LINK
    };
    let case = || (row(None, true), with_user(Origin::Before), policy);
    let trace = "ask_org find_membership create_membership 500ms find_membership";
    let expected = "linked user_1:before om_1:reactivated";
    let script = vec![
        membership("inactive", 1),
        unclear(),
        membership("active", 1),
    ];
    check(case(), script, trace, expected);
    let again = format!("{trace} create_membership");
    let inactive = || membership("inactive", 1);
    let script = vec![inactive(), unclear(), inactive(), membership("active", 1)];
    check(case(), script, &again, expected);

    let mut script = vec![inactive()];
    script.extend(times(8, &[unclear(), inactive()]));
    let (_, told) = told(row(None, true), with_user(Origin::Before), policy, script);
    assert_eq!(told, "parked membership server_error user_1:before");
}

#[test]
fn an_existing_membership_of_our_user_is_ours_only_with_evidence() {
    let made = || with_user(Origin::Made(Evidence::Answered));
    let suspect = || RowContext {
        suspect: true,
        ..made()
    };
    let script = vec![exists(), membership("active", T_LO)];
    let trace = "ask_org create_membership find_membership";
    let expected = "created user_1:answered om_1:existing";
    check((row(None, true), made(), LINK), script, trace, expected);
    for (created_at, expected) in [(T_LO, "recovered"), (T_LO - 1, "existing")] {
        let case = || (row(None, true), suspect(), LINK);
        let expected = format!("created user_1:answered om_1:{expected}");
        let found = membership("active", created_at);
        check(
            case(),
            vec![found.clone()],
            "ask_org find_membership",
            &expected,
        );
        // found late: the create says that it exists
        let script = vec![ABSENT, exists(), found];
        let trace = "ask_org find_membership create_membership find_membership";
        check(case(), script, trace, &expected);
    }
    let script = vec![unclear(), membership("active", T_LO)];
    let trace = "ask_org create_membership 500ms find_membership";
    let expected = "created user_1:answered om_1:recovered";
    check((row(None, true), made(), LINK), script, trace, expected);
}

#[test]
fn a_membership_with_other_roles_is_not_what_this_row_asked_for() {
    let made = || with_user(Origin::Made(Evidence::Answered));
    for (roles, state) in [
        (vec!["admin", "member"], "recovered"),
        (vec!["member"], "existing"),
        (Vec::new(), "recovered"),
    ] {
        let mut row = row(None, true);
        row.role_slugs = vec!["admin".into()];
        let mut found = membership("active", T_LO);
        if let Verdict::Ok(entity) = &mut found {
            entity.role_slugs = roles.into_iter().map(str::to_owned).collect();
        }
        let script = vec![unclear(), found];
        let trace = "ask_org create_membership 500ms find_membership";
        let expected = format!("created user_1:answered om_1:{state}");
        check((row, made(), LINK), script, trace, &expected);
    }
}

#[test]
fn a_lost_membership_of_a_user_there_before_is_recovered_too() {
    let script = vec![ABSENT, unclear(), membership("active", T_LO)];
    let trace = "ask_org find_membership create_membership 500ms find_membership";
    let expected = "linked user_1:before om_1:recovered";
    check(
        (row(None, true), with_user(Origin::Before), LINK),
        script,
        trace,
        expected,
    );
}

#[test]
fn what_somebody_switched_off_since_a_crash_stays_off() {
    let case = |policy| (row(Some("7"), true), suspect(), policy);
    let ours = user("user_1", Some("7"), T_LO);
    let script = vec![ours.clone(), membership("inactive", T_LO)];
    let trace = "ask_org find_user_by_external_id find_membership";
    let expected = "failed membership membership_inactive user_1:dated om_1:failed";
    check(case(LINK), script.clone(), trace, expected);
    let reactivate = RowPolicy {
        reactivate: true,
        ..LINK
    };
    let script = [script, vec![membership("active", T_LO)]].concat();
    let trace = format!("{trace} create_membership");
    let expected = "recovered user_1:dated om_1:reactivated";
    check(case(reactivate), script, &trace, expected);
}

#[test]
fn a_membership_that_exists_but_is_invisible_is_parked_at_last() {
    let round = [exists(), ABSENT, ABSENT, ABSENT, ABSENT];
    let made = with_user(Origin::Made(Evidence::Answered));
    let (trace, told) = told(row(None, true), made, LINK, times(8, &round));
    assert_eq!(trace.matches("create_membership").count(), 8);
    assert_eq!(
        told,
        "parked membership exists_but_invisible user_1:answered"
    );
}

#[test]
fn eight_unclear_memberships_are_parked_and_the_user_is_kept() {
    let made = with_user(Origin::Made(Evidence::Answered));
    let (_, told) = told(row(None, true), made, LINK, times(8, &[unclear(), ABSENT]));
    assert_eq!(told, "parked membership server_error user_1:answered");
}

#[test]
fn a_step_has_its_own_attempts() {
    let mut script = times(7, &[unclear(), ABSENT]);
    script.push(ok("user_1"));
    script.extend(times(7, &[unclear(), ABSENT]));
    script.push(ok("om_1"));
    let (_, told) = told(row(None, true), context(), LINK, script);
    assert_eq!(told, "created user_1:answered om_1:created");
}

#[test]
fn a_refused_membership_fails_and_keeps_the_user() {
    let case = |context| (row(None, true), context, LINK);
    let trace = "ask_org create_user create_membership";
    let script = |code| vec![ok("user_1"), rejected(code)];
    let expected = "failed membership invalid_role user_1:answered -:failed";
    check(case(context()), script("invalid_role"), trace, expected);
    let expected = "failed membership membership_pending user_1:answered -:failed";
    check(case(context()), script(PENDING_MEMBERSHIP), trace, expected);
}

#[test]
fn a_refused_membership_that_may_be_ours_is_looked_up_first() {
    let suspect = || RowContext {
        suspect: true,
        ..with_user(Origin::Made(Evidence::Dated))
    };
    let case = || (row(None, true), suspect(), LINK);
    let trace = "ask_org find_membership create_membership find_membership";
    let script = |last| vec![ABSENT, rejected("invalid_role"), last];
    let expected = "recovered user_1:dated om_1:recovered";
    check(case(), script(membership("active", T_LO)), trace, expected);
    let expected = "failed membership invalid_role user_1:dated om_1:failed";
    check(
        case(),
        script(membership("inactive", T_LO)),
        trace,
        expected,
    );

    let mut nothing = script(ABSENT);
    nothing.extend(times(3, &[ABSENT]));
    let trace = format!("{trace}{}", rereads("find_membership"));
    let expected = "failed membership invalid_role user_1:dated -:failed";
    check(case(), nothing, &trace, expected);
}

#[test]
fn a_membership_answered_404_waits_for_the_readers_and_asks_for_the_user_once() {
    let missing = || rejected(USER_OR_ORG_MISSING);
    let case = || {
        (
            row(None, true),
            with_user(Origin::Made(Evidence::Answered)),
            LINK,
        )
    };
    let waits = "ask_org create_membership 500ms create_membership 1500ms create_membership \
                 3000ms create_membership";
    let script = vec![missing(), missing(), missing(), ok("om_1")];
    check(
        case(),
        script,
        waits,
        "created user_1:answered om_1:created",
    );

    let asked = format!("{waits} get_user");
    let mut script = times(4, &[missing()]);
    script.push(ABSENT);
    let expected = "failed membership user_not_found user_1:answered -:failed";
    check(case(), script, &asked, expected);

    let again = format!("{asked} create_membership");
    let mut script = times(4, &[missing()]);
    script.extend([ok("user_1"), missing()]);
    let expected = "failed membership organization_not_found user_1:answered -:failed";
    check(case(), script, &again, expected);
}

#[test]
fn a_new_membership_that_is_pending_is_not_a_success() {
    let script = vec![ok("user_1"), membership("pending", T_LO)];
    let trace = "ask_org create_user create_membership";
    let expected = "failed membership membership_pending user_1:answered om_1:failed";
    check((row(None, true), context(), LINK), script, trace, expected);
}

#[test]
fn an_event_out_of_turn_changes_nothing() {
    let mut machine = RowMachine::new(row(None, true), context(), LINK);
    machine.start();
    assert!(matches!(
        machine.on_verdict(ok("user_9"), 1),
        Action::AskOrg(_)
    ));
    assert!(matches!(machine.on_timer(), Action::AskOrg(_)));
    let ready = || OrgAnswer::Ready {
        id: "org_1".to_owned(),
    };
    machine.on_org(ready());
    assert!(matches!(
        machine.on_org(ready()),
        Action::Send(Op::CreateUser(_))
    ));
    machine.on_verdict(ok("user_1"), 1);
    let action = machine.on_verdict(ok("om_1"), 1);
    assert!(matches!(action, Action::Settle), "{action:?}");
    let outcome = machine.outcome().cloned().unwrap();
    for action in [
        machine.on_verdict(ok("user_9"), 9),
        machine.on_timer(),
        machine.on_org(ready()),
    ] {
        assert!(matches!(action, Action::Settle), "{action:?}");
    }
    assert_eq!(machine.outcome(), Some(&outcome));
    let joined = outcome
        .membership
        .as_ref()
        .map(|membership| membership.state);
    assert_eq!(joined, Some(MembershipState::Created));
}
