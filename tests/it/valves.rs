//! Part of a file first, a run that is stopped by its failures, and what is tried again; at every
//! end the same counts wherever they are shown.

use crate::harness::{Server, Work};
use crate::judge::{World, people, plain};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;

const STATES: [&str; 9] = [
    "created",
    "recovered",
    "linked",
    "updated",
    "merged",
    "skipped",
    "failed",
    "parked",
    "pending",
];

/// Fails unless the ledger, `status`, `results` and `report` tell the same, and it is the file.
pub fn counts_agree(work: &Work, job: &str, summary: &Value) -> BTreeMap<String, u64> {
    let told = |object: &Value, state: &str| object["rows"][state].as_u64().unwrap();
    let status = work.run(&format!("status {job} --json")).expect(0).json();
    let csv = work.run(&format!("results {job}")).expect(0).stdout;
    let html = work.run(&format!("report {job}")).expect(0).stdout;
    let total = told(summary, "total");
    assert!(html.contains(&format!("data-total=\"{total}\"")), "{job}");
    let mut counts = BTreeMap::new();
    for state in STATES {
        let n = told(summary, state);
        assert_eq!(told(&status, state), n, "{job} {state}");
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let rows = reader.records().map(Result::unwrap);
        let in_results = rows.filter(|row| &row[4] == state).count() as u64;
        assert_eq!(in_results, n, "{job} {state}");
        let cell = format!("data-state=\"{state}\" data-rows=\"{n}\"");
        assert_eq!(html.contains(&cell), n > 0, "{job} {state} {n}");
        counts.insert(state.to_owned(), n);
    }
    assert_eq!(counts.values().sum::<u64>(), total, "{job}");
    counts
}

fn import(work: &Work, server: &Server, options: &str, code: i32) -> Value {
    let line = format!(
        "import users.csv --job it --json {options} {}",
        server.target()
    );
    work.run(&line).expect(code).json()
}

