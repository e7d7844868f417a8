//! A run against a server that has less free than it says, without a socket: the pacer, the pauses
//! and the shares are the real ones.

use super::*;
use crate::model::rng::Rng;
use crate::model::{RateLimits, WorkerId};
use crate::pace::{Pacer, Throttle};
use crate::protocol::SlotLease;
use crate::target::RequestClass;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const WRITE: RequestClass = RequestClass::Write;
const WORKER: WorkerId = WorkerId(1);

/// What a server does to requests.
struct Stage {
    declared: RateLimit,
    auto: bool,
    /// What it really takes, from which second on.
    free: Vec<(u64, u32)>,
    /// Whether a 429 says how long to wait.
    says: bool,
    latency: Duration,
    seconds: u64,
}

#[derive(Debug, Default)]
struct Figures {
    sent: Vec<Mono>,
    accepted: Vec<Mono>,
    refused: Vec<Mono>,
    shifts: Vec<(Mono, RateShift)>,
    rate: Vec<f64>,
}

enum Ev {
    Send,
    Answer(bool, Option<Duration>),
}

impl Stage {
    fn new(free: u32) -> Self {
        Self {
            declared: RateLimit::per_seconds(500, 10),
            auto: true,
            free: vec![(0, free)],
            says: true,
            latency: MS * 100,
            seconds: 600,
        }
    }

    fn free_at(&self, now: Mono) -> u32 {
        let second = now.0 / 1_000_000_000;
        let free = self.free.iter().rev().find(|(from, _)| *from <= second);
        free.map_or(u32::MAX, |(_, free)| *free)
    }

    fn play(&self) -> Figures {
        let limits = RateLimits {
            writes: Some(self.declared),
            ..RateLimits::default()
        };
        let start = Mono(0);
        let mut pacer = if self.auto {
            Pacer::adaptive(limits, start)
        } else {
            Pacer::new(limits, start)
        };
        let (mut throttle, mut rng) = (Throttle::default(), Rng::new(7));
        let mut figures = Figures::default();
        let mut coming: BTreeMap<(Mono, u64), (u32, Ev)> = BTreeMap::new();
        let mut serial = 0;
        pacer.want(WORKER, WRITE, 0, u32::MAX);
        let mut now = start;
        while now.since(start) < SECOND * u32::try_from(self.seconds).unwrap() {
            for (_, lease) in pacer.pump(now) {
                for at in slots_of(&lease) {
                    serial += 1;
                    coming.insert((at.max(now), serial), (lease.generation, Ev::Send));
                }
            }
            while let Some(((at, _), (generation, event))) = take_due(&mut coming, now) {
                serial += 1;
                match event {
                    // A slot of before a pause is void.
                    Ev::Send if generation == pacer.generation() => {
                        let wait = self.serve(&mut figures, at);
                        let answer = Ev::Answer(wait.is_none(), wait);
                        coming.insert((at.after(self.latency), serial), (0, answer));
                    }
                    Ev::Send => {}
                    Ev::Answer(true, _) => {
                        throttle.on_success();
                        let shift = pacer.on_accepted(now, WRITE, 1);
                        figures.shifts.extend(shift.map(|shift| (now, shift)));
                    }
                    Ev::Answer(false, wait) => {
                        let wait = wait.filter(|_| self.says);
                        let until = throttle.on_429(now, wait, &mut rng);
                        let shift = pacer.on_429(now, WRITE, throttle.until());
                        figures.shifts.extend(shift.map(|shift| (now, shift)));
                        if let Some(until) = until {
                            let generation = pacer.pause(until);
                            pacer.want(WORKER, WRITE, generation, u32::MAX);
                        }
                    }
                }
            }
            if now.0.is_multiple_of(1_000_000_000) {
                let rate = pacer.auto_rate(WRITE).map_or(0.0, |rate| rate.current);
                figures.rate.push(rate);
            }
            now = now.after(MS);
        }
        figures
    }

    /// Returns how long a 429 asks to wait: until the sliding window has room, in whole seconds.
    fn serve(&self, figures: &mut Figures, at: Mono) -> Option<Duration> {
        figures.sent.push(at);
        let window = self.declared.window;
        let free = self.free_at(at) as usize;
        let seen = figures.accepted.iter().rev();
        let within = seen.take_while(|seen| seen.after(window) > at).count();
        if within < free {
            figures.accepted.push(at);
            return None;
        }
        figures.refused.push(at);
        let leaves = figures.accepted[figures.accepted.len() - free].after(window);
        Some(Duration::from_secs(leaves.since(at).as_secs() + 1))
    }
}

