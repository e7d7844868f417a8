//! Signals: the first drains and says how to go on, the second ends at once.

use crate::harness::{Running, Server, Work, until};
use crate::judge::{World, plain};
use rustix::process::Signal;
use std::process::{Command, Stdio};

/// An import under way.
fn begun(server_options: &str, options: &str) -> (Work, Server, Running) {
    let work = Work::new();
    let server = work.sandbox(server_options);
    work.write("users.csv", plain(300));
    let running = work.spawn(mindful(&work.userferry(&format!(
        "import users.csv --json --job it --chunk-size 20 {options} {}",
        server.paced(150)
    ))));
    server.has_applied(30);
    (work, server, running)
}

/// The command with hangups unignored: whoever runs the tests may ignore them (`nohup`), and an
/// import honours that.
fn mindful(command: &Command) -> Command {
    let mut mindful = Command::new("env");
    if cfg!(target_os = "linux") {
        mindful.arg("--default-signal=HUP");
    }
    mindful
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .env_clear()
        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    if let Some(folder) = command.get_current_dir() {
        mindful.current_dir(folder);
    }
    mindful
}

#[test]
fn the_first_signal_drains_and_tells_the_command_that_goes_on() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let (work, server, running) = begun("", "");
        running.signal(signal);
        let done = running.wait().expect(code).says(&["userferry resume it"]);
        let summary = done.json();
        assert_eq!(summary["state"], "interrupted");
        assert_eq!(summary["resume"], "userferry resume it");
        let done = summary["rows"]["created"].as_u64().unwrap();
        assert!((1..300).contains(&done), "{summary}");
        // It drained: every answer is known, none has to be looked up.
        let held = u64::try_from(server.world().users.len()).unwrap();
        assert_eq!(held, done, "{summary}");
        let summary = work.run("resume --rate none --json").expect(0).json();
        assert_eq!(summary["rows"]["created"], 300, "{summary}");
        assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    }
}

#[test]
fn the_second_signal_ends_at_once_and_nothing_is_lost() {
    // Nothing is answered within the time a drain would wait.
    let (work, server, running) = begun("", "");
    server.signal(Signal::STOP);
    running.signal(Signal::INT);
    until("it says that it drains", || {
        running.stderr().contains("finishing what").then_some(())
    });
    let begun = std::time::Instant::now();
    running.signal(Signal::INT);
    running.wait().expect(130).says(&["userferry resume it"]);
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    server.signal(Signal::CONT);
    let summary = work.run("resume --rate none --json").expect(0).json();
    for state in ["failed", "parked", "linked"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(200));
    let mut command = work.command("/bin/sh");
    command.args([
        "-c",
        "trap '' HUP; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_userferry"),
    ]);
    command.args(format!("import users.csv {}", server.paced(200)).split(' '));
    let running = work.spawn(command);
    server.has_applied(30);
    running.signal(Signal::HUP);
    running.wait().expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_signal_before_the_first_answer_ends_it_too() {
    let work = Work::new();
    work.write("users.csv", plain(10));
    // Accepts connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let running = work.start(&format!(
        "import users.csv --job it --target workos --base-url http://{address}"
    ));
    let _connected = listener.accept().unwrap();
    running.signal(Signal::INT);
    running.wait().expect(130).says(&["userferry resume it"]);
}
