//! When the target is out: nothing is sent but probes, and no attempt is counted.

use crate::model::Mono;
use crate::target::RequestClass;
use std::collections::VecDeque;
use std::time::Duration;

/// This many bad answers without a good one between them are an outage.
const BAD_IN_A_ROW: u32 = 10;

/// More than half bad out of at least this many samples within the window is one, too.
const SAMPLES_MIN: u32 = 20;
const SAMPLES_WINDOW: Duration = Duration::from_secs(30);
/// Bounds the memory of the window; older samples are forgotten early.
const SAMPLES_KEPT: usize = 512;

/// Probes come after 5, 10, 20, 40, 60, 60 … seconds.
const PROBE_FIRST: Duration = Duration::from_secs(5);
const PROBE_MAX: Duration = Duration::from_mins(1);

/// This many good answers end the memory of an outage; fewer, and the next one continues it.
const RECOVERED_AFTER: u32 = 20;

/// Watches the target's health.
#[derive(Debug)]
pub struct Breaker {
    scale: f64,
    writes: Health,
    reads: Health,
    outage: Option<Outage>,
}

/// Recent answers of one class: writes may fail while reads do well, and the other way round.
#[derive(Debug, Default)]
struct Health {
    samples: VecDeque<(Mono, u32, u32)>,
    bad_in_a_row: u32,
}

impl Health {
    fn add(&mut self, now: Mono, ok: u32, bad: u32) {
        self.samples.push_back((now, ok, bad));
        let oldest = now.before(SAMPLES_WINDOW);
        while self.samples.len() > SAMPLES_KEPT
            || self.samples.front().is_some_and(|(at, ..)| *at < oldest)
        {
            self.samples.pop_front();
        }
        self.bad_in_a_row = if ok > 0 {
            bad.min(BAD_IN_A_ROW - 1)
        } else {
            self.bad_in_a_row.saturating_add(bad)
        };
    }

    fn is_sick(&self) -> bool {
        let (ok, bad) = self
            .samples
            .iter()
            .fold((0, 0), |(ok, bad), (_, more_ok, more_bad)| {
                (ok + more_ok, bad + more_bad)
            });
        self.bad_in_a_row >= BAD_IN_A_ROW || (ok + bad >= SAMPLES_MIN && bad > ok)
    }
}

/// An outage from its first sign until the target has proven itself.
#[derive(Debug)]
struct Outage {
    since: Mono,
    probes: u32,
    /// When the next probe is due; none while a probe is under way or requests flow again.
    probe_at: Option<Mono>,
    open: bool,
    good_since: u32,
    /// Whose failure it was; any class proves the target when a probe failed.
    class: Option<RequestClass>,
}

impl Breaker {
    /// Makes a breaker whose waits are multiplied by `scale` (1.0 but in tests).
    pub fn new(scale: f64) -> Self {
        Self {
            scale,
            writes: Health::default(),
            reads: Health::default(),
            outage: None,
        }
    }

