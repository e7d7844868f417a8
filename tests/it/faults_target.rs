//! A target that cannot be reached, refuses, throttles or is out for an hour: no row pays for it.

use crate::harness::{NOBODY, Work, until};
use crate::http::Stub;
use crate::judge::{World, people, plain};
use crate::proxy::{Act, Proxy, answer};
use serde_json::Value;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A run at `url` that ends before its first row, ten times as fast as in real life; returns its
/// summary.
fn ended(url: &str, environment: &[(&str, &str)], code: i32) -> Value {
    let work = Work::new();
    work.write("users.csv", plain(5));
    let line = format!("import users.csv --json --time-scale 0.1 --target workos --base-url {url}");
    let mut command = work.userferry(&line);
    command.envs(environment.iter().copied());
    let begun = Instant::now();
    let summary = work.spawn(command).wait().expect(code).json();
    assert!(begun.elapsed() < Duration::from_secs(11), "{summary}");
    assert_eq!(summary["rows"]["pending"], 5, "{summary}");
    summary
}

#[test]
fn a_name_that_does_not_resolve_ends_the_run_soon() {
    ended("https://userferry.invalid", &[], 75);
}

#[test]
fn a_proxy_that_is_not_there_ends_the_run_soon() {
    let proxy = format!("http://{NOBODY}");
    ended("https://userferry.invalid", &[("HTTPS_PROXY", &proxy)], 75);
}

#[test]
fn the_proxy_in_use_is_said_without_its_password() {
    let work = Work::new();
    work.write("users.csv", plain(5));
    let mut command = work.userferry(
        "import users.csv --time-scale 0.1 --target workos --base-url https://userferry.invalid",
    );
    command.env("https_proxy", format!("http://ada:pa55w0rd@{NOBODY}"));
    let done = work.spawn(command).wait().expect(75);
    let done = done.says(&[&format!("through the proxy http://***@{NOBODY}")]);
    assert!(!done.stderr.contains("pa55w0rd"), "{done}");
}

#[test]
fn this_machine_is_never_asked_through_a_proxy() {
    let work = Work::new();
    let server = work.sandbox("");
    let stub = Stub::start("502 Bad Gateway\r\n");
    work.write("users.csv", plain(5));
    let mut command = work.userferry(&format!("import users.csv {}", server.target()));
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"] {
        command.env(name, stub.url());
    }
    work.spawn(command).wait().expect(0);
    assert_eq!(stub.requests(), 0, "the key went through a proxy");
}

#[test]
fn a_server_without_tls_where_tls_is_asked_for_ends_the_run_soon() {
    let work = Work::new();
    let server = work.sandbox("");
    let url = server.url().replace("http://", "https://");
    ended(&url, &[], 75);
}

#[test]
fn a_certificate_that_nobody_trusts_ends_the_run_at_once() {
    let der = |name: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read(folder.join("src/target/http/untrusted").join(name)).unwrap()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![rustls::pki_types::CertificateDer::from(der("cert.der"))],
            rustls::pki_types::PrivatePkcs8KeyDer::from(der("key.der")).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&received);
    // Ends with the process of the tests.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
            if !tls.is_handshaking() {
                counted.fetch_add(1, Ordering::SeqCst);
                let _gone = tls.writer().write(b"HTTP/1.1 200 OK\r\n\r\n");
            }
        }
    });
    let summary = ended(&format!("https://{address}"), &[], 69);
    let message = summary["error"]["message"].as_str().unwrap();
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(received.load(Ordering::SeqCst), 0, "the key was sent");
}

/// A rule that gives one request in the middle this answer until told that all is well.
struct Trouble {
    is_well: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Instant>>>,
}

/// Imports 60 people; the create of the 20th is answered `bytes` until all is well.
fn trouble_on_the_way(work: &Work, bytes: Vec<u8>) -> (Proxy, Trouble, crate::harness::Server) {
    let server = work.sandbox("");
    work.write("users.csv", plain(60));
    let trouble = Trouble {
        is_well: Arc::default(),
        answered: Arc::default(),
    };
    let (well, answered) = (Arc::clone(&trouble.is_well), Arc::clone(&trouble.answered));
    let proxy = Proxy::start(&server, move |request| {
        if request.creates("p20@example.com") && !well.load(Ordering::SeqCst) {
            answered.lock().unwrap().push(Instant::now());
            return Act::Answer(bytes.clone());
        }
        Act::Pass
    });
    (proxy, trouble, server)
}

