//! One organization as a state machine: looked up, or made after a durable intent.
//!
//! # Owns
//! What is sent next for an organization, and what became of it.
//! # Never
//! Decides *whether* it may be made (the coordinator does, and commits the intent first). Makes one
//! without an external id: names are not unique, so a repeated create would make two.
//! # Invariants
//! I5, I7 for organizations: found after our own unclear create, and not older than its intent, it
//! is ours; otherwise it was there before.

use super::attempts::{Attempts, Why};
use super::reconcile::Standing;
use crate::model::{Evidence, OrgKey, Origin, ServerMs, escape};
pub use crate::protocol::OrgVerdict;
use crate::target::{Entity, ORGANIZATION_AMBIGUOUS, Op, Rejection, StopReason, Verdict};
use std::time::Duration;

/// What the shell does next for the organization.
#[derive(Clone, Debug)]
pub enum OrgAction {
    /// Send this once, then call [`OrgMachine::on_verdict`].
    Send(Op),
    /// Wait this long (jitter is the shell's), then call [`OrgMachine::on_timer`].
    Backoff(Duration),
    /// It is over.
    Done(OrgVerdict),
    /// The run stops; nothing is known. [`OrgMachine::on_timer`] would send again.
    Halt(StopReason),
}

/// One organization on its way.
#[derive(Debug)]
pub struct OrgMachine {
    key: OrgKey,
    /// Present when it is to be made if missing.
    creation: Option<Creation>,
    attempts: Attempts,
    last: Rejection,
    waiting_for: WaitingFor,
}

#[derive(Debug)]
struct Creation {
    name: String,
    /// When making it was first intended, by the target's clock.
    intent: ServerMs,
    /// A create may have been applied without our knowing.
    maybe_ours: bool,
}

#[derive(Clone, Debug)]
enum WaitingFor {
    Answer(Ask),
    Timer(Ask),
    Nothing(OrgVerdict),
}

#[derive(Clone, Debug)]
enum Ask {
    Find(Why),
    /// One that is known by name may be there under an external id of somebody else's, or none.
    FindByName,
    Create,
}

impl OrgMachine {
    /// Makes the machine that only looks.
    pub fn lookup(key: OrgKey) -> Self {
        Self::new(key, None, Ask::Find(Why::First))
    }

    /// Makes the machine that makes it. `intent` is when that was first committed; `suspect` says
    /// that an earlier run or worker may have sent the create: then it looks first.
    pub fn create(key: OrgKey, name: String, intent: ServerMs, suspect: bool) -> Self {
        let first = match &key {
            OrgKey::External(_) | OrgKey::Name(_) if !suspect => Ask::Create,
            // The target's own id cannot be given to a new organization: it is only looked for.
            OrgKey::External(_) | OrgKey::Name(_) | OrgKey::Id(_) => Ask::Find(Why::First),
        };
        let creation = Creation {
            name,
            intent,
            maybe_ours: suspect,
        };
        Self::new(key, Some(creation), first)
    }

    fn new(key: OrgKey, creation: Option<Creation>, first: Ask) -> Self {
        Self {
            key,
            creation,
            attempts: Attempts::default(),
            last: Rejection::default(),
            waiting_for: WaitingFor::Timer(first),
        }
    }

    /// Returns the first thing to do.
    pub fn start(&mut self) -> OrgAction {
        self.again()
    }

    /// Goes on after a wait; sends again what is in flight otherwise.
    pub fn on_timer(&mut self) -> OrgAction {
        self.again()
    }

    /// Goes on with what an answer means. `alive` counts successes elsewhere.
    pub fn on_verdict(&mut self, verdict: Verdict, alive: u64) -> OrgAction {
        let ask = match &self.waiting_for {
            WaitingFor::Answer(ask) => ask.clone(),
            WaitingFor::Timer(_) | WaitingFor::Nothing(_) => return self.again(),
        };
        match verdict {
            Verdict::NotApplied(_) => self.send(ask),
            Verdict::Stop(reason) => OrgAction::Halt(reason),
            answer => match ask {
                Ask::Create => self.on_create(answer, alive),
                Ask::Find(why) => self.on_find(why, answer, alive),
                Ask::FindByName => self.on_named(answer, alive),
            },
        }
    }

