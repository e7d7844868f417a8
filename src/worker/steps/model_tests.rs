//! The machine against a tiny target that loses answers, applies late, lags, and dies with us.
//!
//! The judge is what the model holds in the end, never what the machine believed on the way.

use super::fixtures::source_row;
use super::*;
use crate::model::MembershipState;
use crate::model::ServerMs;
use crate::target::NotApplied;
use proptest::prelude::*;
use std::mem;

const T_LO: i64 = 10_000;
const OLD: i64 = 500;

/// What goes wrong with one request, or right before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// 429 or no connection: not applied, and known not to be.
    NotApplied,
    /// No answer; never applied.
    LostBefore,
    /// No answer; applied.
    LostAfter,
    /// No answer; applied some time later.
    LostLate,
    /// The worker dies before it sees the answer; applied.
    Crash,
    /// Somebody signs up with the row's email right before the request.
    Signup,
    /// The same, with the row's names too: nothing but an external id tells the two apart.
    Twin,
    /// From now on the target refuses to make users.
    RefuseUsers,
    /// From now on the target refuses to make memberships.
    RefuseMemberships,
}

impl Fault {
    /// Returns whether afterwards a request may have been applied without our knowing.
    const fn is_unclear(self) -> bool {
        matches!(
            self,
            Self::LostBefore | Self::LostAfter | Self::LostLate | Self::Crash
        )
    }
}

#[derive(Clone, Debug)]
struct User {
    entity: Entity,
    ours: bool,
}

#[derive(Clone, Debug)]
struct Membership {
    entity: Entity,
    user_id: String,
    ours: bool,
}

#[derive(Debug)]
struct Target {
    now: i64,
    /// How long readers do not see what writers made, in milliseconds.
    lag: i64,
    refuses_user: bool,
    refuses_membership: bool,
    users: Vec<User>,
    memberships: Vec<Membership>,
    /// Nothing makes them unique.
    factors: Vec<(String, Entity)>,
    late: Vec<(i64, Op)>,
}

impl Target {
    fn pass(&mut self, millis: i64) {
        let end = self.now + millis;
        let late = mem::take(&mut self.late);
        let (due, rest) = late.into_iter().partition(|(at, _)| *at <= end);
        self.late = rest;
        let due: Vec<(i64, Op)> = due;
        // Applied when it comes, not when somebody looks: readers are behind from then on.
        for (at, op) in due {
            self.now = self.now.max(at);
            self.apply(&op);
        }
        self.now = end;
    }

    fn is_visible(&self, entity: &Entity) -> bool {
        entity
            .created_at
            .is_some_and(|ServerMs(at)| at + self.lag <= self.now)
    }

    fn entity(&self, kind: &str) -> Entity {
        Entity {
            id: format!(
                "{kind}_{}",
                self.users.len() + self.memberships.len() + self.factors.len()
            ),
            created_at: Some(ServerMs(self.now)),
            ..Entity::default()
        }
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        let found = |entity: Option<&Entity>| {
            entity.map_or(Verdict::Absent, |entity| {
                Verdict::Ok(Box::new(entity.clone()))
            })
        };
        match op {
            Op::CreateUser(user) => self.create_user(user),
            Op::CreateMembership { user_id, .. } => self.create_membership(user_id),
            Op::FindUserByExternalId(external_id) => {
                found(self.user(|user| user.external_id.as_ref() == Some(external_id)))
            }
            Op::FindUserByEmail(email) => {
                found(self.user(|user| user.email.as_ref() == Some(&email.to_lowercase())))
            }
            Op::GetUser(id) => found(self.user(|user| user.id == *id)),
            Op::FindMembership { user_id, .. } => {
                let mut all = self.memberships.iter();
                let mine = all.find(|membership| membership.user_id == *user_id);
                let mine = mine.map(|membership| &membership.entity);
                found(mine.filter(|entity| self.is_visible(entity)))
            }
            Op::SetLocale { .. } => Verdict::Ok(Box::default()),
            Op::CreateFactor(factor) => {
                let entity = self.entity("auth_factor");
                self.factors.push((factor.user_id.clone(), entity.clone()));
                Verdict::Ok(Box::new(entity))
            }
            Op::FindFactor(user_id) => {
                let mut all = self.factors.iter().map(|(user, entity)| (user, entity));
                let mine = all.find(|(user, entity)| *user == user_id && self.is_visible(entity));
                found(mine.map(|(_, entity)| entity))
            }
            other => panic!("a row never sends {}", other.name()),
        }
    }

