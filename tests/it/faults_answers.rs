//! One row whose answers are bad in one way, among rows whose answers are good: what was done is
//! found out, and nobody else notices.

use crate::harness::{Record, Server, Work};
use crate::judge::{World, plain};
use crate::proxy::{Act, Proxy, Request, answer, body_of};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const EMAIL: &str = "p7@example.com";

/// What came of an import of 40 people through a proxy.
struct Came {
    work: Work,
    server: Server,
    proxy: Proxy,
    summary: Value,
    /// The record of row 7.
    row: Record,
}

/// Imports 40 people through a proxy with this rule; 39 of them must arrive as if it had none.
fn through(
    options: &str,
    code: i32,
    rule: impl Fn(&Request) -> Act + Send + Sync + 'static,
) -> Came {
    let work = Work::new();
    let server = work.sandbox("");
    let proxy = Proxy::start(&server, rule);
    work.write("users.csv", plain(40));
    let line = format!(
        "import users.csv --json --workers 2 --chunk-size 10 {options} {}",
        proxy.target()
    );
    let summary = work.run(&line).expect(code).json();
    let mut records = work.results();
    assert_eq!(records.len(), 40);
    let recovered = records.iter().filter(|row| row["state"] == "recovered");
    assert_eq!(summary["rows"]["recovered"], recovered.count(), "{summary}");
    let row = records.remove(6);
    for record in records {
        // Answers may be late on a busy machine where time is scaled; then they are looked up.
        let state = &*record["state"];
        assert!(["created", "recovered"].contains(&state), "{record:?}");
    }
    Came {
        work,
        server,
        proxy,
        summary,
        row,
    }
}

/// The rule that does `act` to the first create of row 7.
fn first(act: impl Fn() -> Act + Send + Sync + 'static) -> impl Fn(&Request) -> Act {
    let done = AtomicBool::new(false);
    move |request| {
        if request.creates(EMAIL) && !done.swap(true, Ordering::SeqCst) {
            act()
        } else {
            Act::Pass
        }
    }
}

/// Row 7 was applied and its answer was no good: it must be found, as ours.
fn is_recovered(options: &str, act: impl Fn() -> Act + Send + Sync + 'static) {
    let came = through(options, 0, first(act));
    assert_eq!(came.row["state"], "recovered", "{:?}", came.row);
    let asked = World::of_csv(&came.work.path("users.csv"), None);
    assert_eq!(came.server.world(), asked);
    assert_eq!(came.server.count("create_user"), 40, "it was sent twice");
}

#[test]
fn words_that_are_no_json_in_a_201_are_looked_up() {
    is_recovered("--time-scale 0.05", || {
        Act::Change(|_| answer("201 Created", "", "<html>thank you</html>"))
    });
}

#[test]
fn a_201_without_an_id_is_looked_up() {
    is_recovered("--time-scale 0.05", || {
        Act::Change(|_| answer("201 Created", "", "{\"object\":\"user\"}"))
    });
}

#[test]
fn a_giant_answer_is_not_read_but_looked_up() {
    is_recovered("--time-scale 0.05", || {
        Act::Change(|real| {
            let padding = " ".repeat(8 << 20);
            answer("201 Created", "", &format!("{}{padding}", body_of(&real)))
        })
    });
}

#[test]
fn an_answer_without_an_end_is_not_read_but_looked_up() {
    is_recovered("--time-scale 0.05", || {
        Act::Change(|_| {
            let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000));
            format!(
                "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                chunk.repeat(64)
            )
            .into_bytes()
        })
    });
}

/// 4 GiB of zeros in 4 MiB; it was not asked for compressed, so it is not unpacked.
#[test]
fn a_compressed_answer_is_not_unpacked_but_looked_up() {
    is_recovered("--time-scale 0.05", || {
        Act::Change(|_| {
            let mut bytes = b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\n\
                              Content-Length: 4194314\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03"
                .to_vec();
            bytes.resize(bytes.len() + (4 << 20), 0);
            bytes
        })
    });
}

#[test]
fn an_answer_that_trickles_is_given_up_and_looked_up() {
    let begun = Instant::now();
    // 30 s of patience with an answer become 0.6 s.
    is_recovered("--time-scale 0.02", || Act::Trickle);
    assert!(begun.elapsed() > Duration::from_millis(600), "never slow");
}

