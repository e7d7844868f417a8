//! A machine that sleeps, a terminal that goes away: the run goes on as if nothing had been.

use crate::harness::{Running, Server, Work, signal_to, until};
use crate::judge::{World, plain};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An import at 100 writes a second, under way.
fn begun(server_options: &str, options: &str) -> (Work, Server, Running) {
    let work = Work::new();
    let server = work.sandbox(server_options);
    work.write("users.csv", plain(200));
    let running = work.start(&format!(
        "import users.csv --json --workers 2 --chunk-size 20 --events events.jsonl {options} {}",
        server.paced(100)
    ));
    server.has_applied(40);
    (work, server, running)
}

/// Waits until nothing was received for as long as several windows of the limit.
fn stands_still(server: &Server) {
    let mut last = (server.received(), Instant::now());
    until("nothing is sent", || {
        let received = server.received();
        if received != last.0 {
            last = (received, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(2_500)).then_some(())
    });
}

/// Nobody made up for the time that was lost, and everybody is there.
fn no_burst(work: &Work, server: &Server, running: Running) -> Value {
    let summary = running.wait().expect(0).json();
    for state in ["failed", "parked", "linked", "pending"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    // Whoever made up for the time that was lost would send three times the limit; a few more than
    // the limit are a busy machine that delivers late.
    let peak = &server.stats()["largest_windows"]["writes"]["1s"];
    assert!(peak.as_u64().unwrap() <= 120, "{peak} writes in a second");
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    summary
}

#[test]
fn a_coordinator_that_is_stopped_and_continued_bursts_not_and_kills_nobody() {
    let (work, server, running) = begun("", "");
    running.signal(Signal::STOP);
    stands_still(&server);
    running.signal(Signal::CONT);
    let summary = no_burst(&work, &server, running);
    assert_eq!(summary["workers"]["restarts"], 0, "{summary}");
    assert_eq!(summary["requests"]["ambiguous"], 0, "{summary}");
}

/// What a closed lid does to the processes: all stop, connections go stale, deadlines pass.
#[test]
fn a_machine_that_sleeps_bursts_not_and_what_was_under_way_is_looked_up() {
    let (work, server, running) = begun("--latency 200ms", "--time-scale 0.05");
    let text = std::fs::read_to_string(work.path("events.jsonl")).unwrap();
    let workers: Vec<u32> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event"] == "worker_ready")
        .map(|event| u32::try_from(event["pid"].as_u64().unwrap()).unwrap())
        .collect();
    assert_eq!(workers.len(), 2);
    let all = |signal| {
        running.signal(signal);
        for pid in &workers {
            signal_to(*pid, signal);
        }
    };
    all(Signal::STOP);
    // Longer than a request may take at this time scale.
    stands_still(&server);
    all(Signal::CONT);
    no_burst(&work, &server, running);
}

#[test]
fn a_display_that_nobody_reads_any_more_does_not_end_the_run() {
    for options in ["--progress plain", "--progress json --json", "--json"] {
        let work = Work::new();
        let server = work.sandbox("");
        work.write("users.csv", plain(150));
        let line = format!("import users.csv --job it {options} {}", server.paced(150));
        let mut command = work.userferry(&line);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        server.has_applied(20);
        drop((child.stdout.take(), child.stderr.take()));
        let status = until("the end of the run", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{options}");
        assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
        for line in ["results it", "status it", "rejects it", "jobs"] {
            // As with `| head -0`.
            let mut command = work.userferry(line);
            let mut child = command
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            let status = until("the end of the command", || child.try_wait().unwrap());
            assert_eq!(status.code(), Some(0), "{line}");
        }
    }
}
