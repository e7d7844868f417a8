//! Sends one request once, and hands back whatever came of it.
//!
//! # Owns
//! The connection pool, TLS, proxies, timeouts, the bound on a body.
//! # Never
//! Sends a request twice, follows a redirect, reads an answer's meaning, logs a header or a body.
//! # See
//! [`classify`](mod@super::classify) for what an answer means.

use super::dry;
use super::workos::{self, HttpRequest, Method};
use super::{
    Answer, DryClient, ListPage, Op, RequestClass, TransportError, Verdict, classify, usual,
};
use crate::model::{Mono, ServerMs, clock};
use bytes::{Bytes, BytesMut};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Response, Url};
use secrecy::{ExposeSecret, SecretString};
use std::error::Error;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

/// The longest body that is read; no answer this importer asks for comes near it.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Unused connections are dropped before the usual idle timeouts of load balancers (60 s): a
/// request written into a connection that is being closed is one whose fate is unknown.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// From the start of the request to the last byte of the answer.
    pub total: Duration,
}

impl Timeouts {
    /// What a real target gets.
    pub const STANDARD: Self = Self {
        connect: Duration::from_secs(10),
        total: Duration::from_secs(30),
    };
}

impl Timeouts {
    /// Returns these multiplied by `scale`, for tests of what happens when they pass.
    #[must_use]
    pub fn scaled(self, scale: f64) -> Self {
        Self {
            connect: self.connect.mul_f64(scale),
            total: self.total.mul_f64(scale),
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no URL.
    #[error("the address {address:?} is not a URL; write it as https://host[:port]")]
    NotAUrl {
        /// As given, without user information.
        address: String,
    },
    /// The address would send the key in the clear, or carries one itself.
    #[error("the address {address:?} is not allowed: {why}")]
    NotAllowed {
        /// Scheme and host only.
        address: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The key cannot be part of a header.
    #[error("the API key holds characters that no key has; check for line breaks and blanks")]
    Key,
    /// TLS or the system's certificates cannot be used.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

/// Where requests go: to a server, or nowhere.
#[derive(Clone, Debug)]
pub enum Client {
    /// Over HTTP.
    Http(TargetClient),
    /// Nowhere: a dry run.
    Dry(DryClient),
    /// Reads over HTTP, and writes nowhere: a dry run that looks at the target.
    Check(TargetClient),
}

impl Client {
    /// Makes one like this that shares no connection with it.
    ///
    /// # Errors
    /// As when it was made first.
    pub fn renewed(&self) -> Result<Self, ClientError> {
        match self {
            Self::Http(client) => client.renewed().map(Self::Http),
            Self::Dry(client) => Ok(Self::Dry(*client)),
            Self::Check(client) => client.renewed().map(Self::Check),
        }
    }

    /// Sends `op` once and waits for what comes of it, at most the total timeout.
    pub async fn send(&self, op: &Op) -> Exchange {
        match self {
            Self::Http(client) => client.send(op).await,
            Self::Check(client) if self.sends(op) => client.send(op).await,
            Self::Dry(client) => client.send(op),
            Self::Check(_) => DryClient::default().send(op),
        }
    }

    /// Returns whether `op` leaves this machine.
    pub fn sends(&self, op: &Op) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Dry(_) => false,
            // What was made up here is not asked of the target.
            Self::Check(_) => op.class() == RequestClass::Read && !dry::is_about_made_up(op),
        }
    }
}

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What came back.
    pub reply: Reply,
    /// When the request was started.
    pub started: Mono,
    /// When its answer was complete, or given up.
    pub ended: Mono,
}

impl Exchange {
    /// Returns how long it took.
    pub fn latency(&self) -> Duration {
        self.ended.since(self.started)
    }

    /// Returns what it means for `op`, the request that was sent.
    pub fn verdict(&self, op: &Op) -> Verdict {
        self.reply.verdict(op)
    }

    /// Returns the status, if there was an answer.
    pub const fn status(&self) -> Option<u16> {
        match self.reply {
            Reply::Http { status, .. } | Reply::Rehearsed { status, .. } => Some(status),
            Reply::Transport(_) => None,
        }
    }

    /// Returns the page of a list that it answered with, if it did.
    pub fn page(&self) -> Option<ListPage> {
        self.reply.page()
    }

    /// Returns the slugs of the list of roles that it answered with, if it did.
    pub fn roles(&self) -> Option<Vec<String>> {
        match &self.reply {
            Reply::Http { status, body, .. } if (200..300).contains(status) => {
                super::body::roles(body.as_deref())
            }
            Reply::Http { .. } | Reply::Transport(_) | Reply::Rehearsed { .. } => None,
        }
    }

