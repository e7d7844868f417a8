//! HTTP becomes a verdict here and nowhere else, but for the answers that `usual.rs` reads ahead of
//! it, to the same verdict. Pure: no clock, no I/O.
//!
//! Decisions rest on the status, `code` and `errors[].code`, never on a message: the messages of
//! the published specification are placeholders, and a message is the first thing that changes.

use super::body::{self, Body};
use super::{Entity, Op, RequestClass, retry_after};
use crate::model::{escape, plant};
use serde::{Deserialize, Serialize};
use serde_json_borrow::Value;
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
    Ok(Box<Entity>),
    /// A create's plain answer: a user or an active membership was made as asked for. This is its
    /// id; nothing else of it matters.
    Made(String),
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
    OddEcho(Box<Entity>),
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
    /// The target knows none of the users this job made: another environment. Exit 69.
    OtherEnvironment,
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

/// The code of a membership refused with 404: its user or its organization is not there (yet).
pub const USER_OR_ORG_MISSING: &str = "user_or_organization_not_found";

/// The code of a membership that waits for its user to accept an invitation.
pub const PENDING_MEMBERSHIP: &str = "cannot_reactivate_pending_organization_membership";

/// The code of a membership with a role that the target does not know.
pub const INVALID_ROLE: &str = "invalid_role";

/// The outer code of every refused user; what happened is in the nested codes.
const USER_CREATION_ERROR: &str = "user_creation_error";

/// Codes that say "something like it is there already".
const EXISTS_CODES: &[&str] = &[
    "email_not_available",
    "external_id_already_used",
    "organization_membership_already_exists",
    "entity_already_exists",
    "user_already_exists",
    "user_already_organization_member",
    "conflict",
];

/// Codes that refuse a row's fields for good. A code that is not listed proves nothing.
const REJECTED_CODES: &[&str] = &[
    "invalid_request_parameters",
    "invalid_email",
    "invalid_locale",
    "invalid_metadata",
    "invalid_password_hash",
    "password_strength_error",
    "password_and_password_hash_provided",
    "password_and_password_hash_type_provided",
    "password_salt_position_requires_password_hash",
    INVALID_ROLE,
    "sub_resource_scoped_role_not_allowed",
    "multiple_roles_not_enabled",
    PENDING_MEMBERSHIP,
];

/// Decides what `answer` means for `op`.
pub fn classify(op: &Op, answer: &Answer<'_>) -> Verdict {
    match *answer {
        Answer::Transport(ref error) => transport(error),
        Answer::Http {
            status,
            retry_after,
            date,
            request_id,
            body,
        } => {
            let page = Page {
                op,
                status,
                request_id,
                body: Body::read(body),
            };
            let wait = || retry_after.and_then(|value| retry_after::wait(value, date));
            page.verdict(wait)
        }
    }
}

fn transport(error: &TransportError) -> Verdict {
    match error {
        TransportError::Connect(why) => Verdict::NotApplied(NotApplied::Connect(why.clone())),
        TransportError::Certificate(why) => Verdict::Stop(StopReason::Certificate(why.clone())),
        TransportError::Lost(why) => Verdict::Ambiguous(Rejection {
            code: "connection_lost".to_owned(),
            message: why.clone(),
            http_status: None,
            request_id: None,
        }),
    }
}

/// An HTTP answer next to what was asked.
struct Page<'a> {
    op: &'a Op,
    status: u16,
    request_id: Option<&'a str>,
    body: Body<'a>,
}

