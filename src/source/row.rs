//! One record of the source as the steps of a row need it: typed, trimmed, checked.

use crate::model::{OrgKey, RowNumber};
use secrecy::SecretString;

/// Returns the email by which rows and users are compared: trimmed and lower-cased.
pub fn email_norm(email: &str) -> String {
    let mut norm = String::with_capacity(email.len());
    put_email_norm(email, &mut norm);
    norm
}

/// Appends what [`email_norm`] returns to `out`.
pub(super) fn put_email_norm(email: &str, out: &mut String) {
    let email = trimmed(email);
    if email.is_ascii() {
        // What `to_lowercase` would give, several times faster.
        let start = out.len();
        out.push_str(email);
        if let Some(email) = out.get_mut(start..) {
            email.make_ascii_lowercase();
        }
    } else {
        out.push_str(&email.to_lowercase());
    }
}

/// Returns what `trim` returns, at once for the many cells that need none.
pub(super) fn trimmed(cell: &str) -> &str {
    match cell.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => cell,
        _ => cell.trim(),
    }
}

/// Returns the organization two cells name; `None` when they name none, or two. `name` is that of
/// the cell `org_name` where a name alone may mean one, else empty.
pub(super) fn org_of(id: &str, external_id: &str, name: &str) -> Option<OrgKey> {
    match (id.trim(), external_id.trim()) {
        ("", "") => Some(name.trim())
            .filter(|name| !name.is_empty())
            .map(|name| OrgKey::Name(name.to_owned())),
        (id, "") => Some(OrgKey::Id(id.to_owned())),
        ("", external_id) => Some(OrgKey::External(external_id.to_owned())),
        (_, _) => None,
    }
}

/// A row that passed every local rule.
#[derive(Clone, Debug)]
pub struct SourceRow {
    /// Its number.
    pub number: RowNumber,
    /// The email as written, trimmed.
    pub email: String,
    /// The email by which rows and users are compared: trimmed and lower-cased.
    pub email_norm: String,
    /// `first_name`, absent when blank.
    pub first_name: Option<String>,
    /// `last_name`, absent when blank.
    pub last_name: Option<String>,
    /// `email_verified`, absent when blank.
    pub email_verified: Option<bool>,
    /// `external_id`, absent when blank.
    pub external_id: Option<String>,
    /// `locale` as a BCP 47 tag, absent when blank.
    pub locale: Option<String>,
    /// `password`, or `password_hash` with its type.
    pub credential: Option<Credential>,
    /// `totp_secret` with its `totp_issuer`.
    pub totp: Option<Totp>,
    /// `metadata` as string pairs in the order of the file; numbers and booleans become strings.
    pub metadata: Vec<(String, String)>,
    /// The organization it names, if any.
    pub org: Option<OrgKey>,
    /// `org_name`, absent when blank.
    pub org_name: Option<String>,
    /// `role_slugs` in the order of the file; empty means the target's default role.
    pub role_slugs: Vec<String>,
}

#[cfg(test)]
impl SourceRow {
    /// A row that holds nothing but an email.
    pub fn bare(email: &str) -> Self {
        Self {
            number: RowNumber(1),
            email: email.to_owned(),
            email_norm: email_norm(email),
            first_name: None,
            last_name: None,
            email_verified: None,
            external_id: None,
            locale: None,
            credential: None,
            totp: None,
            metadata: Vec::new(),
            org: None,
            org_name: None,
            role_slugs: Vec::new(),
        }
    }
}

/// A second factor: one-time passwords (SHA-1, 6 digits, 30 s).
#[derive(Clone, Debug)]
pub struct Totp {
    /// Base32 in capitals, without spaces and padding.
    pub secret: SecretString,
    /// `totp_issuer`, absent when blank.
    pub issuer: Option<String>,
}

/// What lets the user sign in.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A plain password.
    Plain(SecretString),
    /// A hash in one of the formats of [`super::rules::HASH_TYPES`].
    Hash {
        /// The hash string.
        hash: SecretString,
        /// Its type, one of [`super::rules::HASH_TYPES`].
        kind: String,
    },
}
