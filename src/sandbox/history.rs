//! Every request the sandbox received, in the order of reception, in little memory.
//!
//! What a checker asks: who sent what and when, was it applied, was it answered, and which entity
//! was it about. Bounded: beyond the cap the oldest requests are dropped and counted.

use super::api::route::Op;
use super::directory::Trace;
use super::faults::Fault;
use super::ids::{Id, Kind};
use crate::model::Mono;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Requests per block: blocks are freed whole, and growing never copies.
const BLOCK_LEN: usize = 8192;

/// Longest path kept, in bytes.
const PATH_BYTES_MAX: usize = 2048;

/// Marks an offset that has not been reached.
const NEVER: u32 = u32::MAX;

/// Turns readings of the monotonic clock into times of day, from one pair of readings: the
/// sandbox's clock never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    pub wall_ms: i64,
    pub mono: Mono,
}

impl Epoch {
    /// Returns an instant in milliseconds since the Unix epoch.
    pub fn ms(self, at: Mono) -> i64 {
        let elapsed = at.since(self.mono).as_millis();
        self.wall_ms + i64::try_from(elapsed).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Entry {
    received: Mono,
    /// Microseconds after `received`.
    applied_us: u32,
    answered_us: u32,
    retry_after_s: u32,
    status: u16,
    op: Op,
    fault: Option<Fault>,
    method: Method,
    detail: Box<[u8]>,
}

/// A method in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
    Other,
}

impl Method {
    /// Reads a method.
    pub fn from_http(method: &hyper::Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Other => "OTHER",
        }
    }
}

/// The variable part of an entry.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Detail<'a> {
    path: Option<&'a str>,
    email: Option<&'a str>,
    external_id: Option<&'a str>,
    #[serde(borrow)]
    user: Option<IdText<'a>>,
    #[serde(borrow)]
    organization: Option<IdText<'a>>,
    entity: Option<PackedId>,
}

/// An id as a client wrote it; ours take 17 bytes less than their text.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum IdText<'a> {
    Ours(PackedId),
    Other(&'a str),
}

/// [`Id`] shows itself as text; here it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PackedId(Kind, super::ids::Ulid);

impl From<Id> for PackedId {
    fn from(id: Id) -> Self {
        Self(id.0, id.1)
    }
}

impl From<PackedId> for Id {
    fn from(id: PackedId) -> Self {
        Self(id.0, id.1)
    }
}

impl<'a> IdText<'a> {
    fn pack(kind: Kind, text: &'a str) -> Self {
        Id::parse(kind, text).map_or(Self::Other(text), |id| Self::Ours(id.into()))
    }

    fn unpack(&self) -> String {
        match self {
            Self::Ours(id) => Id::from(*id).to_string(),
            Self::Other(text) => (*text).to_owned(),
        }
    }
}

impl Detail<'_> {
    fn encode(&self) -> Box<[u8]> {
        if *self == Detail::default() {
            return Box::default();
        }
        postcard::to_stdvec(self)
            .unwrap_or_default()
            .into_boxed_slice()
    }
}

/// A request as the history shows it. Times are null when the thing did not happen.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    sequence: u64,
    received_ms: i64,
    applied_ms: Option<i64>,
    answered_ms: Option<i64>,
    /// The same instants on the machine's monotonic clock.
    received_ns: u64,
    applied_ns: Option<u64>,
    answered_ns: Option<u64>,
    method: &'static str,
    path: &'a str,
    op: &'static str,
    status: Option<u16>,
    fault: Option<&'static str>,
    retry_after: Option<u32>,
    request_id: String,
    email: Option<&'a str>,
    external_id: Option<&'a str>,
    user_id: Option<String>,
    organization_id: Option<String>,
    id: Option<Id>,
}

/// What is known of a request when its head has arrived.
#[derive(Debug)]
pub struct Arrival<'a> {
    pub received: Mono,
    pub method: Method,
    pub op: Op,
    pub path: &'a str,
    pub fault: Option<Fault>,
}

/// The requests, oldest first, numbered from 1.
#[derive(Debug)]
pub struct History {
    blocks: VecDeque<Vec<Entry>>,
    /// The number of the oldest request kept.
    first: u64,
    /// The number of the next request.
    next: u64,
    blocks_max: usize,
    salt: u64,
}

