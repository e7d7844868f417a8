//! A target that does not exist: what a dry run sends its requests to.
//!
//! # Owns
//! The answers of an empty target, with ids that are the same in every run.
//! # Never
//! Opens a socket.

use super::{Entity, Exchange, Op, Reply, Verdict};
use super::{body, workos};
use crate::model::Mono;
use crate::model::scan::RoleScope;
use crate::model::words::EACH;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher as _;

/// Answers as an empty target would: look-ups find nothing, creations succeed. An organization
/// named by the target's own id is taken to be there, because a dry run cannot know.
#[derive(Clone, Copy, Debug, Default)]
pub struct DryClient {
    /// Organizations that are looked for are there, by whatever they are named: nobody asked the
    /// target, and no row fails for that.
    pub orgs_are_there: bool,
}

impl DryClient {
    /// Builds the request as a real run would, and answers it here.
    pub fn send(self, op: &Op) -> Exchange {
        let started = Mono::now();
        let (status, verdict) = self.answer(op, &mut Vec::new());
        let verdict = Box::new(verdict);
        Exchange {
            reply: Reply::Rehearsed { status, verdict },
            started,
            ended: Mono::now(),
        }
    }

    /// Builds the request as a real run would, and returns the status it is answered with here and
    /// what that means. What is made has an id, and what the next step asks for: nobody reads the
    /// rest. Bodies stand one after the other in `room`.
    pub fn answer(self, op: &Op, room: &mut Vec<u8>) -> (u16, Verdict) {
        // Built and thrown away: a dry run goes through everything but the socket.
        let request = workos::request_in(op, std::mem::take(room));
        *room = request.body.unwrap_or_default();
        let made = |id| (201, Verdict::Made(id));
        let ok = |id| Verdict::Ok(Box::new(Entity::of(id)));
        let there = |id| (200, ok(id));
        match op {
            Op::FindOrgByExternalId(key) | Op::FindOrgByName(key) if self.orgs_are_there => {
                there(id("dry_org_", &[key]))
            }
            Op::Probe
            | Op::ListUsers { .. }
            | Op::ListMemberships { .. }
            | Op::ListOrgs(_)
            | Op::ListRoles(_) => (200, Verdict::Ok(Box::default())),
            Op::FindUserByEmail(_)
            | Op::FindFactor(_)
            | Op::FindMembership { .. }
            | Op::FindOrgByName(_) => (200, Verdict::Absent),
            Op::GetOrg(asked) if body::is_id(asked) => there(asked.clone()),
            Op::FindUserByExternalId(_)
            | Op::GetUser(_)
            | Op::GetOrg(_)
            | Op::FindOrgByExternalId(_) => (404, Verdict::Absent),
            Op::CreateUser(user) => made(id("dry_user_", &[user.email_norm()])),
            Op::CreateMembership {
                user_id, org_id, ..
            } => made(id("dry_om_", &[user_id, org_id])),
            Op::SetLocale { user_id, .. } => there(user_id.clone()),
            Op::CreateFactor(factor) => (201, ok(id("dry_auth_factor_", &[&factor.user_id]))),
            Op::CreateOrg { external_id, .. } => (201, ok(id("dry_org_", &[external_id]))),
        }
    }
}

/// Returns whether `op` asks about something that [`DryClient`] made up.
pub(super) fn is_about_made_up(op: &Op) -> bool {
    match op {
        Op::GetUser(id) | Op::GetOrg(id) => is_made_up(id),
        Op::FindMembership { user_id, org_id } => is_made_up(user_id) || is_made_up(org_id),
        Op::ListMemberships { org_id, .. } | Op::ListRoles(RoleScope::Organization(org_id)) => {
            is_made_up(org_id)
        }
        _ => false,
    }
}

/// Returns whether [`DryClient`] made this id up: nothing at the target has it.
pub fn is_made_up(id: &str) -> bool {
    id.starts_with(ID_START)
}

/// How ids that are made up begin.
const ID_START: &str = "dry_";

/// The same in every process: what one worker made up, another may name.
static SEED: SharedSeed = SharedSeed::from_u64(0);

/// Makes an id out of what it stands for: 64 bits of it are enough to tell a file's rows apart.
fn id(kind: &str, parts: &[&str]) -> String {
    let mut hasher = FoldHasher::with_seed(0, &SEED);
    for part in parts {
        hasher.write(part.as_bytes());
        // Keeps ("ab", "c") apart from ("a", "bc").
        hasher.write_u8(0);
    }
    let hash = hasher.finish();
    let halves = [hash >> 32, hash & u64::from(u32::MAX)].map(hex_digits);
    let digits = std::str::from_utf8(halves.as_flattened()).unwrap_or_default();
    let mut id = String::with_capacity(kind.len() + digits.len());
    id.push_str(kind);
    id.push_str(digits);
    id
}

/// Returns the lower 32 bits of a number in hexadecimal: two ids are made for every row, and eight
/// digits at a time cost as much as one.
const fn hex_digits(number: u64) -> [u8; 8] {
    // The lowest half byte of each byte, the highest first.
    let halves = ((number & 0xffff_0000) << 16) | (number & 0xffff);
    let halves = ((halves << 8) | halves) & 0x00ff_00ff_00ff_00ff;
    let halves = ((halves << 4) | halves) & (EACH * 0x0f);
    let letters = ((halves + EACH * 0x06) >> 4) & EACH;
    (halves + EACH * b'0' as u64 + letters * (b'a' - b'9' - 1) as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceRow;
    use std::sync::Arc;

    fn create(email: &str) -> Op {
        Op::CreateUser(Arc::new(SourceRow {
            external_id: Some("7".into()),
            ..SourceRow::bare(email)
        }))
    }

    fn made(op: &Op) -> String {
        match DryClient::default().send(op).verdict(op) {
            Verdict::Made(id) => id,
            Verdict::Ok(entity) => entity.id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn digits_are_those_of_everybody() {
        for number in (0..=u64::from(u32::MAX)).step_by(0x0123_4567) {
            let digits = hex_digits(number);
            assert_eq!(digits, *format!("{number:08x}").as_bytes());
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
            assert_eq!(
                DryClient::default().send(&op).verdict(&op),
                Verdict::Absent,
                "{op:?}"
            );
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
    fn named_organizations_are_there_if_so_agreed() {
        let client = DryClient {
            orgs_are_there: true,
        };
        let op = Op::FindOrgByExternalId("acme".to_owned());
        assert!(matches!(
            client.answer(&op, &mut Vec::new()),
            (200, Verdict::Ok(_))
        ));
        let made_up = Op::FindUserByExternalId("7".to_owned());
        assert_eq!(
            client.answer(&made_up, &mut Vec::new()),
            (404, Verdict::Absent)
        );
    }

    #[test]
    fn an_organization_id_no_target_would_give_is_absent() {
        let op = Op::GetOrg("no such shape".to_owned());
        assert_eq!(DryClient::default().send(&op).verdict(&op), Verdict::Absent);
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
        let exchange = DryClient::default().send(&Op::Probe);
        assert!(matches!(exchange.verdict(&Op::Probe), Verdict::Ok(_)));
        assert!(exchange.server_time().is_some());
    }
}
