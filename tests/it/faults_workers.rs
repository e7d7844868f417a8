//! Workers that die of one row, hang, or are not ours any more: replaced, and nothing is lost.
#![cfg(target_os = "linux")]

use crate::harness::{Running, Server, Work, signal_to};
use crate::judge::{World, plain};
use crate::proxy::{Act, Proxy, Request};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// The worker that sent a request: its socket in the kernel's table, then who has that open.
fn sender_of(request: &Request) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (from, to) = (request.peer.port(), request.local.port());
    let inode = table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(1)?.ends_with(&format!(":{from:04X}"))
            && columns.get(2)?.ends_with(&format!(":{to:04X}"));
        is_it.then(|| columns[9].to_owned())
    })?;
    let socket = format!("socket:[{inode}]");
    let mut processes = std::fs::read_dir("/proc").unwrap();
    processes.find_map(|entry| {
        let folder = entry.ok()?.path();
        let pid: u32 = folder.file_name()?.to_str()?.parse().ok()?;
        let line = std::fs::read(folder.join("cmdline")).ok()?;
        if !line.starts_with(b"userferry\0worker\0") {
            return None;
        }
        let mut open = std::fs::read_dir(folder.join("fd")).ok()?.flatten();
        let is_it = open.any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == socket.as_str())
        });
        is_it.then_some(pid)
    })
}

/// Imports 60 people through a server that kills whoever creates one of `victims`: these rows are
/// parked, all others arrive. Returns the summary.
fn poisoned(workers: u32, options: &str, victims: &'static [&'static str]) -> Value {
    let work = Work::new();
    // Slow enough that others are under way whenever somebody dies.
    let server = work.sandbox("--latency 40ms");
    let proxy = Proxy::start(&server, move |request| {
        if victims.iter().any(|email| request.creates(email)) {
            signal_to(sender_of(request).unwrap(), Signal::KILL);
            return Act::Answer(Vec::new());
        }
        Act::Pass
    });
    work.write("users.csv", plain(60));
    let line = format!(
        "import users.csv --json --log-level debug --events events.jsonl --workers {workers} {options} --rate 60/1s {}",
        proxy.destination()
    );
    let summary = work.run(&line).expect(1).json();
    for row in work.results() {
        let expected = if victims.contains(&&*row["email"]) {
            ("parked", "poison")
        } else {
            ("created", "")
        };
        let state = if row["state"] == "recovered" {
            "created"
        } else {
            &row["state"]
        };
        assert_eq!((state, &*row["error_code"]), expected, "{row:?}\n{summary}");
    }
    assert_eq!(server.world().users.len(), 60 - victims.len());
    summary
}

#[test]
fn a_row_that_kills_its_workers_is_found_and_parked_alone() {
    let summary = poisoned(3, "--chunk-size 20", &["p7@example.com"]);
    // Twice with its chunk, twice alone.
    assert_eq!(summary["workers"]["restarts"], 4, "{summary}");
}

#[test]
fn one_worker_is_enough_to_find_a_row_that_kills_it() {
    let summary = poisoned(1, "--chunk-size 5", &["p33@example.com"]);
    assert_eq!(summary["workers"]["restarts"], 4, "{summary}");
}

#[test]
fn two_rows_that_kill_their_workers_are_both_found() {
    poisoned(
        4,
        "--chunk-size 30 --concurrency 4",
        &["p3@example.com", "p41@example.com"],
    );
}

/// What workers are started from: the real one, whose words pass through `filter`. Its hello
/// is 60 bytes or so, so that what comes after 300 is said in the middle of the work.
fn impostor(work: &Work, body: &str) {
    work.write("new", format!("#!/bin/bash\n{body}\n"));
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(work.path("new"), executable).unwrap();
    std::fs::rename(work.path("new"), work.path("userferry")).unwrap();
}

/// An import of 200 people whose workers are started from a file that can be replaced under way.
fn replaceable() -> (Work, Server, Running) {
    begun("real", "--worker-program ./userferry")
}

