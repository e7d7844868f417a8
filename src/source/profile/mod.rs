//! Profiles: which column of an export becomes which column of ours.
//!
//! # Owns
//! The form of a profile (a TOML text; the built-in ones are such texts too), recognising an
//! export by its header, binding a profile to a header, and computing a record's cells.
//! # Never
//! Reads a file, keeps a cell, decides whether a cell is valid: that is [`super::rules`]'.
//! # See
//! `docs/PROFILES.md` for the form, in the words of people who write one.

mod apply;
mod convert;
mod hashes;
mod json;
mod left;
mod plan;
mod spec;
mod told;

pub use convert::{Beside, Conversion, Converted, Parameters, read_parameters};
pub use plan::{Plan, UnboundColumn};
pub use spec::{Profile, ProfileError, TEXT_BYTES_MAX};

use std::sync::{Arc, LazyLock};

/// The column that tells why a row is left out: a name of our own, in files that we write.
pub const SKIP_COLUMN: &str = "userferry_skip";

/// The texts of the built-in profiles, by the word of `--profile`.
const TEXTS: [(&str, &str); 5] = [
    ("auth0", include_str!("auth0.toml")),
    ("clerk", include_str!("clerk.toml")),
    ("firebase", include_str!("firebase.toml")),
    ("cognito", include_str!("cognito.toml")),
    ("okta", include_str!("okta.toml")),
];

static BUILT_IN: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
    // A test reads every text, so nothing is left out here.
    let read = |(id, text): (&str, &str)| Profile::read(id, text).ok().map(Arc::new);
    TEXTS.into_iter().filter_map(read).collect()
});

/// Returns the built-in profiles.
pub fn built_in() -> &'static [Arc<Profile>] {
    &BUILT_IN
}

/// Returns the built-in profile of that name.
pub fn named(id: &str) -> Option<Arc<Profile>> {
    built_in().iter().find(|profile| profile.id == id).cloned()
}

/// Returns the built-in profile that recognises a header with these names.
pub fn detected(names: &[String]) -> Option<Arc<Profile>> {
    let mut all = built_in().iter();
    all.find(|profile| profile.recognises(names)).cloned()
}

/// How a file's profile is chosen.
#[derive(Clone, Debug, Default)]
pub enum ProfileChoice {
    /// By its header: the built-in one that recognises it, or none.
    #[default]
    Detect,
    /// None: the columns are ours.
    Off,
    /// This one.
    Use(Arc<Profile>),
}

/// The name of a job's choice when no profile is in use.
pub const NONE: &str = "none";

/// Returns a name without letter case, spaces, `-` and `_`: what counts when names are compared.
pub fn plain(name: &str) -> String {
    plain_chars(name).collect()
}

/// Returns whether two names mean the same column.
pub fn same_name(one: &str, other: &str) -> bool {
    plain_chars(one).eq(plain_chars(other))
}

/// What [`plain`] returns, one character after the other.
fn plain_chars(name: &str) -> impl Iterator<Item = char> {
    let counts = |c: &char| !c.is_whitespace() && !matches!(c, '-' | '_');
    name.chars().filter(counts).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests;
