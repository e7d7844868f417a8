//! What a dry run that looks at its target has to ask for itself, because no request that it sends
//! is refused for it: whether the roles of a row are there.

use super::Server;
use crate::model::RowNumber;
use crate::model::scan::RoleScope;
use crate::protocol::FromWorker;
use crate::target::{Op, Verdict, dry};
use crate::worker::gate::Turn;
use crate::worker::roles::{Asked, Known, Reading, Tries, first_unknown, on_answer};
use crate::worker::shell::TurnedAway;
use std::rc::Rc;

impl Server {
    /// Sends a request of a row; or, in such a dry run, says what the target would have said. The
    /// role that it would have refused comes with it.
    pub(super) async fn send_for_row(
        &self,
        op: &Op,
        row: RowNumber,
        turn: Turn,
    ) -> Result<(Verdict, Option<Box<str>>), TurnedAway> {
        if self.shell.config.check_target
            && let Some(slug) = self.unknown_role(op).await?
        {
            let verdict = self.shell.refuse_role(op, row, &slug);
            return Ok((verdict, Some(slug)));
        }
        let verdict = self.shell.call(op, Some(row), turn).await?;
        Ok((verdict, None))
    }

    /// Returns the first role of a membership to make that its organization does not have. A list
    /// that could not be read proves nothing.
    async fn unknown_role(&self, op: &Op) -> Result<Option<Box<str>>, TurnedAway> {
        let Op::CreateMembership {
            org_id, role_slugs, ..
        } = op
        else {
            return Ok(None);
        };
        if role_slugs.is_empty() {
            return Ok(None);
        }
        let Some(environment) = self.known_roles(&RoleScope::Environment).await? else {
            return Ok(None);
        };
        let Some(slug) = first_unknown(role_slugs, &[&environment]) else {
            return Ok(None);
        };
        if dry::is_made_up(org_id) {
            // A new organization has no roles of its own yet.
            return Ok(Some(slug.as_str().into()));
        }
        let scope = RoleScope::Organization(org_id.clone());
        let Some(own) = self.known_roles(&scope).await? else {
            return Ok(None);
        };
        let slug = first_unknown(role_slugs, &[&environment, &own]);
        Ok(slug.map(|slug| slug.as_str().into()))
    }

    async fn known_roles(&self, scope: &RoleScope) -> Result<Known, TurnedAway> {
        match self.shell.with_roles(|book| book.ask(scope)) {
            Asked::Hit(known) => Ok(known),
            Asked::Wait { answer, ask } => {
                if ask {
                    let question = FromWorker::AskRoles(scope.clone());
                    self.shell.outbox.say(question);
                }
                answer.await.map_err(|_| TurnedAway)
            }
        }
    }

    /// Reads a list of roles for every worker.
    pub(super) fn fly_roles(self: &Rc<Self>, scope: RoleScope) {
        self.spawn_flight(async move |server| server.read_roles(scope).await);
    }

    async fn read_roles(&self, scope: RoleScope) {
        let op = Op::ListRoles(scope.clone());
        let mut tries = Tries::default();
        loop {
            let Ok((verdict, roles)) = self.shell.call_for_roles(&op).await else {
                return;
            };
            let alive = self.shell.alive(op.class());
            match on_answer(&mut tries, verdict, roles, alive) {
                Reading::Ask => {}
                Reading::Backoff(wait) => self.shell.back_off(wait).await,
                Reading::Halt(reason) => return self.shell.halt(reason),
                Reading::Done(roles) => {
                    let roles = roles.map(|slugs| self.own_ones(&scope, slugs));
                    return self
                        .shell
                        .outbox
                        .say(FromWorker::RolesRead { scope, roles });
                }
            }
        }
    }

    /// Leaves out of an organization's list what every organization has: there may be many.
    fn own_ones(&self, scope: &RoleScope, mut slugs: Vec<String>) -> Vec<String> {
        let environment = self.shell.with_roles(|book| book.environment());
        if let (RoleScope::Organization(_), Some(environment)) = (scope, environment) {
            slugs.retain(|slug| !environment.contains(slug));
        }
        slugs
    }
}
