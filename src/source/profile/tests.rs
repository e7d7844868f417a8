//! Profiles are read, bound and applied as `docs/PROFILES.md` says.

use super::*;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Maps one record; returns its cells by name, blank ones left out.
fn map(profile: &Profile, header: &[&str], cells: &[&str]) -> BTreeMap<String, String> {
    let names: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let plan = profile.bind(&names).unwrap();
    let raw = |cell: usize| Cow::Owned((*cells.get(cell).unwrap_or(&"")).to_owned());
    let made = plan.names().enumerate().map(|(index, name)| {
        let value = plan.value(index, &raw).into_owned();
        (name.to_owned(), value)
    });
    made.filter(|(_, value)| !value.is_empty()).collect()
}

fn own(columns: &str) -> Profile {
    Profile::read_own(&format!("name = \"Mine\"\n[columns]\n{columns}")).unwrap()
}

fn refusal(text: &str) -> String {
    Profile::read_own(text).unwrap_err().to_string()
}

fn pairs<'a>(pairs: &[(&'a str, &'a str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn every_built_in_profile_is_read_and_says_where_its_facts_are_from() {
    for (id, text) in TEXTS {
        let profile = Profile::read(id, text).unwrap();
        assert!(
            profile.source.as_deref().unwrap().starts_with("https://"),
            "{id}"
        );
        assert!(!profile.detect.is_empty() && profile.optional, "{id}");
        assert_eq!(named(id).unwrap().id, id);
    }
    assert_eq!(built_in().len(), TEXTS.len());
    assert!(named("none").is_none());
}

#[test]
fn exports_are_recognised_by_their_headers_and_others_are_not() {
    let table = [
        (
            "id,first_name,last_name,username,primary_email_address,primary_phone_number,verified_email_addresses,unverified_email_addresses,verified_phone_numbers,unverified_phone_numbers,totp_secret,password_digest,password_hasher",
            Some("clerk"),
        ),
        (
            "user_id,email,email_verified,name,nickname,given_name,family_name,created_at",
            Some("auth0"),
        ),
        (
            "cognito:username,name,given_name,family_name,middle_name,nickname,preferred_username,profile,picture,website,email,email_verified,gender,birthdate,zoneinfo,locale,phone_number,phone_number_verified,address,updated_at,cognito:mfa_enabled",
            Some("cognito"),
        ),
        (
            "login,firstName,lastName,middleName,honorificPrefix,honorificSuffix,email,title",
            Some("okta"),
        ),
        (
            "localId,email,emailVerified,passwordHash,salt,createdAt",
            Some("firebase"),
        ),
        (
            "Id,Given Name,Family Name,Nickname,Name,Email,Email Verified,Picture,Connection,Created At,Updated At",
            Some("auth0"),
        ),
        (
            "Id,Given Name,Family Name,Email,Email Verified,Created At",
            Some("auth0"),
        ),
        (
            "id,first_name,last_name,username,primary_email_address,password_digest,password_hasher",
            Some("clerk"),
        ),
        ("email,first_name,last_name,external_id", None),
        ("id,email,given_name,family_name,email_verified", None),
        (
            "id,email,given_name,family_name,email_verified,created_at",
            None,
        ),
        ("user_id,email", None),
        ("login,first_name,last_name,email,external_id", None),
        ("id,email,primary_email_address", None),
    ];
    for (header, expected) in table {
        let names: Vec<String> = header.split(',').map(str::to_owned).collect();
        let found = detected(&names).map(|profile| profile.id.clone());
        assert_eq!(found.as_deref(), expected, "{header}");
    }
}

#[test]
fn a_clerk_address_is_verified_when_it_is_in_the_list() {
    let clerk = named("clerk").unwrap();
    let header = [
        "id",
        "first_name",
        "primary_email_address",
        "verified_email_addresses",
        "password_digest",
        "password_hasher",
        "org_external_id",
    ];
    let cells = [
        "user_1",
        "Ada",
        "ada@x.org",
        "old@x.org, ADA@x.org",
        "$argon2id$v=19$",
        "argon2id",
        "acme",
    ];
    let expected = pairs(&[
        ("email", "ada@x.org"),
        ("first_name", "Ada"),
        ("email_verified", "true"),
        ("external_id", "user_1"),
        ("password_hash", "$argon2id$v=19$"),
        ("password_hash_type", "argon2"),
        ("org_external_id", "acme"),
    ]);
    assert_eq!(map(&clerk, &header, &cells), expected);
    let cells = ["user_2", "", "b@x.org", "not-b@x.org", "", "bcrypt"];
    let expected = pairs(&[
        ("email", "b@x.org"),
        ("email_verified", "false"),
        ("external_id", "user_2"),
    ]);
    assert_eq!(map(&clerk, &header, &cells), expected);
}

