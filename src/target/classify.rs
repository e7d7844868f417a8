//! HTTP becomes a verdict here and nowhere else. Pure: no clock, no I/O.

use super::{Entity, Op};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What came back for one request: a complete answer, or why there is none.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// A status with headers and a body.
    Http {
        /// The status code.
        status: u16,
        /// `Retry-After` as sent.
        retry_after: Option<&'a str>,
        /// `Date` as sent: HTTP-date waits are measured against it, never the local clock.
        date: Option<&'a str>,
        /// `X-Request-ID` as sent.
        request_id: Option<&'a str>,
        /// At most 256 KiB of decoded body; `None` when it was longer or was cut off.
        body: Option<&'a [u8]>,
    },
    /// No answer.
    Transport(TransportError),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransportError {
    /// No connection was made (DNS, refused, proxy, timeout while connecting): nothing was sent.
    Connect(String),
    /// The server's certificate is not acceptable.
    Certificate(String),
    /// Sent, perhaps applied, no complete answer: timeout, reset, broken body.
    Lost(String),
}

/// What an answer means for the request that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done or found; the entity has an id, and a user's email is the one asked for.
    Ok(Entity),
    /// A look-up that found nothing.
    Absent,
    /// Definitely not applied: nobody is to blame, nothing is counted.
    NotApplied(NotApplied),
    /// The run must stop: no row is at fault.
    Stop(StopReason),
    /// The target refuses these fields for good.
    Rejected(Rejection),
    /// Something like it is there already: look it up.
    Exists(Rejection),
    /// May or may not have been applied: look it up, then send again.
    Ambiguous(Rejection),
    /// A 2xx for somebody else's email.
    OddEcho(Entity),
}

/// Why a request was definitely not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotApplied {
    /// 429, with how long the target asks to wait if it says so (capped at 15 minutes).
    Throttled(Option<Duration>),
    /// 401: the key is not accepted.
    Unauthorized,
    /// No connection was made.
    Connect(String),
}

/// Why the whole run stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// 401, confirmed: exit 77.
    Unauthorized,
    /// 403: exit 69.
    Forbidden(String),
    /// 3xx, 405, 415, 404 of a route: this is not the API we know. Exit 69.
    NotThisApi(String),
    /// TLS: exit 69.
    Certificate(String),
}

/// A refusal as the target worded it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    /// The decisive code: a nested one when there is one, ours when there is none.
    pub code: String,
    /// The target's words, not yet cleaned of people's data.
    pub message: String,
    /// The status, if there was one.
    pub http_status: Option<u16>,
    /// The target's request id.
    pub request_id: Option<String>,
}

/// Decides what `answer` means for `op`.
pub fn classify(op: &Op, answer: &Answer<'_>) -> Verdict {
    let _ = (op, answer);
    Verdict::Absent
}
