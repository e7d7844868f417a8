//! The target: what is asked of it, how a request looks on the wire, and what its answer means.
//!
//! # Owns
//! [`Op`], building requests, [`classify()`] (the only place where HTTP becomes a [`Verdict`]).
//! # Never
//! Retries, sleeps, decides about a row, follows a redirect.
//! # See
//! `worker/steps.rs` for what is done with a verdict.

pub mod classify;
pub mod http;
pub mod op;
pub mod workos;

pub use classify::{Answer, Rejection, StopReason, TransportError, Verdict, classify};
pub use op::{Entity, NewUser, Op, RequestClass};
