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

mod check;
mod codes;
mod commit;
pub mod error;
mod failures;
pub mod folder;
pub mod holder;
mod image;
pub mod lock;
mod problems;
pub mod read;
pub mod rebuild;
pub mod retry;
mod rows;
mod schema;
pub mod series;
pub mod settings;
pub mod store;
pub mod totals;
pub mod types;
pub mod writer;

#[cfg(test)]
mod tests;

pub use error::{FolderError, LedgerError, LockError};
pub use failures::FailureGroup;
pub use folder::{Checkpoints, JobFolder, NewFolder, SpaceWarning, job_name_for};
pub use holder::Holder;
pub use lock::{JobLock, LockState};
pub use problems::{Example, OrgRows, Organizations, Problem};
pub use read::{JobSummary, LedgerReader, RunView};
pub use rebuild::{ReplaceError, Salvage, earliest_trace, salvage, set_aside_and_replace};
pub use retry::{Reopened, RetryPick};
pub use series::{RunSeries, Sample};
pub use settings::Settings;
pub use store::{CONFLICT_IN_FILE, Ledger};
pub use totals::Totals;
pub use types::{
    Carry, Change, CommitReply, Fate, FollowerAsk, FollowerFacts, FollowerImage, GroupFate,
    JobImage, JobRecord, LeaseImage, NewJob, OrgImage, OrgRecord, OrgState, RunSnapshot, RunState,
};
pub use writer::{Replies, Request, Writer, WriterError};
