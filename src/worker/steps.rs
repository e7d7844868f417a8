//! One row as a state machine: organization, then user, then membership, then what is set on the
//! user that is there.
//!
//! # Owns
//! What is sent next for a row, and what became of it.
//! # Never
//! Sleeps, reads a clock, draws a random number, sends: the shell around it does, as told by an
//! [`Action`]. Concludes anything from finding nothing.
//! # Invariants
//! I5: a row fails at a step only if the target holds nothing this job made for that step.
//! I6, I7: a user or membership is ours only by our own 2xx, or by evidence from [`reconcile`].
//!
//! [`reconcile`]: mod@super::reconcile

mod factor;
mod finish;
#[cfg(test)]
pub mod fixtures;
mod membership;
mod user;

use super::attempts::{Attempts, Why};
use crate::model::{
    Evidence, ExistingPolicy, MembershipOutcome, Mono, OrgKey, Origin, RowError, RowNumber,
    RowOutcome, RowState, Step, UserOutcome, escape, plant,
};
pub use crate::protocol::{OrgAnswer, RowContext};
use crate::source::SourceRow;
use crate::target::{Entity, Op, Rejection, StopReason, Verdict, workos};
use std::sync::Arc;
use std::time::Duration;

/// What the job says about users and memberships that were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPolicy {
    /// What happens to a row whose user was there before.
    pub on_existing: ExistingPolicy,
    /// Whether an inactive membership is re-activated.
    pub reactivate: bool,
}

/// What the shell does next for the row.
#[derive(Clone, Debug)]
pub enum Action {
    /// Find out the organization's id, then call [`RowMachine::on_org`].
    AskOrg(OrgKey),
    /// Send this once, when a slot allows and nothing is paused, then call
    /// [`RowMachine::on_verdict`].
    Send(Op),
    /// Look this up in what was listed before, then call [`RowMachine::on_recalled`].
    Recall(Recall),
    /// Wait this long (jitter is the shell's), then call [`RowMachine::on_timer`].
    Backoff(Duration),
    /// Wait until this long (scaled, without jitter) after an instant, or after now, then call
    /// [`RowMachine::on_timer`].
    WaitOut {
        /// How long.
        wait: Duration,
        /// After what.
        since: Option<Mono>,
    },
    /// The row has an outcome: see [`RowMachine::into_outcome`].
    Settle,
    /// The run stops; the row is as it was. [`RowMachine::on_timer`] would send again.
    Halt(StopReason),
}

/// What a listing of the target may have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// The user with this external id, else the one with this email.
    User {
        /// Trimmed and lower-cased.
        email_norm: String,
        /// The row's.
        external_id: Option<String>,
    },
    /// A membership.
    Membership {
        /// The user.
        user_id: String,
        /// The organization.
        org_id: String,
    },
}

/// One row on its way.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the row"
)]
#[derive(Debug)]
pub struct RowMachine {
    row: Arc<SourceRow>,
    context: RowContext,
    policy: RowPolicy,
    user: Option<UserOutcome>,
    org_id: Option<String>,
    /// A create of the user was sent in this run and its answer is not known.
    user_unclear: bool,
    /// The same for the membership.
    membership_unclear: bool,
    /// The membership was found inactive and is being re-activated.
    reactivating: bool,
    first_look: FirstLook,
    /// There is a listing that may know its user and its membership.
    recalls: bool,
    /// Nothing is really made: whether somebody is there is only known by looking.
    looks_first: bool,
    /// The user is known from the listing alone.
    user_recalled: bool,
    /// The listed user whom the target, or so it seemed, did not know any more.
    forgotten: Option<String>,
    /// The user's membership, once it is settled.
    membership: Option<MembershipOutcome>,
    locale_set: bool,
    /// An enrolment of the factor was sent in this run and its answer is not known.
    factor_unclear: bool,
    factor_enrolled: bool,
    /// Answers 404 in the current step.
    missing: usize,
    attempts: Attempts,
    /// Requests sent, those that were definitely not applied left out.
    requests: u16,
    /// The latest answer that settled nothing, if there was one.
    last: Option<Box<Rejection>>,
    waiting_for: WaitingFor,
}

/// The look for the user before the organization is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstLook {
    NotYet,
    UnderWay,
    Over,
}

impl FirstLook {
    /// Ends the look; returns whether it was under way.
    fn end(&mut self) -> bool {
        std::mem::replace(self, Self::Over) == Self::UnderWay
    }
}

