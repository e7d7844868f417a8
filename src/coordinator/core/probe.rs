//! Probes: one cheap GET that asks the target itself, before the run, after a 401, in an outage.

use super::stop::Stage;
use super::{Core, Effect, Phase};
use crate::coordinator::config::EndReason;
use crate::model::event::RunEvent;
use crate::model::{Mono, RateShift, ServerMs, WorkerId};
use crate::protocol::{ProbeResult, ToWorker};
use crate::target::{RequestClass, StopReason};
use std::time::Duration;

/// A probe without an answer for this long is trouble: the request timeout and a little.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);
/// A run whose first request cannot connect tries again this often,
const CONNECT_EVERY: Duration = Duration::from_millis(500);
/// for this long.
const CONNECT_FOR: Duration = Duration::from_secs(8);
/// A pause without a known end.
const UNTIL_TOLD: Duration = Duration::from_hours(24 * 365);

/// After this many times "401, but the probe went well" in a row, the key lacks a right.
const DENIALS_MAX: u32 = 3;
/// So few rows left cannot tell an outage of writes from rows that the target cannot take.
const LAST_ROWS: usize = 8;

/// Why the target is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProbeWhy {
    /// The first request of a run: key, environment, clock.
    First,
    /// A request was answered 401: is it the key?
    Unauthorized,
    /// A request was answered 403: the run stops, whatever this says.
    Refused(StopReason),
    /// Is the outage over?
    Outage,
    /// Only a handful of rows is left and fails: is it they, or the target? Holds nothing back.
    LastRows,
}

/// At most one probe is under way.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Users that the first probe asks about.
    sentinels: Vec<String>,
    /// Times in a row that a 401 was followed by a probe that went well.
    denials: u32,
    /// People were told that the first connection does not come about.
    told: bool,
    last: u32,
    /// What was taken of the budgets for the probe that is due: from when until when it may go.
    slot: Option<(Mono, Mono)>,
    due: Option<(Mono, ProbeWhy)>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    number: u32,
    worker: WorkerId,
    why: ProbeWhy,
    until: Mono,
}

impl Probes {
    pub(super) fn new(sentinels: Vec<String>) -> Self {
        Self {
            sentinels,
            ..Self::default()
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        match (&self.under_way, &self.due) {
            (Some(probe), _) => Some(probe.until),
            // A due probe waits for a ready worker; its arrival is an event.
            (None, Some((at, _))) => Some(*at),
            (None, None) => None,
        }
    }

    pub(super) fn is_with(&self, worker: WorkerId) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|probe| probe.worker == worker)
    }

    /// A probe dies with its worker and is sent again by another.
    pub(super) fn on_worker_gone(&mut self, worker: WorkerId) {
        if let Some(probe) = self.under_way.take_if(|probe| probe.worker == worker) {
            self.due.get_or_insert((Mono(0), probe.why));
        }
    }

    /// Asks again at `at`, unless a weightier question came up meanwhile: then that one waits.
    fn ask_again(&mut self, at: Mono, why: ProbeWhy) {
        let (due, _) = self.due.get_or_insert((at, why));
        *due = (*due).max(at);
    }

    fn is_planned(&self) -> bool {
        self.due.is_some() || self.under_way.is_some()
    }

    /// Returns whether a probe is planned whose answer everybody waits for.
    fn holds_back(&self) -> bool {
        let due = self.due.as_ref().map(|(_, why)| why);
        let under_way = self.under_way.as_ref().map(|probe| &probe.why);
        let mut planned = due.into_iter().chain(under_way);
        planned.any(|why| *why != ProbeWhy::LastRows)
    }
}

impl Core {
    /// Nothing is sent until a probe has told what to make of `why`.
    pub(super) fn suspend_for(&mut self, now: Mono, why: ProbeWhy) {
        if matches!(self.stage, Stage::Draining { .. }) {
            // Rows that met this cannot be finished in this run.
            return self.close_after_drain(now);
        }
        if !self.stage.is_running() {
            return;
        }
        if !self.probes.holds_back() || matches!(why, ProbeWhy::Refused(_)) {
            let at = self.probe_time(now);
            self.probes.due = Some((at, why));
        }
        self.pause_all(now.after(UNTIL_TOLD));
    }

