//! Pacing: how fast, and when not at all. Time and randomness are arguments.
//!
//! # Owns
//! The three budgets (governor), slots and who gets them, pauses after a 429, the share of a limit
//! that is used after one (`--rate auto`), the breaker.
//! # Never
//! Reads a clock, sleeps, knows what a request is for.
//! # Invariants
//! I10: no sliding window of a declared limit holds more slots than the limit allows.
//! I11: no slot lies inside a pause.

pub mod auto;
pub mod breaker;
pub mod budget;
pub mod slots;
pub mod throttle;

pub use breaker::Breaker;
pub use slots::Pacer;
pub use throttle::Throttle;
