//! The client against a server that misbehaves in one way at a time.

use super::*;
use crate::source::SourceRow;
use crate::target::{NotApplied, StopReason};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does once it has read one whole request.
#[derive(Clone)]
enum Script {
    /// Writes this and keeps the connection.
    Answer(String),
    /// Writes this and closes the connection.
    AnswerAndClose(String),
    /// Closes the connection without a word.
    Close,
    /// Never answers.
    Hang,
}

struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let (requests, connections) = (server.requests.clone(), server.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, script.clone(), requests.clone()));
            }
        });
        server
    }

    fn client(&self, timeouts: Timeouts) -> TargetClient {
        let key = SecretString::from("sk_test_1");
        TargetClient::new(&format!("http://{}", self.address), &key, timeouts).unwrap()
    }

    async fn send(&self, op: &Op) -> Exchange {
        self.client(Timeouts::STANDARD).send(op).await
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, script: Script, requests: Arc<AtomicUsize>) {
    while read_request(&mut stream).await.is_some() {
        requests.fetch_add(1, Ordering::SeqCst);
        match &script {
            Script::Answer(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Script::AnswerAndClose(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Script::Close => return,
            Script::Hang => std::future::pending::<()>().await,
        }
    }
}

/// Reads one request, headers and body; `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0_u8; 4_096];
        let n = stream.read(&mut piece).await.ok().filter(|&n| n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

fn create() -> Op {
    Op::CreateUser(Arc::new(SourceRow::bare("ann+1@x.org")))
}

const BRIEF: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(1),
};

fn is_ambiguous(verdict: &Verdict, code: &str) -> bool {
    matches!(verdict, Verdict::Ambiguous(rejection) if rejection.code == code)
}

#[test]
fn an_address_that_is_kept_is_the_one_that_would_be_read() {
    let key = SecretString::from("sk_test_1");
    for base in [
        "http://127.0.0.1:1",
        "http://127.0.0.1:1/a%20b/",
        "https://x.org/v1",
    ] {
        let client = TargetClient::new(base, &key, Timeouts::STANDARD).unwrap();
        for path in workos::COLLECTIONS {
            let read = Url::parse(&format!("{}{path}", base.trim_end_matches('/')));
            assert_eq!(client.url(path), Ok(read.unwrap()));
        }
        let other = client.url("/organizations/a%2Fb?x=1").unwrap();
        assert!(
            other.as_str().ends_with("/organizations/a%2Fb?x=1"),
            "{other}"
        );
    }
}

#[tokio::test]
async fn an_answer_arrives_with_its_headers_body_and_latency() {
    let headers = "Date: Wed, 21 Oct 2026 07:28:00 GMT\r\nX-Request-ID: req_1\r\n";
    let body = r#"{"id":"user_1","email":"ann+1@x.org"}"#;
    let server = Server::start(Script::Answer(http("201 Created", headers, body))).await;
    let exchange = server.send(&create()).await;
    let made = Verdict::Made("user_1".to_owned());
    assert_eq!(exchange.verdict(&create()), made);
    assert_eq!(exchange.status(), Some(201));
    assert_eq!(exchange.request_id().as_deref(), Some("req_1"));
    assert_eq!(exchange.server_time(), Some(ServerMs(1_792_567_680_000)));
    assert!(exchange.latency() > Duration::ZERO);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_request_looks_as_it_should_on_the_wire() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/prefix/", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap()
    });
    let key = SecretString::from("sk_test_1\n");
    let client = TargetClient::new(&base, &key, Timeouts::STANDARD).unwrap();
    client
        .send(&Op::FindUserByEmail("a+b@x.org".to_owned()))
        .await;
    let seen = seen.await.unwrap();
    assert!(
        seen.starts_with("GET /prefix/user_management/users?email=a%2Bb%40x.org HTTP/1.1\r\n"),
        "{seen}"
    );
    let seen = seen.to_ascii_lowercase();
    assert!(
        seen.contains("authorization: bearer sk_test_1\r\n"),
        "{seen}"
    );
    let agent = concat!("user-agent: userferry/", env!("CARGO_PKG_VERSION"), "\r\n");
    assert!(seen.contains(agent), "{seen}");
    assert!(!seen.contains("accept-encoding"), "{seen}");
}

