//! `/_sandbox/*`: what tests ask. No key, no limit, no delay, no fault, not in the history.
//!
//! - `GET /_sandbox/history?after=SEQUENCE&limit=N`: one JSON object per line, oldest first.
//!   `X-History-First` and `X-History-Last` tell which numbers are kept.
//! - `GET /_sandbox/stats`: counts and largest windows.
//! - `GET /_sandbox/dump`: every entity. Streamed: a write that happens meanwhile may be in it.
//! - `POST /_sandbox/seed`: `{"memberships":[{"user_id","organization_id","status","role_slugs"}]}`
//!   puts memberships into any state, `pending` included.

use super::api::error::ApiError;
use super::api::route::Query;
use super::api::view::{FactorView, MembershipView, OrganizationView, UserView};
use super::api::{Answer, seed};
use super::directory::Directory;
use super::ids::Kind;
use super::index::Slot;
use super::page::Listing;
use super::server::{Payload, Shared};
use super::state::State;
use super::stats::StatsView;
use crate::model::Mono;
use bytes::Bytes;
use hyper::{Method, Response, header};
use serde::Serialize;
use std::rc::Rc;

/// Where these addresses start.
pub const PREFIX: &str = "/_sandbox/";

/// Entries of a stream that are made at a time: between them, other connections are served.
const PIECE_LEN: u64 = 512;

#[derive(Debug, Serialize)]
struct Entities {
    users: usize,
    organizations: usize,
    memberships: usize,
    factors: usize,
}

#[derive(Debug, Serialize)]
struct HistoryView {
    first: u64,
    last: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct StatsBody {
    #[serde(flatten)]
    stats: StatsView,
    entities: Entities,
    history: HistoryView,
}

/// Answers a request.
pub fn answer(
    shared: &Shared,
    method: &Method,
    path: &str,
    query: &str,
    body: &[u8],
) -> Response<Payload> {
    match (method.as_str(), path.strip_prefix(PREFIX)) {
        ("GET", Some("history")) => history(shared, query),
        ("GET", Some("stats")) => stats(&shared.borrow()),
        ("GET", Some("dump")) => dump(shared),
        ("POST", Some("seed")) => plant(&mut shared.borrow_mut(), body),
        _ => plain(ApiError::plain(404, "There is nothing at this address.").into_answer()),
    }
}

fn plain(answer: Answer) -> Response<Payload> {
    let mut response = Response::new(Payload::full(answer.body));
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.status).unwrap_or(hyper::StatusCode::IM_A_TEAPOT);
    set_type(&mut response, "application/json");
    response
}

fn set_type(response: &mut Response<Payload>, text: &'static str) {
    let value = header::HeaderValue::from_static(text);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
}

fn stats(state: &State) -> Response<Payload> {
    let [users, organizations, memberships] = state.directory.counts();
    let first = state.history.first_sequence();
    let body = StatsBody {
        stats: state.stats.view(),
        entities: Entities {
            users,
            organizations,
            memberships,
            factors: state.directory.store().count(Kind::Factor),
        },
        history: HistoryView {
            first,
            last: state.history.next_sequence() - 1,
            dropped: first - 1,
        },
    };
    plain(Answer::json(200, &body).unwrap_or_else(ApiError::into_answer))
}

fn plant(state: &mut State, body: &[u8]) -> Response<Payload> {
    let now_ms = state.epoch.ms(Mono::now());
    let planted = seed(&mut state.directory, body, now_ms);
    let answer = planted.and_then(|memberships| {
        Answer::json(200, &serde_json::json!({ "memberships": memberships }))
    });
    plain(answer.unwrap_or_else(ApiError::into_answer))
}

