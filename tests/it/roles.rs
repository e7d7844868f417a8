//! A dry run that looks at its target knows which roles are there: rows that ask for others are
//! told as rows that fail, as the import would fail them.

use crate::harness::{Server, Work, fixtures};
use crate::judge::text;
use crate::proxy::{Act, Proxy, answer};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// What counts the same in a dry run and in the run that follows it.
fn counts(summary: &Value) -> Value {
    let mut failures = summary["failures"].clone();
    for group in failures.as_object_mut().unwrap().values_mut() {
        // One says it in its own words, the other in those of the target.
        group.as_object_mut().unwrap().remove("message");
    }
    json!([
        summary["rows"],
        summary["memberships"],
        summary["organizations"],
        failures
    ])
}

fn asked_for_roles(server: &Server) -> (u64, u64) {
    let count = |kind| server.count(kind);
    (count("list_roles"), count("list_organization_roles"))
}

/// Runs the dry run and asserts that it only read.
fn look(work: &Work, server: &Server, line: &str, code: i32) -> Value {
    let (seen, world) = (server.history().len(), server.world());
    let done = work.run(&format!("{line} --json --dry-run --check-target"));
    let promised = done.expect(code).json();
    for request in &server.history()[seen..] {
        assert_eq!(request["method"], "GET", "{request}");
    }
    assert_eq!(server.world(), world);
    promised
}

/// Rows in an organization that is there, in one that is not, and in none.
fn mixed() -> String {
    let mut csv = "email,external_id,org_external_id,role_slugs\n".to_owned();
    for n in 1..=60 {
        let org = ["acme", "beta", ""][n % 3];
        let roles = match n % 5 {
            _ if org.is_empty() => "",
            0 => "editor",
            1 => "\"admin,owner\"",
            2 => "\"admin,member\"",
            _ => "",
        };
        writeln!(csv, "row{n}@example.com,e{n},{org},{roles}").unwrap();
    }
    csv
}

#[test]
fn rows_with_roles_that_the_target_does_not_know_are_counted_as_the_import_will() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", mixed());
    // Acme is there with members: one whose roles are as they are, one who is switched off.
    let acme = json!({"name": "Acme", "external_id": "acme"});
    let acme = text(&server.make("/organizations", &acme)["id"]);
    for (n, status) in [(6, "active"), (15, "inactive")] {
        let user = json!({"email": format!("row{n}@example.com"), "external_id": format!("e{n}")});
        let user = text(&server.make("/user_management/users", &user)["id"]);
        let member = json!({"user_id": user, "organization_id": acme, "status": status});
        server.make("/_sandbox/seed", &json!({"memberships": [member]}));
    }
    let line = format!(
        "import users.csv --create-orgs --reactivate --workers 2 --chunk-size 5 {}",
        server.target()
    );
    let promised = look(&work, &server, &line, 1);
    assert_eq!(asked_for_roles(&server), (1, 1), "each list is read once");

    let found = &promised["plan"]["target"];
    assert_eq!(found["roles_unread"], Value::Null);
    // Row 6 has its membership already; nobody touches its roles.
    let asked = json!([{"slug": "editor", "rows": 8, "first_row": 10},
        {"slug": "owner", "rows": 7, "first_row": 1}]);
    assert_eq!(found["roles_unknown"], asked);
    assert_eq!(promised["failures"]["invalid_role"]["failed"], 15);
    assert_eq!(promised["failures"]["invalid_role"]["step"], "membership");

    work.run(&format!("{line} --dry-run --check-target"))
        .expect(1)
        .says(&["editor is unknown: 8 rows fail, the first is row 10"]);
    let real = work.run(&format!("{line} --json")).expect(1).json();
    assert_eq!(counts(&promised), counts(&real));
}

/// Eight people, three of whom ask for a role that is unknown, and two more rows of one of them.
const EIGHT: &str = "email,external_id,org_external_id,role_slugs\n\
    a@example.com,1,acme,\nb@example.com,2,acme,\nc@example.com,3,beta,\n\
    d@example.com,4,acme,admin\ne@example.com,5,beta,member\n\
    f@example.com,6,acme,owner\ng@example.com,7,acme,owner\nh@example.com,8,beta,editor\n\
    a@example.com,1,beta,\na@example.com,1,gamma,\n";

/// Writes of a run by kind, those that were refused included.
fn writes(server: &Server) -> [u64; 3] {
    ["create_user", "create_membership", "create_organization"].map(|kind| server.count(kind))
}

fn planned(summary: &Value) -> [u64; 3] {
    ["create_user", "create_membership", "create_organization"]
        .map(|kind| summary["plan"]["calls"][kind].as_u64().unwrap())
}

#[test]
fn a_plan_counts_the_users_of_rows_that_fail_later_and_the_writes_that_are_refused() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", EIGHT);
    let line = format!("import users.csv --create-orgs {}", server.target());
    let promised = look(&work, &server, &line, 1);
    let makes = json!({"users": 8, "users_of_failed_rows": 3, "memberships": 7,
        "organizations": 3});
    assert_eq!(promised["plan"]["makes"], makes);
    assert_eq!(promised["rows"]["created"], 5);
    work.run(&format!("{line} --dry-run --check-target"))
        .expect(1)
        .says(&[
            "8 users · 7 memberships · 3 organizations",
            "and 3 refused writes on the way",
            "3 of the users without all that their rows ask for",
        ]);
    let before = writes(&server);
    work.run(&line)
        .expect(1)
        .says(&["3 users of failed or parked rows were made before that and stay"]);
    let real: Vec<u64> = std::iter::zip(writes(&server), before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(real, planned(&promised));
    assert_eq!(server.dump()["users"].as_array().unwrap().len(), 8);

    // Everybody is there now: few rows, so the target is not listed, and nobody is made again.
    for (options, code) in [("", 1), ("--on-existing skip", 0)] {
        let line = format!("{line} {options}");
        let promised = look(&work, &server, &line, code);
        assert_eq!(promised["plan"]["target"]["users_existing"], 8, "{options}");
        assert_eq!(promised["plan"]["target"]["listed"], false, "{options}");
        assert_eq!(promised["plan"]["makes"]["users"], 0, "{options}");
        work.run(&format!("{line} --dry-run --check-target"))
            .expect(code)
            .says(&["0 users · 0 memberships · 0 organizations"]);
        let before = writes(&server);
        work.run(&format!("{line} --fresh")).expect(code);
        let real: Vec<u64> = std::iter::zip(writes(&server), before)
            .map(|(after, before)| after - before)
            .collect();
        assert_eq!(real, planned(&promised), "{options}");
    }
}

