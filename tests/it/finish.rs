//! What is set on users that are there: locales and second factors, each once.

use crate::harness::{Server, Work, fixtures, seed};
use crate::judge::text;
use crate::proxy::{Act, Proxy, answer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The Base32 of everybody here.
const SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// People with a factor each, every second one with a locale, in three organizations.
fn people(count: usize) -> String {
    let mut csv =
        String::from("email,external_id,org_external_id,locale,totp_secret,totp_issuer\n");
    for n in 1..=count {
        let locale = if n % 2 == 0 { "pt_BR" } else { "" };
        writeln!(
            csv,
            "p{n}@example.com,x-{n},org-{},{locale},{SECRET},Acme {n}",
            n % 3
        )
        .unwrap();
    }
    csv
}

/// How many factors each user has, by email.
fn factors(server: &Server) -> BTreeMap<String, Vec<String>> {
    let dump = server.dump();
    assert!(!dump.to_string().contains(SECRET), "{dump}");
    let list = |name: &str| dump[name].as_array().unwrap().clone();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut emails = BTreeMap::new();
    for user in list("users") {
        found.entry(text(&user["email"])).or_default();
        emails.insert(text(&user["id"]), text(&user["email"]));
    }
    for factor in list("factors") {
        let email = &emails[&text(&factor["user_id"])];
        assert_eq!(text(&factor["totp"]["user"]), *email);
        let issuers = found.get_mut(email).unwrap();
        issuers.push(text(&factor["totp"]["issuer"]));
    }
    found
}

/// Everybody of [`people`] is there with one membership, one factor and the right locale.
fn everybody_once(server: &Server, count: usize) {
    let found = factors(server);
    assert_eq!(found.len(), count);
    for n in 1..=count {
        let issuers = &found[&format!("p{n}@example.com")];
        assert_eq!(*issuers, [format!("Acme {n}")], "person {n}");
    }
    let dump = server.dump();
    for user in dump["users"].as_array().unwrap() {
        let number: usize = text(&user["external_id"])[2..].parse().unwrap();
        let locale = if number.is_multiple_of(2) {
            json!("pt-BR")
        } else {
            Value::Null
        };
        assert_eq!(user["locale"], locale, "{user}");
    }
    assert_eq!(dump["memberships"].as_array().unwrap().len(), count);
}

fn states(work: &Work) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for row in work.results() {
        *states.entry(row["state"].clone()).or_default() += 1;
    }
    states
}

#[test]
fn locales_and_factors_come_with_their_users_and_the_dry_run_counts_them() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", people(30));
    let plan = work
        .run("import users.csv --dry-run --json")
        .expect(0)
        .json();
    let calls = &plan["plan"]["calls"];
    assert_eq!(calls["create_user"], 30, "{plan}");
    assert_eq!(
        (&calls["set_locale"], &calls["create_factor"]),
        (&json!(15), &json!(30))
    );
    let line = format!("import users.csv --json --create-orgs {}", server.target());
    let summary = work.run(&line).expect(0).json();
    everybody_once(&server, 30);
    let writes = 30 + 3 + 30 + 15 + 30;
    assert_eq!(summary["requests"]["writes"], writes, "{summary}");
    assert_eq!(server.count("update_user"), 15);
    assert_eq!(server.count("create_factor"), 30);
    assert_eq!(server.count("list_factors"), 0, "nothing was in doubt");
    assert_eq!(states(&work), BTreeMap::from([("created".to_owned(), 30)]));
}

#[test]
fn an_enrolment_whose_answer_is_lost_is_looked_up_and_not_repeated() {
    let work = Work::new();
    let faults = "--faults drop-after=6%,500-after=3%,drop-before=4%,malformed=2%";
    let server = work.sandbox(&format!("{faults} --seed {}", 11 + seed()));
    work.write("users.csv", people(60));
    let line = format!(
        "import users.csv --json --create-orgs --workers 2 --chunk-size 20 --time-scale 0.03 {}",
        server.target()
    );
    work.run(&line).expect(0);
    assert!(server.count("list_factors") > 0);
    everybody_once(&server, 60);
}

#[test]
fn a_job_that_is_killed_enrols_every_factor_once() {
    for moment in [30, 120, 210] {
        let work = Work::new();
        let server = work.sandbox("--latency 10ms~50%");
        work.write("users.csv", people(80));
        let running = work.start(&format!(
            "import users.csv --create-orgs --workers 3 --chunk-size 20 {}",
            server.paced(300)
        ));
        server.has_applied(moment);
        drop(running);
        work.run("resume --rate none --time-scale 0.03").expect(0);
        everybody_once(&server, 80);
        for row in work.results() {
            assert!(
                ["created", "recovered"].contains(&&*row["state"]),
                "{row:?}"
            );
        }
    }
}