#[test]
fn an_answer_about_somebody_else_parks_its_row_and_keeps_the_id() {
    let came = through("", 1, |request| {
        if request.creates(EMAIL) {
            Act::Change(|real| {
                real.replacen("p7@example.com", "x7@example.com", 1)
                    .into_bytes()
            })
        } else {
            Act::Pass
        }
    });
    let row = &came.row;
    assert_eq!(
        (&*row["state"], &*row["error_code"]),
        ("parked", "wrong_echo")
    );
    assert_eq!(came.summary["rows"]["parked"], 1);
    let dump = came.server.dump();
    let mut users = dump["users"].as_array().unwrap().iter();
    let made = users.find(|user| user["email"] == EMAIL).unwrap();
    assert_eq!(made["id"], row["user_id"], "the id is what a person needs");
}

/// Fails the first `times` creates of row 7; counts all of them.
fn fails(times: u64, sent: &Arc<AtomicU64>) -> impl Fn(&Request) -> Act + Send + Sync + 'static {
    let sent = Arc::clone(sent);
    move |request| {
        if request.creates(EMAIL) && sent.fetch_add(1, Ordering::SeqCst) < times {
            return Act::Answer(answer("500 Internal Server Error", "", "{}"));
        }
        Act::Pass
    }
}

#[test]
fn a_row_that_the_target_cannot_take_for_a_while_is_tried_once_more_when_all_else_is_done() {
    let sent = Arc::new(AtomicU64::new(0));
    let came = through("--time-scale 0.02", 0, fails(12, &sent));
    // More than the first pass may send, fewer than both together.
    assert_eq!(came.row["state"], "created", "{:?}", came.row);
    assert_eq!(sent.load(Ordering::SeqCst), 13, "{}", came.summary);
}

/// Nothing else is left that could succeed: a look at the target tells it from an outage.
#[test]
fn a_last_row_that_always_gets_500_is_parked_soon_and_its_repeats_with_it() {
    let sent = Arc::new(AtomicU64::new(0));
    let work = Work::new();
    let server = work.sandbox("");
    let proxy = Proxy::start(&server, fails(u64::MAX, &sent));
    let repeats = format!("{EMAIL},P,X\n").repeat(20);
    work.write(
        "users.csv",
        format!("email,first_name,last_name\n{repeats}"),
    );
    let line = format!(
        "import users.csv --json --events events.jsonl --time-scale 0.02 {}",
        proxy.target()
    );
    let summary = work.run(&line).expect(1).json();
    assert_eq!(summary["rows"]["parked"], 20, "{summary}");
    assert_eq!(work.results()[0]["error_code"], "server_error");
    // Twice eight, and a few whose look at the target came late.
    let sent = sent.load(Ordering::SeqCst);
    assert!((16..=32).contains(&sent), "{sent}: {summary}");
    let events = std::fs::read_to_string(work.path("events.jsonl")).unwrap();
    assert!(!events.contains("outage"), "{events}");
}

#[test]
fn a_row_that_always_gets_500_is_parked_after_eight_attempts_and_holds_up_nobody() {
    let sent = Arc::new(AtomicU64::new(0));
    let is_well = Arc::new(AtomicBool::new(false));
    let (counted, well) = (Arc::clone(&sent), Arc::clone(&is_well));
    let came = through(
        "--time-scale 0.005 --events events.jsonl",
        1,
        move |request| {
            if request.creates(EMAIL) && !well.load(Ordering::SeqCst) {
                counted.fetch_add(1, Ordering::SeqCst);
                return Act::Answer(answer("500 Internal Server Error", "", "{}"));
            }
            Act::Pass
        },
    );
    let row = &came.row;
    assert_eq!(
        (&*row["state"], &*row["error_code"]),
        ("parked", "server_error")
    );
    assert_eq!(row["http_status"], "500");
    assert!(sent.load(Ordering::SeqCst) >= 16, "{}", came.summary);
    assert_eq!(came.server.world().users.len(), 39);
    // Once it works again, `retry` makes it.
    is_well.store(true, Ordering::SeqCst);
    let before = came.proxy.received();
    let summary = came.work.run("retry --json --rate none").expect(0).json();
    assert_eq!(summary["rows"]["created"], 40, "{summary}");
    assert!(came.proxy.received() - before < 10, "only that row");
}
