//! The one pass over the file.

use super::{Columns, SourceError};
use crate::model::{ChunkSpec, ExternalIdConflict, Follower, OrgKey, OrgMode, RowNumber};
use std::path::Path;

/// What shapes an index.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// Rows per chunk, 1 to 1000.
    pub chunk_size: u32,
    /// Where organizations come from (organization columns with a single organization are refused).
    pub org_mode: OrgMode,
    /// The key of the 64-bit keyed hashes.
    pub hash_key: u64,
}

/// Everything one pass over the file tells.
#[derive(Clone, Debug)]
pub struct Index {
    /// Size of the file.
    pub bytes: u64,
    /// BLAKE3 of the whole file, as hex.
    pub hash: String,
    /// How many rows.
    pub rows: u32,
    /// Which column is which.
    pub columns: Columns,
    /// Its chunks, ascending.
    pub chunks: Vec<ChunkSpec>,
    /// Rows that repeat a lower row's email, ascending.
    pub followers: Vec<Follower>,
    /// How many of them differ from their leader in a user field (the leader's values count).
    pub followers_differing: u32,
    /// Rows whose `external_id` belongs to a lower row with another email, ascending.
    pub conflicts: Vec<ExternalIdConflict>,
    /// `(org_key_hash, lowest row that gives this organization a name)`, sorted by hash.
    pub org_names: Vec<(u64, RowNumber)>,
    /// Sentences for people: unknown columns with the nearest known name.
    pub warnings: Vec<String>,
}

/// Indexes the file at `path` in one streaming pass; calls `on_bytes` with the bytes read so far.
pub fn build(
    path: &Path,
    options: &IndexOptions,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Index, SourceError> {
    let _ = (path, options, on_bytes);
    Err(SourceError::Changed)
}

/// Returns size and BLAKE3 (hex) of the file at `path`: what resume compares.
pub fn file_hash(path: &Path, on_bytes: &mut dyn FnMut(u64)) -> Result<(u64, String), SourceError> {
    let _ = (path, on_bytes);
    Err(SourceError::Changed)
}

/// Returns the keyed hash under which [`Index::org_names`] knows an organization.
pub fn org_key_hash(hash_key: u64, key: &OrgKey) -> u64 {
    let _ = key;
    hash_key
}