#[test]
fn who_was_there_before_keeps_locale_and_factors() {
    let work = Work::new();
    let server = work.sandbox("");
    let body = json!({"email": "p2@example.com"});
    server.make("/user_management/users", &body);
    work.write("users.csv", people(2));
    work.run(&format!(
        "import users.csv --create-orgs {}",
        server.target()
    ))
    .expect(0);
    let found = factors(&server);
    assert_eq!(found["p1@example.com"].len(), 1);
    assert!(found["p2@example.com"].is_empty());
    assert_eq!(server.count("update_user"), 0);
    assert_eq!(work.results()[1]["state"], "linked");
}

#[test]
fn a_refused_factor_fails_at_its_step_and_a_retry_does_only_that() {
    let work = Work::new();
    let server = work.sandbox("");
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let proxy = Proxy::start(&server, move |request| {
        let refused = request.body.contains("Acme 3") || request.body.contains("Acme 4");
        if refused && request.path.ends_with("/auth_factors") && !well.load(Ordering::SeqCst) {
            let body = json!({"message": format!("{SECRET} is not welcome"),
                "code": "invalid_request_parameters"});
            return Act::Answer(answer("422 Unprocessable Entity", "", &body.to_string()));
        }
        Act::Pass
    });
    let mut csv = people(6);
    // Follows a row whose factor is refused: its user is there all the same.
    csv.push_str("P3@example.com,,org-1,,,\n");
    work.write("users.csv", csv);
    let line = format!("import users.csv --json --create-orgs {}", proxy.target());
    let summary = work.run(&line).expect(1).json();
    assert_eq!(summary["memberships"]["created"], 7, "{summary}");
    let rows = work.results();
    for row in &rows[2..4] {
        assert_eq!(
            (&*row["state"], &*row["step"], &*row["error_code"]),
            ("failed", "factor", "invalid_request_parameters")
        );
        assert_eq!(row["error_message"], "… is not welcome");
        assert_eq!(row["membership_state"], "created");
        assert!(!row["user_id"].is_empty());
    }
    assert_eq!(rows[6]["state"], "merged");
    is_well.store(true, Ordering::SeqCst);
    let before = server.received();
    let summary = work.run("retry --json --rate none").expect(0).json();
    assert_eq!(summary["rows"]["created"], 6, "{summary}");
    assert_eq!(summary["memberships"]["created"], 7, "{summary}");
    assert_eq!(summary["requests"]["writes"], 2, "{summary}");
    // A look at the target, and two requests for each factor.
    assert!(server.received() - before < 12);
    for n in 1..=6 {
        assert_eq!(factors(&server)[&format!("p{n}@example.com")].len(), 1);
    }
    assert_eq!(work.results()[2]["user_id"], rows[2]["user_id"]);
    assert_eq!(work.results()[2]["membership_id"], rows[2]["membership_id"]);
}

#[test]
fn cells_that_are_no_locale_and_no_secret_fail_before_any_request() {
    let work = Work::new();
    let server = work.sandbox("");
    work.fixture("second-factors.csv");
    let line = format!(
        "import second-factors.csv --create-orgs {}",
        server.target()
    );
    work.run(&line).expect(1);
    let path = fixtures().join("second-factors.expected.csv");
    let expected: Vec<(String, String)> = csv::Reader::from_path(path)
        .unwrap()
        .deserialize()
        .map(Result::unwrap)
        .collect();
    let failed: Vec<(String, String)> = work
        .results()
        .into_iter()
        .filter(|row| row["state"] == "failed")
        .map(|row| (row["row"].clone(), row["error_code"].clone()))
        .collect();
    assert_eq!(failed, expected);
    // The person of two rows has the factor and the locale of the lower one.
    let found = factors(&server);
    assert_eq!(found["ines@example.com"], ["Acme"]);
    assert_eq!(found["jonas@example.com"], [""]);
    assert!(found["quin@example.com"].is_empty());
    let dump = server.dump();
    let locales: Vec<&str> = dump["users"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|user| user["locale"].as_str())
        .collect();
    assert_eq!(locales.len(), 4, "{locales:?}");
    assert!(!locales.contains(&"fr"));
    let checked = work.run("check second-factors.csv --json");
    assert!(!checked.stdout.contains("JBSWY3DP"), "{checked}");
}
