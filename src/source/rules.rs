//! The rules of a row: pure. What breaks one fails the row before any request is sent.
//!
//! A message names row, line and column, what is wrong and what is allowed. It never holds an
//! email, a name, a password, a hash or metadata: reports and ledgers keep it.

pub mod catalog;
mod email;
pub(in crate::source) mod harmless;
mod locale;
mod metadata;
mod password;
mod problem;
mod totp;

use super::row::{org_of, other_norm, trimmed};
use super::{Columns, Credential, CsvRecord, SourceRow, Totp};
use crate::model::{OrgMode, RowError, RowNumber};
use catalog::{
    EMAIL_INVALID, EMAIL_MISSING, EMAIL_VERIFIED_INVALID, EXTERNAL_ID_INVALID, EXTERNAL_ID_LONG,
    EXTERNAL_ID_NOT_ASCII, EXTERNAL_ID_TOO_LONG, FIELD_TOO_LONG, METADATA_MANY_PAIRS,
    ORG_ID_AND_EXTERNAL_ID, ORG_NAME_ALONE, ORGANIZATION_ID_INVALID, ORGANIZATION_ID_TOO_LONG,
    ORGANIZATION_REQUIRED, QUOTE_STRAY, ROLE_SLUGS_INVALID, ROLES_WITHOUT_ORGANIZATION,
};
use compact_str::CompactString;
use problem::Broken;
use std::borrow::Cow;
use std::sync::Arc;

pub use problem::{Problem, Problems};

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

/// Longest `external_id` in characters: the higher of the target's two published limits, that of
/// its machine-readable specification.
const EXTERNAL_ID_CHARS_MAX: usize = 128;

/// Longest `external_id` in characters according to the target's documentation.
const EXTERNAL_ID_CHARS_DOCUMENTED: usize = 64;

/// Longest role slug in characters.
const ROLE_SLUG_CHARS_MAX: usize = 64;

/// What the rules depend on besides the row.
#[derive(Clone, Debug)]
pub struct RowRules {
    /// Where organizations come from.
    pub org_mode: OrgMode,
    /// Whether a row without an organization fails.
    pub require_membership: bool,
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
        trimmed(self.raw(column))
    }

    /// Returns a cell trimmed, `None` when it is blank.
    fn some(&self, column: Option<usize>) -> Option<&'a str> {
        Some(self.get(column)).filter(|cell| !cell.is_empty())
    }
}

/// A row as its cells say it, borrowed from the record. What a rule refused is left out.
#[derive(Debug, Default)]
pub struct ReadRow<'a> {
    email: &'a str,
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    email_verified: Option<bool>,
    external_id: Option<&'a str>,
    locale: Option<Cow<'a, str>>,
    credential: Option<Credential>,
    totp: Option<Box<Totp>>,
    metadata: Vec<(CompactString, CompactString)>,
    org_id: &'a str,
    org_external_id: &'a str,
    org_name: Option<&'a str>,
    role_slugs: Vec<Cow<'a, str>>,
}

impl ReadRow<'_> {
    /// Makes the row that is sent, at the place where it stays.
    #[inline]
    fn into_source(self, number: RowNumber, rules: &RowRules) -> Arc<SourceRow> {
        let (org, org_name) = match &rules.org_mode {
            OrgMode::Single { key, name } => (Some(key.clone()), name.as_deref()),
            OrgMode::Columns => (org_of(self.org_id, self.org_external_id, ""), self.org_name),
            OrgMode::ColumnsByName => (
                org_of(
                    self.org_id,
                    self.org_external_id,
                    self.org_name.unwrap_or_default(),
                ),
                self.org_name,
            ),
        };
        let role_slugs = self.role_slugs.into_iter();
        Arc::new(SourceRow {
            number,
            email: self.email.into(),
            other_norm: other_norm(self.email),
            first_name: self.first_name.map(CompactString::from),
            last_name: self.last_name.map(CompactString::from),
            email_verified: self.email_verified,
            external_id: self.external_id.map(CompactString::from),
            locale: self.locale.map(CompactString::from),
            credential: self.credential,
            totp: self.totp,
            metadata: self.metadata,
            org,
            org_name: org_name.map(CompactString::from),
            role_slugs: role_slugs.map(CompactString::from).collect(),
        })
    }
}

/// Reads one record; the error is the first rule it breaks, and names row, line, column, what was
/// found and what is allowed.
#[inline]
pub fn parse_row(
    record: &CsvRecord,
    columns: &Columns,
    rules: &RowRules,
) -> Result<Arc<SourceRow>, RowError> {
    parse_row_telling(record, columns, rules, &mut Problems::default())
}

