//! Reads answer bodies tolerantly: an object, a string, nothing, HTML from an edge, garbage. Pure.

use super::op::Listed;
use super::{Entity, ListPage};
use crate::model::ServerMs;
use serde_json_borrow::Value;
use std::borrow::Cow;

/// Longest id, code or request id that is believed.
const WORD_CHARS_MAX: usize = 128;

/// Longest message that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// A body, as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// Longer than the bound, or cut off.
    Cut,
    /// No bytes, or only blanks.
    Empty,
    /// JSON of any kind.
    Json(Value<'a>),
    /// JSON that ends too soon: an answer of the API that lost its tail.
    Torn,
    /// Neither empty nor JSON: HTML from an edge layer.
    Other,
}

impl<'a> Body<'a> {
    /// Reads `bytes`; `None` is a body that was too long or cut off.
    pub fn read(bytes: Option<&'a [u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::Cut;
        };
        if bytes.trim_ascii().is_empty() {
            return Self::Empty;
        }
        match serde_json::from_slice(bytes) {
            Ok(value) => Self::Json(value),
            Err(error) if error.is_eof() => Self::Torn,
            Err(_) => Self::Other,
        }
    }

    /// Returns whether an API may have answered this, rather than an edge or another server.
    pub const fn is_api_shaped(&self) -> bool {
        matches!(self, Self::Empty | Self::Json(_))
    }

    /// Returns the JSON, if it is any.
    pub const fn json(&self) -> Option<&Value<'a>> {
        match self {
            Self::Json(value) => Some(value),
            Self::Cut | Self::Empty | Self::Torn | Self::Other => None,
        }
    }

    /// Returns the codes inside `errors`, in their order: they say more than the outer one.
    pub fn nested_codes(&self) -> Vec<&str> {
        let errors = self.json().and_then(|value| field(value, "errors"));
        let items = errors.and_then(Value::as_array).unwrap_or_default();
        let codes = items.iter().filter_map(|item| {
            let code = field(item, "code").unwrap_or(item);
            code.as_str().filter(|code| is_code(code))
        });
        codes.collect()
    }

    /// Returns the outer code: `code`, or the `error` of the OAuth shape.
    pub fn outer_code(&self) -> Option<&str> {
        let value = self.json()?;
        ["code", "error"]
            .iter()
            .filter_map(|field| text(value, field))
            .find(|code| is_code(code))
    }

    /// Returns the words for people that go with `code`, or the outer ones; bounded.
    pub fn message(&self, code: &str) -> String {
        let Some(value) = self.json() else {
            return String::new();
        };
        let errors = field(value, "errors").and_then(Value::as_array);
        let nested = errors.and_then(|items| {
            let decisive = items.iter().find(|item| text(item, "code") == Some(code))?;
            words(field(decisive, "message")?)
        });
        let outer = || {
            ["message", "error_description", "error"]
                .iter()
                .find_map(|name| words(field(value, name)?))
        };
        let text = nested.or_else(outer).or_else(|| words(value));
        text.unwrap_or_default()
            .chars()
            .take(MESSAGE_CHARS_MAX)
            .collect()
    }

    /// Returns the items of a list answer.
    pub fn items(&self) -> Option<&[Value<'a>]> {
        field(self.json()?, "data")?.as_array()
    }

    /// Returns the id after which a list goes on, if it does.
    pub fn after(&self) -> Option<&str> {
        text(field(self.json()?, "list_metadata")?, "after")
    }
}

/// Returns a field of an object; the last one, should there be several of one name.
pub fn field<'v, 'a>(value: &'v Value<'a>, name: &str) -> Option<&'v Value<'a>> {
    let fields = value.as_object()?.as_vec().iter();
    let mut named = fields.rev().filter(|(key, _)| *key == name);
    named.next().map(|(_, value)| value)
}

/// Returns a field of an object that is a text.
pub fn text<'v>(value: &'v Value<'_>, name: &str) -> Option<&'v str> {
    field(value, name)?.as_str()
}

fn words<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Str(text) if !text.is_empty() => Some(Cow::Borrowed(text)),
        Value::Array(items) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            (!texts.is_empty()).then(|| Cow::Owned(texts.join("; ")))
        }
        _ => None,
    }
}

