//! "It exists already": ours, or there before? Decided by a table; the first line that matches wins.
//!
//! # Invariants
//! I5: nothing this job made is reported as somebody else's conflict. I7: an origin is claimed only
//! with evidence.

use crate::model::{Evidence, Origin, ServerMs};
use crate::source::SourceRow;
use crate::target::Entity;

/// How much older than our lease something of ours may look: `Date` has whole seconds, and where a
/// target has many machines, the one that dates what it makes need not be the one that answered
/// first. A machine whose clock is off by more than this is not in service for long. The price:
/// what somebody else made in the last seconds before a lease, with exactly what the row asks for,
/// passes for ours if the row's answer was lost.
pub const CLOCK_MARGIN_MS: i64 = 5_000;

/// A user found by one of the two look-ups, or by both.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'a> {
    /// The user with the row's `external_id`.
    pub by_external_id: Option<&'a Entity>,
    /// The user with the row's email.
    pub by_email: Option<&'a Entity>,
}

/// What this job may have done before it looked.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// A create may have been applied without our knowing: the row is suspect or a send of it was
    /// ambiguous.
    pub maybe_ours: bool,
    /// The row's chunk was first leased then, by the target's clock: nothing that is older by more
    /// than [`CLOCK_MARGIN_MS`] is ours.
    pub t_lo: ServerMs,
}

impl Standing {
    /// Returns whether what appeared at `created_at` may be ours.
    pub fn covers(self, created_at: Option<ServerMs>) -> bool {
        let from = self.t_lo.0.saturating_sub(CLOCK_MARGIN_MS);
        self.maybe_ours && created_at.is_some_and(|created_at| created_at.0 >= from)
    }
}

/// What the look-ups mean for the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is there. Never evidence for a settled state.
    Nothing,
    /// The row's user, made by this job or there before.
    User {
        /// The target's id.
        id: String,
        /// Who made it.
        origin: Origin,
    },
    /// The row's email or external id belongs to somebody else.
    Conflict {
        /// Whose it is.
        other_id: String,
    },
    /// It appeared after the lease, and nothing proves whether we or somebody else made it.
    MaybeConcurrentSignup {
        /// The user in question.
        id: String,
    },
}

/// Reads the table.
pub fn reconcile(row: &SourceRow, found: Found<'_>, standing: Standing) -> Finding {
    if let Some(user) = found.by_external_id {
        let elsewhere = found.by_email.is_some_and(|other| other.id != user.id);
        if elsewhere || !has_email_of(user, row) {
            return Finding::Conflict {
                other_id: user.id.clone(),
            };
        }
    }
    let Some(user) = found.by_external_id.or(found.by_email) else {
        return Finding::Nothing;
    };
    let known = |origin| Finding::User {
        id: user.id.clone(),
        origin,
    };
    let external_ids = (
        filled(row.external_id.as_deref()),
        filled(user.external_id.as_deref()),
    );
    match external_ids {
        (Some(ours), Some(theirs)) if ours == theirs => {
            if standing.covers(user.created_at) {
                known(Origin::Made(Evidence::Dated))
            } else {
                known(Origin::Before)
            }
        }
        (Some(_), Some(_)) => Finding::Conflict {
            other_id: user.id.clone(),
        },
        // A create of ours would have set it, or left it out, like the row does.
        (Some(_), None) | (None, Some(_)) => known(Origin::Before),
        (None, None) => without_external_ids(row, user, standing),
    }
}

fn without_external_ids(row: &SourceRow, user: &Entity, standing: Standing) -> Finding {
    let origin = if standing.covers(user.created_at) && has_attributes_of(user, row) {
        Origin::Made(Evidence::Weak)
    } else if standing.covers(user.created_at) || (standing.maybe_ours && user.created_at.is_none())
    {
        return Finding::MaybeConcurrentSignup {
            id: user.id.clone(),
        };
    } else {
        Origin::Before
    };
    Finding::User {
        id: user.id.clone(),
        origin,
    }
}

fn has_email_of(user: &Entity, row: &SourceRow) -> bool {
    let email = user.email.as_deref().unwrap_or_default();
    email.trim().to_lowercase() == row.email_norm()
}

fn has_attributes_of(user: &Entity, row: &SourceRow) -> bool {
    filled(user.first_name.as_deref()) == filled(row.first_name.as_deref())
        && filled(user.last_name.as_deref()) == filled(row.last_name.as_deref())
        // Left out of a create, it means "not verified".
        && user.email_verified.unwrap_or(false) == row.email_verified.unwrap_or(false)
}

