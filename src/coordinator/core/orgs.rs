//! One flight per organization: whoever asks first looks it up, everybody else waits.
//!
//! unknown → looking up → absent → intent (durable) → creating → ready (durable) → answered.
//! What is ready is write-once (a different id for a known key is an error of the ledger). That
//! there is none, or that nobody could tell, is true for a while only: later rows, and those of
//! another run, have it looked up again (I5). A resolver that dies hands the key to another waiting
//! worker, and the intent stays: what it sent may have been applied (I9).

use crate::ledger::{OrgImage, OrgState};
use crate::model::{Mono, OrgKey, ServerMs, WorkerId, plant};
use crate::protocol::{OrgAnswer, OrgVerdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a failure is told to whoever asks before the target is asked again: one look-up in this
/// time costs nothing, and whoever makes the missing organization does not wait long.
pub(super) const FAILURE_STANDS: Duration = Duration::from_secs(30);

/// What has to happen next for an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrgStep {
    /// Tell this worker what is known.
    Answer(WorkerId, OrgAnswer),
    /// This worker looks it up.
    LookUp(WorkerId),
    /// Make the intent durable.
    Intend,
    /// This worker creates it.
    Create {
        worker: WorkerId,
        intent: ServerMs,
        suspect: bool,
    },
    /// Make the result durable.
    Record(OrgState),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// Nobody is on it.
    None,
    LookingUp(WorkerId),
    /// The intent is being committed; then this worker creates it.
    Intending(WorkerId),
    Creating(WorkerId),
    /// The result is being committed.
    Recording,
}

#[derive(Debug)]
struct Org {
    flight: Flight,
    waiters: BTreeSet<WorkerId>,
    intent: Option<ServerMs>,
    state: Option<OrgState>,
    /// Until then a failure is told as it is. Of another run's nothing is known.
    stands_until: Option<Mono>,
}

impl Org {
    /// Returns what is told without asking the target.
    fn known(&self, now: Mono) -> Option<&OrgState> {
        let state = self.state.as_ref()?;
        let stands = match state {
            OrgState::Ready { .. } => true,
            OrgState::Failed { .. } => self.stands_until.is_some_and(|until| now < until),
        };
        (stands && self.flight == Flight::None).then_some(state)
    }
}

/// Every organization met so far.
#[derive(Debug)]
pub(super) struct Orgs {
    may_create: bool,
    /// Creating any of them may have been intended before: the ledger that knew is lost.
    every_intent: Option<ServerMs>,
    known: BTreeMap<OrgKey, Org>,
    /// Organizations in the order in which they became ready: what hints are cut from.
    found: Vec<(OrgKey, String)>,
}

/// Turns what is known into what rows are told.
pub(super) fn answer_of(state: &OrgState) -> OrgAnswer {
    match state {
        OrgState::Ready { id, .. } => OrgAnswer::Ready { id: id.clone() },
        OrgState::Failed {
            code,
            message,
            http_status,
            parked,
        } => OrgAnswer::Failed {
            code: code.clone(),
            message: message.clone(),
            http_status: *http_status,
            parked: *parked,
        },
    }
}

impl Orgs {
    /// Takes the organizations of a job as the ledger knows them.
    pub(super) fn load(images: BTreeMap<OrgKey, OrgImage>, may_create: bool) -> Self {
        let mut orgs = Self {
            may_create,
            every_intent: None,
            known: BTreeMap::new(),
            found: Vec::new(),
        };
        for (key, OrgImage { intent, state }) in images {
            if let Some(OrgState::Ready { id, .. }) = &state {
                orgs.found.push((key.clone(), id.clone()));
            }
            let org = Org {
                flight: Flight::None,
                waiters: BTreeSet::new(),
                intent,
                state,
                stands_until: None,
            };
            orgs.known.insert(key, org);
        }
        orgs
    }

    /// Takes it that creating any organization may have been intended since `intent`: each is
    /// looked up before it is created, and one that is found and not older is ours.
    #[must_use]
    pub(super) fn all_intended(self, intent: Option<ServerMs>) -> Self {
        Self {
            every_intent: intent.filter(|_| self.may_create),
            ..self
        }
    }

