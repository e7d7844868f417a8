//! Which column is which: header names to positions.

use super::error::{Place, SourceError};
use super::profile::{self, Plan, Profile, ProfileChoice, SKIP_COLUMN, plain};
use super::records::{Fields, unescape};
use crate::model::escape::shown;
use crate::model::{Delimiter, OrgMode, Rename};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The columns of the contract, in its order.
pub const KNOWN: &[&str] = &[
    "email",
    "first_name",
    "last_name",
    "email_verified",
    "external_id",
    "locale",
    "password",
    "password_hash",
    "password_hash_type",
    "totp_secret",
    "totp_issuer",
    "metadata",
    "org_id",
    "org_external_id",
    "org_name",
    "role_slugs",
];

/// Columns that contradict one organization for every row.
const ORGANIZATION: &[&str] = &["org_id", "org_external_id", "org_name"];

/// Names that other systems give to what a known column holds, without what does not count.
const OTHER_NAMES: &[(&str, &[&str])] = &[
    ("organization", &["org_name", "org_external_id"]),
    ("organisation", &["org_name", "org_external_id"]),
    ("organizationname", &["org_name"]),
    ("organizationid", &["org_external_id", "org_id"]),
    ("org", &["org_name", "org_external_id"]),
    ("company", &["org_name", "org_external_id"]),
    ("companyname", &["org_name"]),
    ("companyid", &["org_external_id"]),
    ("tenant", &["org_external_id", "org_name"]),
    ("tenantid", &["org_external_id"]),
    ("account", &["org_external_id", "org_name"]),
    ("accountid", &["org_external_id"]),
    ("accountname", &["org_name"]),
    ("customer", &["org_external_id", "org_name"]),
    ("workspace", &["org_external_id", "org_name"]),
    ("team", &["org_external_id", "org_name"]),
    ("organisationname", &["org_name"]),
    ("organisationid", &["org_external_id", "org_id"]),
    ("firma", &["org_name"]),
    ("unternehmen", &["org_name"]),
    ("mail", &["email"]),
    ("emailaddress", &["email"]),
    ("mailaddress", &["email"]),
    ("emailadresse", &["email"]),
    ("correo", &["email"]),
    ("courriel", &["email"]),
    ("vorname", &["first_name"]),
    ("prénom", &["first_name"]),
    ("prenom", &["first_name"]),
    ("voornaam", &["first_name"]),
    ("nachname", &["last_name"]),
    ("familienname", &["last_name"]),
    ("achternaam", &["last_name"]),
    ("apellido", &["last_name"]),
    ("apellidos", &["last_name"]),
    ("cognome", &["last_name"]),
    ("nomdefamille", &["last_name"]),
    ("lname", &["last_name"]),
    ("fname", &["first_name"]),
    ("passwort", &["password"]),
    ("givenname", &["first_name"]),
    ("forename", &["first_name"]),
    ("familyname", &["last_name"]),
    ("surname", &["last_name"]),
    ("role", &["role_slugs"]),
    ("roles", &["role_slugs"]),
    ("id", &["external_id"]),
    ("userid", &["external_id"]),
    ("uid", &["external_id"]),
    ("uuid", &["external_id"]),
    ("sub", &["external_id"]),
    ("verified", &["email_verified"]),
    ("isverified", &["email_verified"]),
    ("passwordalgorithm", &["password_hash_type"]),
    ("passwordhasher", &["password_hash_type"]),
    ("passworddigest", &["password_hash"]),
    ("attributes", &["metadata"]),
    ("properties", &["metadata"]),
];

/// A name this far from a known one, in edits, is still called near.
const NEAR_EDITS_MAX: usize = 3;

/// Longest header cell that is looked at for a near name, in bytes: the distance is quadratic.
const NEAR_NAME_BYTES_MAX: usize = 64;

/// Most names listed in one message.
const NAMES_SHOWN_MAX: usize = 20;