/// Returns whether `text` looks like an error code rather than like a sentence.
fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= WORD_CHARS_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// Returns whether `id` has the shape of the target's ids. Anything else is not stored, not put
/// into a path, not believed.
pub fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= WORD_CHARS_MAX
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Returns a request id fit for logs and results.
pub fn request_id(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.len() <= WORD_CHARS_MAX;
    (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

/// Reads one page of a list; `None` if the answer is none.
pub fn page(bytes: Option<&[u8]>) -> Option<ListPage> {
    let body = Body::read(bytes);
    let owned = |item: &Value<'_>, field: &str| text(item, field).map(str::to_owned);
    let listed = |item: &Value<'_>| {
        Some(Listed {
            entity: entity(item)?,
            user_id: owned(item, "user_id").filter(|id| is_id(id)),
            name: owned(item, "name"),
        })
    };
    let items = body.items()?.iter().filter_map(listed).collect();
    let after = body.after().filter(|id| is_id(id));
    Some(ListPage {
        items,
        after: after.map(str::to_owned),
    })
}

/// Reads the slugs of a list of roles; `None` if the answer is none, or not all of one.
pub fn roles(bytes: Option<&[u8]>) -> Option<Vec<String>> {
    let body = Body::read(bytes);
    if body.after().is_some() {
        return None;
    }
    let slug = |item: &Value<'_>| text(item, "slug").map(str::to_owned);
    body.items()?.iter().map(slug).collect()
}

/// Reads one entity; `None` without an id of the right shape.
pub fn entity(value: &Value<'_>) -> Option<Entity> {
    let owned = |field: &str| text(value, field).map(str::to_owned);
    Some(Entity {
        id: owned("id").filter(|id| is_id(id))?,
        email: owned("email"),
        external_id: owned("external_id"),
        first_name: owned("first_name"),
        last_name: owned("last_name"),
        email_verified: field(value, "email_verified").and_then(Value::as_bool),
        status: owned("status"),
        role_slugs: role_slugs(field(value, "roles"), field(value, "role")),
        created_at: text(value, "created_at").and_then(created_at),
    })
}

/// Returns the slugs of a membership's `roles`, or of the one `role` it has instead.
pub(super) fn role_slugs(roles: Option<&Value<'_>>, role: Option<&Value<'_>>) -> Vec<String> {
    let slug = |role: &Value<'_>| text(role, "slug").map(str::to_owned);
    match roles.and_then(Value::as_array) {
        Some(roles) => roles.iter().filter_map(slug).collect(),
        None => role.and_then(slug).into_iter().collect(),
    }
}

/// Reads a time as the target writes it.
pub(super) fn created_at(text: &str) -> Option<ServerMs> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(ServerMs(timestamp.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Json = serde_json::Value;

    /// Reads a body and looks at it.
    fn with_body<T>(value: &Json, look: impl FnOnce(&Body<'_>) -> T) -> T {
        look(&Body::read(Some(value.to_string().as_bytes())))
    }

    fn message(value: &Json, code: &str) -> String {
        with_body(value, |body| body.message(code))
    }

    fn entity_of(value: &Json) -> Option<Entity> {
        entity(&Value::from(value))
    }

    #[test]
    fn every_kind_of_body_is_told_apart() {
        assert_eq!(Body::read(None), Body::Cut);
        assert_eq!(Body::read(Some(b" \r\n")), Body::Empty);
        assert_eq!(Body::read(Some(b"<html></html>")), Body::Other);
        assert_eq!(Body::read(Some(b"{\"id\":\"us")), Body::Torn);
        assert_eq!(Body::read(Some(b"\xff\xfe")), Body::Other);
        assert_eq!(
            Body::read(Some(b"\"Ratelimited\"")),
            Body::Json(Value::Str("Ratelimited".into()))
        );
    }

    #[test]
    fn codes_are_found_in_every_known_shape() {
        let cases = [
            (json!({"message": "no"}), vec![], None),
            (
                json!({"code": "invalid_role"}),
                vec![],
                Some("invalid_role"),
            ),
            (
                json!({"error": "invalid_grant", "error_description": "no"}),
                vec![],
                Some("invalid_grant"),
            ),
            (json!({"error": "Bad Request"}), vec![], None),
            (
                json!({"code": "a", "errors": [{"code": "b"}, {"message": "x"}, "c", "a text"]}),
                vec!["b", "c"],
                Some("a"),
            ),
            (json!({"code": 7, "errors": {"email": ["x"]}}), vec![], None),
            (json!("Ratelimited"), vec![], None),
            (json!([1]), vec![], None),
        ];
        for (value, nested, outer) in cases {
            with_body(&value, |body| {
                assert_eq!(body.nested_codes(), nested, "{value}");
                assert_eq!(body.outer_code(), outer, "{value}");
            });
        }
    }

    #[test]
    fn the_message_of_the_decisive_code_wins() {
        let body = json!({"code": "a", "message": "outer",
            "errors": [{"code": "b", "message": "inner"}, {"code": "c"}]});
        assert_eq!(message(&body, "b"), "inner");
        assert_eq!(message(&body, "c"), "outer");
        assert_eq!(message(&body, "a"), "outer");
        assert_eq!(message(&json!("Ratelimited"), ""), "Ratelimited");
        assert_eq!(message(&json!({"message": ["one", "two"]}), ""), "one; two");
        let long = message(&json!({"message": "é".repeat(10_000)}), "");
        assert_eq!(long.chars().count(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn of_fields_with_one_name_the_last_counts_and_names_may_be_escaped() {
        let body = Body::read(Some(br#"{"id":"a","\u0069d":"b","na\u006de":"x"}"#));
        let json = body.json().unwrap();
        assert_eq!(
            (text(json, "id"), text(json, "name")),
            (Some("b"), Some("x"))
        );
    }

    #[test]
    fn an_entity_is_read_with_what_it_has() {
        let value = json!({"id": "om_1", "status": "active", "role": {"slug": "member"},
            "roles": [{"slug": "member"}, {"slug": "admin"}],
            "created_at": "2026-10-21T07:28:00.250Z"});
        let entity = entity_of(&value).unwrap();
        assert_eq!(entity.id, "om_1");
        assert_eq!(entity.status.as_deref(), Some("active"));
        assert_eq!(entity.role_slugs, ["member", "admin"]);
        assert_eq!(entity.created_at, Some(ServerMs(1_792_567_680_250)));
    }

    #[test]
    fn a_page_shows_what_has_an_id_and_where_it_goes_on() {
        let body = json!({"data": [{"id": "om_1", "user_id": "user_1", "status": "active"},
            {"id": "../x"}, {"id": "org_1", "name": "Acme", "external_id": "a"}],
            "list_metadata": {"before": null, "after": "org_1"}});
        let page = page(Some(body.to_string().as_bytes())).unwrap();
        assert_eq!(page.items.len(), 2);
        assert_eq!(page.items[0].user_id.as_deref(), Some("user_1"));
        assert_eq!(page.items[1].name.as_deref(), Some("Acme"));
        assert_eq!(page.after.as_deref(), Some("org_1"));
        for other in ["", "[]", "{}", "{\"data\": 7}", "<html>"] {
            assert_eq!(super::page(Some(other.as_bytes())), None, "{other}");
        }
        assert_eq!(super::page(None), None);
    }

    #[test]
    fn roles_are_read_whole_or_not_at_all() {
        let read = |value: Json| roles(Some(value.to_string().as_bytes()));
        let data = json!([{"object": "role", "slug": "member"}, {"slug": "org-night"}]);
        let slugs = Some(vec!["member".to_owned(), "org-night".to_owned()]);
        assert_eq!(read(json!({"object": "list", "data": data})), slugs);
        let end = json!({"before": null, "after": null});
        assert_eq!(read(json!({"data": data, "list_metadata": end})), slugs);
        // What is not on the list may be further down, or in what cannot be read.
        let more = json!({"after": "role_2"});
        assert_eq!(read(json!({"data": data, "list_metadata": more})), None);
        assert_eq!(
            read(json!({"data": [{"slug": "member"}, {"name": "x"}]})),
            None
        );
        assert_eq!(read(json!({"data": []})), Some(Vec::new()));
        assert_eq!(read(json!({"roles": data})), None);
        assert_eq!(roles(None), None);
    }

    #[test]
    fn an_entity_without_a_sane_id_is_none() {
        for id in [
            json!(""),
            json!("a b"),
            json!("../x"),
            json!("x".repeat(129)),
            json!(7),
            json!(null),
        ] {
            assert_eq!(entity_of(&json!({"id": id})), None, "{id}");
        }
        assert_eq!(entity_of(&json!([])), None);
    }

    #[test]
    fn a_strange_request_id_is_dropped() {
        assert_eq!(request_id(" req-1 ").as_deref(), Some("req-1"));
        assert_eq!(request_id(""), None);
        assert_eq!(request_id("a\u{1b}[2J"), None);
        assert_eq!(request_id(&"x".repeat(129)), None);
    }
}
