//! One case per line of what is known about the target's answers.

use super::*;
use crate::model::ServerMs;
use crate::source::SourceRow;
use crate::target::{NewFactor, usual};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

fn create_user(email: &str) -> Op {
    Op::CreateUser(Arc::new(SourceRow::bare(email)))
}

fn create_membership() -> Op {
    Op::CreateMembership {
        user_id: "user_1".to_owned(),
        org_id: "org_1".to_owned(),
        role_slugs: Vec::new(),
    }
}

fn set_locale() -> Op {
    Op::SetLocale {
        user_id: "user_1".to_owned(),
        locale: "en-US".to_owned(),
    }
}

fn create_factor() -> Op {
    Op::CreateFactor(Box::new(NewFactor {
        user_id: "user_1".to_owned(),
        secret: "JBSWY3DPEHPK3PXP".into(),
        issuer: None,
        label: "a@x.org".to_owned(),
    }))
}

fn find_factor() -> Op {
    Op::FindFactor("user_1".to_owned())
}

fn find_membership() -> Op {
    Op::FindMembership {
        user_id: "user_1".to_owned(),
        org_id: "org_1".to_owned(),
    }
}

fn create_org() -> Op {
    Op::CreateOrg {
        external_id: "acme".to_owned(),
        name: "Acme".to_owned(),
    }
}

fn every_op() -> Vec<Op> {
    vec![
        Op::Probe,
        create_user("a@x.org"),
        Op::FindUserByExternalId("7".to_owned()),
        Op::FindUserByEmail("a@x.org".to_owned()),
        Op::GetUser("user_1".to_owned()),
        find_membership(),
        create_membership(),
        set_locale(),
        create_factor(),
        find_factor(),
        Op::GetOrg("org_1".to_owned()),
        Op::FindOrgByExternalId("acme".to_owned()),
        Op::FindOrgByName("Acme".to_owned()),
        create_org(),
    ]
}

fn answer(status: u16, body: Option<&str>) -> Answer<'_> {
    Answer::Http {
        status,
        retry_after: None,
        date: None,
        request_id: Some("req_1"),
        body: body.map(str::as_bytes),
    }
}

/// A verdict in one line: its kind and the code that decided it.
fn told(op: &Op, status: u16, body: &str) -> String {
    in_short(&classify(op, &answer(status, Some(body))))
}

fn in_short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ok(entity) => format!("ok {}", entity.id),
        Verdict::Made(id) => format!("made {id}"),
        Verdict::Absent => "absent".to_owned(),
        Verdict::NotApplied(NotApplied::Throttled(wait)) => format!("throttled {wait:?}"),
        Verdict::NotApplied(NotApplied::Unauthorized) => "unauthorized".to_owned(),
        Verdict::NotApplied(NotApplied::Connect(why)) => format!("connect {why}"),
        Verdict::Stop(StopReason::Unauthorized) => "stop unauthorized".to_owned(),
        Verdict::Stop(StopReason::Forbidden(_)) => "stop forbidden".to_owned(),
        Verdict::Stop(StopReason::NotThisApi(_)) => "stop not_this_api".to_owned(),
        Verdict::Stop(StopReason::Certificate(_)) => "stop certificate".to_owned(),
        Verdict::Stop(StopReason::OtherEnvironment) => "stop other_environment".to_owned(),
        Verdict::Rejected(rejection) => format!("rejected {}", rejection.code),
        Verdict::Exists(rejection) => format!("exists {}", rejection.code),
        Verdict::Ambiguous(rejection) => format!("ambiguous {}", rejection.code),
        Verdict::OddEcho(entity) => format!("odd_echo {}", entity.id),
    }
}

const HTML: &str = "<html><body>oops</body></html>";

fn nested(code: &str) -> String {
    format!(
        r#"{{"code":"user_creation_error","message":"Could not create user.","errors":[{{"code":"{code}","message":"m"}}]}}"#
    )
}

