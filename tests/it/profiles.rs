//! Exports as the products write them, through the binary into the sandbox.

use crate::harness::{Record, Work};
use crate::judge::text;
use serde_json::Value;
use std::collections::BTreeMap;

/// Email, first name, last name, verified, external id.
type Person = (String, String, String, bool, String);

fn people(dump: &Value) -> Vec<Person> {
    let mut people: Vec<Person> = dump["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| {
            let cell = |name: &str| text(&user[name]);
            let verified = user["email_verified"].as_bool().unwrap();
            let [first, last] = [cell("first_name"), cell("last_name")];
            (cell("email"), first, last, verified, cell("external_id"))
        })
        .collect();
    people.sort();
    people
}

fn person(email: &str, first: &str, last: &str, verified: bool, id: &str) -> Person {
    let [email, first, last, id] = [email, first, last, id].map(str::to_owned);
    (email, first, last, verified, id)
}

/// State and error code of every row, in order.
fn told(results: &[Record]) -> Vec<(&str, &str)> {
    let of = |row| -> (&str, &str) {
        let row: &Record = row;
        (&row["state"], &row["error_code"])
    };
    results.iter().map(of).collect()
}

/// Imports a fixture; returns its people, and what was said.
fn import(work: &Work, file: &str, options: &str, exit: i32) -> (Vec<Person>, String) {
    let server = work.sandbox("");
    work.fixture(&format!("profiles/{file}"));
    let line = format!("import {file} --create-orgs {} {options}", server.target());
    let done = work.run(&line).expect(exit);
    (people(&server.dump()), done.stderr)
}

#[test]
fn a_clerk_export_is_read_as_one() {
    let work = Work::new();
    let (people, said) = import(&work, "clerk.csv", "", 1);
    assert!(
        said.contains("read as a Clerk export: email from primary_email_address"),
        "{said}"
    );
    assert!(said.contains("not carried: username"), "{said}");
    assert_eq!(
        people,
        [
            person(
                "Ada@example.com",
                "Ada",
                "Lovelace",
                true,
                "user_2YDryYFVMM1W1plDDKz7Gzf4we6"
            ),
            person(
                "ben@example.com",
                "Ben",
                "Doe",
                false,
                "user_2ZZCgLE7kJG2CRBxTZ6YUIvzS10"
            ),
            person(
                "cleo@example.com",
                "Cleo",
                "Hancock",
                true,
                "user_2cWszPHuo6P2lCdnhhZbVMfbAIC"
            ),
        ]
    );
    assert_eq!(
        told(&work.results()),
        [
            ("created", ""),
            ("created", ""),
            ("created", ""),
            ("failed", "email_missing"),
            ("failed", "password_hash_type_unknown"),
        ]
    );
}

#[test]
fn rejects_of_an_export_are_its_own_bytes_and_import_as_one() {
    let work = Work::new();
    import(&work, "clerk.csv", "", 1);
    let rejects = work.run("rejects").expect(0).stdout;
    let source = std::fs::read_to_string(work.path("clerk.csv")).unwrap();
    let lines: Vec<&str> = source.lines().collect();
    assert_eq!(
        rejects,
        format!("{}\n{}\n{}\n", lines[0], lines[4], lines[5])
    );
    work.write(
        "rejects.csv",
        rejects.replace("5f4dcc3b5aa765d61d8327deb882cf99,md5", ","),
    );
    let done = work.run("import rejects.csv").expect(1);
    assert!(
        done.stderr.contains("read as a Clerk export"),
        "{}",
        done.stderr
    );
    assert_eq!(
        told(&work.results()),
        [("failed", "email_missing"), ("created", "")]
    );
}

#[test]
fn an_auth0_csv_loses_its_quotes_and_leaves_blocked_users_out() {
    let work = Work::new();
    let (people, said) = import(&work, "auth0.csv", "", 0);
    assert!(said.contains("read as an Auth0 export"), "{said}");
    assert_eq!(
        people,
        [
            person("Ben@example.com", "Ben", "Doe", false, "auth0|euclid"),
            person(
                "ada@example.com",
                "Ada",
                "Lovelace",
                true,
                "auth0|5dea9f9c82dd7c0e76e4ec93"
            ),
            person(
                "dora@example.com",
                "Dora",
                "'t Hart",
                true,
                "google-oauth2|1234"
            ),
        ]
    );
    let results = work.results();
    assert_eq!(told(&results)[2], ("skipped", "dropped_by_profile"));
    assert_eq!(
        results[2]["error_message"],
        "row 3, line 4: blocked at Auth0"
    );
    assert_eq!(results[2]["external_id"], "auth0|5dea9f9c82dd7c0e76e4ec95");
}