/// The position of every known column in a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// Fields of the header, and of every record (which may have more when they are blank, and
    /// fewer when the header's last names are blank).
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
    /// `locale`.
    #[serde(default)]
    pub locale: Option<usize>,
    /// `totp_secret`.
    #[serde(default)]
    pub totp_secret: Option<usize>,
    /// `totp_issuer`.
    #[serde(default)]
    pub totp_issuer: Option<usize>,
    /// Byte length of the header record with its line end, a byte order mark included.
    pub header_bytes: u64,
    /// What stands between two cells.
    #[serde(default)]
    pub delimiter: Delimiter,
    /// Why a row is left out; a blank cell leaves it in.
    #[serde(default)]
    pub skip: Option<usize>,
    /// How the cells come from those of the file; `None`: they are the file's own. With a plan
    /// every position is one of its columns, without one a field of the record.
    #[serde(default)]
    pub plan: Option<Arc<Plan>>,
}

impl Columns {
    /// Returns where a known column stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        match name {
            "email" => Some(self.email),
            // The positions are few and small: a copy keeps the names in one place.
            name => self.clone().slot(name).copied().flatten(),
        }
    }

    /// Returns whether the email comes from a cell of the file.
    pub fn email_is_from(&self, cell: usize) -> bool {
        match &self.plan {
            Some(plan) => plan.takes("email", cell),
            None => self.email == cell,
        }
    }

    /// Returns the known column that a cell of the file is; with a profile it has no such name.
    pub fn name_of_cell(&self, cell: usize) -> Option<&'static str> {
        let is_it = |name: &&&str| self.position(name) == Some(cell);
        let name = || KNOWN.iter().find(is_it).copied();
        self.plan.is_none().then(name).flatten()
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<usize>> {
        Some(match name {
            "first_name" => &mut self.first_name,
            "last_name" => &mut self.last_name,
            "email_verified" => &mut self.email_verified,
            "external_id" => &mut self.external_id,
            "password" => &mut self.password,
            "password_hash" => &mut self.password_hash,
            "password_hash_type" => &mut self.password_hash_type,
            "metadata" => &mut self.metadata,
            "org_id" => &mut self.org_id,
            "org_external_id" => &mut self.org_external_id,
            "org_name" => &mut self.org_name,
            "role_slugs" => &mut self.role_slugs,
            "locale" => &mut self.locale,
            "totp_secret" => &mut self.totp_secret,
            "totp_issuer" => &mut self.totp_issuer,
            SKIP_COLUMN => &mut self.skip,
            _ => return None,
        })
    }
}

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    /// Which column is which.
    pub(super) columns: Columns,
    /// Fields a record must have: up to the last column with a name.
    pub(super) named: usize,
    /// Sentences about columns that are ignored.
    pub(super) warnings: Vec<String>,
    /// What the file was read as; `None` without a profile.
    pub(super) read_as: Option<String>,
}

/// One header cell.
struct Cell {
    name: String,
    /// Which delimiters it holds is looked up here: the other forms are cleaned.
    raw: String,
    /// The name without what does not count, or that of the column it is mapped to.
    plain: String,
    /// It is what `--map` says.
    mapped: bool,
    /// Another column is mapped to its name: it is ignored.
    shadowed: bool,
    place: Place,
}

impl Cell {
    fn is(&self, known: &str) -> bool {
        !self.shadowed && self.plain == plain(known)
    }
}

