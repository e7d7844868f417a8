//! What is printed and written: one object, one record a row, the file's own bytes.

use crate::harness::Work;
use crate::judge::plain;
use serde_json::Value;

const HEADER: &str = "row,line,email,external_id,state,step,user_id,user_origin,org_id,\
                      membership_id,membership_state,attempts,error_code,error_message,\
                      http_status,request_id";

#[test]
fn results_have_a_record_per_row_in_row_order() {
    let work = Work::new();
    let server = work.sandbox("");
    work.fixture("many-organizations.csv").run(&format!(
        "import many-organizations.csv --create-orgs --workers 4 --chunk-size 11 {}",
        server.target()
    ));
    let csv = work.run("results").expect(0).stdout;
    assert_eq!(csv.lines().next().unwrap(), HEADER);
    let rows = work.results();
    let numbers: Vec<usize> = rows.iter().map(|row| row["row"].parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=600));
    let source = std::fs::read(work.path("many-organizations.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(&*source);
    for (record, row) in reader.records().zip(&rows) {
        let record = record.unwrap();
        assert_eq!(record[0].to_lowercase(), row["email"].to_lowercase());
        assert_eq!(record.position().unwrap().line().to_string(), row["line"]);
    }
    let lines = work.run("results --jsonl").expect(0).stdout;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 600);
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(line["row"].to_string(), row["row"]);
        assert_eq!(line["user_id"], row["user_id"].as_str());
        assert_eq!(line["membership_id"], row["membership_id"].as_str());
    }
    work.run("results --out out.csv").expect(0);
    assert_eq!(std::fs::read_to_string(work.path("out.csv")).unwrap(), csv);
}

#[test]
fn rejects_are_the_bytes_of_the_file_and_can_be_corrected_and_imported() {
    let work = Work::new();
    let server = work.sandbox("");
    let header = "\u{feff}Email,First Name,external-id,notes\r\n";
    let good = "ann@example.com,Ann,a-1,\"x, \"\"y\"\"\"\r\n";
    let bad = "=bob.example.com,\"Bob\r\nTwo Lines\",b-1, spaces stay \r\n";
    let worse = "\"cleo at example.com\",\"\",c-1,'\r\n";
    work.write("users.csv", [header, good, bad, good, worse].concat());
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1)
        .says(&["notes"]);
    let rejects = work.run("rejects").expect(0).stdout;
    let plain_header = header.trim_start_matches('\u{feff}');
    assert_eq!(
        rejects.trim_start_matches('\u{feff}'),
        [plain_header, bad, worse].concat()
    );
    // The report is defused for spreadsheets, the rejects are not.
    let report = work.run("results").expect(0).stdout;
    assert!(report.contains("'=bob.example.com"), "{report}");
    work.run("rejects --out rejects.csv").expect(0);
    assert_eq!(
        std::fs::read_to_string(work.path("rejects.csv")).unwrap(),
        rejects
    );
    work.run(&format!("import rejects.csv {}", server.target()))
        .expect(1);
    let corrected = rejects
        .replace("=bob.example.com", "bob@example.com")
        .replace("cleo at ", "cleo@");
    work.write("rejects.csv", corrected);
    work.run(&format!("import rejects.csv --fresh {}", server.target()))
        .expect(0);
    assert_eq!(server.world().users.len(), 3);
}

#[test]
fn a_job_without_problems_has_no_rejects_but_the_header() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    work.run("import users.csv").expect(0);
    let rejects = work.run("rejects").expect(0).stdout;
    assert_eq!(rejects, "email,first_name,external_id,org_external_id\n");
}

#[test]
fn reports_of_a_changed_file_are_refused() {
    let work = Work::new();
    work.write("users.csv", plain(3) + "nobody,N,x-n,\n");
    work.run("import users.csv").expect(1);
    work.write("users.csv", plain(3) + "nobody,M,x-n,\n");
    for line in ["results", "rejects", "results --out out.csv"] {
        let done = work.run(line).expect(65);
        assert!(!done.stdout.contains("nobody"), "{line}: {done}");
    }
    assert!(!work.path("out.csv").exists());
    // Rows that were only added change nothing that was read, and still it is another file.
    work.write(
        "users.csv",
        plain(3) + "nobody,N,x-n,\nmore@example.com,M,x-m,\n",
    );
    for line in ["results", "rejects"] {
        work.run(line).expect(65).says(&["changed"]);
    }
}