    /// What a listing of it has shown.
    fn recall(&self, what: &Recall) -> Option<Entity> {
        let found = match what {
            Recall::User {
                email_norm,
                external_id,
            } => {
                let by_id = external_id
                    .as_ref()
                    .and_then(|id| self.user(|user| user.external_id.as_ref() == Some(id)));
                by_id.or_else(|| self.user(|user| user.email.as_ref() == Some(email_norm)))
            }
            Recall::Membership { user_id, .. } => {
                let mut all = self.memberships.iter();
                let mine = all.find(|membership| membership.user_id == *user_id);
                mine.map(|membership| &membership.entity)
            }
        };
        found.cloned()
    }

    fn user(&self, is_it: impl Fn(&Entity) -> bool) -> Option<&Entity> {
        let mut entities = self.users.iter().map(|user| &user.entity);
        entities.find(|entity| is_it(entity) && self.is_visible(entity))
    }

    fn create_user(&mut self, user: &SourceRow) -> Verdict {
        let email = String::from(user.email.to_lowercase());
        let taken = self.users.iter().any(|User { entity, .. }| {
            entity.email.as_ref() == Some(&email)
                || (user.external_id.is_some()
                    && entity.external_id.as_deref() == user.external_id.as_deref())
        });
        if self.refuses_user {
            return Verdict::Rejected(Rejection::default());
        }
        if taken {
            return Verdict::Exists(Rejection::default());
        }
        let entity = Entity {
            email: Some(email),
            external_id: user.external_id.clone().map(String::from),
            first_name: user.first_name.clone().map(String::from),
            last_name: user.last_name.clone().map(String::from),
            email_verified: user.email_verified,
            ..self.entity("user")
        };
        let id = entity.id.clone();
        self.users.push(User { entity, ours: true });
        Verdict::Made(id)
    }

    fn create_membership(&mut self, user_id: &str) -> Verdict {
        if self.refuses_membership {
            return Verdict::Rejected(Rejection::default());
        }
        let mut all = self.memberships.iter_mut();
        if let Some(membership) = all.find(|membership| membership.user_id == user_id) {
            if membership.entity.status.as_deref() != Some("inactive") {
                return Verdict::Exists(Rejection::default());
            }
            membership.entity.status = Some("active".to_owned());
            return Verdict::Ok(Box::new(membership.entity.clone()));
        }
        self.add_membership(user_id, "active", true)
    }

    fn add_membership(&mut self, user_id: &str, status: &str, ours: bool) -> Verdict {
        let entity = Entity {
            status: Some(status.to_owned()),
            ..self.entity("om")
        };
        let id = entity.id.clone();
        self.memberships.push(Membership {
            entity,
            user_id: user_id.to_owned(),
            ours,
        });
        Verdict::Made(id)
    }

    /// Somebody else, at this moment.
    fn sign_up(&mut self, first_name: Option<&str>) {
        let email = source_row().email_norm().to_owned();
        if self
            .users
            .iter()
            .any(|user| user.entity.email.as_ref() == Some(&email))
        {
            return;
        }
        let entity = Entity {
            email: Some(email),
            first_name: first_name.map(str::to_owned),
            last_name: source_row().last_name.map(String::from),
            email_verified: source_row().email_verified,
            ..self.entity("user")
        };
        self.users.push(User {
            entity,
            ours: false,
        });
    }
}

/// Who has the row's email when the job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nobody,
    SomebodyWith(Option<&'static str>),
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, all combined"
)]
#[derive(Clone, Debug)]
struct Setting {
    external_id: bool,
    org: bool,
    /// The row brings a locale and a second factor.
    finish: bool,
    mixed_case: bool,
    reactivate: bool,
    /// The target was listed before.
    recalls: bool,
    before: Before,
    /// The status of that user's membership.
    joined: Option<&'static str>,
    lag: i64,
    refuses_user: bool,
    refuses_membership: bool,
    faults: Vec<Fault>,
}

fn setting() -> impl Strategy<Value = Setting> {
    let fault = prop::sample::select(vec![
        Fault::None,
        Fault::NotApplied,
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::LostLate,
        Fault::Crash,
        Fault::Signup,
        Fault::Twin,
        Fault::RefuseUsers,
        Fault::RefuseMemberships,
    ]);
    let before = prop::sample::select(vec![
        Before::Nobody,
        Before::Nobody,
        Before::SomebodyWith(None),
        Before::SomebodyWith(Some("7")),
        Before::SomebodyWith(Some("8")),
    ]);
    let joined = prop::sample::select(vec![
        None,
        Some("active"),
        Some("inactive"),
        Some("pending"),
    ]);
    let lag = prop::sample::select(vec![0, 0, 700, 4_000]);
    let flags = prop::array::uniform6(any::<bool>());
    let refusals = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (
        flags,
        before,
        joined,
        lag,
        refusals,
        prop::collection::vec(fault, 0..7),
    )
        .prop_map(
            |(
                [external_id, org, finish, mixed_case, reactivate, recalls],
                before,
                joined,
                lag,
                refusals,
                faults,
            )| {
                Setting {
                    external_id,
                    org,
                    finish,
                    mixed_case,
                    reactivate,
                    recalls,
                    before,
                    joined,
                    lag,
                    refuses_user: refusals.0,
                    refuses_membership: refusals.1,
                    faults,
                }
            },
        )
}

