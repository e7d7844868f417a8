//! The ledger: the job's memory on disk, and the only truth after a crash.
//!
//! # Owns
//! The job folder, its lock, the `SQLite` file, its schema and migrations, the writer thread with its
//! group commit, and every query over it.
//! # Never
//! Decides anything about a row. Holds an email, a name, a password, a key or a raw record.
//! # Invariants
//! I8 settled rows never change within a generation; ids are written once.
//! I14 at every commit the sum of all states equals the rows of the file.
//! # See
//! [`types`] for what is written and read, `schema.rs` for the tables.

pub mod types;

pub use types::{
    Carry, Change, CommitReply, Fate, FollowerAsk, FollowerFacts, FollowerImage, GroupFate,
    JobImage, JobRecord, LeaseImage, OrgImage, OrgRecord, OrgState, RunSnapshot, RunState,
};

pub mod error;
pub use error::LedgerError;