#[test]
fn what_is_lost_is_said() {
    let work = Work::new();
    for file in [
        "auth0.csv",
        "auth0.ndjson",
        "okta.csv",
        "cognito.csv",
        "firebase.json",
    ] {
        work.fixture(&format!("profiles/{file}"));
    }
    for command in ["check", "import --dry-run"] {
        let said = |rest: &str| work.run(&format!("{command} {rest}")).stderr;
        for file in ["auth0.csv", "auth0.ndjson", "okta.csv", "cognito.csv"] {
            let said = said(file);
            assert!(
                said.contains("users come without passwords"),
                "{command} {file}: {said}"
            );
        }
        let said = [
            said("auth0.csv"),
            said("auth0.ndjson"),
            said("firebase.json --hash-parameters none"),
        ];
        assert!(said[0].contains("joins them by user id"), "{}", said[0]);
        assert!(
            said[0].contains("1 row is left out by the profile: blocked at Auth0"),
            "{}",
            said[0]
        );
        assert!(said[1].contains("not carried: "), "{}", said[1]);
        assert!(
            said[2].contains("--hash-parameters none says"),
            "{}",
            said[2]
        );
    }
    work.write(
        "more.ndjson",
        "{\"user_id\":\"auth0|1\",\"email\":\"a@x.org\",\"nickname\":\"a\",\"app_metadata\":{\"plan\":1}}\n\
         {\"user_id\":\"auth0|2\",\"email\":\"b@x.org\",\"user_metadata\":{},\"blocked\":true}\n",
    );
    work.run("check more.ndjson").expect(0).says(&[
        "not carried: app_metadata, nickname, user_metadata",
        "1 row is left out by the profile: blocked at Auth0",
    ]);
}

#[test]
fn hashes_are_joined_to_whatever_csv_reads_without_them() {
    let work = Work::new();
    work.fixture("profiles/auth0.csv")
        .fixture("profiles/auth0-hashes.ndjson");
    let source = std::fs::read_to_string(work.path("auth0.csv")).unwrap();
    let (header, rows) = source.split_once('\n').unwrap();
    work.write(
        "more.csv",
        format!("{header}\n{}", rows.replacen('\n', ",\n", 1)),
    );
    let semicolons = source
        .replace(',', ";")
        .replace("2019-12-06T18:36:12.412Z", "x");
    work.write("semicolons.csv", semicolons);
    for line in ["more.csv", "semicolons.csv", "semicolons.csv --delimiter ;"] {
        work.run(&format!("check {line}")).expect(0);
        let line = format!("check {line} --password-hashes auth0-hashes.ndjson");
        let done = work.run(&line).expect(0);
        done.says(&["read as an Auth0 export: email", "not carried: nickname"]);
    }
    let line = "import semicolons.csv --delimiter ; --password-hashes auth0-hashes.ndjson";
    work.run(line).expect(0);
}

#[test]
fn a_map_beside_a_recognised_export_leaves_its_profile_on() {
    let work = Work::new();
    work.fixture("profiles/auth0.csv");
    for command in ["import auth0.csv", "check auth0.csv"] {
        let refused = work
            .run(&format!("{command} --map name=first_name"))
            .expect(2);
        refused.says(&["--profile auth0", "--profile none"]);
    }
    let source = std::fs::read_to_string(work.path("auth0.csv")).unwrap();
    let mut with_company = String::new();
    for (n, line) in source.lines().enumerate() {
        let cell = if n == 0 { "Company" } else { "acme" };
        with_company.extend([line, ",", cell, "\n"]);
    }
    work.write("more.csv", with_company);
    let server = work.sandbox("");
    let line = format!(
        "import more.csv --create-orgs --map Company=org_external_id {}",
        server.target()
    );
    let done = work.run(&line).expect(0);
    let done = done.says(&["read as an Auth0 export", "by --map: org_external_id"]);
    drop(done);
    let people = people(&server.dump());
    assert_eq!(people.len(), 3);
    assert!(people.iter().all(|person| !person.0.starts_with('\'')));
    assert_eq!(told(&work.results())[2], ("skipped", "dropped_by_profile"));
    assert_eq!(server.dump()["memberships"].as_array().unwrap().len(), 3);
}

