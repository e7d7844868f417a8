//! The gate every request of this worker passes: slots, pauses, and who goes first.
//!
//! Rows that have sent something go before rows that have not: fewer rows are half done at any
//! time. No lock is held across an await; the runtime has one thread.

use crate::model::{Mono, plant};
use crate::protocol::SlotLease;
use crate::target::RequestClass;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
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
    started: VecDeque<oneshot::Sender<Pass>>,
    fresh: VecDeque<oneshot::Sender<Pass>>,
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
    in_flight: Rc<Cell<u32>>,
    stillness: Stillness,
}

/// What a request holds that went through: it is on the wire until this is dropped.
#[derive(Debug)]
pub struct Pass {
    since: Mono,
    in_flight: Rc<Cell<u32>>,
}

impl Pass {
    fn take(since: Mono, in_flight: &Rc<Cell<u32>>) -> Self {
        in_flight.set(in_flight.get().saturating_add(1));
        let in_flight = Rc::clone(in_flight);
        Self { since, in_flight }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }
}

/// Notices a target that stands still.
///
/// It takes what was sent meanwhile all at once, as if nothing had kept a pace, and its window is
/// over. So while a limit is kept, nothing more is sent to one from which several requests have
/// had no answer for much longer than usual; for a moment only, because a connection may be dead
/// and a target slow for good.
#[derive(Debug, Default)]
struct Stillness {
    /// The mean latency of late, once there was an answer.
    usual: Option<Duration>,
    /// When the latest answer came.
    answered: Mono,
    /// How many requests were sent since,
    sent: u32,
    /// and when the first of them was.
    since: Mono,
}

impl Stillness {
    /// A latency is forgotten over about this time.
    const FORGET: Duration = Duration::from_millis(250);
    /// Fewer requests than this fill no window.
    const ENOUGH: u32 = 4;
    /// By so much every machine is late at times.
    const LATE: Duration = Duration::from_millis(1);
    /// After this the target is slow, or gone, and what a limit allows is sent again.
    const MOMENT: Duration = Duration::from_millis(250);

    fn on_sent(&mut self, now: Mono, count: u32) {
        if self.sent == 0 {
            self.since = now;
        }
        self.sent = self.sent.saturating_add(count);
    }

    fn on_answer(&mut self, now: Mono, latency: Duration) {
        // Of answers that come together the first counts: it is the one that was waited for.
        let passed = now.since(self.answered).as_secs_f64();
        let share = passed / (passed + Self::FORGET.as_secs_f64());
        self.usual = Some(match self.usual {
            None => latency,
            Some(usual) => usual.mul_f64(1.0 - share) + latency.mul_f64(share),
        });
        self.answered = now;
        self.sent = 0;
    }