impl Setting {
    fn row(&self) -> SourceRow {
        let row = source_row();
        let email = if self.mixed_case {
            row.email
        } else {
            row.email_norm().into()
        };
        SourceRow {
            email,
            external_id: self.external_id.then(|| "7".into()),
            locale: self.finish.then(|| "en".into()),
            totp: self.finish.then(|| {
                Box::new(crate::source::Totp {
                    secret: "JBSWY3DPEHPK3PXP".into(),
                    issuer: None,
                })
            }),
            org: self.org.then(|| OrgKey::Id("org_1".into())),
            ..row
        }
    }

    fn target(&self) -> Target {
        let mut target = Target {
            now: OLD,
            lag: self.lag,
            refuses_user: self.refuses_user,
            refuses_membership: self.refuses_membership,
            users: Vec::new(),
            memberships: Vec::new(),
            factors: Vec::new(),
            late: Vec::new(),
        };
        if let Before::SomebodyWith(external_id) = self.before {
            target.sign_up(Some("Anna"));
            target.users[0].entity.external_id = external_id.map(str::to_owned);
            let id = target.users[0].entity.id.clone();
            if let Some(status) = self.joined {
                target.add_membership(&id, status, false);
            }
        }
        target.now = T_LO;
        target
    }

    fn machine(&self, suspect: bool) -> RowMachine {
        let context = RowContext {
            suspect,
            t_lo: ServerMs(T_LO),
            ..RowContext::default()
        };
        let policy = RowPolicy {
            on_existing: ExistingPolicy::Link,
            reactivate: self.reactivate,
        };
        let mut machine = RowMachine::new(self.row(), context, policy);
        if self.recalls {
            machine.recall_first();
        }
        machine
    }

    /// Drives the row to its outcome, through as many deaths as the faults ask for.
    fn run(&self) -> (Target, RowOutcome) {
        let (mut target, memory) = (self.target(), self.target());
        let mut faults = self.faults.iter().copied();
        let mut machine = self.machine(false);
        let mut action = machine.start();
        for alive in 0..2_000 {
            target.pass(20);
            action = match action {
                Action::AskOrg(_) => machine.on_org(OrgAnswer::Ready {
                    id: "org_1".to_owned(),
                }),
                Action::Send(op) => {
                    let fault = faults.next().unwrap_or(Fault::None);
                    if let Some(verdict) = exchange(&mut target, &op, fault) {
                        machine.on_verdict(verdict, alive)
                    } else {
                        machine = self.machine(true);
                        machine.start()
                    }
                }
                Action::Recall(what) => machine.on_recalled(memory.recall(&what).as_ref()),
                Action::Backoff(wait) | Action::WaitOut { wait, .. } => {
                    target.pass(i64::try_from(wait.as_millis()).unwrap());
                    machine.on_timer()
                }
                Action::Settle => {
                    target.pass(60_000);
                    return (target, machine.into_outcome().unwrap());
                }
                Action::Halt(reason) => panic!("halted: {reason:?}"),
            };
        }
        panic!("the row does not end");
    }
}

/// One request through one fault; `None` when the worker dies with it.
fn exchange(target: &mut Target, op: &Op, fault: Fault) -> Option<Verdict> {
    let lost = || Some(Verdict::Ambiguous(Rejection::default()));
    match fault {
        Fault::None => Some(target.apply(op)),
        Fault::NotApplied => Some(Verdict::NotApplied(NotApplied::Throttled(None))),
        Fault::LostBefore => lost(),
        Fault::LostAfter => {
            target.apply(op);
            lost()
        }
        Fault::LostLate => {
            target.late.push((target.now + 1_200, op.clone()));
            lost()
        }
        Fault::Crash => {
            target.apply(op);
            None
        }
        Fault::Signup => {
            target.sign_up(Some("Anna"));
            Some(target.apply(op))
        }
        Fault::Twin => {
            target.sign_up(source_row().first_name.as_deref());
            Some(target.apply(op))
        }
        Fault::RefuseUsers => {
            target.refuses_user = true;
            Some(target.apply(op))
        }
        Fault::RefuseMemberships => {
            target.refuses_membership = true;
            Some(target.apply(op))
        }
    }
}

