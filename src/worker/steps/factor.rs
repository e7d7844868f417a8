//! The factor step: enrol the second factor that the row brings, once.
//!
//! The target makes a second factor of a second request, and nothing about a factor says which
//! request made it. So a request is only sent when none can be there: to a user made a moment ago,
//! or after a look; and before the look, whatever may still be under way is waited out. The lease is
//! the durable intent: who was leased and has no outcome may have sent one.

use super::{Action, Ask, RowMachine, unexpected};
use crate::model::{Evidence, Origin, RowError, Step, plant};
use crate::target::classify::USER_OR_ORG_MISSING;
use crate::target::{Entity, NewFactor, Op, Rejection, Verdict};
use crate::worker::attempts::{LATE, Why};
use crate::worker::reconcile::Standing;

impl RowMachine {
    pub(super) fn factor_step(&mut self) -> Action {
        self.start_last_step();
        let ask = Ask::FindFactor { why: Why::First };
        if !self.factor_may_be_there() {
            return self.send(Ask::CreateFactor);
        }
        if self.context.suspect && !plant::is(28) {
            return self.wait_out(LATE, Some(self.context.doubt_since), ask);
        }
        self.send(ask)
    }

    /// Nobody can have enrolled one for a user that was made just now; one that was made earlier
    /// may have got it from an earlier life of this row, or from its person.
    fn factor_may_be_there(&self) -> bool {
        if plant::is(27) {
            return false;
        }
        let origin = self.user.as_ref().map(|user| user.origin);
        let made_now = origin == Some(Origin::Made(Evidence::Answered));
        self.context.user.is_some() || (self.context.suspect && !made_now)
    }

    pub(super) fn create_factor(&self) -> Op {
        let totp = self.row.totp.as_ref();
        Op::CreateFactor(Box::new(NewFactor {
            user_id: self.user_id(),
            label: self.row.email.to_string(),
            issuer: totp.and_then(|totp| totp.issuer.clone()),
            secret: totp.map(|totp| totp.secret.clone()).unwrap_or_default(),
        }))
    }

    pub(super) fn on_create_factor(&mut self, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Ok(_) => self.enrolled(),
            Verdict::Exists(rejection) => {
                self.last = Some(Box::new(rejection));
                let why = Why::Exists { reread: 0 };
                self.send(Ask::FindFactor { why })
            }
            Verdict::Rejected(rejection) if rejection.code == USER_OR_ORG_MISSING => {
                self.on_user_missing(Step::Factor, Ask::CreateFactor, rejection)
            }
            // What an earlier request may have done was looked at before this one.
            Verdict::Rejected(rejection) => {
                let error = self.refusal(&rejection);
                self.fail(Step::Factor, error)
            }
            Verdict::Ambiguous(rejection) => self.enrolment_unclear(rejection, alive),
            Verdict::Made(_)
            | Verdict::Absent
            | Verdict::OddEcho(_)
            | Verdict::NotApplied(_)
            | Verdict::Stop(_) => self.enrolment_unclear(unexpected(), alive),
        }
    }

    fn enrolment_unclear(&mut self, rejection: Rejection, alive: u64) -> Action {
        self.factor_unclear = true;
        self.last = Some(Box::new(rejection));
        let backoff = self.attempts.note_unclear(alive);
        let wait = if plant::is(28) { backoff } else { LATE };
        self.wait_out(wait, None, Ask::FindFactor { why: Why::Unclear })
    }

    pub(super) fn on_find_factor(&mut self, why: Why, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Ok(entity) => self.on_factor(&entity),
            Verdict::Absent => self.on_no_factor(&why),
            Verdict::Ambiguous(rejection)
            | Verdict::Rejected(rejection)
            | Verdict::Exists(rejection) => {
                self.read_again(Step::Factor, Ask::FindFactor { why }, rejection, alive)
            }
            Verdict::Made(_) | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                self.read_again(Step::Factor, Ask::FindFactor { why }, unexpected(), alive)
            }
        }
    }

    /// One is there. The user is ours, so it is ours too if we may have sent one.
    fn on_factor(&mut self, factor: &Entity) -> Action {
        let standing = Standing {
            maybe_ours: self.factor_unclear || self.context.suspect,
            t_lo: self.context.t_lo,
        };
        let undated = standing.maybe_ours && factor.created_at.is_none();
        if undated || standing.covers(factor.created_at) {
            return self.enrolled();
        }
        let message = format!(
            "the user has a second factor already ({}) that this row did not bring; it is left as \
             it is, and the row's is not added",
            factor.id
        );
        self.fail(Step::Factor, RowError::local("factor_exists", message))
    }

    fn on_no_factor(&mut self, why: &Why) -> Action {
        if let Some((wait, why)) = why.look_again() {
            return self.send_after(wait, Ask::FindFactor { why });
        }
        if matches!(why, Why::Exists { .. }) {
            self.attempts.note_invisible();
            if self.attempts.are_spent() {
                return self.park_invisible(Step::Factor);
            }
        } else if self.attempts.are_spent() {
            return self.park_server_error(Step::Factor);
        }
        self.send(Ask::CreateFactor)
    }

    fn enrolled(&mut self) -> Action {
        self.factor_enrolled = true;
        self.last_steps()
    }
}
