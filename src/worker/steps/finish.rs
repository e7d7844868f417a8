//! The last steps: what the target takes only of a user that is there.
//!
//! They come when user and membership are settled, and only for users this job made: who was there
//! before keeps what they have. Whatever becomes of them, what was reached stays reached.

use super::{Action, Ask, RowMachine, unexpected};
use crate::model::{MembershipOutcome, Origin, RowError, Step};
use crate::target::classify::USER_OR_ORG_MISSING;
use crate::target::{Rejection, Verdict};
use crate::worker::attempts::READ_LAG;

impl RowMachine {
    /// User and membership are settled.
    pub(super) fn finish(&mut self, membership: Option<MembershipOutcome>) -> Action {
        self.membership = membership;
        self.last_steps()
    }

    /// Sends what is left to send.
    pub(super) fn last_steps(&mut self) -> Action {
        if !self.may_complete_user() {
            return self.settle_well(self.membership.clone());
        }
        if self.row.locale.is_some() && !self.locale_set {
            self.start_last_step();
            return self.send(Ask::SetLocale);
        }
        if self.row.totp.is_some() && !self.factor_enrolled {
            return self.factor_step();
        }
        self.settle_well(self.membership.clone())
    }

    /// A follower's user is its leader's, and so is what is set on it.
    fn may_complete_user(&self) -> bool {
        let origin = self.user.as_ref().map(|user| user.origin);
        !self.context.follower && origin.is_some_and(Origin::is_made)
    }

    pub(super) fn start_last_step(&mut self) {
        self.attempts.start_step();
        self.missing = 0;
    }

    /// Setting it twice is setting it once: what is unclear is sent again.
    pub(super) fn on_set_locale(&mut self, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Ok(_) => {
                self.locale_set = true;
                self.last_steps()
            }
            Verdict::Rejected(rejection) if rejection.code == USER_OR_ORG_MISSING => {
                self.on_user_missing(Step::Locale, Ask::SetLocale, rejection)
            }
            Verdict::Rejected(rejection) | Verdict::Exists(rejection) => {
                let error = self.refusal(&rejection);
                self.fail(Step::Locale, error)
            }
            Verdict::Ambiguous(rejection) => {
                self.read_again(Step::Locale, Ask::SetLocale, rejection, alive)
            }
            Verdict::Made(_)
            | Verdict::Absent
            | Verdict::OddEcho(_)
            | Verdict::NotApplied(_)
            | Verdict::Stop(_) => {
                self.read_again(Step::Locale, Ask::SetLocale, unexpected(), alive)
            }
        }
    }

    /// 404: who was made a moment ago may not be visible yet.
    pub(super) fn on_user_missing(&mut self, step: Step, ask: Ask, rejection: Rejection) -> Action {
        self.missing += 1;
        self.last = Some(Box::new(rejection));
        if let Some(wait) = READ_LAG.get(self.missing - 1) {
            return self.send_after(*wait, ask);
        }
        let message = format!("user {} is no longer in the target", self.user_id());
        let error = RowError {
            message,
            ..self.answered("user_not_found")
        };
        self.fail(step, error)
    }
}