    /// Returns whether nothing but probes may be sent.
    pub fn is_open(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.open)
    }

    /// Returns since when the target is out, if it is or has not yet proven itself.
    pub fn out_since(&self) -> Option<Mono> {
        self.outage.as_ref().map(|outage| outage.since)
    }

    /// Returns when the next probe is due.
    pub fn probe_at(&self) -> Option<Mono> {
        self.outage.as_ref().and_then(|outage| outage.probe_at)
    }

    /// Notes that the due probe was sent.
    pub fn on_probe_sent(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.probe_at = None;
        }
    }

    /// Counts answers of one class; returns whether they open the breaker now.
    pub fn on_samples(&mut self, now: Mono, class: RequestClass, ok: u32, bad: u32) -> bool {
        if self.is_open() {
            // Requests that were under way when it opened say nothing about now.
            return false;
        }
        self.prove(class, ok);
        let health = match class {
            RequestClass::Write => &mut self.writes,
            RequestClass::Read => &mut self.reads,
        };
        health.add(now, ok, bad);
        if health.is_sick() {
            self.open(now, Some(class));
            return true;
        }
        false
    }

    /// Opens the breaker and sets the next probe. `class` is what failed; none for a probe.
    pub fn open(&mut self, now: Mono, class: Option<RequestClass>) {
        let scale = self.scale;
        let outage = self.outage.get_or_insert(Outage {
            since: now,
            probes: 0,
            probe_at: None,
            open: true,
            good_since: 0,
            class,
        });
        outage.open = true;
        outage.good_since = 0;
        let wait = PROBE_FIRST
            .saturating_mul(1 << outage.probes.min(6))
            .min(PROBE_MAX);
        outage.probes = outage.probes.saturating_add(1);
        outage.probe_at = Some(now.after(wait.mul_f64(scale)));
        self.pardon();
    }

    /// Takes a probe's good result: requests may flow, the outage is on probation.
    pub fn close(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.open = false;
            outage.probe_at = None;
        }
    }

    /// Forgets bad answers: a look at the target showed that they were meant for their rows.
    pub fn pardon(&mut self) {
        self.writes = Health::default();
        self.reads = Health::default();
    }

    fn prove(&mut self, class: RequestClass, ok: u32) {
        let Some(outage) = &mut self.outage else {
            return;
        };
        if outage.class.is_none_or(|failed| failed == class) {
            outage.good_since = outage.good_since.saturating_add(ok);
        }
        if outage.good_since >= RECOVERED_AFTER {
            self.outage = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_percent_of_trouble_are_no_outage() {
        let mut breaker = Breaker::new(1.0);
        for n in 0..1000_u64 {
            assert!(!breaker.on_samples(
                Mono(n * 1_000_000),
                RequestClass::Write,
                1,
                u32::from(n % 10 == 0)
            ));
        }
    }

    #[test]
    fn ten_bad_in_a_row_open_it_and_probes_get_rarer() {
        let mut breaker = Breaker::new(1.0);
        assert!((0..9).all(|_| !breaker.on_samples(Mono(0), RequestClass::Write, 0, 1)));
        assert!(breaker.on_samples(Mono(0), RequestClass::Write, 0, 1));
        let mut waits = Vec::new();
        let mut now = Mono(0);
        for _ in 0..6 {
            let at = breaker.probe_at().unwrap();
            waits.push(at.since(now).as_secs());
            now = at;
            breaker.on_probe_sent();
            breaker.open(now, None);
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(breaker.out_since(), Some(Mono(0)));
    }

    #[test]
    fn an_outage_is_over_only_after_the_target_proved_itself() {
        let mut breaker = Breaker::new(1.0);
        breaker.open(Mono(0), None);
        breaker.close();
        assert!(!breaker.is_open());
        assert_eq!(breaker.out_since(), Some(Mono(0)));
        breaker.on_samples(Mono(1), RequestClass::Write, 19, 0);
        assert!(breaker.out_since().is_some());
        breaker.on_samples(Mono(2), RequestClass::Write, 1, 0);
        assert_eq!(breaker.out_since(), None);
    }

    #[test]
    fn what_was_pardoned_opens_nothing() {
        let mut breaker = Breaker::new(1.0);
        for _ in 0..9 {
            assert!(!breaker.on_samples(Mono(0), RequestClass::Write, 0, 1));
        }
        breaker.pardon();
        for _ in 0..9 {
            assert!(!breaker.on_samples(Mono(0), RequestClass::Write, 0, 1));
        }
        assert!(breaker.on_samples(Mono(0), RequestClass::Write, 0, 1));
    }

    #[test]
    fn more_than_half_bad_opens_it() {
        let mut breaker = Breaker::new(1.0);
        let opened = (0..30).any(|_| breaker.on_samples(Mono(0), RequestClass::Write, 1, 2));
        assert!(opened);
    }

    #[test]
    fn writes_that_fail_while_reads_do_well_are_an_outage_and_reads_do_not_end_it() {
        let mut breaker = Breaker::new(1.0);
        let mut opened = false;
        for _ in 0..10 {
            breaker.on_samples(Mono(0), RequestClass::Read, 5, 0);
            opened |= breaker.on_samples(Mono(0), RequestClass::Write, 0, 1);
        }
        assert!(opened);
        breaker.close();
        breaker.on_samples(Mono(1), RequestClass::Read, 500, 0);
        assert!(breaker.out_since().is_some());
        breaker.on_samples(Mono(1), RequestClass::Write, 20, 0);
        assert_eq!(breaker.out_since(), None);
    }
}
