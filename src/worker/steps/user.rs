//! The user step: make the user, or find out whose it is.

use super::{Action, Ask, By, FirstLook, Recall, RowMachine, unexpected};
use crate::model::{
    Evidence, ExistingPolicy, Origin, RowError, RowState, Step, UserOutcome, plant,
};
use crate::target::{Entity, Op, Rejection, Verdict};
use crate::worker::attempts::Why;
use crate::worker::reconcile::{Finding, Found, Standing, reconcile};

impl RowMachine {
    pub(super) fn user_step(&mut self) -> Action {
        match &self.user {
            Some(user) if user.origin == Origin::Before && !self.context.follower => {
                self.apply_policy()
            }
            Some(_) => self.membership_step(),
            None if self.context.suspect => self.look_up_user(Why::First),
            None if self.looks_first && !self.recalls => self.look_up_user(Why::First),
            None if self.recalls => self.recall_user(),
            None => self.send(Ask::CreateUser),
        }
    }

    pub(super) fn recall_user(&mut self) -> Action {
        let row = &self.row;
        let what = Recall::User {
            email_norm: row.email_norm().to_owned(),
            external_id: row.external_id.clone().map(String::from),
        };
        self.recall(what)
    }

    /// What was listed is a while ago: it is enough to take a user for known, but a row fails only
    /// by what is read for it.
    pub(super) fn on_recalled_user(&mut self, found: Option<&Entity>) -> Action {
        let Some(entity) = found else {
            return if self.looks_first || self.first_look == FirstLook::UnderWay {
                self.look_up_user(Why::First)
            } else {
                self.send(Ask::CreateUser)
            };
        };
        let external_id = self.row.external_id.as_deref();
        let by_external_id = external_id.is_some() && entity.external_id.as_deref() == external_id;
        let found = Found {
            by_external_id: by_external_id.then_some(entity),
            by_email: (!by_external_id).then_some(entity),
        };
        let standing = Standing {
            maybe_ours: false,
            t_lo: self.context.t_lo,
        };
        match reconcile(&self.row, found, standing) {
            Finding::User { id, origin } => {
                self.user_recalled = true;
                self.user_known(id, origin)
            }
            Finding::Conflict { .. } | Finding::MaybeConcurrentSignup { .. } | Finding::Nothing => {
                self.look_up_user(Why::First)
            }
        }
    }

    /// The target does not know a user that the listing showed: who it is, is found out anew.
    pub(super) fn forget_user(&mut self) -> Action {
        (self.recalls, self.user_recalled) = (false, false);
        self.forgotten = self.user.take().map(|user| user.id);
        self.attempts.start_step();
        self.user_step()
    }