/// Reads the header record `text`, which starts at `at`.
pub(super) fn parse(
    text: &str,
    fields: &Fields,
    at: &Place,
    org_mode: &OrgMode,
    renames: &[Rename],
    profile: &ProfileChoice,
) -> Result<Header, SourceError> {
    let mut cells = cells(text, fields, at);
    refuse_other_delimiter(&cells, fields.delimiter(), at)?;
    // An export is recognised by the names its writer gave, whatever --map says of them.
    let own = names_of(&cells);
    let written = |cell: &Cell| cell.name.clone();
    let written: Vec<String> = cells.iter().map(written).collect();
    let profile = chosen(profile, (&own, &written), renames, at)?;
    let shadowed = apply(renames, &mut cells, at)?;
    refuse_twice(&cells)?;
    refuse_organizations(&cells, org_mode)?;
    if let Some(profile) = profile {
        let mut header = mapped(&profile, &cells, &own, at, org_mode)?;
        header.columns.delimiter = fields.delimiter();
        header.warnings.extend(shadowed);
        return Ok(header);
    }
    let Some(email) = position(&cells, "email") else {
        return Err(no_email(&cells, at));
    };
    let mut columns = Columns {
        count: cells.len(),
        email,
        delimiter: fields.delimiter(),
        ..Columns::default()
    };
    for name in KNOWN.iter().chain([&SKIP_COLUMN]) {
        if let Some(slot) = columns.slot(name) {
            *slot = position(&cells, name);
        }
    }
    Ok(Header {
        columns,
        named: named_cells(&cells),
        warnings: shadowed
            .into_iter()
            .chain(unknown_warning(&cells))
            .collect(),
        read_as: None,
    })
}

/// Returns the names of a header record as they are shown.
pub(super) fn shown_names(text: &str, fields: &Fields) -> Vec<String> {
    fields
        .raw(text)
        .map(|raw| shown(unescape(raw).trim()))
        .collect()
}

/// Returns the names of the header a text begins with.
pub(super) fn names_of_head(head: &str, delimiter: Delimiter) -> Vec<String> {
    let head = head.trim_start_matches('\u{feff}');
    let blank = super::records::blank_lines_len(head.as_bytes(), delimiter);
    let head = head.get(blank..).unwrap_or_default();
    let mut fields = Fields::new(delimiter);
    fields.scan(head.as_bytes(), true);
    shown_names(head, &fields)
}

/// Returns how many cells a record must have: up to the last one with a name.
fn named_cells(cells: &[Cell]) -> usize {
    let named = cells.iter().rposition(|cell| !cell.plain.is_empty());
    named.map_or(0, |last| last + 1)
}

/// Returns the profile of a header with these names, plain and as written. A recognised one and `--map` may stand side by
/// side; where both say what becomes of a column, a person has to choose.
fn chosen(
    choice: &ProfileChoice,
    (names, written): (&[String], &[String]),
    renames: &[Rename],
    at: &Place,
) -> Result<Option<Arc<Profile>>, SourceError> {
    let found = match choice {
        ProfileChoice::Off => return Ok(None),
        ProfileChoice::Use(profile) => return Ok(Some(Arc::clone(profile))),
        ProfileChoice::Detect => profile::detected(written),
    };
    let Some(profile) = &found else {
        return Ok(None);
    };
    for rename in renames {
        let theirs = plain(&rename.theirs);
        let cell = names.iter().position(|name| *name == theirs);
        if cell.is_some_and(|cell| profile.claims(names, &rename.known, cell)) {
            return Err(SourceError::MapAndProfile {
                map: shown(&rename.to_string()).into(),
                profile: profile.name.as_str().into(),
                id: profile.id.as_str().into(),
                at: at.clone(),
            });
        }
    }
    Ok(found)
}

/// Returns the names that count: a column another one took the place of has none.
fn names_of(cells: &[Cell]) -> Vec<String> {
    let name = |cell: &Cell| {
        if cell.shadowed {
            String::new()
        } else {
            cell.plain.clone()
        }
    };
    cells.iter().map(name).collect()
}