/// Does what [`parse_row`] does, and adds everything that it found, warnings too, to `problems`.
#[inline]
pub fn parse_row_telling(
    record: &CsvRecord,
    columns: &Columns,
    rules: &RowRules,
    problems: &mut Problems,
) -> Result<Arc<SourceRow>, RowError> {
    let row = judge(record, columns, rules, problems);
    match problems.error() {
        Some(problem) => Err(problem.row_error(record)),
        None => Ok(row.into_source(record.number, rules)),
    }
}

/// Holds one record against every rule of a row. What it breaks is added to `problems`.
pub fn judge<'a>(
    record: &'a CsvRecord,
    columns: &'a Columns,
    rules: &RowRules,
    problems: &mut Problems,
) -> ReadRow<'a> {
    let cells = Cells { record, columns };
    if !lengths_fit(&cells, problems) {
        return ReadRow::default();
    }
    judge_quotes(record, columns, problems);
    let mut row = ReadRow {
        email: judge_email(&cells, problems),
        first_name: cells.some(columns.first_name),
        last_name: cells.some(columns.last_name),
        ..ReadRow::default()
    };
    let verified = flag(cells.get(columns.email_verified));
    row.email_verified = problems.value("email_verified", verified).flatten();
    row.external_id = cells.some(columns.external_id);
    if let Some(id) = row.external_id {
        judge_external_id(id, problems);
    }
    let locale = locale::read(cells.get(columns.locale));
    row.locale = problems.value("locale", locale).flatten();
    let metadata = metadata::read(cells.get(columns.metadata));
    row.metadata = problems.value("metadata", metadata).unwrap_or_default();
    judge_pairs(row.metadata.len(), problems);
    row.credential = password::judge(
        &password::PasswordCells {
            password: cells.raw(columns.password),
            hash: cells.get(columns.password_hash),
            kind: cells.get(columns.password_hash_type),
        },
        problems,
    );
    row.totp = totp::judge(
        cells.get(columns.totp_secret),
        cells.get(columns.totp_issuer),
        problems,
    );
    let slugs = role_slugs(cells.get(columns.role_slugs));
    judge_organization(&cells, rules, &mut row, problems);
    row.role_slugs = problems.value("role_slugs", slugs).unwrap_or_default();
    judge_without_organization(rules, &row, problems);
    row
}

fn judge_email<'a>(cells: &Cells<'a>, problems: &mut Problems) -> &'a str {
    let email = cells.get(Some(cells.columns.email));
    let fields = &cells.record.fields;
    // What a spreadsheet leaves of a row that somebody cleared.
    let is_cleared = || fields.count() > 1 && fields.iter().all(|cell| cell.trim().is_empty());
    if email.is_empty() && is_cleared() {
        let words = "every cell of the row is blank; remove the row, or fill it";
        problems.add("email", Broken::new(EMAIL_MISSING, words));
        return email;
    }
    email::judge(email, problems)
}

/// Text after a closing quote belongs to the cell for whoever reads CSV, and is hardly meant: an
/// address is not sent like that.
fn judge_quotes(record: &CsvRecord, columns: &Columns, problems: &mut Problems) {
    let Some(cell) = record.stray else {
        return;
    };
    let words = "text stands after the closing quote and is read as part of the cell; write every \
                 quote inside a quoted cell twice";
    let (rule, column) = if columns.email_is_from(cell) {
        (EMAIL_INVALID, Cow::Borrowed("email"))
    } else {
        let known = columns.name_of_cell(cell).map(Cow::Borrowed);
        let number = || Cow::Owned(format!("number {}", cell + 1));
        (QUOTE_STRAY, known.unwrap_or_else(number))
    };
    problems.add(column, Broken::new(rule, words));
}

/// A giant cell is the only thing that is told of its row: nothing else looks at it.
fn lengths_fit(cells: &Cells<'_>, problems: &mut Problems) -> bool {
    if cells.record.fields.bytes_max() <= FIELD_BYTES_MAX {
        return true;
    }
    let too_long = |cell: &str| cell.len() > FIELD_BYTES_MAX;
    let Some(column) = cells.record.fields.iter().position(too_long) else {
        return true;
    };
    let words = format!("the cell is longer than {FIELD_BYTES_MAX} bytes");
    let column = format!("number {}", column + 1);
    problems.add(column, Broken::new(FIELD_TOO_LONG, words));
    false
}

