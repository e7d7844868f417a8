//! What goes wrong, how often, and until when. Every play draws its own mixture: many plays with
//! few kinds of trouble each find more than all kinds at once.

use crate::model::rng::Rng;
use crate::model::{Mono, RowNumber};
use std::time::Duration;

/// A spell during which every request gets the same treatment.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    pub from: Mono,
    pub to: Mono,
    pub kind: Trouble,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// No connection.
    Refused,
    /// Lost on the way there.
    LostBefore,
    /// Applied, and the connection reset before the answer.
    LostAfter,
    /// Arrives (much) later; the client may have given up by then.
    Hang,
    /// 5xx, not applied.
    ErrorBefore,
    /// Applied, then 5xx.
    ErrorAfter,
    /// Applied, and the 2xx cut off.
    Cut,
    /// 429 with `Retry-After`.
    Throttled,
    /// 429 without.
    ThrottledSilently,
    /// 401.
    Unauthorized,
}

impl Trouble {
    /// Returns whether the client cannot tell from it whether the request was applied.
    pub const fn is_unclear(self) -> bool {
        !matches!(
            self,
            Self::None
                | Self::Refused
                | Self::Throttled
                | Self::ThrottledSilently
                | Self::Unauthorized
        )
    }
}

/// The rates of one play.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Per effect of the coordinator: it is killed right before.
    pub crash: f64,
    /// Per act of a worker: it is killed right before.
    pub kill: f64,
    /// Share of crashes that take the workers along.
    pub power: f64,
    /// Per request, each kind of trouble.
    pub troubles: Vec<(Trouble, f64)>,
    pub spells: Vec<Spell>,
    /// Per frame, either way: it arrives garbled, twice, not at all, or not whole.
    pub garble: f64,
    /// Per commit: the disk takes no more.
    pub full: f64,
    /// Per act of a worker: it is stopped for a while.
    pub freeze: f64,
    /// Per death: its last words come after the news of it.
    pub late: f64,
    /// Per frame: it is under way for long.
    pub slow: f64,
    /// Per effect: a signal asks the run to end.
    pub signal: f64,
    /// Events taken together before effects are performed.
    pub batch: f64,
    /// How much later readers see what writers made.
    pub lag: Duration,
    /// How far what dates a new object is behind what says `Date`.
    pub behind: Duration,
    /// Who signs up when: a row's email, with its first name or without.
    pub sign_ups: Vec<(Mono, RowNumber, bool)>,
    /// When somebody makes which of the missing organizations, in plays that may not make them.
    pub openings: Vec<(Mono, u32)>,
    /// When somebody who was there before is deleted.
    pub vanish: Vec<(Mono, RowNumber)>,
    /// When the machine sleeps, and for how long.
    pub sleeps: Vec<(Mono, Duration)>,
    /// The local wall clock is wrong, and jumps between runs.
    pub wall_jumps: bool,
    /// Nothing goes wrong from then on,
    pub calm_at: Mono,
    /// nor after this many kills.
    pub kills_left: u32,
}

const SECOND: u64 = 1_000_000_000;

