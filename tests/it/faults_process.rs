//! A machine that sleeps, a terminal that goes away: the run goes on as if nothing had been.

use crate::harness::{Running, Server, Work, signal_to, until};
use crate::judge::{World, plain};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An import at 100 writes a second, under way.
fn begun(server_options: &str, options: &str) -> (Work, Server, Running) {
    let work = Work::new();
    let server = work.sandbox(server_options);
    work.write("users.csv", plain(200));
    let mut command = work.userferry(&format!(
        "import users.csv --json --workers 2 --chunk-size 20 --events events.jsonl {options} {}",
        server.paced(100)
    ));
    // As a shell starts it: what is typed at the terminal goes to this group and to no other.
    command.process_group(0);
    let running = work.spawn(command);
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
    // Ctrl-Z to its group, which none of its workers is in, and what cannot be caught.
    for stop in [Signal::TSTP, Signal::STOP] {
        let (work, server, running) = begun("", "");
        to_group(&running, stop);
        stands_still(&server);
        to_group(&running, Signal::CONT);
        let summary = no_burst(&work, &server, running);
        assert_eq!(summary["workers"]["restarts"], 0, "{summary}");
        assert_eq!(summary["requests"]["ambiguous"], 0, "{summary}");
    }
}

/// Signals everybody in the group of the coordinator, as a terminal does.
fn to_group(running: &Running, signal: Signal) {
    let group = Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
    kill_process_group(group, signal).unwrap();
}

/// Workers that were interrupted too would leave answers unknown.
#[test]
fn ctrl_c_reaches_the_coordinator_and_none_of_its_workers() {
    let (work, server, running) = begun("--latency 60ms", "--job it");
    to_group(&running, Signal::INT);
    let summary = running.wait().expect(130).json();
    let held = u64::try_from(server.world().users.len()).unwrap();
    assert_eq!(summary["rows"]["created"], held, "it did not drain");
    assert_eq!(summary["workers"]["restarts"], 0, "{summary}");
    let summary = work.run("resume it --rate none --json").expect(0).json();
    assert_eq!(summary["rows"]["created"], 200, "{summary}");
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

/// What a closed lid does to the processes: all stop, connections go stale, deadlines pass.
#[test]
fn a_machine_that_sleeps_bursts_not_and_what_was_under_way_is_looked_up() {
    let (work, server, running) = begun("--latency 200ms", "--time-scale 0.05");
    let workers = work.workers_ready(2);
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