/// Returns the columns of a header that a profile maps.
fn mapped(
    profile: &Profile,
    cells: &[Cell],
    own: &[String],
    at: &Place,
    org_mode: &OrgMode,
) -> Result<Header, SourceError> {
    let map = |(index, cell): (usize, &Cell)| {
        let name = known(&cell.plain).filter(|_| cell.mapped)?;
        Some((name, index))
    };
    let maps: Vec<(&str, usize)> = cells.iter().enumerate().filter_map(map).collect();
    let plan = profile
        .bind_mapped(&names_of(cells), own, &maps)
        .map_err(|unbound| SourceError::ProfileColumn {
            profile: profile.name.clone(),
            column: unbound.missing,
            wanted_by: unbound.wanted_by,
            at: at.clone(),
        })?;
    let named: Vec<&str> = plan
        .names()
        .filter(|name| ORGANIZATION.contains(name))
        .collect();
    if let (OrgMode::Single { .. }, false) = (org_mode, named.is_empty()) {
        return Err(SourceError::OrganizationColumns {
            names: named.into_iter().map(str::to_owned).collect(),
            at: at.clone(),
        });
    }
    let mut columns = Columns {
        count: cells.len(),
        ..Columns::default()
    };
    for (index, name) in plan.names().enumerate() {
        if name == "email" {
            columns.email = index;
        } else if let Some(slot) = columns.slot(name) {
            *slot = Some(index);
        }
    }
    let names: Vec<String> = cells.iter().map(|cell| cell.name.clone()).collect();
    let mut read_as = plan.told(&names, &[]);
    let by_map: Vec<&str> = maps.iter().map(|(known, _)| *known).collect();
    if !by_map.is_empty() {
        read_as = format!("{read_as}; by --map: {}", by_map.join(", "));
    }
    let warnings = profile.without_passwords(&plan).into_iter().collect();
    columns.plan = Some(Arc::new(plan));
    Ok(Header {
        columns,
        named: named_cells(cells),
        warnings,
        read_as: Some(read_as),
    })
}

/// Returns whether a header record names a column of emails.
pub(super) fn has_email(text: &str, delimiter: Delimiter, renames: &[Rename]) -> bool {
    let mut fields = Fields::new(delimiter);
    fields.scan(text.as_bytes(), true);
    let is_email = |value: &str| {
        let name = plain(value);
        let renamed = renames.iter().find(|rename| plain(&rename.theirs) == name);
        renamed.map_or(name == "email", |rename| rename.known == "email")
    };
    fields.raw(text).any(|raw| is_email(&unescape(raw)))
}

/// Returns the known column of that name, however it is written.
pub fn known(name: &str) -> Option<&'static str> {
    let name = plain(name);
    KNOWN.iter().copied().find(|known| plain(known) == name)
}

/// Gives columns the names that `--map` says; returns a sentence for each that loses its own.
fn apply(renames: &[Rename], cells: &mut [Cell], at: &Place) -> Result<Vec<String>, SourceError> {
    for rename in renames {
        let theirs = plain(&rename.theirs);
        let mut found = false;
        for cell in cells
            .iter_mut()
            .filter(|cell| !cell.mapped && cell.plain == theirs)
        {
            cell.plain = plain(&rename.known);
            cell.mapped = true;
            found = true;
        }
        if !found {
            let is_near = |cell: &&Cell| near(&cell.plain, &theirs);
            return Err(SourceError::MapColumnMissing {
                name: shown(&rename.theirs),
                nearest: cells.iter().find(is_near).map(|cell| cell.name.clone()),
                at: at.clone(),
            });
        }
    }
    let mut shadowed = Vec::new();
    for rename in renames {
        let known = plain(&rename.known);
        for cell in cells
            .iter_mut()
            .filter(|cell| !cell.mapped && cell.plain == known)
        {
            cell.shadowed = true;
            shadowed.push(format!(
                "ignoring the column {}: --map says that {} is {}",
                cell.name,
                shown(&rename.theirs),
                rename.known
            ));
        }
    }
    Ok(shadowed)
}

