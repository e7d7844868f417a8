//! Every file of the fixtures, rehearsed and imported: the same counts from the dry run, the
//! import, the ledger, the results and the page, and they add up to the rows of the file.

use crate::harness::{Work, fixtures};
use crate::valves::counts_agree;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many files are worked on side by side: most of the time is starting processes.
const SIDE_BY_SIDE: usize = 4;

struct Case {
    /// Below `fixtures/`.
    file: String,
    options: String,
    /// The code of the refusal.
    refused: Option<String>,
    rows: Option<u64>,
}

impl Case {
    fn new(file: &str, options: &str) -> Self {
        Self {
            file: file.to_owned(),
            options: options.to_owned(),
            refused: None,
            rows: None,
        }
    }
}

fn spreadsheets() -> Vec<Case> {
    let text = std::fs::read(fixtures().join("spreadsheets/expected.json")).unwrap();
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
    let cases = expected.iter().map(|(name, facts)| {
        let records = facts["records"].as_array();
        Case {
            file: format!("spreadsheets/{name}"),
            options: String::new(),
            refused: facts["refused"].as_str().map(str::to_owned),
            rows: records.map(|records| records.len() as u64 - 1),
        }
    });
    cases.collect()
}

fn others() -> Vec<Case> {
    let hashes = "--password-hashes auth0-hashes.ndjson";
    let parameters = "--hash-parameters firebase-parameters.txt";
    let mut cases = vec![
        Case::new("profiles/auth0.csv", ""),
        Case::new("profiles/auth0.ndjson", ""),
        Case::new("profiles/auth0.ndjson", hashes),
        Case::new("profiles/clerk.csv", ""),
        Case::new("profiles/cognito.csv", ""),
        Case::new("profiles/firebase.json", parameters),
        Case::new("profiles/firebase.json", "--hash-parameters none"),
        Case::new("profiles/okta.csv", ""),
        Case::new("profiles/staff.csv", "--profile staff.toml"),
        Case::new("bad-rows.csv", ""),
        Case::new("many-organizations.csv", ""),
        Case::new("password-hashes.csv", ""),
        Case::new("second-factors.csv", ""),
        Case::new("plain.csv", ""),
        Case::new("quoted.csv", ""),
        Case::new("users.csv", ""),
        Case::new("single-organization.csv", "--org-external-id acme"),
    ];
    for entry in std::fs::read_dir(fixtures().join("refused")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let code = name.split(['-', '.']).next().unwrap();
        cases.push(Case {
            refused: Some(code.to_owned()),
            ..Case::new(&format!("refused/{name}"), "")
        });
    }
    cases
}

fn check(case: &Case) {
    let work = Work::new();
    for companion in [
        "auth0-hashes.ndjson",
        "firebase-parameters.txt",
        "staff.toml",
    ] {
        if case.options.contains(companion) {
            work.fixture(&format!("profiles/{companion}"));
        }
    }
    let Case { file, options, .. } = case;
    let name = file.rsplit('/').next().unwrap();
    work.fixture(file);
    let [promised, real] = ["--dry-run", "--job it"].map(|how| {
        let line = format!("import {name} --json --workers 1 --chunk-size 2 {how} {options}");
        work.run(&line)
    });
    assert_eq!(promised.code, real.code, "{file}\n{promised}\n{real}");
    let (promised, summary) = (promised.json(), real.json());
    if let Some(code) = &case.refused {
        assert_eq!(real.code, Some(65), "{file}");
        assert_eq!(summary["error"]["code"], **code, "{file}");
        assert_eq!(promised["error"], summary["error"], "{file}");
        assert!(work.jobs().is_empty(), "{file}");
        return;
    }
    for group in ["rows", "memberships", "organizations", "failures"] {
        assert_eq!(promised[group], summary[group], "{file} {options} {group}");
    }
    let counts = counts_agree(&work, "it", &summary);
    if let Some(rows) = case.rows {
        assert_eq!(counts.values().sum::<u64>(), rows, "{file}");
    }
    let bad = counts["failed"] + counts["parked"] > 0;
    assert_eq!(real.code, Some(i32::from(bad)), "{file}");
}

fn check_all(cases: &[Case]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(case);
                }
            });
        }
    });
}

#[test]
fn a_rehearsal_an_import_and_every_report_agree_on_every_spreadsheet() {
    let cases = spreadsheets();
    assert!(cases.len() > 70, "{}", cases.len());
    check_all(&cases);
}

#[test]
fn a_rehearsal_an_import_and_every_report_agree_on_every_other_fixture() {
    check_all(&others());
}
