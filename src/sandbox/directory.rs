//! The store, its journal and the source of ids: where a decided change becomes a fact.

use super::ids::{Id, IdSource, Kind, Ulid};
use super::journal::{Journal, JournalError};
use super::record::Change;
use super::store::Store;
use std::path::Path;

/// One environment of the API.
#[derive(Debug)]
pub struct Directory {
    store: Store,
    journal: Option<Journal>,
    ids: IdSource,
}

impl Directory {
    /// Starts empty, in memory only.
    pub fn in_memory(seed: u64) -> Self {
        Self {
            store: Store::default(),
            journal: None,
            ids: IdSource::new(seed),
        }
    }

    /// Replays the log at `path` and goes on writing it.
    pub async fn open(path: &Path, seed: u64) -> Result<Self, JournalError> {
        let mut store = Store::default();
        let replay = |body: &[u8]| store.apply(body).map_err(|error| error.to_string());
        let journal = Journal::open(path, replay).await?;
        let mut ids = IdSource::new(seed);
        ids.observe(store.last_id());
        Ok(Self {
            store,
            journal: Some(journal),
            ids,
        })
    }

    /// Returns the data.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Returns a new id.
    pub fn next_id(&mut self, now_ms: i64) -> Ulid {
        self.ids.next(now_ms)
    }

    /// Encodes a change, so that it no longer borrows from the data it is about to change.
    pub fn encode(change: &Change<'_>) -> Result<Encoded, CommitError> {
        Ok(Encoded {
            id: change.id(),
            bytes: change.encode()?,
        })
    }

    /// Writes a change to the log, then applies it: after a kill in between, the next start does.
    pub fn commit(&mut self, change: &Encoded) -> Result<Ulid, CommitError> {
        if let Some(journal) = &mut self.journal {
            journal.append(&change.bytes)?;
        }
        self.store.apply(&change.bytes)?;
        Ok(change.id)
    }

    /// Returns how many entities of each kind there are: users, organizations, memberships.
    pub const fn counts(&self) -> [usize; 3] {
        [
            self.store.count(Kind::User),
            self.store.count(Kind::Organization),
            self.store.count(Kind::Membership),
        ]
    }

    /// Returns the organization's name, for showing its memberships.
    pub fn organization_name(&self, id: Ulid) -> &str {
        self.store
            .organization(id)
            .map_or("", |organization| organization.name)
    }
}

/// A change as bytes.
#[derive(Debug)]
pub struct Encoded {
    id: Ulid,
    bytes: Vec<u8>,
}

/// Why a decided change did not become a fact.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The log cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The change has no encoding.
    #[error("a change cannot be encoded")]
    Encode(#[from] postcard::Error),
    /// The store does not take it.
    #[error("a change does not fit")]
    Apply(#[from] super::store::ApplyError),
}

/// Which entity a request was about, for the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// A change was applied.
    pub applied: bool,
    pub email: Option<String>,
    pub external_id: Option<String>,
    pub user_id: Option<String>,
    pub organization_id: Option<String>,
    /// The entity that was made, found or changed.
    pub entity: Option<Id>,
}
