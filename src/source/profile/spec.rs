//! The form of a profile: TOML text in, a checked [`Profile`] out.

use super::plain;
use crate::source::header::KNOWN;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Longest text of a profile in bytes: what a person writes by hand is far below.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Columns that no profile may fill with a text of its own: it would be a secret in a file, and
/// in the ledger.
const SECRET: [&str; 3] = ["password", "password_hash", "totp_secret"];

/// Why a profile is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("the profile is longer than {} KiB", TEXT_BYTES_MAX >> 10)]
    TooLong,
    /// Not TOML, or not in our form: the parser's words, with line and column.
    #[error("{0}")]
    Form(String),
    /// A column we do not carry.
    #[error("[columns] names {column}; allowed are {}", KNOWN.join(", "))]
    UnknownColumn {
        /// Its name.
        column: String,
    },
    /// No rule, or more than one, says where a column comes from.
    #[error(
        "column {column}: write exactly one of from, value, template, join, split, listed and object"
    )]
    Source {
        /// Which column.
        column: String,
    },
    /// A text of the profile itself in a column of secrets.
    #[error("column {column}: a secret must come from the file, not from the profile")]
    Secret {
        /// Which column.
        column: String,
    },
    /// A template that cannot be read.
    #[error("column {column}: {what}")]
    Template {
        /// Which column.
        column: String,
        /// What is wrong with it.
        what: String,
    },
    /// A condition without a test, or with several.
    #[error("the condition on {column}: write exactly one of is, not, blank and starts_with")]
    Condition {
        /// The column it looks at.
        column: String,
    },
    /// No rule for the email.
    #[error("[columns] must say where email comes from")]
    NoEmail,
}

/// A profile: pure data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What a job remembers it by: the word of `--profile`, or `toml:` and a hash of its text.
    pub id: String,
    /// What people call the export.
    pub name: String,
    /// The page that describes the export, for people.
    pub source: Option<String>,
    /// How a header is recognised: by one of these. A profile of a person's own is never tried.
    pub detect: Vec<Detect>,
    /// The member that holds the records, of an export that is one JSON object.
    pub records: Option<String>,
    /// Whether columns that a header lacks count as blank; otherwise they refuse the file.
    pub optional: bool,
    /// What the writer of the export puts before every cell of a CSV.
    pub cell_prefix: Option<String>,
    /// How hashes in a file of their own are joined.
    pub(super) join: Option<JoinTable>,
    /// Parameters of the hashes, which the export does not hold.
    pub(super) parameters: Vec<String>,
    /// The column of the hashes that need them.
    pub(super) hashed: Option<String>,
    /// The rule of every column it fills, in our order.
    pub(super) columns: Vec<(&'static str, RuleTable)>,
    /// Rows that are left out.
    pub(super) drop: Vec<DropTable>,
}

/// What a header must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// All of these columns.
    #[serde(default)]
    pub all: Vec<String>,
    /// At least one of these, unless there are none.
    #[serde(default)]
    pub any: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub none: Vec<String>,
    /// Names count as they are written, because others use the same words.
    #[serde(default)]
    pub as_written: bool,
}

impl Detect {
    /// Returns whether a header with these names is one.
    pub fn recognises(&self, names: &[String]) -> bool {
        let form = |name: &String| {
            if self.as_written {
                name.trim().to_owned()
            } else {
                plain(name)
            }
        };
        let names: Vec<String> = names.iter().map(form).collect();
        let has = |name: &String| names.contains(&form(name));
        self.all.iter().all(has)
            && (self.any.is_empty() || self.any.iter().any(has))
            && !self.none.iter().any(has)
    }
}

/// The text of a profile as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    detect: Vec<Detect>,
    #[serde(default)]
    records: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    cell_prefix: Option<String>,
    #[serde(default)]
    join: Option<JoinTable>,
    #[serde(default)]
    hashes: Option<HashTable>,
    columns: BTreeMap<String, Written>,
    #[serde(default)]
    drop: Vec<DropTable>,
}

/// A rule: a column's name, or a table.
#[derive(Debug)]
struct Written(RuleTable);

/// Where a column comes from and what happens to it on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleTable {
    /// The first of these columns that is not blank.
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) from: Vec<String>,
    /// A constant.
    pub(super) value: Option<String>,
    /// A text with columns in braces.
    pub(super) template: Option<String>,
    /// These columns, the blank ones left out, with `with` between them.
    #[serde(default)]
    pub(super) join: Vec<String>,
    /// What stands between joined columns; a space by default.
    pub(super) with: Option<String>,
    /// A column that holds a whole name; beside `from`, what counts when that is blank.
    pub(super) split: Option<String>,
    /// Which half of it.
    pub(super) part: Option<Part>,
    /// `true` when a column's value is in another column's list, else `false`.
    pub(super) listed: Option<Listed>,
    /// A JSON object of columns, the blank ones left out.
    pub(super) object: Option<BTreeMap<String, String>>,
    /// Removed from the beginning, when it is there.
    pub(super) strip: Option<String>,
    /// Whether letters become small.
    #[serde(default)]
    pub(super) lower: bool,
    /// Texts that are replaced by others as a whole, letter case ignored.
    #[serde(default)]
    pub(super) words: BTreeMap<String, String>,
    /// What a blank becomes.
    pub(super) default: Option<String>,
    /// Blank unless all of these hold.
    #[serde(default)]
    pub(super) when: Vec<Condition>,
}

/// Half of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// The first word, or what follows the comma of `Last, First`.
    First,
    /// What follows the first word, or what precedes the comma.
    Last,
}