#[derive(Clone, Debug)]
enum WaitingFor {
    Org,
    Answer(Ask),
    Memory(Box<Recall>),
    Timer(Ask),
    Nothing(RowOutcome),
}

/// The request in flight, or to be sent next.
#[derive(Clone, Debug)]
enum Ask {
    CreateUser,
    FindUser {
        by: By,
        why: Why,
    },
    CreateMembership,
    FindMembership {
        why: Why,
    },
    /// After a 404: is it the user that is missing?
    GetUser,
    SetLocale,
    CreateFactor,
    FindFactor {
        why: Why,
    },
}

/// The three ways to find a user, in this order.
#[derive(Clone, Copy, Debug)]
enum By {
    ExternalId,
    Email,
    /// For targets that tell cases apart.
    EmailAsWritten,
}

impl RowMachine {
    /// Makes the machine of a row that passed every local rule.
    #[inline]
    pub fn new(row: impl Into<Arc<SourceRow>>, context: RowContext, policy: RowPolicy) -> Self {
        Self {
            user: context.user.clone(),
            row: row.into(),
            context,
            policy,
            org_id: None,
            user_unclear: false,
            membership_unclear: false,
            reactivating: false,
            first_look: FirstLook::NotYet,
            recalls: false,
            looks_first: false,
            user_recalled: false,
            forgotten: None,
            membership: None,
            locale_set: false,
            factor_unclear: false,
            factor_enrolled: false,
            missing: 0,
            attempts: Attempts::default(),
            requests: 0,
            last: None,
            waiting_for: WaitingFor::Org,
        }
    }

    /// There was a listing before: look there first. A row that is in doubt does not.
    pub const fn recall_first(&mut self) {
        self.recalls = !self.context.suspect;
    }

    /// Creations are not sent, so none of them will say that its user is there: look before.
    pub const fn look_first(&mut self) {
        self.looks_first = true;
    }

    /// Returns which row it is.
    pub fn row(&self) -> RowNumber {
        self.row.number
    }

