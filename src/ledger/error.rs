//! Why the ledger says no: one sentence that says what and where, and one hint that says what next.

use super::holder::Holder;
use rusqlite::ErrorCode;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a ledger could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// There is no ledger at this path.
    #[error("there is no ledger at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A new ledger must not replace an old one.
    #[error("there is a ledger at {} already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk is full: the ledger {} could not grow", path.display())]
    Full {
        /// The ledger.
        path: PathBuf,
    },
    /// The operating system refused to read, write or sync.
    #[error("the ledger {} could not be read or written: {detail}", path.display())]
    Io {
        /// The ledger.
        path: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// Another program holds the database.
    #[error("another program has the ledger {} open and keeps it locked", path.display())]
    Busy {
        /// The ledger.
        path: PathBuf,
    },
    /// The file's contents contradict themselves.
    #[error("the ledger {} is damaged: {detail}", path.display())]
    Corrupt {
        /// The ledger.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is something else.
    #[error("{} is not a userferry ledger: {detail}", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer userferry wrote it.
    #[error("the ledger {} has format {found}; this userferry knows formats up to {known}", path.display())]
    Newer {
        /// The ledger.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this build knows.
        known: i64,
    },
    /// A change would break an invariant: nothing of its transaction was kept.
    #[error("invariant {id} would be broken: {detail}")]
    Invariant {
        /// Its id: `I8`, `I14`, …
        id: &'static str,
        /// What was asked, and what the ledger holds.
        detail: String,
    },
    /// An earlier error left the connection in doubt; it is not used again.
    #[error("the ledger {} is closed since an earlier error", path.display())]
    Poisoned {
        /// The ledger.
        path: PathBuf,
    },
    /// `retry` opened a new generation while the rows were being read.
    #[error("the job was opened again by `retry` while its rows were being read")]
    Reopened,
    /// The writer thread hit a defect of ours.
    #[error("the ledger's writer stopped on an internal error: {0}")]
    Panicked(String),
}

impl LedgerError {
    /// Returns what to do next, as one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "choose another name with `--job`",
            Self::Full { .. } => "free some space and resume: no row was failed by this",
            Self::Io { .. } => {
                "check the disk and the permissions of the folder, then resume; nothing that was \
                 reported as done is lost"
            }
            Self::Busy { .. } => "close the program that has the file open, then resume",
            Self::Corrupt { .. } | Self::NotALedger { .. } | Self::Missing { .. } => {
                "nothing was written; `userferry recover JOB --from-target` makes a new ledger from \
                 the file and from what the target holds: nothing is made twice"
            }
            Self::Newer { .. } => {
                "use the userferry that wrote it, or a newer one; only if there is none, \
                 `userferry recover JOB --from-target` makes a new ledger from the file and from \
                 what the target holds"
            }
            Self::Invariant { .. } | Self::Panicked(_) => {
                "this is a defect of userferry: keep the folder and report it; resuming is safe"
            }
            Self::Poisoned { .. } => "resume the job: it continues from the last commit",
            Self::Reopened => "run the command again",
        }
    }

    /// Returns whether the ledger itself cannot be trusted or is gone: it is never written, and
    /// `recover` makes a new one.
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. }
                | Self::NotALedger { .. }
                | Self::Newer { .. }
                | Self::Missing { .. }
        )
    }

    /// Returns whether the connection may still be used: only when the transaction was refused
    /// by a rule of ours and rolled back.
    pub(super) const fn leaves_connection_usable(&self) -> bool {
        matches!(self, Self::Invariant { .. } | Self::Reopened)
    }
}

/// Why the checkpoints directory or a job folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The name is outside `[A-Za-z0-9._-]{1,64}` or starts with a dot.
    #[error("`{name}` is not a job name: 1 to 64 of A-Z a-z 0-9 . _ - and no dot in front")]
    BadName {
        /// As given, cleaned for the terminal.
        name: String,
    },
    /// There is no such job.
    #[error("there is no job `{name}` in {}", dir.display())]
    NoJob {
        /// The job.
        name: String,
        /// The checkpoints directory.
        dir: PathBuf,
    },
    /// There is a job of this name already.
    #[error("there is a job `{name}` in {} already", dir.display())]
    Exists {
        /// The job.
        name: String,
        /// The checkpoints directory.
        dir: PathBuf,
    },
    /// Something that must be a plain folder is not one.
    #[error("{} is not a plain folder", path.display())]
    NotAFolder {
        /// What.
        path: PathBuf,
    },
    /// A network file system: neither locks nor syncs can be relied on.
    #[error("{} lies on a network file system ({kind}), where locks and syncs cannot be trusted", path.display())]
    Network {
        /// The checkpoints directory.
        path: PathBuf,
        /// Which kind.
        kind: &'static str,
    },
    /// Too little space for the job's ledger.
    #[error("{} has {free_mib} MiB free; this job needs {needed_mib} MiB", path.display())]
    NoSpace {
        /// The checkpoints directory.
        path: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is needed.
        needed_mib: u64,
    },
    /// The operating system refused.
    #[error("{} could not be {what}: {source}", path.display())]
    Io {
        /// What was tried, as a participle.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The job is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl FolderError {
    pub(super) fn io(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Returns what to do next, as one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "choose another name with `--job`",
            Self::NoJob { .. } => "list the jobs with `userferry jobs`",
            Self::Exists { .. } => "choose another name with `--job`, or resume that job",
            Self::NotAFolder { .. } => "move it away, or choose another `--checkpoints` folder",
            Self::Network { .. } => "choose a folder on a local disk with `--checkpoints`",
            Self::NoSpace { .. } => "free some space, or choose another disk with `--checkpoints`",
            Self::Io { .. } => "check the disk and the permissions of the folder",
            Self::Lock(error) => error.hint(),
        }
    }
}

