//! Why a file is refused, with where, in sentences for people.

use crate::model::{ChunkId, Delimiter, Encoding, Packing, RowNumber};
use std::fmt;
use std::path::PathBuf;

/// The spot of the file an error speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The row; `None` for the header and what precedes it.
    pub row: Option<RowNumber>,
    /// The physical line, from 1 (every line feed ends one, quoted ones included).
    pub line: u64,
    /// The name of the column, when the error belongs to one.
    pub column: Option<String>,
    /// The byte offset in the file, from 0.
    pub byte: u64,
}

/// Rows that are kept of those whose field count is wrong.
const RAGGED_MAX: usize = 20;

/// Rows whose field count differs from the header's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    /// The first ones, ascending.
    pub rows: Vec<RaggedRow>,
    /// How many there are, as far as the file could be read.
    pub count: u64,
}

/// A row whose field count differs from the header's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaggedRow {
    /// Its fields.
    pub found: usize,
    /// Where it starts.
    pub at: Place,
    /// The physical lines it stands on.
    pub lines: u64,
}

impl Ragged {
    /// Counts one, and keeps it if it is one of the first.
    pub(super) fn note(&mut self, row: RaggedRow) {
        self.count += 1;
        if self.rows.len() < RAGGED_MAX {
            self.rows.push(row);
        }
    }

    /// Makes the refusal of the file, if there are any.
    pub(super) fn refusal(self, expected: usize) -> Option<SourceError> {
        let first = self.rows.first()?.clone();
        Some(first.refusal(expected, self))
    }
}

impl RaggedRow {
    /// Refuses the file for it, the first one of all.
    fn refusal(self, expected: usize, ragged: Ragged) -> SourceError {
        SourceError::FieldCount {
            found: self.found,
            expected,
            at: self.at,
            ragged: Box::new(ragged),
        }
    }