fn history(shared: &Shared, query: &str) -> Response<Payload> {
    let (first, end) = {
        let state = shared.borrow();
        (
            state.history.first_sequence(),
            state.history.next_sequence(),
        )
    };
    let number = |name| -> Result<Option<u64>, ApiError> {
        let query = Query::parse(query)?;
        let wrong = || ApiError::invalid(format!("{name} must be a whole number."));
        query
            .get(name)
            .map(|text| text.parse().map_err(|_| wrong()))
            .transpose()
    };
    let (after, limit) = match (number("after"), number("limit")) {
        (Ok(after), Ok(limit)) => (after.unwrap_or_default(), limit.unwrap_or(u64::MAX)),
        (Err(error), _) | (_, Err(error)) => return plain(error.into_answer()),
    };
    let mut next = first.max(after.saturating_add(1));
    let end_shown = end.min(next.saturating_add(limit));
    let shared = Rc::clone(shared);
    let piece = move || {
        let state = shared.borrow();
        let stop = end_shown.min(next.saturating_add(PIECE_LEN));
        let mut lines = Vec::new();
        for sequence in next..stop {
            // A request dropped from the history meanwhile is left out.
            let written = state.history.with(sequence, state.epoch, |shown| {
                serde_json::to_writer(&mut lines, shown)
            });
            if let Some(Ok(())) = written {
                lines.push(b'\n');
            }
        }
        let is_done = next >= stop;
        next = stop;
        (!is_done).then(|| Bytes::from(lines))
    };
    let mut response = Response::new(Payload::stream(piece));
    set_type(&mut response, "application/x-ndjson");
    for (name, value) in [("x-history-first", first), ("x-history-last", end - 1)] {
        response.headers_mut().insert(name, value.into());
    }
    response
}

/// Where a dump has got to.
struct Cursor {
    section: Option<Kind>,
    slot: Slot,
    is_first: bool,
}

fn dump(shared: &Shared) -> Response<Payload> {
    let shared = Rc::clone(shared);
    let mut cursor = Cursor {
        section: Some(Kind::User),
        slot: 0,
        is_first: true,
    };
    let mut opening = Some(b"{\"users\":[".to_vec());
    let piece = move || {
        let mut text = opening.take().unwrap_or_default();
        let section = cursor.section?;
        let state = shared.borrow();
        let end = state.directory.store().all(section).len();
        let end = Slot::try_from(end).unwrap_or(Slot::MAX);
        let stop = end.min(cursor.slot.saturating_add(512));
        for slot in cursor.slot..stop {
            write_entity(
                &mut text,
                &state.directory,
                section,
                slot,
                &mut cursor.is_first,
            );
        }
        cursor.slot = stop;
        if stop == end {
            let (next, between) = match section {
                Kind::User => (Some(Kind::Organization), "],\"organizations\":["),
                Kind::Organization => (Some(Kind::Membership), "],\"memberships\":["),
                Kind::Membership => (Some(Kind::Factor), "],\"factors\":["),
                Kind::Factor => (None, "]}\n"),
            };
            text.extend_from_slice(between.as_bytes());
            cursor = Cursor {
                section: next,
                slot: 0,
                is_first: true,
            };
        }
        Some(Bytes::from(text))
    };
    let mut response = Response::new(Payload::stream(piece));
    set_type(&mut response, "application/json");
    response
}

fn write_entity(
    text: &mut Vec<u8>,
    directory: &Directory,
    kind: Kind,
    slot: Slot,
    is_first: &mut bool,
) {
    let store = directory.store();
    let json = match kind {
        Kind::User => store
            .user_at(slot)
            .map(|user| serde_json::to_vec(&UserView::from(user))),
        Kind::Organization => store
            .organization_at(slot)
            .map(|organization| serde_json::to_vec(&OrganizationView::from(organization))),
        Kind::Membership => store
            .membership_at(slot)
            .map(|membership| serde_json::to_vec(&MembershipView::new(directory, membership))),
        Kind::Factor => store
            .factor_at(slot)
            .map(|factor| serde_json::to_vec(&FactorView::from(factor))),
    };
    if let Some(Ok(json)) = json {
        if !std::mem::take(is_first) {
            text.push(b',');
        }
        text.extend_from_slice(&json);
    }
}
