//! Locale and second factor: what is sent when, and what is concluded.

use super::*;
use crate::model::Reached;
use crate::source::Totp;
use crate::worker::attempts::ATTEMPTS_MAX;

const MADE: Origin = Origin::Made(Evidence::Answered);

fn with_factor(org: bool) -> SourceRow {
    SourceRow {
        totp: Some(Box::new(Totp {
            secret: "JBSWY3DPEHPK3PXP".into(),
            issuer: Some("Acme".to_owned()),
        })),
        ..row(Some("7"), org)
    }
}

fn with_locale() -> SourceRow {
    SourceRow {
        locale: Some("en-US".into()),
        ..row(Some("7"), false)
    }
}

fn factor(created_at: i64) -> Verdict {
    Verdict::Ok(Box::new(Entity {
        id: "auth_factor_1".to_owned(),
        created_at: Some(ServerMs(created_at)),
        ..Entity::default()
    }))
}

/// A later generation of a row that ended at one of its last steps.
fn again(suspect: bool) -> RowContext {
    RowContext {
        suspect,
        reached: Some(Box::new(Reached {
            org_id: Some("org_1".to_owned()),
            membership: Some(MembershipOutcome {
                id: Some("om_1".to_owned()),
                state: MembershipState::Created,
                repeat: false,
            }),
            locale_set: true,
            leads: true,
        })),
        ..with_user(MADE)
    }
}

#[test]
fn a_locale_and_a_factor_come_last_and_in_this_order() {
    let row = SourceRow {
        locale: Some("en-US".into()),
        ..with_factor(true)
    };
    let script = vec![ok("user_1"), ok("om_1"), ok("user_1"), ok("auth_factor_1")];
    let trace = "ask_org create_user create_membership set_locale create_factor";
    let case = (row, context(), LINK);
    check(case, script, trace, "created user_1:answered om_1:created");
}

#[test]
fn who_was_there_before_keeps_locale_and_factors() {
    let row = SourceRow {
        locale: Some("en-US".into()),
        ..with_factor(false)
    };
    let script = vec![exists(), user("user_1", Some("7"), 1)];
    let trace = "create_user find_user_by_external_id";
    check(
        (row, context(), LINK),
        script,
        trace,
        "linked user_1:before",
    );
}

#[test]
fn a_followers_user_has_what_its_leader_brought() {
    let row = SourceRow {
        locale: Some("en-US".into()),
        ..with_factor(true)
    };
    let case = (row, follower(MADE), LINK);
    let trace = "ask_org create_membership";
    check(
        case,
        vec![ok("om_1")],
        trace,
        "merged user_1:answered om_1:created",
    );
}

#[test]
fn a_locale_is_sent_again_until_it_is_answered() {
    let script = vec![ok("user_1"), unclear(), unclear(), ok("user_1")];
    let trace = "create_user set_locale 500ms set_locale 1000ms set_locale";
    let case = (with_locale(), context(), LINK);
    check(case, script, trace, "created user_1:answered");
    let mut script = vec![ok("user_1")];
    script.extend(times(usize::from(ATTEMPTS_MAX), &[unclear()]));
    let told = told(with_locale(), context(), LINK, script);
    assert_eq!(told.1, "parked locale server_error user_1:answered");
}

#[test]
fn a_refused_locale_fails_its_row_and_keeps_the_user() {
    let script = vec![ok("user_1"), rejected("invalid_locale")];
    let case = (with_locale(), context(), LINK);
    let told = "failed locale invalid_locale user_1:answered";
    check(case, script, "create_user set_locale", told);
}

#[test]
fn a_lost_enrolment_is_waited_out_looked_up_and_then_sent_again() {
    let case = || (with_factor(false), context(), LINK);
    let script = vec![ok("user_1"), unclear(), factor(T_LO + 5)];
    let trace = "create_user create_factor wait_75s find_factor";
    check(case(), script, trace, "created user_1:answered");
    let script = vec![ok("user_1"), unclear(), ABSENT, ok("auth_factor_1")];
    let trace = "create_user create_factor wait_75s find_factor create_factor";
    check(case(), script, trace, "created user_1:answered");
    let mut script = vec![ok("user_1")];
    script.extend(times(usize::from(ATTEMPTS_MAX), &[unclear(), ABSENT]));
    let (row, context, policy) = case();
    let told = told(row, context, policy, script);
    assert_eq!(told.1, "parked factor server_error user_1:answered");
}

