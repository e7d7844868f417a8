//! The suites of the parts with a handful of rows: every one runs through the real program, adds up
//! and leaves nothing behind. Speeds are nobody's business here.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn userferry(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_userferry"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Runs a suite; returns what it measured, by name, each with its first value.
fn measured(suite: &str) -> Vec<(String, f64)> {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("bench {suite} --rows 40 --runs 1 --json a.json --html a.html --folder .");
    let output = userferry(folder.path(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    let wide: Vec<&str> = shown
        .lines()
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(wide.is_empty(), "{suite}: {wide:?}");
    assert!(shown.contains("advice: "), "{shown}");
    let left: BTreeSet<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, BTreeSet::from(["a.html".into(), "a.json".into()]));
    let bytes = std::fs::read(folder.path().join("a.json")).unwrap();
    let report: Value = serde_json::from_slice(&bytes).unwrap();
    let sections = report["suites"][0]["sections"].as_array().unwrap();
    let all = sections
        .iter()
        .flat_map(|section| section["measures"].as_array().unwrap());
    let all: Vec<(String, f64)> = all
        .map(|measure| {
            let name = measure["name"].as_str().unwrap().to_owned();
            (name, measure["values"][0].as_f64().unwrap())
        })
        .collect();
    let names: BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), all.len(), "{suite}: every name once");
    all
}

fn value(measured: &[(String, f64)], name: &str) -> f64 {
    let found = measured.iter().find(|(other, _)| other == name);
    found.unwrap_or_else(|| panic!("{name} of {measured:?}")).1
}

#[test]
fn messages_go_to_a_child_process_and_come_back() {
    let pipe = measured("pipe");
    for name in [
        "trip/100",
        "trip/100000",
        "stream/1000",
        "batch/512/rows",
        "batch/1/bytes",
    ] {
        assert!(value(&pipe, name) > 0.0, "{name}");
    }
    // A frame's head and sequence are shared by its rows.
    assert!(value(&pipe, "batch/64/bytes") < value(&pipe, "batch/1/bytes"));
}

#[test]
fn a_ledger_under_measurement_gives_nothing_twice_and_is_never_busy() {
    let ledger = measured("ledger");
    for name in [
        "lease/40",
        "settle/40",
        "fail/40",
        "status/40",
        "load/40",
        "lock/refused",
    ] {
        assert!(value(&ledger, name) > 0.0, "{name}");
    }
    for name in ["askers/20/conflicts", "readers/100/busy"] {
        assert!(value(&ledger, name).abs() < f64::EPSILON, "{name}");
    }
    assert!((value(&ledger, "readers/100/answered") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn events_and_index_are_measured() {
    let events = measured("events");
    assert!(value(&events, "queued/500") > 0.0 && value(&events, "direct") > 0.0);
    assert!(value(&events, "overflow/block/dropped").abs() < f64::EPSILON);
    let index = measured("index");
    for name in [
        "people/index",
        "organizations/index/rows",
        "people/hash",
        "people/check",
    ] {
        assert!(value(&index, name) > 0.0, "{name}");
    }
}

#[test]
fn the_child_that_echoes_is_not_reached_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let output = userferry(folder.path(), "echo-loop");
    assert_eq!(output.status.code(), Some(70), "{}", text(&output));
    assert!(text(&output).contains("no pipes"), "{}", text(&output));
    assert!(!text(&userferry(folder.path(), "--help")).contains("echo-loop"));
}
