use super::super::records::Fields;
use super::*;
use crate::model::OrgKey;
use crate::source::KeptCells;
use crate::source::profile::ProfileChoice;
use secrecy::ExposeSecret;

const HEADER: &str = "email,first_name,last_name,email_verified,external_id,password,\
    password_hash,password_hash_type,metadata,org_id,org_external_id,org_name,role_slugs";

fn columns() -> Columns {
    let mut fields = Fields::default();
    fields.scan(HEADER.as_bytes(), true);
    let at = super::super::Place::default();
    super::super::header::parse(
        HEADER,
        &fields,
        &at,
        &OrgMode::Columns,
        &[],
        &ProfileChoice::Off,
    )
    .unwrap()
    .columns
}

fn any() -> RowRules {
    RowRules {
        org_mode: OrgMode::Columns,
        require_membership: false,
    }
}

fn read_by(rules: &RowRules, cells: &[(&str, &str)]) -> Result<Arc<SourceRow>, RowError> {
    let mut record = vec![String::new(); HEADER.split(',').count()];
    record[0] = "bob@example.com".to_owned();
    for (name, cell) in cells {
        let at = HEADER.split(',').position(|known| known == *name).unwrap();
        record[at] = (*cell).to_owned();
    }
    let record = CsvRecord {
        number: RowNumber(7),
        line: 9,
        fields: KeptCells::of(&record),
        stray: None,
    };
    parse_row(&record, &columns(), rules)
}

fn read(cells: &[(&str, &str)]) -> Result<Arc<SourceRow>, RowError> {
    read_by(&any(), cells)
}

fn code(cells: &[(&str, &str)]) -> String {
    read(cells).unwrap_err().code
}

#[test]
fn a_full_row_is_read_typed_and_trimmed() {
    let row = read(&[
        ("email", "  Bob.Ray+x@Example.COM "),
        ("first_name", " Bob "),
        ("last_name", "  "),
        ("email_verified", "YES"),
        ("external_id", " u-1 "),
        ("password", "p w"),
        ("metadata", "{\"n\":1}"),
        ("org_external_id", " acme "),
        ("org_name", " Acme, Inc. "),
        ("role_slugs", "admin, member,admin"),
    ])
    .unwrap();
    assert_eq!(row.number, RowNumber(7));
    assert_eq!(row.email, "Bob.Ray+x@Example.COM");
    assert_eq!(row.email_norm(), "bob.ray+x@example.com");
    assert_eq!(row.first_name.as_deref(), Some("Bob"));
    assert_eq!(row.last_name, None);
    assert_eq!(row.email_verified, Some(true));
    assert_eq!(row.external_id.as_deref(), Some("u-1"));
    assert!(matches!(&row.credential, Some(Credential::Plain(p)) if p.expose_secret() == "p w"));
    assert_eq!(row.metadata, [("n".into(), "1".into())]);
    assert_eq!(row.org, Some(OrgKey::External("acme".into())));
    assert_eq!(row.org_name.as_deref(), Some("Acme, Inc."));
    assert_eq!(row.role_slugs, ["admin", "member"]);
}

#[test]
fn an_email_alone_is_a_row() {
    let row = read(&[]).unwrap();
    assert_eq!(row.email_verified, None);
    assert!(row.credential.is_none() && row.metadata.is_empty() && row.org.is_none());
}

#[test]
fn a_message_names_row_line_column_and_what_is_allowed() {
    let error = read(&[("email_verified", "maybe")]).unwrap_err();
    assert_eq!(error.code, "email_verified_invalid");
    assert_eq!(
        error.message,
        "row 7, line 9, column email_verified: found \"maybe\"; allowed are true, false, 1, 0, \
         yes, no, y, n and blank"
    );
    assert_eq!(error.http_status, None);
}

#[test]
fn flags_are_eight_words_and_never_a_guess() {
    for (cell, want) in [
        ("true", true),
        ("1", true),
        ("Yes", true),
        ("y", true),
        ("FALSE", false),
        ("0", false),
        ("no", false),
        ("N", false),
    ] {
        let row = read(&[("email_verified", cell)]).unwrap();
        assert_eq!(row.email_verified, Some(want), "{cell}");
    }
    for cell in ["t", "on", "2", "verified", "tru"] {
        assert_eq!(code(&[("email_verified", cell)]), "email_verified_invalid");
    }
}

#[test]
fn external_ids_are_short_and_ascii() {
    assert!(read(&[("external_id", &"x".repeat(128))]).is_ok());
    assert_eq!(
        code(&[("external_id", &"x".repeat(129))]),
        "external_id_too_long"
    );
    assert_eq!(code(&[("external_id", "ü")]), "external_id_not_ascii");
}

#[test]
fn ids_that_mean_a_folder_in_an_address_are_refused() {
    for dots in [".", ".."] {
        assert_eq!(code(&[("external_id", dots)]), "external_id_invalid");
        for column in ["org_id", "org_external_id"] {
            assert_eq!(code(&[(column, dots)]), "organization_id_invalid");
        }
    }
    for id in ["...", ".a", "a..", "%2e"] {
        assert!(read(&[("external_id", id), ("org_external_id", id)]).is_ok());
    }
}