#[test]
fn an_auth0_cell_loses_its_quote_and_a_blocked_user_is_left_out() {
    let auth0 = named("auth0").unwrap();
    let header = [
        "user_id",
        "email",
        "email_verified",
        "name",
        "given_name",
        "blocked",
    ];
    let cells = [
        "'auth0|5",
        "'a@x.org",
        "true",
        "''t Hooft, Gerard",
        "",
        "true",
    ];
    let made = map(&auth0, &header, &cells);
    assert_eq!(made["external_id"], "auth0|5");
    assert_eq!(made["email"], "a@x.org");
    assert_eq!(made["first_name"], "Gerard");
    assert_eq!(made["last_name"], "'t Hooft");
    assert_eq!(made[SKIP_COLUMN], "blocked at Auth0");
    let cells = ["'auth0|6", "'b@x.org", "false", "'b@x.org", "'Bo", "false"];
    let made = map(&auth0, &header, &cells);
    assert_eq!(made["first_name"], "Bo");
    assert!(!made.contains_key("last_name") && !made.contains_key(SKIP_COLUMN));
}

#[test]
fn a_firebase_hash_becomes_the_documented_string() {
    let firebase = named("firebase").unwrap();
    let header = [
        "localId",
        "email",
        "emailVerified",
        "displayName",
        "passwordHash",
        "salt",
        "disabled",
        "rounds",
        "mem_cost",
        "base64_salt_separator",
        "base64_signer_key",
    ];
    let cells = [
        "u1",
        "a@x.org",
        "true",
        "Ada King Lovelace",
        "aGFzaA==",
        "c2FsdA==",
        "false",
        "8",
        "14",
        "Bw==",
        "a2V5a2V5",
    ];
    let made = map(&firebase, &header, &cells);
    assert_eq!(
        made["password_hash"],
        "$firebase-scrypt$v=1$r=8,m=14,ss=Bw,sk=a2V5a2V5$c2FsdA$aGFzaA"
    );
    assert_eq!(made["password_hash_type"], "firebase-scrypt");
    assert_eq!(
        (&*made["first_name"], &*made["last_name"]),
        ("Ada", "King Lovelace")
    );
    let cells = [
        "u2", "b@x.org", "", "", "", "", "TRUE", "8", "14", "Bw==", "a2V5a2V5",
    ];
    let made = map(&firebase, &header, &cells);
    assert!(!made.contains_key("password_hash") && !made.contains_key("password_hash_type"));
    assert_eq!(made[SKIP_COLUMN], "disabled at Firebase");
}

#[test]
fn cognito_and_okta_use_their_own_names() {
    let cognito = named("cognito").unwrap();
    let made = map(
        &cognito,
        &["cognito:username", "name", "email", "email_verified"],
        &["jo", "Jo Doe", "jo@x.org", "TRUE"],
    );
    assert_eq!(made["external_id"], "jo");
    assert_eq!(made["last_name"], "Doe");
    let okta = named("okta").unwrap();
    let made = map(
        &okta,
        &["login", "firstName", "lastName", "email", "status"],
        &["jo@x.org", "Jo", "Doe", "jo@x.org", "SUSPENDED"],
    );
    assert_eq!((&*made["first_name"], &*made["last_name"]), ("Jo", "Doe"));
    assert!(made.contains_key(SKIP_COLUMN) && !made.contains_key("email_verified"));
}