#[test]
fn cognito_and_okta_exports_are_read_as_theirs() {
    let work = Work::new();
    let (people, said) = import(&work, "cognito.csv", "", 0);
    assert!(said.contains("read as a Cognito export"), "{said}");
    assert_eq!(
        people,
        [
            person("Ben@example.com", "Ben", "Doe", false, "ben"),
            person("ada@example.com", "Ada", "Lovelace", true, "ada"),
        ]
    );
    let work = Work::new();
    let (people, said) = import(&work, "okta.csv", "", 0);
    assert!(said.contains("read as an Okta export"), "{said}");
    assert_eq!(
        people,
        [
            person("ada@example.com", "Ada", "Lovelace", false, "00u1abcd"),
            person("dora@example.com", "Dora", "Expired", false, "00u4abcd"),
        ]
    );
}

#[test]
fn a_profile_of_ones_own_maps_drops_and_finds_repeated_people() {
    let work = Work::new();
    work.fixture("profiles/staff.toml");
    let server = work.sandbox("");
    work.fixture("profiles/staff.csv");
    let target = server.target();
    let done = work
        .run(&format!("import staff.csv --create-orgs --profile staff.toml --workers 2 --chunk-size 1 {target}"))
        .expect(0);
    assert!(
        done.stderr.contains("read as a Staff list export"),
        "{}",
        done.stderr
    );
    // Rows 1 and 4 have one address only after the profile made it.
    let results = work.results();
    let states: Vec<&str> = told(&results).iter().map(|(state, _)| *state).collect();
    assert_eq!(states, ["created", "created", "skipped", "merged"]);
    let world = server.world();
    let joined: Vec<_> = world
        .memberships
        .iter()
        .map(|one| (&*one.0, &*one.1))
        .collect();
    assert_eq!(
        joined,
        [("ada@example.com", "de-R&D"), ("ada@example.com", "uk-Ops")]
    );
    let country = BTreeMap::from([("country".to_owned(), "de".to_owned())]);
    assert_eq!(world.users[0].5, country);
}

#[test]
fn the_profile_is_part_of_what_a_job_is() {
    let work = Work::new();
    let server = work.sandbox("");
    work.fixture("profiles/clerk.csv")
        .fixture("profiles/staff.toml");
    let target = server.target();
    let none = work
        .run(&format!("import clerk.csv --profile none {target}"))
        .expect(65);
    assert!(
        none.stderr.contains("no column is named email"),
        "{}",
        none.stderr
    );
    work.run(&format!("import clerk.csv --profile clerk {target}"))
        .expect(1);
    let other = work.run("retry --profile staff.toml").expect(2);
    assert!(
        other.stderr.contains("--profile is `toml:"),
        "{}",
        other.stderr
    );
    work.run("retry --profile none").expect(2);
    work.run("retry --profile clerk --rate none").expect(1);
    let unknown = work
        .run("import clerk.csv --fresh --profile supabase")
        .expect(2);
    assert!(
        unknown.stderr.contains("allowed are auto, none, auth0"),
        "{}",
        unknown.stderr
    );
    work.write("wrong.toml", "name = \"x\"\n[columns]\nmail = \"y\"\n");
    let wrong = work
        .run("import clerk.csv --fresh --profile wrong.toml")
        .expect(2);
    assert!(
        wrong.stderr.contains("[columns] names mail"),
        "{}",
        wrong.stderr
    );
    let foreign = work
        .run("import clerk.csv --fresh --profile okta")
        .expect(65);
    assert!(
        foreign.stderr.contains("wants the column email"),
        "{}",
        foreign.stderr
    );
}

#[test]
fn a_firebase_export_needs_the_parameters_of_its_hashes() {
    let work = Work::new();
    work.fixture("profiles/firebase-parameters.txt");
    work.fixture("profiles/firebase.json");
    let refused = work.run("import firebase.json").expect(2);
    assert!(
        refused.stderr.contains("--hash-parameters FILE"),
        "{}",
        refused.stderr
    );
    let options = "--hash-parameters firebase-parameters.txt";
    let (people, said) = import(&work, "firebase.json", options, 1);
    assert!(said.contains("read as a Firebase export"), "{said}");
    assert_eq!(
        people,
        [
            person("Ben@example.com", "", "", false, "b2"),
            person(
                "ada@example.com",
                "Ada",
                "King Lovelace",
                true,
                "8UmAK0zMRVZ4xNJPnTTHOoyrAxD2"
            ),
        ]
    );
    let results = work.results();
    assert_eq!(
        told(&results),
        [
            ("created", ""),
            ("created", ""),
            ("skipped", "dropped_by_profile"),
            ("failed", "email_missing"),
        ]
    );
    let same = format!("firebase.json {options}");
    let checked = work.run(&format!("check {same} --json")).expect(1);
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(
        (&checked["rows"], &checked["would_fail"]),
        (&4.into(), &1.into())
    );
    let planned = work
        .run(&format!("import {same} --dry-run --json"))
        .expect(1);
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(planned["rows"]["skipped"], 1);
    assert_eq!(planned["rows"]["failed"], 1);
    // Rejects are a CSV of ours: they need neither the profile nor the parameters again.
    let rejects = work.run("rejects").expect(0).stdout;
    let mut lines = rejects.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("email,first_name,last_name,email_verified")
    );
    assert_eq!(lines.count(), 1);
    work.write("rejects.csv", rejects.replace("\n,", "\ndora@example.com,"));
    work.run("import rejects.csv").expect(0);
    assert_eq!(told(&work.results()), [("created", "")]);
}

