//! Rows that belong together, and workers that meet the same thing at once.

use crate::harness::Work;
use crate::judge::{World, people, text};
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[test]
fn rows_of_one_person_far_apart_get_both_memberships_and_one_user() {
    let work = Work::new();
    let server = work.sandbox("");
    let mut csv = people(400, |n| format!("org-{}", n % 3));
    csv += "P1@Example.com,P1,x-1,last\n";
    work.write("users.csv", csv);
    work.run(&format!(
        "import users.csv --create-orgs --workers 4 --chunk-size 10 {}",
        server.target()
    ))
    .expect(0);
    let world = server.world();
    assert_eq!(world, World::of_csv(&work.path("users.csv"), None));
    let mine = |one: &&(String, String, _, _)| one.0 == "p1@example.com";
    assert_eq!(world.memberships.iter().filter(mine).count(), 2);
    let last = work.results().pop().unwrap();
    assert_eq!((&*last["row"], &*last["state"]), ("401", "merged"));
}

#[test]
fn a_leader_with_bad_data_hands_over_to_the_next_row() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,email_verified,external_id,org_external_id\n\
         ann@example.com,maybe,a-1,acme\n\
         bob@example.com,yes,b-1,acme\n\
         ANN@example.com,yes,a-1,beta\n\
         ann@example.com,no,a-1,gamma\n",
    );
    work.run(&format!(
        "import users.csv --create-orgs --workers 2 --chunk-size 1 {}",
        server.target()
    ))
    .expect(1);
    let states: Vec<String> = work
        .results()
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert_eq!(states, ["failed", "created", "created", "merged"]);
    let world = server.world();
    assert_eq!(world.users.len(), 2);
    let joined: Vec<_> = world
        .memberships
        .iter()
        .map(|one| (&*one.0, &*one.1))
        .collect();
    assert_eq!(
        joined,
        [
            ("ann@example.com", "beta"),
            ("ann@example.com", "gamma"),
            ("bob@example.com", "acme")
        ]
    );
}

#[test]
fn a_follower_of_an_address_that_is_refused_keeps_its_own_reason() {
    let work = Work::new();
    let server = work.sandbox("");
    // Two people with one external id: the lowest keeps it, in any order of sending.
    work.write(
        "users.csv",
        "email,external_id\nann@example.com,same\nbob@example.com,same\nann@example.com,same\n",
    );
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1);
    let told: Vec<_> = work
        .results()
        .iter()
        .map(|row| (row["state"].clone(), row["error_code"].clone()))
        .collect();
    let told: Vec<_> = told.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(
        told,
        [
            ("created", ""),
            ("failed", "external_id_conflict_in_file"),
            ("merged", "")
        ]
    );
    assert_eq!(server.world().users.len(), 1);
    assert_eq!(server.count("create_user"), 1);
}

#[test]
fn the_report_is_the_same_with_one_two_and_eight_workers() {
    let work = Work::new();
    work.run("generate --rows 500 --orgs 7 --multi-org 10% --duplicates 5% --bad 4% --seed 3 --out users.csv")
        .expect(0);
    let reports = [1, 2, 8].map(|workers| {
        let work = work_with(&work);
        let server = work.sandbox("");
        work.run(&format!(
            "import users.csv --create-orgs --chunk-size 9 --workers {workers} {}",
            server.target()
        ))
        .expect(1);
        let mut rows = work.results();
        for row in &mut rows {
            for id in ["user_id", "org_id", "membership_id", "request_id"] {
                row.remove(id);
            }
        }
        (rows, server.world())
    });
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
}

/// Another folder with the same `users.csv`.
fn work_with(other: &Work) -> Work {
    let work = Work::new();
    std::fs::copy(other.path("users.csv"), work.path("users.csv")).unwrap();
    work
}