    /// A probe is a request too: it waits out what the target asked for.
    fn probe_time(&self, at: Mono) -> Mono {
        at.max(self.throttle.until())
    }

    pub(super) fn on_halt(&mut self, now: Mono, reason: StopReason) {
        match reason {
            StopReason::Unauthorized => self.suspend_for(now, ProbeWhy::Unauthorized),
            StopReason::Forbidden(_) => self.suspend_for(now, ProbeWhy::Refused(reason)),
            StopReason::NotThisApi(_)
            | StopReason::Certificate(_)
            | StopReason::OtherEnvironment => {
                self.end(now, EndReason::Refused(reason));
            }
        }
    }

    pub(super) fn on_throttled(&mut self, now: Mono, class: RequestClass, wait: Option<Duration>) {
        let pause = self.throttle.on_429(now, wait, &mut self.rng);
        let shift = self.pacer.on_429(now, class, self.throttle.until());
        self.tell_rate(class, shift);
        let Some(until) = pause else {
            return;
        };
        if self.breaker.is_open() || self.probes.holds_back() {
            return;
        }
        let wait = until.since(now);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.emit(RunEvent::Throttled { wait_ms });
        self.pause_all(until);
    }

    fn tell_rate(&mut self, class: RequestClass, shift: Option<RateShift>) {
        if let (Some(reason), Some(rate)) = (shift, self.pacer.auto_rate(class)) {
            self.emit(RunEvent::Rate {
                class: class.as_str(),
                per_s: rate.current,
                reason,
            });
        }
    }

    pub(super) fn on_health(&mut self, now: Mono, class: RequestClass, ok: u32, bad: u32) {
        if ok > 0 {
            self.throttle.on_success();
            let shift = self.pacer.on_accepted(now, class, ok);
            self.tell_rate(class, shift);
        }
        if ok > 0 && class == RequestClass::Write {
            self.probes.denials = 0;
        }
        if self.breaker.on_samples(now, class, ok, bad) && self.stage.is_running() {
            self.begin_outage(
                now,
                "the target answers with errors, too late, or not at all",
            );
        } else if bad > 0 && ok == 0 {
            self.doubt_last_rows(now);
        }
    }

    /// Nobody else's success can tell whether the last rows fail for their own sake: a look can.
    fn doubt_last_rows(&mut self, now: Mono) {
        let may_ask = self.stage.is_running() && !self.breaker.is_open();
        if may_ask && !self.probes.is_planned() && self.only_last_rows() {
            self.probes.due = Some((self.probe_time(now), ProbeWhy::LastRows));
        }
    }

    /// Returns whether a handful of rows is under way and nothing else can be, however many wait
    /// for them.
    fn only_last_rows(&mut self) -> bool {
        self.work.under_way() <= LAST_ROWS && !self.work.has_next()
    }

    /// Sends the probe that is due, plans the ones an outage or a new run needs.
    pub(super) fn run_probes(&mut self, now: Mono) {
        self.give_up_on_probe(now);
        self.check_outage(now);
        let connecting = matches!(self.stage, Stage::Connecting { .. });
        if connecting && !self.probes.is_planned() && !self.breaker.is_open() {
            if self.config.dry_run {
                self.stage = Stage::Running;
                self.emit(RunEvent::Connected);
                return;
            }
            self.probes.due = Some((now, ProbeWhy::First));
        }
        if self.breaker.probe_at().is_some_and(|at| at <= now) && !self.probes.is_planned() {
            self.breaker.on_probe_sent();
            self.probes.due = Some((self.probe_time(now), ProbeWhy::Outage));
        }
        let is_due = self.probes.due.as_ref().is_some_and(|(at, _)| *at <= now);
        if !is_due || self.probes.under_way.is_some() || !self.stage.is_working() {
            return;
        }
        let Some(worker) = self.crew.in_phase(Phase::Ready).first().copied() else {
            return;
        };
        let Some(why) = self.probe_in_its_slot(now) else {
            return;
        };
        self.probes.last += 1;
        let number = self.probes.last;
        let until = now.after(ANSWER_WITHIN);
        self.probes.under_way = Some(UnderWay {
            number,
            worker,
            why,
            until,
        });
        let sentinels = self.probes.sentinels.clone();
        // They go out together: the slots of all lie before, and those of all but one behind.
        for _ in &sentinels {
            self.pacer.charge(RequestClass::Read, now);
        }
        self.send(
            worker,
            ToWorker::Probe {
                probe: number,
                sentinels,
            },
        );
    }