    /// A worker wants to know.
    pub(super) fn on_ask(&mut self, now: Mono, worker: WorkerId, key: &OrgKey) -> Option<OrgStep> {
        // The target's own id cannot be given to a new organization.
        let intent = self.every_intent.filter(|_| !matches!(key, OrgKey::Id(_)));
        let org = self.known.entry(key.clone()).or_insert_with(|| Org {
            flight: Flight::None,
            waiters: BTreeSet::new(),
            intent,
            state: None,
            stands_until: None,
        });
        if let Some(state) = org.known(now) {
            return Some(OrgStep::Answer(worker, answer_of(state)));
        }
        org.waiters.insert(worker);
        if org.flight == Flight::None || plant::is(14) {
            Some(Self::take_off(org, worker))
        } else {
            None
        }
    }

    /// The named worker reports. Reports of anybody else change nothing.
    pub(super) fn on_done(
        &mut self,
        worker: WorkerId,
        key: &OrgKey,
        verdict: OrgVerdict,
    ) -> Option<OrgStep> {
        let may_create = self.may_create && !matches!(key, OrgKey::Id(_));
        let org = self.known.get_mut(key)?;
        let looked_up = org.flight == Flight::LookingUp(worker);
        if !looked_up && org.flight != Flight::Creating(worker) && !plant::is(14) {
            return None;
        }
        let state = match verdict {
            OrgVerdict::Ready { id, origin } => OrgState::Ready { id, origin },
            OrgVerdict::Failed {
                code,
                message,
                http_status,
                parked,
            } => OrgState::Failed {
                code,
                message,
                http_status,
                parked,
            },
            OrgVerdict::Absent if looked_up && may_create => {
                org.flight = Flight::Intending(worker);
                return Some(OrgStep::Intend);
            }
            OrgVerdict::Absent => OrgState::Failed {
                code: "organization_not_found".to_owned(),
                message: missing_words(key, self.may_create),
                http_status: Some(404),
                parked: false,
            },
        };
        org.flight = Flight::Recording;
        Some(OrgStep::Record(state))
    }

    /// The intent is durable.
    pub(super) fn on_intended(&mut self, key: &OrgKey, at: ServerMs) -> Option<OrgStep> {
        let org = self.known.get_mut(key)?;
        org.intent.get_or_insert(at);
        let Flight::Intending(worker) = org.flight else {
            return None;
        };
        org.flight = Flight::Creating(worker);
        Some(OrgStep::Create {
            worker,
            intent: at,
            suspect: false,
        })
    }

    /// Returns what was recorded of an organization last, however long ago.
    pub(super) fn recorded(&self, key: &OrgKey) -> Option<&OrgState> {
        self.known.get(key)?.state.as_ref()
    }

    /// The result is durable: everybody who waits is told. A failure is told until `stands_until`.
    pub(super) fn on_recorded(
        &mut self,
        key: &OrgKey,
        state: OrgState,
        stands_until: Mono,
    ) -> Vec<OrgStep> {
        let Some(org) = self.known.get_mut(key) else {
            return Vec::new();
        };
        if let OrgState::Ready { id, .. } = &state {
            self.found.push((key.clone(), id.clone()));
        }
        let answer = answer_of(&state);
        org.state = Some(state);
        org.stands_until = Some(stands_until);
        org.flight = Flight::None;
        let waiters = std::mem::take(&mut org.waiters);
        waiters
            .into_iter()
            .map(|worker| OrgStep::Answer(worker, answer.clone()))
            .collect()
    }

    /// A worker is gone: its flights go to others that wait, or wait for somebody to ask.
    pub(super) fn on_worker_gone(&mut self, worker: WorkerId) -> Vec<(OrgKey, OrgStep)> {
        let mut steps = Vec::new();
        for (key, org) in &mut self.known {
            org.waiters.remove(&worker);
            let was_on_it = match org.flight {
                Flight::LookingUp(by) | Flight::Intending(by) | Flight::Creating(by) => {
                    by == worker
                }
                Flight::None | Flight::Recording => false,
            };
            if !was_on_it || plant::is(18) {
                continue;
            }
            org.flight = Flight::None;
            if let Some(next) = org.waiters.first().copied() {
                steps.push((key.clone(), Self::take_off(org, next)));
            }
        }
        steps
    }

