//! The membership step: add the user to the organization, once.

use super::{Action, Ask, Recall, RowMachine, unexpected};
use crate::model::{
    Evidence, MembershipOutcome, MembershipState, Origin, RowError, RowState, Step, plant,
};
use crate::target::classify::{PENDING_MEMBERSHIP, USER_OR_ORG_MISSING};
use crate::target::{Entity, Rejection, Verdict};
use crate::worker::attempts::{READ_LAG, Why};
use crate::worker::reconcile::Standing;

/// What a membership's status allows.
enum Status {
    Active,
    Inactive,
    Pending,
    Unknown,
}

impl Status {
    fn of(membership: &Entity) -> Self {
        match membership.status.as_deref() {
            // A target without statuses has only active ones.
            Some("active") | None => Self::Active,
            Some("inactive") => Self::Inactive,
            Some("pending") => Self::Pending,
            Some(_) => Self::Unknown,
        }
    }
}

impl RowMachine {
    pub(super) fn membership_step(&mut self) -> Action {
        if let Some(id) = self.pair_membership().cloned() {
            return self.finish(Some(MembershipOutcome {
                id: Some(id),
                state: MembershipState::Existing,
                repeat: true,
            }));
        }
        if self.org_id.is_none() {
            return self.finish(None);
        }
        self.attempts.start_step();
        if self.recalls && self.membership_may_be_there() {
            let org_id = self.org_id.clone().unwrap_or_default();
            let user_id = self.user_id();
            return self.recall(Recall::Membership { user_id, org_id });
        }
        if self.membership_may_be_there() {
            // Creating would re-activate what somebody switched off.
            self.send(Ask::FindMembership { why: Why::First })
        } else {
            self.send(Ask::CreateMembership)
        }
    }

    /// As with users: one that is active is taken for known, anything else is read again.
    pub(super) fn on_recalled_membership(&mut self, found: Option<&Entity>) -> Action {
        match found {
            Some(entity) if matches!(Status::of(entity), Status::Active) => {
                self.on_membership(Why::First, entity.clone())
            }
            _ => self.send(Ask::FindMembership { why: Why::First }),
        }
    }

    /// Somebody else made the user; or we did, and the row is suspect: then its membership may have
    /// been made too, however long ago, and been changed since. Not so that of a user who was made
    /// just now.
    fn membership_may_be_there(&self) -> bool {
        let origin = self.user.as_ref().map(|user| user.origin);
        let answered = origin == Some(Origin::Made(Evidence::Answered));
        let made_now = answered && self.context.user.is_none();
        !origin.is_some_and(Origin::is_made) || (self.context.suspect && !made_now)
    }

