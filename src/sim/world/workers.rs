//! Workers on the stage: pipes, acts, deaths.

use super::{Ev, MS, Pipe, SECOND, Strike, US, WORKER_LOAD_MAX, World};
use crate::coordinator::core::Event;
use crate::model::{Mono, WorkerId, plant};
use crate::pace::Pacer;
use crate::protocol::{FromWorker, ToWorker};
use crate::sim::worker::{Out, SimWorker};
use crate::target::RequestClass;
use std::time::Duration;

/// Returns whether it is a word of that worker of that coordinator.
fn is_said(event: &Ev, of: WorkerId, coordinator: u32) -> bool {
    matches!(event, Ev::ToCore(epoch, Event::WorkerSaid { worker, .. })
        if *epoch == coordinator && *worker == of)
}

impl World {
    pub(super) fn pipe_lag(&mut self) -> Duration {
        if self.chance(self.weather.slow) {
            return self.within(MS, 3 * SECOND);
        }
        self.within(20 * US, 500 * US)
    }

    pub(super) fn spawn(&mut self, id: WorkerId) {
        self.log(|| format!("core  -> spawn {id}"));
        let paces = |class| Pacer::new(self.plan.limits, self.now).paces(class);
        let paced = (paces(RequestClass::Write), paces(RequestClass::Read));
        let seed = self.rng.next_u64();
        let worker = SimWorker::new(&self.plan, id, self.epoch, seed, paced);
        let at = self.workers.len();
        self.workers.push(Some(Box::new(worker)));
        let ready_at = self.now.after(self.within(MS, 20 * MS));
        let pipe = Pipe {
            last: ready_at,
            ..Pipe::default()
        };
        self.down.push(pipe);
        self.up.push(pipe);
        if let Some(it) = &mut self.coordinator {
            it.workers.insert(id, at);
        }
        let (epoch, pid) = (self.epoch, id.0);
        self.push(
            ready_at,
            Ev::ToCore(epoch, Event::WorkerReady { worker: id, pid }),
        );
        self.push(ready_at, Ev::Wake(at));
    }

    /// Delivers to a worker, unless it is gone or stopped.
    pub(super) fn with_worker(&mut self, at: usize, event: Ev) {
        let Some(Some(worker)) = self.workers.get_mut(at) else {
            return;
        };
        if worker.frozen_until > self.now {
            let thaw = worker.frozen_until;
            if let (Ev::ToWorker(..), Some(pipe)) = (&event, self.down.get_mut(at)) {
                pipe.under_way += 1;
            }
            self.push(thaw, event);
            return;
        }
        let Some(mut worker) = self.workers.get_mut(at).and_then(Option::take) else {
            return;
        };
        let mut out = Vec::new();
        let gone = match event {
            Ev::Eof(_) => Some("its input ended"),
            Ev::Noise(_) => Some("killed by what it cannot read"),
            Ev::ToWorker(_, message) => {
                if let ToWorker::Known { scan } = &message {
                    worker.known = self.known.get(&(worker.epoch, *scan)).cloned();
                }
                worker.hear(self.now, message, &self.plan, &mut out);
                None
            }
            Ev::Wake(_) => {
                if worker
                    .wake_planned
                    .is_some_and(|planned| planned <= self.now)
                {
                    worker.wake_planned = None;
                }
                worker.wake(self.now, &self.plan, &mut out);
                None
            }
            _ => None,
        };
        self.put_back(at, worker);
        match gone {
            Some(how) => self.die(at, how),
            None => self.act(at, out),
        }
    }

    pub(super) fn put_back(&mut self, at: usize, worker: Box<SimWorker>) {
        let load = worker.load();
        self.check(load <= WORKER_LOAD_MAX, "I16", || {
            format!("a worker holds {load} things")
        });
        if let Some(place) = self.workers.get_mut(at) {
            *place = Some(worker);
        }
    }

