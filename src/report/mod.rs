//! What people and scripts get to see of a run and of a job.
//!
//! # Owns
//! stdout and stderr, the progress display, the events file, the summary in its two forms, the
//! shape of `results` and `rejects`.
//! # Never
//! Decides anything about a run, writes a ledger, sends a request. Sees events, never state.
//! # Invariants
//! I14 what is shown is what was committed: counters come from events of commits or from the
//! ledger. I17 no key, password or raw row is printed; `results` and `rejects`, made on demand
//! from the source, are the only outputs with people's data.

pub mod advice;
pub mod events;
pub mod findings;
pub mod html;
pub mod outfile;
pub mod painter;
pub mod plan;
pub mod problems;
pub mod progress;
pub mod reasons;
pub mod rejects;
pub mod results;
pub mod screen;
pub mod summary;
pub mod table;
pub mod words;

pub use events::{EventLine, EventLog, EventOptions, Overflow};
pub use outfile::OutFile;
pub use progress::Display;
pub use screen::Screen;
pub use summary::{Summary, SummaryFacts};