#[test]
fn an_output_file_never_replaces_the_source() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    work.run("import users.csv").expect(0);
    for line in ["results --out users.csv", "rejects --out ./users.csv"] {
        work.run(line).expect(2);
    }
    assert_eq!(
        std::fs::read_to_string(work.path("users.csv")).unwrap(),
        plain(3)
    );
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let work = Work::new();
    work.write("users.csv", plain(3) + "nobody,N,x-n,\n");
    work.run("import users.csv").expect(1);
    for command in ["results", "rejects", "report"] {
        work.write("out", "corrected by hand\n");
        let line = format!("{command} --out out");
        work.run(&line)
            .expect(2)
            .says(&["out is there already", "--force"]);
        let kept = std::fs::read_to_string(work.path("out")).unwrap();
        assert_eq!(kept, "corrected by hand\n", "{command}");
        work.run(&format!("{line} --force")).expect(0);
        let replaced = std::fs::read_to_string(work.path("out")).unwrap();
        assert!(!replaced.contains("by hand"), "{command}");
        // What is no file of anybody's is written to as ever.
        work.run(&format!("{command} --out /dev/null")).expect(0);
        work.run(&format!("{command} --force")).expect(2);
    }
    // The reasons beside rejects are a file of their own.
    work.write("again.reasons.csv", "notes\n");
    let refused = work.run("rejects --out again.csv").expect(2);
    refused.says(&["again.reasons.csv is there already"]);
    assert!(!work.path("again.csv").exists());
}

#[test]
fn a_check_replaces_a_file_only_by_force() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    for option in ["--out", "--fix"] {
        work.write("there", "corrected by hand\n");
        let line = format!("check users.csv {option} there");
        work.run(&line)
            .expect(2)
            .says(&["there already", "--force"]);
        let kept = std::fs::read_to_string(work.path("there")).unwrap();
        assert_eq!(kept, "corrected by hand\n", "{option}");
        work.run(&format!("{line} --force")).expect(0);
        let replaced = std::fs::read_to_string(work.path("there")).unwrap();
        assert!(!replaced.contains("by hand"), "{option}");
        // The source stays whatever is said.
        let source = format!("check users.csv {option} users.csv --force");
        work.run(&source).expect(2);
        assert_eq!(
            std::fs::read_to_string(work.path("users.csv")).unwrap(),
            plain(3)
        );
    }
    work.run("check users.csv --out /dev/null").expect(0);
    work.run("check users.csv --force").expect(2);
}

#[test]
fn with_json_stdout_is_one_object_whatever_happens() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    work.write("bad.csv", "name\nx\n");
    for (line, code) in [
        ("import users.csv --json", 0),
        ("import users.csv --json --dry-run", 0),
        ("import bad.csv --json", 65),
        ("import missing.csv --json", 65),
        (
            "import users.csv --json --target workos --base-url http://127.0.0.1:1 --time-scale 0.1",
            75,
        ),
        (
            "import users.csv --json --api-key-file missing --target workos",
            77,
        ),
        ("import users.csv --json --checkpoints users.csv", 74),
        ("status --json", 0),
    ] {
        let done = work.run(line).expect(code);
        let object = done.json();
        assert!(object.is_object(), "{line}");
        if code != 0 {
            assert_eq!(object["exit"], code, "{line}: {object}");
            let message = object["error"]["message"].as_str().unwrap();
            assert!(done.stderr.contains(message), "{line}: {done}");
        }
    }
}

#[test]
fn words_on_stderr_are_plain_lines_without_a_terminal() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(120));
    for (name, value) in [
        ("NO_COLOR", "1"),
        ("CI", "true"),
        ("TERM", "xterm-256color"),
    ] {
        let mut command = work.userferry(&format!(
            "import users.csv --fresh --progress auto {}",
            server.paced(100)
        ));
        command.env(name, value);
        let done = work.spawn(command).wait().expect(0);
        assert!(!done.stderr.contains(['\u{1b}', '\r']), "{done}");
        assert!(done.stderr.lines().count() > 3, "{done}");
        assert_eq!(done.stdout, "", "words are not data");
    }
}

