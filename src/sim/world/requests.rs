//! Requests under way: what is checked when they start, what becomes of them.

use super::{Ev, MS, SECOND, Wire, World};
use crate::model::rng::Rng;
use crate::model::{LeaseId, Mono, OrgKey, RowNumber};
use crate::sim::server;
use crate::sim::weather::Trouble;
use crate::target::{Op, Reply, RequestClass, TransportError};
use serde_json::json;
use std::time::Duration;

impl World {
    pub(super) fn request(
        &mut self,
        at: usize,
        task: u32,
        (op, row, lease): (Op, Option<RowNumber>, Option<LeaseId>),
        probe: bool,
    ) {
        let Some(Some(worker)) = self.workers.get(at) else {
            return;
        };
        let (epoch, id, paused) = (worker.epoch, worker.id, worker.pause_until);
        self.log(|| {
            format!(
                "worker {id} of {epoch} sends {} for row {row:?} {lease:?}",
                op.name()
            )
        });
        self.check(probe || paused <= self.now, "I11", || {
            format!("worker {id} sends {} inside a pause", op.name())
        });
        self.check(epoch >= self.granting_epoch, "I12", || {
            format!("a worker of coordinator {epoch} still sends")
        });
        if op.class() == RequestClass::Write {
            self.check_intent(&op, row);
        }
        self.figures.requests += 1;
        self.starts.push((self.now, op.class()));
        if probe {
            self.extras.push(self.now);
        }
        let trouble = self.weather.trouble(self.now, &mut self.rng);
        if trouble != Trouble::None {
            self.figures.faults += 1;
            self.log(|| format!("         … {trouble:?}"));
        }
        if trouble.is_unclear() {
            *self.unclear.entry(row.unwrap_or_default()).or_default() += 1;
        }
        self.serial += 1;
        let serial = self.serial;
        let timeout = Duration::from_secs(30).mul_f64(self.plan.time_scale);
        let there = match trouble {
            Trouble::Hang => self
                .within(SECOND, 70 * SECOND)
                .mul_f64(self.plan.time_scale),
            _ => self.within(MS, 60 * MS),
        };
        let back = self.within(MS, 60 * MS);
        let gives_up_at = self.now.after(timeout);
        let wire = Wire {
            worker: at,
            task,
            op,
            row,
            trouble,
            back,
            gives_up_at,
            answered: false,
            arrived: false,
        };
        self.wires.insert(serial, wire);
        self.push(self.now.after(there), Ev::Arrive(serial));
        let lost = Reply::Transport(TransportError::Lost("no complete answer in time".into()));
        self.push(gives_up_at, Ev::Answer(serial, lost));
    }

    /// I1: no mutating request without its durable intent. I9: one creation at a time.
    pub(super) fn check_intent(&mut self, op: &Op, row: Option<RowNumber>) {
        if let Some(row) = row {
            let leased = self.ledger.covers(row);
            self.check(leased, "I1", || {
                format!("{} for row {row} without a lease", op.name())
            });
            let settled = self.ledger.outcomes().contains_key(&row);
            self.check(!settled, "I2", || {
                format!("{} for row {row}, which is settled", op.name())
            });
        }
        if let Op::CreateOrg { external_id, .. } = op {
            let key = OrgKey::External(external_id.as_str().into());
            let intended = self.ledger.intends(&key);
            self.check(intended, "I1", || {
                format!("{key} is created without an intent")
            });
            let other = self.wires.values().any(|wire| {
                let alive = self.workers.get(wire.worker).is_some_and(Option::is_some);
                alive && !wire.answered && matches!(&wire.op, Op::CreateOrg { external_id: id, .. } if id == external_id)
            });
            self.check(!other, "I9", || format!("{key} is created twice at once"));
        }
    }

    /// Draws a `Retry-After`: seconds or a date.
    fn retry_after(&mut self, clock: Mono) -> String {
        let seconds = self.rng.next_u64() % 4;
        if self.coin() {
            seconds.to_string()
        } else {
            server::http_date(clock.after(Duration::from_secs(seconds)))
        }
    }

