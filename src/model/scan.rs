//! Listing the users or the roles a target has: the words for it.

use serde::{Deserialize, Serialize};

/// Whether the users of the target are listed before the rows are worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistingScan {
    /// If a sample of the rows says that it pays.
    #[default]
    Auto,
    /// In any case.
    List,
    /// Never: every row asks for itself.
    Probe,
}

/// What a listing has found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanTally {
    /// Pages read, of whatever list.
    pub pages: u32,
    /// Users.
    pub users: u64,
    /// Memberships.
    pub memberships: u64,
    /// Organizations of the file whose memberships were listed.
    pub organizations: u32,
    /// Whether every list was read to its end.
    pub whole: bool,
}

/// Whose roles a list shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RoleScope {
    /// Those of the environment, which every organization has.
    Environment,
    /// Those of the organization with this id: its own ones, and the environment's.
    Organization(String),
}

/// What is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanNews {
    /// Some rows were looked up; they decide whether the target is listed.
    Sampled {
        /// Rows that were looked up.
        asked: u32,
        /// Rows whose user is there.
        found: u32,
        /// Pages a listing may take, if there is one.
        pages_max: Option<u32>,
    },
    /// How far it is.
    Listing(ScanTally),
    /// It is over, and what it found is used.
    Listed(ScanTally),
    /// It could not be done; every row asks for itself.
    Failed(String),
}