    fn again(&mut self) -> OrgAction {
        match self.waiting_for.clone() {
            WaitingFor::Answer(ask) | WaitingFor::Timer(ask) => self.send(ask),
            WaitingFor::Nothing(verdict) => OrgAction::Done(verdict),
        }
    }

    fn send(&mut self, ask: Ask) -> OrgAction {
        let op = match (&ask, self.key.external_id(), &self.creation) {
            (Ask::Create, Some(external_id), Some(creation)) => Op::CreateOrg {
                external_id: external_id.into_owned(),
                name: creation.name.clone(),
            },
            (Ask::FindByName, ..) => Op::FindOrgByName(self.key.as_str().to_owned()),
            (_, Some(external_id), _) => Op::FindOrgByExternalId(external_id.into_owned()),
            (_, None, _) => Op::GetOrg(self.key.as_str().to_owned()),
        };
        self.waiting_for = WaitingFor::Answer(ask);
        OrgAction::Send(op)
    }

    fn send_after(&mut self, wait: Duration, ask: Ask) -> OrgAction {
        self.waiting_for = WaitingFor::Timer(ask);
        OrgAction::Backoff(wait)
    }

    fn done(&mut self, verdict: OrgVerdict) -> OrgAction {
        self.waiting_for = WaitingFor::Nothing(verdict.clone());
        OrgAction::Done(verdict)
    }

    fn on_create(&mut self, answer: Verdict, alive: u64) -> OrgAction {
        match answer {
            Verdict::Ok(entity) => self.done(OrgVerdict::Ready {
                id: entity.id,
                origin: Origin::Made(Evidence::Answered),
            }),
            Verdict::Exists(rejection) => {
                self.last = rejection;
                self.send(Ask::Find(Why::Exists { reread: 0 }))
            }
            Verdict::Rejected(rejection) if self.standing().maybe_ours => {
                self.send(Ask::Find(Why::BeforeFailing {
                    rejection: Box::new(rejection),
                    reread: 0,
                }))
            }
            Verdict::Rejected(rejection) => self.fail(&rejection),
            Verdict::Ambiguous(rejection) => self.create_unclear(rejection, alive),
            Verdict::Made(_)
            | Verdict::Absent
            | Verdict::OddEcho(_)
            | Verdict::NotApplied(_)
            | Verdict::Stop(_) => self.create_unclear(Rejection::default(), alive),
        }
    }

    fn create_unclear(&mut self, rejection: Rejection, alive: u64) -> OrgAction {
        if let Some(creation) = &mut self.creation {
            creation.maybe_ours = true;
        }
        self.last = rejection;
        let wait = self.attempts.note_unclear(alive);
        // Looked up even after the last attempt: it may be the one that was applied.
        self.send_after(wait, Ask::Find(Why::Unclear))
    }