/// An import of 200 people by a copy of the program, `userferry` or `real`.
fn begun(program: &str, options: &str) -> (Work, Server, Running) {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(200));
    for name in ["userferry", "real"] {
        std::fs::copy(env!("CARGO_BIN_EXE_userferry"), work.path(name)).unwrap();
    }
    let mut command = work.command(work.path(program));
    let line = format!(
        "import users.csv --json --job it --workers 2 --chunk-size 10 --events events.jsonl \
         {options} {}",
        server.paced(60)
    );
    command.args(line.split_whitespace());
    let running = work.spawn(command);
    server.has_applied(20);
    assert_eq!(work.workers_ready(2).len(), 2);
    (work, server, running)
}

fn finishes(work: &Work, server: &Server) {
    let summary = work.run("resume it --json --rate none").expect(0).json();
    for state in ["failed", "parked", "linked", "pending"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn workers_of_another_program_end_the_run_and_nothing_is_lost() {
    for words in [
        "echo what is this",
        "cat /dev/urandom",
        // Everything as it should be, but said by somebody else.
        "\"${0%/*}/real\" worker | cat",
    ] {
        let (work, server, running) = replaceable();
        impostor(&work, words);
        for pid in work.workers() {
            signal_to(pid, Signal::KILL);
        }
        let summary = running.wait().expect(70).json();
        assert_eq!(summary["rows"]["failed"], 0, "{words}: {summary}");
        assert_eq!(summary["rows"]["parked"], 0, "{words}: {summary}");
        finishes(&work, &server);
    }
}

/// Once: the words of the first successor are cut off, or followed by something that is no frame.
#[test]
fn words_of_a_worker_that_are_no_frames_cost_that_worker_and_nothing_else() {
    let defects = [
        ("half a frame", "true"),
        ("a giant frame", "printf '\\377\\377\\377\\177\\1\\1\\1\\1'"),
        ("zeros", "head -c 4096 /dev/zero"),
        ("text", "echo thread main panicked at nothing"),
    ];
    for (what, defect) in defects {
        let (work, server, running) = replaceable();
        impostor(
            &work,
            &format!(
                "cd \"${{0%/*}}\"\n\
                 if mkdir once 2>/dev/null; then\n\
                   exec -a userferry ./real worker > >(dd bs=1 count=300 status=none; {defect}; cat >/dev/null)\n\
                 fi\n\
                 exec -a userferry ./real worker"
            ),
        );
        signal_to(work.workers()[0], Signal::KILL);
        let summary = running.wait().expect(0).json();
        assert_eq!(summary["workers"]["restarts"], 2, "{what}: {summary}");
        for state in ["failed", "parked", "linked", "pending"] {
            assert_eq!(summary["rows"][state], 0, "{what}: {summary}");
        }
        assert_eq!(
            server.world(),
            World::of_csv(&work.path("users.csv"), None),
            "{what}"
        );
    }
}

/// An upgrade under way: the workers that follow are of the build that began.
#[test]
fn a_program_that_is_replaced_under_its_run_goes_on_as_it_began() {
    for body in [Some("echo I am another build"), None] {
        let (work, server, running) = begun("userferry", "");
        match body {
            Some(body) => impostor(&work, body),
            None => std::fs::remove_file(work.path("userferry")).unwrap(),
        }
        for pid in work.workers() {
            signal_to(pid, Signal::KILL);
        }
        let summary = running.wait().expect(0).json();
        assert_eq!(summary["workers"]["restarts"], 2, "{summary}");
        assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    }
}

#[test]
fn a_successor_that_never_says_hello_does_not_hold_up_the_end() {
    let (work, server, running) = replaceable();
    impostor(&work, "sleep 600; sleep 600");
    let begun = Instant::now();
    signal_to(work.workers()[0], Signal::KILL);
    let summary = running.wait().expect(0).json();
    // A worker that has not said hello after ten seconds is taken for hung.
    assert!(begun.elapsed() < Duration::from_secs(10), "{summary}");
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}
