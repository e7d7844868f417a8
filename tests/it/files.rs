//! Files: what is clean arrives, what is bad is told, what cannot be read is refused.

use crate::harness::{Record, Work, fixtures};
use crate::judge::World;
use serde_json::Value;
use std::collections::BTreeMap;

/// The clean fixtures and the organization that all rows of one go to.
const CLEAN: [(&str, Option<&str>); 6] = [
    ("users.csv", None),
    ("plain.csv", None),
    ("single-organization.csv", Some("acme")),
    ("many-organizations.csv", None),
    ("quoted.csv", None),
    ("password-hashes.csv", None),
];

fn single_option(single: Option<&str>) -> String {
    single.map_or_else(String::new, |key| format!("--org-external-id {key}"))
}

#[test]
fn every_clean_fixture_arrives_exactly_as_it_reads() {
    for (name, single) in CLEAN {
        let work = Work::new();
        let server = work.sandbox("");
        let options = single_option(single);
        let done = work
            .fixture(name)
            .run(&format!(
                "import {name} --create-orgs --json {options} {}",
                server.target()
            ))
            .expect(0);
        let wanted = World::of_csv(&work.path(name), single);
        assert_eq!(server.world(), wanted, "{name}");
        let summary = done.json();
        let count = |group: &str, state: &str| summary[group][state].as_u64().unwrap();
        let len = |len: usize| u64::try_from(len).unwrap();
        assert_eq!(count("rows", "created"), len(wanted.users.len()), "{name}");
        assert_eq!(
            count("rows", "created") + count("rows", "merged"),
            count("rows", "total"),
            "{name}"
        );
        assert_eq!(
            count("memberships", "created"),
            len(wanted.memberships.len()),
            "{name}"
        );
        assert_eq!(
            count("organizations", "created"),
            len(wanted.organizations.len()),
            "{name}"
        );
        assert_eq!(count("requests", "total"), server.received(), "{name}");
    }
}

#[test]
fn the_automatic_sandbox_needs_no_option_and_no_key() {
    let work = Work::new();
    let mut command = work.fixture("users.csv").userferry("import users.csv");
    command.env_remove("WORKOS_API_KEY");
    work.spawn(command)
        .wait()
        .expect(0)
        .says(&["nothing leaves this machine", "300 created"]);
    assert_eq!(work.jobs().len(), 1);
}

#[test]
fn bad_rows_fail_with_the_codes_expected_and_no_other_row_does() {
    let work = Work::new();
    work.fixture("bad-rows.csv")
        .run("import bad-rows.csv")
        .expect(1);
    let failed: BTreeMap<String, String> = work
        .results()
        .into_iter()
        .filter(|row| !matches!(row["state"].as_str(), "created" | "merged"))
        .map(|mut row| {
            assert_eq!((&*row["state"], &*row["step"]), ("failed", "validation"));
            assert!(!row["error_message"].is_empty());
            (
                row.remove("row").unwrap(),
                row.remove("error_code").unwrap(),
            )
        })
        .collect();
    let path = fixtures().join("bad-rows.expected.csv");
    let expected: BTreeMap<String, String> = csv::Reader::from_path(path)
        .unwrap()
        .deserialize()
        .map(|row: Result<Record, _>| row.unwrap())
        .map(|row| (row["row"].clone(), row["code"].clone()))
        .collect();
    assert_eq!(failed, expected);
}

#[test]
fn every_refused_file_is_refused_before_any_request_and_leaves_no_job() {
    let work = Work::new();
    let server = work.sandbox("");
    let mut files = 0;
    for entry in std::fs::read_dir(fixtures().join("refused")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let code = name.split(['-', '.']).next().unwrap();
        for dry in ["", "--dry-run"] {
            let line = format!("import {name} --json {dry} {}", server.target());
            let done = work
                .fixture(&format!("refused/{name}"))
                .run(&line)
                .expect(65);
            let object = done.json();
            let error = &object["error"];
            assert_eq!(error["code"], code, "{object}");
            assert_eq!(object["exit"], 65);
            assert!(object["job"].is_null(), "{object}");
            assert!(error["line"].is_u64(), "{object}");
            assert!(error["hint"].is_string(), "{object}");
            assert!(
                done.stderr.contains(error["message"].as_str().unwrap()),
                "{done}"
            );
        }
        files += 1;
    }
    assert!(files >= 11, "{files} files");
    assert_eq!(server.received(), 0);
    assert!(work.jobs().is_empty(), "{:?}", work.jobs());
}

