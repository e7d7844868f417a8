//! What the directory keeps of an entity, and the changes its journal is made of.
//!
//! There is no field for a password, a hash or the secret of a factor: what is never stored can never be dumped.

use super::ids::Ulid;
use serde::{Deserialize, Serialize};

/// Pairs of a metadata object, in the order they were first given.
pub type Metadata<'a> = Vec<(&'a str, &'a str)>;

/// A user. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord<'a> {
    pub id: Ulid,
    pub created_ms: i64,
    pub updated_ms: i64,
    /// As given, trimmed; compared in lower case.
    pub email: &'a str,
    pub email_verified: bool,
    pub first_name: Option<&'a str>,
    pub last_name: Option<&'a str>,
    pub external_id: Option<&'a str>,
    pub locale: Option<&'a str>,
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationRecord<'a> {
    pub id: Ulid,
    pub created_ms: i64,
    pub updated_ms: i64,
    /// Not unique.
    pub name: &'a str,
    pub external_id: Option<&'a str>,
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
}

/// A role every environment of the sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Member,
    Admin,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 2] = [Self::Member, Self::Admin];

    /// Returns the slug.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// Finds a role by its slug.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.slug() == slug)
    }
}

/// The roles of a membership: one, or both in the order they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    pub first: Role,
    pub second: Option<Role>,
}

impl Roles {
    /// What a membership gets when nothing is asked for.
    pub const DEFAULT: Self = Self {
        first: Role::Member,
        second: None,
    };

    /// Collects roles, leaving out repetitions; `None` when there are none.
    pub fn collect(roles: impl IntoIterator<Item = Role>) -> Option<Self> {
        let mut roles = roles.into_iter();
        let first = roles.next()?;
        let second = roles.find(|role| *role != first);
        Some(Self { first, second })
    }

    /// Returns them in order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        std::iter::once(self.first).chain(self.second)
    }
}

/// The status of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Active,
    Inactive,
    Pending,
}

impl Status {
    /// Returns the word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
        }
    }

    /// Reads the word of the API.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Inactive, Self::Pending]
            .into_iter()
            .find(|status| status.word() == word)
    }
}

/// A membership of a user in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRecord {
    pub id: Ulid,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub user: Ulid,
    pub organization: Ulid,
    pub status: Status,
    pub roles: Roles,
}

/// A second factor of a user: one-time passwords. Its secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorRecord<'a> {
    pub id: Ulid,
    pub created_ms: i64,
    pub user: Ulid,
    /// Whom the person's app shows as the one that asks.
    pub issuer: Option<&'a str>,
    /// What the app shows as the account.
    pub label: Option<&'a str>,
}

/// One applied write: the whole entity as it is afterwards, so that replaying needs no rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<'a> {
    /// A user is new or differs.
    User(#[serde(borrow)] UserRecord<'a>),
    /// A user is gone, and its memberships with it.
    UserDeleted(Ulid),
    /// An organization is new or differs.
    Organization(#[serde(borrow)] OrganizationRecord<'a>),
    /// An organization is gone, and its memberships with it.
    OrganizationDeleted(Ulid),
    /// A membership is new or differs.
    Membership(MembershipRecord),
    /// A membership is gone.
    MembershipDeleted(Ulid),
    /// A factor is new. The last one: logs count from the first.
    Factor(#[serde(borrow)] FactorRecord<'a>),
}

impl Change<'_> {
    /// Returns the bytes of the journal.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    /// Returns the id of the entity it is about.
    pub const fn id(&self) -> Ulid {
        match self {
            Self::User(user) => user.id,
            Self::Organization(organization) => organization.id,
            Self::Membership(membership) => membership.id,
            Self::Factor(factor) => factor.id,
            Self::UserDeleted(id) | Self::OrganizationDeleted(id) | Self::MembershipDeleted(id) => {
                *id
            }
        }
    }
}
