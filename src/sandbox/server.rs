//! The HTTP server: connections, and the life of one request.
//!
//! One thread. A request is judged when its head arrives, handled when its body is complete, and
//! answered after its latency. Handling never awaits, so a change is decided, logged and applied
//! in one go whatever happens to the connection.

use super::SandboxError;
use super::api::Answer;
use super::api::error::ApiError;
use super::directory::Directory;
use super::faults::{Fault, FaultSpec, Latency};
use super::inspect;
use super::state::{Plan, Received, State, refusal};
use crate::model::{Mono, RateLimits};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;

/// Longest request body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a request hangs before its connection is closed: longer than any client waits.
const HANG: Duration = Duration::from_mins(10);

/// Pause after an accept failed, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What a sandbox is like.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The limits it enforces.
    pub limits: RateLimits,
    /// How long answers take.
    pub latency: Latency,
    /// What goes wrong.
    pub faults: FaultSpec,
    /// Seeds faults, latencies and ids.
    pub seed: u64,
    /// The log of applied writes; in memory only without one.
    pub state: Option<PathBuf>,
    /// The only key accepted; any without one.
    pub api_key: Option<SecretString>,
    /// Requests the history keeps.
    pub history_cap: usize,
}

/// The state, shared by the tasks of one thread.
pub(super) type Shared = Rc<RefCell<State>>;

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub(super) struct Opened {
    listener: TcpListener,
    shared: Shared,
    address: SocketAddr,
}

impl Opened {
    /// Replays the log, then listens: who can connect finds the data complete.
    pub(super) async fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        if !config.listen.ip().is_loopback() {
            return Err(SandboxError::NotLoopback(config.listen));
        }
        let directory = match &config.state {
            Some(path) => Directory::open(path, config.seed).await?,
            None => Directory::in_memory(config.seed),
        };
        let listen = config.listen;
        let failed = |source| SandboxError::Listen {
            address: listen,
            source,
        };
        let listener = bind(listen).map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            shared: Rc::new(RefCell::new(State::new(config, directory))),
        })
    }

    /// Returns where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever. Must run inside a `LocalSet`.
    pub(super) async fn serve(self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(connection(stream, Rc::clone(&self.shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sandbox could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart must not wait for connections of the dead server to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn connection(stream: TcpStream, shared: Shared) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let service = service_fn(move |request| respond(Rc::clone(&shared), request));
    let served = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // A client that went away, or a fault that closes the connection on purpose.
        tracing::debug!(%error, "a connection of the sandbox ended early");
    }
}

/// The connection closes without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct Unanswered;

async fn respond(
    shared: Shared,
    request: Request<Incoming>,
) -> Result<Response<Payload>, Unanswered> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    if head.uri.path().starts_with(inspect::PREFIX) {
        let body = collect(body).await?.unwrap_or_default();
        let mut response = inspect::answer(&shared, &head.method, head.uri.path(), query, &body);
        let date = HeaderValue::from_str(shared.borrow_mut().date(Mono::now()));
        response
            .headers_mut()
            .insert(header::DATE, date.map_err(|_| Unanswered)?);
        return Ok(response);
    }
    let received = shared.borrow_mut().receive(&head);
    let body = collect(body).await?;
    let fault = match received.plan {
        Plan::Serve(fault) => fault,
        Plan::Unauthorized | Plan::Throttle { .. } => None,
    };
    let (answer, retry_after_s) = match (refusal(received.plan), body) {
        (Some(refusal), _) => refusal,
        (None, None) => (
            ApiError::plain(413, "The body is too long.").into_answer(),
            None,
        ),
        (None, Some(body)) => (handled(&shared, &received, fault, query, &body), None),
    };
    if !received.latency.is_zero() {
        tokio::time::sleep(received.latency).await;
    }
    match fault {
        Some(Fault::DropBefore | Fault::DropAfter) => Err(Unanswered),
        Some(Fault::Hang) => {
            tokio::time::sleep(HANG).await;
            Err(Unanswered)
        }
        _ => response(&shared, &received, answer, retry_after_s),
    }
}

/// Reads a body; `None` when it is too long.
async fn collect(body: Incoming) -> Result<Option<Bytes>, Unanswered> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(Some(collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        // The client went away in the middle: nothing was applied.
        Err(_) => Err(Unanswered),
    }
}

/// Applies a request as far as its fault lets it, and returns what would be answered.
fn handled(
    shared: &Shared,
    received: &Received,
    fault: Option<Fault>,
    query: &str,
    body: &[u8],
) -> Answer {
    let mut state = shared.borrow_mut();
    let is_served = match fault {
        Some(Fault::DropBefore | Fault::ServerError) => false,
        Some(Fault::Hang) => state.coin(received.sequence),
        _ => true,
    };
    if !is_served {
        return ApiError::internal().into_answer();
    }
    let mut answer = state.serve(received, query, body);
    match fault {
        Some(Fault::ServerErrorAfter) => ApiError::internal().into_answer(),
        Some(Fault::Malformed) => {
            answer.body.truncate(answer.body.len() / 2);
            if answer.body.is_empty() {
                answer.body.push(b'{');
            }
            answer
        }
        _ => answer,
    }
}

fn response(
    shared: &Shared,
    received: &Received,
    answer: Answer,
    retry_after_s: Option<u32>,
) -> Result<Response<Payload>, Unanswered> {
    let mut state = shared.borrow_mut();
    let date = state.answer(received, answer.status, retry_after_s);
    let mut response = Response::new(Payload::full(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(|_| Unanswered)?;
    let headers = response.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Unanswered);
    headers.insert(header::DATE, value(date)?);
    headers.insert("x-request-id", value(&received.request_id)?);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    if let Some(seconds) = retry_after_s {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// The body of an answer: complete, or made piece by piece as the client reads.
pub(super) enum Payload {
    /// The bytes, until they are sent.
    Full(Option<Bytes>),
    /// Makes the next piece; `None` at the end.
    Stream(Box<dyn FnMut() -> Option<Bytes>>),
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Payload::Full",
            Self::Stream(_) => "Payload::Stream",
        })
    }
}

impl Payload {
    /// Wraps complete bytes.
    pub(super) fn full(bytes: Vec<u8>) -> Self {
        Self::Full((!bytes.is_empty()).then(|| Bytes::from(bytes)))
    }

    /// Wraps a maker of pieces.
    pub(super) fn stream(piece: impl FnMut() -> Option<Bytes> + 'static) -> Self {
        Self::Stream(Box::new(piece))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Full(bytes) => bytes.take(),
            Self::Stream(piece) => piece(),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                let len = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(len).unwrap_or_default())
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
