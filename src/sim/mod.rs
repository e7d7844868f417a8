//! The simulator: whole runs of the importer on a virtual clock, driven by one seed.
//!
//! # Owns
//! The stage ([`world`]), a model of the ledger, a model of the target, workers without a runtime,
//! the weather (what goes wrong), the judge.
//! # Never
//! Decides anything the importer decides: coordinator core, row and organization machines, gate,
//! cache, outbox and the reading of answers are the real ones.
//! # See
//! `docs/RELIABILITY.md` for the invariants by number and how to run more of it.

mod judge;
mod ledger;
mod plan;
mod pure;
mod server;
mod tests;
mod weather;
mod worker;
mod world;

use plan::Plan;
use weather::Weather;
use world::{Figures, Script, World};

/// Plays a seed to its end; the error names the invariant that broke.
fn play(seed: u64, script: Script) -> Result<Figures, String> {
    let plan = Plan::of(seed);
    let weather = Weather::of(seed, plan.job.rows, plan.time_scale);
    play_with(plan, weather, seed, script)
}

fn play_with(plan: Plan, weather: Weather, seed: u64, script: Script) -> Result<Figures, String> {
    let mut world = World::new(plan, weather, seed, script);
    world.run();
    if world.broken.is_none() {
        judge::judge(&world)?;
    }
    world.run_again();
    match world.broken.take() {
        None => Ok(world.figures),
        Some(broken) => Err(broken),
    }
}
