//! What a dry run that reads the target found there.

use super::words;
use crate::model::event::RunEvent;
use crate::model::scan::ScanNews;
use crate::model::{MembershipState, Origin, RowOutcome, RowState};
use serde::Serialize;

/// What is there already, and what is not. Fields are added, never renamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Whether users were listed instead of asked for one by one.
    pub listed: bool,
    /// Pages of that listing.
    #[serde(skip)]
    pub pages: u64,
    /// Rows whose user exists and who name an organization.
    #[serde(skip)]
    pub memberships_asked: u64,
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
            RunEvent::Existing(ScanNews::Listed(tally)) => {
                self.listed = true;
                self.pages = u64::from(tally.pages);
            }
            _ => {}
        }
    }

    fn on_row(&mut self, outcome: &RowOutcome) {
        let code = outcome.error.as_ref().map(|error| error.code.as_str());
        let before = |origin| origin == Some(Origin::Before);
        let exists = before(outcome.user.as_ref().map(|user| user.origin));
        if exists && outcome.state != RowState::Merged {
            self.users_existing += 1;
            self.memberships_asked += u64::from(outcome.org_id.is_some());
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
            self.users_existing + self.users_conflicting
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

    /// Returns it in words: what is there, and which organizations are not.
    pub fn lines(&self) -> [(&'static str, String); 2] {
        let mut there = vec![
            words::counted(self.users_existing, "user"),
            words::counted(self.memberships_existing, "membership"),
            words::counted(self.organizations_existing, "organization"),
        ];
        let more = [
            (self.memberships_to_reactivate, "to re-activate"),
            (
                self.memberships_in_the_way,
                "inactive or invited: their rows fail",
            ),
            (
                self.users_conflicting,
                "with another external id: their rows fail",
            ),
        ];
        let more = more.iter().filter(|(count, _)| *count > 0);
        there.extend(more.map(|(count, what)| format!("{count} {what}")));
        let missing = match (self.organizations_to_make, self.organizations_missing) {
            (0, 0) => "no organization".to_owned(),
            (made, 0) => format!("{}, to be made", words::counted(made, "organization")),
            (made, missing) => format!(
                "{}: {made} are made, the rows of {missing} fail",
                words::counted(made + missing, "organization")
            ),
        };
        [("there", there.join(" · ")), ("missing", missing)]
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
        let [there, missing] = found.lines();
        assert_eq!(there.1, "2 users · 0 memberships · 0 organizations");
        assert_eq!(missing.1, "1 organization, to be made");
    }
}
