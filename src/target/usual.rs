//! The answers nearly every row gets: its user was made, its membership was made. They are read
//! field by field where they stand, without the tree that any other answer becomes first, and
//! nothing is kept of them but an id. Pure.

use super::classify::{names_no_other, same_email};
use super::{Op, body};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json_borrow::Value;
use std::fmt;

/// Returns the id of what an answer says was made for `op`, when there is nothing more to say about
/// it: what [`classify`](super::classify()) would find, too. None decides nothing: then the whole
/// answer is looked at.
pub(super) fn made(op: &Op, status: u16, body: Option<&[u8]>) -> Option<String> {
    let body = body.filter(|_| (200..300).contains(&status))?;
    match op {
        Op::CreateUser(user) => {
            let fields = Fields::read(body)?;
            same_email(fields.email?, &user.email).then(|| fields.id())?
        }
        Op::CreateMembership {
            user_id, org_id, ..
        } => {
            let fields = Fields::read(body)?;
            let named = [fields.user_id, fields.organization_id];
            let is_active = matches!(fields.status, None | Some("active"));
            (is_active && names_no_other(named, [user_id, org_id])).then(|| fields.id())?
        }
        _ => None,
    }
}

/// Some fields of an entity as they stand in an answer.
#[derive(Debug, Default)]
struct Fields<'a> {
    id: Option<&'a str>,
    email: Option<&'a str>,
    status: Option<&'a str>,
    user_id: Option<&'a str>,
    organization_id: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Reads an object. None if it is none, or if one of these has an escape or is no text.
    fn read(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        serde_json::from_str(text).ok()
    }

    /// Returns the id, if it has the right shape.
    fn id(&self) -> Option<String> {
        self.id.filter(|id| body::is_id(id)).map(str::to_owned)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// By hand, because what serde derives takes a list for an object, and passes over fields that it
/// does not know without reading them: an answer that is broken there is broken.
struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    /// Of fields with one name the last counts, as it does in the tree.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<&str>()? {
            match name {
                "id" => fields.id = map.next_value()?,
                "email" => fields.email = map.next_value()?,
                "status" => fields.status = map.next_value()?,
                "user_id" => fields.user_id = map.next_value()?,
                "organization_id" => fields.organization_id = map.next_value()?,
                _ => drop(map.next_value::<Value<'de>>()?),
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceRow;
    use std::sync::Arc;

    fn create_user() -> Op {
        Op::CreateUser(Arc::new(SourceRow::bare("Ann@x.org")))
    }

    fn create_membership() -> Op {
        Op::CreateMembership {
            user_id: "user_1".to_owned(),
            org_id: "org_1".to_owned(),
            role_slugs: Vec::new(),
        }
    }

    fn made_by(op: &Op, body: &[u8]) -> Option<String> {
        made(op, 201, Some(body))
    }

    #[test]
    fn the_answer_of_a_user_that_was_made_is_read_where_it_stands() {
        let body = r#"{"object":"user","id":"user_1","email":"ann@x.org","email_verified":true,
            "first_name":"Ann","last_name":"Lée","profile_picture_url":null,"metadata":{"a":"\n"},
            "last_sign_in_at":null,"external_id":"7","created_at":"2026-10-21T07:28:00.250Z"}"#;
        let made = made_by(&create_user(), body.as_bytes());
        assert_eq!(made.as_deref(), Some("user_1"));
    }

    #[test]
    fn the_answer_of_a_membership_that_was_made_is_read_where_it_stands() {
        let body = r#"{"object":"organization_membership","id":"om_1","user_id":"user_1",
            "organization_id":"org_1","status":"active","role":{"slug":"member"},
            "roles":[{"slug":"member"},{"slug":"admin"}]}"#;
        let made = made_by(&create_membership(), body.as_bytes());
        assert_eq!(made.as_deref(), Some("om_1"));
        let one = br#"{"id":"om_1","roles":null,"role":{"slug":"member"}}"#;
        let made = made_by(&create_membership(), one);
        assert_eq!(made.as_deref(), Some("om_1"));
    }

    #[test]
    fn whatever_is_not_plainly_what_was_asked_for_is_left_to_the_whole_look() {
        let deep = format!(
            r#"{{"id":"user_1","email":"ann@x.org","x":{}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let user: [&[u8]; 16] = [
            b"",
            b"7",
            br#"["user_1","ann@x.org"]"#,
            br#"{"id":"user_1"}"#,
            br#"{"email":"ann@x.org"}"#,
            br#"{"id":"../x","email":"ann@x.org"}"#,
            br#"{"id":"user_1","email":"bob@x.org"}"#,
            br#"{"id":"user_1","email":"ann\u0040x.org"}"#,
            br#"{"id":"user_1","email":"ann@x.org"} x"#,
            br#"{"id":"user_1","email":"ann@x.org","x":1e999}"#,
            br#"{"id":"user_1","email":"ann@x.org","x":"\ud800"}"#,
            br#"{"id":"user_1","email":"ann@x.org","x":[1,1e999]}"#,
            br#"{"id":"user_1","email":"ann@x.org","x":{"\ud800":1}}"#,
            br#"{"id":"user_1","email":"ann@x.org","x":{"a":"\ud800"}}"#,
            b"{\"id\":\"user_1\",\"email\":\"ann@x.org\",\"x\":\"\xff\"}",
            deep.as_bytes(),
        ];
        for body in user {
            let words = String::from_utf8_lossy(body);
            assert_eq!(made_by(&create_user(), body), None, "{words}");
        }
        let membership: [&[u8]; 5] = [
            br#"{"user_id":"user_1"}"#,
            br#"{"id":"om_1","status":"inactive"}"#,
            br#"{"id":"om_1","status":"pending"}"#,
            br#"{"id":"om_1","user_id":"user_2"}"#,
            br#"{"id":"om_1","organization_id":"org_2"}"#,
        ];
        for body in membership {
            let words = String::from_utf8_lossy(body);
            assert_eq!(made_by(&create_membership(), body), None, "{words}");
        }
        let body = br#"{"id":"user_1","email":"ann@x.org"}"#;
        assert_eq!(made_by(&Op::GetUser("user_1".to_owned()), body), None);
        assert!(made_by(&create_user(), body).is_some());
        assert_eq!(made(&create_user(), 201, None), None);
        for status in [199, 300, 400, 500] {
            assert_eq!(made(&create_user(), status, Some(body)), None);
        }
    }
}
