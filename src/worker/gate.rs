//! The gate every request of this worker passes: slots, pauses, and who goes first.
//!
//! Rows that have sent something go before rows that have not: fewer rows are half done at any
//! time. No lock is held across an await; the runtime has one thread.

use crate::model::{Mono, plant};
use crate::protocol::SlotLease;
use crate::target::RequestClass;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;

/// Whether a row has sent a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something of it is on the target already, perhaps.
    Started,
    /// Nothing was sent for it.
    Fresh,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    at: Mono,
    dead_at: Mono,
}

#[derive(Debug, Default)]
struct Line {
    /// Whether slots are needed.
    paced: bool,
    started: VecDeque<oneshot::Sender<()>>,
    fresh: VecDeque<oneshot::Sender<()>>,
    slots: VecDeque<Slot>,
    /// Slots asked for and neither used nor dead.
    asked: usize,
}

/// Who waits, and for what.
#[derive(Debug)]
pub struct Gate {
    writes: Line,
    reads: Line,
    generation: u32,
    paused_until: Mono,
    draining: bool,
    /// After an outage: at most this many in flight; twice as many with every good answer.
    ramp: Option<u32>,
    in_flight: u32,
    wire: Wire,
}

/// How many requests may be on the wire while a limit is kept: well beyond what usually is.
///
/// A target that stands still for a moment takes what was sent meanwhile all at once, as if
/// nothing had kept a pace, and its window is over. What is in flight bounds that, whatever the
/// length of the moment. Nothing is learned while no answer comes, so the moment itself widens
/// nothing; answers that only take longer widen it within a few round trips.
#[derive(Debug)]
struct Wire {
    /// The mean number in flight as the last answers saw it, times [`Self::ANSWERS`].
    seen: u32,
}

impl Wire {
    /// What it begins with: wide, so that a slow target is not learned step by step.
    const FIRST: u32 = 128;
    /// No fewer than this: a latency that is short for a moment holds nobody back.
    const LEAST: u32 = 4;
    /// How many times the usual number there may be.
    const TIMES: u32 = 2;
    /// Of how many answers the mean is.
    const ANSWERS: u32 = 64;

    const fn new() -> Self {
        Self {
            seen: Self::FIRST / Self::TIMES * Self::ANSWERS,
        }
    }

    fn most(&self) -> u32 {
        (self.seen / (Self::ANSWERS / Self::TIMES)).max(Self::LEAST)
    }

    /// Notes an answer that came while `in_flight` requests were on the wire, its own among them.
    fn on_answer(&mut self, in_flight: u32) {
        let most = self.most();
        if in_flight >= most {
            // Full: one more with every answer, so twice as many after a round trip.
            let wider = most.saturating_add(1);
            self.seen = wider.saturating_mul(Self::ANSWERS / Self::TIMES);
        } else {
            let forgotten = self.seen / Self::ANSWERS;
            self.seen = self
                .seen
                .saturating_sub(forgotten)
                .saturating_add(in_flight);
        }
    }

    fn room(&self, in_flight: u32) -> u32 {
        self.most().saturating_sub(in_flight)
    }
}

/// The ramp ends here: by then the target has proven itself.
const RAMP_MAX: u32 = 1024;

/// What the gate wants done after it was looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Slots to ask for, by class.
    pub wants: Vec<(RequestClass, u32)>,
    /// When to look again, if nothing happens before.
    pub again_at: Option<Mono>,
}

impl Gate {
    /// Makes a gate; classes that are not paced pass whenever there is no pause.
    pub fn new(paced_writes: bool, paced_reads: bool) -> Self {
        Self {
            writes: Line {
                paced: paced_writes,
                ..Line::default()
            },
            reads: Line {
                paced: paced_reads,
                ..Line::default()
            },
            generation: 0,
            paused_until: Mono(0),
            draining: false,
            ramp: None,
            in_flight: 0,
            wire: Wire::new(),
        }
    }

    /// Lets a request through right now if nothing holds it back.
    pub fn try_pass(&mut self, class: RequestClass, now: Mono, turn: Turn) -> bool {
        let turned_away = self.draining && turn == Turn::Fresh;
        let open = !self.line(class).paced && now >= self.paused_until;
        let passes = open && !turned_away && self.room(class) > 0;
        self.in_flight += u32::from(passes);
        passes
    }

