//! Entities as the API shows them.

use crate::sandbox::directory::Directory;
use crate::sandbox::ids::{Id, Kind, Ulid};
use crate::sandbox::page::Page;
use crate::sandbox::record::{
    FactorRecord, MembershipRecord, Metadata, OrganizationRecord, Role, Roles, UserRecord,
};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// An instant as ISO 8601 in UTC with milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Iso(pub i64);

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        serializer.collect_str(&format_args!("{time:.3}"))
    }
}

#[derive(Debug)]
struct Pairs<'a>(Metadata<'a>);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Debug, Serialize)]
struct RoleView {
    slug: &'static str,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        Self { slug: role.slug() }
    }
}

#[derive(Debug)]
struct RolesView(Roles);

impl Serialize for RolesView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for role in self.0.iter() {
            list.serialize_element(&RoleView::from(role))?;
        }
        list.end()
    }
}

/// A user.
#[derive(Debug, Serialize)]
pub struct UserView<'a> {
    object: &'static str,
    id: Id,
    email: &'a str,
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    email_verified: bool,
    profile_picture_url: Option<&'a str>,
    last_sign_in_at: Option<Iso>,
    locale: Option<&'a str>,
    external_id: Option<&'a str>,
    metadata: Pairs<'a>,
    created_at: Iso,
    updated_at: Iso,
}

impl<'a> From<UserRecord<'a>> for UserView<'a> {
    fn from(user: UserRecord<'a>) -> Self {
        Self {
            object: "user",
            id: Id(Kind::User, user.id),
            email: user.email,
            first_name: user.first_name,
            last_name: user.last_name,
            email_verified: user.email_verified,
            profile_picture_url: None,
            last_sign_in_at: None,
            locale: user.locale,
            external_id: user.external_id,
            metadata: Pairs(user.metadata),
            created_at: Iso(user.created_ms),
            updated_at: Iso(user.updated_ms),
        }
    }
}

/// An organization.
#[derive(Debug, Serialize)]
pub struct OrganizationView<'a> {
    object: &'static str,
    id: Id,
    name: &'a str,
    allow_profiles_outside_organization: bool,
    domains: [&'a str; 0],
    external_id: Option<&'a str>,
    metadata: Pairs<'a>,
    created_at: Iso,
    updated_at: Iso,
}

impl<'a> From<OrganizationRecord<'a>> for OrganizationView<'a> {
    fn from(organization: OrganizationRecord<'a>) -> Self {
        Self {
            object: "organization",
            id: Id(Kind::Organization, organization.id),
            name: organization.name,
            allow_profiles_outside_organization: false,
            domains: [],
            external_id: organization.external_id,
            metadata: Pairs(organization.metadata),
            created_at: Iso(organization.created_ms),
            updated_at: Iso(organization.updated_ms),
        }
    }
}

/// A membership.
#[derive(Debug, Serialize)]
pub struct MembershipView<'a> {
    object: &'static str,
    id: Id,
    user_id: Id,
    organization_id: Id,
    organization_name: &'a str,
    status: &'static str,
    role: RoleView,
    roles: RolesView,
    created_at: Iso,
    updated_at: Iso,
}

impl<'a> MembershipView<'a> {
    /// Shows a membership of `directory`.
    pub fn new(directory: &'a Directory, membership: MembershipRecord) -> Self {
        Self {
            object: "organization_membership",
            id: Id(Kind::Membership, membership.id),
            user_id: Id(Kind::User, membership.user),
            organization_id: Id(Kind::Organization, membership.organization),
            organization_name: directory.organization_name(membership.organization),
            status: membership.status.word(),
            role: membership.roles.first.into(),
            roles: RolesView(membership.roles),
            created_at: Iso(membership.created_ms),
            updated_at: Iso(membership.updated_ms),
        }
    }
}

#[derive(Debug, Serialize)]
struct TotpView<'a> {
    issuer: Option<&'a str>,
    user: Option<&'a str>,
}

/// A second factor, without its secret.
#[derive(Debug, Serialize)]
pub struct FactorView<'a> {
    object: &'static str,
    id: Id,
    #[serde(rename = "type")]
    kind: &'static str,
    user_id: Id,
    totp: TotpView<'a>,
    created_at: Iso,
    updated_at: Iso,
}

impl<'a> From<FactorRecord<'a>> for FactorView<'a> {
    fn from(factor: FactorRecord<'a>) -> Self {
        Self {
            object: "authentication_factor",
            id: Id(Kind::Factor, factor.id),
            kind: "totp",
            user_id: Id(Kind::User, factor.user),
            totp: TotpView {
                issuer: factor.issuer,
                user: factor.label,
            },
            created_at: Iso(factor.created_ms),
            updated_at: Iso(factor.created_ms),
        }
    }
}

#[derive(Debug, Serialize)]
struct SecretView<'a> {
    issuer: Option<&'a str>,
    user: Option<&'a str>,
    secret: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct NewFactorView<'a> {
    object: &'static str,
    id: Id,
    #[serde(rename = "type")]
    kind: &'static str,
    user_id: Id,
    totp: SecretView<'a>,
    created_at: Iso,
    updated_at: Iso,
}

#[derive(Debug, Serialize)]
struct ChallengeView {
    object: &'static str,
    authentication_factor_id: Id,
}

/// The answer to an enrolment: the only place where a secret is shown.
#[derive(Debug, Serialize)]
pub struct EnrolledView<'a> {
    authentication_factor: NewFactorView<'a>,
    authentication_challenge: ChallengeView,
}

impl<'a> EnrolledView<'a> {
    /// Shows a new factor with the secret it was given.
    pub const fn new(factor: &FactorRecord<'a>, secret: Option<&'a str>) -> Self {
        let id = Id(Kind::Factor, factor.id);
        Self {
            authentication_factor: NewFactorView {
                object: "authentication_factor",
                id,
                kind: "totp",
                user_id: Id(Kind::User, factor.user),
                totp: SecretView {
                    issuer: factor.issuer,
                    user: factor.label,
                    secret,
                },
                created_at: Iso(factor.created_ms),
                updated_at: Iso(factor.created_ms),
            },
            authentication_challenge: ChallengeView {
                object: "authentication_challenge",
                authentication_factor_id: id,
            },
        }
    }
}

#[derive(Debug, Serialize)]
struct Cursors {
    before: Option<Id>,
    after: Option<Id>,
}

/// The envelope of a page.
#[derive(Debug, Serialize)]
pub struct ListView<T> {
    object: &'static str,
    data: Vec<T>,
    list_metadata: Cursors,
}

impl<T> ListView<T> {
    /// Wraps the entities of a page.
    pub fn new(kind: Kind, page: &Page, data: Vec<T>) -> Self {
        let cursor = |id: Option<Ulid>| id.map(|id| Id(kind, id));
        Self {
            object: "list",
            data,
            list_metadata: Cursors {
                before: cursor(page.before),
                after: cursor(page.after),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_utc_with_milliseconds() {
        let text = |ms| serde_json::to_string(&Iso(ms)).unwrap();
        assert_eq!(text(1_790_000_000_000), r#""2026-09-21T14:13:20.000Z""#);
        assert_eq!(text(1_790_000_000_007), r#""2026-09-21T14:13:20.007Z""#);
    }
}