#[test]
fn firebase_hashes_are_sent_as_the_documented_string() {
    let work = Work::new();
    work.fixture("profiles/firebase-parameters.txt")
        .fixture("profiles/firebase.json");
    // Of a row that fails, rejects show what would have been sent.
    let done = work
        .run("import firebase.json --hash-parameters firebase-parameters.txt --require-membership");
    done.expect(1);
    let rejects = work.run("rejects").expect(0).stdout;
    let mut reader = csv::Reader::from_reader(rejects.as_bytes());
    let rows: Vec<Record> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(
        rows[0]["password_hash"],
        "$firebase-scrypt$v=1$r=8,m=14,ss=Bw,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA\
         $42xEC+ixf3L2lw$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ"
    );
    assert_eq!(rows[0]["password_hash_type"], "firebase-scrypt");
    assert_eq!(rows[1]["password_hash"], "");
}

#[test]
fn auth0_users_get_their_hashes_by_user_id_from_json_and_from_csv() {
    for file in ["auth0.ndjson", "auth0.csv"] {
        let work = Work::new();
        work.fixture("profiles/auth0-hashes.ndjson");
        let options = "--password-hashes auth0-hashes.ndjson";
        let (people, said) = import(&work, file, options, 0);
        assert!(
            said.contains("2 of 4 records have a password hash"),
            "{file}: {said}"
        );
        assert!(
            said.contains("1 of its 3 hashes belong to nobody"),
            "{file}: {said}"
        );
        assert_eq!(
            people,
            [
                person("Ben@example.com", "Ben", "Doe", false, "auth0|euclid"),
                person(
                    "ada@example.com",
                    "Ada",
                    "Lovelace",
                    true,
                    "auth0|5dea9f9c82dd7c0e76e4ec93"
                ),
                person(
                    "dora@example.com",
                    "Dora",
                    "'t Hart",
                    true,
                    "google-oauth2|1234"
                ),
            ],
            "{file}"
        );
        assert_eq!(told(&work.results())[2], ("skipped", "dropped_by_profile"));
        // An address in the file of hashes proves nothing: Dora has another id there.
        let again = format!("import {file} --fresh --require-membership {options}");
        work.run(&again).expect(1);
        let rejects = work.run("rejects").expect(0).stdout;
        let mut reader = csv::Reader::from_reader(rejects.as_bytes());
        let rows: Vec<Record> = reader.deserialize().map(Result::unwrap).collect();
        let hashes: Vec<bool> = rows
            .iter()
            .map(|row| !row["password_hash"].is_empty())
            .collect();
        assert_eq!(hashes, [true, true, false], "{file}");
    }
}

#[test]
fn json_that_nobody_knows_is_refused_and_a_profile_of_ones_own_reads_it() {
    let work = Work::new();
    work.write(
        "people.json",
        "{\"people\":[{\"mail\":\"a@example.com\",\"name\":{\"first\":\"Ada\"}}]}",
    );
    let refused = work.run("import people.json").expect(65);
    assert!(
        refused.stderr.contains("no profile recognises"),
        "{}",
        refused.stderr
    );
    work.write(
        "people.toml",
        "name = \"People\"\nrecords = \"people\"\n[columns]\nemail = \"mail\"\nfirst_name = \"name.first\"\n",
    );
    let server = work.sandbox("");
    work.run(&format!(
        "import people.json --profile people.toml {}",
        server.target()
    ))
    .expect(0);
    assert_eq!(
        people(&server.dump()),
        [person("a@example.com", "Ada", "", false, "")]
    );
    let wrong = work
        .run("import people.json --profile people.toml --password-hashes x --fresh")
        .expect(2);
    assert!(wrong.stderr.contains("no use for it"), "{}", wrong.stderr);
    work.write(
        "cut.json",
        "{\"user_id\":\"auth0|1\",\"email\":\"a@example.com\",\"nickname\":\"a\"}\n{\"user_id\":",
    );
    let cut = work.run("import cut.json").expect(65);
    assert!(
        cut.stderr.contains("line 2: the text ends inside a record"),
        "{}",
        cut.stderr
    );
}
