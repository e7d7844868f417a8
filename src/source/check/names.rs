//! Names of organizations that do not fit together.
//!
//! # Owns
//! Noticing that one organization gets two names, and that two names look like one. Keeps hashes of
//! what it saw, up to a bound, and tells every spelling once. Telling which rows may matter for that,
//! for whoever sees them in another order.

use super::super::keyed::{Keyed, Purpose, Quick};
use super::super::row::trimmed;
use super::super::rules::Problems;
use super::super::rules::catalog::{ORG_NAME_CONFLICT, ORG_NAME_SIMILAR};
use super::super::{Columns, CsvRecord};
use crate::model::{OrgMode, RowNumber};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Most spellings that are told apart; what a file with more of them says of the rest is not
/// looked at.
const SPELLINGS_MAX: usize = 300_000;

/// The name that a row gives an organization, and what it is the name of.
#[derive(Clone, Copy)]
struct Spelling<'a> {
    /// Empty where the name stands alone and is what names the organization.
    external: &'a str,
    name: &'a str,
}

impl<'a> Spelling<'a> {
    /// Reads a record; `None` when it gives no name that could fit badly.
    fn of(record: &'a CsvRecord, columns: &Columns, mode: &OrgMode) -> Option<Self> {
        let cell = |column: Option<usize>| {
            let cell = column.and_then(|column| record.fields.get(column));
            trimmed(cell.unwrap_or_default())
        };
        let name = cell(columns.org_name);
        if name.is_empty() || !cell(columns.org_id).is_empty() {
            return None;
        }
        let external = cell(columns.org_external_id);
        match (mode, external) {
            (OrgMode::Single { .. }, _) | (OrgMode::Columns, "") => None,
            (OrgMode::Columns | OrgMode::ColumnsByName, external) => Some(Self { external, name }),
        }
    }
}

/// Hashes of texts: 64 bits stand for one, and a mistake would be one warning.
struct Hashes(Quick);

impl Default for Hashes {
    fn default() -> Self {
        Self(Keyed(0).quick())
    }
}

impl Hashes {
    fn of(&self, texts: &[&str]) -> u64 {
        self.0.hash_of(Purpose::Organization, texts)
    }

    fn of_spelling(&self, spelling: Spelling<'_>) -> u64 {
        self.of(&[spelling.external, spelling.name])
    }
}

/// What was seen so far.
pub(super) struct OrgNames<'a> {
    columns: &'a Columns,
    mode: &'a OrgMode,
    hashes: Hashes,
    seen: HashSet<u64, FixedState>,
    /// The name, and the lowest row that gave it, by what must have one name.
    first: BTreeMap<u64, (u64, RowNumber)>,
}

impl<'a> OrgNames<'a> {
    pub(super) fn new(columns: &'a Columns, mode: &'a OrgMode) -> Self {
        Self {
            columns,
            mode,
            hashes: Hashes::default(),
            seen: HashSet::default(),
            first: BTreeMap::new(),
        }
    }

    /// Compares the name that a row gives to an organization with those of lower rows.
    pub(super) fn judge(&mut self, record: &CsvRecord, problems: &mut Problems) {
        let Some(spelling) = Spelling::of(record, self.columns, self.mode) else {
            return;
        };
        if !self.is_new(spelling) {
            return;
        }
        let Spelling { external, name } = spelling;
        if external.is_empty() {
            if let Some(row) = self.other(&["", &folded(name)], name, record.number) {
                let words = format!(
                    "row {row} writes the name otherwise, only in letter case or spaces: these \
                     are two organizations"
                );
                problems.tell(ORG_NAME_SIMILAR, "org_name", words);
            }
        } else if let Some(row) = self.other(&[external], name, record.number) {
            let words = format!(
                "row {row} gives the same org_external_id another name, and the name of the first \
                 row counts"
            );
            problems.tell(ORG_NAME_CONFLICT, "org_name", words);
        }
    }

    /// Notes a spelling; tells whether it was not known and there is room for it.
    fn is_new(&mut self, spelling: Spelling<'_>) -> bool {
        let spelling = self.hashes.of_spelling(spelling);
        !self.seen.contains(&spelling)
            && self.seen.len() < SPELLINGS_MAX
            && self.seen.insert(spelling)
    }

    /// Returns the lowest row that gave `key` another name.
    fn other(&mut self, key: &[&str], name: &str, row: RowNumber) -> Option<RowNumber> {
        let (key, name) = (self.hashes.of(key), self.hashes.of(&[name]));
        let (first, lowest) = *self.first.entry(key).or_insert((name, row));
        (first != name).then_some(lowest)
    }
}

/// Tells which rows may give an organization a name that no lower row gave, whatever order they are
/// seen in.
#[derive(Default)]
pub struct NewNames {
    hashes: Hashes,
    /// The lowest row that gave each spelling so far.
    lowest: HashMap<u64, RowNumber, FixedState>,
}

impl fmt::Debug for NewNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewNames")
            .field("spellings", &self.lowest.len())
            .finish_non_exhaustive()
    }
}

impl NewNames {
    /// Returns whether no lower row that was seen gave the same name to the same organization.
    pub fn may_be_first(&mut self, record: &CsvRecord, columns: &Columns, mode: &OrgMode) -> bool {
        let Some(spelling) = Spelling::of(record, columns, mode) else {
            return false;
        };
        let spelling = self.hashes.of_spelling(spelling);
        match self.lowest.get_mut(&spelling) {
            Some(lowest) if *lowest < record.number => false,
            Some(lowest) => {
                *lowest = record.number;
                true
            }
            None => {
                if self.lowest.len() < SPELLINGS_MAX {
                    self.lowest.insert(spelling, record.number);
                }
                true
            }
        }
    }
}

/// Returns a name without what people do not see: letter case, and how many spaces.
fn folded(name: &str) -> String {
    let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}
