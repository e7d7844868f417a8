//! The dictionary: every word the other rooms share, and nothing that does I/O.
//!
//! | word | meaning |
//! |---|---|
//! | job | one CSV going into one target; a folder `checkpoints/<job>/` with a ledger in it |
//! | row | one CSV record, numbered from 1; the header and blank lines are not rows |
//! | chunk | consecutive rows, known by their byte range |
//! | lease | the durable intent to send requests for rows of one chunk |
//! | leader / follower | rows with one email: the lowest row creates the user, the others add memberships |
//! | origin | did this job make an entity, or was it there before? |
//! | slot | the permission to start one request at or after an instant |
//! | suspect | a leased row without an outcome after its owner died |
//!
//! # Owns
//! Ids, row states, outcomes, organization keys, times, rates, the secret, words for people.
//! # Never
//! Reads a file, a clock, the environment or a socket (except [`clock`], the one door to the clocks).
//! # See
//! `docs/ARCHITECTURE.md`.

pub mod clock;
pub mod crash;
pub mod escape;
pub mod event;
pub mod job;
pub mod outcome;
pub mod plant;
pub mod rate;
pub mod reading;
pub mod rng;
pub mod scan;
pub mod tally;
pub mod words;

pub use clock::{Mono, ServerMs};
pub use job::{ExistingPolicy, JobOptions, OrgMode, TargetKind};
pub use outcome::{
    Evidence, MembershipOutcome, MembershipState, Origin, Reached, RowError, RowOutcome, RowState,
    Step, UserOutcome,
};
pub use rate::{AutoRate, RateLimit, RateLimits, RateShift};
pub use reading::{Delimiter, Encoding, Packing, Reading, Rename, Spool};
pub use tally::{FinishTally, MembershipTally, OrgTally, RequestTally, RowTally};

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident, $inner:ty) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The number of a CSV record, from 1. A file holds at most `u32::MAX` rows.
    RowNumber,
    u32
);
number!(
    /// The number of a chunk, from 0, ascending with its rows.
    ChunkId,
    u32
);
number!(
    /// The number of a lease within its job, from 1, never used twice.
    LeaseId,
    u64
);
number!(
    /// One incarnation of a worker subprocess within a run; a restarted worker gets a new one.
    WorkerId,
    u32
);

/// How a row names an organization.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OrgKey {
    /// The target's own id (`org_…`): looked up, never created.
    Id(CompactString),
    /// The id the organization has in the source system; may be created when missing.
    External(CompactString),
    /// Its name, where the file knows nothing else of it (`--orgs-by-name`); may be created when
    /// missing, under [`OrgKey::external_id`].
    Name(CompactString),
}

impl OrgKey {
    /// Returns the identifier without its kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) | Self::External(id) | Self::Name(id) => id,
        }
    }

    /// Returns the external id under which it is looked up and created; none for the target's own
    /// id. One that is known by name gets one derived from the name, since names are not unique
    /// and a repeated create would make two: always the same, readable, and at most 52 bytes.
    pub fn external_id(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Id(_) => None,
            Self::External(id) => Some(Cow::Borrowed(id)),
            Self::Name(name) => Some(Cow::Owned(external_id_of_name(name))),
        }
    }
}

impl fmt::Display for OrgKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id {id}"),
            Self::External(id) => write!(f, "external_id {id}"),
            Self::Name(name) => write!(f, "name {name}"),
        }
    }
}

/// `Acme & Sons` becomes `name-acme-sons-` and twelve hex digits of its hash.
fn external_id_of_name(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if slug.len() >= 32 {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let dash = if slug.is_empty() { "" } else { "-" };
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("name-{slug}{dash}{}", hash.get(..12).unwrap_or_default())
}

/// A 128-bit content hash (BLAKE3, truncated) that binds a chunk's bytes to the index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkHash(pub [u8; 16]);

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Where one chunk lies in the source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSpec {
    /// Its number.
    pub id: ChunkId,
    /// Byte offset of its first record.
    pub offset: u64,
    /// Length in bytes up to the start of the next chunk's first record (or the end of the file).
    pub length: u32,
    /// The number of its first row.
    pub first_row: RowNumber,
    /// How many rows it holds, at least one.
    pub rows: u32,
    /// The physical line (from 1) on which its first record starts.
    pub first_line: u64,
    /// The hash of exactly `length` bytes at `offset`.
    pub hash: ChunkHash,
}

impl ChunkSpec {
    /// Returns whether `row` lies in this chunk.
    pub fn contains(&self, row: RowNumber) -> bool {
        row >= self.first_row && row.0 - self.first_row.0 < self.rows
    }
}

/// A row that repeats the email of a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follower {
    /// The row itself.
    pub row: RowNumber,
    /// The lowest row with this email: it creates the user.
    pub leader: RowNumber,
    /// The nearest lower row with the same email *and* the same organization key, if any:
    /// this row waits for that one, so that which of them made the membership is deterministic.
    pub previous_pair: Option<RowNumber>,
}

/// A row whose `external_id` a lower row with another email already uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalIdConflict {
    /// The row that fails `external_id_conflict_in_file`.
    pub row: RowNumber,
    /// The lowest row with that `external_id`: it keeps it.
    pub winner: RowNumber,
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_name_always_gives_the_same_external_id_and_no_two_names_the_same() {
        let id = |name: &str| {
            OrgKey::Name(name.into())
                .external_id()
                .unwrap()
                .into_owned()
        };
        assert!(id("Acme & Sons, Ltd.").starts_with("name-acme-sons-ltd-"));
        assert_eq!(id("Acme"), id("Acme"));
        assert_ne!(id("Acme"), id("ACME"));
        assert_ne!(id("Ä"), id("Ö"));
        assert!(id("Ä").is_ascii());
        assert!(id(&"long name ".repeat(50)).len() <= 52);
    }
}
