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
    for (at, words) in &failures {
        println!(
            "SEED={} cargo test --lib sim::tests::replay -- --nocapture\n    {}",
            from + at,
            words.chars().take(1000).collect::<String>()
        );
    }
    assert!(
        failures.is_empty(),
        "{} of {count} plays broke an invariant",
        failures.len()
    );
}

/// Plays one seed and shows everything: `SEED=… cargo test --lib sim::tests::replay -- --nocapture`.
#[test]
fn replay() {
    let seed = number("SEED").unwrap_or(1);
    let script = Script {
        trace: number("SEED").is_some(),
        ..Script::default()
    };
    let figures = play(seed, script);
    println!("{figures:?}");
    figures.unwrap();
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
    let (_, failures) = play_all(points * 3, |at| {
        let strike = STRIKES[usize::try_from(at % 3).unwrap()];
        small(vec![(at / 3 + 1, strike)])
    });
    println!(
        "{points} points, 3 kinds of death, {} violations",
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A crash during the recovery from a crash: a tenth of all pairs, all with `SIM_PAIRS=100`.
#[test]
fn pairs_of_crash_points() {
    let percent = number("SIM_PAIRS").unwrap_or(10);
    let points = small(Vec::new()).unwrap().points;
    // The run after the first crash has its own points: as many again, and some for the restart.
    let second = points + points / 4;
    let pairs = points * second;
    let step = 100 / percent.clamp(1, 100);
    let (_, failures) = play_all(pairs / step, |at| {
        let at = at * step + at % step;
        let (first, then) = (at / second + 1, at % second + 1);
        let kind = usize::try_from(at % 9).unwrap();
        small(vec![
            (first, STRIKES[kind % 3]),
            (first + then, STRIKES[kind / 3]),
        ])
    });
    println!(
        "{} of {pairs} pairs, {} violations",
        pairs / step,
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
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
];

/// The simulator finds each planted bug: `cargo test --features plant --lib sim::tests::teeth`.
#[cfg(feature = "plant")]
#[test]
fn teeth() {
    use crate::model::plant;
    let only = number("USERFERRY_PLANT").filter(|bug| *bug > 0);
    let mut missed = Vec::new();
    for (bug, what) in PLANTS
        .iter()
        .filter(|(bug, _)| only.is_none_or(|n| n == u64::from(*bug)))
    {
        let found = (0..10_000_u64).find_map(|seed| {
            plant::plant(*bug);
            let result = guarded(|| play(seed, Script::default()));
            plant::plant(0);
            result.err().map(|words| (seed, words))
        });
        let Some((seed, words)) = found else {
            println!("{bug:>2} {what}: MISSED");
            missed.push(*bug);
            continue;
        };
        let words: String = words.chars().take(100).collect();
        println!("{bug:>2} {what}: seed {seed}: {words}");
    }
    assert!(
        missed.is_empty(),
        "not found within 10,000 seeds: {missed:?}"
    );
}