impl History {
    /// Starts empty; keeps about `cap` requests, and makes request ids from `salt`.
    pub fn new(cap: usize, salt: u64) -> Self {
        Self {
            blocks: VecDeque::new(),
            first: 1,
            next: 1,
            blocks_max: cap.div_ceil(BLOCK_LEN).max(1),
            salt,
        }
    }

    /// Returns the number the next request will get.
    pub const fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Returns the number of the oldest request kept.
    pub const fn first_sequence(&self) -> u64 {
        self.first
    }

    /// Adds a request and returns its number.
    pub fn arrive(&mut self, arrival: &Arrival<'_>) -> u64 {
        if self
            .blocks
            .back()
            .is_none_or(|block| block.len() == BLOCK_LEN)
        {
            if self.blocks.len() == self.blocks_max {
                let dropped = self.blocks.pop_front().map_or(0, |block| block.len());
                self.first += u64::try_from(dropped).unwrap_or_default();
            }
            self.blocks.push_back(Vec::with_capacity(BLOCK_LEN));
        }
        let path = kept_path(arrival);
        if let Some(block) = self.blocks.back_mut() {
            block.push(Entry {
                received: arrival.received,
                applied_us: NEVER,
                answered_us: NEVER,
                retry_after_s: NEVER,
                status: 0,
                op: arrival.op,
                fault: arrival.fault,
                method: arrival.method,
                detail: Detail {
                    path,
                    ..Detail::default()
                }
                .encode(),
            });
        }
        self.next += 1;
        self.next - 1
    }

    /// Notes what a request was about and whether it was applied.
    pub fn describe(&mut self, sequence: u64, trace: &Trace, now: Mono) {
        let Some(entry) = self.entry_mut(sequence) else {
            return;
        };
        if trace.applied {
            entry.applied_us = offset_us(entry.received, now);
        }
        let detail = Detail {
            path: decode(&entry.detail).path,
            email: trace.email.as_deref(),
            external_id: trace.external_id.as_deref(),
            user: trace
                .user_id
                .as_deref()
                .map(|text| IdText::pack(Kind::User, text)),
            organization: trace
                .organization_id
                .as_deref()
                .map(|text| IdText::pack(Kind::Organization, text)),
            entity: trace.entity.map(PackedId::from),
        };
        let detail = detail.encode();
        entry.detail = detail;
    }

    /// Notes the answer of a request.
    pub fn answer(&mut self, sequence: u64, now: Mono, status: u16, retry_after_s: Option<u32>) {
        if let Some(entry) = self.entry_mut(sequence) {
            entry.answered_us = offset_us(entry.received, now);
            entry.status = status;
            entry.retry_after_s = retry_after_s.unwrap_or(NEVER);
        }
    }

    /// Returns the `X-Request-ID` of a request.
    pub fn request_id(&self, sequence: u64) -> String {
        let high = super::rng::nth(self.salt, sequence.wrapping_mul(2));
        let low = super::rng::nth(self.salt, sequence.wrapping_mul(2).wrapping_add(1));
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 48) & 0x3fff,
            low & 0xffff_ffff_ffff,
        )
    }

    /// Calls `show` with a request, if it is still kept.
    pub fn with<R>(
        &self,
        sequence: u64,
        epoch: Epoch,
        show: impl FnOnce(&Shown<'_>) -> R,
    ) -> Option<R> {
        let entry = self.entry(sequence)?;
        let detail = decode(&entry.detail);
        let instant = |us: u32| (us != NEVER).then(|| later(entry.received, us));
        let (applied, answered) = (instant(entry.applied_us), instant(entry.answered_us));
        Some(show(&Shown {
            sequence,
            received_ms: epoch.ms(entry.received),
            applied_ms: applied.map(|at| epoch.ms(at)),
            answered_ms: answered.map(|at| epoch.ms(at)),
            received_ns: entry.received.0,
            applied_ns: applied.map(|at| at.0),
            answered_ns: answered.map(|at| at.0),
            method: entry.method.word(),
            path: detail.path.or(entry.op.fixed_path()).unwrap_or_default(),
            op: entry.op.word(),
            status: (entry.status != 0).then_some(entry.status),
            fault: entry.fault.map(Fault::word),
            retry_after: (entry.retry_after_s != NEVER).then_some(entry.retry_after_s),
            request_id: self.request_id(sequence),
            email: detail.email,
            external_id: detail.external_id,
            user_id: detail.user.map(|id| id.unpack()),
            organization_id: detail.organization.map(|id| id.unpack()),
            id: detail.entity.map(Id::from),
        }))
    }

    fn place(&self, sequence: u64) -> Option<(usize, usize)> {
        let offset = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        Some((offset / BLOCK_LEN, offset % BLOCK_LEN))
    }

    fn entry(&self, sequence: u64) -> Option<&Entry> {
        let (block, at) = self.place(sequence)?;
        self.blocks.get(block)?.get(at)
    }

    fn entry_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        let (block, at) = self.place(sequence)?;
        self.blocks.get_mut(block)?.get_mut(at)
    }
}

