//! The operations of the API: what each accepts, refuses and answers.
//!
//! # Owns
//! Routes, request fields, refusals, views.
//! # Never
//! Reads a clock or a socket; keeps a password, a hash or the secret of a factor; applies a change past the directory.

pub mod error;
mod factors;
pub mod fields;
mod hash;
mod memberships;
mod organizations;
mod roles;
pub mod route;
mod users;
pub mod view;

use self::error::{ApiError, ApiResult};
use self::fields::Fields;
use self::route::{Op, Query, Route};
use super::directory::{CommitError, Directory, Trace};
use super::ids::{Id, Kind, Ulid};
use super::record::Change;
use serde::Serialize;

pub use self::memberships::seed;

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

impl Answer {
    /// Makes an answer that shows `value`.
    pub fn json(status: u16, value: &impl Serialize) -> ApiResult<Self> {
        let body = serde_json::to_vec(value).map_err(|_| ApiError::internal())?;
        Ok(Self { status, body })
    }

    /// Makes an answer without a body.
    pub const fn empty(status: u16) -> Self {
        Self {
            status,
            body: Vec::new(),
        }
    }
}

/// One request in the hands of the API.
#[derive(Debug)]
pub struct Call<'a> {
    pub directory: &'a mut Directory,
    pub route: &'a Route,
    pub query: &'a Query,
    /// When it is handled, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    pub trace: &'a mut Trace,
}

impl Call<'_> {
    /// Returns the id in the path, which must be of `kind`.
    fn key_id(&mut self, kind: Kind) -> ApiResult<Ulid> {
        let missing = || ApiError::missing_text(kind.noun(), &self.route.key);
        let id = Id::parse(kind, &self.route.key).ok_or_else(missing)?;
        self.trace.entity = Some(id);
        Ok(id.1)
    }

    /// Makes a change a fact.
    fn commit(&mut self, change: &super::directory::Encoded) -> ApiResult<Ulid> {
        let id = self.directory.commit(change).map_err(failed)?;
        self.trace.applied = true;
        Ok(id)
    }
}

fn encode(change: &Change<'_>) -> ApiResult<super::directory::Encoded> {
    Directory::encode(change).map_err(failed)
}

fn failed(error: CommitError) -> ApiError {
    tracing::error!(%error, "the sandbox could not apply a write");
    match error {
        // A full disk is the user's to mend, so the answer says which file.
        CommitError::Journal(error) => ApiError::plain(500, error.to_string()),
        CommitError::Encode(_) | CommitError::Apply(_) => ApiError::internal(),
    }
}

/// Handles one request with its complete body.
pub fn handle(mut call: Call<'_>, body: &[u8]) -> Answer {
    let has_fields = call.route.op.takes_fields();
    let fields = Fields::parse(if has_fields { body } else { b"" });
    let answer = fields.and_then(|fields| dispatch(&mut call, &fields));
    answer.unwrap_or_else(ApiError::into_answer)
}

fn dispatch(call: &mut Call<'_>, fields: &Fields) -> ApiResult<Answer> {
    match call.route.op {
        Op::CreateUser => users::create(call, fields),
        Op::ListUsers => users::list(call),
        Op::GetUser => users::get(call),
        Op::GetUserByExternalId => users::get_by_external_id(call),
        Op::UpdateUser => users::update(call, fields),
        Op::DeleteUser => users::delete(call),
        Op::CreateFactor => factors::create(call, fields),
        Op::ListFactors => factors::list(call),
        Op::CreateMembership => memberships::create(call, fields),
        Op::ListMemberships => memberships::list(call),
        Op::GetMembership => memberships::get(call),
        Op::UpdateMembership => memberships::update(call, fields),
        Op::DeactivateMembership => memberships::deactivate(call),
        Op::ReactivateMembership => memberships::reactivate(call),
        Op::DeleteMembership => memberships::delete(call),
        Op::CreateOrganization => organizations::create(call, fields),
        Op::ListOrganizations => organizations::list(call),
        Op::GetOrganization => organizations::get(call),
        Op::GetOrganizationByExternalId => organizations::get_by_external_id(call),
        Op::UpdateOrganization => organizations::update(call, fields),
        Op::DeleteOrganization => organizations::delete(call),
        Op::ListRoles => roles::list(),
        Op::ListOrganizationRoles => roles::list_of_organization(call),
        Op::Unknown => Err(ApiError::plain(404, "There is nothing at this address.")),
    }
}
