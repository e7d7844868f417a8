//! Jobs: continued, refused, repeated, listed, removed.

use crate::harness::{Running, Server, Work, until};
use crate::judge::{World, plain};
use rustix::process::Signal;
use serde_json::Value;

/// A job that was killed on its way.
struct Killed {
    work: Work,
    server: Server,
    job: String,
}

impl Killed {
    fn new() -> Self {
        let (work, server, running) = begun();
        kill(&work, running);
        let mut jobs = work.jobs();
        let job = jobs.pop().unwrap();
        Self { work, server, job }
    }
}

/// Kills an import. Its workers hold the job for a moment longer: until they notice.
fn kill(work: &Work, running: Running) {
    drop(running);
    until("nobody holds the job", || {
        let status = work.run("status --json").expect(0).json();
        (status["state"] != "running").then_some(())
    });
}

/// An import under way: at least 40 of its 300 rows are applied.
fn begun() -> (Work, Server, Running) {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(300));
    let running = work.start(&format!(
        "import users.csv --chunk-size 20 {}",
        server.paced(150)
    ));
    server.has_applied(40);
    (work, server, running)
}

#[test]
fn a_file_that_changed_is_refused_before_any_request() {
    let Killed { work, server, job } = Killed::new();
    let good = plain(300);
    let sent = server.received();
    let edited = good.replacen("P299", "Q299", 1);
    let truncated = &good[..good.len() - 5];
    let longer = format!("{good}new@example.com,New,x-new,\n");
    for bytes in [edited.as_str(), truncated, &longer] {
        work.write("users.csv", bytes);
        let import = format!("import users.csv {}", server.target());
        for line in ["resume", &import] {
            let object = work.run(&format!("{line} --json")).expect(65).json();
            assert_eq!(object["error"]["code"], "file_changed");
            assert_eq!(object["job"], job);
        }
    }
    std::fs::remove_file(work.path("users.csv")).unwrap();
    let object = work.run("resume --json").expect(65).json();
    assert_eq!(object["job"], job);
    assert_eq!(server.received(), sent);
    assert_eq!(work.jobs(), [job], "a refusal makes no job");
    work.write("users.csv", good);
    work.run("resume --rate none").expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_job() {
    let (work, server, running) = begun();
    let pid = running.pid().to_string();
    let job = work.jobs().pop().unwrap();
    // It goes on as long as it is looked at.
    server.signal(Signal::STOP);
    for line in [
        "resume".to_owned(),
        format!("import users.csv {}", server.target()),
        format!("jobs rm {job} --yes"),
    ] {
        work.run(&line).expect(73).says(&[&pid]);
    }
    let object = work.run("resume --json").expect(73).json();
    assert_eq!(object["job"], job);
    assert_eq!(object["error"]["code"], "job_held");
    server.signal(Signal::CONT);
    running.wait().expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn status_tells_a_run_that_goes_on_in_another_process() {
    let (work, server, running) = begun();
    server.signal(Signal::STOP);
    let status = work.run("status --json").expect(0).json();
    assert_eq!(status["state"], "running");
    assert_eq!(status["rows"]["total"], 300);
    let table = work.run("status").expect(0).stdout;
    assert!(table.contains(&running.pid().to_string()), "{table}");
    assert!(work.run("jobs").expect(0).stdout.contains("running"));
    kill(&work, running);
    let status = work.run("status --json").expect(0).json();
    assert_eq!(status["state"], "interrupted");
    assert!(status["rows"]["pending"].as_u64().unwrap() > 0);
}

#[test]
fn counts_of_a_killed_run_are_told_as_the_least_it_sent() {
    let Killed { work, server, job } = Killed::new();
    let status = work.run("status --json").expect(0).json();
    assert_eq!(status["requests_at_least"], true);
    assert!(status["requests"]["total"].as_u64().unwrap() <= server.received());
    work.run("report --out report.html").expect(0);
    let page = std::fs::read_to_string(work.path("report.html")).unwrap();
    assert!(page.contains("at least"));
    // A run that came to its end knows what it sent; the page sums both.
    let done = work.run(&format!("resume {job} --rate none --json"));
    assert_eq!(done.expect(0).json().get("requests_at_least"), None);
    let status = work.run("status --json").expect(0).json();
    assert_eq!(status.get("requests_at_least"), None);
    work.run("report --out report.html --force").expect(0);
    let page = std::fs::read_to_string(work.path("report.html")).unwrap();
    assert!(page.contains("at least"));
}

#[test]
fn an_identity_option_with_another_value_is_refused_on_resume() {
    let Killed { work, server, .. } = Killed::new();
    let sent = server.received();
    for option in [
        "--target sandbox",
        "--base-url http://127.0.0.1:1",
        "--org-id org_1",
        "--org-external-id acme",
        "--create-orgs",
        "--on-existing skip",
        "--reactivate",
        "--require-membership",
        "--chunk-size 21",
    ] {
        let word = option.split(' ').next().unwrap();
        work.run(&format!("resume {option}"))
            .expect(2)
            .says(&[word]);
    }
    let import = format!("import users.csv --on-existing fail {}", server.target());
    work.run(&import).expect(2).says(&["--on-existing"]);
    // Without --target nothing may leave the machine, whatever an unfinished job says.
    assert_eq!(server.received(), sent);
    let same = format!(
        "resume --chunk-size 20 --on-existing link --workers 1 {}",
        server.target()
    );
    work.run(&same).expect(0);
}

#[test]
fn the_same_import_continues_an_unfinished_job() {
    let Killed { work, server, job } = Killed::new();
    work.run(&format!("import users.csv {}", server.target()))
        .expect(0)
        .says(&[&format!("continuing job {job}")]);
    assert_eq!(work.jobs(), [job]);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_wrong_command_line_prints_usage_and_nothing_on_stdout() {
    let work = Work::new();
    work.write("users.csv", plain(1));
    for line in [
        "",
        "import",
        "import users.csv --colour",
        "import users.csv --json --workers 0",
        "import users.csv --json --limit x",
        "import users.csv --json --rate fast",
        "import users.csv --json --target ldap",
        "resume --json --job x",
        "verify",
        "undo",
    ] {
        let done = work.run(line).expect(2);
        assert_eq!(done.stdout, "", "{line}");
        assert!(done.stderr.contains("Usage:"), "{line}: {done}");
    }
    assert!(work.jobs().is_empty());
}

#[test]
fn resuming_a_finished_job_sends_nothing_and_exits_as_it_did() {
    for (csv, code) in [(plain(9), 0), (plain(9) + "nobody,N,x-n,\n", 1)] {
        let work = Work::new();
        let server = work.sandbox("");
        work.write("users.csv", csv);
        let first = work
            .run(&format!("import users.csv --json {}", server.target()))
            .expect(code)
            .json();
        let sent = server.received();
        let job = work.jobs().pop().unwrap();
        drop(server);
        // Its target is gone and its key too: nothing of it is asked.
        let mut command = work.userferry(&format!("resume {job} --json"));
        command.env_remove("WORKOS_API_KEY");
        let second = work.spawn(command).wait().expect(code).json();
        assert_eq!(second, first);
        assert_eq!(first["requests"]["total"], sent);
        assert_eq!(work.run("status --json").expect(0).json(), first);
    }
}

#[test]
fn a_finished_file_imported_again_is_a_new_numbered_job() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(9));
    let line = format!("import users.csv {}", server.target());
    work.run(&line).expect(0);
    let name = work.jobs().pop().unwrap();
    work.run(&line).expect(0).says(&[&name, "finished"]);
    assert_eq!(work.jobs(), [name.clone(), format!("{name}-2")]);
    assert!(work.results().iter().all(|row| row["state"] == "linked"));
    work.run(&line).expect(0);
    assert_eq!(work.jobs().pop().unwrap(), format!("{name}-3"));
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn fresh_starts_beside_an_unfinished_job_and_leaves_it() {
    let Killed { work, server, job } = Killed::new();
    let ledger = work.path("checkpoints").join(&job).join("ledger.sqlite");
    let before = std::fs::read(&ledger).unwrap();
    work.run(&format!("import users.csv --fresh {}", server.target()))
        .expect(0);
    assert_eq!(work.jobs(), [job.clone(), format!("{job}-2")]);
    assert_eq!(std::fs::read(&ledger).unwrap(), before);
    work.run(&format!("resume {job} --rate none")).expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

#[test]
fn a_job_goes_by_the_name_it_is_given() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    work.run("import users.csv --job spring").expect(0);
    assert_eq!(work.jobs(), ["spring"]);
    work.run("import users.csv --job ../spring").expect(2);
    work.run("status spring").expect(0);
    for line in [
        "status nobody",
        "resume nobody",
        "results nobody",
        "jobs rm nobody",
    ] {
        work.run(line).expect(2).says(&["nobody"]);
    }
    let unnamed = work.run("jobs rm --yes").expect(2);
    let unnamed = unnamed.says(&["no job is named", "spring  completed", "jobs rm JOB`"]);
    assert_eq!(unnamed.stdout, "");
    assert_eq!(work.jobs(), ["spring"]);
}

#[test]
fn a_job_is_picked_only_when_it_is_clear_which() {
    let work = Work::new();
    work.run("status").expect(2).says(&["no jobs"]);
    work.run("jobs").expect(0);
    work.run("jobs rm").expect(2).says(&["there are no jobs"]);
    let stub = crate::http::Stub::start("401 Unauthorized\r\n");
    for name in ["one", "two"] {
        work.write(&format!("{name}.csv"), plain(3));
        let line = format!("import {name}.csv --job {name} {}", stub.target());
        work.run(&line).expect(77);
    }
    work.run("resume").expect(2).says(&["one", "two"]);
    work.run("retry").expect(2).says(&["no job"]);
    // Nothing brings a job back, and there is nobody to ask.
    work.run("jobs rm one").expect(2).says(&["--yes"]);
    assert_eq!(work.jobs(), ["one", "two"]);
    work.run("jobs rm one --yes").expect(0);
    work.run("resume").expect(77);
    assert_eq!(work.jobs(), ["two"]);
}

#[test]
fn jobs_are_kept_where_the_option_or_the_environment_says() {
    let work = Work::new();
    work.write("users.csv", plain(3));
    work.run("import users.csv --checkpoints here --job a")
        .expect(0);
    let mut command = work.userferry("import users.csv --job b");
    command.env("USERFERRY_CHECKPOINTS", work.path("there"));
    work.spawn(command).wait().expect(0);
    assert!(work.path("here/a/ledger.sqlite").is_file());
    assert!(work.path("there/b/ledger.sqlite").is_file());
    assert!(work.jobs().is_empty());
    let status: Value = work
        .run("status --json --checkpoints here")
        .expect(0)
        .json();
    let resume = status["resume"].as_str().unwrap();
    let line = resume.strip_prefix("userferry ").unwrap();
    work.run(line).expect(0).says(&["nothing was sent"]);
}

#[test]
fn retry_tries_again_what_failed_and_keeps_what_is_known() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_external_id\na@example.com,late\nb@example.com,\nnobody,\nc@example.com,late\n",
    );
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1);
    let made = work.results().swap_remove(1);
    let body = serde_json::json!({"name": "Late", "external_id": "late"});
    server.make("/organizations", &body);
    let summary = work.run("retry --rate none --json").expect(1).json();
    assert_eq!(summary["rows"]["created"], 3, "{summary}");
    assert_eq!(summary["rows"]["failed"], 1);
    let rows = work.results();
    assert_eq!(rows[1], made);
    assert_eq!(rows[2]["error_code"], "email_invalid");
    assert_eq!(server.count("create_user"), 3);
    assert_eq!(server.world().memberships.len(), 2);
}