fn take_due(
    coming: &mut BTreeMap<(Mono, u64), (u32, Ev)>,
    now: Mono,
) -> Option<((Mono, u64), (u32, Ev))> {
    let due = coming
        .first_key_value()
        .is_some_and(|((at, _), _)| *at <= now);
    due.then(|| coming.pop_first()).flatten()
}

fn slots_of(lease: &SlotLease) -> impl Iterator<Item = Mono> + use<'_> {
    (0..u64::from(lease.count)).map(|n| {
        let offset = Duration::from_nanos(n * lease.interval_ns);
        lease.first.after(offset)
    })
}

impl Figures {
    fn share_of(&self, real_per_s: f64, seconds: f64) -> f64 {
        self.accepted.len() as f64 / (real_per_s * seconds)
    }

    fn refused_share(&self) -> f64 {
        self.refused.len() as f64 / self.sent.len() as f64
    }
}

#[test]
fn what_is_free_is_found_and_used_and_429s_are_rare() {
    for free in [450, 300, 100] {
        for (says, latency) in [(true, 20), (true, 300), (false, 20), (false, 300)] {
            let stage = |auto| Stage {
                says,
                auto,
                latency: MS * latency,
                ..Stage::new(free)
            };
            let (auto, fixed) = (stage(true).play(), stage(false).play());
            let case = format!("{free} of 500, says {says}, {latency} ms");
            let used = auto.share_of(f64::from(free) / 10.0, 600.0);
            assert!(used > 0.88, "{case}: {used}");
            let refused = auto.refused_share();
            assert!(refused < 0.02, "{case}: {refused}");
            let (few, many) = (auto.refused.len(), fixed.refused.len());
            assert!(few * 4 < many, "{case}: {few} against {many}");
        }
    }
}

#[test]
fn an_episode_takes_the_rate_down_once_however_many_429s_it_has() {
    let mut share = Share::new(RateLimit::per_seconds(500, 10), Mono(0));
    let at = |ms: u32| Mono(0).after(MS * ms);
    assert_eq!(share.on_429(at(0), at(50)), Some(RateShift::BackedOff));
    let after = share.now();
    // Late ones of the same bunch, answers to requests of before it, and a window that stays full.
    for ms in [10, 60, 900, 2_000] {
        assert_eq!(share.on_429(at(ms), at(ms + 50)), None);
        assert_eq!(share.on_accepted(at(ms), 1), None);
        assert!((share.now() - after).abs() < 1e-9, "{ms}");
    }
    share.on_accepted(at(4_000), 1);
    assert_eq!(
        share.on_429(at(4_001), at(4_050)),
        Some(RateShift::BackedOff)
    );
    assert!(share.now() < after);
}

#[test]
fn the_rate_is_the_limit_again_when_the_others_have_gone() {
    let stage = Stage {
        free: vec![(0, 200), (180, 10_000)],
        seconds: 500,
        ..Stage::new(0)
    };
    let figures = stage.play();
    let last = figures.shifts.last().unwrap();
    assert_eq!(last.1, RateShift::Recovered);
    assert!((figures.rate.last().unwrap() - 50.0).abs() < 1e-9);
    let calm = figures.refused.iter().all(|at| at.0 < 181_000_000_000);
    assert!(calm, "nothing is refused once everything is free");
    let before = figures
        .shifts
        .iter()
        .filter(|(at, _)| at.0 < 180_000_000_000);
    assert!(
        before
            .clone()
            .all(|(_, shift)| *shift != RateShift::Recovered)
    );
    assert!(before.count() > 3);
}

#[test]
fn what_is_told_is_few_steps() {
    let stage = Stage::new(300);
    let told = stage.play().shifts.len();
    assert!((10..120).contains(&told), "{told} in ten minutes");
}

#[test]
fn without_answers_nothing_is_learned() {
    let mut share = Share::new(RateLimit::per_seconds(500, 10), Mono(0));
    share.on_429(Mono(0), Mono(0));
    let low = share.now();
    let later = Mono(0).after(SECOND * 2);
    share.on_accepted(later, 1);
    // An outage, a night.
    let much_later = later.after(SECOND * 30_000);
    share.on_accepted(much_later, 1);
    assert!(share.now() > low && share.now() < low + 0.1);
}