#[test]
fn ids_of_organizations_are_short_and_on_one_line() {
    for column in ["org_id", "org_external_id"] {
        assert!(read(&[(column, &"x".repeat(128))]).is_ok());
        let long = "x".repeat(129);
        assert_eq!(code(&[(column, &long)]), "organization_id_too_long");
        // Bytes count: more would not fit into a frame either.
        let long = "ü".repeat(65);
        assert_eq!(code(&[(column, &long)]), "organization_id_too_long");
        assert_eq!(code(&[(column, "a\nb")]), "organization_id_invalid");
    }
}

#[test]
fn an_organization_is_named_one_way() {
    assert_eq!(
        code(&[("org_id", "org_1"), ("org_external_id", "acme")]),
        "org_id_and_external_id"
    );
    assert_eq!(code(&[("org_name", "Acme")]), "org_name_alone");
    assert_eq!(
        code(&[("role_slugs", "admin")]),
        "roles_without_organization"
    );
    let row = read(&[("org_id", "org_1"), ("org_name", "Acme")]).unwrap();
    assert_eq!(row.org, Some(OrgKey::Id("org_1".into())));
}

#[test]
fn a_membership_may_be_required() {
    let rules = RowRules {
        require_membership: true,
        ..any()
    };
    let error = read_by(&rules, &[]).unwrap_err();
    assert_eq!(error.code, "organization_required");
    assert!(read_by(&rules, &[("org_id", "org_1")]).is_ok());
}

#[test]
fn one_organization_for_every_row_comes_from_the_options() {
    let key = OrgKey::External("acme".into());
    let rules = RowRules {
        org_mode: OrgMode::Single {
            key: key.clone(),
            name: Some("Acme".to_owned()),
        },
        require_membership: true,
    };
    let row = read_by(&rules, &[("role_slugs", "admin")]).unwrap();
    assert_eq!(
        (row.org.clone(), row.org_name.as_deref()),
        (Some(key), Some("Acme"))
    );
    assert_eq!(row.role_slugs, ["admin"]);
}

#[test]
fn roles_are_a_list_or_a_json_array_of_slugs() {
    let roles = |cell: &str| read(&[("org_id", "org_1"), ("role_slugs", cell)]);
    assert_eq!(
        roles("[\"admin\", \"it-ops_2\"]").unwrap().role_slugs,
        ["admin", "it-ops_2"]
    );
    assert_eq!(roles("[]").unwrap().role_slugs, Vec::<String>::new());
    for cell in [
        "admin,",
        "Admin",
        "a b",
        "[\"admin\"",
        "[1]",
        "[\"\"]",
        "{}",
        "é",
    ] {
        assert_eq!(
            roles(cell).unwrap_err().code,
            "role_slugs_invalid",
            "{cell}"
        );
    }
    assert!(roles(&"x".repeat(64)).is_ok());
    assert!(roles(&"x".repeat(65)).is_err());
}

#[test]
fn a_giant_cell_fails_its_row_only() {
    let giant = "x".repeat(FIELD_BYTES_MAX + 1);
    let error = read(&[("first_name", &giant)]).unwrap_err();
    assert_eq!(error.code, "field_too_long");
    assert!(
        error.message.contains("column number 2"),
        "{}",
        error.message
    );
}

#[test]
fn slipped_columns_show_no_person_and_move_no_cursor() {
    let error = read(&[("email_verified", "bob@example.com")]).unwrap_err();
    assert!(!error.message.contains("bob"), "{}", error.message);
    let error = read(&[("email_verified", "\u{1b}[2J")]).unwrap_err();
    assert!(!error.message.contains('\u{1b}'), "{}", error.message);
}

#[test]
fn no_message_holds_a_secret_or_a_person() {
    let canary = "Canary";
    let cases: &[&[(&str, &str)]] = &[
        &[("email", "Canary Canary")],
        &[("first_name", "Canary"), ("email", "")],
        &[("password", "Canary"), ("password_hash", "Canary")],
        &[
            ("password_hash", "Canary"),
            ("password_hash_type", "bcrypt"),
        ],
        &[
            ("password_hash", "$2a$10$Canary"),
            ("password_hash_type", "pbkdf2"),
        ],
        &[("password_hash", "Canary")],
        &[("metadata", "{\"Canary\":\"Canary\",}")],
        &[("metadata", "{\"Canary\":{\"Canary\":1}}")],
        &[("external_id", "Canaryé")],
    ];
    for cells in cases {
        let error = read(cells).unwrap_err();
        assert!(!error.message.contains(canary), "{}", error.message);
    }
}

#[test]
fn a_blank_address_is_told_as_such_where_there_is_no_other_cell() {
    let columns = Columns {
        count: 1,
        ..Columns::default()
    };
    for (count, tells_of_row) in [(1, false), (2, true)] {
        let record = CsvRecord {
            number: RowNumber(7),
            line: 9,
            fields: KeptCells::of(&vec![String::new(); count]),
            stray: None,
        };
        let error = parse_row(&record, &columns, &any()).unwrap_err();
        assert_eq!(error.code, "email_missing");
        let message = &error.message;
        assert_eq!(message.contains("every cell"), tells_of_row, "{message}");
    }
}