    /// Performs what a worker does, one act after the other: it may die in between.
    pub(super) fn act(&mut self, at: usize, out: Vec<Out>) {
        for act in out {
            let strike = self.strike(0.0);
            let dies = strike == Some(Strike::Worker)
                || (self.weather.kills_left > 0 && self.chance(self.weather.kill));
            if dies {
                self.weather.kills_left = self.weather.kills_left.saturating_sub(1);
                self.figures.kills += 1;
                self.die(at, "killed");
                return;
            }
            if let Some(strike @ (Strike::Coordinator | Strike::Everything)) = strike {
                self.crash(strike);
            }
            let Some(Some(worker)) = self.workers.get(at) else {
                return;
            };
            let (id, epoch) = (worker.id, worker.epoch);
            match act {
                Out::Frame(message) => self.frame(at, id, epoch, message),
                Out::Known(scan, found) => {
                    self.known.insert((epoch, scan), found);
                }
                Out::Request {
                    task,
                    op,
                    row,
                    lease,
                    probe,
                } => {
                    self.request(at, task, (op, row, lease), probe);
                }
            }
        }
        let froze = self.chance(self.weather.freeze);
        let longest = if self.rng.below(8) == 0 { 900 } else { 60 };
        let long = self.within(MS, longest * SECOND);
        let Some(Some(worker)) = self.workers.get_mut(at) else {
            return;
        };
        if froze {
            worker.frozen_until = self.now.after(long);
        }
        let Some(wake_at) = worker.wake_at() else {
            return;
        };
        let wake_at = wake_at.max(Mono(self.now.0 + 1));
        if worker.wake_planned.is_none_or(|planned| wake_at < planned) {
            worker.wake_planned = Some(wake_at);
            self.push(wake_at, Ev::Wake(at));
        }
    }

    pub(super) fn frame(&mut self, at: usize, worker: WorkerId, epoch: u32, message: FromWorker) {
        let lag = self.pipe_lag();
        let garbled = self.chance(self.weather.garble);
        if self.up.get(at).is_none_or(|pipe| pipe.broken) {
            return;
        }
        if !garbled {
            let event = Event::WorkerSaid { worker, message };
            return self.say_up(at, epoch, lag, event);
        }
        let noise = self.noise(&message);
        for message in noise.whole {
            self.say_up(at, epoch, lag, Event::WorkerSaid { worker, message });
        }
        // Without a defect the reader waits for the rest, which later frames seem to bring.
        let wait = match noise.defect {
            Some(_) => lag,
            None => self.within(MS, 40 * SECOND),
        };
        let broken = Event::WorkerBroken {
            worker,
            reason: noise.defect.unwrap_or_else(|| "a frame's checksum".into()),
            stranger: false,
        };
        self.say_up(at, epoch, wait, broken);
        if let Some(pipe) = self.up.get_mut(at) {
            pipe.broken = true;
        }
    }

    fn say_up(&mut self, at: usize, epoch: u32, lag: Duration, event: Event) {
        if let Some(pipe) = self.up.get_mut(at) {
            pipe.last = self.now.after(lag).max(Mono(pipe.last.0 + 1));
            let deliver_at = pipe.last;
            self.push(deliver_at, Ev::ToCore(epoch, event));
        }
    }

    /// A worker ends; what it had written is delivered before its death.
    pub(super) fn die(&mut self, at: usize, how: &str) {
        let Some(worker) = self.workers.get_mut(at).and_then(Option::take) else {
            return;
        };
        self.log(|| format!("worker {} of {} dies: {how}", worker.id, worker.epoch));
        self.deaths += u32::from(how.starts_with("killed"));
        let wait = self.within(10 * US, 5 * MS);
        if let Some(pipe) = self.up.get(at) {
            let gone_at = self.now.after(wait).max(Mono(pipe.last.0 + 1));
            let how = how.to_owned();
            if plant::is(5) {
                self.coming
                    .retain(|_, event| !is_said(event, worker.id, worker.epoch));
            }
            let late = self.weather.late;
            if self.chance(late) {
                self.outlive(worker.id, worker.epoch, gone_at);
            }
            self.push(
                gone_at,
                Ev::ToCore(
                    worker.epoch,
                    Event::WorkerGone {
                        worker: worker.id,
                        how,
                    },
                ),
            );
        }
        // Requests that had not left the machine yet never arrive.
        let sent: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.worker == at && !wire.arrived)
            .map(|(id, _)| *id)
            .collect();
        for id in sent {
            if self.rng.next_u64().is_multiple_of(3) {
                self.wires.remove(&id);
            }
        }
        self.after_coordinator();
    }

    /// Words of a dead worker that come after the news of its death: nobody may believe them.
    pub(super) fn outlive(&mut self, dead: WorkerId, of: u32, gone_at: Mono) {
        let tail: Vec<_> = self
            .coming
            .iter()
            .filter(|(_, event)| is_said(event, dead, of))
            .map(|(key, _)| *key)
            .collect();
        for (n, key) in (1..).zip(tail) {
            if let Some(event) = self.coming.remove(&key) {
                let wait = self.within(MS, SECOND);
                self.push(gone_at.after(wait).max(Mono(gone_at.0 + n)), event);
            }
        }
    }
}
