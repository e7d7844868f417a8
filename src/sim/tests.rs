//! How many plays, which ones, and what a failure says.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "seeds and counts come from the environment; figures are shown"
)]

use super::plan::Plan;
use super::weather::Weather;
use super::world::{Figures, Script, Strike};
use super::{play, play_with};
use crate::ledger::Ledger;
use crate::model::Mono;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Plays in the usual test run.
const SEEDS: u64 = 20_000;
/// Threads that play.
const THREADS: u64 = 2;
/// Failures shown before a run gives up.
const FAILURES_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.replace('_', "").parse().ok()
}

fn guarded(run: impl FnOnce() -> Result<Figures, String>) -> Result<Figures, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", words.unwrap_or_default()))
    })
}

fn add(sum: &mut Figures, more: &Figures) {
    sum.steps += more.steps;
    sum.points += more.points;
    sum.coordinators += more.coordinators;
    sum.kills += more.kills;
    sum.requests += more.requests;
    sum.faults += more.faults;
    sum.virtual_ms += more.virtual_ms;
}

/// Plays `count` cases on all threads; returns the sums and what failed.
fn play_all<F>(count: u64, case: F) -> (Figures, Vec<(u64, String)>)
where
    F: Fn(u64) -> Result<Figures, String> + Sync,
{
    let next = AtomicU64::new(0);
    let one = || {
        let (mut sum, mut failures) = (Figures::default(), Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count || failures.len() >= FAILURES_MAX {
                return (sum, failures);
            }
            match guarded(|| case(at)) {
                Ok(figures) => add(&mut sum, &figures),
                Err(words) => failures.push((at, words)),
            }
        }
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (mut sum, mut failures) = (Figures::default(), Vec::new());
    for (figures, more) in done {
        add(&mut sum, &figures);
        failures.extend(more);
    }
    failures.sort();
    (sum, failures)
}

/// `SIM_SEEDS` plays more of them, `SIM_FROM` other ones.
#[test]
fn seeds() {
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let from = number("SIM_FROM").unwrap_or(0);
    let began = Mono::now();
    let (sum, failures) = play_all(count, |at| play(from + at, Script::default()));
    let seconds = Mono::now().since(began).as_secs_f64();
    println!(
        "{count} seeds, {} violations, {seconds:.1} s: {} coordinators, {} kills, {} requests, {} faults, \
         {} steps, {:.1} h of virtual time",
        failures.len(),
        sum.coordinators,
        sum.kills,
        sum.requests,
        sum.faults,
        sum.steps,
        sum.virtual_ms as f64 / 3.6e6,
    );
    blame(&failures, |at| format!("SEED={}", from + at));
}

/// Fails if anything failed, and says how to see each failure again.
fn blame(failures: &[(u64, String)], case: impl Fn(u64) -> String) {
    let with = if cfg!(feature = "plant") {
        "--features plant "
    } else {
        ""
    };
    let bug = number("USERFERRY_PLANT").map(|bug| format!("USERFERRY_PLANT={bug} "));
    let bug = bug.unwrap_or_default();
    for (at, words) in failures {
        println!(
            "{bug}{} cargo test {with}--lib sim::tests::replay -- --nocapture\n    {}",
            case(*at),
            words.chars().take(1000).collect::<String>()
        );
    }
    assert!(failures.is_empty(), "{} plays failed", failures.len());
}

/// Plays one seed, or the small job with its kills, and shows everything:
/// `SEED=7` or `STRIKES=12:Worker,40:Coordinator cargo test --lib sim::tests::replay -- --nocapture`.
#[test]
fn replay() {
    let (seed, strikes) = (number("SEED"), strikes_of_environment());
    let script = Script {
        trace: seed.is_some() || strikes.is_some(),
        strikes: strikes.clone().unwrap_or_default(),
        mirror: None,
    };
    let figures = match strikes {
        Some(_) => play_with(Plan::small(), Weather::calm(), 1, script),
        None => play(seed.unwrap_or(1), script),
    };
    println!("{figures:?}");
    figures.unwrap();
}

fn strikes_of_environment() -> Option<Vec<(u64, Strike)>> {
    let text = std::env::var("STRIKES").ok()?;
    let strikes = text.split(',').map(|strike| {
        let (at, kind) = strike.split_once(':').expect("STRIKES=point:kind,…");
        let kind = STRIKES.iter().find(|known| format!("{known:?}") == kind);
        (
            at.parse().unwrap(),
            *kind.expect("Coordinator, Worker, Everything"),
        )
    });
    Some(strikes.collect())
}

fn strikes_to_environment(strikes: &[(u64, Strike)]) -> String {
    let each: Vec<String> = strikes
        .iter()
        .map(|(at, kind)| format!("{at}:{kind:?}"))
        .collect();
    format!("STRIKES={}", each.join(","))
}

/// The model of the ledger finds what the real one finds, over what real runs commit.
#[test]
fn the_model_of_the_ledger_is_the_ledger() {
    let (_, failures) = play_all(number("SIM_MIRRORS").unwrap_or(150), |at| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        Ledger::create(&path, &Plan::of(at).job).unwrap();
        let mirror = Some(Ledger::open(&path).unwrap());
        play(
            at,
            Script {
                mirror,
                ..Script::default()
            },
        )
    });
    assert!(failures.is_empty(), "{failures:#?}");
}

fn small(strikes: Vec<(u64, Strike)>) -> Result<Figures, String> {
    let script = Script {
        strikes,
        ..Script::default()
    };
    play_with(Plan::small(), Weather::calm(), 1, script)
}

const STRIKES: [Strike; 3] = [Strike::Coordinator, Strike::Worker, Strike::Everything];

