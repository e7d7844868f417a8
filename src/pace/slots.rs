//! Who may start a request when.
//!
//! Workers say how many requests wait; the pacer hands out small leases of time slots, in turn.
//! Slots are handed out only shortly before they are due and only against a want, so hardly one
//! is lost; a slot that nobody used dies with its time. After a pause every slot handed out
//! before is void and every want has to be said again, under the next generation.

use super::auto::Share;
use super::budget::Budget;
use crate::model::{AutoRate, Mono, RateLimit, RateLimits, RateShift, WorkerId, plant};
use crate::protocol::SlotLease;
use crate::target::RequestClass;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long before its time a slot is handed out: long enough for a slow pipe and a busy machine.
const HORIZON: Duration = Duration::from_millis(80);

/// The length of one lease: enough that fifty leases a second serve any rate.
const LEASE: Duration = Duration::from_millis(20);

/// The length of a lease of reads while writes wait for slots of a total that both share. The last
/// one of a turn reaches beyond the horizon, and the next write comes after all of it.
const READ_LEASE: Duration = Duration::from_millis(5);

/// Hands out slots.
#[derive(Debug)]
pub struct Pacer {
    writes: Option<Budget>,
    reads: Option<Budget>,
    total: Option<Budget>,
    write_line: Line,
    read_line: Line,
    generation: u32,
    paused_until: Mono,
}

/// The wants of one class, and the slot that was taken for it and not handed out yet.
#[derive(Debug, Default)]
struct Line {
    wants: BTreeMap<WorkerId, u32>,
    turn: VecDeque<WorkerId>,
    next: Option<Mono>,
    /// The slot that was handed out last.
    last: Option<Mono>,
    /// How much of the limit is used, with `--rate auto`.
    share: Option<Share>,
}

impl Line {
    fn want(&mut self, worker: WorkerId, count: u32) {
        let want = self.wants.entry(worker).or_default();
        if *want == 0 && count > 0 {
            self.turn.push_back(worker);
        }
        *want = want.saturating_add(count);
    }

    fn forget(&mut self, worker: WorkerId) {
        self.wants.remove(&worker);
        self.turn.retain(|other| *other != worker);
    }

    fn clear(&mut self) {
        self.wants.clear();
        self.turn.clear();
        self.next = None;
    }
}

impl Pacer {
    /// Makes the pacer of a run. `None` in `limits` lifts that limit.
    ///
    /// The first slot of each budget belongs to the run before, of which nothing is known but that
    /// it sends no more (the job's lock says so): one interval later its last request is as far away
    /// as any other, and no number of restarts fills a window (I10).
    pub fn new(limits: RateLimits, now: Mono) -> Self {
        let budget = |limit: Option<_>| {
            limit.map(|limit| {
                let mut budget = Budget::new(limit, now);
                budget.take(now);
                budget
            })
        };
        Self {
            writes: budget(limits.writes),
            reads: budget(limits.reads),
            total: budget(limits.total),
            write_line: Line::default(),
            read_line: Line::default(),
            generation: 0,
            paused_until: now,
        }
    }

    /// Makes the pacer of a run that takes less than the limits when a 429 says so.
    pub fn adaptive(limits: RateLimits, now: Mono) -> Self {
        let mut pacer = Self::new(limits, now);
        let share = |own: Option<RateLimit>| {
            let tightest = own.into_iter().chain(limits.total);
            let limit = tightest.min_by(|a, b| a.per_second().total_cmp(&b.per_second()));
            let share = limit.map(|limit| Share::new(limit, now));
            share.map(|share| match own {
                Some(own) => share.shown_of(own),
                None => share,
            })
        };
        pacer.write_line.share = share(limits.writes);
        pacer.read_line.share = share(limits.reads);
        pacer
    }

    /// Takes a 429 of `class`, for which everybody pauses until `until`; returns what it changes.
    pub fn on_429(&mut self, now: Mono, class: RequestClass, until: Mono) -> Option<RateShift> {
        let share = self.line(class).share.as_mut()?;
        share.on_429(now, until)
    }

    /// Takes `count` answers of `class` that were none; returns what they change.
    pub fn on_accepted(&mut self, now: Mono, class: RequestClass, count: u32) -> Option<RateShift> {
        let share = self.line(class).share.as_mut()?;
        share.on_accepted(now, count)
    }

