//! kill -9, of whom you like, at moments the server tells: nothing is lost, nothing is there twice.

use crate::harness::{Running, Server, Work, signal_to, until};
use crate::http;
use crate::judge::{World, people, text};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The line of an import that takes seconds, with small chunks and three workers.
fn slow_import(server: &Server) -> String {
    import_at(server, 400)
}

/// The same at this many writes a second.
fn import_at(server: &Server, writes: u32) -> String {
    format!(
        "import users.csv --create-orgs --workers 3 --chunk-size 15 --events events.jsonl {}",
        server.paced(writes)
    )
}

/// A folder with 260 rows of 240 people in 5 organizations.
fn folder() -> Work {
    let work = Work::new();
    let mut csv = people(240, |n| format!("org-{}", n % 5));
    for n in 1..=20 {
        let org = (n + 1) % 5;
        writeln!(csv, "P{n}@EXAMPLE.com,P{n},x-{n},org-{org}").unwrap();
    }
    work.write("users.csv", csv);
    work
}

/// Resumes to the end and compares: the server's data, its answers, the job's own report.
fn all_is_well(work: &Work, server: &Server) {
    let summary = work.run("resume --rate none --json").expect(0).json();
    let rows = &summary["rows"];
    for state in ["failed", "parked", "linked", "pending"] {
        assert_eq!(rows[state], 0, "{summary}");
    }
    exactly_once(work, server);
}

fn exactly_once(work: &Work, server: &Server) {
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    for request in server.history() {
        if request["status"] == 201 {
            *made.entry(text(&request["id"])).or_default() += 1;
        }
    }
    assert!(made.values().all(|count| *count == 1), "{made:?}");
    for row in work.results() {
        assert!(
            ["created", "recovered", "merged"].contains(&&*row["state"]),
            "{row:?}"
        );
    }
}

#[test]
fn a_killed_coordinator_is_resumed_without_loss() {
    for moment in [1, 12, 90, 260, 430] {
        let work = folder();
        let server = work.sandbox("--latency 2ms~50%");
        let running = work.start(&slow_import(&server));
        server.has_applied(moment);
        drop(running);
        all_is_well(&work, &server);
    }
}

#[test]
fn a_coordinator_that_is_killed_in_every_run_gets_there_all_the_same() {
    let work = folder();
    let server = work.sandbox("--latency 2ms~50%");
    let running = work.start(&slow_import(&server));
    server.has_applied(40);
    drop(running);
    for moment in [80, 160, 300] {
        let running = work.start("resume --rate 400/1s --workers 2");
        server.has_applied(moment);
        drop(running);
    }
    all_is_well(&work, &server);
}

#[test]
fn killed_workers_are_replaced_and_the_run_goes_on() {
    let work = folder();
    let server = work.sandbox("--latency 2ms~50%");
    let running = work.start(&(import_at(&server, 150) + " --json"));
    server.has_applied(60);
    let first = work.workers_ready(3);
    signal_to(first[0], Signal::KILL);
    server.has_applied(150);
    // All that are there now, one of them or its successor among them.
    for pid in work.workers() {
        signal_to(pid, Signal::KILL);
    }
    let summary = running.wait().expect(0).json();
    assert!(
        summary["workers"]["restarts"].as_u64().unwrap() >= 3,
        "{summary}"
    );
    exactly_once(&work, &server);
}

#[test]
fn a_worker_that_is_stopped_is_replaced() {
    let work = folder();
    let server = work.sandbox("");
    let running = work.start(&(slow_import(&server) + " --time-scale 0.1 --json"));
    let pids = work.workers_ready(3);
    server.has_applied(30);
    signal_to(pids[1], Signal::STOP);
    let summary = running.wait().expect(0).json();
    assert_eq!(summary["workers"]["restarts"], 1, "{summary}");
    exactly_once(&work, &server);
}