#[test]
fn a_profile_of_ones_own_can_do_what_the_docs_say() {
    let mine = own(r#"
        email = { template = "{login|lower}@example.com" }
        first_name = { split = "name" }
        last_name = { split = "name", part = "last" }
        email_verified = { value = "true" }
        external_id = { from = ["uuid", "nr"], lower = true, strip = "ID-" }
        role_slugs = { from = "role", words = { Chief = "admin" }, default = "member" }
        org_external_id = { join = ["country", "unit"], with = "-", when = [{ column = "unit", blank = false }] }
        metadata = { object = { dept = "unit", "cost centre" = "cc" } }
        "#);
    let header = [
        "login", "name", "uuid", "nr", "role", "country", "unit", "cc",
    ];
    let made = map(
        &mine,
        &header,
        &[
            "ADA",
            "Lovelace, Ada",
            "",
            "ID-A7",
            "chief",
            "de",
            "R&D",
            "",
        ],
    );
    let expected = pairs(&[
        ("email", "ada@example.com"),
        ("first_name", "Ada"),
        ("last_name", "Lovelace"),
        ("email_verified", "true"),
        ("external_id", "a7"),
        ("role_slugs", "admin"),
        ("org_external_id", "de-R&D"),
        ("metadata", r#"{"dept":"R&D"}"#),
    ]);
    assert_eq!(made, expected);
    // A template without a value is no address.
    let made = map(&mine, &header, &["", "Plato", "X", "", "", "de", "", ""]);
    assert_eq!(made.get("email"), None);
    assert_eq!(
        (made.get("org_external_id"), made.get("last_name")),
        (None, None)
    );
    assert_eq!(
        (&*made["first_name"], &*made["role_slugs"]),
        ("Plato", "member")
    );
}

#[test]
fn conditions_look_at_trimmed_cells_without_letter_case() {
    let text = r#"
        name = "Mine"
        columns = { email = "email" }
        drop = [
            { reason = "robot", when = [{ column = "kind", is = ["bot", "Service"] }] },
            { reason = "not here", when = [
                { column = "kind", not = ["guest"] },
                { column = "country", blank = false },
                { column = "country", starts_with = ["X"] },
            ] },
        ]
    "#;
    let mine = Profile::read_own(text).unwrap();
    let reason = |kind: &str, country: &str| {
        let made = map(
            &mine,
            &["email", "kind", "country"],
            &["a@x.org", kind, country],
        );
        made.get(SKIP_COLUMN).cloned()
    };
    assert_eq!(reason(" SERVICE ", "").as_deref(), Some("robot"));
    assert_eq!(reason("person", "XK").as_deref(), Some("not here"));
    assert_eq!(reason("guest", "XK"), None);
    assert_eq!(reason("person", "DE"), None);
}

#[test]
fn a_missing_column_is_named_unless_it_may_be_missing() {
    let mine = own("email = \"mail\"\nfirst_name = \"vorname\"");
    let names = ["mail".to_owned()];
    let unbound = mine.bind(&names).unwrap_err();
    assert_eq!(unbound.missing, "vorname");
    assert_eq!(unbound.wanted_by.as_deref(), Some("first_name"));
    let unbound = named("clerk").unwrap().bind(&names).unwrap_err();
    assert_eq!(unbound.missing, "primary_email_address");
}

#[test]
fn what_is_no_profile_is_refused_with_the_reason() {
    for (text, words) in [
        ("name = 1", "invalid type"),
        (
            "name = \"x\"\n[columns]\nmail = \"a\"",
            "[columns] names mail",
        ),
        (
            "name = \"x\"\n[columns]\nfirst_name = \"a\"",
            "where email comes from",
        ),
        ("name = \"x\"\n[columns]\nemail = {}", "exactly one"),
        (
            "name = \"x\"\n[columns]\nemail = { from = \"a\", value = \"b\" }",
            "exactly one",
        ),
        (
            "name = \"x\"\n[columns]\nemail = { form = \"a\" }",
            "unknown field",
        ),
        (
            "name = \"x\"\n[columns]\nemail = { template = \"{a\" }",
            "brace",
        ),
        (
            "name = \"x\"\n[columns]\nemail = { template = \"{a|upper}\" }",
            "not |upper",
        ),
        (
            "name = \"x\"\n[columns]\nemail = \"a\"\npassword = { value = \"s\" }",
            "a secret",
        ),
        (
            "name = \"x\"\n[columns]\nemail = \"a\"\npassword = { template = \"s\" }",
            "a secret",
        ),
        (
            "name = \"x\"\n[columns]\nemail = \"a\"\n[[drop]]\nreason = \"r\"\nwhen = [{ column = \"a\" }]",
            "exactly one",
        ),
    ] {
        let told = refusal(text);
        assert!(told.contains(words), "{text}\n{told}");
    }
    assert!(refusal(&"#".repeat(TEXT_BYTES_MAX + 1)).contains("64 KiB"));
}

#[test]
fn people_are_told_what_becomes_of_every_column() {
    let names: Vec<String> = [
        "id",
        "primary_email_address",
        "verified_email_addresses",
        "totp_secret",
        "username",
    ]
    .map(str::to_owned)
    .into();
    let told = named("clerk")
        .unwrap()
        .bind(&names)
        .unwrap()
        .told(&names, &[]);
    assert_eq!(
        told,
        "read as a Clerk export: email from primary_email_address, email_verified from \
         primary_email_address, verified_email_addresses, external_id from id, totp_secret; not \
         carried: username"
    );
}

#[test]
fn a_plan_survives_both_ways_of_writing_it() {
    for profile in built_in() {
        let names = profile.looks_at();
        let plan = profile.bind(&names).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        let bytes = postcard::to_allocvec(&plan).unwrap();
        assert_eq!(postcard::from_bytes::<Plan>(&bytes).unwrap(), plan);
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "[a-z={}\\[\\]\"\n| ]{0,120}") {
        let _refused_or_read = Profile::read_own(&text);
    }

    #[test]
    fn a_template_without_columns_says_itself(text in "[a-z{}|]{0,20}") {
        let escaped = text.replace('{', "{{").replace('}', "}}");
        let pieces = plan::pieces(&escaped).unwrap();
        let expected = if text.is_empty() { vec![] } else { vec![plan::Named::Text(text)] };
        prop_assert_eq!(pieces, expected);
    }

    #[test]
    fn mapping_never_panics(cells in proptest::collection::vec("[a,@{}' |=\u{e4}]{0,9}", 0..14)) {
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        for profile in built_in() {
            let names = profile.looks_at();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            map(profile, &names, &cells);
        }
    }
}