    /// Returns the target's request id, if it gave one fit to be shown.
    pub fn request_id(&self) -> Option<String> {
        match &self.reply {
            Reply::Http { headers, .. } => super::body::request_id(header(headers, &REQUEST_ID)?),
            Reply::Transport(_) | Reply::Rehearsed { .. } => None,
        }
    }

    /// Returns the target's clock as its `Date` tells it: whole seconds, rounded down.
    pub fn server_time(&self) -> Option<ServerMs> {
        let date = match &self.reply {
            Reply::Http { headers, .. } => header(headers, &DATE)?,
            // The clock of a target that does not exist is this machine's.
            Reply::Rehearsed { .. } => return Some(ServerMs(clock::wall_ms())),
            Reply::Transport(_) => return None,
        };
        let time = httpdate::parse_http_date(date).ok()?;
        let elapsed = time.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(elapsed.as_millis()).ok().map(ServerMs)
    }
}

/// What came back, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status with headers and a body: see [`Answer::Http`].
    Http {
        /// The status code.
        status: u16,
        /// The headers as sent: most of them nobody asks for. A session's cookie may be among them:
        /// nothing prints a reply.
        headers: HeaderMap,
        /// At most [`BODY_BYTES_MAX`]; `None` when it was longer or was cut off.
        body: Option<Bytes>,
    },
    /// No answer.
    Transport(TransportError),
    /// Nothing was sent, and what an empty target would have said is known: a dry run.
    Rehearsed {
        /// The status it would have said it with.
        status: u16,
        /// What it means.
        verdict: Box<Verdict>,
    },
}

impl Reply {
    /// Returns the page of a list, if it is one.
    pub fn page(&self) -> Option<ListPage> {
        match self {
            Self::Http { status, body, .. } if (200..300).contains(status) => {
                super::body::page(body.as_deref())
            }
            Self::Http { .. } | Self::Transport(_) => None,
            Self::Rehearsed { .. } => Some(ListPage::default()),
        }
    }

    /// Returns what it means for `op`, the request that was sent.
    pub fn verdict(&self, op: &Op) -> Verdict {
        let answer = match self {
            Self::Http {
                status,
                headers,
                body,
            } => {
                let (status, body) = (*status, body.as_deref());
                // Nobody asks for the headers of an answer that is as it should be.
                if let Some(id) = usual::made(op, status, body) {
                    return Verdict::Made(id);
                }
                Answer::Http {
                    status,
                    retry_after: header(headers, &RETRY_AFTER),
                    date: header(headers, &DATE),
                    request_id: header(headers, &REQUEST_ID),
                    body,
                }
            }
            Self::Transport(error) => Answer::Transport(error.clone()),
            Self::Rehearsed { verdict, .. } => return Verdict::clone(verdict),
        };
        classify(op, &answer)
    }
}

/// A client of one origin with one key.
#[derive(Clone, Debug)]
pub struct TargetClient {
    http: reqwest::Client,
    authorization: HeaderValue,
    timeouts: Timeouts,
    /// Origin and path prefix, without a trailing slash.
    base: String,
    /// The addresses nearly every request goes to: reading one anew for each costs more than all
    /// of its body.
    collections: [(&'static str, Url); 3],
}

impl TargetClient {
    /// Makes a client of `base_url`, which must be https or loopback.
    pub fn new(
        base_url: &str,
        key: &SecretString,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let url = checked(base_url)?;
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim()))
                .map_err(|_invalid| ClientError::Key)?;
        authorization.set_sensitive(true);
        let http = connect(&url, &authorization, timeouts)?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        let collections = workos::COLLECTIONS.map(|path| {
            let mut whole = url.clone();
            whole.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
            (path, whole)
        });
        Ok(Self {
            http,
            authorization,
            timeouts,
            base,
            collections,
        })
    }

    fn renewed(&self) -> Result<Self, ClientError> {
        let url = checked(&self.base)?;
        Ok(Self {
            http: connect(&url, &self.authorization, self.timeouts)?,
            ..self.clone()
        })
    }

    /// Sends `op` once: one request on the wire, or none.
    pub async fn send(&self, op: &Op) -> Exchange {
        let started = Mono::now();
        let reply = match self.execute(workos::request(op)) {
            Ok(sending) => match sending.await {
                Ok(mut response) => read(&mut response).await,
                Err(error) => Reply::Transport(transport_error(&error)),
            },
            // As with any request that could not be built.
            Err(words) => Reply::Transport(TransportError::Lost(words)),
        };
        Exchange {
            reply,
            started,
            ended: Mono::now(),
        }
    }