    /// Returns until when nothing is sent, if the target stands still.
    fn until(&self, now: Mono) -> Option<Mono> {
        let from = self.since.after(self.usual? + Self::LATE);
        let until = from.after(Self::MOMENT);
        (self.sent >= Self::ENOUGH && (from..until).contains(&now)).then_some(until)
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
            in_flight: Rc::default(),
            stillness: Stillness::default(),
        }
    }

    /// Lets a request through right now if nothing holds it back.
    pub fn try_pass(&mut self, class: RequestClass, now: Mono, turn: Turn) -> Option<Pass> {
        let turned_away = self.draining && turn == Turn::Fresh;
        let open = !self.line(class).paced && now >= self.paused_until;
        (open && !turned_away && self.room() > 0).then(|| {
            self.stillness.on_sent(now, 1);
            Pass::take(now, &self.in_flight)
        })
    }

    /// Notes that a request which went through was answered, well or not.
    pub fn on_answer(&mut self, pass: Pass, now: Mono, good: bool) {
        self.stillness.on_answer(now, now.since(pass.since));
        drop(pass);
        if good {
            let wider = self.ramp.map(|width| width.saturating_mul(2));
            self.ramp = wider.filter(|width| *width < RAMP_MAX);
        }
    }

    /// After an outage: one request first.
    pub fn ramp(&mut self) {
        self.ramp = Some(1);
    }

    /// Returns how many more requests may be on the wire.
    fn room(&self) -> u32 {
        let in_flight = self.in_flight.get();
        self.ramp
            .map_or(u32::MAX, |width| width.saturating_sub(in_flight))
    }

    /// Waits in line. The receiver fails when a drain turned the row away.
    pub fn wait(&mut self, class: RequestClass, turn: Turn) -> oneshot::Receiver<Pass> {
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

    /// Returns how many requests are on the wire.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Returns how many requests wait.
    pub fn waiting(&self) -> usize {
        self.writes.waiting() + self.reads.waiting()
    }

    /// Lets through whoever may go.
    pub fn look(&mut self, now: Mono) -> Look {
        let mut look = Look::default();
        for class in [RequestClass::Write, RequestClass::Read] {
            let still_until = self.still_until(class, now);
            let mut room = still_until.map_or_else(|| self.room(), |_| 0);
            let in_flight = Rc::clone(&self.in_flight);
            let before = in_flight.get();
            let paused_until = self.paused_until;
            let line = self.line_mut(class);
            let next = line.look(now, paused_until, &mut room, &in_flight);
            let wants = if still_until.is_none() {
                line.wants()
            } else {
                0
            };
            look.wants.extend((wants > 0).then_some((class, wants)));
            look.again_at = [look.again_at, next, still_until]
                .into_iter()
                .flatten()
                .min();
            let sent = in_flight.get().saturating_sub(before);
            if sent > 0 {
                self.stillness.on_sent(now, sent);
            }
        }
        look
    }

    /// Returns until when `class` sends nothing because the target stands still.
    fn still_until(&self, class: RequestClass, now: Mono) -> Option<Mono> {
        let line = self.line(class);
        let still = self.stillness.until(now);
        still.filter(|_| line.paced && line.waiting() > 0)
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

    /// Returns how many slots to ask for, and counts them as asked for.
    fn wants(&mut self) -> u32 {
        if !self.paced {
            return 0;
        }
        let missing = self.waiting().saturating_sub(self.asked);
        self.asked += missing;
        u32::try_from(missing).unwrap_or(u32::MAX)
    }

    fn look(
        &mut self,
        now: Mono,
        paused_until: Mono,
        room: &mut u32,
        in_flight: &Rc<Cell<u32>>,
    ) -> Option<Mono> {
        if now < paused_until {
            return (self.waiting() > 0).then_some(paused_until);
        }
        if !self.paced {
            while self.pass_one(now, room, in_flight) {}
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
            if !self.pass_one(now, room, in_flight) {
                // Nobody waits, or there is no room: it stays for whoever comes before it is dead.
                return None;
            }
            self.slots.pop_front();
            self.asked = self.asked.saturating_sub(1);
        }
        None
    }

    /// Lets one through; returns whether anybody was there. Those who gave up are passed over.
    fn pass_one(&mut self, now: Mono, room: &mut u32, in_flight: &Rc<Cell<u32>>) -> bool {
        if *room == 0 {
            return false;
        }
        while let Some(waiter) = self.started.pop_front().or_else(|| self.fresh.pop_front()) {
            if waiter.send(Pass::take(now, in_flight)).is_ok() {
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

    fn passed(waiter: &mut oneshot::Receiver<Pass>) -> bool {
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
        let passed_now = |gate: &mut Gate| {
            let pass = gate.try_pass(RequestClass::Read, Mono(0), Turn::Fresh);
            pass.is_some()
        };
        assert!(passed_now(&mut gate));
        gate.on_pause(1, Mono(50 * MS));
        assert!(!passed_now(&mut gate));
        let mut waiter = gate.wait(RequestClass::Read, Turn::Fresh);
        assert_eq!(gate.look(Mono(1)).again_at, Some(Mono(50 * MS)));
        gate.look(Mono(50 * MS));
        assert!(passed(&mut waiter));
    }

    fn turned_away(waiter: &mut oneshot::Receiver<Pass>) -> bool {
        matches!(waiter.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn a_drain_turns_away_only_rows_that_sent_nothing() {
        let mut gate = Gate::new(false, false);
        gate.on_pause(1, Mono(50 * MS));
        let mut fresh = gate.wait(RequestClass::Write, Turn::Fresh);
        let mut started = gate.wait(RequestClass::Write, Turn::Started);
        gate.drain();
        assert!(turned_away(&mut fresh));
        let mut late = gate.wait(RequestClass::Write, Turn::Fresh);
        assert!(turned_away(&mut late));
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

    /// What was sent, and when: in milliseconds.
    struct Flow {
        sent: Vec<u64>,
        /// The most that were on the wire at a time.
        most: usize,
    }

    impl Flow {
        fn between(&self, from: u64, to: u64) -> usize {
            let there = |at: &&u64| (from..to).contains(*at);
            self.sent.iter().filter(there).count()
        }
    }

    /// Sends all it may for `ms`, a slot every `every` milliseconds, asked for or not.
    /// `answered_at` says when what is sent is answered.
    fn flow(every: u64, ms: u64, answered_at: impl Fn(u64) -> u64) -> Flow {
        let mut gate = Gate::new(true, true);
        let mut waiting = Vec::new();
        let mut wire: Vec<(u64, Pass)> = Vec::new();
        let mut seen = Flow {
            sent: Vec::new(),
            most: 0,
        };
        for now in 0..ms {
            for (_, pass) in wire.extract_if(.., |(at, _)| *at <= now) {
                gate.on_answer(pass, Mono(now * MS), true);
            }
            while waiting.len() < 5 {
                waiting.push(gate.wait(RequestClass::Write, Turn::Fresh));
            }
            if now.is_multiple_of(every) {
                gate.on_slots(&slots(0, now, 1));
            }
            gate.look(Mono(now * MS));
            waiting.retain_mut(|waiter| {
                let Ok(pass) = waiter.try_recv() else {
                    return true;
                };
                wire.push((answered_at(now), pass));
                seen.sent.push(now);
                false
            });
            seen.most = seen.most.max(wire.len());
        }
        seen
    }

    #[test]
    fn a_target_that_stands_still_for_a_moment_is_sent_no_more_than_a_few() {
        let still_at_900 = |latency: u64| {
            move |now: u64| match now + latency {
                at @ 900..1000 => at.max(1000),
                at => at,
            }
        };
        let quick = flow(1, 2000, still_at_900(2));
        assert!(quick.most <= 20, "{}", quick.most);
        // As before, right after; and the slots that are not dead yet.
        assert!((1000..1010).contains(&quick.between(1000, 2000)));
        let slower = flow(1, 2000, still_at_900(20));
        assert!((40..=90).contains(&slower.most), "{}", slower.most);
    }

    #[test]
    fn whatever_the_latency_all_of_the_limit_is_sent() {
        for latency in [0, 1, 2, 20, 200, 900] {
            let seen = flow(1, 3000, |now| now + latency);
            assert_eq!(seen.sent.len(), 3000, "{latency}");
        }
        // Answers that come together, every 200 ms.
        let together = flow(2, 4000, |now| (now / 200 + 1) * 200);
        assert_eq!(together.sent.len(), 2000);
        // Every fifth takes fifty times as long.
        let uneven = flow(2, 4000, |now| now + if now % 10 == 0 { 500 } else { 10 });
        assert_eq!(uneven.sent.len(), 2000);
    }

    #[test]
    fn a_target_that_becomes_slow_is_held_back_for_a_moment_only() {
        let slow_from_1000 = |now: u64| now + if now < 1000 { 2 } else { 1000 };
        let seen = flow(20, 4000, slow_from_1000);
        assert_eq!(seen.between(0, 1000), 50);
        let meanwhile = seen.between(1000, 2000);
        assert!(meanwhile >= 35, "{meanwhile}");
        assert_eq!(seen.between(2000, 4000), 100);
    }

    #[test]
    fn requests_that_hang_hold_back_others_for_a_moment_only() {
        // All that is sent in 100 ms is never answered, for half a minute at least.
        let seen = flow(20, 4000, |now| match now {
            1000..1100 => u64::MAX,
            _ => now + 20,
        });
        assert!(seen.between(1000, 1300) >= 5);
        assert_eq!(seen.between(1300, 4000), 135);
    }

    #[test]
    fn while_it_stands_still_no_slots_are_asked_for() {
        let mut gate = Gate::new(true, true);
        for _ in 0..500 {
            let pass = Pass::take(Mono(0), &gate.in_flight);
            gate.on_answer(pass, Mono(2 * MS), true);
        }
        let _waiters: Vec<_> = (0..5)
            .map(|_| gate.wait(RequestClass::Write, Turn::Fresh))
            .collect();
        assert_eq!(gate.look(Mono(0)).wants, [(RequestClass::Write, 5)]);
        gate.on_slots(&slots(0, 0, 4));
        for at in [0, 10, 20, 30] {
            gate.look(Mono(at * MS));
        }
        // The fifth waits; no answer came for 40 ms.
        let _more = gate.wait(RequestClass::Write, Turn::Fresh);
        let still = gate.look(Mono(40 * MS));
        assert_eq!(still.wants, []);
        let until = still.again_at.unwrap();
        assert!(until > Mono(200 * MS) && until < Mono(300 * MS));
        assert_eq!(gate.look(until).wants, [(RequestClass::Write, 1)]);
    }

    #[test]
    fn a_request_that_is_given_up_gives_its_pass_back() {
        let mut gate = Gate::new(false, false);
        gate.ramp();
        let waiter = gate.wait(RequestClass::Read, Turn::Fresh);
        gate.look(Mono(0));
        assert_eq!(gate.in_flight(), 1);
        drop(waiter);
        assert_eq!(gate.in_flight(), 0);
        let mut next = gate.wait(RequestClass::Read, Turn::Fresh);
        gate.look(Mono(0));
        assert!(passed(&mut next));
    }

    #[test]
    fn after_an_outage_requests_start_one_two_four() {
        let mut gate = Gate::new(false, false);
        gate.ramp();
        let mut waiters: Vec<_> = (0..7)
            .map(|_| gate.wait(RequestClass::Write, Turn::Fresh))
            .collect();
        let mut wire = Vec::new();
        let mut after = |gate: &mut Gate, answer: Option<bool>| {
            if let Some(good) = answer {
                gate.on_answer(wire.pop().unwrap(), Mono(0), good);
            }
            gate.look(Mono(0));
            let before = waiters.len();
            waiters.retain_mut(|waiter| waiter.try_recv().map(|pass| wire.push(pass)).is_err());
            before - waiters.len()
        };
        assert_eq!(after(&mut gate, None), 1);
        assert_eq!(after(&mut gate, None), 0);
        assert_eq!(after(&mut gate, Some(true)), 2);
        assert_eq!(after(&mut gate, Some(false)), 1);
        assert_eq!(after(&mut gate, Some(true)), 3);
    }
}
