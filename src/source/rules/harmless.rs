//! What of a cell may be shown: in a slipped row a password stands in any column.
//!
//! # Owns
//! Telling cells that can only be what their column is for from those that may be somebody's
//! secret. Messages get as far as the ledger and the reports, so they quote closed lists only; the
//! screen of a check may show more.
//! # Never
//! Returns a piece of a cell it does not know.

use crate::source::Columns;

/// What people write for yes and no, and we do not read.
const FLAG_WORDS: &[&str] = &[
    "-",
    "?",
    "2",
    "active",
    "checked",
    "confirmed",
    "disabled",
    "enabled",
    "f",
    "falsch",
    "false",
    "faux",
    "ja",
    "maybe",
    "n/a",
    "na",
    "nein",
    "nil",
    "no",
    "non",
    "none",
    "null",
    "off",
    "ok",
    "on",
    "oui",
    "pending",
    "si",
    "t",
    "tru",
    "true",
    "unchecked",
    "unconfirmed",
    "unknown",
    "unverified",
    "verified",
    "vrai",
    "wahr",
    "x",
    "yes",
];

/// What names of hash types are made of.
const HASH_WORDS: &[&str] = &[
    "argon2",
    "argon2d",
    "argon2i",
    "argon2id",
    "awscognito",
    "b64",
    "base64",
    "bcrypt",
    "blake2b",
    "crypt",
    "django",
    "firebase",
    "hash",
    "hex",
    "hmac",
    "ldap",
    "md4",
    "md5",
    "modified",
    "none",
    "ntlm",
    "okta",
    "pbkdf2",
    "peppered",
    "phpass",
    "ripemd160",
    "salted",
    "scrypt",
    "sha",
    "sha1",
    "sha2",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "smd5",
    "ssha",
    "ssha1",
    "ssha256",
    "ssha512",
    "standard",
    "unsalted",
    "utf16",
    "werkzeug",
    "whirlpool",
];

/// Longest name of a hash type that is shown, in bytes.
const HASH_TYPE_BYTES_MAX: usize = 32;

/// Shortest run of letters and digits that is taken for a hash, in bytes.
const DIGEST_BYTES_MIN: usize = 32;

/// Ends of domains that are enough to take a text without an @ for an address without one.
const ENDINGS: &[&str] = &[
    "at", "ch", "co", "com", "de", "edu", "example", "eu", "fr", "gov", "io", "net", "nl", "org",
    "uk",
];

/// Returns what a message says of a cell that should be a yes or a no.
pub(super) fn flag(cell: &str) -> String {
    quoted(cell, is_flag(cell))
}

/// Returns what a message says of a cell that should be a hash type.
pub(super) fn hash_type(cell: &str) -> String {
    quoted(cell, is_hash_type(cell))
}

fn quoted(cell: &str, harmless: bool) -> String {
    if harmless {
        format!("found \"{cell}\"")
    } else {
        format!("found {}", described(cell))
    }
}

/// Returns what kind of text a cell is, without a piece of it.
pub(super) fn described(cell: &str) -> String {
    if looks_like_hash(cell) {
        return "something like a hash".to_owned();
    }
    if cell.contains('@') {
        return "something like an email".to_owned();
    }
    match cell.chars().count() {
        1 => "another character".to_owned(),
        n => format!("another text ({n} characters)"),
    }
}

fn is_flag(cell: &str) -> bool {
    FLAG_WORDS
        .iter()
        .any(|word| cell.eq_ignore_ascii_case(word))
}

fn is_hash_type(cell: &str) -> bool {
    let is_word = |part: &str| {
        HASH_WORDS
            .iter()
            .any(|word| part.eq_ignore_ascii_case(word))
    };
    cell.len() <= HASH_TYPE_BYTES_MAX && cell.split(['-', '_']).all(is_word)
}

/// Returns whether a text has the shape of a password hash or of a digest.
pub(in crate::source) fn looks_like_hash(cell: &str) -> bool {
    let cell = cell.trim();
    let in_digest = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_".contains(&byte);
    let is_digest = cell.len() >= DIGEST_BYTES_MIN && cell.bytes().all(in_digest);
    cell.starts_with('$') || cell.starts_with("{S") || is_digest
}

/// Returns whether a text has the shape of a password hash, and of nothing else.
pub(super) fn is_password_hash(cell: &str) -> bool {
    let is_marked = cell.starts_with('$') || cell.starts_with("{SSHA");
    is_marked && cell.len() >= DIGEST_BYTES_MIN
}

/// Returns whether the cell of a column may be shown to the person who has the file.
pub(in crate::source) fn may_show(column: &str, cell: &str, columns: &Columns) -> bool {
    let cell = cell.trim();
    match column {
        "password" | "password_hash" | "totp_secret" => false,
        "password_hash_type" => is_hash_type(cell),
        "email_verified" => is_flag(cell),
        _ if looks_like_hash(cell) => false,
        _ if columns.password.is_none()
            && columns.password_hash.is_none()
            && columns.totp_secret.is_none() =>
        {
            true
        }
        "email" => is_address(cell),
        // Whatever it is: were the row slipped, it could be a password.
        _ => false,
    }
}

/// Returns whether a text is an address, or one that only lacks its @.
fn is_address(cell: &str) -> bool {
    let (domain, has_at) = match cell.rsplit_once('@') {
        Some((_, domain)) => (domain, true),
        None => (cell, false),
    };
    let in_domain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let ending = domain.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_ending = if has_at {
        ending.len() > 1 && ending.bytes().all(|byte| byte.is_ascii_alphabetic())
    } else {
        ENDINGS.contains(&ending)
    };
    is_ending && domain.bytes().all(in_domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_closed_lists_are_quoted() {
        assert_eq!(flag("Maybe"), "found \"Maybe\"");
        assert_eq!(hash_type("pbkdf2_sha256"), "found \"pbkdf2_sha256\"");
        for secret in [
            "Hunter2-plain!",
            "hunter2",
            "Dan Secretname",
            "a@x.org",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
            "{SSHA}abc",
            "md5hunter",
            "sha1-hunter2",
        ] {
            for told in [flag(secret), hash_type(secret)] {
                assert!(!told.contains(secret) && !told.contains("unter"), "{told}");
            }
        }
        assert_eq!(flag("$2a$10$x"), "found something like a hash");
    }

    #[test]
    fn a_slipped_password_is_in_no_column_of_a_check() {
        let with = Columns {
            password: Some(3),
            ..Columns::default()
        };
        for column in [
            "email",
            "first_name",
            "external_id",
            "role_slugs",
            "org_name",
        ] {
            assert!(!may_show(column, "Hunter2-plain!", &with), "{column}");
            assert!(
                !may_show(column, "$2a$10$x", &Columns::default()),
                "{column}"
            );
        }
        assert!(!may_show("email", "p@ssw0rd", &with));
        assert!(may_show("email", "bob@@corp.example", &with));
        assert!(may_show("email", "row3.example.com", &with));
        assert!(may_show("role_slugs", "Team Lead", &Columns::default()));
        assert!(!may_show(
            "password_hash_type",
            "hunter2",
            &Columns::default()
        ));
    }
}
