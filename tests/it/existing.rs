//! People, memberships and organizations that were there before, and the policies for them.

use crate::harness::{Record, Server, Work};
use crate::judge::text;
use serde_json::{Value, json};

const CSV: &str = "email,first_name,org_external_id\n\
                   old@example.com,New,acme\n\
                   new@example.com,Nina,acme\n";

/// A folder with two people in a CSV, and a server where the first and the organization exist.
struct Before {
    work: Work,
    server: Server,
    user: String,
    organization: String,
}

impl Before {
    fn new() -> Self {
        let work = Work::new();
        let server = work.sandbox("");
        let body = json!({"name": "Acme", "external_id": "acme"});
        let organization = server.make("/organizations", &body);
        let body = json!({"email": "Old@Example.com", "first_name": "Old"});
        let user = server.make("/user_management/users", &body);
        work.write("users.csv", CSV);
        Self {
            user: text(&user["id"]),
            organization: text(&organization["id"]),
            work,
            server,
        }
    }

    fn member(&self, status: &str) {
        self.server.make(
            "/_sandbox/seed",
            &json!({"memberships": [{"user_id": self.user, "role_slugs": ["admin"],
                    "organization_id": self.organization, "status": status}]}),
        );
    }

    /// Imports and returns the first row and the summary.
    fn import(&self, options: &str, code: i32) -> (Record, Value) {
        let line = format!("import users.csv --json {options} {}", self.server.target());
        let summary = self.work.run(&line).expect(code).json();
        let mut rows = self.work.results();
        assert_eq!(rows[1]["state"], "created");
        (rows.swap_remove(0), summary)
    }

    /// Email, status and role of every membership.
    fn memberships(&self) -> Vec<(String, String, String)> {
        let world = self.server.world();
        let all = world.memberships.into_iter();
        all.map(|(email, _, status, roles)| (email, status, Vec::from_iter(roles).join(",")))
            .collect()
    }

    fn old_user(&self) -> Value {
        let dump = self.server.dump();
        let users = dump["users"].as_array().unwrap();
        let old = users.iter().find(|user| user["id"] == *self.user);
        old.unwrap().clone()
    }
}

fn member(email: &str, status: &str, role: &str) -> (String, String, String) {
    (email.to_owned(), status.to_owned(), role.to_owned())
}

#[test]
fn a_user_who_was_there_is_linked_keeps_the_attributes_and_joins() {
    let before = Before::new();
    let then = before.old_user();
    let (row, summary) = before.import("", 0);
    assert_eq!((&*row["state"], &*row["user_origin"]), ("linked", "before"));
    assert_eq!(row["user_id"], before.user);
    assert_eq!(row["membership_state"], "created");
    assert_eq!(before.old_user(), then);
    assert_eq!(
        before.memberships(),
        [
            member("new@example.com", "active", "member"),
            member("old@example.com", "active", "member")
        ]
    );
    assert_eq!(summary["rows"]["linked"], 1);
    assert_eq!(summary["organizations"]["found"], 1);
    assert_eq!(summary["organizations"]["created"], 0);
    assert_eq!(before.server.count("update_user"), 0);
}

#[test]
fn an_active_membership_that_was_there_keeps_its_roles() {
    let before = Before::new();
    before.member("active");
    let (row, summary) = before.import("", 0);
    assert_eq!(row["membership_state"], "existing");
    assert_eq!(summary["memberships"]["existing"], 1);
    assert_eq!(
        before.memberships(),
        [
            member("new@example.com", "active", "member"),
            member("old@example.com", "active", "admin")
        ]
    );
}

#[test]
fn skip_writes_nothing_for_a_user_who_was_there() {
    let before = Before::new();
    let (row, _) = before.import("--on-existing skip", 0);
    assert_eq!(row["state"], "skipped");
    assert_eq!(
        before.memberships(),
        [member("new@example.com", "active", "member")]
    );
}

#[test]
fn fail_fails_the_row_of_a_user_who_was_there() {
    let before = Before::new();
    let (row, _) = before.import("--on-existing fail", 1);
    assert_eq!(
        (&*row["state"], &*row["error_code"]),
        ("failed", "user_exists")
    );
    assert_eq!(
        before.memberships(),
        [member("new@example.com", "active", "member")]
    );
}

#[test]
fn an_inactive_membership_fails_its_row_and_stays_inactive() {
    let before = Before::new();
    before.member("inactive");
    let (row, _) = before.import("", 1);
    assert_eq!((&*row["state"], &*row["step"]), ("failed", "membership"));
    assert_eq!(row["error_code"], "membership_inactive");
    assert_eq!(row["user_id"], before.user);
    assert!(
        before
            .memberships()
            .contains(&member("old@example.com", "inactive", "admin"))
    );
}

#[test]
fn an_inactive_membership_is_reactivated_when_asked() {
    let before = Before::new();
    before.member("inactive");
    let (row, summary) = before.import("--reactivate", 0);
    assert_eq!(
        (&*row["state"], &*row["membership_state"]),
        ("linked", "reactivated")
    );
    assert_eq!(summary["memberships"]["reactivated"], 1);
    assert_eq!(before.memberships()[1].1, "active");
}

