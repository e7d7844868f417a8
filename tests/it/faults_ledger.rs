//! A ledger that is no ledger of ours, is held by somebody, or cannot grow; a source that changes.

use crate::harness::{Done, Server, Work, until};
use crate::judge::{World, plain};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An unfinished job of 300 rows.
fn begun() -> (Work, Server) {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(300));
    let running = work.start(&format!(
        "import users.csv --job it --chunk-size 10 {}",
        server.paced(200)
    ));
    server.has_applied(60);
    drop(running);
    // The workers hold the lock a little longer than their coordinator lives.
    until("the job is free", || {
        let done = work.run("status it --json").expect(0).json();
        (done["state"] != "running").then_some(())
    });
    (work, server)
}

fn ledger(work: &Work) -> PathBuf {
    work.path("checkpoints/it/ledger.sqlite")
}

/// Folds the log into the file and applies `change`.
fn changed(work: &Work, change: &str) {
    let conn = Connection::open(ledger(work)).unwrap();
    conn.execute_batch(&format!("{change}; PRAGMA wal_checkpoint(TRUNCATE);"))
        .unwrap();
}

/// Every file of the job but the lock, whose words are informational, and what a database that was
/// opened and closed leaves behind: an empty log and the index of that log.
fn files(work: &Work) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(work.path("checkpoints/it")).unwrap();
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .filter(|(name, bytes)| {
            name != "job.lock"
                && !name.ends_with("-shm")
                && !(name.ends_with("-wal") && bytes.is_empty())
        })
        .collect()
}

/// Every command that needs the ledger refuses it with these words and leaves each byte as it is.
fn refused(work: &Work, server: &Server, words: &[&str]) {
    let before = files(work);
    let received = server.received();
    for line in [
        "resume it --rate none",
        "retry it --rate none",
        "status it",
        "results it",
    ] {
        let done: Done = work.run(line).expect(74).says(words);
        assert!(!done.stderr.contains("panicked"), "{done}");
        let after = files(work);
        let names: Vec<_> = after.keys().collect();
        assert!(before == after, "{line} changed a file: {names:?}");
    }
    assert_eq!(server.received(), received, "something was sent");
}

#[test]
fn a_ledger_of_a_newer_program_is_refused_and_left_alone() {
    let (work, server) = begun();
    changed(&work, "PRAGMA user_version = 999");
    refused(&work, &server, &["999", "newer"]);
}

#[test]
fn a_database_of_somebody_else_is_refused_and_left_alone() {
    let (work, server) = begun();
    changed(&work, "PRAGMA application_id = 7");
    refused(&work, &server, &["not a userferry ledger"]);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (work, server) = begun();
    changed(&work, "SELECT 1");
    std::fs::write(
        ledger(&work),
        "these are not the bytes you look for\n".repeat(400),
    )
    .unwrap();
    refused(&work, &server, &["ledger"]);
}

#[test]
fn a_damaged_ledger_is_refused_and_left_alone() {
    let (work, server) = begun();
    changed(&work, "SELECT 1");
    let mut bytes = std::fs::read(ledger(&work)).unwrap();
    // The header stays good; every page behind it is wiped out.
    bytes.iter_mut().skip(4096).for_each(|byte| *byte = 0xA5);
    std::fs::write(ledger(&work), bytes).unwrap();
    refused(&work, &server, &["damaged"]);
}

#[test]
fn a_ledger_that_somebody_keeps_locked_ends_the_run_and_a_resume_finishes_it() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(300));
    let running = work.start(&format!(
        "import users.csv --job it --chunk-size 10 --json {}",
        server.paced(100)
    ));
    server.has_applied(40);
    let somebody = Connection::open(ledger(&work)).unwrap();
    somebody
        .busy_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    somebody.execute_batch("BEGIN IMMEDIATE").unwrap();
    let summary = running.wait().expect(74).json();
    assert_eq!(summary["error"]["code"], "ledger_busy", "{summary}");
    for state in ["failed", "parked"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    somebody.execute_batch("ROLLBACK").unwrap();
    drop(somebody);
    finishes(&work, &server);
}

/// Resumes to the end: everybody is there once, and nobody is taken for somebody else's.
fn finishes(work: &Work, server: &Server) {
    let summary = work.run("resume it --rate none --json").expect(0).json();
    for state in ["failed", "parked", "linked", "pending"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

/// A limit on the size of files is a disk that is full for the ledger and for nothing else.
#[test]
fn a_ledger_that_cannot_grow_ends_the_run_and_fails_no_row() {
    let (work, server) = begun();
    changed(&work, "SELECT 1");
    let blocks = std::fs::metadata(ledger(&work)).unwrap().len() / 512 + 8;
    let mut command = work.command("/bin/sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_userferry")]);
    command.args("resume it --rate 300/1s --json".split(' '));
    let done = work.spawn(command).wait().expect(74);
    let summary = done.json();
    assert_eq!(summary["rows"]["failed"], 0, "{summary}");
    assert_eq!(summary["rows"]["parked"], 0, "{summary}");
    assert!(done.stderr.contains("userferry resume it"), "{done}");
    finishes(&work, &server);
}

#[test]
fn a_source_that_changes_under_a_run_stops_it_before_a_changed_row_is_sent() {
    let csv = plain(300);
    // The same length, the same number of rows: only the hash of the chunk can tell.
    let edited = csv.replace("p290@", "q290@");
    let cut = &csv[..csv.len() - 400];
    let replaced = "email\nsomebody.else@example.com\n";
    for changed in [edited.as_str(), cut, replaced] {
        changes_under_a_run(&csv, changed);
    }
}

fn changes_under_a_run(csv: &str, changed: &str) {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", csv);
    let running = work.start(&format!(
        "import users.csv --job it --chunk-size 10 --concurrency 8 --json {}",
        server.paced(100)
    ));
    server.has_applied(30);
    work.write("users.csv", changed);
    let summary = running.wait().expect(65).json();
    assert_eq!(summary["error"]["code"], "file_changed", "{summary}");
    for state in ["failed", "parked"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    let sent = server.dump().to_string();
    for email in ["q290@", "somebody.else@"] {
        assert!(!sent.contains(email), "a changed row was sent");
    }
    work.write("users.csv", csv);
    finishes(&work, &server);
}