    /// Takes the probe that is due, once its slot has come; until then, or when it is too late for
    /// that slot, it is due at the next one. A probe is a request like others (I10).
    fn probe_in_its_slot(&mut self, now: Mono) -> Option<ProbeWhy> {
        let reads = 1 + self.probes.sentinels.len();
        let slot = self.probes.slot.take().filter(|(_, until)| now <= *until);
        let (from, until) =
            slot.unwrap_or_else(|| self.pacer.reserve(RequestClass::Read, reads, now));
        if from <= now {
            return self.probes.due.take().map(|(_, why)| why);
        }
        self.probes.slot = Some((from, until));
        if let Some((at, _)) = &mut self.probes.due {
            *at = from;
        }
        None
    }

    pub(super) fn on_probed(
        &mut self,
        now: Mono,
        worker: WorkerId,
        number: u32,
        result: ProbeResult,
    ) {
        let is_it = |probe: &mut UnderWay| probe.worker == worker && probe.number == number;
        if let Some(probe) = self.probes.under_way.take_if(is_it) {
            self.take_probe_result(now, probe.why, result);
        }
    }

    fn take_probe_result(&mut self, now: Mono, why: ProbeWhy, result: ProbeResult) {
        if !self.stage.is_working() {
            return;
        }
        if let ProbeWhy::Refused(reason) = why {
            return self.end(now, EndReason::Refused(reason));
        }
        match result {
            ProbeResult::Ok { .. } if why == ProbeWhy::LastRows => {
                self.breaker.pardon();
                self.tell_alive(false);
            }
            ProbeResult::Ok { date, empty } => {
                if matches!(self.stage, Stage::Connecting { .. }) {
                    self.scan.on_probed(empty);
                }
                self.set_server_clock(now, date);
                self.probes.sentinels.clear();
                self.probes.denials += u32::from(why == ProbeWhy::Unauthorized);
                if self.probes.denials >= DENIALS_MAX {
                    self.end(now, EndReason::Refused(StopReason::Unauthorized));
                } else {
                    self.on_alive(now);
                }
            }
            ProbeResult::Unauthorized => {
                self.end(now, EndReason::Refused(StopReason::Unauthorized));
            }
            ProbeResult::Stop(reason) => self.end(now, EndReason::Refused(reason)),
            ProbeResult::OtherEnvironment => {
                self.end(now, EndReason::Refused(StopReason::OtherEnvironment));
            }
            ProbeResult::Throttled(wait) => {
                let asked = self.throttle.on_429(now, wait, &mut self.rng);
                let until = asked.unwrap_or(self.throttle.until());
                self.probes
                    .ask_again(until.max(now.after(CONNECT_EVERY)), why);
            }
            ProbeResult::Connect(words) => self.on_no_connection(now, why, words),
            ProbeResult::Trouble(words) => self.on_trouble(now, &words),
        }
    }

    /// The first `Date` of a run is the target's time; a later one that lags behind it moves it
    /// back: what a lease dates too early is only judged with more care, what it dates too late
    /// would be taken for somebody else's (I5, I7).
    fn set_server_clock(&mut self, now: Mono, date: Option<ServerMs>) {
        let connecting = matches!(self.stage, Stage::Connecting { .. });
        match date {
            Some(date) if connecting || date < self.server_now(now) => {
                self.server_base = (now, date);
            }
            None if connecting => tracing::warn!(
                "the target does not say what time it is (no Date): this machine's clock has to do, \
                 and if it is ahead, users whose answer is lost are taken for somebody else's"
            ),
            Some(_) | None => {}
        }
    }

