//! How a run ends: completed, drained, or at once.

use super::{Change, Core, Effect, Pending, Phase};
use crate::coordinator::config::{EndReason, StopSignal};
use crate::ledger::{LedgerError, RunState};
use crate::model::Mono;
use crate::model::event::RunEvent;
use crate::protocol::ToWorker;
use std::sync::Arc;
use std::time::Duration;

/// What is under way is finished within this long: a little more than a request may take.
const DRAIN_FOR: Duration = Duration::from_secs(35);
/// A worker whose input was closed ends within this long, or is killed.
const CLOSE_FOR: Duration = Duration::from_secs(2);

/// Where a run stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// Workers start; the first request asks for key, environment and clock.
    Connecting { since: Mono },
    /// Work is given out.
    Running,
    /// Started rows are finished.
    Draining { until: Mono, reason: EndReason },
    /// Inputs are closed; workers end.
    Closing {
        until: Mono,
        reason: EndReason,
        killed: bool,
    },
    /// The last counters are being committed.
    Recording { reason: EndReason, done: bool },
    /// Over.
    Ended,
}

impl Stage {
    /// Returns whether rows may be given out.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Returns whether the run is not about to end.
    pub(super) const fn is_working(&self) -> bool {
        matches!(self, Self::Running | Self::Connecting { .. })
    }

    pub(super) const fn deadline(&self) -> Option<Mono> {
        match self {
            Self::Draining { until, .. }
            | Self::Closing {
                until,
                killed: false,
                ..
            } => Some(*until),
            _ => None,
        }
    }

    pub(super) const fn on_last_commit(&mut self) {
        if let Self::Recording { done, .. } = self {
            *done = true;
        }
    }
}

impl Core {
    /// First signal: finish what is under way. Second: stop at once.
    pub(super) fn on_signal(&mut self, now: Mono, signal: StopSignal) {
        let reason = EndReason::Interrupted(signal);
        match &self.stage {
            Stage::Connecting { .. } => self.end(now, reason),
            Stage::Running => {
                self.emit(RunEvent::Draining {
                    reason: "interrupted".into(),
                });
                self.drain(now, reason);
            }
            // Nothing is left to be interrupted.
            Stage::Draining { .. } | Stage::Closing { .. } if self.rows.pending == 0 => {}
            Stage::Draining { .. } => {
                self.kill_all();
                let until = now;
                self.stage = Stage::Closing {
                    until,
                    reason,
                    killed: true,
                };
            }
            // Why the run ends was decided before; the signal only hurries it.
            Stage::Closing { .. } => {
                self.kill_all();
                if let Stage::Closing { killed, .. } = &mut self.stage {
                    *killed = true;
                }
            }
            Stage::Recording { .. } | Stage::Ended => {}
        }
    }

    fn kill_all(&mut self) {
        for worker in self.crew.everybody() {
            self.effects.push(Effect::Kill { worker });
        }
    }

    /// Starts nothing new; what is under way is finished, and last counters are handed in.
    fn drain(&mut self, now: Mono, reason: EndReason) {
        self.crew.close();
        // Who has not said hello holds nothing and need not be waited for.
        for worker in self.crew.in_phase(Phase::Starting) {
            self.effects.push(Effect::Kill { worker });
        }
        for worker in self.crew.in_phase(Phase::Ready) {
            self.send(worker, ToWorker::Drain);
            if let Some(member) = self.crew.get_mut(worker) {
                member.phase = Phase::Draining;
            }
        }
        self.stage = Stage::Draining {
            until: now.after(DRAIN_FOR),
            reason,
        };
    }

    /// Ends the run without waiting for what is under way; the first reason counts.
    pub(super) fn end(&mut self, now: Mono, reason: EndReason) {
        if matches!(
            self.stage,
            Stage::Closing { .. } | Stage::Recording { .. } | Stage::Ended
        ) {
            return;
        }
        self.crew.close();
        for worker in self.crew.everybody() {
            self.effects.push(Effect::CloseInput { worker });
        }
        self.stage = Stage::Closing {
            until: now.after(CLOSE_FOR),
            reason,
            killed: false,
        };
    }