    pub(super) fn on_create_membership(&mut self, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Made(id) => self.joined_by_answer(id),
            Verdict::Ok(entity) => match Status::of(&entity) {
                Status::Active => self.joined_by_answer(entity.id),
                Status::Pending => self.fail_pending(Some(entity.id)),
                Status::Inactive | Status::Unknown => self.join_unclear(unexpected(), alive),
            },
            Verdict::Exists(rejection) => {
                self.last = Some(Box::new(rejection));
                let why = Why::Exists { reread: 0 };
                self.send(Ask::FindMembership { why })
            }
            Verdict::Rejected(rejection) if rejection.code == USER_OR_ORG_MISSING => {
                self.on_missing(rejection)
            }
            Verdict::Rejected(rejection) => self.on_refused(rejection),
            Verdict::Ambiguous(rejection) if plant::is(20) => self.on_refused(rejection),
            Verdict::Ambiguous(rejection) => self.join_unclear(rejection, alive),
            Verdict::Absent | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                self.join_unclear(unexpected(), alive)
            }
        }
    }

    pub(super) fn on_find_membership(&mut self, why: Why, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Ok(entity) => self.on_membership(why, *entity),
            Verdict::Absent => self.on_no_membership(why),
            Verdict::Ambiguous(rejection)
            | Verdict::Rejected(rejection)
            | Verdict::Exists(rejection) => self.read_again(
                Step::Membership,
                Ask::FindMembership { why },
                rejection,
                alive,
            ),
            Verdict::Made(_) | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                let ask = Ask::FindMembership { why };
                self.read_again(Step::Membership, ask, unexpected(), alive)
            }
        }
    }

    /// After 404s: the user is asked for once, to tell which of the two is missing.
    pub(super) fn on_get_user(&mut self, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Ok(_) => self.send(Ask::CreateMembership),
            Verdict::Absent => {
                let message = format!("user {} is no longer in the target", self.user_id());
                let error = RowError {
                    message,
                    ..self.answered("user_not_found")
                };
                self.fail_membership(None, error)
            }
            Verdict::Ambiguous(rejection)
            | Verdict::Rejected(rejection)
            | Verdict::Exists(rejection) => {
                self.read_again(Step::Membership, Ask::GetUser, rejection, alive)
            }
            Verdict::Made(_) | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                self.read_again(Step::Membership, Ask::GetUser, unexpected(), alive)
            }
        }
    }

    fn join_unclear(&mut self, rejection: Rejection, alive: u64) -> Action {
        self.membership_unclear = true;
        self.last = Some(Box::new(rejection));
        let wait = self.attempts.note_unclear(alive);
        // Looked up first: sending again could re-activate what somebody has just switched off.
        let why = Why::Unclear;
        self.send_after(wait, Ask::FindMembership { why })
    }

    fn joined_by_answer(&mut self, id: String) -> Action {
        let state = if self.reactivating {
            MembershipState::Reactivated
        } else {
            MembershipState::Created
        };
        self.joined(id, state)
    }

    fn joined(&mut self, id: String, state: MembershipState) -> Action {
        self.finish(Some(MembershipOutcome {
            id: Some(id),
            state,
            repeat: false,
        }))
    }

    /// A membership is there.
    fn on_membership(&mut self, why: Why, entity: Entity) -> Action {
        match Status::of(&entity) {
            Status::Active => {
                let standing = Standing {
                    maybe_ours: self.membership_may_be_ours() && self.has_asked_role(&entity),
                    t_lo: self.context.t_lo,
                };
                let state = if self.reactivating {
                    MembershipState::Reactivated
                } else if standing.covers(entity.created_at) {
                    MembershipState::Recovered
                } else {
                    MembershipState::Existing
                };
                self.joined(entity.id, state)
            }
            Status::Inactive => self.on_inactive(why, entity.id),
            Status::Pending => self.fail_pending(Some(entity.id)),
            Status::Unknown => {
                let message = format!(
                    "membership {} has a status this importer does not know",
                    entity.id
                );
                let error = RowError::local("membership_status_unknown", message);
                self.park(Step::Membership, error)
            }
        }
    }

    fn on_inactive(&mut self, why: Why, id: String) -> Action {
        match why {
            Why::BeforeFailing { rejection, .. } => {
                let error = self.refusal(&rejection);
                self.fail_membership(Some(id), error)
            }
            Why::Unclear if self.policy.reactivate && self.attempts.are_spent() => {
                self.park_server_error(Step::Membership)
            }
            Why::First | Why::Unclear if self.policy.reactivate => {
                self.reactivating = true;
                self.send(Ask::CreateMembership)
            }
            Why::First | Why::Unclear | Why::Exists { .. } => {
                let message = format!(
                    "membership {id} is inactive; activate it in the target, or import with \
                     --reactivate"
                );
                let error = RowError::local("membership_inactive", message);
                self.fail_membership(Some(id), error)
            }
        }
    }

    fn on_no_membership(&mut self, why: Why) -> Action {
        if let Some((wait, why)) = why.look_again() {
            return self.send_after(wait, Ask::FindMembership { why });
        }
        match why {
            Why::Exists { .. } => {
                self.attempts.note_invisible();
                if self.attempts.are_spent() {
                    return self.park_invisible(Step::Membership);
                }
                self.send(Ask::CreateMembership)
            }
            Why::Unclear if self.attempts.are_spent() => self.park_server_error(Step::Membership),
            Why::First | Why::Unclear => self.send(Ask::CreateMembership),
            Why::BeforeFailing { rejection, .. } => {
                let error = self.refusal(&rejection);
                self.fail_membership(None, error)
            }
        }
    }

    /// 404: what was made a moment ago may not be visible yet, so it is tried again first.
    fn on_missing(&mut self, rejection: Rejection) -> Action {
        if self.user_recalled {
            return self.forget_user();
        }
        self.missing += 1;
        self.last = Some(Box::new(rejection));
        if let Some(wait) = READ_LAG.get(self.missing - 1) {
            return self.send_after(*wait, Ask::CreateMembership);
        }
        if self.missing == READ_LAG.len() + 1 {
            return self.send(Ask::GetUser);
        }
        let org_id = self.org_id.clone().unwrap_or_default();
        self.on_refused(Rejection {
            code: "organization_not_found".to_owned(),
            message: format!("organization {org_id} is no longer in the target"),
            ..self.last()
        })
    }

    fn on_refused(&mut self, rejection: Rejection) -> Action {
        if self.membership_may_be_ours() {
            let why = Why::BeforeFailing {
                rejection: Box::new(rejection),
                reread: 0,
            };
            return self.send(Ask::FindMembership { why });
        }
        if rejection.code == PENDING_MEMBERSHIP {
            return self.fail_pending(None);
        }
        let error = self.refusal(&rejection);
        self.fail_membership(None, error)
    }

    /// A create of ours would have given it the row's role. A target that shows no roles, and a
    /// row that asks for none, leave it open.
    fn has_asked_role(&self, membership: &Entity) -> bool {
        let (asked, shown) = (&self.row.role_slugs, &membership.role_slugs);
        asked.is_empty()
            || shown.is_empty()
            || asked.iter().any(|role| shown.iter().any(|it| it == role))
    }

    const fn membership_may_be_ours(&self) -> bool {
        self.membership_unclear || self.context.suspect
    }

    fn fail_pending(&mut self, id: Option<String>) -> Action {
        let message = "the user has an open invitation to this organization; it has to be accepted \
                       or revoked first";
        let error = RowError::local("membership_pending", message);
        self.fail_membership(id, error)
    }

    /// The user stays in the outcome: it is there, whatever became of the membership.
    fn fail_membership(&mut self, id: Option<String>, error: RowError) -> Action {
        let membership = MembershipOutcome {
            id,
            state: MembershipState::Failed,
            repeat: false,
        };
        let step = Some(Step::Membership);
        self.settle(RowState::Failed, step, Some(membership), Some(error))
    }
}
