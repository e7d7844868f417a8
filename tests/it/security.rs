//! Words and names from outside that mean harm: in a cell, in an answer, on the command line.

use crate::harness::Work;
use crate::judge::plain;
use crate::proxy::{Act, Proxy, answer};

/// What an answer says ends up in reports and on a terminal, but it steers neither.
#[test]
fn words_of_a_server_cannot_steer_a_terminal_nor_a_spreadsheet() {
    let work = Work::new();
    let server = work.sandbox("");
    let proxy = Proxy::start(&server, |request| {
        if !request.creates("p2@example.com") {
            return Act::Pass;
        }
        let words = r"=1+1\u001b[2J\u001b]0;owned\u0007\u202egpj.exe\u200b\r\n";
        let body = format!(
            r#"{{"code":"user_creation_error","message":"{words}","errors":[{{"code":"password_strength_error","message":"{words}"}}]}}"#
        );
        let headers = "Content-Type: application/json\r\nX-Request-ID: =req\r\n";
        Act::Answer(answer("422 Unprocessable Entity", headers, &body))
    });
    work.write("users.csv", plain(3));
    let line = format!(
        "import users.csv --log-level trace --json --events events.jsonl {}",
        proxy.target()
    );
    let done = work.run(&line).expect(1);
    let mut shown = done.stdout + &done.stderr;
    for line in ["status", "results", "results --jsonl", "rejects"] {
        let done = work.run(line).expect(0);
        shown += &(done.stdout + &done.stderr);
    }
    shown += &std::fs::read_to_string(work.path("events.jsonl")).unwrap();
    for odd in ['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}'] {
        assert!(!shown.contains(odd), "{odd:?} in {shown:?}");
    }
    let record = &work.results()[1];
    assert_eq!(record["error_code"], "password_strength_error");
    for (column, cell) in record {
        let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        assert!(!formula, "{column}: {cell:?}");
    }
}

#[test]
fn a_cell_that_is_a_formula_is_defused_in_results_and_untouched_in_rejects() {
    let work = Work::new();
    let server = work.sandbox("");
    let csv = "email,external_id\n\
               a@example.com,=HYPERLINK(1)\n\
               b@example.com,+1\n\
               c@example.com,-1\n\
               d@example.com,@SUM\n\
               =cmd,x\n";
    work.write("users.csv", csv);
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1);
    let records = work.results();
    let ids: Vec<&str> = records.iter().map(|row| &*row["external_id"]).collect();
    assert_eq!(ids, ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM", "x"]);
    assert_eq!(records[4]["email"], "'=cmd");
    // What is imported again must be what it was.
    let rejects = work.run("rejects").expect(0).stdout;
    assert!(rejects.contains("\n=cmd,x"), "{rejects}");
    // The target got the words of the file.
    assert!(server.dump().to_string().contains("\"=HYPERLINK(1)\""));
}

#[test]
fn a_job_name_is_one_folder_and_never_a_way_out() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    for name in ["../x", "a/b", "..", ".hidden", "-x", "a b", "/tmp/x", "ä"] {
        let mut command = work.userferry("import users.csv");
        command.arg(format!("--job={name}"));
        work.spawn(command).wait().expect(2);
        for words in [vec!["status"], vec!["results"], vec!["jobs", "rm"]] {
            let mut command = work.userferry("");
            command.args(words).arg("--").arg(name);
            work.spawn(command).wait().expect(2);
        }
    }
    assert!(work.jobs().is_empty(), "{:?}", work.jobs());
    assert!(!work.path("x").exists());
}

#[test]
fn a_job_folder_that_is_a_link_is_no_job() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(3));
    work.run(&format!("import users.csv --job real {}", server.target()))
        .expect(0);
    let place = work.path("checkpoints");
    std::os::unix::fs::symlink(place.join("real"), place.join("link")).unwrap();
    let received = server.received();
    for line in [
        "status link",
        "results link",
        "resume link",
        "jobs rm link --yes",
    ] {
        let done = work.run(line);
        assert!(
            ![Some(0), Some(70), None].contains(&done.code),
            "{line}: {done}"
        );
    }
    // The name is taken: the next one is a job of its own, beside the link.
    work.run("import users.csv --job link").expect(0);
    assert_eq!(work.jobs(), ["link", "link-2", "real"]);
    assert_eq!(server.received(), received);
    let summary = work.run("status real --json").expect(0).json();
    assert_eq!(summary["rows"]["created"], 3, "{summary}");
}

#[test]
fn a_ledger_that_is_a_link_is_not_followed() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(3));
    work.run(&format!("import users.csv --job it {}", server.target()))
        .expect(0);
    let ledger = work.path("checkpoints/it/ledger.sqlite");
    std::fs::rename(&ledger, work.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(work.path("elsewhere"), &ledger).unwrap();
    let before = std::fs::read(work.path("elsewhere")).unwrap();
    for line in ["resume it", "results it"] {
        let done = work.run(line);
        assert!(
            ![Some(0), Some(70), None].contains(&done.code),
            "{line}: {done}"
        );
    }
    assert_eq!(std::fs::read(work.path("elsewhere")).unwrap(), before);
}
