//! Names of organizations that do not fit together.
//!
//! # Owns
//! Noticing that one organization gets two names, and that two names look like one. Keeps hashes of
//! what it saw, up to a bound, and tells every spelling once.

use super::super::keyed::{Keyed, Purpose, Quick};
use super::super::rules::Problems;
use super::super::rules::catalog::{ORG_NAME_CONFLICT, ORG_NAME_SIMILAR};
use super::super::{Columns, CsvRecord};
use crate::model::{OrgMode, RowNumber};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashSet};

/// Most spellings that are told apart; what a file with more of them says of the rest is not
/// looked at.
const SPELLINGS_MAX: usize = 300_000;

/// What was seen so far. 64 bits of hash stand for a text: a mistake would be one warning.
pub(super) struct OrgNames<'a> {
    columns: &'a Columns,
    mode: &'a OrgMode,
    quick: Quick,
    /// What one hash is made of.
    room: Vec<u8>,
    seen: HashSet<u64, FixedState>,
    /// The name, and the lowest row that gave it, by what must have one name.
    first: BTreeMap<u64, (u64, RowNumber)>,
}

impl<'a> OrgNames<'a> {
    pub(super) fn new(columns: &'a Columns, mode: &'a OrgMode) -> Self {
        Self {
            columns,
            mode,
            quick: Keyed(0).quick(),
            room: Vec::new(),
            seen: HashSet::default(),
            first: BTreeMap::new(),
        }
    }

    /// Compares the name that a row gives to an organization with those of lower rows.
    pub(super) fn judge(&mut self, record: &CsvRecord, problems: &mut Problems) {
        let cell = |column: Option<usize>| {
            let cell = column.and_then(|column| record.fields.get(column));
            cell.unwrap_or_default().trim()
        };
        let name = cell(self.columns.org_name);
        if name.is_empty() || !cell(self.columns.org_id).is_empty() {
            return;
        }
        let external = cell(self.columns.org_external_id);
        match (self.mode, external) {
            (OrgMode::Single { .. }, _) | (OrgMode::Columns, "") => {}
            (OrgMode::ColumnsByName, "") => {
                if self.is_new(&["", name])
                    && let Some(row) = self.other(&["", &folded(name)], name, record.number)
                {
                    let words = format!(
                        "row {row} writes the name otherwise, only in letter case or spaces: these \
                         are two organizations"
                    );
                    problems.tell(ORG_NAME_SIMILAR, "org_name", words);
                }
            }
            (OrgMode::Columns | OrgMode::ColumnsByName, external) => {
                if self.is_new(&[external, name])
                    && let Some(row) = self.other(&[external], name, record.number)
                {
                    let words = format!(
                        "row {row} gives the same org_external_id another name, and the name of \
                         the first row counts"
                    );
                    problems.tell(ORG_NAME_CONFLICT, "org_name", words);
                }
            }
        }
    }

    /// Notes a spelling; tells whether it was not known and there is room for it.
    fn is_new(&mut self, spelling: &[&str]) -> bool {
        let spelling = self.hash(spelling);
        !self.seen.contains(&spelling)
            && self.seen.len() < SPELLINGS_MAX
            && self.seen.insert(spelling)
    }

    /// Returns the lowest row that gave `key` another name.
    fn other(&mut self, key: &[&str], name: &str, row: RowNumber) -> Option<RowNumber> {
        let (key, name) = (self.hash(key), self.hash(&[name]));
        let (first, lowest) = *self.first.entry(key).or_insert((name, row));
        (first != name).then_some(lowest)
    }

    fn hash(&mut self, texts: &[&str]) -> u64 {
        self.room.clear();
        for text in texts {
            // The length in front keeps `a`, `bc` apart from `ab`, `c`.
            self.room.extend_from_slice(&text.len().to_le_bytes());
            self.room.extend_from_slice(text.as_bytes());
        }
        self.quick.hash(Purpose::Organization, &self.room)
    }
}

/// Returns a name without what people do not see: letter case, and how many spaces.
fn folded(name: &str) -> String {
    let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}
