//! What a job is: the options that are stored with it and may not change on resume.

use super::OrgKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Where users go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// The embedded rehearsal directory: nothing leaves the machine.
    Sandbox,
    /// `WorkOS` User Management, or a server that speaks its API.
    Workos,
}

/// Origin of the `WorkOS` API.
pub const WORKOS_ORIGIN: &str = "https://api.workos.com";

impl TargetKind {
    /// Returns the word of `--target`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Workos => "workos",
        }
    }

    /// Returns where it is when nobody says so; the built-in sandbox listens wherever it can.
    pub const fn default_origin(self) -> Option<&'static str> {
        match self {
            Self::Sandbox => None,
            Self::Workos => Some(WORKOS_ORIGIN),
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to a row whose user existed before this job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExistingPolicy {
    /// Attributes untouched, membership added.
    Link,
    /// No write.
    Skip,
    /// The row fails `user_exists`.
    Fail,
}

impl ExistingPolicy {
    /// Returns the word of `--on-existing`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}

/// Where a row's organization comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrgMode {
    /// From the columns `org_id`, `org_external_id`, `org_name`; a file without them has none.
    Columns,
    /// From the same columns; a row with `org_name` alone means the organization of that name.
    ColumnsByName,
    /// One organization for every row.
    Single {
        /// Which one.
        key: OrgKey,
        /// Its name when it has to be created; its external id otherwise.
        name: Option<String>,
    },
}

/// The options that make a job what it is. Stored in the ledger; a different value on resume is
/// refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Where users go.
    pub target: TargetKind,
    /// The API's origin; `None` for the automatic sandbox, whose port changes with every run.
    pub base_url: Option<String>,
    /// Where organizations come from.
    pub org_mode: OrgMode,
    /// Whether a missing organization is created.
    pub create_orgs: bool,
    /// What happens to users that were there before.
    pub on_existing: ExistingPolicy,
    /// Whether an inactive membership is re-activated.
    pub reactivate: bool,
    /// Whether a row without an organization fails validation.
    pub require_membership: bool,
    /// Rows per chunk, 1 to 1000.
    pub chunk_size: u32,
    /// The profile the file is read with: the name of a built-in one, `toml:` and a hash of the
    /// text of a person's own, or `none`.
    #[serde(default = "no_profile")]
    pub profile: String,
    /// The file whose password hashes were joined to the export.
    #[serde(default)]
    pub password_hashes: Option<PathBuf>,
    /// The file with the parameters of the export's hashes, or `none`.
    #[serde(default)]
    pub hash_parameters: Option<PathBuf>,
}

/// What a job without a profile says.
fn no_profile() -> String {
    "none".to_owned()
}
