//! The workers as the core sees them: who is alive, who is silent, who is replaced when.

use crate::model::{Mono, WorkerId};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A started worker that has not said hello by then is killed.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A worker with work that says nothing for this long is asked whether it lives,
const SILENT_BEFORE_PING: Duration = Duration::from_secs(15);
/// asked politely to end after this much more,
const SILENT_AFTER_PING: Duration = Duration::from_secs(10);
/// and killed after this much more.
const SILENT_AFTER_TERM: Duration = Duration::from_secs(5);

/// Restarts are spaced 0.1 → 5 s.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// More deaths than this within a minute on one slot, or than this many times the workers on
/// all of them, end the run: something kills them that a restart does not cure.
const DEATHS_PER_SLOT: usize = 5;
const DEATHS_PER_WORKER: usize = 3;
const DEATHS_WINDOW: Duration = Duration::from_mins(1);

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Spawned, no hello yet.
    Starting,
    /// At work.
    Ready,
    /// Told to start nothing new.
    Draining,
    /// Nothing under way any more.
    Drained,
}

/// One incarnation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) slot: u32,
    pub(super) phase: Phase,
    /// Leases it asks for and has not got.
    pub(super) credits: u32,
    /// How many organizations it was told about as hints.
    pub(super) hints_seen: usize,
    heard: Mono,
    patience: Patience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Calm,
    Pinged(Mono),
    Terminated(Mono),
    Killed,
}

/// What to do about a silent worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nudge {
    /// Ask whether it lives.
    Ping(WorkerId),
    /// Ask it to end.
    Terminate(WorkerId),
    /// End it.
    Kill(WorkerId),
}

/// What follows a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// Somebody new comes at that time.
    At(Mono),
    /// Too many died.
    GiveUp,
}

/// All workers of a run.
#[derive(Debug)]
pub(super) struct Crew {
    members: BTreeMap<WorkerId, Member>,
    /// Slots to fill and when.
    vacant: Vec<(Mono, u32)>,
    deaths: VecDeque<(Mono, u32)>,
    asked_for: usize,
    scale: f64,
    next: WorkerId,
    restarts: u32,
}

impl Crew {
    /// Plans `workers` workers, to start at `now`.
    pub(super) fn new(workers: u32, now: Mono, scale: f64) -> Self {
        Self {
            members: BTreeMap::new(),
            vacant: (0..workers).map(|slot| (now, slot)).collect(),
            deaths: VecDeque::new(),
            asked_for: workers as usize,
            scale,
            next: WorkerId(1),
            restarts: 0,
        }
    }

    /// Returns one that is due to start, counted as a member from now on.
    pub(super) fn start_due(&mut self, now: Mono) -> Option<(WorkerId, u32)> {
        let at = self.vacant.iter().position(|(due, _)| *due <= now)?;
        let (_, slot) = self.vacant.swap_remove(at);
        let id = self.next;
        self.next = WorkerId(id.0 + 1);
        let member = Member {
            slot,
            phase: Phase::Starting,
            credits: 0,
            hints_seen: 0,
            heard: now,
            patience: Patience::Calm,
        };
        self.members.insert(id, member);
        Some((id, slot))
    }

    /// Starts nobody any more.
    pub(super) fn close(&mut self) {
        self.vacant.clear();
    }

    /// Returns a member.
    pub(super) fn get(&self, worker: WorkerId) -> Option<&Member> {
        self.members.get(&worker)
    }

    /// Returns a member, to be changed.
    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Member> {
        self.members.get_mut(&worker)
    }

    /// Returns the slot of a member.
    pub(super) fn slot(&self, worker: WorkerId) -> Option<u32> {
        self.members.get(&worker).map(|member| member.slot)
    }

    /// Returns everybody alive.
    pub(super) fn everybody(&self) -> Vec<WorkerId> {
        self.members.keys().copied().collect()
    }

