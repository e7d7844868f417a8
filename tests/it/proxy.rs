//! A server in front of a sandbox that misbehaves as a rule says, one request at a time.

use crate::harness::Server;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// One request as it came in.
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    pub body: String,
    /// Where it came from: a socket of exactly one process.
    pub peer: SocketAddr,
    /// The other end of that connection.
    pub local: SocketAddr,
    head: String,
    /// How many requests came before it.
    pub number: u64,
}

impl Request {
    /// Whether it creates the user with this email.
    pub fn creates(&self, email: &str) -> bool {
        self.method == "POST"
            && self.path == "/user_management/users"
            && self.body.contains(&format!("\"{email}\""))
    }
}

/// What comes of a request.
pub enum Act {
    /// The sandbox's answer.
    Pass,
    /// The sandbox is not asked; these are the bytes of the answer.
    Answer(Vec<u8>),
    /// The sandbox does it; its answer is changed on the way.
    Change(fn(String) -> Vec<u8>),
    /// The sandbox does it; this many bytes of an answer come first, then one every 20 ms, for ever.
    Trickle,
}

type Rule = dyn Fn(&Request) -> Act + Send + Sync;

/// Runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(server: &Server, rule: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behind = server.address().to_owned();
        let rule: Arc<Rule> = Arc::new(rule);
        let received = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (counter, over) = (Arc::clone(&received), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (rule, behind) = (Arc::clone(&rule), behind.clone());
                let (counter, over) = (Arc::clone(&counter), Arc::clone(&over));
                std::thread::spawn(move || {
                    // Clients break off whenever they like.
                    let _broken = serve(&stream, &behind, &rule, &counter, &over);
                });
            }
        });
        Self {
            address,
            received,
            is_over,
            thread: Some(thread),
        }
    }

    /// The options that send an import here, as fast as it goes.
    pub fn target(&self) -> String {
        format!("{} --rate none", self.destination())
    }

    /// The options that send an import here.
    pub fn destination(&self) -> String {
        format!("--target workos --base-url http://{}", self.address)
    }

    /// How many requests came in.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Bytes of an answer with this status line and header lines (each ended), and this body.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// The body of an answer.
pub fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn serve(
    stream: &TcpStream,
    behind: &str,
    rule: &Arc<Rule>,
    counter: &AtomicU64,
    over: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let ends = (stream.peer_addr()?, stream.local_addr()?);
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(mut request) = read_request(&mut reader, ends)? {
        request.number = counter.fetch_add(1, Ordering::SeqCst);
        match rule(&request) {
            Act::Pass => writer.write_all(forward(behind, &request)?.as_bytes())?,
            Act::Answer(bytes) => writer.write_all(&bytes)?,
            Act::Change(change) => writer.write_all(&change(forward(behind, &request)?))?,
            Act::Trickle => {
                forward(behind, &request)?;
                writer.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 9000\r\n\r\n{")?;
                while !over.load(Ordering::Relaxed) {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                    writer.write_all(b" ")?;
                }
            }
        }
    }
    Ok(())
}

fn read_request(
    reader: &mut impl std::io::BufRead,
    (peer, local): (SocketAddr, SocketAddr),
) -> std::io::Result<Option<Request>> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if !lower.starts_with("connection:") {
            head += &line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = head.split(' ');
    Ok(Some(Request {
        method: words.next().unwrap().to_owned(),
        path: words.next().unwrap().to_owned(),
        body: String::from_utf8(body).unwrap(),
        peer,
        local,
        head,
        number: 0,
    }))
}

/// Asks the sandbox; returns the bytes of its answer without what it says about the connection.
fn forward(behind: &str, request: &Request) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(behind)?;
    let text = format!("{}Connection: close\r\n\r\n{}", request.head, request.body);
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.replacen("connection: close\r\n", "", 1))
}