/// I5, I6, I7 for this row, by what the target holds.
fn judge(setting: &Setting, target: &Target, outcome: &RowOutcome) -> Result<(), TestCaseError> {
    prop_assert!(target.users.len() <= 2 && target.memberships.len() <= 1);
    let has = |fault| setting.faults.contains(&fault);
    let was_unclear = setting.faults.iter().any(|fault| fault.is_unclear());
    let holds_ours = target.users.iter().any(|user| user.ours);
    let user = outcome.user.as_ref().and_then(|known| {
        let mut users = target.users.iter();
        users.find(|user| user.entity.id == known.id)
    });
    match (outcome.state, outcome.step) {
        // Weak evidence is weak: it says so, and undo leaves it alone.
        (RowState::Recovered, None) if is_weak(outcome) => {
            prop_assert!(user.is_some_and(|user| user.ours) || (has(Fault::Twin) && was_unclear));
        }
        (RowState::Created | RowState::Recovered, None) => {
            prop_assert!(user.is_some_and(|user| user.ours));
        }
        (RowState::Linked, None) => prop_assert!(user.is_some_and(|user| !user.ours)),
        (RowState::Failed, Some(Step::User)) => prop_assert!(!holds_ours),
        (RowState::Failed, Some(Step::Membership)) => {
            prop_assert!(user.is_some());
            prop_assert!(!target.memberships.iter().any(|membership| membership.ours));
        }
        // With fewer than eight faults only a signup in between is unclear.
        (RowState::Parked, Some(Step::User)) => {
            prop_assert!(has(Fault::Signup) || has(Fault::Twin));
            let code = outcome.error.as_ref().map(|error| error.code.as_str());
            prop_assert_eq!(code, Some("maybe_concurrent_signup"));
            prop_assert!(!holds_ours);
        }
        other => prop_assert!(false, "no row ends as {:?}", other),
    }
    if let (Some(known), Some(user)) = (&outcome.user, user) {
        prop_assert!(is_weak(outcome) || known.origin.is_made() == user.ours);
    }
    let is_good = outcome.step.is_none();
    let finished = is_good && known_as_made(outcome) && setting.finish;
    prop_assert_eq!(target.factors.len(), usize::from(finished));
    prop_assert!(
        target
            .factors
            .iter()
            .all(|(user, _)| outcome.user.as_ref().is_some_and(|known| known.id == *user))
    );
    prop_assert_eq!(outcome.error.is_some(), !is_good);
    if is_good && setting.org {
        judge_membership(target, outcome)?;
    }
    if setting.before != Before::Nobody && setting.joined == Some("inactive") {
        let held = target.memberships.first();
        let status = held.and_then(|held| held.entity.status.as_deref());
        let told = outcome.membership.as_ref().map(|told| told.state);
        let is_told = told == Some(MembershipState::Reactivated);
        prop_assert!(setting.reactivate || status == Some("inactive"));
        prop_assert!(!is_good || !setting.org || has(Fault::Crash) || is_told);
    }
    Ok(())
}

fn known_as_made(outcome: &RowOutcome) -> bool {
    let user = outcome.user.as_ref();
    user.is_some_and(|user| user.origin.is_made())
}

fn is_weak(outcome: &RowOutcome) -> bool {
    let origin = outcome.user.as_ref().map(|user| user.origin);
    origin == Some(Origin::Made(Evidence::Weak))
}

fn judge_membership(target: &Target, outcome: &RowOutcome) -> Result<(), TestCaseError> {
    let told = outcome.membership.as_ref();
    let held = target.memberships.first();
    let (Some(told), Some(held)) = (told, held) else {
        return Err(TestCaseError::fail("no membership"));
    };
    prop_assert_eq!(told.id.as_ref(), Some(&held.entity.id));
    prop_assert_eq!(held.entity.status.as_deref(), Some("active"));
    prop_assert_eq!(
        outcome.user.as_ref().map(|user| &user.id),
        Some(&held.user_id)
    );
    let is_ours = matches!(
        told.state,
        MembershipState::Created | MembershipState::Recovered
    );
    prop_assert_eq!(is_ours, held.ours, "{:?}", told.state);
    Ok(())
}

proptest! {
    #![proptest_config(crate::fuzz::cases(4_096))]

    #[test]
    fn a_row_ends_and_its_outcome_is_what_the_target_holds(setting in setting()) {
        let (target, outcome) = setting.run();
        let judged = judge(&setting, &target, &outcome);
        prop_assert!(judged.is_ok(), "{judged:?}\n{outcome:#?}\n{target:#?}");
    }
}