    /// Returns the rate of `class` with `--rate auto`.
    pub fn auto_rate(&self, class: RequestClass) -> Option<AutoRate> {
        self.line_ref(class).share.as_ref().map(Share::rate)
    }

    /// Returns whether requests of `class` need slots at all.
    pub const fn paces(&self, class: RequestClass) -> bool {
        let own = match class {
            RequestClass::Write => &self.writes,
            RequestClass::Read => &self.reads,
        };
        own.is_some() || self.total.is_some()
    }

    /// Returns the generation of slots now handed out.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns when the current pause ends; an instant in the past when there is none.
    pub const fn paused_until(&self) -> Mono {
        self.paused_until
    }

    /// Notes that `count` more requests of `worker` wait; wants of older generations are void.
    pub fn want(&mut self, worker: WorkerId, class: RequestClass, generation: u32, count: u32) {
        if generation == self.generation {
            self.line(class).want(worker, count);
        }
    }

    /// Forgets a worker that is gone. Its slots are not given to anybody else.
    pub fn forget(&mut self, worker: WorkerId) {
        self.write_line.forget(worker);
        self.read_line.forget(worker);
    }

    /// Starts (or extends, or with an `until` in the past ends) a pause; returns the new
    /// generation.
    pub fn pause(&mut self, until: Mono) -> u32 {
        self.paused_until = until;
        self.generation = self.generation.wrapping_add(1);
        self.write_line.clear();
        self.read_line.clear();
        self.generation
    }

    /// Charges the budgets for a request that goes past the gate, pause or not (a probe).
    pub fn charge(&mut self, class: RequestClass, now: Mono) {
        self.take(class, now);
    }

    /// Takes `count` slots at once for requests that go past the gate together; returns from when
    /// until when they may: after the last of these slots.
    pub fn reserve(&mut self, class: RequestClass, count: usize, now: Mono) -> (Mono, Mono) {
        let mut at = now;
        for _ in 0..count {
            at = self.take(class, at);
        }
        let (_, expiry) = self.spacing(class);
        (at, at.after(expiry))
    }

    /// Hands out what is due. Writes have first claim on the total; reads get the rest.
    pub fn pump(&mut self, now: Mono) -> Vec<(WorkerId, SlotLease)> {
        let mut leases = Vec::new();
        for class in [RequestClass::Write, RequestClass::Read] {
            while let Some(lease) = self.next_lease(class, now) {
                leases.push(lease);
            }
        }
        leases
    }

    /// Returns when [`Pacer::pump`] has something to hand out next, if anybody wants anything.
    pub fn wake_at(&self, now: Mono) -> Option<Mono> {
        [&self.write_line, &self.read_line]
            .into_iter()
            .filter(|line| !line.turn.is_empty())
            .map(|line| {
                line.next
                    .map_or(now, |slot| slot.before(HORIZON))
                    .max(self.paused_until.before(HORIZON))
            })
            .min()
    }

    const fn line_ref(&self, class: RequestClass) -> &Line {
        match class {
            RequestClass::Write => &self.write_line,
            RequestClass::Read => &self.read_line,
        }
    }

    fn line(&mut self, class: RequestClass) -> &mut Line {
        match class {
            RequestClass::Write => &mut self.write_line,
            RequestClass::Read => &mut self.read_line,
        }
    }

    fn next_lease(&mut self, class: RequestClass, now: Mono) -> Option<(WorkerId, SlotLease)> {
        // A budget's clock never goes back: nothing is taken for an end that may come sooner.
        if self.paused_until > now.after(HORIZON) && !plant::is(25) {
            return None;
        }
        let worker = self.line(class).turn.front().copied()?;
        let (interval, expiry) = self.spacing(class);
        let first = self.peek(class, now, expiry);
        if first > now.after(HORIZON) {
            return None;
        }
        let length = self.lease_length(class);
        let most = (length.as_secs_f64() / interval.as_secs_f64().max(1e-9)).max(1.0);
        let wanted = self.line(class).wants.get(&worker).copied().unwrap_or(0);
        let mut count = 0;
        let mut due = first;
        // Slots of one lease are evenly spaced; a gap (the total was the tighter one) ends it.
        while count < wanted && f64::from(count) < most && self.peek(class, now, expiry) == due {
            let line = self.line(class);
            line.next = None;
            line.last = Some(due);
            count += 1;
            due = due.after(interval);
        }
        self.serve(class, worker, count);
        let lease = SlotLease {
            generation: self.generation,
            class,
            first,
            interval_ns: crate::model::clock::nanos(interval),
            count,
            expiry_ns: crate::model::clock::nanos(expiry),
        };
        Some((worker, lease))
    }

