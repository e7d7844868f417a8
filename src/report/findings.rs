//! What a dry run that reads the target found there.

use super::words;
use crate::model::event::RunEvent;
use crate::model::scan::{RoleScope, ScanNews};
use crate::model::{MembershipState, Origin, RowOutcome, RowState};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Unknown roles that are told apart; a file with more of them has something else in that column.
const ROLES_MAX: usize = 1_000;

/// Unknown roles that are named in words.
const ROLES_NAMED: usize = 3;

/// What is there already, and what is not. Fields are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Users of the file who exist already.
    pub users_existing: u64,
    /// Rows whose email and external id belong to different people there.
    pub users_conflicting: u64,
    /// Memberships that exist already and are active.
    pub memberships_existing: u64,
    /// Those that are inactive and would be re-activated.
    pub memberships_to_reactivate: u64,
    /// Those that are inactive or wait for an invitation, and fail their rows.
    pub memberships_in_the_way: u64,
    /// Organizations that exist already.
    pub organizations_existing: u64,
    /// Organizations that do not, and would be made.
    pub organizations_to_make: u64,
    /// Organizations that are not to be had: rows that name them fail.
    pub organizations_missing: u64,
    /// Roles that rows ask for and their organizations do not have: these rows fail.
    pub roles_unknown: UnknownRoles,
    /// Why the environment's roles could not be read: then no row is judged by its roles.
    pub roles_unread: Option<String>,
    /// Organizations whose own roles could not be read: then only the environment's are known.
    pub roles_unread_organizations: u64,
    /// Whether users were listed instead of asked for one by one.
    pub listed: bool,
    /// Pages of that listing.
    #[serde(skip)]
    pub pages: u64,
    /// Memberships that the import asks for and the target refuses for their role.
    #[serde(skip)]
    pub memberships_refused: u64,
    /// Rows whose user exists and is left alone, and whose organization nobody asked for.
    #[serde(skip)]
    pub left_alone: u64,
    /// Whether the file has a place for organizations. Then the import looks for whom it would leave
    /// alone before it asks for an organization, and creates nobody to be refused.
    #[serde(skip)]
    pub looks_before: bool,
    /// Rows whose user exists and who name an organization.
    #[serde(skip)]
    pub memberships_asked: u64,
}

/// Unknown roles by slug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownRoles(BTreeMap<Box<str>, UnknownRole>);

/// An unknown role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnknownRole {
    rows: u64,
    first_row: u32,
}

/// An unknown role as JSON shows it.
#[derive(Serialize)]
struct RoleLine<'a> {
    slug: &'a str,
    rows: u64,
    first_row: u32,
}

impl UnknownRoles {
    fn note(&mut self, slug: &str, row: u32) {
        if let Some(role) = self.0.get_mut(slug) {
            role.rows += 1;
            role.first_row = role.first_row.min(row);
        } else if self.0.len() < ROLES_MAX {
            let role = UnknownRole {
                rows: 1,
                first_row: row,
            };
            self.0.insert(slug.into(), role);
        }
    }

    /// Returns them, those that fail most rows first.
    fn by_rows(&self) -> Vec<(&str, UnknownRole)> {
        let mut all: Vec<_> = self.0.iter().map(|(slug, role)| (&**slug, *role)).collect();
        all.sort_by_key(|(_, role)| std::cmp::Reverse(role.rows));
        all
    }

    fn words(&self) -> Option<String> {
        let all = self.by_rows();
        let named = all.iter().take(ROLES_NAMED).map(|(slug, role)| {
            let fail = words::agreeing(role.rows, "fails", "fail");
            format!(
                "{slug} is unknown: {} {fail}, the first is row {}",
                words::counted(role.rows, "row"),
                role.first_row
            )
        });
        let mut parts: Vec<String> = named.collect();
        let more = all.len().saturating_sub(ROLES_NAMED);
        if more > 0 {
            parts.push(format!("{more} more (--json names them)"));
        }
        (!parts.is_empty()).then(|| parts.join(" · "))
    }
}

impl Serialize for UnknownRoles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.by_rows().into_iter().map(|(slug, role)| RoleLine {
            slug,
            rows: role.rows,
            first_row: role.first_row,
        }))
    }
}