fn coded(code: &str) -> String {
    format!(r#"{{"code":"{code}","message":"m"}}"#)
}

#[test]
fn every_answer_that_says_the_user_is_there_is_exists() {
    let cases = [
        (400, nested("email_not_available"), "email_not_available"),
        (
            400,
            nested("external_id_already_used"),
            "external_id_already_used",
        ),
        (
            400,
            coded("external_id_already_used"),
            "external_id_already_used",
        ),
        (422, nested("email_not_available"), "email_not_available"),
        (409, coded("user_already_exists"), "user_already_exists"),
        (409, coded("conflict"), "conflict"),
        (409, r#"{"message":"m"}"#.to_owned(), "http_409"),
        (409, HTML.to_owned(), "http_409"),
        // no reason given: only a look-up tells
        (400, coded("user_creation_error"), "user_creation_error"),
    ];
    for (status, body, code) in cases {
        let told = told(&create_user("a@x.org"), status, &body);
        assert_eq!(told, format!("exists {code}"), "{status} {body}");
    }
}

#[test]
fn every_known_refusal_of_a_users_fields_is_rejected() {
    let cases = [
        (400, nested("invalid_email"), "invalid_email"),
        (400, coded("invalid_email"), "invalid_email"),
        (
            422,
            coded("invalid_request_parameters"),
            "invalid_request_parameters",
        ),
        (
            400,
            nested("password_strength_error"),
            "password_strength_error",
        ),
        (
            400,
            coded("password_strength_error"),
            "password_strength_error",
        ),
        (400, coded("invalid_password_hash"), "invalid_password_hash"),
        (
            400,
            coded("password_and_password_hash_provided"),
            "password_and_password_hash_provided",
        ),
        (
            400,
            coded("password_and_password_hash_type_provided"),
            "password_and_password_hash_type_provided",
        ),
        (
            400,
            coded("password_salt_position_requires_password_hash"),
            "password_salt_position_requires_password_hash",
        ),
        (400, coded("invalid_metadata"), "invalid_metadata"),
        (413, HTML.to_owned(), "http_413"),
    ];
    for (status, body, code) in cases {
        let told = told(&create_user("a@x.org"), status, &body);
        assert_eq!(told, format!("rejected {code}"), "{status} {body}");
    }
}

#[test]
fn a_refusal_nobody_knows_proves_nothing() {
    let cases = [
        (400, nested("something_new"), "something_new"),
        (400, coded("something_new"), "something_new"),
        // a message is never a code
        (
            400,
            r#"{"message":"email_not_available"}"#.to_owned(),
            "http_400",
        ),
        (422, "\"email_not_available\"".to_owned(), "http_422"),
        (400, HTML.to_owned(), "http_400"),
        (400, String::new(), "http_400"),
        (402, coded("payment"), "payment"),
        (418, String::new(), "http_418"),
    ];
    for (status, body, code) in cases {
        let told = told(&create_user("a@x.org"), status, &body);
        assert_eq!(told, format!("ambiguous {code}"), "{status} {body}");
    }
}

#[test]
fn existence_outweighs_another_refusal_in_the_same_answer() {
    let body = r#"{"code":"user_creation_error","errors":[{"code":"password_strength_error"},{"code":"email_not_available"}]}"#;
    assert_eq!(
        told(&create_user("a@x.org"), 400, body),
        "exists email_not_available"
    );
}

#[test]
fn every_refusal_of_a_membership_has_its_verdict() {
    let cases = [
        (
            400,
            r#"{"code":"organization_membership_already_exists"}"#,
            "exists organization_membership_already_exists",
        ),
        (
            422,
            r#"{"code":"organization_membership_already_exists"}"#,
            "exists organization_membership_already_exists",
        ),
        (
            409,
            r#"{"code":"entity_already_exists"}"#,
            "exists entity_already_exists",
        ),
        (
            400,
            r#"{"code":"entity_already_exists"}"#,
            "exists entity_already_exists",
        ),
        (409, r#"{"code":"conflict"}"#, "exists conflict"),
        (
            400,
            r#"{"code":"cannot_reactivate_pending_organization_membership"}"#,
            "rejected cannot_reactivate_pending_organization_membership",
        ),
        (422, r#"{"code":"invalid_role"}"#, "rejected invalid_role"),
        (
            422,
            r#"{"code":"sub_resource_scoped_role_not_allowed","role_slug":"x"}"#,
            "rejected sub_resource_scoped_role_not_allowed",
        ),
        (
            422,
            r#"{"code":"multiple_roles_not_enabled"}"#,
            "rejected multiple_roles_not_enabled",
        ),
        (
            404,
            r#"{"message":"m"}"#,
            "rejected user_or_organization_not_found",
        ),
        (
            404,
            r#"{"code":"entity_not_found"}"#,
            "rejected user_or_organization_not_found",
        ),
        (404, "", "rejected user_or_organization_not_found"),
        (404, HTML, "stop not_this_api"),
    ];
    for (status, body, expected) in cases {
        assert_eq!(
            told(&create_membership(), status, body),
            expected,
            "{status} {body}"
        );
    }
}

#[test]
fn every_refusal_of_an_organization_has_its_verdict() {
    let cases = [
        (
            400,
            r#"{"code":"external_id_already_used"}"#,
            "exists external_id_already_used",
        ),
        (409, r#"{"message":"domain"}"#, "exists http_409"),
        (
            422,
            r#"{"code":"invalid_request_parameters"}"#,
            "rejected invalid_request_parameters",
        ),
        (404, r#"{"message":"m"}"#, "stop not_this_api"),
    ];
    for (status, body, expected) in cases {
        assert_eq!(
            told(&create_org(), status, body),
            expected,
            "{status} {body}"
        );
    }
}

#[test]
fn statuses_that_mean_the_same_for_every_request() {
    for op in every_op() {
        let cases = [
            (401, r#"{"message":"Unauthorized"}"#, "unauthorized"),
            (403, r#"{"message":"m"}"#, "stop forbidden"),
            (301, "", "stop not_this_api"),
            (302, HTML, "stop not_this_api"),
            (304, "", "stop not_this_api"),
            (308, "", "stop not_this_api"),
            (405, "", "stop not_this_api"),
            (415, "", "stop not_this_api"),
            (408, "", "ambiguous http_408"),
            (500, "", "ambiguous http_500"),
            (502, HTML, "ambiguous http_502"),
            (503, r#"{"code":"unavailable"}"#, "ambiguous unavailable"),
            (504, HTML, "ambiguous http_504"),
            (
                429,
                r#"{"message":"m","code":"rate_limited"}"#,
                "throttled None",
            ),
            (429, r#"{"code":"daily_quota_exceeded"}"#, "throttled None"),
            (429, "\"Ratelimited\"", "throttled None"),
            (429, HTML, "throttled None"),
            (429, "", "throttled None"),
            (200, "", "ambiguous malformed_answer"),
            (200, HTML, "ambiguous malformed_answer"),
            (201, "{\"id\":\"user_", "ambiguous malformed_answer"),
            (201, "{}", "ambiguous malformed_answer"),
            (204, "", "ambiguous malformed_answer"),
        ];
        for (status, body, expected) in cases {
            assert_eq!(
                told(&op, status, body),
                expected,
                "{} {status} {body}",
                op.name()
            );
        }
        let cut = classify(&op, &answer(200, None));
        assert_eq!(
            in_short(&cut),
            "ambiguous oversized_answer",
            "{}",
            op.name()
        );
    }
}

#[test]
fn a_refused_read_never_refuses_a_row() {
    for op in every_op()
        .iter()
        .filter(|op| op.class() == RequestClass::Read)
    {
        for status in [400, 409, 413, 422] {
            let told = told(op, status, r#"{"code":"invalid_request_parameters"}"#);
            assert_eq!(
                told,
                "ambiguous invalid_request_parameters",
                "{}",
                op.name()
            );
        }
    }
}

#[test]
fn a_missing_entity_is_absent_and_a_missing_route_stops() {
    for op in every_op() {
        let entity = match op {
            Op::FindUserByExternalId(_)
            | Op::GetUser(_)
            | Op::FindFactor(_)
            | Op::FindMembership { .. }
            | Op::GetOrg(_)
            | Op::FindOrgByExternalId(_) => "absent",
            Op::SetLocale { .. } | Op::CreateFactor(_) | Op::CreateMembership { .. } => {
                "rejected user_or_organization_not_found"
            }
            _ => "stop not_this_api",
        };
        assert_eq!(
            told(&op, 404, r#"{"message":"m"}"#),
            entity,
            "{}",
            op.name()
        );
        assert_eq!(told(&op, 404, HTML), "stop not_this_api", "{}", op.name());
        let half = if entity.starts_with("stop") {
            entity
        } else {
            "ambiguous http_404"
        };
        assert_eq!(told(&op, 404, r#"{"mess"#), half, "{}", op.name());
    }
}

#[test]
fn a_factor_is_the_totp_of_the_user_that_was_asked_for() {
    let cases = [
        (
            create_factor(),
            r#"{"authentication_factor":{"id":"f","type":"totp","user_id":"user_1"},"authentication_challenge":{"id":"c"}}"#,
            "ok f",
        ),
        (create_factor(), r#"{"id":"f"}"#, "ok f"),
        (
            create_factor(),
            r#"{"authentication_factor":{"id":"f","user_id":"user_2"}}"#,
            "ambiguous malformed_answer",
        ),
        (create_factor(), "{}", "ambiguous malformed_answer"),
        (find_factor(), r#"{"data":[]}"#, "absent"),
        (
            find_factor(),
            r#"{"data":[{"id":"s","type":"sms"}]}"#,
            "absent",
        ),
        (
            find_factor(),
            r#"{"data":[{"id":"s","type":"sms"},{"id":"f","type":"totp"}]}"#,
            "ok f",
        ),
        (find_factor(), "{}", "ambiguous malformed_answer"),
    ];
    for (op, body, expected) in cases {
        assert_eq!(told(&op, 200, body), expected, "{body}");
    }
}

#[test]
fn roles_that_are_not_shown_stop_nobody() {
    use crate::model::scan::RoleScope;
    for scope in [
        RoleScope::Environment,
        RoleScope::Organization("org_1".to_owned()),
    ] {
        let op = Op::ListRoles(scope);
        assert_eq!(told(&op, 200, r#"{"data":[{"slug":"member"}]}"#), "ok ");
        assert_eq!(told(&op, 200, "{}"), "ambiguous malformed_answer");
        for (status, body) in [(403, "{}"), (404, "<html>"), (404, "{}"), (405, "")] {
            assert_eq!(told(&op, status, body), "absent", "{status} {body}");
        }
        assert_eq!(told(&op, 500, ""), "ambiguous http_500");
    }
}

#[test]
fn retry_after_is_carried_in_both_forms() {
    let throttled = |retry_after, date| {
        let answer = Answer::Http {
            status: 429,
            retry_after: Some(retry_after),
            date,
            request_id: None,
            body: Some(b""),
        };
        in_short(&classify(&Op::Probe, &answer))
    };
    assert_eq!(throttled("3", None), "throttled Some(3s)");
    assert_eq!(
        throttled(
            "Wed, 21 Oct 2026 07:28:30 GMT",
            Some("Wed, 21 Oct 2026 07:28:00 GMT")
        ),
        "throttled Some(30s)"
    );
    assert_eq!(throttled("soon", None), "throttled None");
}

#[test]
fn an_answered_create_must_echo_the_email() {
    let create = create_user("Ann.Lee@X.org");
    let body = |email: &str| format!(r#"{{"id":"user_1","email":"{email}"}}"#);
    for (email, expected) in [
        ("Ann.Lee@X.org", "ok user_1"),
        (" ann.lee@x.ORG ", "ok user_1"),
        ("bob@x.org", "odd_echo user_1"),
    ] {
        assert_eq!(told(&create, 201, &body(email)), expected);
    }
    assert_eq!(
        told(&create, 201, r#"{"id":"user_1"}"#),
        "ambiguous malformed_answer"
    );
    assert_eq!(
        told(&create, 201, r#"{"id":"../admin","email":"ann.lee@x.org"}"#),
        "ambiguous malformed_answer"
    );
    assert_eq!(told(&create, 200, &body("ann.lee@x.org")), "ok user_1");
    assert_eq!(
        told(&create_user("ÉVA@x.org"), 201, &body("éva@x.org")),
        "ok user_1"
    );
}

#[test]
fn a_look_up_believes_only_the_one_it_asked_for() {
    let by_external_id = Op::FindUserByExternalId("7".to_owned());
    let cases = [
        (
            &by_external_id,
            r#"{"id":"u","email":"a@x.org","external_id":"7"}"#,
            "ok u",
        ),
        (&by_external_id, r#"{"id":"u","email":"a@x.org"}"#, "ok u"),
        (
            &by_external_id,
            r#"{"id":"u","email":"a@x.org","external_id":"8"}"#,
            "ambiguous malformed_answer",
        ),
        (
            &by_external_id,
            r#"{"id":"u","external_id":"7"}"#,
            "ambiguous malformed_answer",
        ),
        (
            &Op::GetUser("user_1".to_owned()),
            r#"{"id":"user_1"}"#,
            "ok user_1",
        ),
        (&set_locale(), r#"{"id":"user_1"}"#, "ok user_1"),
        (
            &set_locale(),
            r#"{"id":"user_2"}"#,
            "ambiguous malformed_answer",
        ),
        (
            &Op::GetUser("user_1".to_owned()),
            r#"{"id":"user_2"}"#,
            "ambiguous malformed_answer",
        ),
        (
            &Op::GetOrg("org_1".to_owned()),
            r#"{"id":"org_1"}"#,
            "ok org_1",
        ),
        (
            &Op::FindOrgByExternalId("acme".to_owned()),
            r#"{"id":"org_1","external_id":"other"}"#,
            "ambiguous malformed_answer",
        ),
        (
            &create_org(),
            r#"{"id":"org_1","external_id":"acme"}"#,
            "ok org_1",
        ),
        (
            &create_org(),
            r#"{"id":"org_1","external_id":"x"}"#,
            "ambiguous malformed_answer",
        ),
        (
            &create_membership(),
            r#"{"id":"om_1","user_id":"user_1","organization_id":"org_1","status":"active"}"#,
            "ok om_1",
        ),
        (
            &create_membership(),
            r#"{"id":"om_1","user_id":"user_2","organization_id":"org_1"}"#,
            "ambiguous malformed_answer",
        ),
    ];
    for (op, body, expected) in cases {
        assert_eq!(told(op, 200, body), expected, "{} {body}", op.name());
    }
}

#[test]
fn a_created_at_by_the_targets_clock_is_read() {
    let op = Op::FindUserByExternalId("7".to_owned());
    let body = r#"{"id":"u","email":"a@x.org","created_at":"1970-01-01T00:00:01.500Z"}"#;
    let Verdict::Ok(entity) = classify(&op, &answer(200, Some(body))) else {
        panic!("not found");
    };
    assert_eq!(entity.created_at, Some(ServerMs(1_500)));
    assert_eq!(entity.external_id.as_deref(), Some("7"));
}

#[test]
fn a_name_means_the_only_organization_that_has_it() {
    let op = Op::FindOrgByName("Acme".to_owned());
    let cases = [
        (r#"{"data":[]}"#, "absent"),
        (
            r#"{"data":[{"id":"org_1","name":"Acme Labs"},{"id":"org_2","name":"acme"}]}"#,
            "absent",
        ),
        (
            r#"{"data":[{"id":"org_1","name":"Acme Labs"},{"id":"org_2","name":"Acme"}]}"#,
            "ok",
        ),
        (
            r#"{"data":[{"id":"org_1","name":"Acme"},{"id":"org_2","name":"Acme"}]}"#,
            "ambiguous",
        ),
        (
            r#"{"data":[{"id":"org_1","name":"Acme"}],"list_metadata":{"after":"org_1"}}"#,
            "ambiguous",
        ),
        (
            r#"{"data":[{"id":"org_1","name":"Acme"}],"list_metadata":{"after":null}}"#,
            "ok",
        ),
        (r#"{"object":"list"}"#, "unclear"),
    ];
    for (body, expected) in cases {
        let verdict = classify(&op, &answer(200, Some(body)));
        let told = match &verdict {
            Verdict::Ok(_) => "ok",
            Verdict::Absent => "absent",
            Verdict::Rejected(rejection) if rejection.code == ORGANIZATION_AMBIGUOUS => "ambiguous",
            Verdict::Ambiguous(_) => "unclear",
            _ => "something else",
        };
        assert_eq!(told, expected, "{body}: {verdict:?}");
    }
    let two = r#"{"data":[{"id":"org_1","name":"Acme"},{"id":"org_2","name":"Acme"}]}"#;
    let Verdict::Rejected(rejection) = classify(&op, &answer(200, Some(two))) else {
        panic!("two organizations have the name");
    };
    assert!(
        rejection.message.contains("org_1, org_2"),
        "{}",
        rejection.message
    );
}

#[test]
fn a_list_gives_the_user_with_that_email_or_none() {
    let op = Op::FindUserByEmail("a@x.org".to_owned());
    let cases = [
        (r#"{"data":[]}"#, "absent"),
        (r#"{"data":[{"id":"u1","email":"aa@x.org"}]}"#, "absent"),
        (
            r#"{"data":[{"id":"u1","email":"b@x.org"},{"id":"u2","email":"A@x.org"}]}"#,
            "ok u2",
        ),
        (
            r#"{"data":[{"id":"u1","email":"A@x.org"},{"id":"u2","email":"a@x.org"}]}"#,
            "ok u2",
        ),
        (
            r#"{"data":[{"email":"a@x.org"}]}"#,
            "ambiguous malformed_answer",
        ),
        (r#"{"data":{}}"#, "ambiguous malformed_answer"),
        (
            r#"{"data":[null,7,{"id":"u2","email":"a@x.org"}]}"#,
            "ok u2",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(told(&op, 200, body), expected, "{body}");
    }
}

#[test]
fn a_list_gives_the_membership_of_that_user_and_organization() {
    let mine = r#""user_id":"user_1","organization_id":"org_1""#;
    let cases = [
        (r#"{"data":[]}"#.to_owned(), "absent"),
        (
            r#"{"data":[{"id":"om_1","user_id":"user_1","organization_id":"org_2"}]}"#.to_owned(),
            "absent",
        ),
        (
            format!(r#"{{"data":[{{"id":"om_1",{mine},"status":"inactive"}}]}}"#),
            "ok om_1",
        ),
        (
            format!(
                r#"{{"data":[{{"id":"om_1",{mine},"status":"inactive"}},{{"id":"om_2",{mine},"status":"active"}}]}}"#
            ),
            "ok om_2",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(told(&find_membership(), 200, &body), expected, "{body}");
    }
}

#[test]
fn the_probe_wants_a_list_and_nothing_in_it() {
    assert_eq!(told(&Op::Probe, 200, r#"{"data":[]}"#), "ok ");
    assert_eq!(
        told(&Op::Probe, 200, r#"{"hello":"world"}"#),
        "ambiguous malformed_answer"
    );
}

#[test]
fn transport_errors_keep_their_kinds() {
    let op = create_user("a@x.org");
    let told = |error| in_short(&classify(&op, &Answer::Transport(error)));
    assert_eq!(
        told(TransportError::Connect("refused".to_owned())),
        "connect refused"
    );
    assert_eq!(
        told(TransportError::Certificate("expired".to_owned())),
        "stop certificate"
    );
    assert_eq!(
        told(TransportError::Lost("reset".to_owned())),
        "ambiguous connection_lost"
    );
}

#[test]
fn a_rejection_carries_status_request_id_and_words() {
    let body = r#"{"code":"invalid_role","message":"No such role."}"#;
    let Verdict::Rejected(rejection) = classify(&create_membership(), &answer(422, Some(body)))
    else {
        panic!("not rejected");
    };
    assert_eq!(rejection.http_status, Some(422));
    assert_eq!(rejection.request_id.as_deref(), Some("req_1"));
    assert_eq!(rejection.message, "No such role.");
}

#[test]
fn the_words_of_a_stop_name_no_person() {
    let body = r#"{"message":"user ann@x.org may not"}"#;
    let Verdict::Stop(StopReason::Forbidden(words)) =
        classify(&create_user("ann@x.org"), &answer(403, Some(body)))
    else {
        panic!("not stopped");
    };
    assert_eq!(words, "create_user was answered 403: user … may not");
}

/// Bodies near to real ones find more than random bytes do.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let snippets = prop::collection::vec(
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"id\"",
            "\"user_1\"",
            "\"data\"",
            "\"errors\"",
            "\"code\"",
            "\"email\"",
            "\"a@x.org\"",
            "\"message\"",
            "null",
            "7",
            "<html>",
            "\\u",
            "\"email_not_available\"",
            "\"user_creation_error\"",
            "\"invalid_email\"",
            "{\"code\":\"invalid_role\"}",
            "{\"code\":\"never_heard_of\"}",
            "{\"code\":\"user_creation_error\",\"errors\":[",
            "]}",
            "\"status\"",
            "\"created_at\"",
            "\"\"",
        ]),
        0..24,
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        snippets.prop_map(|parts| parts.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(crate::fuzz::cases(1_024))]

    #[test]
    fn no_answer_whatever_makes_it_panic_or_claim_too_much(
        status in prop_oneof![any::<u16>(), prop::sample::select(vec![200_u16, 201, 400, 404, 409, 422])],
        body in prop::option::of(bodies()),
        header in prop::option::of(".{0,40}"),
    ) {
        for op in every_op() {
            let answer = Answer::Http {
                status,
                retry_after: header.as_deref(),
                date: header.as_deref(),
                request_id: header.as_deref(),
                body: body.as_deref(),
            };
            match classify(&op, &answer) {
                Verdict::Ok(entity) | Verdict::OddEcho(entity) => {
                    prop_assert!((200..300).contains(&status));
                    prop_assert!(body::is_id(&entity.id) || matches!(op, Op::Probe));
                }
                Verdict::Made(id) => prop_assert!(false, "said of {} without a short look", id),
                Verdict::Absent => prop_assert_eq!(op.class(), RequestClass::Read),
                // Only these fail a row: a write that was refused for a reason that is known.
                Verdict::Rejected(rejection) => {
                    prop_assert_eq!(op.class(), RequestClass::Write);
                    let code = &*rejection.code;
                    prop_assert!(match status {
                        400 | 422 => REJECTED_CODES.contains(&code),
                        404 => code == USER_OR_ORG_MISSING,
                        _ => status == 413 && !code.is_empty(),
                    }, "{status} {code}");
                }
                Verdict::Exists(rejection) => {
                    prop_assert_eq!(op.class(), RequestClass::Write);
                    let code = &*rejection.code;
                    let says_so = EXISTS_CODES.contains(&code) || code == USER_CREATION_ERROR;
                    prop_assert!(match status {
                        400 | 422 => says_so,
                        _ => status == 409 && !code.is_empty(),
                    }, "{status} {code}");
                }
                Verdict::NotApplied(_) => prop_assert!(matches!(status, 401 | 429)),
                Verdict::Stop(_) | Verdict::Ambiguous(_) => {}
            }
        }
    }
}

/// Objects with the fields of an entity, most of them right, in any order, some of them twice.
fn objects() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "id",
        "email",
        "external_id",
        "first_name",
        "last_name",
        "email_verified",
        "status",
        "user_id",
        "organization_id",
        "created_at",
        "roles",
        "role",
        "metadata",
        r"\u0069d",
        r"na\u006de",
    ]);
    let odd = prop::sample::select(vec![
        "null",
        "7",
        "1e999",
        "true",
        r#""""#,
        r#""../x""#,
        r#""user_1""#,
        r#""om_2""#,
        r#"" A@X.org""#,
        r#""b@x.org""#,
        r#""a\u0040x.org""#,
        r#""\ud800""#,
        r#"["user_1",["x"]]"#,
        r#"{"slug":"member","slug":null}"#,
        r#"[{"slug":"member"},{"slug":7},{"id":"x"},["slug"]]"#,
    ]);
    let field = (names, odd, 0..4).prop_map(|(name, odd, dice)| {
        let right = match name {
            "id" | "user_id" => r#""user_1""#,
            "organization_id" => r#""org_1""#,
            "email" => r#""a@x.org""#,
            "email_verified" => "false",
            "status" => r#""active""#,
            "created_at" => r#""2026-10-21T07:28:00.250Z""#,
            "role" => r#"{"slug":"member"}"#,
            "roles" => r#"[{"slug":"member"},{"slug":"admin"}]"#,
            "metadata" => r#"{"a":{"id":"x","b":[1,2.5]}}"#,
            _ => r#""Ann""#,
        };
        let value = if dice == 0 { odd } else { right };
        format!(r#""{name}":{value}"#)
    });
    let ends = prop::sample::select(vec!["}", "}", "} \n", "}}", ",}", ""]);
    (prop::collection::vec(field, 0..10), any::<bool>(), ends).prop_map(|(fields, whole, end)| {
        let start = r#""id":"user_1","email":"a@x.org","x":null"#.to_owned();
        let fields: Vec<String> = whole.then_some(start).into_iter().chain(fields).collect();
        format!("{{{}{end}", fields.join(","))
    })
}

proptest! {
    #![proptest_config(crate::fuzz::cases(4_096))]

    #[test]
    fn what_is_read_where_it_stands_is_what_the_whole_look_finds(body in objects()) {
        for op in [create_user("a@x.org"), create_membership()] {
            if let Some(id) = usual::made(&op, 201, Some(body.as_bytes())) {
                let Verdict::Ok(whole) = classify(&op, &answer(201, Some(&body))) else {
                    return Err(TestCaseError::fail("the whole look finds something else"));
                };
                prop_assert_eq!(id, whole.id);
                let is_active = matches!(whole.status.as_deref(), None | Some("active"));
                let is_member = matches!(op, Op::CreateMembership { .. });
                prop_assert!(is_active || !is_member, "{:?}", whole.status);
            }
        }
    }

    #[test]
    fn what_is_plainly_what_was_asked_for_is_read_where_it_stands(
        id in "[a-z]{1,8}_[A-Z0-9]{1,20}",
        name in "[a-zA-Zäöü ]{0,12}",
        is_verified in any::<bool>(),
    ) {
        let user = json!({"object": "user", "id": id, "email": "a@x.org", "first_name": name,
            "email_verified": is_verified, "metadata": {"a": "b\n"}}).to_string();
        let membership = json!({"id": id, "user_id": "user_1", "organization_id": "org_1",
            "role": {"slug": "member"}}).to_string();
        for (op, body) in [(create_user("a@x.org"), user), (create_membership(), membership)] {
            let made = usual::made(&op, 201, Some(body.as_bytes()));
            prop_assert_eq!(made, Some(id.clone()), "{}", body);
        }
    }
}

#[test]
fn half_a_404_says_nothing_about_the_route() {
    let op = Op::FindUserByExternalId("x".to_owned());
    assert!(told(&op, 404, r#"{"message":"User not fo"#).starts_with("ambiguous"));
    assert_eq!(told(&op, 404, HTML), "stop not_this_api");
}