/// A column, and the column that holds a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    /// The column whose value is looked for.
    pub(super) column: String,
    /// The column that holds the list.
    pub(super) among: String,
}

/// One condition on a column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    /// Which column.
    pub(super) column: String,
    /// It is one of these texts, letter case ignored.
    pub(super) is: Option<Vec<String>>,
    /// It is none of these texts.
    pub(super) not: Option<Vec<String>>,
    /// It is blank, or is not.
    pub(super) blank: Option<bool>,
    /// It begins with one of these texts.
    pub(super) starts_with: Option<Vec<String>>,
}

/// How hashes in a file of their own are joined: JSON lines, each with a user id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinTable {
    /// The columns of the export that may hold the user id; the first that is not blank does.
    pub(super) key: Vec<String>,
    /// The column that the join makes.
    pub(super) column: String,
    /// The members of a line that may hold the user id; the first that is not blank does.
    pub(super) id: Vec<String>,
    /// What the export's user ids begin with and those of the lines do not.
    #[serde(default)]
    pub(super) prefix: String,
    /// The member that holds the hash.
    pub(super) from: String,
}

/// Hashes whose parameters the export does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct HashTable {
    /// The column of the hashes.
    column: String,
    /// The names of the parameters.
    parameters: Vec<String>,
}

/// Rows that are left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropTable {
    /// What the reports say.
    pub(super) reason: String,
    /// All of these must hold.
    pub(super) when: Vec<Condition>,
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Written;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a column, or a table such as { from = \"name\" }")
            }
            fn visit_str<E>(self, name: &str) -> Result<Written, E> {
                Ok(Written(RuleTable {
                    from: vec![name.to_owned()],
                    ..RuleTable::default()
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                RuleTable::deserialize(MapAccessDeserializer::new(map)).map(Written)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a column, or a list of names")
        }
        fn visit_str<E>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.to_owned()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = seq.next_element()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    deserializer.deserialize_any(Either)
}

impl Profile {
    /// Reads the text of a profile and checks it.
    pub fn read(id: &str, text: &str) -> Result<Self, ProfileError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ProfileError::TooLong);
        }
        let text: Text = toml::from_str(text)
            .map_err(|error| ProfileError::Form(error.to_string().trim_end().to_owned()))?;
        let mut columns = Vec::with_capacity(text.columns.len());
        for (name, Written(rule)) in text.columns {
            let known = KNOWN.iter().find(|known| plain(known) == plain(&name));
            let Some(known) = known else {
                return Err(ProfileError::UnknownColumn { column: name });
            };
            check_rule(known, &rule)?;
            columns.push((*known, rule));
        }
        if !columns.iter().any(|(name, _)| *name == "email") {
            return Err(ProfileError::NoEmail);
        }
        let in_order = |(name, _): &(&str, RuleTable)| KNOWN.iter().position(|known| known == name);
        columns.sort_by_key(in_order);
        for rule in &text.drop {
            check_conditions(&rule.when)?;
        }
        let (hashed, parameters) = text.hashes.map_or((None, Vec::new()), |hashes| {
            (Some(hashes.column), hashes.parameters)
        });
        Ok(Self {
            id: id.to_owned(),
            name: text.name,
            source: text.source,
            detect: text.detect,
            records: text.records,
            optional: text.optional,
            cell_prefix: text.cell_prefix,
            join: text.join,
            parameters,
            hashed,
            columns,
            drop: text.drop,
        })
    }

    /// Returns whether a header with these names is one of its export.
    pub fn recognises(&self, names: &[String]) -> bool {
        self.detect.iter().any(|detect| detect.recognises(names))
    }

    /// Reads a person's own profile; a job remembers it by a hash of its text.
    pub fn read_own(text: &str) -> Result<Self, ProfileError> {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let id = format!("toml:{}", hash.get(..16).unwrap_or_default());
        let own = Self::read(&id, text)?;
        Ok(Self {
            detect: Vec::new(),
            ..own
        })
    }
}

fn check_rule(column: &str, rule: &RuleTable) -> Result<(), ProfileError> {
    let sources = [
        !rule.from.is_empty(),
        rule.value.is_some(),
        rule.template.is_some(),
        !rule.join.is_empty(),
        rule.split.is_some() && rule.from.is_empty(),
        rule.listed.is_some(),
        rule.object.is_some(),
    ];
    let owned = || column.to_owned();
    if sources.into_iter().filter(|is_there| *is_there).count() != 1 {
        return Err(ProfileError::Source { column: owned() });
    }
    let of_its_own = rule.value.is_some() || rule.default.is_some() || !rule.words.is_empty();
    if SECRET.contains(&column) && of_its_own {
        return Err(ProfileError::Secret { column: owned() });
    }
    if let Some(template) = &rule.template {
        let pieces = super::plan::pieces(template).map_err(|what| ProfileError::Template {
            column: owned(),
            what,
        })?;
        let names_a_column = pieces
            .iter()
            .any(|piece| matches!(piece, super::plan::Named::Column(..)));
        if SECRET.contains(&column) && !names_a_column {
            return Err(ProfileError::Secret { column: owned() });
        }
    }
    check_conditions(&rule.when)
}

fn check_conditions(conditions: &[Condition]) -> Result<(), ProfileError> {
    for condition in conditions {
        let tests = [
            condition.is.is_some(),
            condition.not.is_some(),
            condition.blank.is_some(),
            condition.starts_with.is_some(),
        ];
        if tests.into_iter().filter(|is_there| *is_there).count() != 1 {
            return Err(ProfileError::Condition {
                column: condition.column.clone(),
            });
        }
    }
    Ok(())
}
