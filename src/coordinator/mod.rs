//! The coordinator: owns every decision of a run.
//!
//! # Owns
//! Leases, followers, organizations, pacing, pauses, restarts, the end of a run.
//! # Never
//! Talks to the target, parses a row, prints. [`core`] does no I/O at all: it takes events and
//! returns effects; [`driver`] is the only loop that gathers the one and performs the other.
//! # Invariants
//! I1 no grant before its lease is committed. I2 a row is in at most one live grant.
//! I9 at most one outstanding creation per organization. I14 see the ledger.

pub mod config;
pub mod core;
pub mod driver;
mod noticed;
mod signals;

pub use config::{EndReason, FailureLimit, FailureStop, RunConfig, RunEnd, StopSignal, Tuning};
pub use driver::run;
pub use noticed::Noticed;
