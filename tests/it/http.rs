//! Just enough HTTP: questions to a sandbox, and servers that always answer the same.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Returns the body of a successful answer.
pub fn get(url: &str, path: &str) -> String {
    exchange(url, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

/// Sends an object with some key and returns the object of a successful answer.
pub fn send(url: &str, method: &str, path: &str, body: &Value) -> Value {
    serde_json::from_str(&exchange(url, &request(method, path, body))).unwrap()
}

/// Sends an object with some key and returns the status.
pub fn status(url: &str, method: &str, path: &str, body: &Value) -> u16 {
    let answer = raw(url, &request(method, path, body));
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn request(method: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "{method} {path} HTTP/1.0\r\nAuthorization: Bearer sk_test_somebody\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// HTTP/1.0: the answer ends with the connection, so no framing has to be read.
fn raw(url: &str, request: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn exchange(url: &str, request: &str) -> String {
    let answer = raw(url, request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.split(' ').nth(1).unwrap().starts_with('2'),
        "{request}\n{answer}"
    );
    body.to_owned()
}

/// A server that gives every request the same answer.
pub struct Stub {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// `answer` is what follows `HTTP/1.1 `: status and header lines.
    pub fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (counted, over) = (Arc::clone(&requests), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (counted, stream) = (Arc::clone(&counted), stream.unwrap());
                std::thread::spawn(move || serve(stream, answer, &counted));
            }
        });
        Self {
            address,
            requests,
            is_over,
            thread: Some(thread),
        }
    }

    pub fn target(&self) -> String {
        format!("--target workos --base-url {}", self.url())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // One more connection wakes the listener, which then sees that it is over.
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Answers one connection after another request; ends when the client does.
fn serve(stream: TcpStream, answer: &str, counted: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
