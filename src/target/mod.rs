//! The target: what is asked of it, how a request looks on the wire, and what its answer means.
//!
//! # Owns
//! [`Op`], building requests, sending one of them once ([`Client`]), [`classify()`] (the only place
//! where HTTP becomes a [`Verdict`], and `usual.rs` ahead of it).
//! # Never
//! Retries, sleeps, decides about a row, follows a redirect.
//! # See
//! `worker/steps.rs` for what is done with a verdict.

pub mod body;
pub mod classify;
pub mod dry;
pub mod http;
mod json;
pub mod op;
pub mod proxy;
pub mod retry_after;
mod usual;
pub mod workos;

pub use classify::{
    Answer, NotApplied, ORGANIZATION_AMBIGUOUS, Rejection, StopReason, TransportError, Verdict,
    classify,
};
pub use dry::DryClient;
pub use http::{Client, ClientError, Exchange, Reply, TargetClient, Timeouts};
pub use op::{Entity, ListPage, Listed, NewFactor, Op, PageOf, RequestClass};
