//! Paths and queries.

use super::error::{ApiError, ApiResult};
use crate::sandbox::ids::{Id, Kind};
use crate::sandbox::limit::Scope;
use crate::sandbox::page::{LIMIT_DEFAULT, LIMIT_MAX, Order, PageRequest};
use hyper::Method;
use percent_encoding::percent_decode_str;

macro_rules! ops {
    ($($variant:ident = $word:literal,)+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Op { $($variant,)+ }

        impl Op {
            /// Returns the word of history and stats.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

ops! {
    CreateUser = "create_user",
    ListUsers = "list_users",
    GetUser = "get_user",
    GetUserByExternalId = "get_user_by_external_id",
    UpdateUser = "update_user",
    DeleteUser = "delete_user",
    CreateFactor = "create_factor",
    ListFactors = "list_factors",
    CreateMembership = "create_membership",
    ListMemberships = "list_memberships",
    GetMembership = "get_membership",
    UpdateMembership = "update_membership",
    DeactivateMembership = "deactivate_membership",
    ReactivateMembership = "reactivate_membership",
    DeleteMembership = "delete_membership",
    CreateOrganization = "create_organization",
    ListOrganizations = "list_organizations",
    GetOrganization = "get_organization",
    GetOrganizationByExternalId = "get_organization_by_external_id",
    UpdateOrganization = "update_organization",
    DeleteOrganization = "delete_organization",
    ListRoles = "list_roles",
    ListOrganizationRoles = "list_organization_roles",
    Unknown = "unknown",
}

impl Op {
    /// Returns whether the body of a request means anything.
    pub const fn takes_fields(self) -> bool {
        matches!(
            self,
            Self::CreateUser
                | Self::UpdateUser
                | Self::CreateFactor
                | Self::CreateMembership
                | Self::UpdateMembership
                | Self::CreateOrganization
                | Self::UpdateOrganization
        )
    }

    /// Returns the path of a POST to a collection: the history need not keep it per request.
    pub const fn fixed_path(self) -> Option<&'static str> {
        match self {
            Self::CreateUser => Some("/user_management/users"),
            Self::CreateMembership => Some("/user_management/organization_memberships"),
            Self::CreateOrganization => Some("/organizations"),
            _ => None,
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub op: Op,
    pub scope: Scope,
    /// The decoded id or external id of the path, empty for a collection.
    pub key: String,
}

impl Route {
    /// Reads a method and a path without its query.
    pub fn parse(method: &Method, path: &str) -> Self {
        let scope = match (path.starts_with("/user_management/"), method == Method::GET) {
            (true, true) => Scope::UserRead,
            (true, false) => Scope::UserWrite,
            (false, _) => Scope::Other,
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (op, key) = match parts[..] {
            ["user_management", "users", ref rest @ ..] => users(method, rest),
            ["user_management", "organization_memberships", ref rest @ ..] => {
                memberships(method, rest)
            }
            ["organizations", ref rest @ ..] => organizations(method, rest),
            ["authorization", ref rest @ ..] => authorization(method, rest),
            _ => (Op::Unknown, ""),
        };
        match percent_decode_str(key).decode_utf8() {
            Ok(key) => Self {
                op,
                scope,
                key: key.into_owned(),
            },
            Err(_) => Self {
                op: Op::Unknown,
                scope,
                key: String::new(),
            },
        }
    }
}

fn users<'a>(method: &Method, rest: &[&'a str]) -> (Op, &'a str) {
    match (method.as_str(), rest) {
        ("POST", []) => (Op::CreateUser, ""),
        ("GET", []) => (Op::ListUsers, ""),
        ("GET", ["external_id", key]) => (Op::GetUserByExternalId, key),
        ("GET", [key]) => (Op::GetUser, key),
        ("PUT", [key]) => (Op::UpdateUser, key),
        ("POST", [key, "auth_factors"]) => (Op::CreateFactor, key),
        ("GET", [key, "auth_factors"]) => (Op::ListFactors, key),
        ("DELETE", [key]) => (Op::DeleteUser, key),
        _ => (Op::Unknown, ""),
    }
}

fn memberships<'a>(method: &Method, rest: &[&'a str]) -> (Op, &'a str) {
    match (method.as_str(), rest) {
        ("POST", []) => (Op::CreateMembership, ""),
        ("GET", []) => (Op::ListMemberships, ""),
        ("GET", [key]) => (Op::GetMembership, key),
        ("PUT", [key]) => (Op::UpdateMembership, key),
        ("PUT", [key, "deactivate"]) => (Op::DeactivateMembership, key),
        ("PUT", [key, "reactivate"]) => (Op::ReactivateMembership, key),
        ("DELETE", [key]) => (Op::DeleteMembership, key),
        _ => (Op::Unknown, ""),
    }
}

fn organizations<'a>(method: &Method, rest: &[&'a str]) -> (Op, &'a str) {
    match (method.as_str(), rest) {
        ("POST", []) => (Op::CreateOrganization, ""),
        ("GET", []) => (Op::ListOrganizations, ""),
        ("GET", ["external_id", key]) => (Op::GetOrganizationByExternalId, key),
        ("GET", [key]) => (Op::GetOrganization, key),
        ("PUT", [key]) => (Op::UpdateOrganization, key),
        ("DELETE", [key]) => (Op::DeleteOrganization, key),
        _ => (Op::Unknown, ""),
    }
}

