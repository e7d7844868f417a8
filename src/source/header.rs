//! Which column is which.

use serde::{Deserialize, Serialize};

/// The position of every known column in a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// Fields of a record.
    pub count: usize,
    /// `email`.
    pub email: usize,
    /// `first_name`.
    pub first_name: Option<usize>,
    /// `last_name`.
    pub last_name: Option<usize>,
    /// `email_verified`.
    pub email_verified: Option<usize>,
    /// `external_id`.
    pub external_id: Option<usize>,
    /// `password`.
    pub password: Option<usize>,
    /// `password_hash`.
    pub password_hash: Option<usize>,
    /// `password_hash_type`.
    pub password_hash_type: Option<usize>,
    /// `metadata`.
    pub metadata: Option<usize>,
    /// `org_id`.
    pub org_id: Option<usize>,
    /// `org_external_id`.
    pub org_external_id: Option<usize>,
    /// `org_name`.
    pub org_name: Option<usize>,
    /// `role_slugs`.
    pub role_slugs: Option<usize>,
    /// Byte length of the header record with its line end, a byte order mark included.
    pub header_bytes: u64,
}