#[test]
fn a_pending_membership_fails_its_row_also_with_reactivate() {
    for options in ["", "--reactivate"] {
        let before = Before::new();
        before.member("pending");
        let (row, _) = before.import(options, 1);
        assert_eq!(row["error_code"], "membership_pending");
        assert!(
            before
                .memberships()
                .contains(&member("old@example.com", "pending", "admin"))
        );
    }
}

#[test]
fn an_external_id_of_somebody_else_is_a_conflict_and_changes_nobody() {
    let before = Before::new();
    let body = json!({"email": "other@example.com", "external_id": "taken"});
    before.server.make("/user_management/users", &body);
    before.work.write(
        "users.csv",
        "email,external_id\nold@example.com,taken\nnina@example.com,taken-not\n",
    );
    let line = format!("import users.csv {}", before.server.target());
    before.work.run(&line).expect(1);
    let rows = before.work.results();
    assert_eq!(rows[0]["error_code"], "external_id_conflict");
    assert_eq!(rows[1]["state"], "created");
    assert_eq!(before.server.count("update_user"), 0);
}

#[test]
fn without_create_orgs_a_missing_organization_fails_its_row_before_the_user() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_external_id\na@example.com,missing\nb@example.com,\nc@example.com,missing\n",
    );
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1);
    let rows = work.results();
    for row in [&rows[0], &rows[2]] {
        assert_eq!((&*row["state"], &*row["step"]), ("failed", "organization"));
        assert_eq!(row["error_code"], "organization_not_found");
        assert_eq!(row["user_id"], "");
    }
    let world = server.world();
    assert_eq!(world.users.len(), 1);
    assert!(world.organizations.is_empty());
    assert_eq!(server.count("create_user"), 1);
}

#[test]
fn an_unknown_organization_id_fails_its_row_before_the_user_even_with_create_orgs() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_id\na@example.com,org_01ARZ3NDEKTSV4RRFFQ69G5FAV\n",
    );
    work.run(&format!(
        "import users.csv --create-orgs {}",
        server.target()
    ))
    .expect(1);
    assert_eq!(work.results()[0]["error_code"], "organization_not_found");
    assert_eq!(server.count("create_user"), 0);
    assert_eq!(server.count("create_organization"), 0);
}

#[test]
fn an_unknown_role_fails_the_membership_of_a_user_who_stays() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_external_id,role_slugs\na@example.com,acme,chief\nb@example.com,acme,admin\n",
    );
    work.run(&format!(
        "import users.csv --create-orgs {}",
        server.target()
    ))
    .expect(1);
    let row = &work.results()[0];
    assert_eq!((&*row["state"], &*row["step"]), ("failed", "membership"));
    assert!(!row["user_id"].is_empty());
    assert_eq!(row["http_status"], "422");
    assert_eq!(server.world().memberships.len(), 1);
    assert_eq!(server.world().users.len(), 2);
}

#[test]
fn require_membership_fails_rows_without_an_organization() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_external_id\na@example.com,acme\nb@example.com,\n",
    );
    work.run(&format!(
        "import users.csv --create-orgs --require-membership {}",
        server.target()
    ))
    .expect(1);
    let rows = work.results();
    assert_eq!(rows[0]["state"], "created");
    assert_eq!(
        (&*rows[1]["state"], &*rows[1]["step"]),
        ("failed", "validation")
    );
    assert_eq!(server.world().users.len(), 1);
}

#[test]
fn every_row_joins_the_one_organization_given_by_its_id() {
    let before = Before::new();
    before
        .work
        .write("plain.csv", "email\na@example.com\nb@example.com\n");
    before
        .work
        .run(&format!(
            "import plain.csv --org-id {} {}",
            before.organization,
            before.server.target()
        ))
        .expect(0);
    assert_eq!(
        before.memberships(),
        [
            member("a@example.com", "active", "member"),
            member("b@example.com", "active", "member")
        ]
    );
}

#[test]
fn one_organization_for_all_and_organization_columns_exclude_each_other() {
    let before = Before::new();
    let line = format!("import users.csv --org-id org_1 {}", before.server.target());
    let done = before.work.run(&line).expect(2);
    assert!(done.stderr.contains("org_external_id"), "{done}");
    assert!(before.work.jobs().is_empty());
    assert_eq!(before.server.count("get_organization"), 0);
}

#[test]
fn no_organization_is_made_for_rows_that_are_left_alone() {
    for (policy, state) in [("skip", "skipped"), ("fail", "failed")] {
        let work = Work::new();
        let server = work.sandbox("");
        let body = json!({"email": "old@example.com"});
        server.make("/user_management/users", &body);
        let csv = "email,org_external_id\nold@example.com,nobody\nnew@example.com,new\n";
        work.write("users.csv", csv);
        let options = format!("--on-existing {policy} {}", server.target());
        // Whether it may be made changes nothing for a row that does not need it.
        for create in ["--create-orgs", ""] {
            let line = format!("import users.csv --job it{create} --json {create} {options}");
            let done = work.run(&line);
            let rows = work.results();
            assert_eq!(rows[0]["state"], state, "{policy} {create} {done}");
            let organizations = server.world().organizations;
            assert_eq!(organizations.len(), 1, "{organizations:?}");
        }
    }
}