#[test]
fn a_limit_takes_the_first_rows_and_stays_until_it_is_lifted() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", people(60, |n| format!("org-{}", n % 3)));
    let options = "--create-orgs --chunk-size 7 --workers 2";
    let summary = import(&work, &server, &format!("{options} --limit 10"), 0);
    assert_eq!(summary["state"], "paused");
    let counts = counts_agree(&work, "it", &summary);
    assert_eq!((counts["created"], counts["pending"]), (10, 50));
    assert_eq!(server.world().users.len(), 10);
    let sent = server.received();

    // The same again, and a plain resume, do nothing and say how to go on.
    work.run("status it").expect(0);
    let again = work.run("resume it").expect(0);
    let again = again.says(&["first 10 rows", "nothing was sent", "resume it --limit 0"]);
    assert_eq!(again.stdout, "");
    assert_eq!(server.received(), sent);

    let summary = work.run("resume it --limit 25 --json").expect(0).json();
    assert_eq!(counts_agree(&work, "it", &summary)["created"], 25);
    let summary = work.run("resume it --limit 0 --json").expect(0).json();
    assert_eq!(summary["state"], "completed");
    assert_eq!(counts_agree(&work, "it", &summary)["created"], 60);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn rows_of_one_person_on_both_sides_of_a_limit_are_one_user() {
    let work = Work::new();
    let server = work.sandbox("");
    let mut csv = people(20, |_| "acme".to_owned());
    csv += "P1@Example.com,P1,x-1,beta\nP2@Example.com,P2,x-2,beta\n";
    work.write("users.csv", csv);
    let options = "--create-orgs --chunk-size 5";
    import(&work, &server, &format!("{options} --limit 21"), 0);
    assert_eq!(server.world().memberships.len(), 21);
    let summary = work.run("resume --limit 0 --json").expect(0).json();
    assert_eq!(summary["rows"]["merged"], 2);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn too_many_failures_pause_with_the_cause_and_leave_the_rest() {
    let work = Work::new();
    let server = work.sandbox("");
    let csv = people(1500, |n| {
        if n % 2 == 0 {
            "missing".into()
        } else {
            String::new()
        }
    });
    work.write("users.csv", csv);
    let options = "--chunk-size 10 --workers 1 --concurrency 4";
    let summary = import(&work, &server, &format!("{options} --max-failures 5"), 75);
    assert_eq!(summary["state"], "paused");
    assert_eq!(summary["error"]["code"], "too_many_failures");
    let message = summary["error"]["message"].as_str().unwrap();
    assert!(message.contains("organization_not_found"), "{message}");
    let hint = summary["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("userferry resume it"), "{hint}");
    let counts = counts_agree(&work, "it", &summary);
    assert!(
        counts["failed"] > 5 && counts["pending"] > 100,
        "{counts:?}"
    );

    // A share counts from 200 rows on; without a limit the rest is done.
    let summary = work
        .run("resume it --max-failures 5% --json --workers 1 --concurrency 4")
        .expect(75)
        .json();
    let counts = counts_agree(&work, "it", &summary);
    assert!(counts["pending"] > 0, "{counts:?}");
    let kept = work.run("resume it --json").expect(75);
    let kept = kept.says(&["keeping --max-failures 5%"]).json();
    // That it was missing says nothing about now.
    let missing = serde_json::json!({"name": "Missing", "external_id": "missing"});
    server.make("/organizations", &missing);
    let failed = kept["rows"]["failed"].as_u64().unwrap();
    let lifted = "resume it --max-failures none --json";
    let summary = work.run(lifted).expect(1).json();
    let counts = counts_agree(&work, "it", &summary);
    let expected = (1500 - failed, failed);
    assert_eq!((counts["created"], counts["failed"]), expected);
    assert_eq!(summary["organizations"]["found"], 1);
    assert_eq!(summary["organizations"]["failed"], 0);
}

/// Rows that are wrong in the file fail at once, good ones wait for the rate limit.
#[test]
fn a_share_is_not_one_of_the_rows_that_happen_to_be_done_first() {
    let work = Work::new();
    let server = work.sandbox("");
    let rows = (0..600).map(|n| match n % 33 {
        7 => format!("no-address-{n}\n"),
        _ => format!("p{n}@example.com\n"),
    });
    work.write(
        "users.csv",
        "email\n".to_owned() + &rows.collect::<String>(),
    );
    // 18 of 600 are 3 %; a worker has up to 500 rows at hand.
    let options = "--rate 2000/10s --concurrency 500 --workers 2 --max-failures 5%";
    let destination = server.destination();
    let line = format!("import users.csv --job it --json {options} {destination}");
    let summary = work.run(&line).expect(1).json();
    let counts = counts_agree(&work, "it", &summary);
    assert_eq!((counts["created"], counts["failed"]), (582, 18));
}

/// What cannot be opened is refused before a job is made or changed.
#[test]
fn an_events_file_that_cannot_be_is_refused_before_anything_changes() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        people(12, |n| if n < 3 { "gone".into() } else { String::new() }),
    );
    let before = std::fs::read(work.path("users.csv")).unwrap();
    let line = |events: &str| {
        format!(
            "import users.csv --job it --events {events} {}",
            server.target()
        )
    };
    work.run(&line("users.csv"))
        .expect(2)
        .says(&["the file that is imported"]);
    work.run(&line("./nowhere/e.jsonl")).expect(74);
    assert_eq!(work.jobs(), Vec::<String>::new());
    assert_eq!(std::fs::read(work.path("users.csv")).unwrap(), before);

    import(&work, &server, "", 1);
    work.run("retry it --events nowhere/e.jsonl").expect(74);
    let status = work.run("status it --json").expect(0).json();
    assert_eq!(status["state"], "completed");
    assert_eq!(status["rows"]["failed"], 2);
}

