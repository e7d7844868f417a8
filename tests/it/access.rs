//! Keys and servers that do not let the import in: nothing is burnt, and the way on is told.

use crate::harness::{KEY, NOBODY, Work};
use crate::http::Stub;
use crate::judge::{World, plain};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

/// Runs a job that must stop with this code; returns its summary after looking at what it says of
/// its rows: all of them are still to be done.
fn stopped(work: &Work, line: &str, code: i32) -> Value {
    let summary = work.run(&format!("{line} --json")).expect(code).json();
    assert_eq!(summary["exit"], code, "{summary}");
    assert_eq!(summary["rows"]["pending"], summary["rows"]["total"]);
    assert!(summary["error"]["code"].is_string(), "{summary}");
    let hint = summary["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("userferry resume"), "{hint}");
    assert!(work.results().iter().all(|row| row["state"] == "pending"));
    summary
}

#[test]
fn a_wrong_key_burns_no_row_and_the_right_one_finishes() {
    let work = Work::new();
    let server = work.sandbox(&format!("--api-key {KEY}"));
    work.write("users.csv", plain(300));
    let mut command = work.userferry(&format!("import users.csv --json {}", server.target()));
    command.env("WORKOS_API_KEY", "sk_test_wrong");
    let summary = work.spawn(command).wait().expect(77).json();
    assert_eq!(summary["rows"]["pending"], 300);
    assert_eq!(summary["error"]["code"], "unauthorized");
    assert!(server.world().users.is_empty());
    assert!(server.received() < 5, "{} requests", server.received());
    work.run("resume --rate none").expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_key_that_stops_being_accepted_on_the_way_burns_no_row() {
    let work = Work::new();
    let state = "--state state.log";
    let server = work.sandbox_to_follow(state);
    let address = server.address().to_owned();
    work.write("users.csv", plain(300));
    let running = work.start(&format!("import users.csv --json {}", server.paced(200)));
    server.has_applied(40);
    // The same data at the same place, but the key is no longer good.
    drop(server);
    let server = work.sandbox_at(&address, &format!("{state} --api-key sk_test_rotated"));
    let summary = running.wait().expect(77).json();
    for state in ["failed", "parked"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    assert!(summary["rows"]["pending"].as_u64().unwrap() > 0);
    let mut command = work.userferry("resume --rate none");
    command.env("WORKOS_API_KEY", "sk_test_rotated");
    work.spawn(command).wait().expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn without_a_key_nothing_is_sent_and_no_job_is_made() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(3));
    for key in [None, Some(""), Some("  ")] {
        let mut command = work.userferry(&format!("import users.csv {}", server.target()));
        match key {
            None => command.env_remove("WORKOS_API_KEY"),
            Some(key) => command.env("WORKOS_API_KEY", key),
        };
        work.spawn(command)
            .wait()
            .expect(77)
            .says(&["WORKOS_API_KEY", "--api-key-file"]);
    }
    assert_eq!(server.received(), 0);
    assert!(work.jobs().is_empty(), "{:?}", work.jobs());
}

#[test]
fn a_key_file_must_be_private() {
    let work = Work::new();
    let server = work.sandbox("--api-key sk_test_from_file");
    work.write("users.csv", plain(3));
    work.write("key", "sk_test_from_file\n");
    let line = format!("import users.csv --api-key-file key {}", server.target());
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(work.path("key"), permissions).unwrap();
    };
    mode(0o644);
    work.run(&line).expect(77).says(&["chmod 600"]);
    assert_eq!(server.received(), 0);
    mode(0o600);
    work.run(&line).expect(0);
}

#[test]
fn a_live_key_is_not_used_without_a_word() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(3));
    let live = |options: &str| {
        let mut command =
            work.userferry(&format!("import users.csv {options} {}", server.target()));
        command.env("WORKOS_API_KEY", "sk_live_0123456789");
        work.spawn(command).wait()
    };
    live("").expect(2).says(&["live", "--yes"]);
    assert_eq!(server.received(), 0);
    live("--yes").expect(0);
}

#[test]
fn a_base_url_in_the_clear_is_refused_unless_it_is_this_machine() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    for url in [
        "http://example.com",
        "http://10.0.0.1:80",
        "ftp://127.0.0.1",
        "nonsense",
    ] {
        let line = format!("import users.csv --target workos --base-url {url}");
        work.run(&line).expect(2).says(&["--base-url"]);
    }
    assert!(work.jobs().is_empty());
}

#[test]
fn a_target_that_forbids_stops_the_run() {
    let work = Work::new();
    work.write("users.csv", plain(50));
    let stub = Stub::start("403 Forbidden\r\n");
    stopped(&work, &format!("import users.csv {}", stub.target()), 69);
    assert!(stub.requests() < 5, "{} requests", stub.requests());
}

#[test]
fn a_redirect_is_never_followed() {
    let work = Work::new();
    work.write("users.csv", plain(50));
    let other = work.sandbox("");
    let to = format!(
        "302 Found\r\nLocation: {}/user_management/users\r\n",
        other.url()
    );
    let stub = Stub::start(to.leak());
    stopped(&work, &format!("import users.csv {}", stub.target()), 69);
    assert_eq!(other.received(), 0, "the key went elsewhere");
}

#[test]
fn a_server_of_something_else_stops_the_run() {
    let work = Work::new();
    work.write("users.csv", plain(50));
    let stub = Stub::start("404 Not Found\r\n");
    stopped(&work, &format!("import users.csv {}", stub.target()), 69);
}

#[test]
fn nobody_listening_ends_the_run_within_ten_seconds() {
    let work = Work::new();
    work.write("users.csv", plain(5));
    let line = format!("import users.csv --target workos --base-url http://{NOBODY}");
    let summary = stopped(&work, &line, 75);
    let seconds = summary["elapsed_s"].as_f64().unwrap();
    assert!(seconds < 10.0, "{summary}");
}

#[test]
fn a_server_that_only_fails_ends_the_run_after_the_longest_outage() {
    let work = Work::new();
    work.write("users.csv", plain(50));
    let stub = Stub::start("503 Service Unavailable\r\n");
    let line = format!(
        "import users.csv --time-scale 0.02 --max-outage 5s {}",
        stub.target()
    );
    stopped(&work, &line, 75);
    assert!(stub.requests() > 1, "it never asked again");
}

#[test]
fn an_outage_on_the_way_ends_the_run_and_a_resume_finishes_it() {
    let work = Work::new();
    let server = work.sandbox_to_follow("--state state.log");
    let address = server.address().to_owned();
    work.write("users.csv", plain(200));
    let running = work.start(&format!(
        "import users.csv --json --time-scale 0.02 --max-outage 1s {}",
        server.paced(200)
    ));
    server.has_applied(40);
    drop(server);
    let summary = running.wait().expect(75).json();
    for state in ["failed", "parked"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    let server = work.sandbox_at(&address, "--state state.log");
    work.run("resume --rate none").expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn another_environment_is_refused_on_resume() {
    let work = Work::new();
    let server = work.sandbox_to_follow("");
    let address = server.address().to_owned();
    work.write("users.csv", plain(200));
    let running = work.start(&format!("import users.csv {}", server.paced(200)));
    server.has_applied(40);
    drop(running);
    drop(server);
    // Without its data: as if the key belonged to another environment.
    let server = work.sandbox_at(&address, "");
    work.run("resume --rate none").expect(69);
    assert!(server.world().users.is_empty());
}
