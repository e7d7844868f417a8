//! Users that exist already are listed: what that saves, and that it changes no outcome.

use crate::harness::{Record, Server, Work};
use crate::judge::text;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Users, memberships and organizations made so far.
fn writes(server: &Server) -> u64 {
    ["create_user", "create_membership", "create_organization"]
        .iter()
        .map(|kind| server.count(kind))
        .sum()
}

fn states(rows: &[Record]) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for row in rows {
        *states.entry(row["state"].clone()).or_default() += 1;
    }
    states
}

/// No list of people stays behind.
fn nothing_is_left(work: &Work) {
    for job in work.jobs() {
        let folder = work.path("checkpoints").join(job);
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("known"), "{name}");
        }
    }
}

#[test]
fn a_second_import_reads_pages_and_writes_nothing() {
    let work = Work::new();
    let server = work.sandbox("");
    work.run("generate --rows 600 --orgs 5 --out users.csv")
        .expect(0);
    let target = server.target();
    work.run(&format!(
        "import users.csv --create-orgs --job first {target}"
    ))
    .expect(0);
    let first = work.results();
    let (wrote, world) = (writes(&server), server.world());
    let (sent, asked) = (server.received(), server.count("list_users"));

    let done = work.run(&format!("import users.csv --job second --json {target}"));
    let done = done.expect(0).says(&["exist already", "listed 600 users"]);
    let summary = done.json();
    assert_eq!(summary["rows"]["linked"], 600);
    assert_eq!(summary["memberships"]["existing"], 600);
    assert_eq!(summary["requests"]["writes"], 0);
    assert_eq!(writes(&server), wrote);
    assert_eq!(server.world(), world);
    // Forty rows are looked up, at most twice each; six pages of users and a few more where two
    // walks meet; two pages for each organization, and one look-up.
    assert!(server.count("list_users") - asked <= 1 + 40 + 8);
    assert!(server.received() - sent <= 1 + 80 + 8 + 1 + 10 + 5);
    for (one, other) in first.iter().zip(&work.results()) {
        assert_eq!(one["user_id"], other["user_id"]);
        assert_eq!(one["membership_id"], other["membership_id"]);
    }
    nothing_is_left(&work);
}

#[test]
fn an_empty_target_is_not_asked_and_few_rows_are_not_sampled() {
    let work = Work::new();
    let server = work.sandbox("");
    work.run("generate --rows 300 --out users.csv").expect(0);
    let target = server.target();
    work.run(&format!("import users.csv {target}")).expect(0);
    assert_eq!(server.count("list_users"), 1, "the first request of a run");

    let few = "email\nrow1@example.com\nrow2@example.com\n";
    work.write("few.csv", few);
    work.run(&format!("import few.csv {target}")).expect(0);
    assert_eq!(server.count("list_users"), 2);
}