#[test]
fn there_is_a_lowest_rate_and_a_way_up_from_it() {
    for limit in [
        RateLimit::per_seconds(500, 10),
        RateLimit::per_seconds(1, 10),
        RateLimit::per_seconds(3, 1),
    ] {
        let mut share = Share::new(limit, Mono(0));
        let mut now = Mono(0);
        for _ in 0..40 {
            share.on_429(now, now);
            now = now.after(SECOND * 2);
            share.on_accepted(now, 1);
        }
        let least = limit.per_second() * SHARE_MIN;
        let one = 1.0 / limit.window.as_secs_f64();
        assert!(share.rate().lowest >= least.max(one) - 1e-9, "{limit}");
        let mut shifts = Vec::new();
        for _ in 0..600 {
            now = now.after(SECOND);
            shifts.extend(share.on_accepted(now, 1));
        }
        assert!((share.now() - 1.0).abs() < 1e-9, "{limit}");
        assert!(limit.count == 1 || shifts.last() == Some(&RateShift::Recovered));
    }
}

#[test]
fn few_requests_are_not_taken_for_a_low_rate() {
    let mut share = Share::new(RateLimit::per_seconds(1000, 10), Mono(0));
    for second in 0..30 {
        share.on_accepted(Mono(0).after(SECOND * second), 2);
    }
    share.on_429(Mono(0).after(SECOND * 30), Mono(0));
    assert!((share.now() - FREE_MIN * BACK_TO).abs() < 1e-9);
}

#[test]
fn a_class_that_is_backed_off_leaves_the_total_to_the_other() {
    let mut pacer = Pacer::adaptive(RateLimits::WORKOS, Mono(0));
    let mut now = Mono(0);
    for _ in 0..8 {
        pacer.on_429(now, WRITE, now);
        now = now.after(SECOND * 2);
        pacer.on_accepted(now, WRITE, 1);
    }
    let current = pacer.auto_rate(WRITE).unwrap().current;
    assert!((current - 5.0).abs() < 0.01, "{current}");
    for class in [WRITE, RequestClass::Read] {
        pacer.want(WORKER, class, 0, u32::MAX);
    }
    let mut counts = BTreeMap::new();
    let end = now.after(SECOND * 10);
    while now < end {
        for (_, lease) in pacer.pump(now) {
            *counts.entry(lease.class).or_insert(0) += lease.count;
        }
        now = now.after(MS);
    }
    assert!((48..=52).contains(&counts[&WRITE]), "{counts:?}");
    assert!(counts[&RequestClass::Read] > 850, "{counts:?}");
}

proptest! {
    /// I10, whatever the target says and however the rate falls and grows, with every slot used as
    /// late as it may be or at once.
    #[test]
    fn no_window_is_over_while_the_rate_falls_and_grows(
        count in 2_u32..300,
        acts in prop::collection::vec((0_u8..8, 0_u32..60, 1_u32..700, any::<bool>()), 1..200),
    ) {
        let limit = RateLimit::per_seconds(count, 3);
        let total = RateLimit::per_seconds(count + count / 2, 3);
        let limits = RateLimits { writes: Some(limit), reads: Some(limit), total: Some(total) };
        let mut pacer = Pacer::adaptive(limits, Mono(0));
        let mut now = Mono(0);
        let mut used: BTreeMap<RequestClass, Vec<Mono>> = BTreeMap::new();
        for (act, wants, wait, late) in acts {
            let class = if act % 2 == 0 { WRITE } else { RequestClass::Read };
            match act {
                0 | 1 => {
                    let until = now.after(MS * wait / 4);
                    pacer.on_429(now, class, until);
                    pacer.pause(until);
                }
                2..4 => {
                    pacer.on_accepted(now, class, wants);
                }
                _ => pacer.want(WORKER, class, pacer.generation(), wants),
            }
            for (_, lease) in pacer.pump(now) {
                let late = Duration::from_nanos(if late { lease.expiry_ns } else { 0 });
                used.entry(lease.class).or_default().extend(slots_of(&lease).map(|at| at.after(late)));
            }
            now = now.after(MS * wait);
        }
        for times in used.values_mut() {
            times.sort();
            prop_assert!(most(times, limit.window) <= limit.count as usize);
        }
        let mut all: Vec<Mono> = used.into_values().flatten().collect();
        all.sort();
        // A slot of the total is used when its class has one too, which may be later: one of each
        // class may come into a window that it was not counted in. The margin of pacing is for them.
        let margin = (total.count / 100).min(2);
        prop_assert!(most(&all, total.window) <= (total.count + 2 - margin) as usize);
    }
}

fn most(times: &[Mono], window: Duration) -> usize {
    let mut start = 0;
    let counts = (0..times.len()).map(|end| {
        while times[start].after(window) <= times[end] {
            start += 1;
        }
        end + 1 - start
    });
    counts.max().unwrap_or(0)
}