    /// Returns organizations found since `seen`, at most `most`, and the new value of `seen`.
    pub(super) fn hints(&self, seen: usize, most: usize) -> (&[(OrgKey, String)], usize) {
        let to = self.found.len().min(seen.saturating_add(most));
        (self.found.get(seen..to).unwrap_or_default(), to)
    }

    fn take_off(org: &mut Org, worker: WorkerId) -> OrgStep {
        // An intent without a result: the request may have been sent. Creating starts by looking.
        if let Some(intent) = org.intent {
            org.flight = Flight::Creating(worker);
            return OrgStep::Create {
                worker,
                intent,
                suspect: true,
            };
        }
        org.flight = Flight::LookingUp(worker);
        OrgStep::LookUp(worker)
    }
}

fn missing_words(key: &OrgKey, may_create: bool) -> String {
    match key {
        OrgKey::Id(_) => "no organization has this org_id; correct it in the file".to_owned(),
        OrgKey::External(_) | OrgKey::Name(_) if may_create => {
            "the organization could not be created and is not there".to_owned()
        }
        OrgKey::External(_) => {
            "no organization has this org_external_id; create it first, or allow it with --create-orgs"
                .to_owned()
        }
        OrgKey::Name(_) => {
            "no organization has this org_name; create it first, or allow it with --create-orgs"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evidence, Origin};

    const NOW: Mono = Mono(1);
    const LATER: Mono = Mono(9);
    const W1: WorkerId = WorkerId(1);
    const W2: WorkerId = WorkerId(2);

    fn key() -> OrgKey {
        OrgKey::External("acme".into())
    }

    fn ready() -> OrgState {
        OrgState::Ready {
            id: "org_1".into(),
            origin: Origin::Made(Evidence::Answered),
        }
    }

    fn told(worker: WorkerId) -> OrgStep {
        OrgStep::Answer(worker, OrgAnswer::Ready { id: "org_1".into() })
    }

    #[test]
    fn one_looks_up_and_creates_while_the_others_wait() {
        let mut orgs = Orgs::load(BTreeMap::new(), true);
        assert_eq!(orgs.on_ask(NOW, W1, &key()), Some(OrgStep::LookUp(W1)));
        assert_eq!(orgs.on_ask(NOW, W2, &key()), None);
        assert_eq!(
            orgs.on_done(W2, &key(), OrgVerdict::Absent),
            None,
            "not its flight"
        );
        assert_eq!(
            orgs.on_done(W1, &key(), OrgVerdict::Absent),
            Some(OrgStep::Intend)
        );
        let create = OrgStep::Create {
            worker: W1,
            intent: ServerMs(5),
            suspect: false,
        };
        assert_eq!(orgs.on_intended(&key(), ServerMs(5)), Some(create));
        let origin = Origin::Made(Evidence::Answered);
        let done = orgs.on_done(
            W1,
            &key(),
            OrgVerdict::Ready {
                id: "org_1".into(),
                origin,
            },
        );
        assert_eq!(done, Some(OrgStep::Record(ready())));
        assert_eq!(
            orgs.on_ask(NOW, WorkerId(3), &key()),
            None,
            "not durable yet"
        );
        let answers = orgs.on_recorded(&key(), ready(), LATER);
        assert_eq!(answers, [told(W1), told(W2), told(WorkerId(3))]);
        assert_eq!(orgs.on_ask(NOW, W2, &key()), Some(told(W2)));
        assert_eq!(orgs.hints(0, 10).0.len(), 1);
    }

    #[test]
    fn a_dead_resolver_hands_over_and_its_intent_is_remembered() {
        let mut orgs = Orgs::load(BTreeMap::new(), true);
        orgs.on_ask(NOW, W1, &key());
        orgs.on_ask(NOW, W2, &key());
        orgs.on_done(W1, &key(), OrgVerdict::Absent);
        orgs.on_intended(&key(), ServerMs(5));
        let create = OrgStep::Create {
            worker: W2,
            intent: ServerMs(5),
            suspect: true,
        };
        assert_eq!(orgs.on_worker_gone(W1), [(key(), create)]);
        let late = OrgVerdict::Ready {
            id: "org_9".into(),
            origin: Origin::Before,
        };
        assert_eq!(
            orgs.on_done(W1, &key(), late),
            None,
            "the dead change nothing"
        );
    }

    #[test]
    fn a_resolver_that_dies_while_its_intent_is_committed_leaves_a_suspect_creation() {
        let mut orgs = Orgs::load(BTreeMap::new(), true);
        orgs.on_ask(NOW, W1, &key());
        orgs.on_done(W1, &key(), OrgVerdict::Absent);
        assert_eq!(orgs.on_worker_gone(W1), []);
        assert_eq!(orgs.on_intended(&key(), ServerMs(5)), None);
        let create = OrgStep::Create {
            worker: W2,
            intent: ServerMs(5),
            suspect: true,
        };
        assert_eq!(orgs.on_ask(NOW, W2, &key()), Some(create));
    }

    #[test]
    fn a_missing_organization_that_may_not_be_created_fails_for_a_while() {
        let mut orgs = Orgs::load(BTreeMap::new(), false);
        orgs.on_ask(NOW, W1, &key());
        let step = orgs.on_done(W1, &key(), OrgVerdict::Absent);
        let Some(OrgStep::Record(state @ OrgState::Failed { .. })) = step else {
            panic!("{step:?}")
        };
        assert_eq!(orgs.on_recorded(&key(), state, LATER).len(), 1);
        assert!(matches!(
            orgs.on_ask(NOW, W2, &key()),
            Some(OrgStep::Answer(_, OrgAnswer::Failed { parked: false, .. }))
        ));
        assert_eq!(
            orgs.on_ask(LATER, W2, &key()),
            Some(OrgStep::LookUp(W2)),
            "it may have been made since"
        );
    }

    #[test]
    fn what_failed_in_another_run_is_looked_up_again_and_its_intent_is_kept() {
        for (intent, parked) in [(None, false), (None, true), (Some(ServerMs(5)), true)] {
            let state = Some(OrgState::Failed {
                code: "server_error".into(),
                message: String::new(),
                http_status: Some(500),
                parked,
            });
            let image = BTreeMap::from([(key(), OrgImage { intent, state })]);
            let mut orgs = Orgs::load(image, true);
            let step = orgs.on_ask(NOW, W1, &key());
            match intent {
                None => assert_eq!(step, Some(OrgStep::LookUp(W1))),
                Some(intent) => {
                    let create = OrgStep::Create {
                        worker: W1,
                        intent,
                        suspect: true,
                    };
                    assert_eq!(step, Some(create));
                }
            }
        }
    }

    #[test]
    fn after_a_lost_ledger_every_creation_starts_by_looking() {
        let lost = Some(ServerMs(5));
        let mut orgs = Orgs::load(BTreeMap::new(), true).all_intended(lost);
        let create = OrgStep::Create {
            worker: W1,
            intent: ServerMs(5),
            suspect: true,
        };
        assert_eq!(orgs.on_ask(NOW, W1, &key()), Some(create));
        let id = OrgKey::Id("org_7".into());
        assert_eq!(orgs.on_ask(NOW, W1, &id), Some(OrgStep::LookUp(W1)));
        let mut orgs = Orgs::load(BTreeMap::new(), false).all_intended(lost);
        assert_eq!(
            orgs.on_ask(NOW, W1, &key()),
            Some(OrgStep::LookUp(W1)),
            "a job that may not create them never did"
        );
    }

    #[test]
    fn an_id_is_never_created() {
        let id = OrgKey::Id("org_7".into());
        let mut orgs = Orgs::load(BTreeMap::new(), true);
        orgs.on_ask(NOW, W1, &id);
        let step = orgs.on_done(W1, &id, OrgVerdict::Absent);
        assert!(matches!(
            step,
            Some(OrgStep::Record(OrgState::Failed { .. }))
        ));
    }
}