impl Findings {
    /// Takes note of an event of the run.
    pub fn on_event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Settled(outcomes) => {
                for outcome in outcomes.iter() {
                    self.on_row(outcome);
                }
            }
            RunEvent::Organization { result, made, .. } => match (result, made) {
                (Ok(_), true) => self.organizations_to_make += 1,
                (Ok(_), false) => self.organizations_existing += 1,
                (Err(_), _) => self.organizations_missing += 1,
            },
            RunEvent::Roles {
                scope,
                result: Err(why),
            } => match scope {
                RoleScope::Environment => self.roles_unread = Some(why.clone()),
                RoleScope::Organization(_) => self.roles_unread_organizations += 1,
            },
            RunEvent::Existing(ScanNews::Listed(tally)) => {
                self.listed = true;
                self.pages = u64::from(tally.pages);
            }
            _ => {}
        }
    }

    fn on_row(&mut self, outcome: &RowOutcome) {
        let code = outcome.error.as_ref().map(|error| error.code.as_str());
        if let Some(slug) = &outcome.unknown_role {
            self.memberships_refused += 1;
            self.roles_unknown.note(slug, outcome.row.0);
        }
        let before = |origin| origin == Some(Origin::Before);
        let exists = before(outcome.user.as_ref().map(|user| user.origin));
        if exists && outcome.state != RowState::Merged {
            self.users_existing += 1;
            self.memberships_asked += u64::from(outcome.org_id.is_some());
            let alone = code == Some("user_exists") && outcome.org_id.is_none();
            self.left_alone += u64::from(alone);
        }
        self.users_conflicting += u64::from(code == Some("external_id_conflict"));
        let in_the_way = matches!(code, Some("membership_inactive" | "membership_pending"));
        self.memberships_in_the_way += u64::from(in_the_way);
        let told = outcome.membership.as_ref().filter(|told| !told.repeat);
        match told.map(|told| told.state) {
            Some(MembershipState::Existing) => self.memberships_existing += 1,
            Some(MembershipState::Reactivated) => self.memberships_to_reactivate += 1,
            _ => {}
        }
    }

    /// Creations that would be refused because their user exists: a listing saves them.
    pub fn refused(&self) -> u64 {
        if self.listed {
            self.users_conflicting
        } else {
            let looked_for = if self.looks_before {
                self.left_alone
            } else {
                0
            };
            self.users_existing.saturating_sub(looked_for) + self.users_conflicting
        }
    }

    /// Reads that a real run takes for what exists.
    pub fn reads(&self) -> u64 {
        let conflicts = 2 * self.users_conflicting;
        if self.listed {
            self.pages + conflicts + self.memberships_in_the_way + self.memberships_to_reactivate
        } else {
            self.users_existing + self.memberships_asked + conflicts
        }
    }

    /// Returns it in words: what is there, and which organizations and roles are not.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut there = vec![
            words::counted(self.users_existing, "user"),
            words::counted(self.memberships_existing, "membership"),
            words::counted(self.organizations_existing, "organization"),
        ];
        let more = [
            (self.memberships_to_reactivate, "to re-activate", false),
            (self.memberships_in_the_way, "inactive or invited", true),
            (self.users_conflicting, "with another external id", true),
        ];
        let more = more.iter().filter(|(count, ..)| *count > 0);
        there.extend(more.map(|(count, what, fails)| {
            let fail = words::agreeing(*count, ": its row fails", ": their rows fail");
            let fail = if *fails { fail } else { "" };
            format!("{} {what}{fail}", words::count(*count))
        }));
        let missing = match (self.organizations_to_make, self.organizations_missing) {
            (0, 0) => "no organization".to_owned(),
            (made, 0) => format!("{}, to be made", words::counted(made, "organization")),
            (made, missing) => format!(
                "{}: {made} {} made, and all rows of the other {missing} fail",
                words::counted(made + missing, "organization"),
                words::agreeing(made, "is", "are")
            ),
        };
        let mut lines = vec![("there", there.join(" · ")), ("missing", missing)];
        lines.extend(self.role_lines().map(|words| ("roles", words)));
        lines
    }

    fn role_lines(&self) -> impl Iterator<Item = String> {
        let unread = self.roles_unread.as_ref().map(|why| {
            format!("not read ({why}): whether those of the file are known, the import will tell")
        });
        let unread_of = (self.roles_unread_organizations > 0).then(|| {
            let organizations = words::counted(self.roles_unread_organizations, "organization");
            format!("the own ones of {organizations} could not be read: the import will tell")
        });
        self.roles_unknown
            .words()
            .into_iter()
            .chain(unread)
            .chain(unread_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scan::ScanTally;
    use crate::model::{MembershipOutcome, RowError, RowNumber, Step, UserOutcome};

    fn row(state: RowState, membership: MembershipState) -> RowOutcome {
        RowOutcome {
            state,
            step: None,
            error: None,
            user: Some(UserOutcome {
                id: "user_1".to_owned(),
                origin: Origin::Before,
            }),
            org_id: Some("org_1".to_owned()),
            membership: Some(MembershipOutcome {
                id: Some("om_1".to_owned()),
                state: membership,
                repeat: false,
            }),
            ..RowOutcome::failed(RowNumber(1), Step::User, RowError::local("", ""))
        }
    }

    #[test]
    fn a_person_with_two_memberships_is_one_user() {
        let mut found = Findings::default();
        let rows = vec![
            row(RowState::Linked, MembershipState::Existing),
            row(RowState::Merged, MembershipState::Created),
        ];
        found.on_event(&RunEvent::Settled(rows.into()));
        assert_eq!((found.users_existing, found.memberships_existing), (1, 1));
        // Its creation is refused, it is looked up, and so is its membership.
        assert_eq!((found.refused(), found.reads()), (1, 2));
        let tally = ScanTally {
            pages: 7,
            ..ScanTally::default()
        };
        found.on_event(&RunEvent::Existing(ScanNews::Listed(tally)));
        assert_eq!((found.refused(), found.reads()), (0, 7));
    }

    #[test]
    fn words_name_only_what_there_is() {
        let found = Findings {
            users_existing: 2,
            organizations_to_make: 1,
            ..Findings::default()
        };
        let lines = found.lines();
        let [there, missing] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(there.1, "2 users · 0 memberships · 0 organizations");
        assert_eq!(missing.1, "1 organization, to be made");
    }

    #[test]
    fn one_is_told_as_one() {
        let words = |n| {
            let found = Findings {
                memberships_in_the_way: n,
                organizations_to_make: n,
                organizations_missing: 1,
                ..Findings::default()
            };
            let lines = found.lines();
            lines
                .into_iter()
                .map(|(_, words)| words)
                .collect::<String>()
        };
        assert!(words(1).contains("1 inactive or invited: its row fails"));
        assert!(words(1).contains("2 organizations: 1 is made, and all rows of the other 1 fail"));
        assert!(words(2).contains("2 inactive or invited: their rows fail"));
        assert!(words(2).contains("3 organizations: 2 are made, and all rows of the other 1 fail"));
    }

    #[test]
    fn unknown_roles_are_told_with_their_rows_the_most_frequent_first() {
        let unknown = |row, slug: &str| RowOutcome {
            row: RowNumber(row),
            unknown_role: Some(slug.into()),
            ..self::row(RowState::Failed, MembershipState::Failed)
        };
        let mut found = Findings::default();
        let rows = vec![
            unknown(9, "owner"),
            unknown(8, "editor"),
            unknown(4, "owner"),
        ];
        found.on_event(&RunEvent::Settled(rows.into()));
        let told = serde_json::to_value(&found.roles_unknown).unwrap();
        let asked = serde_json::json!([{"slug": "owner", "rows": 2, "first_row": 4},
            {"slug": "editor", "rows": 1, "first_row": 8}]);
        assert_eq!(told, asked);
        let words = found.lines().pop();
        let asked = "owner is unknown: 2 rows fail, the first is row 4 · \
                     editor is unknown: 1 row fails, the first is row 8";
        assert_eq!(words, Some(("roles", asked.to_owned())));
    }

    #[test]
    fn roles_that_could_not_be_read_are_said() {
        let mut found = Findings::default();
        let unread = |scope| RunEvent::Roles {
            scope,
            result: Err("403".to_owned()),
        };
        found.on_event(&unread(RoleScope::Organization("org_1".to_owned())));
        assert_eq!(found.roles_unread_organizations, 1);
        assert!(
            found
                .lines()
                .iter()
                .any(|(_, words)| words.contains("1 organization could"))
        );
        found.on_event(&unread(RoleScope::Environment));
        assert!(
            found
                .lines()
                .iter()
                .any(|(_, words)| words.contains("not read (403)"))
        );
    }
}