    /// Returns how long a lease of `class` may be.
    fn lease_length(&self, class: RequestClass) -> Duration {
        let shared = self.total.is_some() && !self.write_line.turn.is_empty();
        match class {
            RequestClass::Read if shared => READ_LEASE,
            _ => LEASE,
        }
    }

    fn serve(&mut self, class: RequestClass, worker: WorkerId, count: u32) {
        let line = self.line(class);
        line.turn.pop_front();
        let left = line
            .wants
            .get(&worker)
            .copied()
            .unwrap_or(0)
            .saturating_sub(count);
        if left == 0 {
            line.wants.remove(&worker);
        } else {
            line.wants.insert(worker, left);
            line.turn.push_back(worker);
        }
    }

    /// Returns the slot that the next request of `class` gets, taking one if none is held.
    fn peek(&mut self, class: RequestClass, now: Mono, expiry: Duration) -> Mono {
        match self.line(class).next {
            Some(slot) if slot.after(expiry) > now => slot,
            _ => {
                let slot = self.take(class, now.max(self.paused_until));
                let slot = slot.max(self.not_before(class));
                self.line(class).next = Some(slot);
                slot
            }
        }
    }

    /// Returns when a slot may come for all that the last one of its class says: budgets do not
    /// know that only a share of them is used, and a share that has just grown back has no history.
    fn not_before(&self, class: RequestClass) -> Mono {
        let line = self.line_ref(class);
        match (&line.share, line.last) {
            (Some(_), Some(last)) => last.after(self.spacing(class).0),
            _ => Mono(0),
        }
    }

    /// Takes a slot out of every budget that `class` draws on; the latest time counts.
    fn take(&mut self, class: RequestClass, mut at: Mono) -> Mono {
        if let Some(total) = &mut self.total {
            at = total.take(at);
        }
        let own = match class {
            RequestClass::Write => &mut self.writes,
            RequestClass::Read => &mut self.reads,
        };
        own.as_mut().map_or(at, |own| own.take(at))
    }

    /// Returns the widest interval and the shortest expiry of the budgets `class` draws on; the
    /// interval is wider while only a share of them is used.
    fn spacing(&self, class: RequestClass) -> (Duration, Duration) {
        let own = match class {
            RequestClass::Write => &self.writes,
            RequestClass::Read => &self.reads,
        };
        let budgets = || own.iter().chain(&self.total);
        let interval = budgets().map(Budget::interval).max().unwrap_or_default();
        let share = self.line_ref(class).share.as_ref();
        let share = share.map_or(1.0, Share::now);
        let interval = if share < 1.0 {
            interval.div_f64(share)
        } else {
            interval
        };
        let expiry = budgets().map(Budget::expiry).min().unwrap_or(HORIZON);
        (interval, expiry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn slots_of(lease: &SlotLease) -> impl Iterator<Item = Mono> + use<'_> {
        (0..u64::from(lease.count)).map(|n| {
            lease
                .first
                .after(Duration::from_nanos(n * lease.interval_ns))
        })
    }

    /// Lets `workers` want without end for `seconds`; returns every slot by class, in order.
    fn saturate(limits: RateLimits, workers: u32, seconds: u64) -> (Vec<Mono>, Vec<Mono>) {
        let start = Mono(5_000_000_000);
        let mut pacer = Pacer::new(limits, start);
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            pacer.want(WorkerId(worker), RequestClass::Write, 0, 10_000_000);
            pacer.want(WorkerId(worker), RequestClass::Read, 0, 10_000_000);
        }
        let mut now = start;
        while now.since(start) < SECOND * u32::try_from(seconds).unwrap() {
            for (_, lease) in pacer.pump(now) {
                let into = match lease.class {
                    RequestClass::Write => &mut writes,
                    RequestClass::Read => &mut reads,
                };
                into.extend(slots_of(&lease));
            }
            now = pacer
                .wake_at(now)
                .unwrap()
                .max(now.after(Duration::from_micros(100)));
        }
        writes.sort();
        reads.sort();
        (writes, reads)
    }