impl Weather {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            crash: 0.0,
            kill: 0.0,
            power: 0.0,
            troubles: Vec::new(),
            spells: Vec::new(),
            garble: 0.0,
            full: 0.0,
            freeze: 0.0,
            late: 0.0,
            slow: 0.0,
            signal: 0.0,
            batch: 0.0,
            lag: Duration::ZERO,
            behind: Duration::ZERO,
            sign_ups: Vec::new(),
            openings: Vec::new(),
            vanish: Vec::new(),
            sleeps: Vec::new(),
            wall_jumps: false,
            calm_at: Mono(0),
            kills_left: 0,
        }
    }

    /// Draws the weather of a play.
    #[expect(clippy::too_many_lines, reason = "one line for each kind of weather")]
    pub fn of(seed: u64, rows: u32, time_scale: f64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0077_6561_7468_6572);
        let mut pick = |share: f64, rates: &[f64]| {
            let is_on = rng.unit() < share;
            let rate = rates[rng.below(rates.len())];
            if is_on { rate } else { 0.0 }
        };
        let crash = pick(0.6, &[0.002, 0.01, 0.03]);
        let kill = pick(0.5, &[0.002, 0.01, 0.04]);
        let power = pick(0.5, &[0.3, 1.0]);
        let unclear = &[0.01, 0.05, 0.2];
        let troubles = vec![
            (Trouble::Refused, pick(0.15, &[0.02, 0.1])),
            (Trouble::LostBefore, pick(0.25, unclear)),
            (Trouble::LostAfter, pick(0.35, unclear)),
            (Trouble::Hang, pick(0.3, unclear)),
            (Trouble::ErrorBefore, pick(0.2, unclear)),
            (Trouble::ErrorAfter, pick(0.25, unclear)),
            (Trouble::Cut, pick(0.2, unclear)),
            (Trouble::Throttled, pick(0.2, &[0.02, 0.1])),
            (Trouble::ThrottledSilently, pick(0.15, &[0.02, 0.1])),
            (Trouble::Unauthorized, pick(0.1, &[0.01, 0.03])),
        ];
        let garble = pick(0.1, &[0.005, 0.02]);
        let full = pick(0.15, &[0.01, 0.05]);
        let freeze = pick(0.1, &[0.005, 0.02]);
        let late = pick(0.2, &[0.3, 1.0]);
        let slow = pick(0.2, &[0.02, 0.2]);
        let signal = pick(0.15, &[0.002, 0.01]);
        let batch = pick(0.5, &[0.5, 0.9]);
        let sign_ups_share = pick(0.2, &[0.1, 0.4]);
        let mut spells = pick(0.3, &[1.0, 2.0]);
        let lag_ms = pick(0.4, &[200.0, 1_000.0, 2_400.0]);
        let mut naps = pick(0.15, &[1.0, 3.0]);
        let wall_jumps = pick(0.5, &[1.0]) > 0.0;
        let behind_ms = pick(0.3, &[300.0, 1_200.0, 4_000.0]);
        let calm_s = [5, 20, 60][rng.below(3)];
        let mut weather = Self {
            crash,
            kill,
            power,
            troubles,
            spells: Vec::new(),
            garble,
            full,
            freeze,
            late,
            slow,
            signal,
            batch,
            // Backoffs are scaled, and with them the lag they are made for.
            lag: Duration::from_secs_f64(lag_ms / 1000.0 * time_scale),
            behind: Duration::from_secs_f64(behind_ms / 1000.0),
            sign_ups: Vec::new(),
            openings: Vec::new(),
            vanish: vanishing(seed, rows),
            sleeps: Vec::new(),
            wall_jumps,
            calm_at: Mono((calm_s + 1) * SECOND),
            kills_left: 1 + u32::try_from(rng.below(6)).unwrap(),
        };
        while spells > 0.0 {
            spells -= 1.0;
            weather.spells.push(spell(&mut rng, calm_s));
        }
        while naps > 0.0 {
            naps -= 1.0;
            weather.sleeps.push(nap(&mut rng, calm_s));
        }
        for org in 1..=3 {
            let at = Mono(SECOND / 10 + rng.next_u64() % (2 * calm_s * SECOND));
            if rng.unit() < 0.5 {
                weather.openings.push((at, org));
            }
        }
        for row in 1..=rows {
            if rng.unit() < sign_ups_share {
                weather.sign_ups.push(sign_up(&mut rng, RowNumber(row)));
            }
        }
        weather
    }

    /// Ends everything that goes wrong.
    pub fn clear_up(&mut self) {
        let calm = Self::calm();
        *self = Self {
            lag: self.lag,
            behind: self.behind,
            batch: self.batch,
            wall_jumps: self.wall_jumps,
            ..calm
        };
    }

    /// Draws what happens to a request that starts now.
    pub fn trouble(&self, now: Mono, rng: &mut Rng) -> Trouble {
        if let Some(spell) = self.spells.iter().find(|s| s.from <= now && now < s.to) {
            return spell.kind;
        }
        let mut at = rng.unit();
        for (trouble, share) in &self.troubles {
            if at < *share {
                return *trouble;
            }
            at -= share;
        }
        Trouble::None
    }
}

fn sign_up(rng: &mut Rng, row: RowNumber) -> (Mono, RowNumber, bool) {
    let at = Mono(SECOND + rng.next_u64() % (2 * SECOND));
    (at, row, rng.unit() < 0.5)
}

/// Drawn by itself: every other choice of a seed stays what it was.
fn vanishing(seed: u64, rows: u32) -> Vec<(Mono, RowNumber)> {
    let mut rng = Rng::new(seed ^ 0x676f_6e65);
    if rng.unit() > 0.3 {
        return Vec::new();
    }
    let mut gone = Vec::new();
    for row in (1..=rows).map(RowNumber) {
        if rng.unit() < 0.4 {
            gone.push((Mono(SECOND + rng.next_u64() % (3 * SECOND)), row));
        }
    }
    gone
}

fn nap(rng: &mut Rng, within_s: u64) -> (Mono, Duration) {
    let at = Mono(SECOND + rng.next_u64() % (within_s * SECOND / 2));
    let seconds = [5, 60, 3_600, 8 * 3_600][rng.below(4)];
    (at, Duration::from_secs(seconds))
}

fn spell(rng: &mut Rng, within_s: u64) -> Spell {
    let kinds = [
        Trouble::Refused,
        Trouble::LostBefore,
        Trouble::ErrorBefore,
        Trouble::ErrorAfter,
        Trouble::Throttled,
        Trouble::ThrottledSilently,
        Trouble::Unauthorized,
        Trouble::Hang,
    ];
    let from = Mono(SECOND + rng.next_u64() % (within_s * SECOND / 2));
    let length = SECOND / 5 + rng.next_u64() % (within_s * SECOND / 2);
    Spell {
        from,
        to: Mono(from.0 + length),
        kind: kinds[rng.below(kinds.len())],
    }
}
