//! A dry run's rows: nothing is waited for but organizations, so nobody gets a task before it has
//! to wait for one.
//!
//! The steps, the rules and the requests are those of every run ([`Server::machine`],
//! [`RowMachine`], [`Shell::rehearse`]); only the waiting is left out. A chunk's rows go through
//! one after the other while its bytes are in the cache, one record's memory for all of them; or,
//! with a processor to spare, they were read and held against the rules by another thread
//! ([`ahead`]).
//!
//! [`ahead`]: super::ahead
//! [`Shell::rehearse`]: super::super::shell::Shell::rehearse

use super::ahead::{Read, ReadAhead};
use super::{Action, Job, RowMachine, Server, Turn, no_chunk, settled};
use crate::model::LeaseId;
use std::rc::Rc;
use tokio::task::JoinHandle;

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
        let goes_on = |job| {
            self.rehearse_row(job);
            rows_left -= 1;
            rows_left > 0 && self.may_start()
        };
        if self.ahead.get().is_some() {
            self.go_through_read(goes_on);
        } else {
            self.read_on(goes_on);
        }
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

    /// Does what [`Server::read_on`] does with rows that were read and held against the rules ahead.
    fn go_through_read(&self, mut visit: impl FnMut(Job) -> bool) {
        let mut read = self.read.borrow_mut();
        while let Some(next) = read.front_mut() {
            while let Some(judged) = next.rows.get(next.at) {
                next.at += 1;
                self.queued.set(self.queued.get().saturating_sub(1));
                self.notice(judged);
                let job = Job {
                    lease: next.grant.lease,
                    number: judged.number,
                    row: judged.row.clone(),
                    context: next.grant.context(judged.number).unwrap_or_default(),
                };
                if !visit(job) {
                    return;
                }
            }
            if let (Some(through), Some(ahead)) = (read.pop_front(), self.ahead.get()) {
                ahead.give_back(through);
            }
        }
    }

    /// Starts reading ahead, where the coordinator says so; returns the task that takes what was
    /// read.
    pub(super) fn read_ahead(self: &Rc<Self>) -> Option<JoinHandle<()>> {
        let config = &self.shell.config;
        if !(config.reads_ahead && self.shell.rehearses()) {
            return None;
        }
        let start = || {
            let file = self.file.try_clone()?;
            ReadAhead::start(file, config.columns.clone(), self.rules.clone())
        };
        let (ahead, mut read) = start()
            .inspect_err(|error| tracing::warn!(%error, "no thread to read ahead"))
            .ok()?;
        let _first = self.ahead.set(ahead);
        let server = Rc::clone(self);
        Some(tokio::task::spawn_local(async move {
            while let Some(read) = read.recv().await {
                server.on_read(read);
            }
        }))
    }

    fn on_read(self: &Rc<Self>, read: Read) {
        match read {
            // What is given back goes to another worker.
            _ if self.draining.get() => {}
            Ok(grants) => {
                self.read.borrow_mut().extend(grants);
                self.start_rows();
            }
            // The coordinator ends the run.
            Err(error) => self.shell.outbox.say(no_chunk(&error)),
        }
    }

    /// Takes a row as far as it goes without waiting: nearly always to its end.
    #[inline]
    fn rehearse_row(self: &Rc<Self>, job: Job) {
        let Job { lease, number, .. } = job;
        let mut machine = match job.row {
            Ok(row) => self.machine(row, job.context),
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
                    let verdict = self.shell.rehearse(&op, number);
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