#[test]
fn counts_agree_after_an_interruption_and_with_parked_rows() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(300) + "nobody,N,x-n,\n");
    let running = work.start(&format!(
        "import users.csv --job it --json --chunk-size 20 {}",
        server.paced(150)
    ));
    server.has_applied(40);
    running.signal(Signal::INT);
    let summary = running.wait().expect(130).json();
    let counts = counts_agree(&work, "it", &summary);
    assert!(counts["pending"] > 0 && counts["created"] > 0, "{counts:?}");
    drop(server);

    let work = Work::new();
    let server = work.sandbox("--faults 500-after=40%,malformed=30% --seed 4");
    work.write("users.csv", plain(40) + "nobody,N,x-n,\n");
    let line = format!(
        "import users.csv --job it --json --time-scale 0.01 {}",
        server.target()
    );
    let summary = work.run(&line).expect(1).json();
    counts_agree(&work, "it", &summary);
}

#[test]
fn retry_takes_the_rows_that_are_meant() {
    let work = Work::new();
    let server = work.sandbox("");
    let csv = "email,org_external_id,role_slugs\n\
               a@example.com,acme,wizard\n\
               b@example.com,nowhere,\n\
               c@example.com,acme,wizard\n\
               d.example.com,acme,\n";
    work.write("users.csv", csv);
    server.make(
        "/organizations",
        &serde_json::json!({"name": "Acme", "external_id": "acme"}),
    );
    let summary = import(&work, &server, "", 1);
    assert_eq!(counts_agree(&work, "it", &summary)["failed"], 4);
    let sent = server.received();
    for line in [
        "retry it --code no_such_code",
        "retry it --row 9",
        "retry it --state parked",
    ] {
        let done = work.run(line).expect(2);
        let done = done.says(&["2 rows with code invalid_role", "organization_not_found"]);
        assert!(!done.stderr.contains("Usage"), "{done}");
    }
    assert_eq!(
        server.received(),
        sent,
        "nothing was opened, nothing was sent"
    );

    server.make(
        "/organizations",
        &serde_json::json!({"name": "Nowhere", "external_id": "nowhere"}),
    );
    let line = "retry it --code organization_not_found --json";
    let summary = work.run(line).expect(1).json();
    let counts = counts_agree(&work, "it", &summary);
    assert_eq!((counts["created"], counts["failed"]), (1, 3));
    let states: Vec<String> = work
        .results()
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert_eq!(states, ["failed", "created", "failed", "failed"]);
    work.run("retry it --row 1 --row 3 --json").expect(1);
    let users = server.world().users.len();
    assert_eq!(users, 3, "a user that was made is not made again");
}

#[test]
fn part_of_the_rows_of_one_membership_can_be_tried_again() {
    let work = Work::new();
    let server = work.sandbox("");
    let row = "a@example.com,acme,wizard\n";
    let header = "email,org_external_id,role_slugs\n";
    work.write("users.csv", format!("{header}{}", row.repeat(4)));
    let summary = import(&work, &server, "--create-orgs --chunk-size 1", 1);
    assert_eq!(counts_agree(&work, "it", &summary)["failed"], 4);
    // Rows 2 and 3 stay as they are between the two; the last one waits for the first all the same.
    for picked in ["--row 1 --row 4", "--row 1 --row 3", "--row 2 --row 4"] {
        let line = format!("retry it {picked} --json");
        let summary = work.run(&line).expect(1).json();
        assert_eq!(counts_agree(&work, "it", &summary)["failed"], 4, "{picked}");
    }
    let world = server.world();
    assert_eq!((world.users.len(), world.memberships.len()), (1, 0));
}

#[test]
fn what_the_file_decides_is_not_tried_again() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(3) + "nobody,N,x-n,\n");
    let line = format!("import users.csv --job it {}", server.target());
    let done = work.run(&line).expect(1);
    assert!(!done.stderr.contains("retry"), "{done}");
    let sent = server.received();
    work.run("retry it")
        .expect(1)
        .says(&["the file decides", "rejects"]);
    assert_eq!(server.received(), sent);
    // Whoever asks for it gets it: rules change from version to version.
    work.run("retry it --row 4")
        .expect(1)
        .says(&["1 row pending again"]);
}

