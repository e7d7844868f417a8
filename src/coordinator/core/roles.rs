//! Which roles the target knows: every list is read once for the whole run, by whoever asks first.
//!
//! Only a dry run that looks at the target asks. A list that cannot be read is an answer too: then
//! nobody judges by it, and nobody reads it again. A reader that dies hands over to another worker
//! that waits.

use super::{Core, WorkerId};
use crate::model::event::RunEvent;
use crate::model::scan::RoleScope;
use crate::protocol::{RoleList, ToWorker};
use std::collections::{BTreeMap, BTreeSet};

/// What has to happen next for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoleStep {
    /// This worker reads it.
    Read(WorkerId),
    /// Tell this worker what is known.
    Tell(WorkerId, RoleList),
}

/// One list.
#[derive(Debug, Default)]
struct List {
    reader: Option<WorkerId>,
    waiters: BTreeSet<WorkerId>,
    roles: Option<RoleList>,
}

impl List {
    fn hand_to(&mut self, worker: WorkerId) -> RoleStep {
        self.reader = Some(worker);
        RoleStep::Read(worker)
    }
}

/// Lists of organizations that are read in one run: more of them are a mistake in the file, and the
/// wait for them is longer than anybody's patience.
const LISTS_MAX: usize = 10_000;

/// Every list that was asked for.
#[derive(Debug, Default)]
pub(super) struct Roles {
    lists: BTreeMap<RoleScope, List>,
}

impl Roles {
    /// A worker wants to know.
    fn on_ask(&mut self, worker: WorkerId, scope: &RoleScope) -> Option<RoleStep> {
        if self.lists.len() >= LISTS_MAX && !self.lists.contains_key(scope) {
            let words = "so many organizations have roles of their own that they are not read";
            return Some(RoleStep::Tell(worker, Err(words.to_owned())));
        }
        let list = self.lists.entry(scope.clone()).or_default();
        if let Some(roles) = &list.roles {
            return Some(RoleStep::Tell(worker, roles.clone()));
        }
        list.waiters.insert(worker);
        list.reader.is_none().then(|| list.hand_to(worker))
    }

    /// The reader reports; reports of anybody else change nothing.
    fn on_read(
        &mut self,
        worker: WorkerId,
        scope: &RoleScope,
        roles: &RoleList,
    ) -> Option<Vec<RoleStep>> {
        let list = self.lists.get_mut(scope)?;
        if list.reader != Some(worker) || list.roles.is_some() {
            return None;
        }
        list.roles = Some(roles.clone());
        let waiters = std::mem::take(&mut list.waiters).into_iter();
        Some(
            waiters
                .map(|waiter| RoleStep::Tell(waiter, roles.clone()))
                .collect(),
        )
    }

    /// A worker is gone: what it was reading is read by another one that waits, or by the next that
    /// asks.
    fn on_worker_gone(&mut self, worker: WorkerId) -> Vec<(RoleScope, RoleStep)> {
        let mut steps = Vec::new();
        for (scope, list) in &mut self.lists {
            list.waiters.remove(&worker);
            if list.reader != Some(worker) || list.roles.is_some() {
                continue;
            }
            list.reader = None;
            if let Some(next) = list.waiters.first().copied() {
                steps.push((scope.clone(), list.hand_to(next)));
            }
        }
        steps
    }
}

impl Core {
    pub(super) fn on_ask_roles(&mut self, worker: WorkerId, scope: RoleScope) {
        if let Some(step) = self.roles.on_ask(worker, &scope) {
            self.take_role_step(scope, step);
        }
    }

    pub(super) fn on_roles_read(&mut self, worker: WorkerId, scope: RoleScope, roles: RoleList) {
        let Some(steps) = self.roles.on_read(worker, &scope, &roles) else {
            return;
        };
        for step in steps {
            self.take_role_step(scope.clone(), step);
        }
        let count = |slugs: Vec<String>| u32::try_from(slugs.len()).unwrap_or(u32::MAX);
        let result = roles.map(count);
        self.emit(RunEvent::Roles { scope, result });
    }

    pub(super) fn on_reader_of_roles_gone(&mut self, worker: WorkerId) {
        for (scope, step) in self.roles.on_worker_gone(worker) {
            self.take_role_step(scope, step);
        }
    }

    fn take_role_step(&mut self, scope: RoleScope, step: RoleStep) {
        match step {
            RoleStep::Read(worker) => self.send(worker, ToWorker::ReadRoles(scope)),
            RoleStep::Tell(worker, roles) => self.send(worker, ToWorker::Roles { scope, roles }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W1: WorkerId = WorkerId(1);
    const W2: WorkerId = WorkerId(2);
    const ALL: RoleScope = RoleScope::Environment;

    fn member() -> Vec<String> {
        vec!["member".to_owned()]
    }

    #[test]
    fn a_list_is_read_once_and_told_to_everybody_who_asks() {
        let mut roles = Roles::default();
        assert_eq!(roles.on_ask(W1, &ALL), Some(RoleStep::Read(W1)));
        assert_eq!(roles.on_ask(W2, &ALL), None);
        assert_eq!(
            roles.on_read(W2, &ALL, &Ok(member())),
            None,
            "it was not asked"
        );
        let told = [
            RoleStep::Tell(W1, Ok(member())),
            RoleStep::Tell(W2, Ok(member())),
        ];
        assert_eq!(roles.on_read(W1, &ALL, &Ok(member())), Some(told.into()));
        let late = RoleStep::Tell(WorkerId(3), Ok(member()));
        assert_eq!(roles.on_ask(WorkerId(3), &ALL), Some(late));
        let own = RoleScope::Organization("org_1".to_owned());
        assert_eq!(roles.on_ask(W2, &own), Some(RoleStep::Read(W2)));
    }

    #[test]
    fn what_cannot_be_read_is_not_read_again() {
        let mut roles = Roles::default();
        let nobody_knows: RoleList = Err("403".to_owned());
        roles.on_ask(W1, &ALL);
        roles.on_read(W1, &ALL, &nobody_knows);
        let told = RoleStep::Tell(W2, nobody_knows);
        assert_eq!(roles.on_ask(W2, &ALL), Some(told));
    }

    #[test]
    fn a_reader_that_dies_hands_over_or_leaves_it_to_the_next_one() {
        let mut roles = Roles::default();
        roles.on_ask(W1, &ALL);
        roles.on_ask(W2, &ALL);
        assert_eq!(roles.on_worker_gone(W1), [(ALL, RoleStep::Read(W2))]);
        assert_eq!(
            roles.on_read(W1, &ALL, &Ok(member())),
            None,
            "the dead are silent"
        );
        assert_eq!(roles.on_worker_gone(W2), []);
        assert_eq!(roles.on_ask(W1, &ALL), Some(RoleStep::Read(W1)));
        roles.on_read(W1, &ALL, &Ok(member()));
        assert_eq!(roles.on_worker_gone(W1), [], "what was read stays");
    }
}