    /// Describes a record of `found` fields that starts at `at`.
    pub(super) fn of(record: &str, found: usize, at: Place) -> Self {
        let inside = record.trim_end_matches(['\r', '\n']);
        Self {
            found,
            at,
            lines: 1 + super::records::lines_in(inside.as_bytes()),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self, expected: usize) -> String {
        let hint = if self.found < expected {
            "cells are missing at its end, or a cell with a line break does not stand in quotes; \
             blank cells need their delimiters too"
        } else {
            "a cell with the delimiter, a quote or a line break must stand in quotes"
        };
        match self.lines {
            0 | 1 => hint.to_owned(),
            lines => format!(
                "it goes on for {lines} lines: if it should not, a quote in it is never closed; \
                 if it should, {hint}"
            ),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(f, "row {row}, line {}", self.line)?,
            None => write!(f, "the header, line {}", self.line)?,
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ", byte {}", self.byte)
    }
}

/// Why a file is refused. No message holds a cell of a row.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be read to its end.
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    /// The sorted runs of a large index cannot be written to the temporary folder, or read back.
    #[error("cannot use a temporary file while indexing")]
    Spill(#[source] std::io::Error),
    /// The copy of the source cannot be written, or read back.
    #[error("cannot use the copy of the source in the job's folder")]
    Spool(#[source] std::io::Error),
    /// A folder, a pipe, a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which path.
        path: PathBuf,
    },
    /// The file starts like something that is no text.
    #[error("the file is {what}, which is not read")]
    Format {
        /// The stable code.
        code: &'static str,
        /// What it looks like.
        what: &'static str,
    },
    /// Nothing but blank lines.
    #[error("the file is empty: the first line must name the columns")]
    HeaderMissing,
    /// The first record holds an email, so it names no columns.
    #[error("the first record looks like a person, not like column names ({at})")]
    HeaderIsData {
        /// Where it starts.
        at: Place,
    },
    /// The header is one cell that another delimiter would split.
    #[error("the columns look separated by {}, not by {} ({at})", found.plural(), given.plural())]
    Delimiter {
        /// The delimiter that was asked for.
        given: Delimiter,
        /// The one that would split it.
        found: Delimiter,
        /// Where the header starts.
        at: Place,
    },
    /// Two columns with one name.
    #[error(
        "columns {} ({}) and {} ({}) both mean the same thing ({at})",
        first.0, first.1, second.0, second.1
    )]
    ColumnTwice {
        /// Position, from 1, and name of the first.
        first: (usize, String),
        /// Position, from 1, and name of the second.
        second: (usize, String),
        /// Where the second one starts.
        at: Place,
    },
    /// No column holds the email.
    #[error("no column is named email ({at})")]
    EmailColumnMissing {
        /// The nearest name the header has.
        nearest: Option<String>,
        /// Where the header starts.
        at: Place,
    },
    /// JSON that cannot be read to its end.
    #[error("the JSON cannot be read at line {line}: {what}")]
    Json {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// JSON that no profile recognises.
    #[error("the file is JSON, and no profile recognises its records")]
    JsonUnknown,
    /// A text with a NUL character.
    #[error("record {record} of the JSON holds a NUL character")]
    JsonNul {
        /// Which record, from 1.
        record: u64,
    },
    /// A file of password hashes that cannot be trusted.
    #[error("the password hashes in {} cannot be used: line {line}: {what}", path.display())]
    Hashes {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Parameters of password hashes that are missing, or not usable.
    #[error("{what} ({profile} export)")]
    HashParameters {
        /// The profile's name.
        profile: String,
        /// What is wrong with them.
        what: String,
    },
    /// A file was given beside a source that has no use for it.
    #[error(
        "{option} was given, and {}",
        profile.as_ref().map_or_else(
            || "the file is read without a profile".to_owned(),
            |profile| format!("the {profile} profile has no use for it"),
        )
    )]
    BesideNothing {
        /// The option.
        option: &'static str,
        /// The profile, if there is one.
        profile: Option<String>,
    },
    /// A profile looks at a column that the header lacks.
    #[error(
        "the {profile} profile wants the column {column}{}, and the header has none ({at})",
        wanted_by.as_ref().map_or_else(String::new, |by| format!(" for {by}"))
    )]
    ProfileColumn {
        /// The profile's name.
        profile: String,
        /// The column that is missing.
        column: String,
        /// The column of ours that comes from it; `None`: a condition looks at it.
        wanted_by: Option<String>,
        /// Where the header starts.
        at: Place,
    },
    /// `--map` and the profile of a recognised export both say what becomes of a column.
    #[error(
        "the file is an export of {profile}, whose profile and --map {map} both say what becomes \
         of a column ({at})"
    )]
    MapAndProfile {
        /// The map.
        map: Box<str>,
        /// The profile's name.
        profile: Box<str>,
        /// The word of `--profile`.
        id: Box<str>,
        /// Where the header starts.
        at: Place,
    },
    /// Organization columns, and one organization for every row.
    #[error(
        "the file has organization columns ({}) and one organization was named for every row",
        names.join(", ")
    )]
    OrganizationColumns {
        /// Their names.
        names: Vec<String>,
        /// Where the first one starts.
        at: Place,
    },
    /// A quote that is never closed.
    #[error("the quote opened at {at} is never closed")]
    QuoteUnclosed {
        /// Where the quote is.
        at: Place,
    },
    /// A byte that no UTF-8 text holds.
    #[error("byte 0x{value:02x} at {at} is not UTF-8 text")]
    NotUtf8 {
        /// The byte.
        value: u8,
        /// Where it is.
        at: Place,
    },
    /// Bytes that are no text in the encoding of the file.
    #[error("what stands at {at} is not {encoding} text")]
    NotText {
        /// The encoding.
        encoding: Encoding,
        /// Where the first of them is.
        at: Place,
    },
    /// UTF-8 in one place and something else in another.
    #[error(
        "byte 0x{value:02x} at {at} is not UTF-8 text, and line {utf8_line} holds UTF-8: the file \
         mixes two encodings"
    )]
    MixedEncodings {
        /// The first byte that is not UTF-8.
        value: u8,
        /// The first line with a UTF-8 character beyond ASCII.
        utf8_line: u64,
        /// Where that byte is.
        at: Place,
    },
    /// Text that can only be Windows-1252, and nobody has said so.
    #[error(
        "byte 0x{value:02x} at {at} is not UTF-8 text; the file may be Windows-1252, which nothing \
         in it can prove"
    )]
    Windows1252Unconfirmed {
        /// The first byte that is not UTF-8.
        value: u8,
        /// Where it is.
        at: Place,
    },
    /// `--encoding` and the byte order mark contradict each other.
    #[error("--encoding says {given}, and the byte order mark of the file says {found}")]
    EncodingContradicted {
        /// What was asked for.
        given: Encoding,
        /// What the file says.
        found: Encoding,
    },
    /// Packed data that cannot be unpacked to its end.
    #[error("the {} data is damaged or ends too early", packing.as_str())]
    Unpack {
        /// The packing.
        packing: Packing,
        /// What the unpacker said.
        source: std::io::Error,
    },
    /// A source that holds more text than it is trusted with.
    #[error("the file {what}: it is not unpacked further")]
    UnpackedTooLarge {
        /// What gave it away.
        what: String,
    },
    /// A column that `--map` names is not in the file.
    #[error("no column is named {name}, which --map speaks of ({at})")]
    MapColumnMissing {
        /// The name.
        name: String,
        /// The nearest name the header has.
        nearest: Option<String>,
        /// Where the header starts.
        at: Place,
    },
    /// A NUL byte.
    #[error("there is a NUL byte at {at}")]
    Nul {
        /// Where it is.
        at: Place,
    },
    /// A record whose field count differs from the header's.
    #[error(
        "found {found} field{} where the header has {expected} ({at})",
        if *found == 1 { "" } else { "s" }
    )]
    FieldCount {
        /// Fields of the record.
        found: usize,
        /// Fields of the header.
        expected: usize,
        /// Where the record starts.
        at: Place,
        /// It, and the others.
        ragged: Box<Ragged>,
    },
    /// A record beyond [`super::records::RECORD_BYTES_MAX`].
    #[error("the record at {at} is longer than {} MiB", super::records::RECORD_BYTES_MAX >> 20)]
    RecordTooLong {
        /// Where the record starts.
        at: Place,
        /// Where the quote was opened that is still open at the limit.
        quote: Option<Box<Place>>,
    },
    /// More than [`super::records::RECORD_BYTES_MAX`] bytes of blank lines in a row.
    #[error("more than {} MiB of blank lines start at {at}", super::records::RECORD_BYTES_MAX >> 20)]
    BlankLines {
        /// Where they start.
        at: Place,
    },
    /// With organizations by name: a name alone here, and with an id there.
    #[error(
        "row {alone} gives nothing but the name of its organization, and row {keyed} gives the same \
         name to one with an id"
    )]
    NameInTwoWays {
        /// The lowest row with the name alone.
        alone: RowNumber,
        /// The lowest row with the name and an id.
        keyed: RowNumber,
    },
    /// More rows than a row number can count.
    #[error("the file holds more than {} rows ({at})", u32::MAX)]
    TooManyRows {
        /// Where the first row too many starts; it is named by the last number there is.
        at: Place,
    },
    /// The bytes of a chunk are not what the index saw.
    #[error("the file changed after it was indexed: chunk {chunk} ({at}) reads differently")]
    Changed {
        /// Which chunk.
        chunk: ChunkId,
        /// Where it starts.
        at: Place,
    },
}