impl Page<'_> {
    fn verdict(&self, wait: impl FnOnce() -> Option<Duration>) -> Verdict {
        let is_write = self.op.class() == RequestClass::Write;
        match self.status {
            200..=299 => self.success(),
            // A key or a plan may not show roles, and a target may have none: no reason to stop.
            403..=405 if matches!(self.op, Op::ListRoles(_)) => Verdict::Absent,
            300..=399 | 405 | 415 => Verdict::Stop(StopReason::NotThisApi(self.in_words())),
            401 => Verdict::NotApplied(NotApplied::Unauthorized),
            403 => Verdict::Stop(StopReason::Forbidden(self.in_words())),
            404 => self.missing(),
            429 => Verdict::NotApplied(NotApplied::Throttled(wait())),
            409 if is_write => Verdict::Exists(self.rejection(None)),
            413 if is_write => Verdict::Rejected(self.rejection(None)),
            400 | 422 if is_write => self.refused(),
            // A refused *read* proves nothing about what an earlier write did.
            _ => Verdict::Ambiguous(self.rejection(None)),
        }
    }

    /// 400 and 422 of a write: what it means is in the codes.
    fn refused(&self) -> Verdict {
        let nested = self.body.nested_codes();
        let outer = self.body.outer_code();
        let find = |codes: &[&str]| {
            let mut all = nested.iter().copied().chain(outer);
            all.find(|code| codes.contains(code))
        };
        if let Some(code) = find(EXISTS_CODES) {
            return Verdict::Exists(self.rejection(Some(code)));
        }
        // Without a nested reason it may well mean that the user is there: only a look-up tells.
        if outer == Some(USER_CREATION_ERROR) && nested.is_empty() {
            return Verdict::Exists(self.rejection(outer));
        }
        match find(REJECTED_CODES) {
            Some(code) => Verdict::Rejected(self.rejection(Some(code))),
            None => Verdict::Ambiguous(self.rejection(None)),
        }
    }

    /// 404: an entity that is not there, or a route that is not there.
    fn missing(&self) -> Verdict {
        let not_this_api = || Verdict::Stop(StopReason::NotThisApi(self.in_words()));
        match self.op {
            // Nothing these name can be missing but the route itself.
            Op::Probe
            | Op::CreateUser(_)
            | Op::CreateOrg { .. }
            | Op::FindUserByEmail(_)
            | Op::ListUsers { .. }
            | Op::ListOrgs(_)
            | Op::FindOrgByName(_) => not_this_api(),
            _ if matches!(self.body, Body::Cut | Body::Torn) => {
                Verdict::Ambiguous(self.rejection(None))
            }
            _ if !self.body.is_api_shaped() => not_this_api(),
            Op::SetLocale { .. } | Op::CreateFactor(_) | Op::CreateMembership { .. } => {
                Verdict::Rejected(self.rejection(Some(USER_OR_ORG_MISSING)))
            }
            Op::FindUserByExternalId(_)
            | Op::GetUser(_)
            | Op::FindFactor(_)
            | Op::FindMembership { .. }
            | Op::ListMemberships { .. }
            | Op::ListRoles(_)
            | Op::GetOrg(_)
            | Op::FindOrgByExternalId(_) => Verdict::Absent,
        }
    }

    fn success(&self) -> Verdict {
        let Some(json) = self.body.json() else {
            let code = match self.body {
                Body::Cut => "oversized_answer",
                _ => "malformed_answer",
            };
            return Verdict::Ambiguous(self.rejection(Some(code)));
        };
        match self.op {
            Op::Probe
            | Op::FindUserByEmail(_)
            | Op::FindFactor(_)
            | Op::FindMembership { .. }
            | Op::ListUsers { .. }
            | Op::ListMemberships { .. }
            | Op::ListOrgs(_)
            | Op::ListRoles(_) => self.listed(),
            Op::CreateFactor(factor) => self.enrolled(&factor.user_id, json),
            Op::FindOrgByName(name) => self.only_org(name),
            Op::CreateUser(_)
            | Op::FindUserByExternalId(_)
            | Op::GetUser(_)
            | Op::SetLocale { .. }
            | Op::CreateMembership { .. }
            | Op::GetOrg(_)
            | Op::FindOrgByExternalId(_)
            | Op::CreateOrg { .. } => body::entity(json)
                .map_or_else(|| self.malformed(), |entity| self.echoed(entity, json)),
        }
    }

    /// A list answer: the one item that was asked for, if it is in it.
    fn listed(&self) -> Verdict {
        let Some(items) = self.body.items() else {
            return self.malformed();
        };
        let chosen = match self.op {
            Op::FindUserByEmail(email) => user_with(items, email),
            Op::FindMembership { user_id, org_id } => membership_of(items, user_id, org_id),
            Op::FindFactor(user_id) => factor_of(items, user_id),
            _ => return Verdict::Ok(Box::default()),
        };
        let Some(chosen) = chosen else {
            return Verdict::Absent;
        };
        body::entity(chosen).map_or_else(|| self.malformed(), found)
    }

    /// An enrolment answers with the factor and a first challenge.
    fn enrolled(&self, user_id: &str, json: &Value<'_>) -> Verdict {
        let inner = ["authentication_factor", "factor"]
            .iter()
            .find_map(|field| body::field(json, field));
        let factor = inner.unwrap_or(json);
        match body::entity(factor) {
            Some(entity) if is_factor_of(factor, user_id) => found(entity),
            Some(_) | None => self.malformed(),
        }
    }

    /// A search answers with every name that contains the words: the only one that is equal, none,
    /// or a refusal that names them all. More than a page of them may hide another.
    fn only_org(&self, name: &str) -> Verdict {
        let Some(items) = self.body.items() else {
            return self.malformed();
        };
        let equal = items
            .iter()
            .filter(|item| body::text(item, "name") == Some(name));
        let equal: Vec<&Value<'_>> = equal.collect();
        let refuse = |words: String| {
            Verdict::Rejected(Rejection {
                message: words,
                ..self.rejection(Some(ORGANIZATION_AMBIGUOUS))
            })
        };
        if self.body.after().is_some() {
            return refuse(
                "so many organizations have names like this one that the search does not show \
                 them all; give the id of the one that is meant in org_id"
                    .to_owned(),
            );
        }
        match equal.as_slice() {
            [] => Verdict::Absent,
            [one] => body::entity(one).map_or_else(|| self.malformed(), found),
            several => {
                let ids = several.iter().filter_map(|item| body::text(item, "id"));
                let ids: Vec<&str> = ids.collect();
                refuse(format!(
                    "{} organizations have this name: {}; give the id of the one that is meant in \
                     org_id",
                    ids.len(),
                    ids.join(", ")
                ))
            }
        }
    }

    /// A single entity: it must be the one that was asked for.
    fn echoed(&self, entity: Entity, json: &Value<'_>) -> Verdict {
        match self.op {
            Op::CreateUser(user) => match &entity.email {
                None => self.malformed(),
                Some(email) if same_email(email, &user.email) => found(entity),
                Some(_) => Verdict::OddEcho(Box::new(entity)),
            },
            Op::FindUserByExternalId(asked) if entity.email.is_some() => {
                self.with_external_id(entity, asked)
            }
            Op::FindOrgByExternalId(asked)
            | Op::CreateOrg {
                external_id: asked, ..
            } => self.with_external_id(entity, asked),
            Op::GetUser(id) | Op::SetLocale { user_id: id, .. } | Op::GetOrg(id)
                if entity.id == *id =>
            {
                found(entity)
            }
            Op::CreateMembership {
                user_id, org_id, ..
            } if is_of(json, user_id, org_id) => found(entity),
            _ => self.malformed(),
        }
    }

    fn with_external_id(&self, mut entity: Entity, asked: &str) -> Verdict {
        if *entity.external_id.get_or_insert_with(|| asked.to_owned()) == asked {
            found(entity)
        } else {
            self.malformed()
        }
    }

    fn malformed(&self) -> Verdict {
        Verdict::Ambiguous(self.rejection(Some("malformed_answer")))
    }

    /// What the target said, under `code` or under the most telling code it gave.
    fn rejection(&self, code: Option<&str>) -> Rejection {
        let nested = self.body.nested_codes();
        let given = code.or_else(|| nested.first().copied().or_else(|| self.body.outer_code()));
        let code = given.map_or_else(|| format!("http_{}", self.status), str::to_owned);
        Rejection {
            message: self.body.message(&code),
            code,
            http_status: Some(self.status),
            request_id: self.request_id.and_then(body::request_id),
        }
    }

    /// One line for people about an answer that stops the run.
    fn in_words(&self) -> String {
        let message = escape::without_people(&self.body.message(""), &[]);
        let colon = if message.is_empty() { "" } else { ": " };
        format!(
            "{} was answered {}{colon}{message}",
            self.op.name(),
            self.status
        )
    }
}