fn cells(text: &str, fields: &Fields, at: &Place) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(fields.len());
    for (index, raw) in fields.raw(text).enumerate() {
        let value = unescape(raw);
        let name = shown(value.trim());
        let start = fields.range(index).unwrap_or_default().start;
        let before = text.get(..start).unwrap_or_default();
        cells.push(Cell {
            plain: plain(&value),
            raw: value.clone().into_owned(),
            mapped: false,
            shadowed: false,
            place: Place {
                row: None,
                line: at.line + super::records::lines_in(before.as_bytes()),
                column: Some(name.clone()),
                byte: at.byte + start as u64,
            },
            name,
        });
    }
    cells
}

fn position(cells: &[Cell], known: &str) -> Option<usize> {
    cells.iter().position(|cell| cell.is(known))
}

fn refuse_other_delimiter(cells: &[Cell], given: Delimiter, at: &Place) -> Result<(), SourceError> {
    let [only] = cells else {
        return Ok(());
    };
    let is_in = |found: &Delimiter| only.raw.contains(char::from(found.byte()));
    match Delimiter::ALL.into_iter().find(is_in) {
        Some(found) if !only.is("email") => Err(SourceError::Delimiter {
            given,
            found,
            at: at.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn refuse_twice(cells: &[Cell]) -> Result<(), SourceError> {
    let mut seen = std::collections::BTreeMap::new();
    for (index, cell) in cells.iter().enumerate() {
        if cell.plain.is_empty() || cell.shadowed {
            continue;
        }
        if let Some(first) = seen.insert(&cell.plain, index) {
            let name = |index: usize| {
                cells
                    .get(index)
                    .map_or_else(String::new, |c| c.name.clone())
            };
            return Err(SourceError::ColumnTwice {
                first: (first + 1, name(first)),
                second: (index + 1, cell.name.clone()),
                at: cell.place.clone(),
            });
        }
    }
    Ok(())
}

fn no_email(cells: &[Cell], at: &Place) -> SourceError {
    let at = at.clone();
    // A person's cells must not be shown as if they were column names.
    if cells.iter().any(|cell| cell.name.contains('@')) {
        return SourceError::HeaderIsData { at };
    }
    let holds = |word: &str| {
        let is_one = |cell: &&Cell| cell.plain.contains(word) && !cell.plain.contains("verified");
        cells.iter().find(is_one)
    };
    let is_near = |cell: &&Cell| suggested(cell, &[]).contains(&"email");
    let named = holds("email").or_else(|| holds("mail"));
    let named = named.or_else(|| cells.iter().find(is_near));
    SourceError::EmailColumnMissing {
        nearest: named.map(|cell| cell.name.clone()),
        at,
    }
}

fn refuse_organizations(cells: &[Cell], org_mode: &OrgMode) -> Result<(), SourceError> {
    let (names, at) = those_of(cells, ORGANIZATION);
    match (org_mode, at) {
        (OrgMode::Single { .. }, Some(at)) => Err(SourceError::OrganizationColumns { names, at }),
        (OrgMode::Single { .. } | OrgMode::Columns | OrgMode::ColumnsByName, _) => Ok(()),
    }
}

fn those_of(cells: &[Cell], known: &[&str]) -> (Vec<String>, Option<Place>) {
    let is_one = |cell: &&Cell| known.iter().any(|name| cell.is(name));
    let found: Vec<&Cell> = cells.iter().filter(is_one).collect();
    let names = found.iter().map(|cell| cell.name.clone()).collect();
    (names, found.first().map(|cell| cell.place.clone()))
}

fn unknown_warning(cells: &[Cell]) -> Option<String> {
    let names = KNOWN.iter().chain([&SKIP_COLUMN]);
    let is_known = |cell: &Cell| names.clone().any(|name| cell.is(name));
    let unknown: Vec<&Cell> = cells
        .iter()
        .filter(|cell| !cell.plain.is_empty() && !cell.shadowed && !is_known(cell))
        .collect();
    let mut listed: Vec<String> = unknown
        .iter()
        .take(NAMES_SHOWN_MAX)
        .map(|cell| named(cell, cells))
        .collect();
    if unknown.len() > NAMES_SHOWN_MAX {
        listed.push(format!("and {} more", unknown.len() - NAMES_SHOWN_MAX));
    }
    let example = unknown.iter().find_map(|cell| {
        let known = *suggested(cell, cells).first()?;
        Some(format!("; to carry one, say --map '{}={known}'", cell.name))
    });
    let (listed, example) = (listed.join(", "), example.unwrap_or_default());
    match unknown.len() {
        0 => None,
        1 => Some(format!("ignoring the unknown column {listed}{example}")),
        n => Some(format!("ignoring {n} unknown columns: {listed}{example}")),
    }
}

fn named(cell: &Cell, cells: &[Cell]) -> String {
    match suggested(cell, cells).as_slice() {
        [] => cell.name.clone(),
        known => format!("{} (did you mean {}?)", cell.name, known.join(" or ")),
    }
}

/// Returns the known columns that a name may stand for, the likeliest first; those that the header
/// has anyway are not meant.
fn suggested(cell: &Cell, cells: &[Cell]) -> Vec<&'static str> {
    let is_free = |known: &&'static str| !cells.iter().any(|other| other.is(known));
    let other = OTHER_NAMES.iter().find(|(name, _)| *name == cell.plain);
    if let Some((_, known)) = other {
        return known.iter().copied().filter(is_free).collect();
    }
    let known = KNOWN
        .iter()
        .copied()
        .filter(is_free)
        .filter(|known| near(&cell.plain, &plain(known)));
    known
        .min_by_key(|known| edits(&cell.plain, &plain(known)))
        .into_iter()
        .collect()
}

/// Returns whether two names are few edits apart for their length. More than one edit, and the
/// first letter is another: then it is another word.
fn near(name: &str, known: &str) -> bool {
    if name.len() > NEAR_NAME_BYTES_MAX {
        return false;
    }
    let allowed = name
        .chars()
        .count()
        .min(known.len())
        .div_ceil(3)
        .min(NEAR_EDITS_MAX);
    let edits = edits(name, known);
    edits <= allowed && (edits <= 1 || name.chars().next() == known.chars().next())
}

/// Returns the Levenshtein distance of two short names.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(ca != *cb))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OrgKey;

    fn read_in(mode: &OrgMode, text: &str) -> Result<Header, SourceError> {
        let mut fields = Fields::default();
        fields.scan(text.as_bytes(), true);
        let at = Place {
            line: 1,
            ..Place::default()
        };
        parse(text, &fields, &at, mode, &[], &ProfileChoice::Off)
    }

    fn read(text: &str) -> Result<Header, SourceError> {
        read_in(&OrgMode::Columns, text)
    }

    #[test]
    fn case_spaces_and_dashes_do_not_count() {
        let header = read("\" E-Mail \",FirstName,LAST NAME,org-external_id,Role Slugs\n").unwrap();
        assert_eq!(header.columns.email, 0);
        assert_eq!(header.columns.first_name, Some(1));
        assert_eq!(header.columns.last_name, Some(2));
        assert_eq!(header.columns.org_external_id, Some(3));
        assert_eq!(header.columns.role_slugs, Some(4));
        assert_eq!(header.columns.count, 5);
        assert!(header.warnings.is_empty());
    }

    fn on_top(
        text: &str,
        choice: &ProfileChoice,
        map: (&str, &str),
    ) -> Result<Header, SourceError> {
        let mut fields = Fields::default();
        fields.scan(text.as_bytes(), true);
        let rename = Rename {
            theirs: map.0.to_owned(),
            known: map.1.to_owned(),
        };
        parse(
            text,
            &fields,
            &Place::default(),
            &OrgMode::Columns,
            &[rename],
            choice,
        )
    }

    #[test]
    fn a_map_stands_on_top_of_a_profile_and_never_switches_it_off() {
        let text = "user_id,email,nickname,given_name,name,blocked,Company\n";
        let detect = ProfileChoice::Detect;
        let header = on_top(text, &detect, ("company", "org_external_id")).unwrap();
        let said = header.read_as.unwrap();
        assert!(said.contains("an Auth0 export"), "{said}");
        assert!(said.contains("org_external_id from Company"), "{said}");
        assert!(said.ends_with("by --map: org_external_id"), "{said}");
        assert!(header.columns.skip.is_some() && header.columns.org_external_id.is_some());
        // Both say what becomes of a column: a person chooses.
        for map in [
            ("name", "first_name"),
            ("nickname", "first_name"),
            ("blocked", "metadata"),
        ] {
            let error = on_top(text, &detect, map).unwrap_err();
            assert_eq!(error.code(), "map_and_profile", "{map:?}");
            let hint = error.hint().unwrap();
            assert!(
                hint.contains("--profile auth0") && hint.contains("--profile none"),
                "{hint}"
            );
        }
        // A profile somebody named gives way to the map, and keeps what it leaves out.
        let auth0 = ProfileChoice::Use(profile::named("auth0").unwrap());
        let header = on_top(text, &auth0, ("blocked", "metadata")).unwrap();
        assert!(header.columns.skip.is_some() && header.columns.metadata.is_some());
        let header = on_top(text, &auth0, ("name", "first_name")).unwrap();
        let said = header.read_as.unwrap();
        assert!(said.contains("first_name from name"), "{said}");
        assert!(
            said.contains("not carried: nickname, given_name,"),
            "{said}"
        );
        let header = on_top(text, &ProfileChoice::Off, ("name", "first_name")).unwrap();
        assert!(header.read_as.is_none());
    }

    #[test]
    fn every_known_column_finds_its_place() {
        let header = read(&KNOWN.join(",")).unwrap();
        let mut columns = header.columns;
        assert_eq!(columns.email, 0);
        for (index, name) in KNOWN.iter().enumerate().skip(1) {
            assert_eq!(columns.slot(name).copied(), Some(Some(index)), "{name}");
        }
    }

    #[test]
    fn unknown_columns_are_named_once_with_the_nearest_known_name() {
        let header = read("email,fist_name,shoe size,org_externalid2,,\n").unwrap();
        assert_eq!(header.named, 4);
        assert_eq!(
            header.warnings,
            vec![
                "ignoring 3 unknown columns: fist_name (did you mean first_name?), shoe size, \
                 org_externalid2 (did you mean org_external_id?); to carry one, say --map \
                 'fist_name=first_name'"
            ]
        );
    }

    #[test]
    fn only_what_is_really_near_or_well_known_is_suggested() {
        for (theirs, known) in [
            ("Vorname", "first_name"),
            ("Nachname", "last_name"),
            ("Given Name", "first_name"),
            ("Surname", "last_name"),
            ("family-name", "last_name"),
            ("Company", "org_name"),
            ("Organisation", "org_name"),
            ("firstnme", "first_name"),
            ("metdata", "metadata"),
            ("role_slug", "role_slugs"),
        ] {
            let header = read(&format!("email,{theirs}\n")).unwrap();
            let said = &header.warnings[0];
            assert!(
                said.contains(&format!("--map '{theirs}={known}'")),
                "{said}"
            );
        }
        for theirs in [
            "nickname", "username", "Ort", "Straße", "phone", "title", "orange",
        ] {
            let header = read(&format!("email,{theirs}\n")).unwrap();
            let said = &header.warnings[0];
            assert!(!said.contains("did you mean"), "{said}");
        }
    }

    #[test]
    fn a_header_without_email_names_the_nearest() {
        let error = read("name,Email Address\n").unwrap_err();
        assert_eq!(error.code(), "email_column_missing");
        assert!(error.hint().unwrap().contains("Email Address"));
        let error = read("name,emial\n").unwrap_err();
        assert!(error.hint().unwrap().contains("emial"));
        let error = read("email_verified,mail\n").unwrap_err();
        assert!(
            error.hint().unwrap().contains("--map 'mail=email'"),
            "{error:?}"
        );
    }

    #[test]
    fn a_person_in_the_first_line_is_not_shown() {
        let error = read("bob@example.com,Bob\n").unwrap_err();
        assert_eq!(error.code(), "header_is_data");
        assert!(!format!("{error} {:?}", error.hint()).contains("bob@example.com"));
    }

    #[test]
    fn other_delimiters_are_named() {
        for (text, word) in [
            ("mail;a\n", "semicolons"),
            ("mail\ta\n", "tabs"),
            ("mail|a", "vertical bars"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), "delimiter_other");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    fn read_mapped(text: &str, maps: &[(&str, &str)]) -> Result<Header, SourceError> {
        let renames: Vec<Rename> = maps
            .iter()
            .map(|(theirs, known)| Rename {
                theirs: (*theirs).to_owned(),
                known: (*known).to_owned(),
            })
            .collect();
        let mut fields = Fields::default();
        fields.scan(text.as_bytes(), true);
        parse(
            text,
            &fields,
            &Place::default(),
            &OrgMode::Columns,
            &renames,
            &ProfileChoice::Off,
        )
    }

    #[test]
    fn a_mapped_column_is_what_it_is_mapped_to() {
        let maps = [("work-mail", "email"), ("Company", "org_name")];
        let header = read_mapped("Name,Work Mail,company\n", &maps).unwrap();
        assert_eq!(
            (header.columns.email, header.columns.org_name),
            (1, Some(2))
        );
        assert_eq!(header.warnings, vec!["ignoring the unknown column Name"]);
    }

    #[test]
    fn a_mapped_column_takes_the_name_from_its_owner_and_that_is_said() {
        let header = read_mapped("email,Work Mail\n", &[("Work Mail", "email")]).unwrap();
        assert_eq!(header.columns.email, 1);
        let said = "ignoring the column email: --map says that Work Mail is email";
        assert_eq!(header.warnings, vec![said]);
        let swapped = [("email", "external_id"), ("external_id", "email")];
        let header = read_mapped("email,external_id\n", &swapped).unwrap();
        assert_eq!(
            (header.columns.email, header.columns.external_id),
            (1, Some(0))
        );
        assert!(header.warnings.is_empty());
    }

    #[test]
    fn a_column_that_is_mapped_and_missing_is_refused_with_the_nearest() {
        let error = read_mapped("email,Compnay\n", &[("Company", "org_name")]).unwrap_err();
        assert_eq!(error.code(), "map_column_missing");
        assert!(error.hint().unwrap().contains("Compnay"), "{error:?}");
    }

    #[test]
    fn what_other_systems_call_an_organization_is_suggested() {
        let header = read("email,Organization,user_id\n").unwrap();
        assert_eq!(
            header.warnings,
            vec![
                "ignoring 2 unknown columns: Organization (did you mean org_name or \
                 org_external_id?), user_id (did you mean external_id?); to carry one, say --map \
                 'Organization=org_name'"
            ]
        );
        for (name, known) in OTHER_NAMES {
            assert_eq!(*name, plain(name));
            assert!(known.iter().all(|known| KNOWN.contains(known)), "{name}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_with_both_places() {
        let error = read("email,a,E_mail\n").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("columns 1 (email) and 3 (E_mail)"),
            "{error}"
        );
        assert_eq!(error.place().unwrap().byte, 8);
    }

    #[test]
    fn organization_columns_contradict_a_single_organization() {
        let mode = OrgMode::Single {
            key: OrgKey::External("acme".into()),
            name: None,
        };
        let error = read_in(&mode, "email,org_name\n").unwrap_err();
        assert_eq!(error.code(), "organization_columns");
        assert!(read_in(&mode, "email,role_slugs\n").is_ok());
    }

    #[test]
    fn edits_counts_insertions_deletions_and_changes() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("email", "email"), 0);
    }
}
