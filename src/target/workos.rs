//! How a request looks on the wire of the `WorkOS` API.
//!
//! # Owns
//! Paths, queries, bodies; the only lines that expose a password, a hash or the secret of a second factor.
//! # Never
//! Opens a socket, reads an answer.

use super::json::{Object, name};
use super::{NewFactor, Op, PageOf};
use crate::model::scan::RoleScope;
use crate::source::{Credential, SourceRow, Totp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use std::borrow::Cow;
use std::fmt;

/// What stays as it is in a path segment or a query value: the unreserved characters of RFC 3986.
/// Everything else is encoded, so that `+` in an email does not arrive as a blank.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The methods this importer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes something.
    Post,
    /// Changes something; doing it twice is doing it once.
    Put,
}

/// One request, ready for the wire except for origin and key.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded, starting with `/`.
    pub path_and_query: Cow<'static, str>,
    /// A JSON body; it may hold a password, so it is never printed.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path may hold an email and the body a password: neither belongs in a log.
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("body_bytes", &self.body.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

/// Builds the request for `op`.
pub fn request(op: &Op) -> HttpRequest {
    request_in(op, Vec::new())
}

/// Builds the request for `op`; its body, if it has one, stands in place of what `room` holds.
pub(super) fn request_in(op: &Op, room: Vec<u8>) -> HttpRequest {
    match op {
        Op::Probe => get("/user_management/users?limit=1".to_owned()),
        Op::CreateUser(user) => post(room, USERS, |body| put_user(user, body)),
        Op::FindUserByExternalId(external_id) => get(format!(
            "/user_management/users/external_id/{}",
            encoded(external_id)
        )),
        Op::FindUserByEmail(email) => {
            get(format!("/user_management/users?email={}", encoded(email)))
        }
        Op::GetUser(id) => get(format!("/user_management/users/{}", encoded(id))),
        Op::SetLocale { user_id, locale } => HttpRequest {
            method: Method::Put,
            ..post(
                room,
                format!("/user_management/users/{}", encoded(user_id)),
                |body| body.text(name!("locale"), locale),
            )
        },
        Op::CreateFactor(factor) => post(room, factors(&factor.user_id), |body| {
            put_factor(factor, body);
        }),
        Op::FindFactor(user_id) => get(format!("{}?limit={LIST_MAX}", factors(user_id))),
        Op::FindMembership { user_id, org_id } => get(format!(
            // Without `statuses` only active memberships are listed.
            "/user_management/organization_memberships?user_id={}&organization_id={}\
             &statuses=active,inactive,pending",
            encoded(user_id),
            encoded(org_id)
        )),
        Op::CreateMembership {
            user_id,
            org_id,
            role_slugs,
        } => post(room, MEMBERSHIPS, |body| {
            put_membership(user_id, org_id, role_slugs, body);
        }),
        Op::GetOrg(id) => get(format!("/organizations/{}", encoded(id))),
        Op::FindOrgByExternalId(external_id) => get(format!(
            "/organizations/external_id/{}",
            encoded(external_id)
        )),
        Op::FindOrgByName(name) => get(format!(
            "/organizations?search={}&limit={LIST_MAX}",
            encoded(name)
        )),
        Op::CreateOrg { external_id, name } => post(room, ORGANIZATIONS, |body| {
            body.text(name!("name"), name);
            body.text(name!("external_id"), external_id);
        }),
        Op::ListUsers { oldest_first, page } => {
            let order = if *oldest_first { "asc" } else { "desc" };
            listing("/user_management/users?", order, page)
        }
        Op::ListMemberships { org_id, page } => listing(
            &format!(
                "/user_management/organization_memberships?organization_id={}\
                 &statuses=active,inactive,pending&",
                encoded(org_id)
            ),
            "asc",
            page,
        ),
        Op::ListOrgs(page) => listing("/organizations?", "asc", page),
        Op::ListRoles(RoleScope::Environment) => get("/authorization/roles".to_owned()),
        Op::ListRoles(RoleScope::Organization(id)) => get(format!(
            "/authorization/organizations/{}/roles",
            encoded(id)
        )),
    }
}

/// `asc` keeps a walk whole: what is made meanwhile comes at its end.
fn listing(start: &str, order: &str, page: &PageOf) -> HttpRequest {
    let PageOf { after, limit } = page;
    let after = after.as_ref().map(|id| format!("&after={}", encoded(id)));
    get(format!(
        "{start}limit={limit}&order={order}{}",
        after.unwrap_or_default()
    ))
}

/// Returns what must not appear in any text about a row with this credential.
///
/// For cutting it out of a server's words, and for nothing else.
pub fn unspeakable(credential: &Credential) -> &str {
    match credential {
        Credential::Plain(secret) | Credential::Hash { hash: secret, .. } => secret.expose_secret(),
    }
}

/// Returns what must not appear in any text about a row with this second factor.
pub fn unspeakable_secret(totp: &Totp) -> &str {
    totp.secret.expose_secret()
}

const USERS: &str = "/user_management/users";
const MEMBERSHIPS: &str = "/user_management/organization_memberships";
const ORGANIZATIONS: &str = "/organizations";

/// Where nearly every request goes.
pub const COLLECTIONS: [&str; 3] = [USERS, MEMBERSHIPS, ORGANIZATIONS];

/// The longest page of a list (reference/pagination).
const LIST_MAX: u32 = 100;

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

const fn get(path_and_query: String) -> HttpRequest {
    HttpRequest {
        method: Method::Get,
        path_and_query: Cow::Owned(path_and_query),
        body: None,
    }
}

/// Bytes that nearly every body fits into.
const BODY_BYTES_USUAL: usize = 512;

fn post(
    mut room: Vec<u8>,
    path: impl Into<Cow<'static, str>>,
    fields: impl FnOnce(&mut Object<'_>),
) -> HttpRequest {
    room.clear();
    room.reserve(BODY_BYTES_USUAL);
    Object::write(&mut room, fields);
    HttpRequest {
        method: Method::Post,
        path_and_query: path.into(),
        body: Some(room),
    }
}

/// What is empty is not sent: an empty object of metadata would delete everything.
fn put_user(user: &SourceRow, body: &mut Object<'_>) {
    body.text(name!("email"), &user.email);
    body.some(name!("first_name"), user.first_name.as_deref());
    body.some(name!("last_name"), user.last_name.as_deref());
    body.some(name!("external_id"), user.external_id.as_deref());
    if let Some(verified) = user.email_verified {
        body.flag(name!("email_verified"), verified);
    }
    match &user.credential {
        None => {}
        Some(Credential::Plain(password)) => body.text(name!("password"), password.expose_secret()),
        Some(Credential::Hash { hash, kind }) => {
            body.text(name!("password_hash"), hash.expose_secret());
            body.text(name!("password_hash_type"), kind);
        }
    }
    if !user.metadata.is_empty() {
        body.object(name!("metadata"), |pairs| {
            for (key, value) in &user.metadata {
                pairs.pair(key, value);
            }
        });
    }
}

fn factors(user_id: &str) -> String {
    format!("/user_management/users/{}/auth_factors", encoded(user_id))
}

fn put_factor(factor: &NewFactor, body: &mut Object<'_>) {
    body.text(name!("type"), "totp");
    body.text(name!("totp_secret"), factor.secret.expose_secret());
    body.text(name!("totp_user"), &factor.label);
    body.some(name!("totp_issuer"), factor.issuer.as_deref());
}

fn put_membership(user_id: &str, org_id: &str, roles: &[String], body: &mut Object<'_>) {
    body.text(name!("user_id"), user_id);
    body.text(name!("organization_id"), org_id);
    // One role and several have a field each.
    match roles {
        [] => {}
        [role] => body.text(name!("role_slug"), role),
        roles => body.texts(name!("role_slugs"), roles),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::SecretString;
    use serde_json::Value;
    use std::sync::Arc;

    fn body_of(op: &Op) -> Value {
        serde_json::from_slice(&request(op).body.unwrap()).unwrap()
    }

    fn path_of(op: &Op) -> String {
        let request = request(op);
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.body, None);
        request.path_and_query.into_owned()
    }

    #[test]
    fn look_ups_encode_what_a_query_or_a_path_would_change() {
        assert_eq!(path_of(&Op::Probe), "/user_management/users?limit=1");
        assert_eq!(
            path_of(&Op::FindUserByEmail("a+b&c=d@x.org".to_owned())),
            "/user_management/users?email=a%2Bb%26c%3Dd%40x.org"
        );
        assert_eq!(
            path_of(&Op::FindUserByExternalId("a/b?c#d%e é".to_owned())),
            "/user_management/users/external_id/a%2Fb%3Fc%23d%25e%20%C3%A9"
        );
        assert_eq!(
            path_of(&Op::GetUser("user_1".to_owned())),
            "/user_management/users/user_1"
        );
        assert_eq!(
            path_of(&Op::GetOrg("org/1".to_owned())),
            "/organizations/org%2F1"
        );
        assert_eq!(
            path_of(&Op::FindOrgByExternalId("acme co".to_owned())),
            "/organizations/external_id/acme%20co"
        );
        assert_eq!(
            path_of(&Op::FindMembership {
                user_id: "user_1".to_owned(),
                org_id: "org_1".to_owned()
            }),
            "/user_management/organization_memberships?user_id=user_1&organization_id=org_1\
             &statuses=active,inactive,pending"
        );
    }

    #[test]
    fn lists_are_asked_for_page_by_page_in_an_order_that_holds() {
        let page = |after: Option<&str>| PageOf {
            after: after.map(str::to_owned),
            limit: 100,
        };
        let users = |oldest_first, after| {
            path_of(&Op::ListUsers {
                oldest_first,
                page: page(after),
            })
        };
        assert_eq!(
            users(true, None),
            "/user_management/users?limit=100&order=asc"
        );
        assert_eq!(
            users(false, Some("user_1")),
            "/user_management/users?limit=100&order=desc&after=user_1"
        );
        assert_eq!(
            path_of(&Op::ListOrgs(page(Some("org_1")))),
            "/organizations?limit=100&order=asc&after=org_1"
        );
        // Without statuses the inactive ones would be missing.
        assert_eq!(
            path_of(&Op::ListMemberships {
                org_id: "org_1".to_owned(),
                page: page(None),
            }),
            "/user_management/organization_memberships?organization_id=org_1\
             &statuses=active,inactive,pending&limit=100&order=asc"
        );
    }

    #[test]
    fn lists_of_roles_have_no_pages() {
        let roles = |scope| path_of(&Op::ListRoles(scope));
        assert_eq!(roles(RoleScope::Environment), "/authorization/roles");
        assert_eq!(
            roles(RoleScope::Organization("org/1".to_owned())),
            "/authorization/organizations/org%2F1/roles"
        );
    }

    #[test]
    fn a_bare_user_sends_its_email_and_nothing_else() {
        let body = body_of(&Op::CreateUser(Arc::new(SourceRow::bare("a@x.org"))));
        assert_eq!(body, serde_json::json!({"email": "a@x.org"}));
    }

    #[test]
    fn a_full_user_sends_every_field() {
        let user = SourceRow {
            first_name: Some("Ann".into()),
            last_name: Some("Lee".into()),
            email_verified: Some(false),
            external_id: Some("7".into()),
            credential: Some(Credential::Hash {
                hash: SecretString::from("$2b$10$x"),
                kind: "bcrypt",
            }),
            metadata: vec![("team".into(), "42".into())],
            ..SourceRow::bare("a@x.org")
        };
        assert_eq!(
            body_of(&Op::CreateUser(Arc::new(user))),
            serde_json::json!({
                "email": "a@x.org", "first_name": "Ann", "last_name": "Lee",
                "email_verified": false, "external_id": "7",
                "password_hash": "$2b$10$x", "password_hash_type": "bcrypt",
                "metadata": {"team": "42"}
            })
        );
    }

    #[test]
    fn a_password_is_in_the_body_and_not_in_the_debug_text() {
        let user = SourceRow {
            credential: Some(Credential::Plain(SecretString::from("hunter2"))),
            ..SourceRow::bare("a@x.org")
        };
        let op = Op::CreateUser(Arc::new(user));
        assert_eq!(body_of(&op)["password"], "hunter2");
        let debug = format!("{:?} {op:?}", request(&op));
        assert!(!debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn a_locale_is_put_on_its_user_and_nothing_else_is() {
        let op = Op::SetLocale {
            user_id: "user_1".to_owned(),
            locale: "pt-BR".to_owned(),
        };
        let made = request(&op);
        assert_eq!(made.method, Method::Put);
        assert_eq!(made.path_and_query, "/user_management/users/user_1");
        assert_eq!(body_of(&op), serde_json::json!({"locale": "pt-BR"}));
    }

    #[test]
    fn a_factor_is_enrolled_with_the_secret_that_the_app_has_and_is_never_printed() {
        let op = Op::CreateFactor(Box::new(NewFactor {
            user_id: "user_1".to_owned(),
            secret: SecretString::from("JBSWY3DPEHPK3PXP"),
            issuer: Some("Acme".to_owned()),
            label: "a@x.org".to_owned(),
        }));
        let made = request(&op);
        assert_eq!(made.method, Method::Post);
        assert_eq!(
            made.path_and_query,
            "/user_management/users/user_1/auth_factors"
        );
        assert_eq!(
            body_of(&op),
            serde_json::json!({"type": "totp", "totp_secret": "JBSWY3DPEHPK3PXP",
                "totp_user": "a@x.org", "totp_issuer": "Acme"})
        );
        let debug = format!("{made:?} {op:?}");
        assert!(!debug.contains("JBSWY3DPEHPK3PXP"), "{debug}");
        assert_eq!(
            path_of(&Op::FindFactor("user_1".to_owned())),
            "/user_management/users/user_1/auth_factors?limit=100"
        );
    }

    #[test]
    fn one_role_and_several_roles_use_different_fields() {
        let membership = |roles: &[&str]| {
            body_of(&Op::CreateMembership {
                user_id: "u".to_owned(),
                org_id: "o".to_owned(),
                role_slugs: roles.iter().map(|&role| role.to_owned()).collect(),
            })
        };
        let base = serde_json::json!({"user_id": "u", "organization_id": "o"});
        assert_eq!(membership(&[]), base);
        assert_eq!(membership(&["admin"])["role_slug"], "admin");
        assert_eq!(membership(&["admin"]).get("role_slugs"), None);
        assert_eq!(
            membership(&["admin", "member"])["role_slugs"],
            serde_json::json!(["admin", "member"])
        );
        assert_eq!(membership(&["admin", "member"]).get("role_slug"), None);
    }

    #[test]
    fn an_organization_is_never_made_without_an_external_id() {
        let body = body_of(&Op::CreateOrg {
            external_id: "acme".to_owned(),
            name: "Acme".to_owned(),
        });
        assert_eq!(
            body,
            serde_json::json!({"name": "Acme", "external_id": "acme"})
        );
    }

    proptest! {
        #[test]
        fn an_encoded_value_never_leaves_its_place(text in ".{0,40}") {
            let path = path_of(&Op::FindUserByExternalId(text.clone()));
            let value = path.strip_prefix("/user_management/users/external_id/").unwrap();
            prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
            let back = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
            prop_assert_eq!(back.as_ref(), text.as_str());
        }
    }
}
