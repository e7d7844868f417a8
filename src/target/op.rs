//! Everything that can be asked of a target, and everything it can tell us about an entity.

use crate::model::ServerMs;
use crate::model::scan::RoleScope;
use crate::source::SourceRow;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which budget a request draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RequestClass {
    /// Not a GET.
    Write,
    /// A GET.
    Read,
}

impl RequestClass {
    /// Returns the stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "writes",
            Self::Read => "reads",
        }
    }
}

/// One request, free of HTTP.
#[derive(Clone, Debug)]
pub enum Op {
    /// Lists one user: checks the key, the environment and the clock.
    Probe,
    /// Makes the user of a row. It is the row itself and no copy: it may hold a password, and there
    /// are millions of them.
    CreateUser(Arc<SourceRow>),
    /// Finds a user by the id it has in the source system.
    FindUserByExternalId(String),
    /// Finds users by exact email.
    FindUserByEmail(String),
    /// Reads one user by its id.
    GetUser(String),
    /// Sets the locale of a user; the API does not take it when it makes one.
    SetLocale {
        /// The user.
        user_id: String,
        /// A BCP 47 tag.
        locale: String,
    },
    /// Gives a user a second factor. Not idempotent: a second one makes a second factor.
    CreateFactor(Box<NewFactor>),
    /// Finds a one-time password factor of a user.
    FindFactor(String),
    /// Lists a user's memberships in one organization, in every status.
    FindMembership {
        /// The user.
        user_id: String,
        /// The organization.
        org_id: String,
    },
    /// Makes (or re-activates) a membership.
    CreateMembership {
        /// The user.
        user_id: String,
        /// The organization.
        org_id: String,
        /// The roles, empty for the target's default.
        role_slugs: Vec<String>,
    },
    /// Finds an organization by the target's id.
    GetOrg(String),
    /// Finds an organization by the id it has in the source system.
    FindOrgByExternalId(String),
    /// Finds the only organization with exactly this name.
    FindOrgByName(String),
    /// Lists users, a page at a time.
    ListUsers {
        /// Whether the oldest come first, or the newest.
        oldest_first: bool,
        /// Where on the list, and how much of it.
        page: PageOf,
    },
    /// Lists the memberships of one organization in every status, oldest first, a page at a time.
    ListMemberships {
        /// The organization.
        org_id: String,
        /// Where on the list, and how much of it.
        page: PageOf,
    },
    /// Lists organizations, oldest first, a page at a time.
    ListOrgs(PageOf),
    /// Lists roles. These lists have no pages.
    ListRoles(RoleScope),
    /// Makes an organization.
    CreateOrg {
        /// The id it has in the source system: what makes the creation unique.
        external_id: String,
        /// Its name.
        name: String,
    },
}

impl Op {
    /// Returns which budget it draws on.
    pub const fn class(&self) -> RequestClass {
        match self {
            Self::CreateUser(_)
            | Self::SetLocale { .. }
            | Self::CreateFactor(_)
            | Self::CreateMembership { .. }
            | Self::CreateOrg { .. } => RequestClass::Write,
            Self::Probe
            | Self::FindUserByExternalId(_)
            | Self::FindUserByEmail(_)
            | Self::GetUser(_)
            | Self::FindFactor(_)
            | Self::FindMembership { .. }
            | Self::GetOrg(_)
            | Self::FindOrgByExternalId(_)
            | Self::FindOrgByName(_)
            | Self::ListUsers { .. }
            | Self::ListMemberships { .. }
            | Self::ListOrgs(_)
            | Self::ListRoles(_) => RequestClass::Read,
        }
    }

    /// Returns the stable word used in events.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::CreateUser(_) => "create_user",
            Self::FindUserByExternalId(_) => "find_user_by_external_id",
            Self::FindUserByEmail(_) => "find_user_by_email",
            Self::GetUser(_) => "get_user",
            Self::SetLocale { .. } => "set_locale",
            Self::CreateFactor(_) => "create_factor",
            Self::FindFactor(_) => "find_factor",
            Self::FindMembership { .. } => "find_membership",
            Self::CreateMembership { .. } => "create_membership",
            Self::GetOrg(_) => "get_org",
            Self::FindOrgByExternalId(_) => "find_org_by_external_id",
            Self::FindOrgByName(_) => "find_org_by_name",
            Self::CreateOrg { .. } => "create_org",
            Self::ListUsers { .. } => "list_users",
            Self::ListMemberships { .. } => "list_memberships",
            Self::ListOrgs(_) => "list_orgs",
            Self::ListRoles(_) => "list_roles",
        }
    }
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf {
    /// What follows the entity with this id; the start of the list when `None`.
    pub after: Option<String>,
    /// At most this many entities, 1 to 100.
    pub limit: u32,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Entities, as far as they have ids of the right shape.
    pub items: Vec<Listed>,
    /// The id after which the list goes on; `None` at its end.
    pub after: Option<String>,
}

/// One entity of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The entity.
    pub entity: Entity,
    /// The user of a membership.
    pub user_id: Option<String>,
    /// The name of an organization.
    pub name: Option<String>,
}

/// A second factor to enrol: one-time passwords (SHA-1, 6 digits, 30 s).
#[derive(Clone, Debug)]
pub struct NewFactor {
    /// Whose.
    pub user_id: String,
    /// What the person's app has: Base32 in capitals, without spaces and padding.
    pub secret: SecretString,
    /// What an app shows as the one that asks, if anything.
    pub issuer: Option<String>,
    /// What an app shows as the account.
    pub label: String,
}

/// What an answer said about one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// The target's id.
    pub id: String,
    /// A user's email.
    pub email: Option<String>,
    /// The id in the source system.
    pub external_id: Option<String>,
    /// A user's first name.
    pub first_name: Option<String>,
    /// A user's last name.
    pub last_name: Option<String>,
    /// Whether a user's email is verified.
    pub email_verified: Option<bool>,
    /// A membership's status: `active`, `inactive`, `pending`.
    pub status: Option<String>,
    /// A membership's role slugs.
    pub role_slugs: Vec<String>,
    /// When it was made, by the target's clock.
    pub created_at: Option<ServerMs>,
}

impl Entity {
    /// Makes one of which nothing is known, or matters, but its id.
    pub fn of(id: String) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }
}
