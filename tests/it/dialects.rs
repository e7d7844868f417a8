//! Files as spreadsheets write them: carried from a private copy, continued from it, and handed
//! back in their own bytes.

use crate::harness::Work;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

const HEADER: &[u8] = b"E-Mail;Vorname\r\n";
const GOOD: &[u8] = b"ada@example.com;Ren\xe9\r\n";
const BAD: &[u8] = b"nobody;Zo\xeb\r\n";

fn copy_of(work: &Work) -> std::path::PathBuf {
    let [job] = &work.jobs()[..] else {
        panic!("one job is expected");
    };
    work.path("checkpoints").join(job).join("source.csv")
}

#[test]
fn rejects_of_a_windows_file_are_its_own_bytes_and_the_copy_stays_for_them() {
    let work = Work::new();
    work.write("w.csv", [HEADER, GOOD, BAD].concat());
    work.run("import w.csv --map Vorname=first_name")
        .expect(1)
        .says(&["windows-1252", "semicolons", "mode 0600"]);
    let copy = copy_of(&work);
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    work.run("rejects --out r.csv").expect(0);
    let rejects = std::fs::read(work.path("r.csv")).unwrap();
    assert_eq!(rejects, [HEADER, BAD].concat());
    std::fs::remove_file(&copy).unwrap();
    work.run("retry").expect(1);
    assert!(copy.exists(), "a copy that is gone is made again");
    work.write("w.csv", b"email\n");
    work.run("retry").expect(65).says(&["changed after job"]);
}

#[test]
fn a_clean_packed_file_leaves_no_copy_and_its_results_can_still_be_read() {
    let work = Work::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"email\nada@example.com\n").unwrap();
    work.write("u.csv.gz", packed.finish().unwrap());
    work.run("import u.csv.gz")
        .expect(0)
        .says(&["gzip", "the copy of the file's text is removed"]);
    assert!(!copy_of(&work).exists());
    let results = work.run("results").expect(0).stdout;
    assert!(results.contains("ada@example.com"), "{results}");
    work.run("import u.csv.gz --dry-run").expect(0);
}

#[test]
fn stdin_is_read_once_and_its_copy_stays_with_the_job() {
    let work = Work::new();
    let mut command = work.userferry("import -");
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"email\nada@example.com\n").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(copy_of(&work).exists());
    let results = work.run("results").expect(0).stdout;
    assert!(results.contains("ada@example.com"), "{results}");
}

#[test]
fn another_way_to_read_the_file_is_another_job() {
    let work = Work::new();
    work.write("w.csv", [HEADER, GOOD, BAD].concat());
    work.run("import w.csv").expect(1);
    for option in [
        "--delimiter ,",
        "--encoding utf-8",
        "--map Vorname=last_name",
    ] {
        work.run(&format!("retry {option}"))
            .expect(2)
            .says(&["a job keeps what it was started with"]);
    }
}

#[test]
fn nobody_is_created_from_a_guessed_encoding() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("w.csv", [HEADER, GOOD].concat());
    let to = server
        .target()
        .replace("--target sandbox", "--target workos");
    work.run(&format!("import w.csv {to}"))
        .expect(65)
        .says(&["column Vorname", "--encoding windows-1252"]);
    assert_eq!(server.received(), 0);
}

#[test]
fn a_job_from_stdin_is_recovered_from_its_copy() {
    let work = Work::new();
    let mut command = work.userferry("import - --json");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"email;first_name\nada@example.com;Ada\n")
        .unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let [job] = &work.jobs()[..] else {
        panic!("one job is expected");
    };
    // One page of outcomes is overwritten: the ledger is damaged, what the job is can be read.
    let ledger = work.path("checkpoints").join(job).join("ledger.sqlite");
    let mut bytes = std::fs::read(&ledger).unwrap();
    let page = bytes
        .chunks(4096)
        .position(|page| page.windows(7).any(|w| w == b"user_01"));
    let page = page.expect("a user id is in the ledger") * 4096;
    bytes[page..page + 4096].fill(0xff);
    std::fs::write(&ledger, bytes).unwrap();
    work.run(&format!("recover {job} --from-target")).expect(0);
    let results = work.run("results").expect(0).stdout;
    assert!(results.contains("recovered"), "{results}");
}

#[test]
fn a_file_without_rows_is_told_of_and_one_without_anything_is_refused() {
    let work = Work::new();
    work.write("rows.csv", "email,first_name\r\n");
    work.write("nothing.csv", "");
    work.write("blank.csv", "\u{feff}\n\n");
    for command in ["check", "import --dry-run", "import --job it"] {
        work.run(&format!("{command} rows.csv"))
            .expect(0)
            .says(&["no rows below them", "how it was exported"]);
        for name in ["nothing.csv", "blank.csv"] {
            work.run(&format!("{command} {name}"))
                .expect(65)
                .says(&["the file is empty", "not exported as a whole"]);
        }
    }
    let summary = work.run("status it --json").expect(0).json();
    assert_eq!(summary["state"], "completed");
    assert_eq!(summary["rows"]["total"], 0);
    let page = work.run("report it").expect(0).stdout;
    assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
    assert_eq!(work.run("results it").expect(0).stdout.lines().count(), 1);
}
