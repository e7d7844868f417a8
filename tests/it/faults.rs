//! A target that answers badly: rows are looked up and sent again, never failed for it.

use crate::harness::{Work, seed};
use crate::judge::{World, people, plain};
use serde_json::Value;

/// Imports 200 people in 6 organizations into a server with these faults; all must be well.
fn through(faults: &str, options: &str) -> Value {
    let work = Work::new();
    let server = work.sandbox(&format!("--faults {faults} --seed {}", 7 + seed()));
    work.write("users.csv", people(200, |n| format!("org-{}", n % 6)));
    let line = format!(
        "import users.csv --create-orgs --json --workers 2 --chunk-size 20 {options} {}",
        server.target()
    );
    let summary = work.run(&line).expect(0).json();
    for state in ["failed", "parked", "linked", "skipped", "pending"] {
        assert_eq!(summary["rows"][state], 0, "{faults}: {summary}");
    }
    assert_eq!(
        server.world(),
        World::of_csv(&work.path("users.csv"), None),
        "{faults}"
    );
    let stats = server.stats();
    for fault in faults.split(',') {
        let name = fault.split('=').next().unwrap();
        let count = stats["by_fault"][name].as_u64().unwrap_or_default();
        assert!(count > 0, "no {name} happened: {stats}");
    }
    assert_eq!(
        summary["requests"]["throttled"],
        stats["by_status"].get("429").cloned().unwrap_or(0.into())
    );
    summary
}

#[test]
fn lost_answers_are_looked_up() {
    let summary = through("drop-after=4%", "--time-scale 0.05");
    assert!(
        summary["rows"]["recovered"].as_u64().unwrap() > 0,
        "{summary}"
    );
    assert!(summary["requests"]["ambiguous"].as_u64().unwrap() > 0);
    assert!(summary["requests"]["reads"].as_u64().unwrap() > 6);
}

#[test]
fn server_errors_before_and_after_the_write_are_told_apart() {
    let summary = through("500=4%,500-after=4%", "--time-scale 0.05");
    assert!(
        summary["rows"]["recovered"].as_u64().unwrap() > 0,
        "{summary}"
    );
}

#[test]
fn cut_answers_are_looked_up() {
    through("malformed=5%", "--time-scale 0.05");
}

#[test]
fn requests_that_are_never_answered_are_looked_up() {
    through("hang=2%", "--time-scale 0.05");
}

#[test]
fn throttling_costs_nothing_but_time() {
    let summary = through("429=5%", "");
    assert_eq!(summary["requests"]["ambiguous"], 0, "{summary}");
    assert_eq!(summary["rows"]["created"], 200, "{summary}");
}

#[test]
fn everything_at_once_is_survived() {
    through(
        "drop-after=2%,drop-before=2%,500=2%,500-after=1%,429=3%,malformed=1%",
        "--time-scale 0.05",
    );
}

#[test]
fn a_pause_that_one_worker_hears_of_holds_for_all() {
    let work = Work::new();
    let server = work.sandbox("--rate 40/1s --latency 2ms");
    work.write("users.csv", plain(90));
    // Twice as fast as the server allows.
    work.run(&format!(
        "import users.csv --workers 4 --chunk-size 5 {}",
        server.paced(80)
    ))
    .expect(0);
    let history = server.history();
    let at = |request: &Value, name: &str| request[name].as_i64().unwrap();
    let mut pauses = 0;
    for refused in history.iter().filter(|request| request["status"] == 429) {
        pauses += 1;
        // On its way when the answer came, or with a slot given just before: 100 ms are enough for
        // that, if the machine does nothing else.
        let from = at(refused, "answered_ms") + 300;
        let until = at(refused, "answered_ms") + 1000 * at(refused, "retry_after");
        let inside: Vec<_> = history
            .iter()
            .filter(|request| (from..until).contains(&at(request, "received_ms")))
            .collect();
        assert!(inside.is_empty(), "{inside:#?} in the pause of {refused:#}");
    }
    assert!(pauses > 0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_declared_rate_is_never_exceeded_in_any_window() {
    let work = Work::new();
    // A window of 10 s as the real ones are. The server allows a few more: where it and the
    // importer share a busy machine, the first of a window may reach it late and the next in time.
    let server = work.sandbox("--rate 66/10s");
    work.write("users.csv", plain(64));
    let line = format!(
        "import users.csv --json --workers 4 --chunk-size 5 --rate 60/10s {}",
        server.destination()
    );
    let summary = work.run(&line).expect(0).json();
    assert_eq!(summary["requests"]["throttled"], 0, "{summary}");
    let peak = server.stats()["largest_windows"]["writes"]["10s"].as_u64();
    assert!((55..=62).contains(&peak.unwrap()), "{peak:?}");
    assert_eq!(summary["rate"]["writes_per_s"], 6.0);
}