/// Why a job's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or a worker it left behind, holds the job.
    #[error("the job is held by {}", Who(holder.as_deref()))]
    Held {
        /// What the holder wrote about itself, if it could be read. Informational only.
        holder: Option<Box<Holder>>,
    },
    /// The folder went away while its lock was being taken.
    #[error("the job folder {} was removed", path.display())]
    Removed {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("the lock {} could not be taken: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl LockError {
    /// Returns what to do next, as one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Held { .. } => "wait for it, or watch it with `userferry status JOB --watch`",
            Self::Removed { .. } => "list the jobs with `userferry jobs`",
            Self::Io { .. } => "check the disk and the permissions of the folder",
        }
    }
}

/// Words for whoever holds a lock.
struct Who<'a>(Option<&'a Holder>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => holder.fmt(f),
            None => f.write_str("another process"),
        }
    }
}

/// What goes wrong inside the room, before it is known in which file.
#[derive(Debug)]
pub(super) enum Fault {
    /// `SQLite` said so.
    Sqlite(rusqlite::Error),
    /// A stored value is not one of ours.
    Stored(String),
    /// A change breaks a rule.
    Invariant(&'static str, String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Fault {
    /// Names the file and sorts the error by what can be done about it.
    pub(super) fn at(self, path: &Path) -> LedgerError {
        match self {
            Self::Sqlite(error) => sqlite_error(path, &error),
            Self::Stored(detail) => LedgerError::Corrupt {
                path: path.to_owned(),
                detail,
            },
            Self::Invariant(id, detail) => LedgerError::Invariant { id, detail },
        }
    }
}

/// Sorts an error of `SQLite`. What is neither space, damage, a lock nor a rule is I/O: the
/// cautious reading, because the connection is dropped after it.
fn sqlite_error(path: &Path, error: &rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy { path },
        Some(ErrorCode::NotADatabase) => LedgerError::NotALedger { path, detail },
        Some(ErrorCode::ConstraintViolation) => LedgerError::Invariant { id: "I8", detail },
        // Without a code it is a stored value that has the wrong type, or a row that is missing.
        None
        | Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::Unknown
            | ErrorCode::SchemaChanged
            | ErrorCode::TypeMismatch
            // A record header that claims more than a gigabyte: nothing of ours is that long.
            | ErrorCode::TooBig,
        ) => LedgerError::Corrupt { path, detail },
        Some(_) => LedgerError::Io { path, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32) -> LedgerError {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        Fault::from(error).at(Path::new("/j/ledger"))
    }

    #[test]
    fn errors_of_the_database_are_sorted_by_what_can_be_done() {
        use rusqlite::ffi;
        assert!(matches!(of(ffi::SQLITE_FULL), LedgerError::Full { .. }));
        assert!(matches!(
            of(ffi::SQLITE_IOERR_FSYNC),
            LedgerError::Io { .. }
        ));
        assert!(matches!(
            of(ffi::SQLITE_IOERR_WRITE),
            LedgerError::Io { .. }
        ));
        assert!(matches!(of(ffi::SQLITE_READONLY), LedgerError::Io { .. }));
        assert!(matches!(of(ffi::SQLITE_BUSY), LedgerError::Busy { .. }));
        assert!(matches!(
            of(ffi::SQLITE_CORRUPT),
            LedgerError::Corrupt { .. }
        ));
        assert!(matches!(
            of(ffi::SQLITE_TOOBIG),
            LedgerError::Corrupt { .. }
        ));
        assert!(matches!(
            of(ffi::SQLITE_NOTADB),
            LedgerError::NotALedger { .. }
        ));
        assert!(matches!(
            of(ffi::SQLITE_CONSTRAINT),
            LedgerError::Invariant { .. }
        ));
    }

    #[test]
    fn only_a_broken_rule_leaves_the_connection_usable() {
        for code in [
            rusqlite::ffi::SQLITE_FULL,
            rusqlite::ffi::SQLITE_IOERR_FSYNC,
        ] {
            assert!(!of(code).leaves_connection_usable());
        }
        assert!(of(rusqlite::ffi::SQLITE_CONSTRAINT).leaves_connection_usable());
    }
}
