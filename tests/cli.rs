//! The command line as a script sees it: exit codes, one object on stdout, words on stderr.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "these tests drive the real program, and a test may stop where it stands"
)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const PEOPLE: &str = "email,first_name,org_external_id\r\n\
    a@x.example,Ann,acme\r\n\
    not-an-address,\"B\"\"ob\",acme\r\n\
    c@x.example,\"Cleo\r\nline two\",globex\r\n\
    a@x.example,Ann,globex";

/// A folder with a CSV in it, and the program in an environment of its own.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(csv: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("people.csv"), csv).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_userferry"));
        command
            .args(words.split(' '))
            .current_dir(self.path())
            .env_remove("WORKOS_API_KEY")
            .env_remove("USERFERRY_CHECKPOINTS")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs with `--json`; returns the exit code and the one object.
    fn json(&self, words: &str) -> (i32, Value) {
        let output = self.run(&format!("{words} --json"));
        let object = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{words}: {error}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        (output.status.code().unwrap(), object)
    }
}

/// A sandbox that accepts one key, ended with the value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(desk: &Desk) -> Self {
        let mut child = desk
            .command("sandbox --listen 127.0.0.1:0 --api-key sk_test_right")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_job_from_import_to_rejects() {
    let desk = Desk::new(PEOPLE);
    let (exit, summary) = desk.json("import people.csv");
    assert_eq!(exit, 1, "{summary}");
    assert_eq!(summary["rows"]["created"], 2);
    assert_eq!(summary["rows"]["merged"], 1);
    assert_eq!(summary["rows"]["failed"], 1);
    assert_eq!(summary["memberships"]["created"], 3);
    assert_eq!(summary["organizations"]["created"], 2);
    let job = summary["job"].as_str().unwrap();
    assert_eq!(summary["resume"], format!("userferry resume {job}"));

    let (exit, status) = desk.json("status");
    assert_eq!((exit, &status), (0, &summary), "status is the same object");
    let (exit, again) = desk.json(&format!("resume {job}"));
    assert_eq!(
        (exit, &again),
        (1, &summary),
        "a finished job exits as it did"
    );

    let results = text(&desk.run("results").stdout);
    assert_eq!(results.lines().count(), 5);
    assert!(
        results.contains("not-an-address,,failed,validation"),
        "{results}"
    );
    let rejects = desk.run("rejects").stdout;
    let lines: Vec<&str> = PEOPLE.split("\r\n").collect();
    assert_eq!(text(&rejects), format!("{}\r\n{}\r\n", lines[0], lines[2]));

    let (_, second) = desk.json("import people.csv");
    assert_eq!(second["job"], format!("{job}-2"));
    let removed = desk.run(&format!("jobs rm {job}-2 --yes"));
    assert!(removed.status.success());
    assert!(text(&desk.run("jobs").stdout).contains(job));
}

#[test]
fn a_dry_run_tells_what_would_happen_and_leaves_nothing() {
    let desk = Desk::new(PEOPLE);
    let (exit, dry) = desk.json("import people.csv --dry-run");
    assert_eq!(exit, 1);
    assert_eq!((&dry["job"], &dry["resume"]), (&Value::Null, &Value::Null));
    assert_eq!(dry["requests"]["total"], 0);
    let left: Vec<_> = fs::read_dir(desk.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let (_, real) = desk.json("import people.csv");
    for part in ["rows", "memberships", "organizations"] {
        assert_eq!(dry[part], real[part], "{part}");
    }
}

#[test]
fn refusals_have_their_codes() {
    let desk = Desk::new("name\nx\n");
    fs::write(desk.path().join("good.csv"), "email\na@x.example\n").unwrap();
    fs::write(desk.path().join("people.csv.gz"), b"\x1f\x8bx").unwrap();
    for (words, exit, code) in [
        ("import people.csv", 65, "email_column_missing"),
        ("import people.csv.gz", 65, "unpack_failed"),
        ("import missing.csv", 65, "unreadable"),
        ("import good.csv --target workos", 77, "no_api_key"),
        (
            "import good.csv --events /nowhere/events",
            74,
            "events_file",
        ),
    ] {
        let (found, object) = desk.json(words);
        assert_eq!(found, exit, "{words}: {object}");
        assert_eq!(object["error"]["code"], code, "{words}");
        assert_eq!(object["exit"], exit, "{words}");
    }
}

#[test]
fn a_wrong_command_line_prints_usage_and_no_object() {
    let desk = Desk::new("email\na@x.example\n");
    for words in [
        "import people.csv --json --delimiter x",
        "import people.csv --json --base-url http://example.com",
        "import people.csv --json --max-failures many",
        "verify",
    ] {
        let output = desk.run(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(output.stdout.is_empty(), "{words}");
        assert!(
            text(&output.stderr).contains("Usage"),
            "{words}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_job_that_is_not_there_tells_people_no_usage_and_scripts_no_object() {
    let desk = Desk::new("email\na@x.example\n");
    for words in ["resume nobody", "status", "retry"] {
        let output = desk.run(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(!text(&output.stderr).contains("Usage"), "{words}");
        let output = desk.run(&format!("{words} --json"));
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(text(&output.stderr).contains("Usage"), "{words}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}

#[test]
fn a_changed_file_is_refused_and_another_identity_too() {
    let desk = Desk::new("email\na@x.example\nb@x.example\n");
    // The server wants another key: the job begins and stops with every row pending.
    let server = Server::start(&desk);
    let there = format!("--base-url {}", server.url);
    let (exit, stopped) = desk.json(&format!("import people.csv {there}"));
    assert_eq!(exit, 77, "{stopped}");
    assert_eq!(
        (&stopped["state"], &stopped["rows"]["pending"]),
        (&"failed".into(), &2.into())
    );
    assert_eq!(stopped["error"]["code"], "unauthorized");
    let other = desk.run("resume --on-existing skip");
    assert_eq!(other.status.code(), Some(2));
    let words = text(&other.stderr);
    assert!(
        words.contains("`skip`") && words.contains("`link`"),
        "{words}"
    );
    fs::write(
        desk.path().join("people.csv"),
        "email\na@x.example\nc@x.example\n",
    )
    .unwrap();
    for words in ["resume".to_owned(), format!("import people.csv {there}")] {
        let (exit, refused) = desk.json(&words);
        assert_eq!(exit, 65, "{refused}");
        assert_eq!(refused["error"]["code"], "file_changed");
        assert_eq!(refused["job"], stopped["job"]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let desk = Desk::new("email\n");
    let mut child = desk
        .command("generate --rows 200000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
