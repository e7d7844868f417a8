//! A target that does not exist: what a dry run sends its requests to.
//!
//! # Owns
//! The answers of an empty target, with ids that are the same in every run.
//! # Never
//! Opens a socket.

use super::{Exchange, Op, Reply};
use super::{body, workos};
use crate::model::{Mono, clock};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// Answers as an empty target would: look-ups find nothing, creations succeed. An organization
/// named by the target's own id is taken to be there, because a dry run cannot know.
#[derive(Clone, Copy, Debug, Default)]
pub struct DryClient;

impl DryClient {
    /// Builds the request as a real run would, and answers it here.
    pub fn send(self, op: &Op) -> Exchange {
        let started = Mono::now();
        // Built and thrown away: a dry run goes through everything but the socket.
        drop(workos::request(op));
        let (status, body) = answer(op);
        let reply = Reply::Http {
            status,
            retry_after: None,
            date: Some(date()),
            request_id: None,
            body: Some(Bytes::from(body.to_string())),
        };
        Exchange {
            reply,
            started,
            ended: Mono::now(),
        }
    }
}

/// The clock of a target that does not exist is this machine's.
fn date() -> String {
    let millis = u64::try_from(clock::wall_ms()).unwrap_or_default();
    // The last second of the year 9999 is the last one an HTTP-date can name.
    let seconds = (millis / 1_000).min(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn answer(op: &Op) -> (u16, Value) {
    match op {
        Op::Probe
        | Op::FindUserByEmail(_)
        | Op::FindFactor(_)
        | Op::FindMembership { .. }
        | Op::FindOrgByName(_)
        | Op::ListUsers { .. }
        | Op::ListMemberships { .. }
        | Op::ListOrgs(_) => (200, json!({"object": "list", "data": []})),
        Op::GetOrg(id) if body::is_id(id) => (200, json!({"id": id})),
        Op::FindUserByExternalId(_)
        | Op::GetUser(_)
        | Op::GetOrg(_)
        | Op::FindOrgByExternalId(_) => (404, json!({"message": "There is nothing in a dry run."})),
        Op::CreateUser(user) => (
            201,
            json!({
                "id": id("user", &[&user.email.to_lowercase()]),
                "email": user.email,
                "external_id": user.external_id,
            }),
        ),
        Op::SetLocale { user_id, locale } => (200, json!({"id": user_id, "locale": locale})),
        Op::CreateFactor(factor) => (
            201,
            json!({"authentication_factor": {
                "id": id("auth_factor", &[&factor.user_id]),
                "type": "totp",
                "user_id": factor.user_id,
            }}),
        ),
        Op::CreateMembership {
            user_id, org_id, ..
        } => (
            201,
            json!({
                "id": id("om", &[user_id, org_id]),
                "user_id": user_id,
                "organization_id": org_id,
                "status": "active",
            }),
        ),
        Op::CreateOrg { external_id, name } => (
            201,
            json!({"id": id("org", &[external_id]), "external_id": external_id, "name": name}),
        ),
    }
}

/// Returns whether `op` asks about something that [`DryClient`] made up.
pub(super) fn is_about_made_up(op: &Op) -> bool {
    let is_ours = |id: &str| id.starts_with(ID_START);
    match op {
        Op::GetUser(id) | Op::GetOrg(id) => is_ours(id),
        Op::FindMembership { user_id, org_id } => is_ours(user_id) || is_ours(org_id),
        Op::ListMemberships { org_id, .. } => is_ours(org_id),
        _ => false,
    }
}

/// How ids that are made up begin.
const ID_START: &str = "dry_";

fn id(kind: &str, parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes());
        // Keeps ("ab", "c") apart from ("a", "bc").
        hasher.update(&[0]);
    }
    let hex = hasher.finalize().to_hex();
    format!("{ID_START}{kind}_{}", hex.get(..20).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{NewUser, Verdict};

    fn create(email: &str) -> Op {
        Op::CreateUser(Box::new(NewUser {
            email: email.to_owned(),
            first_name: None,
            last_name: None,
            email_verified: None,
            external_id: Some("7".to_owned()),
            credential: None,
            metadata: Vec::new(),
        }))
    }

    fn made(op: &Op) -> String {
        match DryClient.send(op).verdict(op) {
            Verdict::Ok(entity) => entity.id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn look_ups_find_nothing() {
        for op in [
            Op::FindUserByExternalId("7".to_owned()),
            Op::FindUserByEmail("a@x.org".to_owned()),
            Op::GetUser("user_1".to_owned()),
            Op::FindOrgByExternalId("acme".to_owned()),
            Op::FindMembership {
                user_id: "u".to_owned(),
                org_id: "o".to_owned(),
            },
            Op::FindFactor("user_1".to_owned()),
        ] {
            assert_eq!(DryClient.send(&op).verdict(&op), Verdict::Absent, "{op:?}");
        }
    }

    #[test]
    fn creations_succeed_with_ids_that_repeat_and_do_not_collide() {
        let membership = |user_id: &str, org_id: &str| Op::CreateMembership {
            user_id: user_id.to_owned(),
            org_id: org_id.to_owned(),
            role_slugs: Vec::new(),
        };
        let ids = [
            made(&create("a@x.org")),
            made(&create("b@x.org")),
            made(&membership("ab", "c")),
            made(&membership("a", "bc")),
            made(&Op::CreateOrg {
                external_id: "acme".to_owned(),
                name: "Acme".to_owned(),
            }),
        ];
        for (n, id) in ids.iter().enumerate() {
            assert!(id.starts_with("dry_"), "{id}");
            assert!(!ids[..n].contains(id), "{ids:?}");
        }
        assert_eq!(made(&create("a@x.org")), ids[0]);
    }

    #[test]
    fn an_organization_named_by_its_own_id_is_taken_to_be_there() {
        assert_eq!(made(&Op::GetOrg("org_9".to_owned())), "org_9");
    }

    #[test]
    fn an_organization_id_no_target_would_give_is_absent() {
        let op = Op::GetOrg("no such shape".to_owned());
        assert_eq!(DryClient.send(&op).verdict(&op), Verdict::Absent);
    }

    #[test]
    fn what_was_made_up_is_not_asked_of_a_target() {
        let membership = |user_id: &str, org_id: &str| Op::FindMembership {
            user_id: user_id.to_owned(),
            org_id: org_id.to_owned(),
        };
        let org = made(&Op::CreateOrg {
            external_id: "acme".to_owned(),
            name: "Acme".to_owned(),
        });
        assert!(is_about_made_up(&membership("user_1", &org)));
        assert!(is_about_made_up(&membership(
            &made(&create("a@x.org")),
            "org_1"
        )));
        assert!(!is_about_made_up(&membership("user_1", "org_1")));
        assert!(is_about_made_up(&Op::GetOrg(org)));
        assert!(!is_about_made_up(&Op::FindUserByEmail(
            "dry_a@x.org".to_owned()
        )));
    }

    #[test]
    fn the_probe_succeeds_and_tells_the_time() {
        let exchange = DryClient.send(&Op::Probe);
        assert!(matches!(exchange.verdict(&Op::Probe), Verdict::Ok(_)));
        assert!(exchange.server_time().is_some());
    }
}
