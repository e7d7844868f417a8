//! `/authorization`: the roles of the environment. Organizations of the sandbox have no others.

use super::error::{ApiError, ApiResult};
use super::view::Iso;
use super::{Answer, Call};
use crate::sandbox::ids::{Id, Kind};
use crate::sandbox::record::Role;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct RoleView {
    object: &'static str,
    id: &'static str,
    slug: &'static str,
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    description: Option<&'static str>,
    permissions: [&'static str; 0],
    resource_type_slug: &'static str,
    created_at: Iso,
    updated_at: Iso,
}

/// Roles are as old as the API: nobody makes them here.
const EPOCH: Iso = Iso(0);

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        let (id, name) = match role {
            Role::Member => ("role_member", "Member"),
            Role::Admin => ("role_admin", "Admin"),
        };
        Self {
            object: "role",
            id,
            slug: role.slug(),
            name,
            kind: "EnvironmentRole",
            description: None,
            permissions: [],
            resource_type_slug: "organization",
            created_at: EPOCH,
            updated_at: EPOCH,
        }
    }
}

/// All of them at once: this list has no pages.
#[derive(Debug, Serialize)]
struct RolesView {
    object: &'static str,
    data: Vec<RoleView>,
}

/// GET of the environment's.
pub fn list() -> ApiResult<Answer> {
    let view = RolesView {
        object: "list",
        data: Role::ALL.map(RoleView::from).into(),
    };
    Answer::json(200, &view)
}

/// GET of those an organization knows: the environment's, and its own.
pub fn list_of_organization(call: &mut Call<'_>) -> ApiResult<Answer> {
    let id = call.key_id(Kind::Organization)?;
    if call.directory.store().organization(id).is_none() {
        return Err(ApiError::missing(Id(Kind::Organization, id)));
    }
    list()
}