fn authorization<'a>(method: &Method, rest: &[&'a str]) -> (Op, &'a str) {
    match (method.as_str(), rest) {
        ("GET", ["roles"]) => (Op::ListRoles, ""),
        ("GET", ["organizations", key, "roles"]) => (Op::ListOrganizationRoles, key),
        _ => (Op::Unknown, ""),
    }
}

/// The parameters of a query, decoded as forms are: `+` is a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part after `?`.
    pub fn parse(text: &str) -> ApiResult<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        pairs
            .map(Self)
            .ok_or_else(|| ApiError::invalid("The query is not UTF-8."))
    }

    /// Returns a parameter, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        found
            .next()
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns an id. One that cannot exist is an error of its own.
    pub fn id(&self, name: &'static str, kind: Kind) -> ApiResult<Option<Id>> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let id = Id::parse(kind, text);
        id.map(Some).ok_or_else(|| {
            ApiError::invalid(format!(
                "{name} is not the id of a {}.",
                kind.noun().to_lowercase()
            ))
        })
    }

    /// Returns which page of a listing of `kind` is asked for.
    pub fn page(&self, kind: Kind) -> ApiResult<PageRequest> {
        let limit = match self.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| ApiError::invalid(format!("limit must be 1 to {LIMIT_MAX}.")))?,
        };
        let order = match self.get("order") {
            None | Some("desc") => Order::Desc,
            Some("asc") => Order::Asc,
            Some("normal") => Order::Normal,
            Some(_) => return Err(ApiError::invalid("order must be asc, desc or normal.")),
        };
        Ok(PageRequest {
            limit,
            order,
            after: self.id("after", kind)?.map(|id| id.1),
            before: self.id("before", kind)?.map(|id| id.1),
        })
    }
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_operations() {
        let route = |method: Method, path| {
            let route = Route::parse(&method, path);
            (route.op, route.key)
        };
        let own = |op, key: &str| (op, key.to_owned());
        assert_eq!(
            route(Method::POST, "/user_management/users"),
            own(Op::CreateUser, "")
        );
        assert_eq!(
            route(
                Method::GET,
                "/user_management/users/external_id/a%2Fb%20c%2Bd+e"
            ),
            own(Op::GetUserByExternalId, "a/b c+d+e")
        );
        assert_eq!(
            route(
                Method::PUT,
                "/user_management/organization_memberships/om_1/deactivate"
            ),
            own(Op::DeactivateMembership, "om_1")
        );
        assert_eq!(
            route(Method::DELETE, "/organizations/org_1"),
            own(Op::DeleteOrganization, "org_1")
        );
        assert_eq!(
            route(Method::GET, "/authorization/roles"),
            own(Op::ListRoles, "")
        );
        assert_eq!(
            route(Method::GET, "/authorization/organizations/org_1/roles"),
            own(Op::ListOrganizationRoles, "org_1")
        );
        for (method, path) in [
            (Method::PATCH, "/user_management/users/user_1"),
            (Method::GET, "/user_management/users/user_1/more"),
            (Method::POST, "/authorization/roles"),
            (Method::GET, "/"),
            (Method::GET, "/user_management/users/external_id/%ff"),
        ] {
            assert_eq!(route(method, path).0, Op::Unknown, "{path}");
        }
    }

    #[test]
    fn a_plus_in_a_query_is_a_space() {
        let query = Query::parse("email=a%2Bb%40x.org&other=a+b&empty=").unwrap();
        assert_eq!(query.get("email"), Some("a+b@x.org"));
        assert_eq!(query.get("other"), Some("a b"));
        assert_eq!(query.get("empty"), None);
        assert!(Query::parse("email=%ff").is_err());
    }

    #[test]
    fn pages_are_checked() {
        for bad in [
            "limit=0",
            "limit=101",
            "limit=x",
            "order=up",
            "after=nope",
            "before=org_1",
        ] {
            let error = Query::parse(bad).unwrap().page(Kind::User).unwrap_err();
            assert_eq!(
                (error.status, error.code),
                (422, Some("invalid_request_parameters")),
                "{bad}"
            );
        }
        let page = Query::parse("limit=100&order=asc")
            .unwrap()
            .page(Kind::User)
            .unwrap();
        assert_eq!((page.limit, page.order), (100, Order::Asc));
    }
}