/// Every point of a small job, every kind of death.
#[test]
fn every_crash_point() {
    let points = small(Vec::new()).unwrap().points;
    let single = |at| {
        let strike = STRIKES[usize::try_from(at % 3).unwrap()];
        vec![(at / 3 + 1, strike)]
    };
    let (_, failures) = play_all(points * 3, |at| small(single(at)));
    println!(
        "{points} points, 3 kinds of death, {} violations",
        failures.len()
    );
    blame(&failures, |at| strikes_to_environment(&single(at)));
}

/// A crash at one point, and the number of points that follow it.
struct First {
    at: u64,
    kind: Strike,
    /// How many pairs come before those of this crash.
    before: u64,
}

fn first_crashes() -> (Vec<First>, u64) {
    let points = small(Vec::new()).unwrap().points;
    let (mut crashes, mut before) = (Vec::new(), 0);
    for (at, kind) in (1..=points).flat_map(|at| STRIKES.map(|kind| (at, kind))) {
        let then = small(vec![(at, kind)]).unwrap().points - at;
        crashes.push(First { at, kind, before });
        before += then * 3;
    }
    (crashes, before)
}

/// A crash during the recovery from a crash, every kind after every kind: a tenth of all pairs,
/// all with `SIM_PAIRS=100`.
#[test]
fn pairs_of_crash_points() {
    let percent = number("SIM_PAIRS").unwrap_or(10);
    let (crashes, pairs) = first_crashes();
    let step = 100 / percent.clamp(1, 100);
    let pair = |at: u64| {
        let at = (at * step + at % step).min(pairs - 1);
        let first = &crashes[crashes.partition_point(|crash| crash.before <= at) - 1];
        let then = at - first.before;
        let kind = STRIKES[usize::try_from(then % 3).unwrap()];
        vec![(first.at, first.kind), (first.at + 1 + then / 3, kind)]
    };
    let (_, failures) = play_all(pairs.div_ceil(step), |at| small(pair(at)));
    println!(
        "{} of {pairs} pairs, {} violations",
        pairs.div_ceil(step),
        failures.len()
    );
    blame(&failures, |at| strikes_to_environment(&pair(at)));
}

/// Losing the last words of a dead worker (bug 5) must break nothing: its rows are suspect, and
/// are looked up. Reading a dead worker's pipe to its end saves requests, not rows.
#[cfg(feature = "plant")]
#[test]
fn lost_words_of_the_dead_break_nothing() {
    use crate::model::plant;
    let (_, failures) = play_all(10_000, |seed| {
        plant::plant(5);
        let result = guarded(|| play(seed, Script::default()));
        plant::plant(0);
        result
    });
    blame(&failures, |seed| format!("USERFERRY_PLANT=5 SEED={seed}"));
}

/// Every planted bug, and what it breaks.
#[cfg(feature = "plant")]
const PLANTS: &[(u32, &str)] = &[
    (1, "a grant before its lease is committed"),
    (2, "commits that a power loss takes back"),
    (3, "exists means failed"),
    (4, "exists means linked, without a look at what is there"),
    (6, "words of a dead worker are believed"),
    (7, "more slots than the limit allows"),
    (8, "the lock is not inherited by workers"),
    (9, "a chunk is taken for done too early"),
    (10, "a re-lease moves the time before which nothing is ours"),
    (11, "a failed sync is tried again"),
    (12, "a 401 fails the row"),
    (13, "no membership after a recovered user"),
    (
        14,
        "an organization has several flights at once, the last one wins",
    ),
    (15, "a resume counts memberships twice"),
    (16, "emails are compared with their case"),
    (17, "followers wait for a parked leader"),
    (18, "a dead resolver keeps its organization"),
    (19, "a look-up that finds nothing fails the row"),
    (
        20,
        "a membership whose answer was lost is taken for refused",
    ),
    (21, "suspects are forgotten by a resume"),
    (22, "workers do not keep pauses"),
    (23, "a follower goes before its leader is committed"),
    (24, "slots that a hold voids are not asked for again"),
    (25, "slots are taken behind a pause without end"),
    (26, "a row that shares its leader's fate is granted as well"),
    (27, "a row in doubt enrols a factor without a look"),
    (
        28,
        "what may still be under way to a factor is not waited out",
    ),
];

/// Plays until the planted bug is found; returns the seed and what broke.
#[cfg(feature = "plant")]
fn find(bug: u32) -> Option<(u64, String)> {
    use crate::model::plant;
    plant::plant(bug);
    let found = (0..10_000_u64).find_map(|seed| {
        let result = guarded(|| play(seed, Script::default()));
        result.err().map(|words| (seed, words))
    });
    plant::plant(0);
    found
}

/// The simulator finds each planted bug: `cargo test --features plant --lib sim::tests::teeth`.
#[cfg(feature = "plant")]
#[test]
fn teeth() {
    let only = number("USERFERRY_PLANT").filter(|bug| *bug > 0);
    let wanted = |bug: u32| only.is_none_or(|only| only == u64::from(bug));
    let plants: Vec<_> = PLANTS.iter().filter(|(bug, _)| wanted(*bug)).collect();
    let count = u64::try_from(plants.len()).unwrap();
    let (_, missed) = play_all(count, |at| {
        let (bug, what) = plants[usize::try_from(at).unwrap()];
        let Some((seed, words)) = find(*bug) else {
            return Err(format!("{bug} {what}: MISSED"));
        };
        let words: String = words.chars().take(100).collect();
        println!("{bug:>2} {what}: seed {seed}: {words}");
        Ok(Figures::default())
    });
    assert!(missed.is_empty(), "not within 10,000 seeds: {missed:#?}");
}