#[test]
fn retry_after_a_membership_was_opened_again_knows_the_user_as_its_own() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write(
        "users.csv",
        "email,org_external_id,role_slugs\na@example.com,acme,chief\n",
    );
    work.run(&format!(
        "import users.csv --create-orgs {}",
        server.target()
    ))
    .expect(1);
    let before = work.results().swap_remove(0);
    work.run("retry --rate none").expect(1);
    let after = work.results().swap_remove(0);
    for column in ["state", "step", "user_id", "user_origin", "error_code"] {
        assert_eq!(before[column], after[column], "{column}");
    }
    assert_eq!(after["user_origin"], "answered");
    assert_eq!(server.count("create_user"), 1);
}

/// The first row with an email failed, the second made the user: when the first is tried again, the
/// user is still ours.
#[test]
fn retry_of_a_first_row_joins_the_user_that_the_next_row_made() {
    let work = Work::new();
    let server = work.sandbox("");
    server.make(
        "/organizations",
        &serde_json::json!({"name": "A", "external_id": "there"}),
    );
    work.write(
        "users.csv",
        "email,org_external_id\na@example.com,late\na@example.com,there\n",
    );
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1);
    server.make(
        "/organizations",
        &serde_json::json!({"name": "L", "external_id": "late"}),
    );
    work.run("retry --rate none").expect(0);
    let rows = work.results();
    assert_eq!(
        [&rows[0]["state"], &rows[1]["state"]],
        ["merged", "created"]
    );
    assert_eq!(rows[0]["user_id"], rows[1]["user_id"]);
    assert_eq!(rows[0]["user_origin"], "answered");
    assert_eq!(server.count("create_user"), 1);
    assert_eq!(server.world().memberships.len(), 2);
}

/// The second row made the user and failed later: both are tried again, and the first one has it.
#[test]
fn retry_of_both_rows_gives_the_first_one_the_user_that_the_second_made() {
    let work = Work::new();
    let server = work.sandbox("");
    server.make(
        "/organizations",
        &serde_json::json!({"name": "A", "external_id": "there"}),
    );
    work.write(
        "users.csv",
        "email,org_external_id,role_slugs\na@example.com,late,\na@example.com,there,chief\n",
    );
    work.run(&format!("import users.csv {}", server.target()))
        .expect(1);
    server.make(
        "/organizations",
        &serde_json::json!({"name": "L", "external_id": "late"}),
    );
    work.run("retry --rate none").expect(1);
    let rows = work.results();
    assert_eq!(
        [&rows[0]["state"], &rows[1]["state"]],
        ["created", "failed"]
    );
    assert_eq!(rows[0]["user_id"], rows[1]["user_id"]);
    assert_eq!(rows[0]["user_origin"], "answered");
    assert_eq!(server.count("create_user"), 1);
}