#[test]
fn a_mixed_file_ends_the_same_whether_its_users_are_listed_or_not() {
    let mut outcomes = Vec::new();
    for how in ["list", "probe"] {
        let work = Work::new();
        let server = work.sandbox("--seed 7");
        let mut csv = "email,external_id,org_external_id\n".to_owned();
        for n in 0..60 {
            writeln!(csv, "row{n}@example.com,e{n},org{}", n % 3).unwrap();
        }
        work.write("users.csv", &csv);
        let orgs: Vec<String> = (0..3)
            .map(|n| {
                let body = json!({"name": format!("Org {n}"), "external_id": format!("org{n}")});
                text(&server.make("/organizations", &body)["id"])
            })
            .collect();
        for n in (0..60).step_by(2) {
            // Every tenth with another external id, every sixth without one.
            let external_id = match n {
                _ if n % 10 == 0 => json!(format!("other{n}")),
                _ if n % 6 == 0 => json!(null),
                _ => json!(format!("e{n}")),
            };
            let body = json!({"email": format!("Row{n}@example.com"), "external_id": external_id});
            let user = text(&server.make("/user_management/users", &body)["id"]);
            let status = ["active", "inactive", "pending", "none"][n / 2 % 4];
            if status != "none" {
                let body = json!({"memberships": [{"user_id": user, "status": status,
                    "organization_id": orgs[n % 3]}]});
                server.make("/_sandbox/seed", &body);
            }
        }
        let before = (server.count("create_user"), server.count("list_users"));
        let target = server.target();
        work.run(&format!(
            "import users.csv --existing-scan {how} --workers 2 {target}"
        ))
        .expect(1);
        if how == "list" {
            // Who is there is never asked to be made.
            assert_eq!(server.count("create_user") - before.0, 30);
            assert!(server.count("list_users") > before.1 + 1);
        }
        let rows = work.results();
        let counted = states(&rows);
        assert_eq!(counted["created"], 30);
        assert_eq!((counted["linked"], counted["failed"]), (12, 18));
        let told = |row: &Record| {
            let names = [
                "row",
                "state",
                "step",
                "user_origin",
                "membership_state",
                "error_code",
            ];
            names.map(|name| row[name].clone())
        };
        outcomes.push((rows.iter().map(told).collect::<Vec<_>>(), server.world()));
    }
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn a_listing_waits_out_trouble_and_ends_with_a_signal() {
    use rustix::process::Signal;
    let work = Work::new();
    // So long that the signal comes while a page is under way.
    let server = work.sandbox("--latency 1s");
    work.run("generate --rows 250 --out users.csv").expect(0);
    let running = work.start(&format!(
        "import users.csv --existing-scan list {}",
        server.target()
    ));
    crate::harness::until("the listing begins", || {
        (server.count("list_users") > 1).then_some(())
    });
    running.signal(Signal::INT);
    running.wait().expect(130);
    assert_eq!(writes(&server), 0);
    nothing_is_left(&work);
    work.run(&format!("resume --existing-scan list {}", "--rate none"))
        .expect(0);
    nothing_is_left(&work);
}

/// A directory with 200 of 400 people of `users.csv` in it, and two of its four organizations.
fn half_full(work: &Work) -> Server {
    let server = work.sandbox("");
    let line = |n: usize| format!("row{n}@example.com,e{n},org{}\n", n % 4);
    let head = "email,external_id,org_external_id\n";
    let all: String = (0..400).map(line).collect();
    work.write("users.csv", format!("{head}{all}"));
    // Of organizations 0 and 1 only.
    let some: String = (0..400).filter(|n| n % 4 < 2).map(line).collect();
    work.write("some.csv", format!("{head}{some}"));
    let target = server.target();
    work.run(&format!("import some.csv --create-orgs {target}"))
        .expect(0);
    let user = server.dump()["users"][0].clone();
    let body = json!({"memberships": [{"user_id": user["id"], "status": "inactive",
        "organization_id": server.dump()["memberships"][0]["organization_id"]}]});
    server.make("/_sandbox/seed", &body);
    server
}

#[test]
fn a_dry_run_that_looks_at_the_target_sends_only_reads_and_counts_as_the_import_will() {
    for (options, code) in [
        ("--create-orgs --existing-scan list", 0),
        ("--create-orgs --existing-scan probe", 0),
        ("--create-orgs --on-existing skip", 0),
        ("", 1),
        ("--create-orgs --on-existing fail --existing-scan list", 1),
    ] {
        let work = Work::new();
        let server = half_full(&work);
        let seen = server.history().len();
        let world = server.world();
        let line = format!(
            "import users.csv --json --reactivate {options} {}",
            server.target()
        );
        let done = work.run(&format!("{line} --dry-run --check-target"));
        let promised = done.expect(code).json();
        let history = server.history();
        let methods: Vec<&str> = history[seen..]
            .iter()
            .map(|request| request["method"].as_str().unwrap())
            .collect();
        assert!(
            !methods.is_empty() && methods.iter().all(|method| *method == "GET"),
            "{options}"
        );
        assert_eq!(server.world(), world);
        assert_eq!(promised["requests"]["writes"], 0);
        assert_eq!(promised["requests"]["reads"], methods.len());
        assert_eq!(work.jobs().len(), 1, "the one that filled it");
        let found = &promised["plan"]["target"];
        assert_eq!(found["users_existing"], 200, "{options}");
        // Whoever is left alone needs no organization, and nobody asks for theirs.
        let asked_for = if options.contains("--on-existing") {
            0
        } else {
            2
        };
        assert_eq!(found["organizations_existing"], asked_for, "{options}");
        let made = if options.is_empty() {
            "organizations_missing"
        } else {
            "organizations_to_make"
        };
        assert_eq!(found[made], 2, "{options} {found}");

        let real = work.run(&line).expect(code).json();
        for group in ["rows", "memberships", "organizations", "failures"] {
            assert_eq!(promised[group], real[group], "{options} {group}");
        }
        if options.contains("--existing-scan") && !options.contains("fail") {
            let calls = &promised["plan"]["calls"];
            let writes: u64 = ["create_user", "create_membership", "create_organization"]
                .iter()
                .map(|kind| calls[kind].as_u64().unwrap())
                .sum();
            assert_eq!(real["requests"]["writes"], writes, "{options}");
        }
    }
}

#[test]
fn there_has_to_be_a_target_to_look_at_and_a_key() {
    let work = Work::new();
    work.write("users.csv", "email\na@example.com\n");
    work.run("import users.csv --check-target").expect(2);
    work.run("import users.csv --dry-run --check-target")
        .expect(2)
        .says(&["--target workos"]);
    let line = "import users.csv --dry-run --check-target --target workos";
    let mut command = work.userferry(line);
    command.env_remove("WORKOS_API_KEY");
    work.spawn(command).wait().expect(77);
}

#[test]
fn a_resume_does_not_take_the_users_of_its_own_job_for_others() {
    let work = Work::new();
    let server = work.sandbox("");
    work.run("generate --rows 1200 --out users.csv").expect(0);
    let target = server.target();
    work.run(&format!("import users.csv --limit 600 {target}"))
        .expect(0);
    let lists = server.count("list_users");
    let done = work
        .run("resume --limit 0")
        .expect(0)
        .says(&["\n0 of 40 sampled rows"]);
    assert!(!done.stderr.contains("listed"), "{}", done.stderr);
    // The first request, and at most one for each sampled row.
    assert!(server.count("list_users") - lists <= 1 + 40);
}
