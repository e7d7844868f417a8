//! Members of JSON records that a profile leaves behind: said, as the columns of a CSV are.

use super::json::Record;
use crate::model::escape::shown;
use std::collections::BTreeSet;

/// Most names that are kept: an object with ids for names must not fill the memory.
const NAMES_MAX: usize = 200;

/// Longest name that is kept, in characters.
const NAME_CHARS_MAX: usize = 60;

/// The names at the top of records, but those that the profile looks at or into.
#[derive(Debug, Default)]
pub(super) struct Left {
    looked_at: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl Left {
    /// Starts with the columns that a profile looks at.
    pub(super) fn begin(names: &[String]) -> Self {
        let top = |name: &String| name.split(['.', '[']).next().map(str::to_owned);
        let whole = names.iter().cloned();
        Self {
            looked_at: names.iter().filter_map(top).chain(whole).collect(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes note of one record.
    pub(super) fn note(&mut self, record: &Record) {
        for (name, value) in record {
            let is_new = !self.seen.contains(name) && !self.looked_at.contains(name);
            if is_new && !value.is_null() && self.seen.len() < NAMES_MAX {
                self.seen.insert(name.clone());
            }
        }
    }

    /// Returns the names, as they may be shown.
    pub(super) fn names(&self) -> Vec<String> {
        let short = |name: &String| shown(&name.chars().take(NAME_CHARS_MAX).collect::<String>());
        self.seen.iter().map(short).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_looks_into_is_left() {
        let names = ["email", "identities[0].connection", "name.first"].map(str::to_owned);
        let mut left = Left::begin(&names);
        let record = json!({"email": "a", "identities": [], "name": {}, "app_metadata": {"a": 1}, "x": null});
        left.note(record.as_object().unwrap());
        let record = json!({"user_metadata": {}, "\u{1b}[2J": 1});
        left.note(record.as_object().unwrap());
        let names = left.names();
        assert_eq!(names.len(), 3);
        assert_eq!(&names[1..], ["app_metadata", "user_metadata"]);
        assert!(!names[0].contains('\u{1b}'), "{names:?}");
        for n in 0..1000 {
            left.note(json!({ format!("id{n}"): 1 }).as_object().unwrap());
        }
        assert_eq!(left.names().len(), NAMES_MAX);
    }
}
