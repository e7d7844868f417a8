//! `--rate auto` against servers that have less free than they say.

use crate::harness::{Done, Server, Work, until};
use crate::http;
use crate::judge::{World, plain};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

fn import(work: &Work, server: &Server, rate: &str) -> String {
    work.write("users.csv", plain(500));
    format!(
        "import users.csv --job it --json --workers 2 --events events.jsonl {} --rate {rate} \
         --read-rate none --total-rate none",
        server.destination()
    )
}

fn refused(server: &Server) -> u64 {
    let history = server.history();
    let refused = history.iter().filter(|one| one["status"] == 429);
    refused.count() as u64
}

fn rate(done: &Done) -> (f64, f64, f64) {
    let summary = done.json();
    let field = |name: &str| summary["rate"][name].as_f64().unwrap();
    (field("writes_per_s"), field("current"), field("lowest"))
}

#[test]
fn a_server_that_allows_less_than_declared_is_asked_less_and_hardly_refuses() {
    let options = "--rate 40/1s --latency 100ms";
    let (auto, fixed) = (Work::new(), Work::new());
    let (gentle, pressed) = (auto.sandbox(options), fixed.sandbox(options));
    let runs = [
        auto.start(&import(&auto, &gentle, "auto:100/1s")),
        fixed.start(&import(&fixed, &pressed, "100/1s")),
    ];
    let [first, second] = runs.map(|run| run.wait().expect(0));
    for (work, server) in [(&auto, &gentle), (&fixed, &pressed)] {
        assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    }
    let (few, many) = (refused(&gentle), refused(&pressed));
    assert!(few * 2 < many, "{few} against {many}");
    let (declared, current, lowest) = rate(&first);
    assert!((declared - 100.0).abs() < 1e-9, "{declared}");
    assert!(
        lowest < 60.0 && lowest <= current && current < 100.0,
        "{lowest} {current}"
    );
    let steps = auto.events("rate");
    assert_eq!(steps[0]["class"], "writes");
    assert_eq!(steps[0]["reason"], "backed_off");
    let rises = steps.iter().any(|step| step["reason"] == "rising");
    assert!(rises, "{steps:?}");
    // Without auto there is no such thing.
    let plain = second.json();
    let nothing = json!([null, null]);
    assert_eq!(
        json!([plain["rate"]["current"], plain["rate"]["lowest"]]),
        nothing
    );
    assert!(fixed.events("rate").is_empty());
}

#[test]
fn the_rate_comes_back_when_others_leave_the_limit_to_us() {
    let work = Work::new();
    // Somebody signs up users as fast as the server takes them, until the importer has met it.
    let server = work.sandbox("--rate 60/500ms");
    let line = import(&work, &server, "auto:50/500ms");
    work.write("users.csv", plain(1_200));
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded, so that a test that fails ends.
            for n in 0..100_000 {
                if !busy.load(Ordering::Relaxed) {
                    break;
                }
                let user = json!({"email": format!("other{n}@example.org")});
                let status = http::status(server.url(), "POST", "/user_management/users", &user);
                assert!(status == 201 || status == 429, "{status}");
            }
        });
        let run = work.start(&line);
        until("the importer backs off", || {
            work.events("rate")
                .iter()
                .any(|step| step["reason"] == "backed_off")
                .then_some(())
        });
        busy.store(false, Ordering::Relaxed);
        let done = run.wait().expect(0);
        let (declared, current, lowest) = rate(&done);
        assert!(lowest < declared, "{lowest}");
        assert!((current - declared).abs() < 1e-9, "{current} of {declared}");
        assert_eq!(work.events("rate").last().unwrap()["reason"], "recovered");
        assert_eq!(done.json()["rows"]["created"], 1_200);
    });
    assert!(server.world().users.len() > 1_200);
}