fn kept_path<'a>(arrival: &Arrival<'a>) -> Option<&'a str> {
    if arrival.op.fixed_path() == Some(arrival.path) {
        return None;
    }
    Some(&arrival.path[..arrival.path.floor_char_boundary(PATH_BYTES_MAX)])
}

fn decode(bytes: &[u8]) -> Detail<'_> {
    if bytes.is_empty() {
        return Detail::default();
    }
    postcard::from_bytes(bytes).unwrap_or_default()
}

fn offset_us(from: Mono, to: Mono) -> u32 {
    u32::try_from(to.since(from).as_micros()).unwrap_or(NEVER - 1)
}

fn later(from: Mono, us: u32) -> Mono {
    Mono(from.0 + u64::from(us) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const EPOCH: Epoch = Epoch {
        wall_ms: 1_000_000,
        mono: Mono(0),
    };

    fn arrive(history: &mut History, op: Op, path: &str, at_ms: u64) -> u64 {
        history.arrive(&Arrival {
            received: Mono(at_ms * 1_000_000),
            method: Method::Post,
            op,
            path,
            fault: None,
        })
    }

    fn shown(history: &History, sequence: u64) -> Option<Value> {
        history.with(sequence, EPOCH, |shown| {
            serde_json::to_value(shown).unwrap()
        })
    }

    #[test]
    fn a_request_is_shown_as_it_went() {
        let mut history = History::new(10, 1);
        let path = "/user_management/users";
        let sequence = arrive(&mut history, Op::CreateUser, path, 5);
        let early = shown(&history, sequence).unwrap();
        assert_eq!(
            (&early["path"], &early["answered_ms"]),
            (&json!(path), &Value::Null)
        );
        assert!(
            history.entry(sequence).unwrap().detail.is_empty(),
            "a fixed path costs nothing"
        );

        let id = Id(Kind::User, crate::sandbox::ids::IdSource::new(1).next(77));
        let trace = Trace {
            applied: true,
            email: Some("a@b.co".into()),
            user_id: Some("nonsense".into()),
            organization_id: Some(Id(Kind::Organization, id.1).to_string()),
            entity: Some(id),
            ..Trace::default()
        };
        history.describe(sequence, &trace, Mono(6_500_000));
        history.answer(sequence, Mono(9_000_000), 201, None);
        let full = shown(&history, sequence).unwrap();
        assert_eq!(full["received_ms"], 1_000_005);
        assert_eq!(full["applied_ns"], 6_500_000);
        assert_eq!(full["answered_ms"], 1_000_009);
        assert_eq!(full["status"], 201);
        assert_eq!(full["email"], "a@b.co");
        assert_eq!(full["user_id"], "nonsense");
        assert_eq!(
            full["organization_id"],
            Id(Kind::Organization, id.1).to_string()
        );
        assert_eq!(full["id"], id.to_string());
        assert_eq!(full["path"], path);
    }

    #[test]
    fn beyond_the_cap_the_oldest_are_dropped() {
        let mut history = History::new(2 * BLOCK_LEN, 1);
        let len = u64::try_from(BLOCK_LEN).unwrap();
        for n in 0..=3 * len {
            let sequence = arrive(&mut history, Op::GetUser, &format!("/{n}"), n);
            assert_eq!(sequence, n + 1);
        }
        assert_eq!(history.first_sequence(), 2 * len + 1);
        assert!(shown(&history, 2 * len).is_none());
        assert_eq!(
            shown(&history, 2 * len + 1).unwrap()["path"],
            format!("/{}", 2 * len)
        );
        history.answer(1, Mono(1), 200, None);
    }

    #[test]
    fn request_ids_differ_and_look_like_uuids() {
        let history = History::new(1, 9);
        let ids: std::collections::BTreeSet<String> =
            (0..1000).map(|n| history.request_id(n)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 36 && id.as_bytes()[14] == b'4')
        );
    }
}
