//! Members of JSON records: which of them a profile met, and which it leaves behind. People are told,
//! as they are of the columns of a CSV.

use super::json::Record;
use super::plain;
use crate::model::escape::shown;
use std::collections::{BTreeMap, BTreeSet};

/// Most names that are kept: an object with ids for names must not fill the memory.
const NAMES_MAX: usize = 200;

/// Longest name that is kept, in characters.
const NAME_CHARS_MAX: usize = 60;

/// The names at the top of records: those that the profile looks at or into, and others.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What the profile looks at: the name as it compares, and whether a record had it.
    looked_at: BTreeMap<String, bool>,
    seen: BTreeSet<String>,
}

impl Left {
    /// Starts with the columns that a profile looks at.
    pub(super) fn begin(names: &[String]) -> Self {
        // A name may also be that of a member as a whole, dots and all.
        let both = names.iter().flat_map(|name| [top_of(name), plain(name)]);
        Self {
            looked_at: both.map(|name| (name, false)).collect(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes note of one record.
    pub(super) fn note(&mut self, record: &Record) {
        let members = record.iter().filter(|(_, value)| !value.is_null());
        for (name, _) in members {
            if self.seen.contains(name) {
                continue;
            }
            if let Some(met) = self.looked_at.get_mut(&plain(name)) {
                *met = true;
            } else if self.seen.len() < NAMES_MAX {
                self.seen.insert(name.clone());
            }
        }
    }

    /// Returns whether a record had what the profile looks at by this name.
    pub(super) fn has_met(&self, name: &str) -> bool {
        let names = [top_of(name), plain(name)];
        let met = |name: &String| self.looked_at.get(name) == Some(&true);
        names.iter().any(met)
    }

    /// Returns the names, as they may be shown.
    pub(super) fn names(&self) -> Vec<String> {
        let short = |name: &String| shown(&name.chars().take(NAME_CHARS_MAX).collect::<String>());
        self.seen.iter().map(short).collect()
    }
}

/// Returns the member that a name reaches into, as names compare.
fn top_of(name: &str) -> String {
    plain(name.split(['.', '[']).next().unwrap_or(name))
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
        assert!(left.has_met("name.first") && left.has_met("Name.last"));
        let mut dotted = Left::begin(&["a.b".to_owned()]);
        dotted.note(json!({"a.b": 1}).as_object().unwrap());
        assert!(dotted.has_met("a.b") && dotted.names().is_empty());
        assert!(left.has_met("email") && !left.has_met("app_metadata"));
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