#[cfg(target_os = "linux")]
#[test]
fn workers_end_soon_after_their_coordinator() {
    let work = folder();
    let server = work.sandbox("--latency 300ms");
    let running = work.start(&slow_import(&server));
    server.has_applied(10);
    let pids = work.workers_ready(3);
    assert_eq!(pids.len(), 3);
    drop(running);
    let begun = std::time::Instant::now();
    until("the workers are gone", || {
        pids.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
    // They take a second; the rest is for a machine that does something else.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    all_is_well(&work, &server);
}

/// A zombie, which waits for somebody to take notice, is not alive.
#[cfg(target_os = "linux")]
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    !rest.starts_with('Z')
}

#[test]
fn the_data_of_the_automatic_sandbox_survives_a_kill_of_everything() {
    let work = folder();
    // Slow enough that a machine that is busy with others finishes in none of these runs.
    let line = "import users.csv --workers 2 --chunk-size 15 --rate 60/1s --job all";
    let log = work.path("checkpoints/all/sandbox.log");
    let mut bytes = 0;
    for line in [line, "resume all --rate 60/1s", "resume all --rate 60/1s"] {
        let running = work.start(line);
        bytes = until("the sandbox has written more", || {
            let now = std::fs::metadata(&log).map_or(0, |meta| meta.len());
            (now > bytes + 4000).then_some(now)
        });
        kill_group(&running);
    }
    let summary = work.run("resume all --rate none --json").expect(0).json();
    assert_eq!(summary["rows"]["linked"], 0, "{summary}");
    // A server of its own over the same log tells what is in it.
    let server = work.sandbox("--state checkpoints/all/sandbox.log");
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

/// Kills the coordinator and every process below it at once, as a dying machine does.
fn kill_group(running: &Running) {
    let mut victims = vec![running.pid()];
    let mut next = 0;
    while let Some(parent) = victims.get(next) {
        victims.extend(children(*parent));
        next += 1;
    }
    for pid in victims {
        signal_to(pid, Signal::KILL);
    }
}

fn children(parent: u32) -> Vec<u32> {
    let output = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,ppid="])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap());
        Some((numbers.next()?, numbers.next()?))
    });
    pairs
        .filter(|(_, of)| *of == parent)
        .map(|(pid, _): (u32, u32)| pid)
        .collect()
}

#[test]
fn a_kill_while_answers_are_under_way_is_recovered_not_linked() {
    let work = folder();
    // Every answer takes long: at the kill, many writes are applied and none of them is known.
    let server = work.sandbox("--latency 250ms");
    let running = work.start(&format!(
        "import users.csv --create-orgs --workers 2 --chunk-size 50 {}",
        server.target()
    ));
    until("users are applied and not answered", || {
        let open = server.history().into_iter().filter(|request| {
            request["op"] == "create_user"
                && !request["applied_ms"].is_null()
                && request["answered_ms"].is_null()
        });
        (open.count() >= 20).then_some(())
    });
    drop(running);
    assert!(!http::get(server.url(), "/_sandbox/stats").is_empty());
    let summary = work.run("resume --rate none --json").expect(0).json();
    assert!(
        summary["rows"]["recovered"].as_u64().unwrap() >= 20,
        "{summary}"
    );
    assert_eq!(summary["rows"]["linked"], 0, "{summary}");
    exactly_once(&work, &server);
}

/// A build with planted bugs: `cargo test --features plant --test it panic`.
#[cfg(feature = "plant")]
#[test]
fn a_panic_of_the_coordinator_is_a_crash_and_a_resume_goes_on() {
    let work = folder();
    let server = work.sandbox("");
    let mut command = work.userferry(&slow_import(&server));
    command.env("USERFERRY_PLANT", "101");
    let done = work.spawn(command).wait().expect(70);
    let done = done.says(&["stopped itself at src/coordinator/driver.rs:", "resume"]);
    assert!(!done.stderr.contains("planted"), "{done}");
    let resumed = work.run("resume --create-orgs --json --rate none");
    assert_eq!(resumed.expect(0).json()["rows"]["failed"], 0);
    exactly_once(&work, &server);
}

#[cfg(feature = "plant")]
#[test]
fn a_panic_over_one_row_ends_its_worker_at_once_and_tells_no_word_of_the_row() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", crate::judge::plain(40));
    let line = format!(
        "import users.csv --json --log-level debug --events events.jsonl --workers 2 --chunk-size 20 {}",
        server.target()
    );
    let mut command = work.userferry(&line);
    command.env("USERFERRY_PLANT", "102");
    let done = work.spawn(command).wait().expect(1);
    let done = done.says(&["stopped itself at src/worker/serve/judge.rs:"]);
    for said in [
        &done.stderr,
        &std::fs::read_to_string(work.path("events.jsonl")).unwrap(),
    ] {
        assert!(
            !said.contains("p7@example.com") && !said.contains("planted"),
            "{said}"
        );
    }
    let summary = done.json();
    assert_eq!(summary["rows"]["parked"], 1, "{summary}");
    assert_eq!(
        summary["rows"]["created"].as_u64().unwrap()
            + summary["rows"]["recovered"].as_u64().unwrap(),
        39
    );
}
