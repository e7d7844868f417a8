//! `check`: every problem of a file, and a copy that means the same.

use crate::harness::{Work, fixtures};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Row and rule of every error in the list that `check --out` wrote.
fn errors(work: &Work, list: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(work.path(list)).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let records = reader.deserialize::<BTreeMap<String, String>>();
    records
        .map(Result::unwrap)
        .filter(|record| record["severity"] == "error")
        .map(|record| (record["row"].clone(), record["rule"].clone()))
        .collect()
}

#[test]
fn a_check_tells_what_an_import_will_fail() {
    let work = Work::new();
    work.fixture("bad-rows.csv");
    let checked = work
        .run("check bad-rows.csv --json --out problems.csv")
        .expect(1)
        .json();
    let text = std::fs::read_to_string(fixtures().join("bad-rows.expected.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let expected: Vec<(String, String)> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(errors(&work, "problems.csv"), expected);
    assert_eq!(checked["rows"], 33);
    assert_eq!(checked["would_fail"], expected.len());
    assert_eq!(checked["errors"], expected.len());
    let shown = work.run("check bad-rows.csv").expect(1);
    assert!(
        shown.stdout.contains("error[email_invalid] 1 time"),
        "{shown}"
    );
    assert!(shown.stderr.contains("28 would fail"), "{shown}");
    for secret in [
        "correct horse",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$2a$10$N9",
    ] {
        assert!(!shown.stdout.contains(secret), "{shown}");
    }
    assert!(work.jobs().is_empty());
}

#[test]
fn a_good_file_has_nothing_to_say_and_a_refused_one_says_why() {
    let work = Work::new();
    work.fixture("users.csv")
        .fixture("refused/quote_unclosed.csv");
    let done = work.run("check users.csv").expect(0);
    assert_eq!(done.stdout, "");
    assert!(
        done.stderr.contains("300 rows checked, none would fail"),
        "{done}"
    );
    let refused = work
        .run("check quote_unclosed.csv --json")
        .expect(65)
        .json();
    assert_eq!(refused["error"]["code"], "quote_unclosed");
    work.run("check users.csv --org-external-id acme").expect(2);
}

#[test]
fn it_says_how_it_read_the_file() {
    let work = Work::new();
    work.fixture("spreadsheets/excel-windows-semicolon.csv")
        .fixture("users.csv");
    let words = [
        "note: reading excel-windows-semicolon.csv as windows-1252, cells separated by semicolons",
        "wants --encoding windows-1252",
    ];
    let done = work.run("check excel-windows-semicolon.csv");
    let done = done.says(&words);
    assert_eq!(done.stderr.matches("note: reading").count(), 1);
    let line = "check excel-windows-semicolon.csv --encoding windows-1252 --json";
    let notes = work.run(line).json()["notes"].to_string();
    assert!(notes.contains("cells separated by semicolons"), "{notes}");
    assert!(!notes.contains("wants --encoding"), "{notes}");
    let plain = work.run("check users.csv").expect(0);
    assert!(!plain.stderr.contains("reading"), "{plain}");
}

#[test]
fn a_line_of_blanks_is_no_row_and_a_cleared_row_is_one() {
    let work = Work::new();
    let header = " \n\nemail,first_name\r\n";
    work.write(
        "blank.csv",
        format!("{header}a@x.example,A\r\n   \r\n\t\r\n , \r\n  \nb@x.example,B\n   "),
    );
    let checked = work
        .run("check blank.csv --json --out list.csv")
        .expect(1)
        .json();
    assert_eq!(checked["rows"], 3);
    assert_eq!(checked["would_fail"], 1);
    assert_eq!(
        errors(&work, "list.csv"),
        [("2".to_owned(), "email_missing".to_owned())]
    );
    let example = &checked["problems"][0]["examples"][0];
    assert_eq!(example["line"], 7);
    assert!(
        example["message"]
            .as_str()
            .unwrap()
            .starts_with("every cell"),
        "{example}"
    );
    work.run("import blank.csv --job it --chunk-size 1")
        .expect(1);
    assert_eq!(
        work.run("rejects").expect(0).stdout,
        format!("{header} , \r\n")
    );
    let results = work.results();
    assert_eq!(results[2]["line"], "9");
    work.run("check blank.csv --fix fixed.csv").expect(1);
    let fixed = std::fs::read_to_string(work.path("fixed.csv")).unwrap();
    assert_eq!(
        fixed,
        format!("{header}a@x.example,A\r\n   \r\n\t\r\n,\r\n  \nb@x.example,B\n   ")
    );
}

#[test]
fn a_record_with_too_few_cells_is_not_told_of_commas() {
    let work = Work::new();
    work.write("short.csv", "email,first_name\na@x.example\n");
    work.write("long.csv", "email,first_name\na@x.example,A,b\n");
    let short = work.run("check short.csv").expect(65);
    let short = short.says(&["found 1 field where the header has 2", "cells are missing"]);
    assert!(!short.stderr.contains("comma"), "{short}");
    work.run("check long.csv")
        .expect(65)
        .says(&["found 3 fields", "must stand in quotes"]);
}

#[test]
fn options_that_decide_which_rows_fail_are_heeded() {
    let work = Work::new();
    work.fixture("plain.csv").fixture("single-organization.csv");
    let all = work
        .run("check plain.csv --require-membership --json")
        .expect(1)
        .json();
    assert_eq!(all["would_fail"], 40);
    work.run("check single-organization.csv").expect(1);
    work.run("check single-organization.csv --org-external-id acme --require-membership")
        .expect(0);
}

#[test]
fn a_repaired_copy_imports_as_the_file_would() {
    let work = Work::new();
    work.write(
        "messy.csv",
        "\u{feff}E-Mail,Email Verified,First Name,password,note\r\n\
         \" a@x.example \",YES, Ann , secret , keep \r\n\
         nobody,on,,,\r\n\
         b@x.example,n,\"B, \",,\r\n",
    );
    let fixed = work
        .run("check messy.csv --fix good.csv --json")
        .expect(1)
        .json();
    assert_eq!(
        std::fs::read_to_string(work.path("good.csv")).unwrap(),
        "email,email_verified,first_name,password,note\r\n\
         \"a@x.example\",true,Ann, secret , keep \r\n\
         nobody,on,,,\r\n\
         b@x.example,false,\"B,\",,\r\n"
    );
    assert_eq!(fixed["fixed"], 9);
    assert_eq!(fixed["would_fail"], 1);
    let told = work.run("check messy.csv --fix again.csv --org-external-id acme");
    let told = told.expect(1).says(&[
        "again.csv written: 9 repairs, in 2 of 3 rows",
        "`userferry import again.csv --org-external-id acme`",
    ]);
    for change in [
        "email_verified \"YES\" → \"true\"",
        "email \"E-Mail\" → \"email\"",
    ] {
        assert!(told.stdout.contains(change), "{told}");
    }
    assert!(!told.stdout.contains("secret"), "{told}");
    work.run("check messy.csv --fix good.csv")
        .expect(2)
        .says(&["it is there already"]);
    work.run("check messy.csv --fix messy.csv").expect(2);
    let count = |name: &str| -> Value {
        let done = work.run(&format!("import {name} --json --dry-run"));
        done.expect(1).json()["rows"].clone()
    };
    assert_eq!(count("messy.csv"), count("good.csv"));
}

#[test]
fn a_repaired_copy_needs_neither_map_nor_encoding() {
    let work = Work::new();
    work.write(
        "odd.csv",
        b"Work Mail;email;Vorname\na@x.example;old@x.example;J\xfcrgen\n",
    );
    let maps = "--map WorkMail=email --map Vorname=first_name";
    let fixed = work
        .run(&format!("check odd.csv --fix good.csv --json {maps}"))
        .expect(0)
        .json();
    assert_eq!(
        std::fs::read_to_string(work.path("good.csv")).unwrap(),
        "email;unused_email;first_name\na@x.example;old@x.example;J\u{fc}rgen\n"
    );
    assert_eq!(fixed["fixed"], 4);
    let is_rewritten = |group: &&Value| group["rule"] == "encoding_utf8";
    let problems = fixed["problems"].as_array().unwrap();
    let group = problems.iter().find(is_rewritten).unwrap();
    assert_eq!(
        group["examples"][0]["message"],
        "the text is written as UTF-8; it was windows-1252"
    );
    work.run("check good.csv").expect(0);
}

#[test]
fn a_plan_says_how_long_it_takes_and_what_to_do_next() {
    let work = Work::new();
    work.fixture("bad-rows.csv").fixture("users.csv");
    let line = "import users.csv --dry-run --target workos --create-orgs";
    let done = work.run(line).expect(0);
    // 606 writes at 49.5 a second.
    let next = "userferry import users.csv --target workos --create-orgs\n";
    let words = [
        "dry run → workos: completed",
        "300 users · 300 memberships · 6 organizations",
        "at least 12.2s",
        next,
    ];
    let done = done.says(&words);
    assert_eq!(done.stdout, "");
    let elsewhere = format!("{line} --base-url http://127.0.0.1:4100");
    let words = ["dry run → workos at http://127.0.0.1:4100: completed"];
    work.run(&elsewhere).expect(0).says(&words);
    let plan = work
        .run("import bad-rows.csv --dry-run --json")
        .expect(1)
        .json();
    let problems = plan["plan"]["problems"].as_array().unwrap().clone();
    assert_eq!(problems.len(), 28);
    assert_eq!(plan["failures"].as_object().unwrap().len(), 28);
    let told = work.run("import bad-rows.csv --dry-run").expect(1);
    for code in ["email_invalid", "external_id_conflict_in_file"] {
        assert_eq!(told.stderr.matches(code).count(), 1, "{told}");
    }
    assert!(
        problems
            .iter()
            .all(|group| group["examples"][0]["value"].is_null())
    );
    assert!(work.jobs().is_empty());
}

/// The workers of a dry run say of which rows there is something to tell, and no other row is looked
/// at again: nothing may be missed by that, whoever has which chunk.
#[test]
fn a_plan_tells_the_problems_that_a_check_tells() {
    let work = Work::new();
    let shape = "--orgs 5 --bad 9% --duplicates 8% --multi-org 8%";
    work.run(&format!(
        "generate --rows 900 --seed 7 {shape} --out users.csv"
    ))
    .expect(0);
    let mut text = std::fs::read_to_string(work.path("users.csv")).unwrap();
    let header = text.lines().next().unwrap().to_owned();
    let columns: Vec<&str> = header.split(',').collect();
    for (row, name) in ["Acme", "acme", "Acme  Inc", "Acme"].iter().enumerate() {
        let cell = |column: &&str| match *column {
            "email" => format!("named{row}@x.example"),
            "org_external_id" => "named".to_owned(),
            "org_name" => (*name).to_owned(),
            _ => String::new(),
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        writeln!(text, "{}", cells.join(",")).unwrap();
    }
    work.write("users.csv", &text);
    let without_cells = |mut problems: Value| {
        for group in problems.as_array_mut().unwrap() {
            for example in group["examples"].as_array_mut().unwrap() {
                // A plan may be kept, and a cell is somebody's.
                example.as_object_mut().unwrap().remove("value");
            }
        }
        problems
    };
    let checked = work.run("check users.csv --json").expect(1).json();
    let checked = without_cells(checked["problems"].clone());
    assert!(checked.as_array().unwrap().len() > 10, "{checked}");
    assert!(checked.to_string().contains("org_name_conflict"));
    for how in [
        "--workers 1",
        "--workers 3 --chunk-size 7",
        "--limit 40",
        "--max-failures 5",
    ] {
        let line = format!("import users.csv --dry-run --json {how}");
        let done = work.run(&line);
        assert_eq!(done.json()["plan"]["problems"], checked, "{how}: {done}");
    }
}

#[test]
fn a_plan_of_the_first_rows_is_a_plan() {
    let work = Work::new();
    work.fixture("users.csv");
    let line = "import users.csv --dry-run --limit 10 --target workos --create-orgs";
    work.run(line).expect(0).says(&[
        "completed",
        "the first 10 of the rows",
        "10 users · 10 memberships",
        "userferry import users.csv --limit 10 --target workos --create-orgs\n",
    ]);
    let summary = work.run(&format!("{line} --json")).expect(0).json();
    assert_eq!(summary["state"], "completed");
    assert_eq!(summary["plan"]["first_rows"], 10);
    assert_eq!(summary["rows"]["created"], 10);
    work.write("bad.csv", "email\nnobody\na@example.com\nb@example.com\n");
    let bad = work
        .run("import bad.csv --dry-run --limit 2 --json")
        .expect(1);
    assert_eq!(bad.json()["plan"]["makes"]["users"], 1);
    // A limit beyond the end is none.
    let whole = work
        .run("import bad.csv --dry-run --limit 9 --json")
        .expect(1);
    assert!(whole.json()["plan"]["first_rows"].is_null());
}

#[test]
fn organizations_of_a_target_that_is_not_asked_are_taken_for_there() {
    let work = Work::new();
    let csv = "email,org_external_id\na@example.com,acme\nb@example.com,beta\nc@example.com,acme\n";
    work.write("users.csv", csv);
    let line = "import users.csv --dry-run --target workos";
    work.run(line).expect(0).says(&[
        "2 organizations not looked up, taken for there: --check-target looks",
        "3 users · 3 memberships · 0 organizations",
    ]);
    let making = work.run(&format!("{line} --create-orgs --json")).expect(0);
    assert_eq!(making.json()["plan"]["organizations_assumed"], 0);
    // The built-in sandbox is empty, and an import into it makes them unasked.
    let dry = work
        .run("import users.csv --dry-run --json")
        .expect(0)
        .json();
    assert_eq!(dry["plan"]["makes"]["organizations"], 2);
    assert_eq!(dry["plan"]["organizations_assumed"], 0);
}

#[test]
fn every_row_with_another_number_of_fields_is_listed_in_one_run() {
    let work = Work::new();
    let mut csv = "email,first_name,last_name\n".to_owned();
    for n in 1..=60 {
        let tail = match n {
            _ if n % 2 == 0 => ",Ann,Lee",
            7 => ",Ann,Lee,More",
            _ => ",Ann",
        };
        writeln!(csv, "row{n}@example.com{tail}").unwrap();
    }
    work.write("users.csv", &csv);
    let done = work.run("check users.csv --json").expect(65).json();
    assert_eq!(done["error"]["code"], "field_count");
    assert_eq!(
        (&done["error"]["row"], &done["error"]["line"]),
        (&json!(1), &json!(2))
    );
    let group = &done["problems"][0];
    assert_eq!(
        (&group["rule"], &group["count"]),
        (&json!("field_count"), &json!(30))
    );
    let lines = group["examples"].as_array().unwrap();
    let rows: Vec<u64> = lines
        .iter()
        .map(|line| line["row"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, (1..40).step_by(2).collect::<Vec<u64>>());
    let seventh = lines[3]["message"].as_str().unwrap();
    assert!(
        seventh.starts_with("found 4 fields where the header has 3:"),
        "{seventh}"
    );

    let done = work.run("check users.csv --out problems.csv").expect(65);
    let told = &done.stdout;
    assert!(told.contains("error[field_count] 30 times"), "{told}");
    assert!(told.contains("  row 7, line 8: found 4 fields"), "{told}");
    assert!(told.contains("  and 10 more"), "{told}");
    let list = std::fs::read_to_string(work.path("problems.csv")).unwrap();
    assert_eq!(list.lines().count(), 1 + 20);

    // One that is converted first is held to the same.
    let mut export = "user_id,email,given_name,family_name\n".to_owned();
    for row in csv.lines().skip(1) {
        writeln!(export, "auth0|1,{row}").unwrap();
    }
    work.write("export.csv", export);
    work.write("hashes.ndjson", "");
    let line = "check export.csv --profile auth0 --password-hashes hashes.ndjson";
    let done = work.run(line).expect(65);
    let told = &done.stdout;
    assert!(told.contains("error[field_count] 30 times"), "{told}");
    assert!(told.contains("  row 7, line 8: found 5 fields"), "{told}");
    assert!(told.contains("  and 10 more"), "{told}");

    // An import names the first, and where to see the others; there is no job.
    work.run("import users.csv").expect(65).says(&[
        "row 1, line 2",
        "30 rows are like that",
        "userferry check",
    ]);
    assert!(work.jobs().is_empty());
}