    pub(super) fn on_create_user(&mut self, answer: Verdict, alive: u64) -> Action {
        match answer {
            Verdict::Made(id) => self.user_known(id, Origin::Made(Evidence::Answered)),
            Verdict::Ok(entity) => self.user_known(entity.id, Origin::Made(Evidence::Answered)),
            Verdict::OddEcho(entity) => self.park_odd_echo(*entity),
            Verdict::Exists(rejection) if plant::is(3) => {
                let error = self.refusal(&rejection);
                self.fail(Step::User, error)
            }
            Verdict::Exists(rejection) => {
                self.last = Some(Box::new(rejection));
                self.look_up_user(Why::Exists { reread: 0 })
            }
            Verdict::Rejected(rejection) if self.user_may_be_ours() => {
                self.look_up_user(Why::BeforeFailing {
                    rejection: Box::new(rejection),
                    reread: 0,
                })
            }
            Verdict::Rejected(rejection) => {
                let error = self.refusal(&rejection);
                self.fail(Step::User, error)
            }
            Verdict::Ambiguous(rejection) => self.create_unclear(rejection, alive),
            Verdict::Absent | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                self.create_unclear(unexpected(), alive)
            }
        }
    }

    pub(super) fn on_find_user(&mut self, by: By, why: Why, answer: Verdict, alive: u64) -> Action {
        let ask = |why| Ask::FindUser { by, why };
        match answer {
            Verdict::Ok(entity) => self.on_found(by, &entity),
            Verdict::Absent => match self.next_by(by) {
                Some(by) => self.send(Ask::FindUser { by, why }),
                None => self.on_nothing(why),
            },
            Verdict::Ambiguous(rejection)
            | Verdict::Rejected(rejection)
            | Verdict::Exists(rejection) => self.read_again(Step::User, ask(why), rejection, alive),
            Verdict::Made(_) | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                self.read_again(Step::User, ask(why), unexpected(), alive)
            }
        }
    }

    pub(super) fn find_user(&self, by: By) -> Op {
        match (by, &self.row.external_id) {
            (By::ExternalId, Some(external_id)) => {
                Op::FindUserByExternalId(external_id.to_string())
            }
            (By::ExternalId | By::Email, _) => {
                Op::FindUserByEmail(self.row.email_norm().to_owned())
            }
            (By::EmailAsWritten, _) => Op::FindUserByEmail(self.row.email.to_string()),
        }
    }

    pub(super) fn look_up_user(&mut self, why: Why) -> Action {
        let by = self.first_by();
        self.send(Ask::FindUser { by, why })
    }

    fn first_by(&self) -> By {
        match self.row.external_id {
            Some(_) => By::ExternalId,
            None => By::Email,
        }
    }

    fn next_by(&self, by: By) -> Option<By> {
        match by {
            By::ExternalId => Some(By::Email),
            By::Email => (self.row.email != self.row.email_norm()).then_some(By::EmailAsWritten),
            By::EmailAsWritten => None,
        }
    }

    fn create_unclear(&mut self, rejection: Rejection, alive: u64) -> Action {
        self.user_unclear = true;
        self.last = Some(Box::new(rejection));
        let wait = self.attempts.note_unclear(alive);
        // Looked up even after the last attempt: it may be the one that was applied.
        let by = self.first_by();
        let why = Why::Unclear;
        self.send_after(wait, Ask::FindUser { by, why })
    }

    /// A user found by its external id has that email or is a conflict, so one look-up that finds
    /// something is enough.
    fn on_found(&mut self, by: By, entity: &Entity) -> Action {
        let found = match by {
            By::ExternalId => Found {
                by_external_id: Some(entity),
                by_email: None,
            },
            By::Email | By::EmailAsWritten => Found {
                by_external_id: None,
                by_email: Some(entity),
            },
        };
        let standing = Standing {
            maybe_ours: self.user_may_be_ours(),
            t_lo: self.context.t_lo,
        };
        if plant::is(4) {
            return self.user_known(entity.id.clone(), Origin::Before);
        }
        match reconcile(&self.row, found, standing) {
            Finding::User { id, origin } => self.user_known(id, origin),
            Finding::Conflict { other_id } => self.fail_conflict(&other_id),
            Finding::MaybeConcurrentSignup { id } => self.park_signup(&id),
            Finding::Nothing => self.on_nothing(Why::Unclear),
        }
    }

    fn on_nothing(&mut self, why: Why) -> Action {
        if self.first_look.end() {
            return self.start();
        }
        if let Some((wait, why)) = why.look_again() {
            let by = self.first_by();
            return self.send_after(wait, Ask::FindUser { by, why });
        }
        match why {
            Why::Exists { .. } => {
                self.attempts.note_invisible();
                if self.attempts.are_spent() {
                    return self.park_invisible(Step::User);
                }
                self.send(Ask::CreateUser)
            }
            Why::Unclear if self.attempts.are_spent() => self.park_server_error(Step::User),
            Why::Unclear if plant::is(19) => {
                let error = self.answered("not_found");
                self.fail(Step::User, error)
            }
            Why::First | Why::Unclear => self.send(Ask::CreateUser),
            Why::BeforeFailing { rejection, .. } => {
                let error = self.refusal(&rejection);
                self.fail(Step::User, error)
            }
        }
    }

    const fn user_may_be_ours(&self) -> bool {
        self.user_unclear || self.context.suspect
    }

    fn user_known(&mut self, id: String, origin: Origin) -> Action {
        // What is known of a membership is about the user it was sent for: another one has none of
        // that. A 404 says of nobody that it is gone; the same user may come back.
        if self.forgotten.take().is_some_and(|before| before != id) {
            (self.reactivating, self.membership_unclear) = (false, false);
            self.missing = 0;
        }
        self.user = Some(UserOutcome { id, origin });
        let looking_first = self.first_look.end();
        match origin {
            Origin::Made(_) if looking_first => self.start(),
            Origin::Made(Evidence::Dated) if plant::is(13) => self.settle_well(None),
            Origin::Made(_) => self.membership_step(),
            Origin::Before => self.apply_policy(),
        }
    }

    /// The user was there before this job.
    fn apply_policy(&mut self) -> Action {
        let state = match self.policy.on_existing {
            ExistingPolicy::Link => return self.membership_step(),
            ExistingPolicy::Skip => (RowState::Skipped, None),
            ExistingPolicy::Fail => (RowState::Failed, Some(Step::User)),
        };
        let message = "the user was there before this job, and --on-existing says so".to_owned();
        let error = RowError {
            message,
            ..self.answered("user_exists")
        };
        self.settle(state.0, state.1, None, Some(error))
    }

    fn fail_conflict(&mut self, other_id: &str) -> Action {
        let message = format!(
            "user {other_id} in the target has the email or the external_id of this row, but not \
             both: they may be different people"
        );
        let error = RowError {
            message,
            ..self.answered("external_id_conflict")
        };
        self.fail(Step::User, error)
    }

    fn park_signup(&mut self, id: &str) -> Action {
        let message = format!(
            "user {id} appeared while this row was being sent, and nothing proves whether this job \
             made it or the person signed up; compare it with the row"
        );
        let error = RowError {
            message,
            ..self.answered("maybe_concurrent_signup")
        };
        self.park(Step::User, error)
    }

    fn park_odd_echo(&mut self, entity: Entity) -> Action {
        let message = format!(
            "the target made user {} but shows another email for it than the row's",
            entity.id
        );
        self.user = Some(UserOutcome {
            id: entity.id,
            origin: Origin::Made(Evidence::Answered),
        });
        self.park(Step::User, RowError::local("wrong_echo", message))
    }
}