#[test]
fn a_403_on_the_way_stops_the_run_and_burns_no_row() {
    let work = Work::new();
    let bytes = answer("403 Forbidden", "", "{\"message\":\"no\"}");
    let (proxy, trouble, server) = trouble_on_the_way(&work, bytes);
    let line = format!("import users.csv --json --workers 2 {}", proxy.target());
    let summary = work.run(&line).expect(69).json();
    for state in ["failed", "parked", "skipped"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    assert_eq!(summary["error"]["code"], "forbidden", "{summary}");
    // What was sent is counted however a run ends; the last ones may never arrive.
    let sent = summary["requests"]["total"].as_u64().unwrap();
    until("what was sent arrives", || {
        (sent < proxy.received() + 8).then_some(())
    });
    assert!(sent >= proxy.received(), "{summary}");
    trouble.is_well.store(true, Ordering::SeqCst);
    work.run("resume --rate none").expect(0);
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    assert_eq!(server.count("create_user"), 60, "something was sent twice");
}

#[test]
fn a_401_on_the_way_that_a_second_look_does_not_confirm_changes_nothing() {
    let work = Work::new();
    let bytes = answer("401 Unauthorized", "", "{\"message\":\"no\"}");
    let server = work.sandbox("");
    work.write("users.csv", plain(60));
    let answered = Arc::new(AtomicBool::new(false));
    let once = Arc::clone(&answered);
    let proxy = Proxy::start(&server, move |request| {
        if request.creates("p20@example.com") && !once.swap(true, Ordering::SeqCst) {
            return Act::Answer(bytes.clone());
        }
        Act::Pass
    });
    let line = format!("import users.csv --json --workers 2 {}", proxy.target());
    let summary = work.run(&line).expect(0).json();
    assert!(answered.load(Ordering::SeqCst), "nothing was answered 401");
    assert_eq!(summary["rows"]["created"], 60, "{summary}");
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
}

/// How long a run kept still after one 429 with these header lines.
fn pause_after(headers: &str) -> Duration {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(60));
    let bytes = answer("429 Too Many Requests", headers, "{}");
    let at: Arc<Mutex<Option<Instant>>> = Arc::default();
    let resumed: Arc<Mutex<Option<Duration>>> = Arc::default();
    let (told, back) = (Arc::clone(&at), Arc::clone(&resumed));
    let proxy = Proxy::start(&server, move |request| {
        let mut told = told.lock().unwrap();
        match *told {
            None if request.creates("p20@example.com") => {
                *told = Some(Instant::now());
                Act::Answer(bytes.clone())
            }
            Some(since) if request.creates("p20@example.com") => {
                back.lock().unwrap().get_or_insert(since.elapsed());
                Act::Pass
            }
            _ => Act::Pass,
        }
    });
    let line = format!(
        "import users.csv --json --workers 2 --chunk-size 10 {}",
        proxy.target()
    );
    let summary = work.run(&line).expect(0).json();
    assert_eq!(summary["rows"]["created"], 60, "{summary}");
    assert_eq!(summary["requests"]["throttled"], 1, "{summary}");
    let resumed = *resumed.lock().unwrap();
    resumed.unwrap()
}

/// The local clock has no say: whichever year the target believes to live in, two seconds are two
/// seconds.
#[test]
fn a_date_to_retry_after_is_measured_against_the_date_of_the_same_answer() {
    for year in [1999, 2091] {
        let date = |second| {
            let day = if year == 1999 {
                "Fri, 01 Jan"
            } else {
                "Mon, 01 Jan"
            };
            format!("{day} {year} 00:00:{second:02} GMT")
        };
        let headers = format!("Date: {}\r\nRetry-After: {}\r\n", date(10), date(12));
        let pause = pause_after(&headers);
        let range = Duration::from_millis(1_950)..Duration::from_secs(8);
        assert!(range.contains(&pause), "{year}: {pause:?}");
    }
}

#[test]
fn a_429_that_says_zero_or_nothing_is_a_short_pause() {
    let pause = pause_after("Retry-After: 0\r\n");
    assert!(pause >= Duration::from_millis(50), "{pause:?}");
    assert!(pause < Duration::from_secs(5), "{pause:?}");
    // 1 s with full jitter.
    let pause = pause_after("");
    assert!(pause < Duration::from_secs(6), "{pause:?}");
}