    /// Hands a request to the client. No future around this one carries the request: it is large,
    /// and moves with it.
    fn execute(
        &self,
        request: HttpRequest,
    ) -> Result<impl Future<Output = reqwest::Result<Response>> + use<>, String> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut wire = reqwest::Request::new(method, self.url(&request.path_and_query)?);
        if let Some(body) = request.body {
            wire.headers_mut().insert(CONTENT_TYPE, JSON);
            *wire.body_mut() = Some(body.into());
        }
        Ok(self.http.execute(wire))
    }

    fn url(&self, path_and_query: &str) -> Result<Url, String> {
        let mut known = self.collections.iter();
        match known.find(|(path, _)| *path == path_and_query) {
            Some((_, url)) => Ok(url.clone()),
            None => Url::parse(&format!("{}{path_and_query}", self.base))
                .map_err(|error| error.to_string()),
        }
    }
}

fn connect(
    url: &Url,
    authorization: &HeaderValue,
    timeouts: Timeouts,
) -> Result<reqwest::Client, ClientError> {
    // reqwest builds its TLS part also for plain http and panics without a provider.
    // An error only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.clone())]);
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("userferry/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(usize::MAX)
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.total);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // Plain http to this machine needs no certificates: loading them takes longer than
        // the first request.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|error| ClientError::Setup(root_cause(&error)))
}

async fn read(response: &mut Response) -> Reply {
    let body = bounded_body(response).await;
    Reply::Http {
        status: response.status().as_u16(),
        headers: std::mem::take(response.headers_mut()),
        body,
    }
}

/// Returns a header as sent, if it is a text.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads the body as it arrives, so that a giant one costs no memory. Nearly every body arrives in
/// one piece, and is taken as it is.
async fn bounded_body(response: &mut Response) -> Option<Bytes> {
    let mut body = Bytes::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => return None,
            Ok(Some(chunk)) if body.is_empty() => body = chunk,
            Ok(Some(chunk)) => {
                let mut longer = BytesMut::from(body);
                longer.extend_from_slice(&chunk);
                body = longer.freeze();
            }
            Ok(None) => return Some(body),
            Err(_) => return None,
        }
    }
}

fn checked(base_url: &str) -> Result<Url, ClientError> {
    let Ok(url) = Url::parse(base_url.trim()) else {
        // Whatever stands before an `@` may be a password.
        let address = base_url.rsplit('@').next().unwrap_or_default().to_owned();
        return Err(ClientError::NotAUrl { address });
    };
    let broken = if !url.username().is_empty() || url.password().is_some() {
        Some("it holds a user name or a password; the API key goes into WORKOS_API_KEY")
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("it holds a query or a fragment")
    } else if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) {
        None
    } else {
        Some("only https, or http to this machine, keeps the API key secret")
    };
    match broken {
        None => Ok(url),
        Some(why) => Err(ClientError::NotAllowed {
            address: format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
            why,
        }),
    }
}

/// Returns whether `base_url` can only mean this machine.
pub(super) fn is_this_machine(base_url: &str) -> bool {
    Url::parse(base_url).is_ok_and(|url| is_loopback(&url))
}

/// Returns whether `url` can only mean this machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let parsed: Result<std::net::IpAddr, _> = address.parse();
    parsed.map_or(host == "localhost", |ip| ip.is_loopback())
}

/// Tells "never sent" from "perhaps applied": the difference between sending again and looking up.
fn transport_error(error: &reqwest::Error) -> TransportError {
    let words = root_cause(error);
    if is_certificate(error) {
        TransportError::Certificate(words)
    } else if error.is_connect() {
        TransportError::Connect(words)
    } else if error.is_timeout() {
        TransportError::Lost("no complete answer in time".to_owned())
    } else {
        // A request that could not be built was never sent, but calling it an outage would let one
        // row stop all the others: as unclear it ends parked.
        TransportError::Lost(words)
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns the innermost words: the outer ones only say "error sending request" and name the URL,
/// which may hold an email.
fn root_cause(error: &reqwest::Error) -> String {
    let innermost = chain(error)
        .last()
        .filter(|last| !last.is::<reqwest::Error>());
    innermost.map_or_else(
        || "the request could not be sent".to_owned(),
        ToString::to_string,
    )
}

fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| {
        matches!(
            unwrapped(cause).downcast_ref(),
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        )
    })
}

/// Returns what an `io::Error` wraps, however often: it shows the source *of* what it wraps, so
/// that following sources steps over the wrapped error itself.
fn unwrapped<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error
}

#[cfg(test)]
mod tests;