    fn most(times: &[Mono], window: Duration) -> usize {
        let mut start = 0;
        (0..times.len())
            .map(|end| {
                while times[start].after(window) <= times[end] {
                    start += 1;
                }
                end + 1 - start
            })
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn the_three_limits_of_workos_hold_together() {
        let (writes, reads) = saturate(RateLimits::WORKOS, 4, 120);
        let mut all = [writes.clone(), reads.clone()].concat();
        all.sort();
        assert!(most(&writes, SECOND * 10) <= 500);
        assert!(most(&reads, SECOND * 10) <= 1000);
        assert!(most(&all, SECOND * 60) <= 6000);
        // Writes have first claim on the total; reads get the rest of it.
        assert!(writes.len() > 49 * 119, "{}", writes.len());
        assert!(all.len() > 98 * 119, "{}", all.len());
    }

    #[test]
    fn a_fast_limit_is_used_fully() {
        let limit = RateLimit::per_seconds(5000, 1);
        let limits = RateLimits {
            writes: Some(limit),
            ..Default::default()
        };
        let (writes, _) = saturate(limits, 4, 10);
        let share = writes.len() as f64 / (5000.0 * 10.0);
        assert!(share >= limit.used_share(), "{share}");
        assert!(most(&writes, SECOND) <= 5000);
    }

    #[test]
    fn rare_writes_do_not_hold_reads_up() {
        let limits = RateLimits {
            writes: Some(RateLimit::per_seconds(1, 2)),
            reads: Some(RateLimit::per_seconds(90, 1)),
            total: Some(RateLimit::per_seconds(100, 1)),
        };
        let (writes, reads) = saturate(limits, 3, 20);
        assert!(writes.len() >= 9, "{}", writes.len());
        assert!(reads.len() > 85 * 20, "{}", reads.len());
    }

    #[test]
    fn writes_below_their_limit_leave_the_rest_of_the_total_to_reads() {
        for writes_per_s in [5, 10, 30, 40] {
            let limits = RateLimits {
                writes: Some(RateLimit::per_seconds(writes_per_s, 1)),
                reads: Some(RateLimit::per_seconds(100, 1)),
                total: Some(RateLimit::per_seconds(100, 1)),
            };
            let (writes, reads) = saturate(limits, 3, 20);
            let share = writes.len() as f64 / (f64::from(writes_per_s) * 20.0);
            assert!(share > 0.96, "{writes_per_s}: {share}");
            let all = writes.len() + reads.len();
            assert!(all > 80 * 20, "{writes_per_s}: {all}");
        }
    }

    #[test]
    fn leases_of_reads_are_short_while_writes_wait_for_the_same_total() {
        let second = |count| Some(RateLimit::per_seconds(count, 1));
        let reads_of = |total, writes_wait: bool| {
            let limits = RateLimits {
                writes: second(1000),
                reads: second(4000),
                total,
            };
            let mut pacer = Pacer::new(limits, Mono(0));
            pacer.want(WorkerId(1), RequestClass::Read, 0, 1000);
            if writes_wait {
                pacer.want(WorkerId(2), RequestClass::Write, 0, 1000);
            }
            let leases = pacer.pump(Mono(0)).into_iter().map(|(_, lease)| lease);
            let reads = leases.filter(|lease| lease.class == RequestClass::Read);
            reads.map(|lease| lease.count).max().unwrap()
        };
        assert!(reads_of(second(4000), true) <= 20);
        assert!(reads_of(second(4000), false) >= 75);
        assert!(reads_of(None, true) >= 75);
    }

    #[test]
    fn workers_take_turns() {
        let limits = RateLimits {
            writes: Some(RateLimit::per_seconds(10, 1)),
            ..Default::default()
        };
        let mut pacer = Pacer::new(limits, Mono(0));
        for worker in [1, 2, 3] {
            pacer.want(WorkerId(worker), RequestClass::Write, 0, 5);
        }
        let mut order = Vec::new();
        for ms in 0..620 {
            let now = Mono(ms * 1_000_000);
            order.extend(pacer.pump(now).into_iter().map(|(worker, _)| worker.0));
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_pause_voids_wants_and_moves_every_slot_behind_it() {
        let limits = RateLimits {
            writes: Some(RateLimit::per_seconds(100, 1)),
            ..Default::default()
        };
        let mut pacer = Pacer::new(limits, Mono(0));
        pacer.want(WorkerId(1), RequestClass::Write, 0, 5);
        let until = Mono(0).after(SECOND * 3);
        let generation = pacer.pause(until);
        assert!(pacer.pump(Mono(0)).is_empty());
        pacer.want(WorkerId(1), RequestClass::Write, 0, 5);
        assert!(
            pacer.pump(until).is_empty(),
            "a want of an older generation"
        );
        pacer.want(WorkerId(1), RequestClass::Write, generation, 5);
        assert!(pacer.pump(Mono(0)).is_empty());
        let leases = pacer.pump(until);
        assert!(leases.iter().all(|(_, lease)| lease.first >= until));
        assert!(!leases.is_empty());
    }

    #[test]
    fn a_dead_workers_wants_are_forgotten() {
        let limits = RateLimits {
            writes: Some(RateLimit::per_seconds(100, 1)),
            ..Default::default()
        };
        let mut pacer = Pacer::new(limits, Mono(0));
        pacer.want(WorkerId(1), RequestClass::Write, 0, 5);
        pacer.forget(WorkerId(1));
        assert!(pacer.pump(Mono(0)).is_empty());
        assert_eq!(pacer.wake_at(Mono(0)), None);
    }

    #[test]
    fn without_limits_nothing_is_paced() {
        let pacer = Pacer::new(RateLimits::default(), Mono(0));
        assert!(!pacer.paces(RequestClass::Write) && !pacer.paces(RequestClass::Read));
    }

    proptest! {
        /// Whatever was sent last, and however often and soon a run begins after it.
        #[test]
        fn no_window_is_over_across_restarts(
            count in 1_u32..80,
            window_ms in 100_u64..20_000,
            runs in prop::collection::vec((0_u32..6, 0_u64..700, any::<bool>()), 1..150),
        ) {
            let limit = RateLimit { count, window: Duration::from_millis(window_ms) };
            let limits = RateLimits { writes: Some(limit), ..Default::default() };
            let (mut now, mut used) = (Mono(3), Vec::new());
            for (writes, idle, late) in runs {
                let mut pacer = Pacer::new(limits, now);
                for _ in 0..writes {
                    let (from, until) = pacer.reserve(RequestClass::Write, 1, now);
                    now = if late { until } else { from };
                    used.push(now);
                }
                now = now.after(Duration::from_millis(idle));
            }
            prop_assert!(most(&used, limit.window) <= count as usize);
        }

        /// A run's first probe asks several things at once.
        #[test]
        fn what_goes_past_the_gate_together_has_its_slots_before_and_after(
            count in 2_u32..80,
            together in 1_usize..7,
            before in 0_usize..100,
        ) {
            let together = together.min(count as usize);
            let limit = RateLimit::per_seconds(count, 2);
            let limits = RateLimits { reads: Some(limit), ..Default::default() };
            let mut pacer = Pacer::new(limits, Mono(0));
            let slot = |pacer: &mut Pacer, now| pacer.reserve(RequestClass::Read, 1, now).0;
            let mut used: Vec<Mono> = (0..before).map(|_| slot(&mut pacer, Mono(0))).collect();
            let last = used.last().copied().unwrap_or_default();
            let mut pacer = Pacer::new(limits, last);
            let (at, _) = pacer.reserve(RequestClass::Read, together, last);
            used.extend(std::iter::repeat_n(at, together));
            for _ in 1..together {
                pacer.charge(RequestClass::Read, at);
            }
            used.extend((0..200).map(|_| slot(&mut pacer, at)));
            prop_assert!(most(&used, limit.window) <= count as usize);
        }

        #[test]
        fn no_window_is_over_with_any_pattern_of_wants(
            count in 2_u32..300,
            steps in prop::collection::vec((0_u32..3, 0_u32..40, 0_u64..900), 1..120),
        ) {
            let limit = RateLimit::per_seconds(count, 3);
            let limits = RateLimits { writes: Some(limit), ..Default::default() };
            let mut pacer = Pacer::new(limits, Mono(0));
            let (mut now, mut slots) = (Mono(0), Vec::new());
            for (worker, wants, wait) in steps {
                pacer.want(WorkerId(worker), RequestClass::Write, 0, wants);
                for (_, lease) in pacer.pump(now) {
                    prop_assert!(lease.first.after(HORIZON) >= now);
                    slots.extend(slots_of(&lease));
                }
                now = now.after(Duration::from_millis(wait));
            }
            slots.sort();
            prop_assert!(most(&slots, limit.window) <= count as usize);
        }
    }
}