#[test]
fn roles_are_read_only_if_a_row_gives_one() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_external_id,role_slugs\na@example.com,acme,\n",
    );
    let line = format!("import users.csv --create-orgs {}", server.target());
    look(&work, &server, &line, 0);
    assert_eq!(asked_for_roles(&server), (0, 0));
    // Known to every organization: its own list is not asked for.
    work.write(
        "users.csv",
        "email,org_external_id,role_slugs\na@example.com,acme,admin\n",
    );
    server.make(
        "/organizations",
        &json!({"name": "Acme", "external_id": "acme"}),
    );
    look(&work, &server, &line, 0);
    assert_eq!(asked_for_roles(&server), (1, 0));
}

const NIGHT: &str = "email,org_external_id,role_slugs\n\
    a@example.com,acme,org-night\n\
    b@example.com,beta,\"member,org-night\"\n\
    c@example.com,gamma,org-night\n";

/// Two of the three organizations of `NIGHT`, the first of which has a role of its own.
fn acme_and_beta(work: &Work) -> Server {
    let server = work.sandbox("");
    work.write("users.csv", NIGHT);
    for name in ["acme", "beta"] {
        server.make(
            "/organizations",
            &json!({"name": name, "external_id": name}),
        );
    }
    server
}

#[test]
fn a_role_of_an_organization_is_known_there_and_nowhere_else() {
    let work = Work::new();
    let server = acme_and_beta(&work);
    let dump = server.dump();
    let orgs = dump["organizations"].as_array().unwrap();
    let acme = orgs
        .iter()
        .find(|org| org["external_id"] == "acme")
        .unwrap();
    let own = format!("/authorization/organizations/{}/roles", text(&acme["id"]));
    let proxy = Proxy::start(&server, move |request| {
        if request.path == own {
            let list = json!({"object": "list", "data": [
                {"object": "role", "slug": "member", "type": "EnvironmentRole"},
                {"object": "role", "slug": "org-night", "type": "OrganizationRole"}]});
            return Act::Answer(answer("200 OK", "", &list.to_string()));
        }
        Act::Pass
    });
    let line = format!(
        "import users.csv --create-orgs --workers 2 {}",
        proxy.target()
    );
    let promised = look(&work, &server, &line, 1);
    let asked = json!([{"slug": "org-night", "rows": 2, "first_row": 2}]);
    assert_eq!(promised["plan"]["target"]["roles_unknown"], asked);
    assert_eq!(promised["rows"]["created"], 1);
}

#[test]
fn roles_that_the_target_does_not_show_are_said_and_judge_nobody() {
    for status in ["403 Forbidden", "404 Not Found"] {
        let work = Work::new();
        let server = acme_and_beta(&work);
        let refuse = move |start: &'static str| {
            move |request: &crate::proxy::Request| {
                if request.path.starts_with(start) {
                    return Act::Answer(answer(status, "", "{\"message\":\"no\"}"));
                }
                Act::Pass
            }
        };
        let proxy = Proxy::start(&server, refuse("/authorization/"));
        let line = format!("import users.csv --create-orgs {}", proxy.target());
        let found = look(&work, &server, &line, 0)["plan"]["target"].clone();
        assert_eq!(found["roles_unknown"], json!([]));
        assert!(found["roles_unread"].is_string(), "{found}");
        work.run(&format!("{line} --dry-run --check-target"))
            .expect(0)
            .says(&["not read"]);

        // Only those of organizations: what cannot be there without them is told still.
        let proxy = Proxy::start(&server, refuse("/authorization/organizations/"));
        let line = format!("import users.csv --create-orgs {}", proxy.target());
        let found = look(&work, &server, &line, 1)["plan"]["target"].clone();
        assert_eq!(found["roles_unread_organizations"], 2);
        let asked = json!([{"slug": "org-night", "rows": 1, "first_row": 3}]);
        assert_eq!(found["roles_unknown"], asked);
    }
}

#[test]
fn every_fixture_counts_as_its_import_will() {
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_csv = Path::new(&name).extension().is_some_and(|it| it == "csv");
        if !is_csv || name.contains(".expected.") {
            continue;
        }
        let work = Work::new();
        let server = work.sandbox("");
        work.fixture(&name);
        let orgs = if name == "single-organization.csv" {
            "--org-external-id acme"
        } else {
            ""
        };
        let line = format!("import {name} --create-orgs {orgs} {}", server.target());
        // Into an empty directory, and again into one where everybody is.
        for again in ["--job first", "--job second"] {
            let world = server.world();
            let done = work.run(&format!("{line} --json --dry-run --check-target"));
            let promised = done.json();
            assert_eq!(server.world(), world, "{name}");
            let real = work.run(&format!("{line} --json {again}")).json();
            assert_eq!(counts(&promised), counts(&real), "{name} {again}");
        }
    }
}