#[test]
fn a_retry_says_which_rows_the_file_decides() {
    let work = Work::new();
    let server = work.sandbox("");
    let csv = "email,external_id,org_external_id\n\
               a@example.com,1,\n\
               b@example.com,1,\n\
               c@example.com,3,nowhere\n\
               d.example.com,4,\n";
    work.write("users.csv", csv);
    let summary = import(&work, &server, "", 1);
    assert_eq!(counts_agree(&work, "it", &summary)["failed"], 3);
    let sent = server.received();
    let done = work
        .run("retry it --code external_id_conflict_in_file")
        .expect(2);
    let done = done.says(&["the file decides 1 row with code", "cannot help", "rejects"]);
    assert!(!done.stderr.contains("no failed or parked row"), "{done}");
    assert_eq!(server.received(), sent);
    work.run("retry it")
        .expect(1)
        .says(&["2 rows pending again; the file decides 1 of them"]);
    let done = work.run("retry it --code organization_not_found").expect(1);
    assert!(!done.stderr.contains("decides 1 of them"), "{done}");
}

#[test]
fn a_resumed_run_keeps_the_limits_of_the_last_one() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(40));
    let line = format!("import users.csv --job it --limit 10 {}", server.paced(400));
    work.run(&line).expect(0);
    let done = work.run("resume it --limit 0 --json").expect(0);
    let done = done.says(&["keeping the limits of the last run: --rate 400/1s"]);
    assert_eq!(done.json()["rate"]["writes_per_s"], 400.0);
}

#[test]
fn jobs_as_json_are_the_objects_of_status() {
    let work = Work::new();
    assert_eq!(
        work.run("jobs --json").expect(0).json()["jobs"],
        serde_json::json!([])
    );
    work.write("users.csv", plain(3));
    work.run("import users.csv --job one").expect(0);
    work.run("import users.csv --job one")
        .expect(0)
        .says(&["job one is finished", "a new job, one-2"]);
    let jobs = work.run("jobs --json").expect(0).json();
    let names: Vec<&str> = jobs["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["one-2", "one"]);
    let status = work.run("status one --json").expect(0).json();
    assert_eq!(jobs["jobs"][1], status);
}

#[test]
fn a_report_is_one_page_without_people() {
    let work = Work::new();
    work.write("users.csv", plain(30) + "nobody,N,x-n,\n");
    work.run("import users.csv --job it").expect(1);
    work.run("report it --out report.html").expect(0);
    let html = std::fs::read_to_string(work.path("report.html")).unwrap();
    for words in [
        "<!doctype html>",
        "email_invalid",
        "row 31 (line 32)",
        "</html>",
    ] {
        assert!(html.contains(words), "{words}");
    }
    for words in ["p12@example.com", "P12", "x-12", "nobody", "<script", "://"] {
        assert!(!html.contains(words), "{words}");
    }
}

#[test]
fn a_row_that_failed_before_its_organization_is_not_reported_as_one_without() {
    let work = Work::new();
    let csv = people(6, |_| "acme".to_owned());
    work.write(
        "users.csv",
        csv + "nobody,N,x-n,acme\nz@example.com,Z,x-z,\n",
    );
    work.run("import users.csv --job it").expect(1);
    let html = work.run("report it").expect(0).stdout;
    let row = |name: &str| {
        let at = html.find(name).unwrap();
        html[at..].split("</tr>").next().unwrap().to_owned()
    };
    assert!(row("<code>acme</code>").contains("<td class=\"n\">6</td>"));
    let one = "<td class=\"n\">1</td>";
    let without = row("settled well without an organization");
    assert_eq!(without.matches(one).count(), 1, "{without}");
    // One row, and one to look at.
    let unreached = row("failed, parked or skipped before reaching an organization");
    assert_eq!(unreached.matches(one).count(), 2, "{unreached}");
}
