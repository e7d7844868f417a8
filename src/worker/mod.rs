//! The worker: what one subprocess does with the rows it is granted.
//!
//! # Owns
//! The steps of a row and of an organization, as state machines without I/O, clock or async.
//! # Never
//! Decides that a row is settled (only the ledger's commit does), asks for more than it was granted.
//! # See
//! [`target`](mod@crate::target) for requests and verdicts.

pub mod attempts;
pub mod org_steps;
pub mod reconcile;
pub mod steps;