    /// Notes that a request which went through was answered, well or not.
    pub fn on_answer(&mut self, good: bool) {
        self.wire.on_answer(self.in_flight);
        self.in_flight = self.in_flight.saturating_sub(1);
        if good {
            let wider = self.ramp.map(|width| width.saturating_mul(2));
            self.ramp = wider.filter(|width| *width < RAMP_MAX);
        }
    }

    /// After an outage: one request first.
    pub fn ramp(&mut self) {
        self.ramp = Some(1);
    }

    /// Returns how many more requests of `class` may be on the wire.
    fn room(&self, class: RequestClass) -> u32 {
        let ramp = self.ramp.map(|width| width.saturating_sub(self.in_flight));
        let paced = self.line(class).paced;
        let wire = paced.then(|| self.wire.room(self.in_flight));
        ramp.into_iter().chain(wire).min().unwrap_or(u32::MAX)
    }

    /// Waits in line. The receiver fails when a drain turned the row away.
    pub fn wait(&mut self, class: RequestClass, turn: Turn) -> oneshot::Receiver<()> {
        let (pass, waiter) = oneshot::channel();
        if self.draining && turn == Turn::Fresh {
            return waiter;
        }
        let line = self.line_mut(class);
        match turn {
            Turn::Started => line.started.push_back(pass),
            Turn::Fresh => line.fresh.push_back(pass),
        }
        waiter
    }

    /// Takes slots, unless a pause has voided them.
    pub fn on_slots(&mut self, lease: &SlotLease) {
        if lease.generation != self.generation {
            return;
        }
        let expiry = Duration::from_nanos(lease.expiry_ns);
        let line = self.line_mut(lease.class);
        for n in 0..u64::from(lease.count) {
            let offset = Duration::from_nanos(lease.interval_ns.saturating_mul(n));
            let at = lease.first.after(offset);
            line.slots.push_back(Slot {
                at,
                dead_at: at.after(expiry),
            });
        }
    }

    /// Starts nothing before `until`; slots and asks of older generations are void.
    pub fn on_pause(&mut self, generation: u32, until: Mono) {
        self.generation = generation;
        self.paused_until = if plant::is(22) { Mono(0) } else { until };
        for line in [&mut self.writes, &mut self.reads] {
            line.slots.clear();
            line.asked = 0;
        }
    }

    /// Holds everything back until the coordinator speaks, at the longest until `until`.
    pub fn hold(&mut self, until: Mono) {
        self.paused_until = self.paused_until.max(until);
        for line in [&mut self.writes, &mut self.reads] {
            // What is thrown away has to be asked for again, should no pause follow.
            if !plant::is(24) {
                line.asked = line.asked.saturating_sub(line.slots.len());
            }
            line.slots.clear();
        }
    }

    /// Turns away whoever has sent nothing yet, now and from now on.
    pub fn drain(&mut self) {
        self.draining = true;
        self.writes.fresh.clear();
        self.reads.fresh.clear();
    }

    /// Returns the generation of slots that asks are for.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns how many requests wait.
    pub fn waiting(&self) -> usize {
        self.writes.waiting() + self.reads.waiting()
    }

    /// Lets through whoever may go.
    pub fn look(&mut self, now: Mono) -> Look {
        let mut look = Look::default();
        let paused_until = self.paused_until;
        for class in [RequestClass::Write, RequestClass::Read] {
            let mut room = self.room(class);
            let before = room;
            let line = self.line_mut(class);
            let next = line.look(now, paused_until, &mut room);
            self.in_flight += before - room;
            let line = self.line_mut(class);
            look.again_at = [look.again_at, next].into_iter().flatten().min();
            let missing = line.waiting().saturating_sub(line.asked);
            if line.paced && missing > 0 {
                line.asked += missing;
                look.wants
                    .push((class, u32::try_from(missing).unwrap_or(u32::MAX)));
            }
        }
        look
    }

    const fn line(&self, class: RequestClass) -> &Line {
        match class {
            RequestClass::Write => &self.writes,
            RequestClass::Read => &self.reads,
        }
    }

    const fn line_mut(&mut self, class: RequestClass) -> &mut Line {
        match class {
            RequestClass::Write => &mut self.writes,
            RequestClass::Read => &mut self.reads,
        }
    }
}