#[tokio::test]
async fn a_connection_closed_before_the_answer_is_lost_and_not_sent_again() {
    let server = Server::start(Script::Close).await;
    let exchange = server.send(&create()).await;
    assert!(
        is_ambiguous(&exchange.verdict(&create()), "connection_lost"),
        "{exchange:?}"
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_reused_connection_that_breaks_is_not_resent_either() {
    let server = Server::start(Script::Answer(http("500 Oops", "", ""))).await;
    let client = server.client(Timeouts::STANDARD);
    client.send(&create()).await;
    client.send(&create()).await;
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // answers the first request of a connection and dies upon the second
            if read_request(&mut stream).await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(http("500 Oops", "", "").as_bytes()).await;
            }
            if read_request(&mut stream).await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let key = SecretString::from("k");
    let client = TargetClient::new(&base, &key, Timeouts::STANDARD).unwrap();
    client.send(&create()).await;
    let exchange = client.send(&create()).await;
    assert!(
        is_ambiguous(&exchange.verdict(&create()), "connection_lost"),
        "{exchange:?}"
    );
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_body_cut_off_is_ambiguous_but_keeps_its_status() {
    let cut = "HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{\"id\":\"user_1\"";
    let server = Server::start(Script::AnswerAndClose(cut.to_owned())).await;
    let exchange = server.send(&create()).await;
    assert_eq!(exchange.status(), Some(201));
    assert!(
        is_ambiguous(&exchange.verdict(&create()), "oversized_answer"),
        "{exchange:?}"
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_throttled_answer_stays_throttled_when_its_body_breaks() {
    let cut = "HTTP/1.1 429 Too Many\r\nRetry-After: 2\r\nContent-Length: 500\r\n\r\nRate";
    let server = Server::start(Script::AnswerAndClose(cut.to_owned())).await;
    let verdict = server.send(&create()).await.verdict(&create());
    let wait = Some(Duration::from_secs(2));
    assert_eq!(verdict, Verdict::NotApplied(NotApplied::Throttled(wait)));
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let started = "HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{";
    let server = Server::start(Script::Answer(started.to_owned())).await;
    let exchange = server.client(BRIEF).send(&create()).await;
    assert!(
        is_ambiguous(&exchange.verdict(&create()), "oversized_answer"),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn a_giant_body_is_not_read() {
    let giant = http("201 Created", "", &"x".repeat(BODY_BYTES_MAX + 1));
    let server = Server::start(Script::Answer(giant)).await;
    let exchange = server.send(&create()).await;
    assert!(matches!(exchange.reply, Reply::Http { body: None, .. }));
    assert!(is_ambiguous(
        &exchange.verdict(&create()),
        "oversized_answer"
    ));

    let largest = http("201 Created", "", &"x".repeat(BODY_BYTES_MAX));
    let server = Server::start(Script::Answer(largest)).await;
    let exchange = server.send(&create()).await;
    assert!(
        matches!(&exchange.reply, Reply::Http { body: Some(body), .. } if body.len() == BODY_BYTES_MAX)
    );
}

#[tokio::test]
async fn no_answer_in_time_is_lost() {
    let server = Server::start(Script::Hang).await;
    let exchange = server.client(BRIEF).send(&create()).await;
    assert!(
        is_ambiguous(&exchange.verdict(&create()), "connection_lost"),
        "{exchange:?}"
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let redirect = http("307 Temporary Redirect", "Location: /elsewhere\r\n", "");
    let server = Server::start(Script::Answer(redirect)).await;
    let verdict = server.send(&create()).await.verdict(&create());
    assert!(
        matches!(verdict, Verdict::Stop(StopReason::NotThisApi(_))),
        "{verdict:?}"
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn nobody_listening_means_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = TargetClient::new(&base, &SecretString::from("k"), Timeouts::STANDARD).unwrap();
    let verdict = client.send(&create()).await.verdict(&create());
    assert!(
        matches!(&verdict, Verdict::NotApplied(NotApplied::Connect(why)) if !why.contains("ann")),
        "{verdict:?}"
    );
}

/// Accepts one connection on a thread of its own and hands it to `serve`.
fn serve_once(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> TargetClient {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    TargetClient::new(&base, &SecretString::from("k"), Timeouts::STANDARD).unwrap()
}

#[tokio::test]
async fn tls_against_a_server_that_speaks_none_means_nothing_was_sent() {
    let client = serve_once(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 No\r\n\r\n").unwrap();
    });
    let verdict = client.send(&create()).await.verdict(&create());
    assert!(
        matches!(verdict, Verdict::NotApplied(NotApplied::Connect(_))),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn a_certificate_nobody_trusts_stops_the_run() {
    let client = serve_once(|mut stream| {
        let cert = include_bytes!("untrusted/cert.der").to_vec();
        let key = include_bytes!("untrusted/key.der").to_vec();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![rustls::pki_types::CertificateDer::from(cert)],
                rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
            )
            .unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // The client hangs up during the handshake.
        tls.complete_io(&mut stream).unwrap_err();
    });
    let verdict = client.send(&create()).await.verdict(&create());
    assert!(
        matches!(verdict, Verdict::Stop(StopReason::Certificate(_))),
        "{verdict:?}"
    );
}

#[test]
fn only_https_or_this_machine_is_an_address() {
    let check = |base: &str| {
        let key = SecretString::from("k");
        TargetClient::new(base, &key, Timeouts::STANDARD).map_err(|error| error.to_string())
    };
    for base in [
        "https://api.workos.com",
        "https://x.example/prefix/",
        "http://127.0.0.1:4100",
        "http://[::1]:4100",
        "http://localhost:4100",
    ] {
        assert!(check(base).is_ok(), "{base}");
    }
    for base in [
        "http://api.workos.com",
        "http://localhost.evil.example",
        "ftp://127.0.0.1",
        "https://user:secretword@api.workos.com",
        "https://api.workos.com?x=secretword",
        "//user:secretword@nowhere",
        "",
    ] {
        let message = check(base).unwrap_err();
        assert!(!message.contains("secretword"), "{message}");
    }
}

#[test]
fn a_key_with_a_line_break_inside_is_refused_without_being_shown() {
    let key = SecretString::from("sk_live\nabc");
    let error = TargetClient::new("https://api.workos.com", &key, Timeouts::STANDARD).unwrap_err();
    assert!(!error.to_string().contains("abc"));
    let key = SecretString::from("sk_live_abc");
    let client = TargetClient::new("https://api.workos.com", &key, Timeouts::STANDARD).unwrap();
    assert!(!format!("{client:?}").contains("abc"));
}