#[test]
fn a_row_in_doubt_looks_before_it_enrols() {
    let ours = || user("user_1", Some("7"), T_LO + 1);
    let script = vec![ours(), factor(T_LO + 5)];
    let trace = "find_user_by_external_id wait_75s_of_doubt find_factor";
    let case = (with_factor(false), suspect(), LINK);
    check(case, script, trace, "recovered user_1:dated");
    let script = vec![ours(), ABSENT, ok("auth_factor_1")];
    let trace = "find_user_by_external_id wait_75s_of_doubt find_factor create_factor";
    let case = (with_factor(false), suspect(), LINK);
    check(case, script, trace, "recovered user_1:dated");
    // nobody can have enrolled anything for a user that was not there
    let script = vec![ABSENT, ABSENT, ok("user_1"), ok("auth_factor_1")];
    let trace = "find_user_by_external_id find_user_by_email create_user create_factor";
    let case = (with_factor(false), suspect(), LINK);
    check(case, script, trace, "created user_1:answered");
}

#[test]
fn a_refused_factor_fails_its_row_and_a_retry_does_only_the_factor() {
    let script = vec![
        ok("user_1"),
        ok("om_1"),
        rejected("invalid_request_parameters"),
    ];
    let trace = "ask_org create_user create_membership create_factor";
    let told = "failed factor invalid_request_parameters user_1:answered om_1:created";
    check((with_factor(true), context(), LINK), script, trace, told);
    // its locale was set before
    let with_both = SourceRow {
        locale: Some("en-US".into()),
        ..with_factor(true)
    };
    let script = vec![ABSENT, ok("auth_factor_1")];
    let trace = "find_factor create_factor";
    let told = "created user_1:answered om_1:created";
    check((with_both, again(false), LINK), script, trace, told);
    // it was parked: what it sent may still be under way
    let trace = "wait_75s_of_doubt find_factor";
    let case = (with_factor(true), again(true), LINK);
    check(case, vec![factor(T_LO)], trace, told);
}

#[test]
fn a_factor_that_its_person_enrolled_is_not_joined_by_another() {
    let told = "failed factor factor_exists user_1:answered om_1:created";
    let case = (with_factor(true), again(false), LINK);
    check(case, vec![factor(T_LO + 9)], "find_factor", told);
    // older than anything this row can have sent
    let case = (with_factor(true), again(true), LINK);
    check(
        case,
        vec![factor(T_LO - 1)],
        "wait_75s_of_doubt find_factor",
        told,
    );
    // the target itself says so
    let script = vec![ok("user_1"), exists(), factor(T_LO + 9)];
    let trace = "create_user create_factor find_factor";
    let told = "failed factor factor_exists user_1:answered";
    check((with_factor(false), context(), LINK), script, trace, told);
}

#[test]
fn a_row_whose_leader_took_the_lead_again_only_keeps_its_membership() {
    let context = RowContext {
        follower: true,
        ..again(false)
    };
    let case = (with_factor(true), context, LINK);
    check(case, vec![], "", "merged user_1:answered om_1:created");
}

#[test]
fn a_secret_in_the_targets_words_is_cut_out() {
    let refused = Rejection {
        message: "JBSWY3DPEHPK3PXP is too short".to_owned(),
        ..rejection("invalid_request_parameters")
    };
    let mut machine = RowMachine::new(with_factor(false), context(), LINK);
    let script = vec![ok("user_1"), Verdict::Rejected(refused)];
    let (_, outcome) = play(&mut machine, script);
    assert_eq!(outcome.error.unwrap().message, "… is too short");
    let shown = format!("{:?} {:?}", with_factor(false), machine);
    assert!(!shown.contains("JBSWY3DPEHPK3PXP"), "{shown}");
}