    /// The first request of a run must connect soon: a typo in an address is no outage.
    fn on_no_connection(&mut self, now: Mono, why: ProbeWhy, words: String) {
        match self.stage {
            Stage::Connecting { since } if self.breaker.out_since().is_none() => {
                if now.since(since) >= CONNECT_FOR.mul_f64(self.config.time_scale) {
                    self.end(now, EndReason::Outage(words));
                } else {
                    if !std::mem::replace(&mut self.probes.told, true) {
                        self.emit(RunEvent::NotConnected { reason: words });
                    }
                    let again = CONNECT_EVERY.mul_f64(self.config.time_scale);
                    self.probes.ask_again(now.after(again), why);
                }
            }
            _ => self.on_trouble(now, &words),
        }
    }

    fn on_trouble(&mut self, now: Mono, words: &str) {
        if self.breaker.is_open() {
            self.breaker.open(now, None);
        } else {
            self.begin_outage(now, words);
        }
    }

    fn begin_outage(&mut self, now: Mono, words: &str) {
        if !self.breaker.is_open() {
            self.breaker.open(now, None);
        }
        let probe_in = self
            .breaker
            .probe_at()
            .map_or(Duration::ZERO, |at| at.since(now));
        let probe_in_ms = u64::try_from(probe_in.as_millis()).unwrap_or(u64::MAX);
        self.emit(RunEvent::OutageBegan {
            reason: words.to_owned(),
            probe_in_ms,
        });
        self.pause_all(now.after(UNTIL_TOLD));
    }

    /// The target answered a probe: whatever held requests back is over.
    fn on_alive(&mut self, now: Mono) {
        let ramp = self.breaker.is_open();
        if ramp {
            self.breaker.close();
            self.emit(RunEvent::OutageEnded);
        }
        if matches!(self.stage, Stage::Connecting { .. }) {
            self.stage = Stage::Running;
            self.emit(RunEvent::Connected);
        }
        self.tell_alive(ramp);
        self.pause_all(now.max(self.throttle.until()));
    }

    /// A read says nothing about writes. But when only a handful of rows is left, it is they that
    /// fail, not the target: let them use up their attempts.
    fn tell_alive(&mut self, ramp: bool) {
        let writes = self.only_last_rows();
        for worker in self.crew.in_phase(Phase::Ready) {
            self.send(worker, ToWorker::Alive { writes, ramp });
        }
    }

    fn check_outage(&mut self, now: Mono) {
        let since = self.breaker.out_since().filter(|_| self.stage.is_working());
        if since.is_some_and(|since| now.since(since) >= self.config.max_outage) {
            let words = format!(
                "the target has been out for {} s, as long as --max-outage allows",
                self.config.max_outage.as_secs()
            );
            self.end(now, EndReason::Outage(words));
        }
    }

    fn give_up_on_probe(&mut self, now: Mono) {
        if let Some(probe) = self.probes.under_way.take_if(|probe| probe.until <= now) {
            let words = "a probe was not answered in time".to_owned();
            self.take_probe_result(now, probe.why, ProbeResult::Trouble(words));
        }
    }

    /// Tells everybody to start nothing before `until`; an `until` that has come ends a pause.
    pub(super) fn pause_all(&mut self, until: Mono) {
        let generation = self.pacer.pause(until);
        for worker in self.crew.everybody() {
            self.effects.push(Effect::Send {
                worker,
                message: ToWorker::Pause { generation, until },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_holds_everybody_back_outlives_one_that_does_not() {
        // A look for the sake of the last rows is on its way when a request is answered 401.
        let mut probes = Probes {
            due: Some((Mono(5), ProbeWhy::Unauthorized)),
            ..Probes::default()
        };
        probes.ask_again(Mono(9), ProbeWhy::LastRows);
        assert_eq!(probes.due, Some((Mono(9), ProbeWhy::Unauthorized)));
        probes.due = None;
        probes.ask_again(Mono(9), ProbeWhy::LastRows);
        assert_eq!(probes.due, Some((Mono(9), ProbeWhy::LastRows)));
    }
}