/// Returns what a cell says of yes and no, if it is one of the words that are allowed.
pub(super) fn verdict_of(cell: &str) -> Option<bool> {
    const YES: [&str; 4] = ["true", "1", "yes", "y"];
    const NO: [&str; 4] = ["false", "0", "no", "n"];
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| cell.eq_ignore_ascii_case(word));
    if is_one_of(YES) {
        Some(true)
    } else if is_one_of(NO) {
        Some(false)
    } else {
        None
    }
}

fn flag(cell: &str) -> Result<Option<bool>, Broken> {
    let verdict = verdict_of(cell);
    if verdict.is_some() || cell.is_empty() {
        Ok(verdict)
    } else {
        let found = harmless::flag(cell);
        Err(Broken::new(
            EMAIL_VERIFIED_INVALID,
            format!("{found}; allowed are true, false, 1, 0, yes, no, y, n and blank"),
        ))
    }
}

fn judge_external_id(id: &str, problems: &mut Problems) {
    let length = id.len();
    let broken = if !id.is_ascii() {
        Broken::new(
            EXTERNAL_ID_NOT_ASCII,
            "a character is not ASCII; the target allows ASCII only",
        )
    } else if length > EXTERNAL_ID_CHARS_MAX {
        let words = format!(
            "{length} characters are too many; at most {EXTERNAL_ID_CHARS_MAX} are allowed"
        );
        Broken::new(EXTERNAL_ID_TOO_LONG, words)
    } else if let Some(words) = dots_fault(id) {
        Broken::new(EXTERNAL_ID_INVALID, words)
    } else if length > EXTERNAL_ID_CHARS_DOCUMENTED {
        let words = format!(
            "{length} characters; the target's documentation allows \
             {EXTERNAL_ID_CHARS_DOCUMENTED}, its specification {EXTERNAL_ID_CHARS_MAX}: its server decides"
        );
        Broken::new(EXTERNAL_ID_LONG, words)
    } else {
        return;
    };
    problems.add("external_id", broken);
}

/// Returns what is wrong with the id or external id of an organization, in words that follow its
/// name.
pub fn org_id_fault(id: &str) -> Option<String> {
    judge_org_id(id).map(|broken| broken.words)
}

fn judge_org_id(id: &str) -> Option<Broken> {
    // Longer ones exist nowhere, and would not fit into the frames between processes.
    if id.len() > EXTERNAL_ID_CHARS_MAX {
        let words = format!(
            "{} bytes are too many; at most {EXTERNAL_ID_CHARS_MAX} are allowed",
            id.len()
        );
        return Some(Broken::new(ORGANIZATION_ID_TOO_LONG, words));
    }
    if id.chars().any(char::is_control) {
        let words = "a control character (a line break, a tab) is no part of an id";
        return Some(Broken::new(ORGANIZATION_ID_INVALID, words));
    }
    if harmless::is_password_hash(id) {
        // Organizations' ids are kept in the ledger, and a hash must not be.
        let words = "it looks like a password hash; have the cells of the row slipped?";
        return Some(Broken::new(ORGANIZATION_ID_INVALID, words));
    }
    dots_fault(id).map(|words| Broken::new(ORGANIZATION_ID_INVALID, words))
}

/// Ids become parts of addresses, and there these two mean folders, however they are encoded: the
/// request would ask for something else.
fn dots_fault(id: &str) -> Option<String> {
    matches!(id, "." | "..")
        .then(|| format!("`{id}` alone cannot be asked for by the target's API; use another id"))
}

fn judge_pairs(pairs: usize, problems: &mut Problems) {
    if pairs > metadata::PAIRS_DOCUMENTED {
        let words = format!(
            "{pairs} pairs; the target's documentation allows {}, its specification {}: its \
             server decides",
            metadata::PAIRS_DOCUMENTED,
            metadata::PAIRS_MAX
        );
        problems.add("metadata", Broken::new(METADATA_MANY_PAIRS, words));
    }
}