impl Line {
    fn waiting(&self) -> usize {
        self.started.len() + self.fresh.len()
    }

    fn look(&mut self, now: Mono, paused_until: Mono, room: &mut u32) -> Option<Mono> {
        if now < paused_until {
            return (self.waiting() > 0).then_some(paused_until);
        }
        if !self.paced {
            while self.pass_one(room) {}
            return None;
        }
        while let Some(slot) = self.slots.front().copied() {
            if slot.dead_at < now {
                self.slots.pop_front();
                self.asked = self.asked.saturating_sub(1);
                continue;
            }
            if slot.at > now {
                return (self.waiting() > 0).then_some(slot.at);
            }
            if !self.pass_one(room) {
                // Nobody waits, or there is no room: it stays for whoever comes before it is dead.
                return None;
            }
            self.slots.pop_front();
            self.asked = self.asked.saturating_sub(1);
        }
        None
    }

    /// Lets one through; returns whether anybody was there. Those who gave up are passed over.
    fn pass_one(&mut self, room: &mut u32) -> bool {
        if *room == 0 {
            return false;
        }
        while let Some(waiter) = self.started.pop_front().or_else(|| self.fresh.pop_front()) {
            if waiter.send(()).is_ok() {
                *room -= 1;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn slots(generation: u32, first_ms: u64, count: u32) -> SlotLease {
        SlotLease {
            generation,
            class: RequestClass::Write,
            first: Mono(first_ms * MS),
            interval_ns: 10 * MS,
            count,
            expiry_ns: 5 * MS,
        }
    }

    fn passed(waiter: &mut oneshot::Receiver<()>) -> bool {
        waiter.try_recv().is_ok()
    }

    #[test]
    fn a_paced_request_asks_once_and_goes_with_its_slot() {
        let mut gate = Gate::new(true, true);
        let mut waiter = gate.wait(RequestClass::Write, Turn::Fresh);
        assert_eq!(gate.look(Mono(0)).wants, [(RequestClass::Write, 1)]);
        assert_eq!(gate.look(Mono(0)).wants, []);
        gate.on_slots(&slots(0, 20, 1));
        assert_eq!(gate.look(Mono(0)).again_at, Some(Mono(20 * MS)));
        assert!(!passed(&mut waiter));
        gate.look(Mono(21 * MS));
        assert!(passed(&mut waiter));
    }

    #[test]
    fn a_dead_slot_is_asked_for_again() {
        let mut gate = Gate::new(true, true);
        let mut waiter = gate.wait(RequestClass::Write, Turn::Fresh);
        gate.look(Mono(0));
        gate.on_slots(&slots(0, 20, 1));
        assert_eq!(gate.look(Mono(26 * MS)).wants, [(RequestClass::Write, 1)]);
        assert!(!passed(&mut waiter));
    }

    #[test]
    fn started_rows_go_first() {
        let mut gate = Gate::new(true, true);
        let mut fresh = gate.wait(RequestClass::Write, Turn::Fresh);
        let mut started = gate.wait(RequestClass::Write, Turn::Started);
        gate.look(Mono(0));
        gate.on_slots(&slots(0, 1, 1));
        gate.look(Mono(2 * MS));
        assert!(passed(&mut started) && !passed(&mut fresh));
    }

    #[test]
    fn a_pause_voids_slots_and_asks_are_said_again() {
        let mut gate = Gate::new(true, true);
        let mut waiter = gate.wait(RequestClass::Write, Turn::Fresh);
        gate.look(Mono(0));
        gate.on_slots(&slots(0, 1, 1));
        gate.on_pause(1, Mono(50 * MS));
        assert_eq!(gate.look(Mono(2 * MS)).wants, [(RequestClass::Write, 1)]);
        gate.on_slots(&slots(0, 60, 1));
        gate.look(Mono(61 * MS));
        assert!(!passed(&mut waiter), "a slot of an older generation");
        gate.on_slots(&slots(1, 62, 1));
        gate.look(Mono(63 * MS));
        assert!(passed(&mut waiter));
    }

    #[test]
    fn what_is_not_paced_still_waits_out_a_pause() {
        let mut gate = Gate::new(false, false);
        assert!(gate.try_pass(RequestClass::Read, Mono(0), Turn::Fresh));
        gate.on_answer(true);
        gate.on_pause(1, Mono(50 * MS));
        assert!(!gate.try_pass(RequestClass::Read, Mono(0), Turn::Fresh));
        let mut waiter = gate.wait(RequestClass::Read, Turn::Fresh);
        assert_eq!(gate.look(Mono(1)).again_at, Some(Mono(50 * MS)));
        gate.look(Mono(50 * MS));
        assert!(passed(&mut waiter));
    }

    #[test]
    fn a_drain_turns_away_only_rows_that_sent_nothing() {
        let mut gate = Gate::new(false, false);
        gate.on_pause(1, Mono(50 * MS));
        let mut fresh = gate.wait(RequestClass::Write, Turn::Fresh);
        let mut started = gate.wait(RequestClass::Write, Turn::Started);
        gate.drain();
        assert_eq!(fresh.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let mut late = gate.wait(RequestClass::Write, Turn::Fresh);
        assert_eq!(late.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        gate.look(Mono(50 * MS));
        assert!(passed(&mut started));
    }

    #[test]
    fn what_a_hold_throws_away_is_asked_for_again() {
        let mut gate = Gate::new(true, true);
        let _waiter = gate.wait(RequestClass::Write, Turn::Fresh);
        assert_eq!(gate.look(Mono(0)).wants, [(RequestClass::Write, 1)]);
        gate.on_slots(&slots(0, 20, 1));
        gate.hold(Mono(15 * MS));
        assert_eq!(gate.look(Mono(16 * MS)).wants, [(RequestClass::Write, 1)]);
    }

    /// Every millisecond a slot and a request for it; answers come after `latency` milliseconds,
    /// none from `still_from` on. Returns the most that were ever in flight, and how many were sent.
    fn flow(latency: u64, ms: u64, still_from: u64) -> (usize, usize) {
        let mut gate = Gate::new(true, true);
        let (mut waiting, mut wire) = (Vec::new(), VecDeque::new());
        let (mut most, mut sent) = (0, 0);
        for now in 0..ms {
            while now < still_from && wire.front().is_some_and(|at| at + latency <= now) {
                wire.pop_front();
                gate.on_answer(true);
            }
            if waiting.len() < 5 {
                waiting.push(gate.wait(RequestClass::Write, Turn::Fresh));
            }
            gate.on_slots(&slots(0, now, 1));
            gate.look(Mono(now * MS));
            waiting.retain_mut(|waiter| {
                let goes = passed(waiter);
                wire.extend(goes.then_some(now));
                !goes
            });
            sent += wire.iter().filter(|at| **at == now).count();
            most = most.max(wire.len());
        }
        (most, sent)
    }

    #[test]
    fn a_target_that_stands_still_is_sent_no_more_than_a_few() {
        assert_eq!(flow(2, 1000, u64::MAX), (2, 1000));
        let (most, _) = flow(2, 1000, 500);
        assert!(most <= 12, "{most}");
        let (most, _) = flow(20, 1000, 500);
        assert!((40..=90).contains(&most), "{most}");
    }

    #[test]
    fn a_slow_target_is_sent_as_much_as_the_limit_allows() {
        let (most, sent) = flow(200, 20_000, u64::MAX);
        assert!(most >= 200 && sent > 19_000, "{most} {sent}");
    }

    #[test]
    fn after_an_outage_requests_start_one_two_four() {
        let mut gate = Gate::new(false, false);
        gate.ramp();
        let mut waiters: Vec<_> = (0..7)
            .map(|_| gate.wait(RequestClass::Write, Turn::Fresh))
            .collect();
        let mut passed_now = |gate: &mut Gate| {
            gate.look(Mono(0));
            let before = waiters.len();
            waiters.retain_mut(|waiter| !passed(waiter));
            before - waiters.len()
        };
        assert_eq!(passed_now(&mut gate), 1);
        assert_eq!(passed_now(&mut gate), 0);
        gate.on_answer(true);
        assert_eq!(passed_now(&mut gate), 2);
        gate.on_answer(false);
        assert_eq!(passed_now(&mut gate), 1);
        gate.on_answer(true);
        assert_eq!(passed_now(&mut gate), 3);
    }
}