    /// Returns what [`RowMachine::into_outcome`] would.
    #[cfg(test)]
    pub fn outcome(&self) -> Option<&RowOutcome> {
        match &self.waiting_for {
            WaitingFor::Nothing(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Returns what became of the row, once it was said to be settled.
    #[inline]
    pub fn into_outcome(self) -> Option<RowOutcome> {
        match self.waiting_for {
            WaitingFor::Nothing(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Returns the first thing to do. The organization comes first: a row that cannot join it makes
    /// no user.
    pub fn start(&mut self) -> Action {
        self.waiting_for = WaitingFor::Org;
        if let (Some(reached), Some(_)) = (self.context.reached.clone(), &self.user) {
            self.org_id = reached.org_id;
            self.locale_set = reached.locale_set;
            return self.finish(reached.membership);
        }
        match &self.row.org {
            None => self.user_step(),
            Some(OrgKey::Id(id)) if self.pair_membership().is_some() => {
                self.org_id = Some(id.to_string());
                self.user_step()
            }
            Some(key) => Action::AskOrg(key.clone()),
        }
    }

    /// Returns whether [`RowMachine::user_before_org`] may have something to do.
    pub fn may_look_first(&self) -> bool {
        let leaves_alone = self.policy.on_existing != ExistingPolicy::Link;
        let asks = matches!(self.waiting_for, WaitingFor::Org) && !self.context.follower;
        leaves_alone && asks && self.first_look == FirstLook::NotYet
    }

    /// Instead of waiting for an organization that is not known yet: is this row left alone, because
    /// its user is there? Then nobody looks the organization up, or makes it, for its sake. None if
    /// that is out of the question, or answered.
    pub fn user_before_org(&mut self) -> Option<Action> {
        if !self.may_look_first() {
            return None;
        }
        self.first_look = FirstLook::Over;
        match &self.user {
            Some(user) if user.origin.is_made() => None,
            Some(_) => Some(self.user_step()),
            None => {
                self.first_look = FirstLook::UnderWay;
                Some(if self.recalls {
                    self.recall_user()
                } else {
                    self.look_up_user(Why::First)
                })
            }
        }
    }

    /// Goes on with what became of the organization.
    pub fn on_org(&mut self, answer: OrgAnswer) -> Action {
        if !matches!(self.waiting_for, WaitingFor::Org) {
            return self.again();
        }
        match answer {
            OrgAnswer::Ready { id } => {
                self.org_id = Some(id);
                self.user_step()
            }
            // The lower row's membership stands, whatever became of the organization since.
            OrgAnswer::Failed { .. } if self.pair_membership().is_some() => self.user_step(),
            OrgAnswer::Failed {
                code,
                message,
                http_status,
                parked,
            } => {
                let state = if parked {
                    RowState::Parked
                } else {
                    RowState::Failed
                };
                let error = RowError {
                    code,
                    message,
                    http_status,
                    request_id: None,
                };
                self.settle(state, Some(Step::Organization), None, Some(error))
            }
        }
    }

    /// Goes on with what an answer means. `alive` counts successes of other rows.
    pub fn on_verdict(&mut self, verdict: Verdict, alive: u64) -> Action {
        let ask = match &self.waiting_for {
            WaitingFor::Answer(ask) => ask.clone(),
            WaitingFor::Org
            | WaitingFor::Memory(_)
            | WaitingFor::Timer(_)
            | WaitingFor::Nothing(_) => return self.again(),
        };
        let answer = match verdict {
            Verdict::NotApplied(crate::target::NotApplied::Unauthorized) if plant::is(12) => {
                return self.fail(Step::User, RowError::local("unauthorized", "planted"));
            }
            Verdict::NotApplied(_) => return self.send(ask),
            Verdict::Stop(reason) => return Action::Halt(reason),
            answer => answer,
        };
        self.requests = self.requests.saturating_add(1);
        match ask {
            Ask::CreateUser => self.on_create_user(answer, alive),
            Ask::FindUser { by, why } => self.on_find_user(by, why, answer, alive),
            Ask::CreateMembership => self.on_create_membership(answer, alive),
            Ask::FindMembership { why } => self.on_find_membership(why, answer, alive),
            Ask::GetUser => self.on_get_user(answer, alive),
            Ask::SetLocale => self.on_set_locale(answer, alive),
            Ask::CreateFactor => self.on_create_factor(answer, alive),
            Ask::FindFactor { why } => self.on_find_factor(why, answer, alive),
        }
    }

    /// Goes on with what the listing showed; finding nothing in it means nothing.
    pub fn on_recalled(&mut self, found: Option<&Entity>) -> Action {
        match &self.waiting_for {
            WaitingFor::Memory(what) => match **what {
                Recall::User { .. } => self.on_recalled_user(found),
                Recall::Membership { .. } => self.on_recalled_membership(found),
            },
            _ => self.again(),
        }
    }

    fn recall(&mut self, what: Recall) -> Action {
        self.waiting_for = WaitingFor::Memory(Box::new(what.clone()));
        Action::Recall(what)
    }

    /// Goes on after a wait; sends again what is in flight otherwise.
    pub fn on_timer(&mut self) -> Action {
        self.again()
    }

    /// Repeats the current action: nothing is lost by an event that comes out of turn.
    fn again(&mut self) -> Action {
        match &self.waiting_for {
            WaitingFor::Org => self.start(),
            WaitingFor::Answer(ask) | WaitingFor::Timer(ask) => self.send(ask.clone()),
            WaitingFor::Memory(what) => self.recall(Recall::clone(what)),
            WaitingFor::Nothing(_) => Action::Settle,
        }
    }

    fn send(&mut self, ask: Ask) -> Action {
        let op = self.op(&ask);
        self.waiting_for = WaitingFor::Answer(ask);
        Action::Send(op)
    }

    fn send_after(&mut self, wait: Duration, ask: Ask) -> Action {
        self.waiting_for = WaitingFor::Timer(ask);
        Action::Backoff(wait)
    }

    fn wait_out(&mut self, wait: Duration, since: Option<Mono>, ask: Ask) -> Action {
        self.waiting_for = WaitingFor::Timer(ask);
        Action::WaitOut { wait, since }
    }

    /// An answer that says nothing to what may be asked twice: ask again, unless it was too often.
    fn read_again(&mut self, step: Step, ask: Ask, unclear: Rejection, alive: u64) -> Action {
        self.last = Some(Box::new(unclear));
        let wait = self.attempts.note_unclear(alive);
        if self.attempts.are_spent() {
            return self.park_server_error(step);
        }
        self.send_after(wait, ask)
    }

    fn op(&self, ask: &Ask) -> Op {
        match ask {
            Ask::CreateUser => Op::CreateUser(Arc::clone(&self.row)),
            Ask::FindUser { by, .. } => self.find_user(*by),
            Ask::GetUser => Op::GetUser(self.user_id()),
            Ask::SetLocale => Op::SetLocale {
                user_id: self.user_id(),
                locale: self.row.locale.clone().unwrap_or_default().into(),
            },
            Ask::CreateMembership => Op::CreateMembership {
                user_id: self.user_id(),
                org_id: self.org_id.clone().unwrap_or_default(),
                role_slugs: self
                    .row
                    .role_slugs
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
            Ask::CreateFactor => self.create_factor(),
            Ask::FindFactor { .. } => Op::FindFactor(self.user_id()),
            Ask::FindMembership { .. } => Op::FindMembership {
                user_id: self.user_id(),
                org_id: self.org_id.clone().unwrap_or_default(),
            },
        }
    }

    /// Only called in steps that are not reached without a user.
    fn user_id(&self) -> String {
        let user = self.user.as_ref();
        user.map(|user| user.id.clone()).unwrap_or_default()
    }

    fn pair_membership(&self) -> Option<&String> {
        let pair = self.context.pair_membership.as_ref();
        pair.filter(|_| self.context.follower && self.user.is_some())
    }

    fn settle_well(&mut self, membership: Option<MembershipOutcome>) -> Action {
        let origin = self.user.as_ref().map(|user| user.origin);
        let state = match origin {
            _ if self.context.follower => RowState::Merged,
            Some(Origin::Made(Evidence::Answered)) => RowState::Created,
            Some(Origin::Made(Evidence::Dated | Evidence::Weak)) => RowState::Recovered,
            Some(Origin::Before) | None => RowState::Linked,
        };
        self.settle(state, None, membership, None)
    }

    fn fail(&mut self, step: Step, error: RowError) -> Action {
        let membership = self.membership.clone();
        self.settle(RowState::Failed, Some(step), membership, Some(error))
    }

    fn park(&mut self, step: Step, error: RowError) -> Action {
        let membership = self.membership.clone();
        self.settle(RowState::Parked, Some(step), membership, Some(error))
    }

    /// Eight attempts settled nothing while other rows succeeded.
    fn park_server_error(&mut self, step: Step) -> Action {
        let last = self.answered("server_error");
        let message = format!(
            "the target's answers did not settle this row; the last one was {}",
            or(&last.message, &self.last().code)
        );
        self.park(step, RowError { message, ..last })
    }

    /// The target says it exists and never shows it.
    fn park_invisible(&mut self, step: Step) -> Action {
        let message = "the target says that it exists already, but no look-up finds it".to_owned();
        let error = RowError {
            message,
            ..self.answered("exists_but_invisible")
        };
        self.park(step, error)
    }

    fn settle(
        &mut self,
        state: RowState,
        step: Option<Step>,
        membership: Option<MembershipOutcome>,
        error: Option<RowError>,
    ) -> Action {
        // Nothing is asked of this machine any more but this outcome.
        self.waiting_for = WaitingFor::Nothing(RowOutcome {
            row: self.row.number,
            state,
            step,
            user: self.user.take(),
            org_id: self.org_id.take(),
            membership,
            attempts: self.requests,
            error: error.map(Box::new),
            unknown_role: None,
        });
        Action::Settle
    }

    fn last(&self) -> Rejection {
        self.last.as_deref().cloned().unwrap_or_default()
    }

    /// The latest unclear answer as an error with a code of ours.
    fn answered(&self, code: &str) -> RowError {
        RowError {
            code: code.to_owned(),
            ..self.refusal(&self.last())
        }
    }

    /// A refusal in the target's words, without the person it speaks of.
    fn refusal(&self, rejection: &Rejection) -> RowError {
        let row = &self.row;
        let cells = [
            Some(row.email.as_str()),
            Some(row.email_norm()),
            row.first_name.as_deref(),
            row.last_name.as_deref(),
            row.external_id.as_deref(),
        ];
        let mut secrets: Vec<&str> = row.credential.iter().map(workos::unspeakable).collect();
        secrets.extend(row.totp.as_deref().map(workos::unspeakable_secret));
        secrets.extend(cells.into_iter().flatten());
        secrets.extend(row.metadata.iter().map(|(_, value)| value.as_str()));
        let message = escape::without_people(&rejection.message, &secrets);
        RowError {
            message: or(&message, "the target gave no reason").to_owned(),
            code: rejection.code.clone(),
            http_status: rejection.http_status,
            request_id: rejection.request_id.clone(),
        }
    }
}

/// What a verdict stands for that no answer to this request can have.
fn unexpected() -> Rejection {
    Rejection {
        code: "malformed_answer".to_owned(),
        ..Rejection::default()
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod recall_tests;
#[cfg(test)]
mod tests;
