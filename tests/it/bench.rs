//! `bench` with a handful of rows: every part of a suite runs, and what it says is kept, drawn and
//! compared. Speeds are nobody's business here.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Small enough for any machine, and still through every section.
const TINY: &str = "--rows 40 --runs 1 --workers 1,2 --latency 2ms --rate 2000/1s --quiet";

fn bench(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_userferry"))
        .arg("bench")
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}{}",
        output.status,
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn measures(report: &Value) -> Vec<&Value> {
    let sections = report["suites"][0]["sections"].as_array().unwrap();
    let all = sections
        .iter()
        .flat_map(|section| section["measures"].as_array().unwrap());
    all.collect()
}

/// Gives what is better when higher one value, and all else the other.
fn set_measures(report: &mut Value, higher: f64, lower: f64) {
    for section in report["suites"][0]["sections"].as_array_mut().unwrap() {
        for measure in section["measures"].as_array_mut().unwrap() {
            let is_better_higher = measure["better"] == "higher";
            let value = if is_better_higher { higher } else { lower };
            measure["values"] = serde_json::json!([value]);
        }
    }
}

#[test]
fn a_sweep_of_workers_is_told_kept_drawn_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let line = format!("workers {TINY} --json a.json --html a.html");
    let output = bench(folder.path(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "workers · 2000/1s with answers after 2ms",
        "workers · dry run",
        "workers · processes and threads",
        "repeated/95%",
        "start/handshake",
        "advice: ",
        "warning: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    let mut report = json(&at("a.json"));
    let names: Vec<&str> = measures(&report)
        .iter()
        .map(|measure| measure["name"].as_str().unwrap())
        .collect();
    for name in ["dry/1", "dry/2", "limited/2/rate-used", "isolation/1"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    // The server refused nothing that was sent at the limit.
    let throttled = |m: &&&Value| m["name"] == "limited/2/throttled";
    let throttled = measures(&report).iter().find(throttled).unwrap()["values"][0].clone();
    assert_eq!(throttled.as_f64(), Some(0.0));

    let html = std::fs::read_to_string(at("a.html")).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    assert!(html.matches("<svg").count() >= 4);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert!(!html.contains("NaN") && !html.contains("<script"));

    // Held against the slowest there could be nothing is worse; against the impossible, speed is.
    // Never against a true run: what forty rows take is anybody's guess.
    set_measures(&mut report, 1e-9, 1e15);
    std::fs::write(at("a.json"), report.to_string()).unwrap();
    let line = format!("workers {TINY} --baseline a.json --threshold 50%");
    let output = bench(folder.path(), &line);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    set_measures(&mut report, 1e12, 1e15);
    std::fs::write(at("b.json"), report.to_string()).unwrap();
    let line = format!("workers {TINY} --baseline b.json --threshold 50% --html b.html");
    let output = bench(folder.path(), &line);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("-100 %  worse"), "{}", told(&output));
    let html = std::fs::read_to_string(at("b.html")).unwrap();
    assert!(html.contains("Compared with before"));
}

#[test]
fn an_import_stands_beside_a_bare_client() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(
        folder.path(),
        "http --rows 40 --runs 1 --json h.json --folder .",
    );
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let report = json(&folder.path().join("h.json"));
    for name in ["import/1", "bare/2", "ratio/2", "ratio/best"] {
        let found = measures(&report)
            .into_iter()
            .find(|measure| measure["name"] == name);
        let value = found.unwrap()["values"][0].as_f64().unwrap();
        assert!(value > 0.0, "{name}");
    }
    assert!(told(&output).contains("http: 2 workers and 2 bare clients"));
    // Nothing is left of what was written meanwhile.
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["h.json"]);
}

#[test]
fn what_cannot_be_measured_or_compared_is_refused_before_measuring() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.json"), "{}").unwrap();
    for (line, code, words) in [
        ("worker", 2, "'workers'"),
        ("http --json a --html ./a", 2, "are one file"),
        ("http --workers 1", 2, "belongs to `bench workers`"),
        ("http --threshold 5%", 2, "--baseline"),
        ("http --baseline x.json", 65, "bench --json"),
        ("http --baseline missing.json", 74, "cannot be read"),
        ("http --json no/such/folder/a.json", 74, "No such file"),
    ] {
        let output = bench(folder.path(), line);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        assert!(told(&output).contains(words), "{line}: {}", told(&output));
    }
}
