//! A dry run's rows: nothing is waited for but organizations, so nobody gets a task before it has
//! to wait for one.
//!
//! The steps, the rules and the requests are those of every run ([`Server::begin`],
//! [`RowMachine`], [`Shell::rehearse`]); only the waiting is left out. A chunk's rows go through
//! one after the other while its bytes are in the cache, one record's memory for all of them.
//!
//! [`Shell::rehearse`]: super::super::shell::Shell::rehearse

use super::{Action, RowMachine, Server, Turn, settled};
use crate::model::LeaseId;
use crate::protocol::RowContext;
use crate::source::CsvRecord;
use std::rc::Rc;

/// Rows that go through before what became of them goes out: nobody else has a turn meanwhile, and
/// a coordinator that hears nothing grants nothing.
const ROWS_PER_TURN: u32 = 1000;

impl Server {
    /// Takes some of what was granted row by row, and the rest later. Rows that wait for
    /// organizations are bounded like those of any other run.
    pub(super) fn rehearse_rows(self: &Rc<Self>) {
        if self.rests.get() || !self.may_start() {
            return;
        }
        let mut rows_left = ROWS_PER_TURN;
        self.read_on(|lease, record, context| {
            self.rehearse_row(lease, record, context);
            rows_left -= 1;
            rows_left > 0 && self.may_start()
        });
        if rows_left == 0 {
            self.rests.set(true);
            let server = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                server.rests.set(false);
                server.start_rows();
            });
        }
    }

    /// Takes a row as far as it goes without waiting: nearly always to its end.
    #[inline]
    fn rehearse_row(self: &Rc<Self>, lease: LeaseId, record: &CsvRecord, context: RowContext) {
        let mut machine = match self.begin(record, context) {
            Ok(machine) => machine,
            Err(outcome) => return self.settle(lease, *outcome),
        };
        let mut action = machine.start();
        loop {
            action = match action {
                Action::AskOrg(key) => match self.shell.known_org(&key) {
                    Some(answer) => machine.on_org(answer),
                    None => return self.wait_for_org(lease, machine, Action::AskOrg(key)),
                },
                Action::Send(op) => {
                    let verdict = self.shell.rehearse(&op, record.number);
                    machine.on_verdict(verdict, self.shell.alive(op.class()))
                }
                Action::Settle => return self.settle(lease, settled(machine)),
                other @ (Action::Recall(_)
                | Action::Backoff(_)
                | Action::WaitOut { .. }
                | Action::Halt(_)) => {
                    return self.wait_for_org(lease, machine, other);
                }
            };
        }
    }

    /// The rest of the row needs a task.
    fn wait_for_org(self: &Rc<Self>, lease: LeaseId, machine: RowMachine, action: Action) {
        self.spawn_row(lease, async move |server| {
            server.drive(machine, action, Turn::Fresh).await
        });
    }
}