    pub(super) fn arrive(&mut self, serial: u64) {
        let Some(mut wire) = self.wires.remove(&serial) else {
            return;
        };
        wire.arrived = true;
        let (now, clock) = (self.now, self.server.clock(self.now));
        let reset = || Reply::Transport(TransportError::Lost("connection reset".into()));
        let error = |rng: &mut Rng| {
            let status = [500, 502, 503, 504, 408][rng.below(5)];
            server::http(clock, status, &json!({"message": "Internal Server Error"}))
        };
        let (op, row) = (&wire.op, wire.row);
        let reply = match wire.trouble {
            Trouble::None | Trouble::Hang => self.server.handle(clock, op, row),
            Trouble::Refused => Reply::Transport(TransportError::Connect("refused".into())),
            Trouble::LostBefore => reset(),
            Trouble::LostAfter => {
                self.server.handle(clock, op, row);
                reset()
            }
            Trouble::ErrorBefore => error(&mut self.rng),
            Trouble::ErrorAfter => {
                self.server.handle(clock, op, row);
                error(&mut self.rng)
            }
            Trouble::Cut => match self.server.handle(clock, op, row) {
                Reply::Http {
                    status,
                    body: Some(body),
                    ..
                } => {
                    let keep = self.rng.below(body.len());
                    // Half a body reaches nobody as such, unless its length was not announced.
                    let half =
                        (status < 300 && keep.is_multiple_of(2)).then(|| body[..keep].to_vec());
                    server::raw(clock, status, None, half)
                }
                other => other,
            },
            Trouble::Throttled => {
                let wait = self.retry_after(clock);
                server::raw(clock, 429, Some(wait), Some(b"\"Ratelimited\"".to_vec()))
            }
            Trouble::ThrottledSilently => {
                server::raw(clock, 429, None, Some(b"\"Ratelimited\"".to_vec()))
            }
            Trouble::Unauthorized => server::http(clock, 401, &json!({"message": "Unauthorized"})),
        };
        self.log(|| {
            let status = match &reply {
                Reply::Http { status, body, .. } => format!(
                    "{status} {}",
                    String::from_utf8_lossy(body.as_deref().unwrap_or_default())
                ),
                Reply::Transport(error) => format!("{error:?}"),
                Reply::Rehearsed { verdict, .. } => format!("{verdict:?}"),
            };
            format!(
                "server   {} of row {:?}: {status}",
                wire.op.name(),
                wire.row
            )
        });
        let back_at = now.after(wire.back);
        let in_time = back_at < wire.gives_up_at;
        if !wire.answered {
            self.wires.insert(serial, wire);
        }
        if in_time {
            self.push(back_at, Ev::Answer(serial, reply));
        }
    }

    /// The machine sleeps and wakes up: hardly a connection is left.
    pub(super) fn sleep(&mut self, length: Duration) {
        self.log(|| format!("zzz      for {length:?}"));
        self.figures.faults += 1;
        self.server.on_sleep(length);
        if let Some(it) = &mut self.coordinator {
            it.slept += length;
        }
        let waiting: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| !wire.answered)
            .map(|(serial, _)| *serial)
            .collect();
        for serial in waiting {
            if self.chance(0.8) {
                if let Some(wire) = self.wires.get(&serial) {
                    *self
                        .unclear
                        .entry(wire.row.unwrap_or_default())
                        .or_default() += 1;
                }
                let lost = Reply::Transport(TransportError::Lost("connection reset".into()));
                self.push(self.now, Ev::Answer(serial, lost));
            }
        }
    }

    pub(super) fn answered(&mut self, serial: u64, reply: Reply) {
        let Some(wire) = self.wires.get_mut(&serial) else {
            return;
        };
        if wire.answered {
            return;
        }
        let (at, task) = (wire.worker, wire.task);
        if let Some(Some(worker)) = self.workers.get(at)
            && worker.frozen_until > self.now
        {
            let thaw = worker.frozen_until;
            self.push(thaw, Ev::Answer(serial, reply));
            return;
        }
        wire.answered = true;
        if wire.arrived {
            self.wires.remove(&serial);
        }
        let Some(mut worker) = self.workers.get_mut(at).and_then(Option::take) else {
            return;
        };
        let mut out = Vec::new();
        worker.answer(self.now, task, &reply, &self.plan, &mut out);
        self.put_back(at, worker);
        self.act(at, out);
    }
}