    /// Returns everybody in `phase`.
    pub(super) fn in_phase(&self, phase: Phase) -> Vec<WorkerId> {
        let of_phase = |(_, member): &(&WorkerId, &Member)| member.phase == phase;
        self.members
            .iter()
            .filter(of_phase)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Returns whether somebody at work asks for a lease.
    pub(super) fn is_anybody_hungry(&self) -> bool {
        let hungry = |member: &Member| member.phase == Phase::Ready && member.credits > 0;
        self.members.values().any(hungry)
    }

    /// Returns whether nobody is alive.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the restarts so far.
    pub(super) const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Notes that a member said something.
    pub(super) fn on_heard(&mut self, worker: WorkerId, now: Mono) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.heard = now;
            if member.patience != Patience::Killed {
                member.patience = Patience::Calm;
            }
        }
    }

    /// Removes a member that ended; returns it.
    pub(super) fn on_gone(&mut self, worker: WorkerId) -> Option<Member> {
        self.members.remove(&worker)
    }

    /// Plans the successor of one that died.
    pub(super) fn replace(&mut self, slot: u32, now: Mono) -> Succession {
        self.deaths.push_back((now, slot));
        let oldest = now.before(DEATHS_WINDOW);
        while self.deaths.front().is_some_and(|(at, _)| *at < oldest) {
            self.deaths.pop_front();
        }
        let here = self
            .deaths
            .iter()
            .filter(|(_, other)| *other == slot)
            .count();
        if here > DEATHS_PER_SLOT || self.deaths.len() > DEATHS_PER_WORKER * self.asked_for.max(2) {
            return Succession::GiveUp;
        }
        let doublings = u32::try_from(here.saturating_sub(1)).unwrap_or(0).min(6);
        let wait = RESTART_FIRST
            .saturating_mul(1 << doublings)
            .min(RESTART_MAX);
        let at = now.after(wait.mul_f64(self.scale));
        self.vacant.push((at, slot));
        self.restarts += 1;
        Succession::At(at)
    }

    /// Returns what to do about members that are silent although something is asked of them.
    pub(super) fn nudges(&mut self, now: Mono, busy: impl Fn(WorkerId) -> bool) -> Vec<Nudge> {
        let mut nudges = Vec::new();
        let [ping, terminate, kill] = [SILENT_BEFORE_PING, SILENT_AFTER_PING, SILENT_AFTER_TERM]
            .map(|patience| patience.mul_f64(self.scale));
        for (id, member) in &mut self.members {
            let silent = now.since(member.heard);
            let starting = member.phase == Phase::Starting;
            match member.patience {
                Patience::Calm if starting && silent >= HELLO_WITHIN => {
                    member.patience = Patience::Killed;
                    nudges.push(Nudge::Kill(*id));
                }
                Patience::Calm if !starting && silent >= ping && busy(*id) => {
                    member.patience = Patience::Pinged(now);
                    nudges.push(Nudge::Ping(*id));
                }
                Patience::Pinged(at) if now.since(at) >= terminate => {
                    member.patience = Patience::Terminated(now);
                    nudges.push(Nudge::Terminate(*id));
                }
                Patience::Terminated(at) if now.since(at) >= kill => {
                    member.patience = Patience::Killed;
                    nudges.push(Nudge::Kill(*id));
                }
                Patience::Calm
                | Patience::Pinged(_)
                | Patience::Terminated(_)
                | Patience::Killed => {}
            }
        }
        nudges
    }

    /// Returns when somebody is due to start.
    pub(super) fn start_at(&self) -> Option<Mono> {
        self.vacant.iter().map(|(due, _)| *due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_silent_worker_is_pinged_then_terminated_then_killed() {
        let mut crew = Crew::new(1, at(0), 1.0);
        let (id, _) = crew.start_due(at(0)).unwrap();
        crew.get_mut(id).unwrap().phase = Phase::Ready;
        assert_eq!(crew.nudges(at(14), |_| true), []);
        assert_eq!(
            crew.nudges(at(15), |_| false),
            [],
            "idle ones may be silent"
        );
        assert_eq!(crew.nudges(at(15), |_| true), [Nudge::Ping(id)]);
        assert_eq!(crew.nudges(at(25), |_| true), [Nudge::Terminate(id)]);
        assert_eq!(crew.nudges(at(30), |_| true), [Nudge::Kill(id)]);
        assert_eq!(crew.nudges(at(99), |_| true), []);
    }

    #[test]
    fn any_word_restores_patience() {
        let mut crew = Crew::new(1, at(0), 1.0);
        let (id, _) = crew.start_due(at(0)).unwrap();
        crew.get_mut(id).unwrap().phase = Phase::Ready;
        crew.nudges(at(15), |_| true);
        crew.on_heard(id, at(16));
        assert_eq!(crew.nudges(at(26), |_| true), []);
    }

    #[test]
    fn restarts_are_spaced_and_limited() {
        let mut crew = Crew::new(4, at(0), 1.0);
        let mut waits = Vec::new();
        for _ in 0..5 {
            match crew.replace(2, at(0)) {
                Succession::At(due) => waits.push(due.since(at(0)).as_millis()),
                Succession::GiveUp => panic!("too early"),
            }
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600]);
        assert_eq!(crew.replace(2, at(1)), Succession::GiveUp);
        assert!(
            matches!(crew.replace(2, at(120)), Succession::At(_)),
            "a minute later"
        );
    }

    #[test]
    fn one_that_never_says_hello_is_killed() {
        let mut crew = Crew::new(1, at(0), 1.0);
        let (id, _) = crew.start_due(at(0)).unwrap();
        assert_eq!(crew.nudges(at(10), |_| false), [Nudge::Kill(id)]);
    }
}
