//! Canaries: a key, a password, a hash and a person that must turn up nowhere but at the target.

use crate::harness::Work;
use std::fmt::Write as _;
use std::path::Path;

const KEY: &str = "sk_test_canary_k3y";
const PASSWORD: &str = "canary-p4ssw0rd";
const HASH: &str = "$2b$10$canaryN9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL";
const TOTP: &str = "CANARYN4CANARYN4CANARYN4CANARYN4";
const EMAIL: &str = "canary-3mail@example.com";
const NAME: &str = "Canary-N4me";

/// Every regular file below, with its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

fn holds(bytes: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    bytes.windows(word.len()).any(|window| window == word)
}

#[test]
fn secrets_are_nowhere_while_it_runs_and_after_it_was_killed() {
    let work = Work::new();
    let server = work.sandbox("--latency 10ms");
    let mut csv =
        String::from("email,first_name,password,password_hash,password_hash_type,totp_secret\n");
    for n in 0..200 {
        writeln!(csv, "{n}{EMAIL},{NAME},{PASSWORD},,,{TOTP}").unwrap();
        writeln!(csv, "h{n}{EMAIL},{NAME},,{HASH},bcrypt,").unwrap();
    }
    writeln!(csv, "{EMAIL}-wrong@,{NAME},{PASSWORD},,,{TOTP}").unwrap();
    writeln!(csv, "odd{EMAIL},{NAME},,,,{TOTP}1").unwrap();
    work.write("users.csv", csv);
    let mut command = work.userferry(&format!(
        "import users.csv --job it --events events.jsonl --log-level trace --chunk-size 20 {}",
        server.paced(100)
    ));
    command.env("WORKOS_API_KEY", KEY);
    let running = work.spawn(command);
    server.has_applied(40);
    processes_keep_the_key(&work, running.pid());
    drop(running);
    nothing_on_disk(&work);
    // What may be under way to a second factor is waited out: not for minutes here.
    let resume = "resume --rate none --time-scale 0.02 --log-level trace --json";
    let mut command = work.userferry(resume);
    command.env("WORKOS_API_KEY", KEY);
    let done = work.spawn(command).wait().expect(1);
    nothing_on_disk(&work);
    assert!(!done.stdout.contains(EMAIL));
    assert_eq!(server.world().users.len(), 400);
}

/// Looks through every file of the job, the logs and the words, but not the source.
fn nothing_on_disk(work: &Work) {
    for (name, bytes) in files(&work.path("")) {
        if name.ends_with("users.csv") {
            continue;
        }
        for canary in [KEY, PASSWORD, HASH, TOTP, EMAIL, NAME] {
            assert!(!holds(&bytes, canary), "{canary} is in {name}");
        }
    }
}

/// Command lines of all processes, and the environment of the workers.
#[cfg(target_os = "linux")]
fn processes_keep_the_key(work: &Work, coordinator: u32) {
    for pid in work.workers_ready(1) {
        has_no_canary(pid, "cmdline");
        has_no_canary(pid, "environ");
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(line.starts_with(b"userferry\0worker\0"), "{line:?}");
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert_eq!(name, "userferry\n");
        leaves_no_core(&pid.to_string());
    }
    leaves_no_core(&coordinator.to_string());
    has_no_canary(coordinator, "cmdline");
}

/// Looks at what the system tells everybody, or this user, about a process.
#[cfg(target_os = "linux")]
fn has_no_canary(pid: u32, what: &str) {
    let told = std::fs::read(format!("/proc/{pid}/{what}")).unwrap();
    assert!(!told.is_empty(), "{what} of {pid} tells nothing");
    for canary in [KEY, PASSWORD, HASH, TOTP, EMAIL, NAME] {
        assert!(!holds(&told, canary), "{canary} is in {what} of {pid}");
    }
}

/// The environment that a person gives the key in is that person's; from a file it gets into none.
#[cfg(target_os = "linux")]
#[test]
fn a_key_from_a_file_is_in_the_environment_of_nobody() {
    use std::os::unix::fs::PermissionsExt as _;
    let work = Work::new();
    let server = work.sandbox(&format!("--api-key {KEY}"));
    work.write("users.csv", crate::judge::plain(100));
    work.write("key", KEY);
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(work.path("key"), owner_only).unwrap();
    let mut command = work.userferry(&format!(
        "import users.csv --events events.jsonl --api-key-file key {}",
        server.paced(50)
    ));
    command.env_remove("WORKOS_API_KEY");
    let running = work.spawn(command);
    server.has_applied(10);
    processes_keep_the_key(&work, running.pid());
    has_no_canary(running.pid(), "environ");
    running.wait().expect(0);
}