/// A blank text says as much as none.
fn filled(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::steps::fixtures::source_row;
    use compact_str::CompactString;

    const T_LO: ServerMs = ServerMs(1_000 + CLOCK_MARGIN_MS);

    fn row(external_id: Option<&str>) -> SourceRow {
        SourceRow {
            external_id: external_id.map(CompactString::from),
            ..source_row()
        }
    }

    /// A user with the row's email, names and verification.
    fn user(id: &str, external_id: Option<&str>, created_at: Option<i64>) -> Entity {
        let row = source_row();
        Entity {
            id: id.to_owned(),
            email: Some(row.email.to_uppercase().into()),
            external_id: external_id.map(str::to_owned),
            first_name: row.first_name.map(String::from),
            last_name: row.last_name.map(String::from),
            email_verified: row.email_verified,
            created_at: created_at.map(ServerMs),
            ..Entity::default()
        }
    }

    fn told(row: &SourceRow, user: &Entity, maybe_ours: bool) -> String {
        let by_external_id =
            row.external_id.is_some() && row.external_id.as_deref() == user.external_id.as_deref();
        let found = Found {
            by_external_id: by_external_id.then_some(user),
            by_email: (!by_external_id).then_some(user),
        };
        in_short(&reconcile(row, found, standing(maybe_ours)))
    }

    const fn standing(maybe_ours: bool) -> Standing {
        Standing {
            maybe_ours,
            t_lo: T_LO,
        }
    }

    fn in_short(finding: &Finding) -> String {
        match finding {
            Finding::Nothing => "nothing".to_owned(),
            Finding::User { origin, .. } => origin.as_str().to_owned(),
            Finding::Conflict { other_id } => format!("conflict {other_id}"),
            Finding::MaybeConcurrentSignup { .. } => "maybe".to_owned(),
        }
    }

    #[test]
    fn two_different_users_are_a_conflict() {
        let (one, other) = (
            user("u1", Some("7"), Some(2_000)),
            user("u2", None, Some(2_000)),
        );
        let found = Found {
            by_external_id: Some(&one),
            by_email: Some(&other),
        };
        let finding = reconcile(&row(Some("7")), found, standing(true));
        assert_eq!(in_short(&finding), "conflict u1");
    }

    #[test]
    fn the_external_id_under_another_email_is_a_conflict() {
        let other = Entity {
            email: Some("bob@x.org".to_owned()),
            ..user("u1", Some("7"), Some(2_000))
        };
        assert_eq!(told(&row(Some("7")), &other, true), "conflict u1");
    }

    #[test]
    fn nothing_found_is_nothing() {
        let finding = reconcile(&row(None), Found::default(), standing(true));
        assert_eq!(finding, Finding::Nothing);
    }

    #[test]
    fn both_equal_and_young_enough_is_ours_if_it_may_be() {
        let row = row(Some("7"));
        let cases = [
            (true, Some(1_000), "dated"),
            (true, Some(2_000), "dated"),
            (true, Some(999), "before"),
            (true, None, "before"),
            (false, Some(2_000), "before"),
        ];
        for (maybe_ours, created_at, expected) in cases {
            let user = user("u1", Some("7"), created_at);
            assert_eq!(
                told(&row, &user, maybe_ours),
                expected,
                "{maybe_ours} {created_at:?}"
            );
        }
    }

    #[test]
    fn an_external_id_on_one_side_only_was_there_before() {
        for maybe_ours in [true, false] {
            let without = user("u1", None, Some(2_000));
            assert_eq!(told(&row(Some("7")), &without, maybe_ours), "before");
            let with = user("u1", Some("7"), Some(2_000));
            assert_eq!(told(&row(None), &with, maybe_ours), "before");
        }
    }

    #[test]
    fn another_external_id_is_a_conflict() {
        for maybe_ours in [true, false] {
            let user = user("u1", Some("8"), Some(2_000));
            assert_eq!(told(&row(Some("7")), &user, maybe_ours), "conflict u1");
        }
    }

    #[test]
    fn without_external_ids_equal_attributes_are_weak_evidence() {
        let cases = [
            (true, Some(1_000), "weak"),
            (true, Some(999), "before"),
            (true, None, "maybe"),
            (false, Some(2_000), "before"),
            (false, None, "before"),
        ];
        for (maybe_ours, created_at, expected) in cases {
            let user = user("u1", None, created_at);
            assert_eq!(
                told(&row(None), &user, maybe_ours),
                expected,
                "{maybe_ours} {created_at:?}"
            );
        }
    }

    #[test]
    fn without_external_ids_other_attributes_may_be_a_signup() {
        let change: [fn(&mut Entity); 3] = [
            |user| user.first_name = Some("Bob".to_owned()),
            |user| user.last_name = None,
            |user| user.email_verified = Some(false),
        ];
        for change in change {
            let mut user = user("u1", None, Some(2_000));
            change(&mut user);
            assert_eq!(told(&row(None), &user, true), "maybe");
            assert_eq!(told(&row(None), &user, false), "before");
        }
    }

    #[test]
    fn blanks_count_as_nothing() {
        let row = SourceRow {
            first_name: None,
            email_verified: None,
            ..row(None)
        };
        let user = Entity {
            first_name: Some(" ".to_owned()),
            email_verified: Some(false),
            external_id: Some(String::new()),
            ..user("u1", None, Some(2_000))
        };
        assert_eq!(told(&row, &user, true), "weak");
    }
}
