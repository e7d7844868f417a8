//! Jobs whose ledger was damaged, recovered from a target that is a process of its own: what the
//! target holds in the end is the judge, not the importer's own summary.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "these tests drive the real program, and a test may stop where it stands"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const ROWS: usize = 600;
const ORGS: usize = 6;

/// A folder with a CSV, a target, and a job that was killed on its way.
struct Desk {
    dir: tempfile::TempDir,
    target: Child,
    url: String,
    csv: Vec<u8>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.target.kill().unwrap();
        self.target.wait().unwrap();
    }
}

fn program(dir: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_userferry"));
    command
        .args(words.split_whitespace())
        .current_dir(dir)
        .env_remove("WORKOS_API_KEY")
        .env_remove("USERFERRY_CHECKPOINTS")
        .stdin(Stdio::null());
    command
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = program(
            dir.path(),
            &format!("generate --rows {ROWS} --orgs {ORGS} --multi-org 20% --seed 5"),
        )
        .output()
        .unwrap();
        assert!(made.status.success());
        fs::write(dir.path().join("people.csv"), &made.stdout).unwrap();
        let mut target = program(dir.path(), "sandbox --listen 127.0.0.1:0 --latency 4ms")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(target.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self {
            dir,
            target,
            url,
            csv: made.stdout,
        }
    }

    /// A desk whose job was killed with SIGKILL when 60 % of the writes were applied.
    fn killed() -> Self {
        let desk = Self::new();
        let mut import = desk
            .command(&format!(
                "import people.csv --workers 2 --rate 300/1s {}",
                desk.identity()
            ))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let enough = u64::try_from(ROWS * 6 / 10).unwrap();
        loop {
            let stats = desk.ask("/_sandbox/stats");
            if stats["entities"]["memberships"].as_u64().unwrap() >= enough {
                break;
            }
            assert_eq!(import.try_wait().unwrap(), None, "it ended before");
        }
        import.kill().unwrap();
        import.wait().unwrap();
        desk
    }

    fn identity(&self) -> String {
        format!(
            "--target sandbox --base-url {} --create-orgs --chunk-size 50",
            self.url
        )
    }

    fn command(&self, words: &str) -> Command {
        program(self.dir.path(), words)
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs with `--json`; returns the exit code, the one object and the words.
    fn json(&self, words: &str) -> (i32, Value, String) {
        let output = self.run(&format!("{words} --json"));
        let said = String::from_utf8(output.stderr).unwrap();
        let object = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words}: {error}: {said}"));
        (output.status.code().unwrap(), object, said)
    }

    /// The folder of the only job.
    fn job(&self) -> PathBuf {
        let mut jobs = fs::read_dir(self.dir.path().join("checkpoints")).unwrap();
        let job = jobs.next().unwrap().unwrap().path();
        assert!(jobs.next().is_none());
        job
    }

    fn name(&self) -> String {
        self.job().file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn ledger(&self) -> PathBuf {
        self.job().join("ledger.sqlite")
    }

    /// The files that hold what the job knew. The library's own index of the log is not among
    /// them: reading renews it. Nor is a log without a byte.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.job()).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        files
            .filter(|(name, bytes)| {
                name.starts_with("ledger") && !name.ends_with("-shm") && !bytes.is_empty()
            })
            .collect()
    }

    /// Asks the target's own books.
    fn ask(&self, path: &str) -> Value {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            serde_json::from_str(&unchunked(body)).unwrap()
        } else {
            serde_json::from_str(body).unwrap()
        }
    }

    /// Status, resume and a further import refuse, say what to do, and leave every byte.
    fn assert_refused(&self, code: &str) {
        let name = self.name();
        let before = self.files();
        for words in [
            format!("status {name}"),
            "status".to_owned(),
            format!("resume {name}"),
            "resume".to_owned(),
            format!("retry {name}"),
            format!("import people.csv {}", self.identity()),
        ] {
            let (exit, object, said) = self.json(&words);
            assert_eq!(exit, 74, "{words}: {said}");
            assert_eq!(object["error"]["code"], code, "{words}");
            assert_eq!(object["job"], name, "{words}");
            let hint = format!("userferry recover {name} --from-target");
            assert!(said.contains(&hint), "{words}: {said}");
            assert!(self.files() == before, "{words} wrote");
        }
    }

    /// Recovers; the target must hold the file exactly once then.
    fn assert_recovers(&self, words: &str) -> Value {
        let name = self.name();
        let before = self.files();
        let (exit, summary, said) = self.json(&format!("recover {name} --from-target {words}"));
        assert_eq!(exit, 0, "{summary} {said}");
        assert_eq!(summary["state"], "completed");
        for word in ["failed", "parked", "pending", "linked"] {
            assert_eq!(summary["rows"][word], 0, "{summary}");
        }
        assert_eq!(summary["rows"]["total"], ROWS);
        let made = &summary["organizations"];
        assert_eq!(
            (&made["created"], &made["found"]),
            (&ORGS.into(), &0.into())
        );
        assert!(
            summary["rows"]["recovered"].as_u64().unwrap() > 0,
            "{summary}"
        );
        self.assert_exactly_once();
        for (file, bytes) in before {
            let kept = file.replace("ledger.sqlite", "ledger.sqlite.damaged-1");
            assert!(self.files()[&kept] == bytes, "{kept}");
        }
        let (exit, status, _) = self.json("status");
        assert_eq!((exit, &status["rows"]), (0, &summary["rows"]));
        let (exit, refused, said) = self.again();
        assert_eq!((exit, refused), (2, None), "{said}");
        assert!(said.contains(&format!("userferry resume {name}")), "{said}");
        summary
    }

    /// Recovers what is sound.
    fn again(&self) -> (i32, Option<Value>, String) {
        let output = self.run(&format!("recover {} --from-target --json", self.name()));
        let said = String::from_utf8(output.stderr).unwrap();
        let object = serde_json::from_slice(&output.stdout).ok();
        (output.status.code().unwrap(), object, said)
    }

    fn assert_exactly_once(&self) {
        let dump = self.ask("/_sandbox/dump");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |kind: &str| dump[kind].as_array().unwrap().clone();
        let emails: BTreeMap<String, String> = list("users")
            .iter()
            .map(|user| (text(&user["id"]), text(&user["email"])))
            .collect();
        let orgs: BTreeMap<String, String> = list("organizations")
            .iter()
            .map(|org| (text(&org["id"]), text(&org["external_id"])))
            .collect();
        let mut found: Vec<(String, String)> = list("memberships")
            .iter()
            .map(|membership| {
                let user = &emails[membership["user_id"].as_str().unwrap()];
                let org = &orgs[membership["organization_id"].as_str().unwrap()];
                (user.clone(), org.clone())
            })
            .collect();
        found.sort();
        let mut wanted = pairs(&self.csv);
        wanted.sort();
        assert_eq!(found, wanted, "every membership once");
        let people: BTreeSet<&String> = wanted.iter().map(|(email, _)| email).collect();
        assert_eq!(emails.len(), people.len(), "every user once");
        assert_eq!(orgs.len(), ORGS, "every organization once");
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

/// Email and organization of every record.
fn pairs(csv: &[u8]) -> Vec<(String, String)> {
    let mut reader = csv::Reader::from_reader(csv);
    let header = reader.headers().unwrap().clone();
    let at = |name| header.iter().position(|column| column == name).unwrap();
    let (email, org) = (at("email"), at("org_external_id"));
    let cells = reader.records().map(|record| {
        let record = record.unwrap();
        (record[email].to_lowercase(), record[org].to_owned())
    });
    cells.collect()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn a_ledger_overwritten_in_the_middle_is_recovered() {
    let desk = Desk::killed();
    let length = fs::metadata(desk.ledger()).unwrap().len();
    // The log would hide it: newer pages come from there.
    overwrite(
        &desk.ledger(),
        length / 2 / 4096 * 4096,
        &vec![0xA5; 12_288],
    );
    let _log = fs::remove_file(desk.job().join("ledger.sqlite-wal"));
    desk.assert_refused("ledger_corrupt");
    // The same file elsewhere is the same file; another one is not.
    fs::rename(
        desk.dir.path().join("people.csv"),
        desk.dir.path().join("moved.csv"),
    )
    .unwrap();
    fs::write(desk.dir.path().join("other.csv"), "email\na@x.example\n").unwrap();
    let other = format!("recover {} --from-target --csv other.csv", desk.name());
    let before = desk.files();
    let (exit, refused, _) = desk.json(&other);
    assert_eq!(
        (exit, &refused["error"]["code"]),
        (65, &"file_changed".into())
    );
    let differs = format!("recover {} --from-target --chunk-size 9", desk.name());
    assert_eq!(desk.run(&differs).status.code(), Some(2));
    assert!(desk.files() == before, "a refusal writes nothing");
    desk.assert_recovers("--csv moved.csv");
}

#[test]
fn a_ledger_cut_short_is_recovered() {
    let desk = Desk::killed();
    let length = fs::metadata(desk.ledger()).unwrap().len();
    let file = OpenOptions::new().write(true).open(desk.ledger()).unwrap();
    file.set_len(length / 2 + 100).unwrap();
    fs::write(desk.job().join("ledger.sqlite-wal"), "").unwrap();
    desk.assert_refused("ledger_corrupt");
    // What is left still says which file and where to.
    desk.assert_recovers("--limit 0");
}

#[test]
fn a_ledger_that_is_a_text_now_is_recovered_with_what_the_command_line_says() {
    let desk = Desk::killed();
    fs::write(desk.ledger(), "email,first_name\n".repeat(50)).unwrap();
    desk.assert_refused("not_a_ledger");
    let bare = desk.run(&format!("recover {} --from-target", desk.name()));
    assert_eq!(bare.status.code(), Some(2), "nothing says which file");
    let words = format!("--csv people.csv {}", desk.identity());
    let unlimited = desk.run(&format!("recover {} --from-target {words}", desk.name()));
    assert_eq!(
        unlimited.status.code(),
        Some(2),
        "nothing says how many rows"
    );
    let said = String::from_utf8(unlimited.stderr).unwrap();
    assert!(said.contains("--limit 0 for every row"), "{said}");
    desk.assert_recovers(&format!("{words} --limit 0"));
}

#[test]
fn a_ledger_of_a_newer_userferry_is_refused_and_can_be_recovered() {
    let desk = Desk::killed();
    // The format's number in the header; the log has a header of its own.
    overwrite(&desk.ledger(), 60, &9_i32.to_be_bytes());
    desk.assert_refused("ledger_newer");
    desk.assert_recovers("");
}

#[test]
fn a_ledger_that_is_gone_is_recovered_and_a_recovery_is_killed_and_resumed() {
    let desk = Desk::killed();
    for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _may_be_gone = fs::remove_file(desk.job().join(file));
    }
    desk.assert_refused("ledger_missing");
    let name = desk.name();
    let words = format!("--csv people.csv --limit 0 {}", desk.identity());
    let mut recover = desk
        .command(&format!(
            "recover {name} --from-target --read-rate 300/1s {words}"
        ))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let looked_up = || {
        let stats = desk.ask("/_sandbox/stats");
        stats["by_kind"]["get_user_by_external_id"]
            .as_u64()
            .unwrap_or(0)
    };
    while looked_up() < 100 {
        assert_eq!(recover.try_wait().unwrap(), None, "it ended before");
    }
    recover.kill().unwrap();
    recover.wait().unwrap();
    let (exit, summary, said) = desk.json("resume");
    assert_eq!(exit, 0, "{summary} {said}");
    assert_eq!(summary["rows"]["linked"], 0);
    assert_eq!(summary["rows"]["failed"], 0);
    desk.assert_exactly_once();
}

#[test]
fn a_job_that_was_limited_to_its_first_rows_stays_so() {
    let desk = Desk::new();
    let import = format!("import people.csv --limit 10 {}", desk.identity());
    assert_eq!(desk.json(&import).0, 0);
    overwrite(&desk.ledger(), 60, &9_i32.to_be_bytes());
    let name = desk.name();
    let (exit, summary, said) = desk.json(&format!("recover {name} --from-target"));
    assert_eq!((exit, &summary["state"]), (0, &"paused".into()), "{said}");
    assert_eq!(summary["rows"]["created"], 0, "{summary}");
    assert_eq!(summary["rows"]["pending"], ROWS - 10, "{summary}");
}

#[test]
fn a_finished_job_is_recovered_without_a_write() {
    let desk = Desk::new();
    let import = format!("import people.csv {}", desk.identity());
    assert_eq!(desk.json(&import).0, 0);
    let writes = || {
        let stats = desk.ask("/_sandbox/stats");
        ["create_user", "create_membership", "create_organization"]
            .map(|kind| stats["by_kind"][kind].as_u64().unwrap())
    };
    let before = writes();
    overwrite(&desk.ledger(), 4096, &[0xA5; 4096]);
    desk.assert_refused_finished();
    let words = format!("--csv people.csv --limit 0 {}", desk.identity());
    let summary = desk.assert_recovers(&words);
    assert_eq!(writes(), before, "nothing was sent that is there");
    assert_eq!(summary["rows"]["created"], 0);
    assert_eq!(summary["memberships"]["recovered"], ROWS);
}

impl Desk {
    /// Of a finished job, status and resume refuse.
    fn assert_refused_finished(&self) {
        for words in ["status", "resume"] {
            let words = format!("{words} {}", self.name());
            let (exit, object, said) = self.json(&words);
            assert_eq!(exit, 74, "{words}: {object} {said}");
        }
    }
}