#[test]
fn progress_as_json_is_an_object_a_line_and_none_is_none() {
    let work = Work::new();
    work.write("users.csv", plain(30));
    let done = work
        .run("import users.csv --progress json --json")
        .expect(0);
    let mut kinds = Vec::new();
    for line in done.stderr.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line).unwrap();
        kinds.push(event["event"].as_str().unwrap().to_owned());
    }
    assert!(kinds.iter().any(|kind| kind == "progress"), "{done}");
    let quiet = work
        .run("import users.csv --progress none --json")
        .expect(0);
    assert!(!quiet.stderr.contains("rows/s"), "{quiet}");
}

#[test]
fn the_events_file_has_every_call_and_no_personal_data() {
    let work = Work::new();
    let server = work.sandbox("--faults 500=3%,429=3% --seed 3");
    work.write("users.csv", plain(100));
    let summary = work
        .run(&format!(
            "import users.csv --json --events events.jsonl --time-scale 0.05 {}",
            server.target()
        ))
        .expect(0)
        .json();
    let text = std::fs::read_to_string(work.path("events.jsonl")).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.iter().all(|event| event["ts"].is_i64()));
    let calls: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "call")
        .collect();
    // Every request the server received, by its own number.
    let mut told: Vec<_> = calls
        .iter()
        .filter_map(|call| call["request_id"].as_str())
        .collect();
    let history = server.history();
    let mut received: Vec<_> = history
        .iter()
        .map(|request| request["request_id"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    received.sort_unstable();
    assert_eq!(told, received);
    assert_eq!(summary["requests"]["total"], received.len());
    let settled: usize = events
        .iter()
        .filter(|event| event["event"] == "settled")
        .map(|event| event["rows"].as_array().unwrap().len())
        .sum();
    assert_eq!(settled, 100);
    assert!(!text.contains("@example.com"));
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let work = Work::new();
    work.write("users.csv", plain(3));
    work.run("import users.csv --job it --events events.jsonl")
        .expect(0);
    work.run("results --out results.csv").expect(0);
    let mode = |name: &str| {
        let meta = std::fs::metadata(work.path(name)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode("checkpoints/it"), 0o700);
    for name in [
        "checkpoints/it/ledger.sqlite",
        "checkpoints/it/sandbox.log",
        "checkpoints/it/job.lock",
        "events.jsonl",
        "results.csv",
    ] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn rejects_of_a_fault_that_is_gone_import_without_a_failure() {
    let work = Work::new();
    let server = work.sandbox("");
    let header = "email,first_name,org_external_id\r\n";
    let row = |n: usize, org: &str| format!("u{n}@example.com,\"N, {n}\",{org}\r\n");
    let rows: String = (0..40)
        .map(|n| row(n, if n % 2 == 0 { "here" } else { "missing" }))
        .collect();
    work.write("users.csv", format!("{header}{rows}"));
    server.make(
        "/organizations",
        &serde_json::json!({"name": "Here", "external_id": "here"}),
    );
    work.run(&format!("import users.csv --job it {}", server.target()))
        .expect(1);
    work.run("rejects it --out rejects.csv")
        .expect(0)
        .says(&["20 rows written", "rejects.reasons.csv"]);
    let reasons = std::fs::read(work.path("rejects.reasons.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(&*reasons);
    let reasons: Vec<crate::harness::Record> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(reasons.len(), 20);
    for (at, reason) in reasons.iter().enumerate() {
        assert_eq!(reason["record"], (at + 1).to_string());
        assert_eq!(reason["row"], (2 * at + 2).to_string());
        assert_eq!(reason["line"], (2 * at + 3).to_string());
        assert_eq!(reason["error_code"], "organization_not_found");
    }
    server.make(
        "/organizations",
        &serde_json::json!({"name": "Missing", "external_id": "missing"}),
    );
    let summary = work
        .run(&format!("import rejects.csv --json {}", server.target()))
        .expect(0)
        .json();
    assert_eq!(summary["rows"]["created"], 20);
    assert_eq!(summary["rows"]["failed"], 0);
    assert_eq!(server.world().users.len(), 40);
}