/// Several organizations have the name that a row gives.
pub const ORGANIZATION_AMBIGUOUS: &str = "organization_ambiguous";

/// The form in which emails are compared.
fn normal(email: &str) -> String {
    if plant::is(16) {
        return email.to_owned();
    }
    email.trim().to_lowercase()
}

/// Returns whether two emails are one. Nearly always they are written alike, too.
pub(super) fn same_email(one: &str, other: &str) -> bool {
    one == other || normal(one) == normal(other)
}

fn user_with<'v, 'a>(items: &'v [Value<'a>], email: &str) -> Option<&'v Value<'a>> {
    let wanted = normal(email);
    // A target that tells cases apart may list several: the one as asked comes first.
    let mut exact = items.iter();
    let exact = exact.find(|item| body::text(item, "email") == Some(email));
    exact.or_else(|| {
        let mut items = items.iter();
        items.find(|item| body::text(item, "email").is_some_and(|found| normal(found) == wanted))
    })
}

fn membership_of<'v, 'a>(
    items: &'v [Value<'a>],
    user_id: &str,
    org_id: &str,
) -> Option<&'v Value<'a>> {
    // There is at most one; a target that keeps old ones beside it shows the living one first.
    let rank = |item: &Value<'_>| match body::text(item, "status") {
        Some("active") | None => 0,
        Some("pending") => 1,
        Some(_) => 2,
    };
    let matching = items.iter().filter(|item| is_of(item, user_id, org_id));
    matching.min_by_key(|&item| rank(item))
}

/// Returns the first factor with one-time passwords that is not somebody else's.
fn factor_of<'v, 'a>(items: &'v [Value<'a>], user_id: &str) -> Option<&'v Value<'a>> {
    items.iter().find(|item| is_factor_of(item, user_id))
}

fn is_factor_of(item: &Value<'_>, user_id: &str) -> bool {
    let says = |field: &str, word: &str| {
        let said = body::text(item, field);
        said.is_none_or(|said| said == word)
    };
    says("type", "totp") && says("user_id", user_id)
}

/// Returns whether a membership does not name another user or organization.
fn is_of(item: &Value<'_>, user_id: &str, org_id: &str) -> bool {
    let named = ["user_id", "organization_id"].map(|field| body::text(item, field));
    names_no_other(named, [user_id, org_id])
}

/// Returns whether each of the ids that an answer names, if it does, is the one that was meant.
pub(super) fn names_no_other(named: [Option<&str>; 2], meant: [&str; 2]) -> bool {
    let mut pairs = named.into_iter().zip(meant);
    pairs.all(|(named, meant)| named.is_none_or(|named| named == meant))
}

fn found(entity: Entity) -> Verdict {
    Verdict::Ok(Box::new(entity))
}

#[cfg(test)]
mod tests;
