//! One record of the source as the steps of a row need it: typed, trimmed, checked.

use crate::model::words::{self, EACH, HIGH};
use crate::model::{OrgKey, RowNumber};
use compact_str::CompactString;
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

/// Returns whether a text is ASCII without capitals: then it is its own [`email_norm`], once
/// trimmed. Eight bytes are looked at together.
#[inline]
pub(super) fn is_lower_ascii(text: &str) -> bool {
    // The highest bit of each byte tells: from `A` on the first sum has it, behind `Z` the second.
    !words::any(text.as_bytes(), |word| {
        let low = word & !HIGH;
        let from_a = low + EACH * u64::from(0x80 - b'A');
        let behind_z = low + EACH * u64::from(0x7f - b'Z');
        word | (from_a & !behind_z)
    })
}

/// Returns what `trim` returns, at once for the many cells that need none.
#[inline]
pub(super) fn trimmed(cell: &str) -> &str {
    match cell.as_bytes() {
        [] => cell,
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => cell,
        _ => cell.trim(),
    }
}

/// An organization as cells name it.
#[derive(Clone, Copy, Debug)]
pub(super) enum OrgRef<'a> {
    /// By its id.
    Id(&'a str),
    /// By its external id.
    External(&'a str),
    /// By its name alone.
    Name(&'a str),
}

impl<'a> OrgRef<'a> {
    /// Borrows a key.
    pub(super) fn of(key: &'a OrgKey) -> Self {
        match key {
            OrgKey::Id(id) => Self::Id(id),
            OrgKey::External(external_id) => Self::External(external_id),
            OrgKey::Name(name) => Self::Name(name),
        }
    }

    fn into_key(self) -> OrgKey {
        match self {
            Self::Id(id) => OrgKey::Id(id.into()),
            Self::External(external_id) => OrgKey::External(external_id.into()),
            Self::Name(name) => OrgKey::Name(name.into()),
        }
    }
}

/// Returns the organization two cells name; `None` when they name none, or two. `name` is that of
/// the cell `org_name` where a name alone may mean one, else empty.
pub(super) fn org_of(id: &str, external_id: &str, name: &str) -> Option<OrgKey> {
    org_ref(id, external_id, name).map(OrgRef::into_key)
}

/// Returns what [`org_of`] returns, without a copy.
pub(super) fn org_ref<'a>(id: &'a str, external_id: &'a str, name: &'a str) -> Option<OrgRef<'a>> {
    match (trimmed(id), trimmed(external_id)) {
        ("", "") => Some(trimmed(name))
            .filter(|name| !name.is_empty())
            .map(OrgRef::Name),
        (id, "") => Some(OrgRef::Id(id)),
        ("", external_id) => Some(OrgRef::External(external_id)),
        (_, _) => None,
    }
}

/// Returns the [`email_norm`] of a trimmed email if that is another text: seldom.
pub(super) fn other_norm(email: &str) -> Option<CompactString> {
    (!is_lower_ascii(email)).then(|| email_norm(email).into())
}

/// A row that passed every local rule. Its texts are short, and there are millions of them: most
/// have no memory of their own.
#[derive(Clone, Debug)]
pub struct SourceRow {
    /// Its number.
    pub number: RowNumber,
    /// The email as written, trimmed.
    pub email: CompactString,
    /// What [`SourceRow::email_norm`] returns, absent when that is the email as written.
    pub other_norm: Option<CompactString>,
    /// `first_name`, absent when blank.
    pub first_name: Option<CompactString>,
    /// `last_name`, absent when blank.
    pub last_name: Option<CompactString>,
    /// `email_verified`, absent when blank.
    pub email_verified: Option<bool>,
    /// `external_id`, absent when blank.
    pub external_id: Option<CompactString>,
    /// `locale` as a BCP 47 tag, absent when blank.
    pub locale: Option<CompactString>,
    /// `password`, or `password_hash` with its type.
    pub credential: Option<Credential>,
    /// `totp_secret` with its `totp_issuer`.
    pub totp: Option<Box<Totp>>,
    /// `metadata` as string pairs in the order of the file; numbers and booleans become strings.
    pub metadata: Vec<(CompactString, CompactString)>,
    /// The organization it names, if any.
    pub org: Option<OrgKey>,
    /// `org_name`, absent when blank.
    pub org_name: Option<CompactString>,
    /// `role_slugs` in the order of the file; empty means the target's default role.
    pub role_slugs: Vec<CompactString>,
}

impl SourceRow {
    /// Returns the email by which rows and users are compared: trimmed and lower-cased.
    pub fn email_norm(&self) -> &str {
        self.other_norm.as_ref().unwrap_or(&self.email)
    }
}

#[cfg(test)]
impl SourceRow {
    /// A row that holds nothing but an email.
    pub fn bare(email: &str) -> Self {
        Self {
            number: RowNumber(1),
            email: email.into(),
            other_norm: other_norm(email),
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
        kind: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lower_ascii_text_is_its_own_norm(text in "[a-z@.`{\\[Z0-9]{0,20}|[@A-Z\\[é\u{7f}a]{0,20}|.{0,20}") {
            let is_lower = text.bytes().all(|it| it.is_ascii() && !it.is_ascii_uppercase());
            prop_assert_eq!(is_lower_ascii(&text), is_lower);
            if is_lower {
                prop_assert_eq!(email_norm(&text), text.trim());
            }
            let row = SourceRow::bare(text.trim());
            prop_assert_eq!(row.email_norm(), email_norm(&text));
            prop_assert_eq!(row.other_norm.is_none(), is_lower_ascii(&row.email));
        }
    }
}