/// A core file would hold the key and people.
#[cfg(target_os = "linux")]
fn leaves_no_core(pid: &str) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
}

#[cfg(not(target_os = "linux"))]
fn processes_keep_the_key(_: &Work, _: u32) {}

#[test]
fn the_automatic_sandbox_gets_its_key_over_stdin() {
    let work = Work::new();
    work.write("users.csv", crate::judge::plain(5));
    let mut command = work.userferry("import users.csv --job it");
    command.env("WORKOS_API_KEY", KEY);
    work.spawn(command).wait().expect(0);
    for (name, bytes) in files(&work.path("checkpoints")) {
        assert!(!holds(&bytes, KEY), "{name}");
        assert!(!holds(&bytes, "sk_sandbox_"), "{name}");
    }
}

#[test]
fn words_of_a_file_cannot_steer_the_terminal() {
    let work = Work::new();
    work.write(
        "users.csv",
        "email,external_id,sp\u{1b}[31mecial\nnobody\u{1b}]0;title\u{7},x\u{202e}1,\n",
    );
    let done = work.run("import users.csv --log-level trace").expect(1);
    let words = done.stderr + &work.run("status").stdout;
    for odd in ['\u{1b}', '\u{7}', '\u{202e}'] {
        assert!(!words.contains(odd), "{words:?}");
    }
    assert_eq!(work.results()[0]["error_code"], "email_invalid");
}

/// The columns of a file whose rows slip.
const SLIPPED: [&str; 9] = [
    "email",
    "first_name",
    "email_verified",
    "password",
    "password_hash",
    "password_hash_type",
    "org_external_id",
    "org_id",
    "role_slugs",
];

const ROLE: &str = "Dan Secretname";

/// What must not be told, wherever it stands.
const SLIPPING: [&str; 6] = [NAME, PASSWORD, HASH, ROLE, "Hunter2-plain!", "hunter2"];

/// A cell too many or too few before them, and every cell stands in its neighbour's column.
fn slipped() -> String {
    let cells = [
        "a@example.com",
        NAME,
        "",
        PASSWORD,
        HASH,
        "bcrypt",
        "",
        "",
        ROLE,
    ];
    let mut csv = SLIPPED.join(",") + ",external_id,metadata,userferry_skip\n";
    for slip in 0..SLIPPED.len() {
        let mut row = cells.to_vec();
        row.rotate_right(slip);
        writeln!(csv, "{},,,", row.join(",")).unwrap();
    }
    for (n, canary) in SLIPPING.iter().enumerate() {
        for (column, name) in SLIPPED.iter().enumerate() {
            // The id of an organization is nobody's secret, and the ledger has to know it.
            if name.starts_with("org_") && *canary != HASH {
                continue;
            }
            let mut row = vec![""; SLIPPED.len()];
            row[0] = "b@example.com";
            row[column] = canary;
            writeln!(csv, "{},,,", row.join(",")).unwrap();
        }
        // An id that two people have, metadata that is none, blanks that a repair removes.
        writeln!(csv, "c{n}@example.com,,,,,,,,,{canary},,").unwrap();
        writeln!(csv, "d{n}@example.com,,,,,,,,,{canary},,").unwrap();
        writeln!(csv, "e{n}@example.com,,,,,,,,,,{canary},").unwrap();
        writeln!(csv, "f{n}@example.com,,,,,,,,, {canary} ,,").unwrap();
    }
    writeln!(csv, "g@example.com,,,,,,,,,,,{HASH}").unwrap();
    csv
}

#[test]
fn cells_that_have_slipped_into_other_columns_are_told_nowhere() {
    let work = Work::new();
    work.write("users.csv", slipped());
    work.run("check users.csv --out problems.csv --fix fixed")
        .expect(1);
    std::fs::remove_file(work.path("fixed")).unwrap();
    work.run("check users.csv --json").expect(1);
    work.run("import users.csv --dry-run --json").expect(1);
    work.run("import users.csv --job it --events events.jsonl --log-level trace")
        .expect(1);
    work.run("status --json");
    work.run("report --out report.html").expect(0);
    // What the rehearsal made is in its log, where it has to be.
    for (name, bytes) in files(&work.path("")) {
        if name.ends_with("users.csv") || name.ends_with("sandbox.log") {
            continue;
        }
        for canary in SLIPPING {
            assert!(!holds(&bytes, canary), "{canary} is in {name}");
        }
    }
}