/// Reads the organization of a row and the name it gives to it.
fn judge_organization<'a>(
    cells: &Cells<'a>,
    rules: &RowRules,
    row: &mut ReadRow<'a>,
    problems: &mut Problems,
) {
    if matches!(rules.org_mode, OrgMode::Single { .. }) {
        return;
    }
    let columns = cells.columns;
    row.org_id = cells.get(columns.org_id);
    row.org_external_id = cells.get(columns.org_external_id);
    row.org_name = cells.some(columns.org_name);
    let (id, external) = (row.org_id, row.org_external_id);
    if !id.is_empty() && !external.is_empty() {
        let words =
            "it stands next to an org_external_id; a row names its organization one way only";
        return problems.add("org_id", Broken::new(ORG_ID_AND_EXTERNAL_ID, words));
    }
    for (column, cell) in [("org_id", id), ("org_external_id", external)] {
        if let Some(broken) = judge_org_id(cell) {
            problems.add(column, broken);
        }
    }
    let by_name = rules.org_mode == OrgMode::ColumnsByName;
    let key_name = row.org_name.filter(|_| by_name).unwrap_or_default();
    // A name that is a key has to fit into the frames between processes, too.
    if key_name.len() > EXTERNAL_ID_CHARS_MAX {
        let words = format!(
            "{} bytes are too many for an organization that is known by its name; at most \
             {EXTERNAL_ID_CHARS_MAX} are allowed",
            key_name.len()
        );
        problems.add("org_name", Broken::new(ORGANIZATION_ID_TOO_LONG, words));
    }
    if id.is_empty() && external.is_empty() && row.org_name.is_some() && !by_name {
        let words = "a name alone finds no organization; fill org_external_id or org_id too, or say \
                     --orgs-by-name";
        problems.add("org_name", Broken::new(ORG_NAME_ALONE, words));
    }
}

fn judge_without_organization(rules: &RowRules, row: &ReadRow<'_>, problems: &mut Problems) {
    let single = matches!(rules.org_mode, OrgMode::Single { .. });
    let named = !row.org_id.is_empty() || !row.org_external_id.is_empty();
    // A name alone is told already, and says which organization is meant.
    if single || named || row.org_name.is_some() {
        return;
    }
    if rules.require_membership {
        let words = "no organization is named, and --require-membership wants one in every row";
        problems.add("org_external_id", Broken::new(ORGANIZATION_REQUIRED, words));
    } else if !row.role_slugs.is_empty() {
        let words = "roles need an organization; fill org_external_id or org_id too";
        problems.add("role_slugs", Broken::new(ROLES_WITHOUT_ORGANIZATION, words));
    }
}

/// Reads `a,b` or `["a","b"]`; a slug that comes twice counts once.
fn role_slugs(cell: &str) -> Result<Vec<Cow<'_, str>>, Broken> {
    let invalid = |words: String| Broken::new(ROLE_SLUGS_INVALID, words);
    if cell.is_empty() {
        return Ok(Vec::new());
    }
    let slugs: Vec<Cow<'_, str>> = if cell.starts_with('[') {
        let slugs: Result<Vec<String>, _> = serde_json::from_str(cell);
        let slugs = slugs.map_err(|error| {
            let at = error.column();
            invalid(format!(
                "not a JSON array of strings (at character {at}); write [\"admin\"] or admin,member"
            ))
        })?;
        slugs.into_iter().map(Cow::Owned).collect()
    } else {
        cell.split(',')
            .map(|slug| Cow::Borrowed(slug.trim()))
            .collect()
    };
    let mut out: Vec<Cow<'_, str>> = Vec::with_capacity(slugs.len().min(16));
    for (nth, slug) in slugs.into_iter().enumerate() {
        if !is_role_slug(&slug) {
            return Err(invalid(format!(
                "role {} {}; a role slug has 1 to {ROLE_SLUG_CHARS_MAX} of a-z, 0-9, - and _",
                nth + 1,
                slug_fault(&slug)
            ))
            .suggest(slug_like(&slug)));
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

/// Returns what is wrong with a role, without a piece of it: it may be a name.
fn slug_fault(slug: &str) -> &'static str {
    if slug.is_empty() {
        "is empty"
    } else if harmless::looks_like_hash(slug) {
        "looks like a hash"
    } else if slug.contains('@') {
        "looks like an email"
    } else if slug.len() > ROLE_SLUG_CHARS_MAX {
        "is too long"
    } else if slug.contains(char::is_whitespace) {
        "holds a space"
    } else if slug.contains(|c: char| c.is_ascii_uppercase()) {
        "holds a capital letter"
    } else {
        "holds a sign that slugs have not"
    }
}

/// Returns the slug that was probably meant: `Team Lead` is `team-lead`.
fn slug_like(text: &str) -> String {
    let text = text.trim().chars().take(ROLE_SLUG_CHARS_MAX);
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.map(|c| if kept(c) { c.to_ascii_lowercase() } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests;