    fn on_find(&mut self, why: Why, answer: Verdict, alive: u64) -> OrgAction {
        let unclear = match answer {
            Verdict::Ok(entity) => return self.on_found(*entity),
            Verdict::Absent => return self.on_nothing(why),
            Verdict::Ambiguous(rejection)
            | Verdict::Rejected(rejection)
            | Verdict::Exists(rejection) => rejection,
            Verdict::Made(_) | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                Rejection::default()
            }
        };
        self.last = unclear;
        let wait = self.attempts.note_unclear(alive);
        if self.attempts.are_spent() {
            return self.park("server_error", "the target's answers did not settle it");
        }
        self.send_after(wait, Ask::Find(why))
    }

    /// What has the name and not our external id was there before.
    fn on_named(&mut self, answer: Verdict, alive: u64) -> OrgAction {
        match answer {
            Verdict::Ok(entity) => self.done(OrgVerdict::Ready {
                id: entity.id,
                origin: Origin::Before,
            }),
            Verdict::Absent if self.creation.is_none() => self.done(OrgVerdict::Absent),
            Verdict::Absent => self.send(Ask::Create),
            Verdict::Rejected(rejection) if rejection.code == ORGANIZATION_AMBIGUOUS => {
                self.done(OrgVerdict::Failed {
                    code: rejection.code,
                    message: rejection.message,
                    http_status: None,
                    parked: false,
                })
            }
            Verdict::Ambiguous(rejection)
            | Verdict::Rejected(rejection)
            | Verdict::Exists(rejection) => self.named_unclear(rejection, alive),
            Verdict::Made(_) | Verdict::OddEcho(_) | Verdict::NotApplied(_) | Verdict::Stop(_) => {
                self.named_unclear(Rejection::default(), alive)
            }
        }
    }

    fn named_unclear(&mut self, rejection: Rejection, alive: u64) -> OrgAction {
        self.last = rejection;
        let wait = self.attempts.note_unclear(alive);
        if self.attempts.are_spent() {
            return self.park("server_error", "the target's answers did not settle it");
        }
        self.send_after(wait, Ask::FindByName)
    }

    fn on_found(&mut self, entity: Entity) -> OrgAction {
        let origin = if self.standing().covers(entity.created_at) {
            Origin::Made(Evidence::Dated)
        } else {
            Origin::Before
        };
        let id = entity.id;
        self.done(OrgVerdict::Ready { id, origin })
    }

    fn on_nothing(&mut self, why: Why) -> OrgAction {
        if let OrgKey::Id(id) = &self.key {
            let message = format!("there is no organization with the id {}", escape::shown(id));
            return self.done(OrgVerdict::Failed {
                code: "organization_not_found".to_owned(),
                message,
                http_status: None,
                parked: false,
            });
        }
        if matches!((&self.key, &why), (OrgKey::Name(_), Why::First)) {
            return self.send(Ask::FindByName);
        }
        if self.creation.is_none() {
            return self.done(OrgVerdict::Absent);
        }
        if let Some((wait, why)) = why.look_again() {
            return self.send_after(wait, Ask::Find(why));
        }
        match why {
            Why::Exists { .. } => {
                self.attempts.note_invisible();
                if self.attempts.are_spent() {
                    let why = "the target says that it exists already, but no look-up finds it";
                    return self.park("exists_but_invisible", why);
                }
                self.send(Ask::Create)
            }
            Why::Unclear if self.attempts.are_spent() => {
                self.park("server_error", "the target's answers did not settle it")
            }
            Why::First | Why::Unclear => self.send(Ask::Create),
            Why::BeforeFailing { rejection, .. } => self.fail(&rejection),
        }
    }

    fn standing(&self) -> Standing {
        let creation = self.creation.as_ref();
        Standing {
            maybe_ours: creation.is_some_and(|creation| creation.maybe_ours),
            t_lo: creation.map_or(ServerMs::default(), |creation| creation.intent),
        }
    }

    fn fail(&mut self, rejection: &Rejection) -> OrgAction {
        let said = escape::without_people(&rejection.message, &[]);
        let code = rejection.code.clone();
        let message = if said.is_empty() {
            format!("the target refuses to make this organization ({code})")
        } else {
            said
        };
        self.done(OrgVerdict::Failed {
            code,
            message,
            http_status: rejection.http_status,
            parked: false,
        })
    }

    fn park(&mut self, code: &str, message: &str) -> OrgAction {
        let http_status = self.last.http_status;
        self.done(OrgVerdict::Failed {
            code: code.to_owned(),
            message: message.to_owned(),
            http_status,
            parked: true,
        })
    }
}

#[cfg(test)]
mod tests;
