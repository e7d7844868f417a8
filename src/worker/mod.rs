//! A worker: reads its chunk, walks every row through its steps, talks to the target.
//!
//! # Owns
//! The steps of a row and of an organization (pure), the local cache, the gate, the serve loop.
//! # Never
//! Sends a request without grant, slot and open input; writes a file, but the one of [`known`];
//! outlives its coordinator by more than a second.
//! # Invariants
//! I11 no request starts inside a pause. I12 its input's end is its own.
//! # See
//! `serve` takes a reader and a writer and nothing else of the coordinator.

mod attempts;
pub(crate) mod cache;
mod echo;
pub mod gate;
pub mod known;
pub mod org_steps;
pub(crate) mod outbox;
mod process;
pub mod reconcile;
pub(crate) mod roles;
pub mod scan;
pub mod serve;
pub(crate) mod shell;
pub mod steps;

pub use echo::main as echo;
pub use process::{main, on_thread};
pub use serve::{ServeError, serve};
