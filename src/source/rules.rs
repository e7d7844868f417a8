//! The rules of a row: pure. What breaks one fails the row before any request is sent.
//!
//! A message names row, line and column, what is wrong and what is allowed. It never holds an
//! email, a name, a password, a hash or metadata: reports and ledgers keep it.

mod email;
mod metadata;
mod password;

use super::row::org_of;
use super::{Columns, CsvRecord, SourceRow, email_norm};
use crate::model::escape::shown;
use crate::model::{OrgKey, OrgMode, RowError};

/// Every `password_hash_type` the target accepts.
pub const HASH_TYPES: &[&str] = &[
    "bcrypt",
    "firebase-scrypt",
    "ssha",
    "ssha256",
    "scrypt",
    "pbkdf2",
    "argon2",
];

/// Longest field in bytes; a longer one fails its row.
pub const FIELD_BYTES_MAX: usize = 1 << 20;

/// Longest `external_id` in characters: the higher of the target's two published limits.
const EXTERNAL_ID_CHARS_MAX: usize = 128;

/// Longest role slug in characters.
const ROLE_SLUG_CHARS_MAX: usize = 64;

/// Longest piece of a cell shown in a message, in characters.
const FOUND_CHARS_MAX: usize = 40;

/// What the rules depend on besides the row.
#[derive(Clone, Debug)]
pub struct RowRules {
    /// Where organizations come from.
    pub org_mode: OrgMode,
    /// Whether a row without an organization fails.
    pub require_membership: bool,
}

/// What a rule says when it is broken: a stable code, and the words after the place.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    code: &'static str,
    words: String,
}

impl Broken {
    fn new(code: &'static str, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
        }
    }
}

/// A record with the names of its columns.
struct Cells<'a> {
    record: &'a CsvRecord,
    columns: &'a Columns,
}

impl<'a> Cells<'a> {
    /// Returns a cell as written; empty when its column does not exist.
    fn raw(&self, column: Option<usize>) -> &'a str {
        let cell = column.and_then(|column| self.record.fields.get(column));
        cell.unwrap_or_default()
    }

    /// Returns a cell trimmed.
    fn get(&self, column: Option<usize>) -> &'a str {
        self.raw(column).trim()
    }

    /// Returns a cell trimmed, `None` when it is blank.
    fn some(&self, column: Option<usize>) -> Option<String> {
        Some(self.get(column))
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
    }

    /// Makes the error of a broken rule in `column`.
    fn error(&self, column: &str, broken: &Broken) -> RowError {
        let CsvRecord { number, line, .. } = self.record;
        let message = format!(
            "row {number}, line {line}, column {column}: {}",
            broken.words
        );
        RowError::local(broken.code, message)
    }
}

/// Reads one record; the error names row, line, column, what was found and what is allowed.
pub fn parse_row(
    record: &CsvRecord,
    columns: &Columns,
    rules: &RowRules,
) -> Result<SourceRow, RowError> {
    let cells = Cells { record, columns };
    check_lengths(&cells)?;
    let email = cells.get(Some(columns.email));
    email::check(email).map_err(|broken| cells.error("email", &broken))?;
    let verified = cells.get(columns.email_verified);
    let email_verified = flag(verified).map_err(|broken| cells.error("email_verified", &broken))?;
    let external_id = cells.some(columns.external_id);
    if let Some(id) = &external_id {
        check_external_id(id).map_err(|broken| cells.error("external_id", &broken))?;
    }
    let metadata = metadata::read(cells.get(columns.metadata))
        .map_err(|broken| cells.error("metadata", &broken))?;
    let credential = password::read(
        cells.raw(columns.password),
        cells.get(columns.password_hash),
        cells.get(columns.password_hash_type),
    )
    .map_err(|(column, broken)| cells.error(column, &broken))?;
    let (org, org_name) = organization(&cells, rules)?;
    let role_slugs = role_slugs(cells.get(columns.role_slugs))
        .map_err(|broken| cells.error("role_slugs", &broken))?;
    if org.is_none() {
        check_without_organization(&cells, rules, &role_slugs)?;
    }
    Ok(SourceRow {
        number: record.number,
        email: email.to_owned(),
        email_norm: email_norm(email),
        first_name: cells.some(columns.first_name),
        last_name: cells.some(columns.last_name),
        email_verified,
        external_id,
        credential,
        metadata,
        org,
        org_name,
        role_slugs,
    })
}

fn check_lengths(cells: &Cells<'_>) -> Result<(), RowError> {
    let too_long = |cell: &str| cell.len() > FIELD_BYTES_MAX;
    let Some(column) = cells.record.fields.iter().position(too_long) else {
        return Ok(());
    };
    let words = format!("the cell is longer than {FIELD_BYTES_MAX} bytes");
    let column = format!("number {}", column + 1);
    Err(cells.error(&column, &Broken::new("field_too_long", words)))
}