    /// The ledger takes nothing any more: nothing that is still learned can be kept.
    pub(super) fn on_commit_failed(&mut self, now: Mono, error: Arc<LedgerError>) {
        self.tickets.clear();
        if matches!(self.stage, Stage::Ended) {
            return;
        }
        self.crew.close();
        for worker in self.crew.everybody() {
            self.effects.push(Effect::Kill { worker });
        }
        let reason = EndReason::Ledger(error);
        self.stage = Stage::Closing {
            until: now,
            reason,
            killed: true,
        };
    }

    /// Moves on when what a stage waits for has come.
    pub(super) fn advance_stage(&mut self, now: Mono) {
        let under_way = self.work.under_way() as u64;
        if self.stage.is_running()
            && let Some(reason) = self.valve.verdict(under_way)
        {
            self.emit(RunEvent::Draining {
                reason: "too many failures".into(),
            });
            self.drain(now, reason);
        }
        if self.stage.is_running() && self.tickets_settling() == 0 {
            if self.rows.pending == 0 {
                self.drain(now, EndReason::Completed);
            } else if self.work.is_limited() && self.work.is_idle() {
                self.drain(now, EndReason::Limited);
            } else if self.work.is_idle() {
                let words = format!(
                    "{} rows have no outcome and nobody works on them (invariant I18)",
                    self.rows.pending
                );
                self.end(now, EndReason::Internal(words));
            }
        }
        self.advance_ending(now);
    }

    fn advance_ending(&mut self, now: Mono) {
        let settling = self.tickets_settling() > 0;
        match &mut self.stage {
            Stage::Draining { until, .. } => {
                let late = *until <= now;
                let over = self.crew.everybody().len() == self.crew.in_phase(Phase::Drained).len();
                if late || (over && !settling) {
                    self.close_after_drain(now);
                }
            }
            Stage::Closing { until, killed, .. } if !self.crew.is_empty() => {
                if *until <= now && !*killed {
                    *killed = true;
                    for worker in self.crew.everybody() {
                        self.effects.push(Effect::Kill { worker });
                    }
                }
            }
            Stage::Closing { .. } if !settling => self.record_end(now),
            Stage::Recording { done: true, .. } => {
                if let Stage::Recording { reason, .. } =
                    std::mem::replace(&mut self.stage, Stage::Ended)
                {
                    self.effects.push(Effect::Finish(reason));
                }
            }
            Stage::Connecting { .. }
            | Stage::Running
            | Stage::Closing { .. }
            | Stage::Recording { .. }
            | Stage::Ended => {}
        }
    }

    pub(super) fn close_after_drain(&mut self, now: Mono) {
        if let Stage::Draining { reason, .. } = std::mem::replace(&mut self.stage, Stage::Running) {
            // The last rows may have been the ones under way.
            let reason = if self.rows.pending == 0 {
                EndReason::Completed
            } else {
                reason
            };
            self.end(now, reason);
        }
    }

    fn record_end(&mut self, now: Mono) {
        let Stage::Closing { reason, .. } = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return;
        };
        if matches!(reason, EndReason::Ledger(_)) {
            self.effects.push(Effect::Finish(reason));
            return;
        }
        self.emit_progress(now);
        let snapshot = Box::new(self.snapshot(now, state_of(&reason)));
        self.stage = Stage::Recording {
            reason,
            done: false,
        };
        self.commit(vec![Change::Run(snapshot)], Pending::Last);
    }

    /// Commits in flight whose success still changes something.
    fn tickets_settling(&self) -> usize {
        self.tickets
            .values()
            .filter(|pending| !matches!(pending, Pending::Snapshot))
            .count()
    }
}

/// Returns the state that a run which ended for `reason` is in.
pub fn state_of(reason: &EndReason) -> RunState {
    match reason {
        EndReason::Completed => RunState::Completed,
        EndReason::Interrupted(_) => RunState::Interrupted,
        EndReason::Outage(_) | EndReason::Limited | EndReason::TooManyFailures(_) => {
            RunState::Paused
        }
        EndReason::Refused(_)
        | EndReason::Ledger(_)
        | EndReason::SourceChanged(_)
        | EndReason::SourceUnreadable(_)
        | EndReason::Internal(_) => RunState::Failed,
    }
}