impl SourceError {
    /// Returns the stable code, in `snake_case`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "file_not_opened",
            Self::Read(_) => "file_not_read",
            Self::Spill(_) => "temporary_file",
            Self::Spool(_) => "copy_not_written",
            Self::NotAFile { .. } => "not_a_regular_file",
            Self::Format { code, .. } => code,
            Self::HeaderMissing => "header_missing",
            Self::HeaderIsData { .. } => "header_is_data",
            Self::Delimiter { .. } => "delimiter_other",
            Self::ColumnTwice { .. } => "column_duplicated",
            Self::EmailColumnMissing { .. } => "email_column_missing",
            Self::Json { .. } => "json_broken",
            Self::JsonUnknown => "json_unknown",
            Self::Hashes { .. } => "password_hashes",
            Self::HashParameters { .. } => "hash_parameters",
            Self::BesideNothing { .. } => "nothing_to_join",
            Self::ProfileColumn { .. } => "profile_column_missing",
            Self::MapAndProfile { .. } => "map_and_profile",
            Self::OrganizationColumns { .. } => "organization_columns",
            Self::QuoteUnclosed { .. } => "quote_unclosed",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::NotText { .. } => "not_text",
            Self::MixedEncodings { .. } => "encodings_mixed",
            Self::Windows1252Unconfirmed { .. } => "encoding_unconfirmed",
            Self::EncodingContradicted { .. } => "encoding_contradicted",
            Self::Unpack { .. } => "unpack_failed",
            Self::UnpackedTooLarge { .. } => "unpacked_too_large",
            Self::MapColumnMissing { .. } => "map_column_missing",
            Self::Nul { .. } | Self::JsonNul { .. } => "nul_byte",
            Self::FieldCount { .. } => "field_count",
            Self::RecordTooLong { .. } => "record_too_long",
            Self::BlankLines { .. } => "blank_lines_too_long",
            Self::NameInTwoWays { .. } => "org_name_in_two_ways",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::Changed { .. } => "file_changed",
        }
    }

    /// Returns what to do next, when there is something better than reading the message again.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Delimiter { .. }
            | Self::EmailColumnMissing { .. }
            | Self::MapColumnMissing { .. }
            | Self::MapAndProfile { .. }
            | Self::FieldCount { .. }
            | Self::RecordTooLong { .. } => return Some(self.hint_with_names()),
            Self::Open { .. } | Self::Read(_) => return None,
            Self::Spill(_) => "make room in the temporary folder, or name another one in TMPDIR",
            Self::Spool(_) => "make room on the disk of the jobs' folder",
            Self::NotAFile { .. } => "name a CSV file on a local disk",
            Self::Format { .. } => "save it as CSV, packed with gzip or zstd if it must be packed",
            Self::HeaderMissing => {
                "if people should be in it, it was not exported as a whole: do that again; the first \
                 line holds the column names, for example email,first_name,last_name"
            }
            Self::HeaderIsData { .. } => {
                "write the column names in the first line, for example email,first_name,last_name"
            }
            Self::ColumnTwice { .. } => {
                "rename or remove one of them; letter case, spaces, - and _ do not count"
            }
            Self::Json { .. } => {
                "export it again; records are JSON objects, one a line or in one array"
            }
            Self::JsonUnknown => {
                "say whose export it is: --profile auth0 or firebase, or a profile of your own"
            }
            Self::JsonNul { .. } => "remove it from the file",
            Self::Hashes { .. } => "every line is one JSON object with a user id of its own",
            Self::HashParameters { .. } => {
                "save what the console shows as password hash parameters in a file and give \
                 --hash-parameters FILE; --hash-parameters none imports without passwords"
            }
            Self::BesideNothing { .. } => "leave it out, or name the profile with --profile",
            Self::ProfileColumn { .. } => {
                "name another profile, or say --profile none if the columns are already named as \
                 the README does"
            }
            Self::OrganizationColumns { .. } => {
                "leave out --org-id and --org-external-id, or remove those columns"
            }
            Self::QuoteUnclosed { .. } => {
                "close it, and write every quote inside a quoted cell twice"
            }
            Self::NotUtf8 { .. } => "leave out --encoding, or save the file as UTF-8",
            Self::NotText { .. } => "save the file as UTF-8, or name its encoding with --encoding",
            Self::MixedEncodings { .. } => {
                "save the file as UTF-8; with --encoding windows-1252 it is read as it stands, \
                 every byte one character"
            }
            Self::Windows1252Unconfirmed { .. } => {
                "say --encoding windows-1252 if that is what it is, or --yes to go on with it"
            }
            Self::EncodingContradicted { .. } => "leave out --encoding",
            Self::Unpack { .. } => "fetch or pack the file again",
            Self::UnpackedTooLarge { .. } => "unpack it yourself, look at it, and split it",
            Self::Nul { .. } => "remove it; if the file is UTF-16, name it with --encoding",
            Self::BlankLines { .. } => "remove the blank lines",
            Self::NameInTwoWays { .. } => {
                "--orgs-by-name cannot tell whether the name means that organization: give the id \
                 in every row of it, or in none"
            }
            Self::TooManyRows { .. } => "split the file",
            Self::Changed { .. } => {
                "put the file back as it was, or import the new one as a new job"
            }
        };
        Some(hint.to_owned())
    }

    /// Hints that name something of the file.
    fn hint_with_names(&self) -> String {
        match self {
            Self::Delimiter { found, .. } => {
                format!("leave out --delimiter, or say --delimiter {found}")
            }
            Self::EmailColumnMissing {
                nearest: Some(name),
                ..
            } => format!("if {name} is the one, say --map '{name}=email'"),
            Self::EmailColumnMissing { nearest: None, .. } => {
                "name the column that holds the email addresses email".to_owned()
            }
            Self::MapColumnMissing {
                nearest: Some(name),
                ..
            } => format!("did you mean {name}?"),
            Self::FieldCount {
                expected, ragged, ..
            } => ragged
                .rows
                .first()
                .map_or_else(String::new, |row| row.hint(*expected)),
            Self::MapAndProfile { id, .. } => format!(
                "say --profile {id} to keep that profile, with --map in place of its own rule for \
                 that column, or --profile none to read the columns without it"
            ),
            Self::RecordTooLong {
                quote: Some(at), ..
            } => format!("a quote opened at {at} is still open: close it there"),
            Self::RecordTooLong { quote: None, .. } => "split or shorten that record".to_owned(),
            _ => "--map 'THEIR NAME=known_column' takes a name of the header".to_owned(),
        }
    }

    /// Returns where in the file, when there is one place.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Open { .. }
            | Self::Read(_)
            | Self::Spill(_)
            | Self::Spool(_)
            | Self::Unpack { .. }
            | Self::UnpackedTooLarge { .. }
            | Self::NotAFile { .. }
            | Self::JsonUnknown
            | Self::JsonNul { .. }
            | Self::Hashes { .. }
            | Self::HashParameters { .. }
            | Self::NameInTwoWays { .. }
            | Self::BesideNothing { .. } => None,
            Self::Json { line, .. } => Some(Place {
                line: *line,
                ..Place::default()
            }),
            Self::EncodingContradicted { .. } | Self::Format { .. } | Self::HeaderMissing => {
                Some(Place {
                    line: 1,
                    ..Place::default()
                })
            }
            Self::HeaderIsData { at }
            | Self::Delimiter { at, .. }
            | Self::ColumnTwice { at, .. }
            | Self::EmailColumnMissing { at, .. }
            | Self::ProfileColumn { at, .. }
            | Self::MapAndProfile { at, .. }
            | Self::OrganizationColumns { at, .. }
            | Self::QuoteUnclosed { at }
            | Self::NotUtf8 { at, .. }
            | Self::NotText { at, .. }
            | Self::MixedEncodings { at, .. }
            | Self::Windows1252Unconfirmed { at, .. }
            | Self::MapColumnMissing { at, .. }
            | Self::Nul { at }
            | Self::FieldCount { at, .. }
            | Self::RecordTooLong { at, .. }
            | Self::BlankLines { at }
            | Self::TooManyRows { at }
            | Self::Changed { at, .. } => Some(at.clone()),
        }
    }

    /// Says that a byte that is not UTF-8 stands beside text that is.
    pub(super) fn into_mixed(self, utf8_line: u64) -> Self {
        match self {
            Self::NotUtf8 { value, at } => Self::MixedEncodings {
                value,
                utf8_line,
                at,
            },
            other => other,
        }
    }

    /// Says that a byte that is not UTF-8 may be Windows-1252.
    pub(super) fn into_unconfirmed(self) -> Self {
        match self {
            Self::NotUtf8 { value, at } => Self::Windows1252Unconfirmed { value, at },
            other => other,
        }
    }

    /// Hands out the byte offsets of an error about the content, to be put right.
    pub(super) fn each_byte(&mut self, change: &mut dyn FnMut(&mut u64)) {
        match self {
            Self::RecordTooLong { at, quote } => {
                change(&mut at.byte);
                if let Some(quote) = quote {
                    change(&mut quote.byte);
                }
            }
            Self::HeaderIsData { at }
            | Self::Delimiter { at, .. }
            | Self::ColumnTwice { at, .. }
            | Self::EmailColumnMissing { at, .. }
            | Self::OrganizationColumns { at, .. }
            | Self::MapColumnMissing { at, .. }
            | Self::MapAndProfile { at, .. }
            | Self::ProfileColumn { at, .. }
            | Self::QuoteUnclosed { at }
            | Self::NotUtf8 { at, .. }
            | Self::Nul { at }
            | Self::BlankLines { at }
            | Self::TooManyRows { at } => change(&mut at.byte),
            Self::FieldCount { at, ragged, .. } => {
                change(&mut at.byte);
                for row in &mut ragged.rows {
                    change(&mut row.at.byte);
                }
            }
            // About no place, about a place of the source itself, or about the copy.
            Self::Open { .. }
            | Self::Read(_)
            | Self::Spill(_)
            | Self::Spool(_)
            | Self::NotAFile { .. }
            | Self::JsonUnknown
            | Self::JsonNul { .. }
            | Self::Json { .. }
            | Self::Hashes { .. }
            | Self::HashParameters { .. }
            | Self::BesideNothing { .. }
            | Self::NameInTwoWays { .. }
            | Self::Format { .. }
            | Self::HeaderMissing
            | Self::NotText { .. }
            | Self::MixedEncodings { .. }
            | Self::Windows1252Unconfirmed { .. }
            | Self::EncodingContradicted { .. }
            | Self::Unpack { .. }
            | Self::UnpackedTooLarge { .. }
            | Self::Changed { .. } => {}
        }
    }
}