fn flag(cell: &str) -> Result<Option<bool>, Broken> {
    const YES: [&str; 4] = ["true", "1", "yes", "y"];
    const NO: [&str; 4] = ["false", "0", "no", "n"];
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| cell.eq_ignore_ascii_case(word));
    if cell.is_empty() {
        Ok(None)
    } else if is_one_of(YES) {
        Ok(Some(true))
    } else if is_one_of(NO) {
        Ok(Some(false))
    } else {
        let found = found(cell);
        Err(Broken::new(
            "email_verified_invalid",
            format!("found {found}; allowed are true, false, 1, 0, yes, no, y, n and blank"),
        ))
    }
}

fn check_external_id(id: &str) -> Result<(), Broken> {
    if !id.is_ascii() {
        return Err(Broken::new(
            "external_id_not_ascii",
            "a character is not ASCII; the target allows ASCII only",
        ));
    }
    if id.len() > EXTERNAL_ID_CHARS_MAX {
        let words = format!(
            "{} characters are too many; at most {EXTERNAL_ID_CHARS_MAX} are allowed",
            id.len()
        );
        return Err(Broken::new("external_id_too_long", words));
    }
    Ok(())
}

/// Returns the organization of a row and the name it gives to it.
fn organization(
    cells: &Cells<'_>,
    rules: &RowRules,
) -> Result<(Option<OrgKey>, Option<String>), RowError> {
    if let OrgMode::Single { key, name } = &rules.org_mode {
        return Ok((Some(key.clone()), name.clone()));
    }
    let columns = cells.columns;
    let (id, external) = (
        cells.get(columns.org_id),
        cells.get(columns.org_external_id),
    );
    let name = cells.some(columns.org_name);
    if !id.is_empty() && !external.is_empty() {
        let words = format!(
            "found {} next to org_external_id {}; a row names its organization one way only",
            found(id),
            found(external)
        );
        return Err(cells.error("org_id", &Broken::new("org_id_and_external_id", words)));
    }
    // Longer ones exist nowhere, and would not fit into the frames between processes.
    let by_name = rules.org_mode == OrgMode::ColumnsByName;
    let key_name = name.as_deref().filter(|_| by_name).unwrap_or_default();
    for (column, cell) in [
        ("org_id", id),
        ("org_external_id", external),
        ("org_name", key_name),
    ] {
        if cell.len() > EXTERNAL_ID_CHARS_MAX {
            let words = format!(
                "{} bytes are too many; at most {EXTERNAL_ID_CHARS_MAX} are allowed",
                cell.len()
            );
            return Err(cells.error(column, &Broken::new("organization_id_too_long", words)));
        }
    }
    let org = org_of(id, external, key_name);
    if org.is_none() && name.is_some() {
        let words = "a name alone finds no organization; fill org_external_id or org_id too, or say \
                     --orgs-by-name";
        return Err(cells.error("org_name", &Broken::new("org_name_alone", words)));
    }
    Ok((org, name))
}

fn check_without_organization(
    cells: &Cells<'_>,
    rules: &RowRules,
    role_slugs: &[String],
) -> Result<(), RowError> {
    if rules.require_membership {
        let words = "no organization is named, and --require-membership wants one in every row";
        return Err(cells.error(
            "org_external_id",
            &Broken::new("organization_required", words),
        ));
    }
    if !role_slugs.is_empty() {
        let words = "roles need an organization; fill org_external_id or org_id too";
        return Err(cells.error(
            "role_slugs",
            &Broken::new("roles_without_organization", words),
        ));
    }
    Ok(())
}

/// Reads `a,b` or `["a","b"]`; a slug that comes twice counts once.
fn role_slugs(cell: &str) -> Result<Vec<String>, Broken> {
    let invalid = |words: String| Broken::new("role_slugs_invalid", words);
    if cell.is_empty() {
        return Ok(Vec::new());
    }
    let slugs: Vec<String> = if cell.starts_with('[') {
        serde_json::from_str(cell).map_err(|error| {
            let at = error.column();
            invalid(format!(
                "not a JSON array of strings (at character {at}); write [\"admin\"] or admin,member"
            ))
        })?
    } else {
        cell.split(',').map(|slug| slug.trim().to_owned()).collect()
    };
    let mut out: Vec<String> = Vec::with_capacity(slugs.len().min(16));
    for slug in slugs {
        if !is_role_slug(&slug) {
            return Err(invalid(format!(
                "found {}; a role slug has 1 to {ROLE_SLUG_CHARS_MAX} of a-z, 0-9, - and _",
                found(&slug)
            )));
        }
        if !out.contains(&slug) {
            out.push(slug);
        }
    }
    Ok(out)
}

fn is_role_slug(slug: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    (1..=ROLE_SLUG_CHARS_MAX).contains(&slug.len()) && slug.bytes().all(allowed)
}

/// Returns a cell for a message: shortened, escaped, and not at all when columns may have slipped
/// and it is an email.
fn found(cell: &str) -> String {
    if cell.contains('@') {
        return "something like an email".to_owned();
    }
    let short: String = cell.chars().take(FOUND_CHARS_MAX).collect();
    let dots = if short.len() < cell.len() { "…" } else { "" };
    format!("\"{}{dots}\"", shown(&short))
}

#[cfg(test)]
mod tests;