/// An hour of 503, a second of it passing in 4 ms: probes get rarer, nothing else is sent, no
/// attempt is spent, and the run goes on by itself.
#[test]
fn an_outage_of_an_hour_is_waited_out() {
    let work = Work::new();
    let server = work.sandbox("");
    work.write("users.csv", plain(120));
    // 5, 10, 20, 40 and then 60 s apart, these many probes take more than an hour.
    let (outage, writes) = (Arc::new(AtomicU64::new(64)), Arc::new(AtomicU64::new(0)));
    let begun = Arc::new(AtomicBool::new(false));
    let (left, written) = (Arc::clone(&outage), Arc::clone(&writes));
    let began = Arc::clone(&begun);
    let proxy = Proxy::start(&server, move |request| {
        if request.creates("p60@example.com") {
            began.store(true, Ordering::SeqCst);
        }
        if !began.load(Ordering::SeqCst) || left.load(Ordering::SeqCst) == 0 {
            return Act::Pass;
        }
        if request.method == "GET" {
            left.fetch_sub(1, Ordering::SeqCst);
        } else {
            written.fetch_add(1, Ordering::SeqCst);
        }
        Act::Answer(answer("503 Service Unavailable", "", "{}"))
    });
    let line = format!(
        "import users.csv --json --events events.jsonl --workers 2 --chunk-size 10 --concurrency 8 \
         --time-scale 0.004 --max-outage 1h {}",
        proxy.target()
    );
    let summary = work.run(&line).expect(0).json();
    for state in ["failed", "parked", "linked", "pending"] {
        assert_eq!(summary["rows"][state], 0, "{summary}");
    }
    assert_eq!(server.world(), World::of_csv(&work.path("users.csv"), None));
    let sent = writes.load(Ordering::SeqCst);
    assert!(sent <= 40, "{sent} writes into an outage");
    let events = std::fs::read_to_string(work.path("events.jsonl")).unwrap();
    for event in ["outage_began", "outage_ended"] {
        assert!(events.contains(event), "no {event}");
    }
}

#[test]
fn another_environment_is_used_when_the_person_insists() {
    let work = Work::new();
    let server = work.sandbox_to_follow("");
    let address = server.address().to_owned();
    work.write("users.csv", plain(200));
    let running = work.start(&format!("import users.csv {}", server.paced(200)));
    server.has_applied(40);
    drop(running);
    drop(server);
    let server = work.sandbox_at(&address, "");
    work.run("resume --rate none").expect(69).says(&["--yes"]);
    work.run("resume --rate none --yes").expect(0);
    assert!(!server.world().users.is_empty());
}

/// Imports 30 people of one organization; before the tenth membership somebody deletes what `path`
/// makes of its body. Returns the states and codes of all rows.
fn deleted_on_the_way(path: fn(&Value) -> String) -> Vec<(String, String)> {
    let work = Work::new();
    let server = work.sandbox("");
    let count = AtomicU64::new(0);
    let behind = server.address().to_owned();
    let proxy = Proxy::start(&server, move |request| {
        let is_membership =
            request.method == "POST" && request.path.ends_with("/organization_memberships");
        if is_membership && count.fetch_add(1, Ordering::SeqCst) == 9 {
            let path = path(&serde_json::from_str(&request.body).unwrap());
            let mut stream = std::net::TcpStream::connect(&behind).unwrap();
            let text = format!("DELETE {path} HTTP/1.0\r\nAuthorization: Bearer sk_test\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        }
        Act::Pass
    });
    work.write("users.csv", people(30, |_| "acme".to_owned()));
    let line = format!(
        "import users.csv --create-orgs --workers 1 --concurrency 1 --time-scale 0.02 {}",
        proxy.target()
    );
    work.run(&line).expect(1);
    let records = work.results().into_iter();
    records
        .map(|row| (row["state"].clone(), row["error_code"].clone()))
        .collect()
}

#[test]
fn a_user_deleted_on_the_way_fails_its_row_and_no_other() {
    let rows = deleted_on_the_way(|body| {
        format!(
            "/user_management/users/{}",
            body["user_id"].as_str().unwrap()
        )
    });
    for (row, (state, code)) in (1..).zip(&rows) {
        if row == 10 {
            assert_eq!(state, "failed", "{code}");
        } else {
            assert_eq!(state, "created", "row {row}: {code}");
        }
    }
}

#[test]
fn an_organization_deleted_on_the_way_fails_rows_one_by_one_with_their_reason() {
    let rows = deleted_on_the_way(|body| {
        format!(
            "/organizations/{}",
            body["organization_id"].as_str().unwrap()
        )
    });
    for (row, (state, code)) in (1..).zip(&rows) {
        if row < 10 {
            assert_eq!(state, "created", "row {row}: {code}");
        } else {
            assert!(
                ["created", "failed"].contains(&&**state),
                "row {row}: {state} {code}"
            );
        }
    }
    assert!(rows.iter().any(|(state, _)| state == "failed"), "{rows:?}");
}