#[test]
fn a_dry_run_sends_nothing_leaves_nothing_and_counts_as_the_import_will() {
    let bad = [("bad-rows.csv", None)];
    for (name, single) in CLEAN.into_iter().chain(bad) {
        let work = Work::new();
        let server = work.sandbox("");
        let line = format!(
            "import {name} --create-orgs --json {} {}",
            single_option(single),
            server.target()
        );
        let code = i32::from(name == "bad-rows.csv");
        let work = work.fixture(name);
        let promises = [1, 3].map(|workers| {
            let done = work.run(&format!(
                "{line} --dry-run --chunk-size 7 --workers {workers}"
            ));
            done.expect(code).json()
        });
        assert_eq!(server.received(), 0, "{name}");
        assert!(work.jobs().is_empty(), "{name}: {:?}", work.jobs());
        let real = work.run(&line).expect(code).json();
        for promised in promises {
            came_as_promised(&promised, &real, name);
        }
    }
}

/// What a dry run said became true.
fn came_as_promised(promised: &Value, real: &Value, name: &str) {
    assert_eq!(promised["dry_run"], true);
    assert!(promised["job"].is_null() && promised["resume"].is_null());
    let calls = &promised["plan"]["calls"];
    for (kind, group) in [
        ("create_user", "rows"),
        ("create_membership", "memberships"),
        ("create_organization", "organizations"),
    ] {
        assert_eq!(calls[kind], real[group]["created"], "{name} {kind}");
    }
    for group in ["rows", "memberships", "organizations", "failures"] {
        assert_eq!(promised[group], real[group], "{name} {group}");
    }
}

/// A worker of a dry run takes a thousand rows at once, and then listens to its coordinator.
#[test]
fn a_dry_run_of_many_turns_counts_every_row() {
    let work = Work::new();
    let server = work.sandbox("");
    work.run("generate --rows 5300 --orgs 60 --multi-org 10% --bad 2% --out users.csv")
        .expect(0);
    let line = format!("import users.csv --create-orgs --json {}", server.target());
    let rehearse = |options: &str| work.run(&format!("{line} --dry-run {options}"));
    let promises = [
        // A turn ends within a chunk, with one, and where it comes.
        rehearse("--workers 1 --chunk-size 300"),
        rehearse("--workers 1 --chunk-size 1000"),
        rehearse("--workers 8"),
    ]
    .map(|done| done.expect(1).json());
    assert_eq!(server.received(), 0);
    // With one worker (and two processors) a second thread reads ahead; what there is to tell is the
    // same.
    for promised in &promises {
        assert_eq!(
            promised["plan"]["problems"],
            promises[2]["plan"]["problems"]
        );
    }
    let real = work.run(&line).expect(1).json();
    for promised in promises {
        came_as_promised(&promised, &real, "generated");
    }
}

#[test]
fn a_dry_run_needs_no_key() {
    let work = Work::new();
    let mut command = work
        .fixture("plain.csv")
        .userferry("import plain.csv --dry-run --target workos");
    command.env_remove("WORKOS_API_KEY");
    work.spawn(command).wait().expect(0);
}

#[test]
fn a_generated_file_is_the_same_for_the_same_seed_and_imports_cleanly() {
    let work = Work::new();
    let line = "generate --rows 200 --orgs 4 --multi-org 10% --seed 5 --out";
    work.run(&format!("{line} a.csv")).expect(0);
    work.run(&format!("{line} b.csv")).expect(0);
    let read = |name| std::fs::read(work.path(name)).unwrap();
    assert_eq!(read("a.csv"), read("b.csv"));
    let other = line.replace("--seed 5", "--seed 6");
    work.run(&format!("{other} b.csv"))
        .expect(2)
        .says(&["--force"]);
    assert_eq!(
        read("a.csv"),
        read("b.csv"),
        "what is there is not replaced"
    );
    work.run(&format!("{} b.csv", line.replace("--out", "--force --out")))
        .expect(0);
    let server = work.sandbox("");
    work.run(&format!("import a.csv --create-orgs {}", server.target()))
        .expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("a.csv"), None));
}