#[test]
fn every_organization_is_looked_up_once_and_created_once_however_small_the_caches() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", people(480, |n| format!("org-{}", n % 40)));
    let done = work
        .run(&format!(
            "import users.csv --create-orgs --workers 8 --chunk-size 6 --org-cache 5 --json {}",
            server.target()
        ))
        .expect(0);
    let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
    for request in server.history() {
        let op = text(&request["op"]);
        if op.contains("organization") && !op.contains("membership") {
            let about = (op, text(&request["external_id"]) + &text(&request["path"]));
            *seen.entry(about).or_default() += 1;
        }
    }
    assert_eq!(
        seen.len(),
        80,
        "a look-up and a create for each of 40: {seen:?}"
    );
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    let cache = &done.json()["org_cache"];
    for part in ["hits", "misses", "merged", "evicted"] {
        assert!(cache[part].as_u64().unwrap() > 0, "{part}: {cache}");
    }
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_hundred_rows_of_one_new_organization_over_eight_workers_make_one() {
    let work = Work::new();
    let server = work.sandbox("--latency 3ms");
    work.write("users.csv", people(100, |_| "acme".to_owned()));
    work.run(&format!(
        "import users.csv --create-orgs --workers 8 --chunk-size 5 {}",
        server.target()
    ))
    .expect(0);
    assert_eq!(server.count("create_organization"), 1);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn the_lowest_row_names_a_new_organization() {
    let work = Work::new();
    let server = work.sandbox("");
    let mut csv = String::from("email,org_external_id,org_name\n");
    for n in 1..=60 {
        let name = match n {
            ..30 => "",
            30 => "First Name",
            31.. => "Later",
        };
        writeln!(csv, "p{n}@example.com,acme,{name}").unwrap();
    }
    work.write("users.csv", csv);
    work.run(&format!(
        "import users.csv --create-orgs --workers 4 --chunk-size 5 {}",
        server.target()
    ))
    .expect(0);
    let named = [("acme".to_owned(), "First Name".to_owned())];
    assert_eq!(server.world().organizations, named);
}

#[test]
fn organizations_known_by_name_are_found_or_made_once_or_refused_with_their_ids() {
    let work = Work::new();
    let server = work.sandbox("");
    let make = |name: &str| {
        let body = serde_json::json!({"name": name});
        text(&server.make("/organizations", &body)["id"])
    };
    let known = make("Known Ltd");
    let [twin, other] = [make("Twins"), make("Twins")];
    make("New Co Holding");
    let mut csv = String::from("email,first_name,org_name\n");
    for n in 0..40 {
        let org = ["Known Ltd", "Twins", " New Co ", "New Co"][n % 4];
        writeln!(csv, "n{n}@example.com,N{n},{org}").unwrap();
    }
    csv += "alone@example.com,Alone,\n";
    work.write("users.csv", &csv);
    let line = format!(
        "import users.csv --create-orgs --workers 3 --chunk-size 5 {}",
        server.target()
    );
    work.run(&format!("{line} --fresh --job plain"))
        .expect(1)
        .says(&["40 rows failed"]);
    let line = format!("{line} --orgs-by-name --job named");
    let summary = work.run(&format!("{line} --json")).expect(1).json();
    assert_eq!(summary["rows"]["failed"], 10, "{summary}");
    assert_eq!(summary["organizations"]["created"], 1);
    assert_eq!(summary["organizations"]["found"], 1);
    let results = work.results();
    for (n, row) in results.iter().enumerate().take(40) {
        match n % 4 {
            0 => assert_eq!(row["org_id"], known),
            1 => {
                assert_eq!(row["error_code"], "organization_ambiguous");
                for id in [&twin, &other] {
                    assert!(row["error_message"].contains(id.as_str()), "{row:?}");
                }
            }
            _ => assert_eq!(row["org_id"], results[2]["org_id"]),
        }
    }
    let dump = server.dump();
    let orgs = dump["organizations"].as_array().unwrap();
    let mut made = orgs.iter().filter(|org| org["name"] == "New Co");
    let external_id = text(&made.next().unwrap()["external_id"]);
    assert!(external_id.starts_with("name-new-co-"), "{external_id}");
    assert!(made.next().is_none());
    // It is part of what the job is.
    let other = work.run("resume plain --orgs-by-name");
    other.expect(2).says(&["--orgs-by-name"]);
}
