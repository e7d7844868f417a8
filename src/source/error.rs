//! Why a file is refused, with where, in sentences for people.

use crate::model::{ChunkId, RowNumber};
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
    /// The file starts like something that is not UTF-8 CSV.
    #[error("the file is {what}, which is not read yet")]
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
    #[error("the columns look separated by {delimiter}, not by commas ({at})")]
    Delimiter {
        /// Its name.
        delimiter: &'static str,
        /// Where the header starts.
        at: Place,
    },
    /// Two columns with one name.
    #[error("columns {first} and {second} both mean the same thing ({at})")]
    ColumnTwice {
        /// Position of the first, from 1.
        first: usize,
        /// Position of the second, from 1.
        second: usize,
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
    /// Columns this build does not carry yet.
    #[error("these columns are not carried yet: {} ({at})", names.join(", "))]
    ColumnsNotBuilt {
        /// Their names.
        names: Vec<String>,
        /// Where the first one starts.
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
    /// A NUL byte.
    #[error("there is a NUL byte at {at}")]
    Nul {
        /// Where it is.
        at: Place,
    },
    /// A record whose field count differs from the header's.
    #[error("found {found} fields where the header has {expected} ({at})")]
    FieldCount {
        /// Fields of the record.
        found: usize,
        /// Fields of the header.
        expected: usize,
        /// Where the record starts.
        at: Place,
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
            Self::Delimiter { .. } => "delimiter_not_comma",
            Self::ColumnTwice { .. } => "column_duplicated",
            Self::EmailColumnMissing { .. } => "email_column_missing",
            Self::ColumnsNotBuilt { .. } => "columns_not_built",
            Self::Json { .. } => "json_broken",
            Self::JsonUnknown => "json_unknown",
            Self::Hashes { .. } => "password_hashes",
            Self::HashParameters { .. } => "hash_parameters",
            Self::BesideNothing { .. } => "nothing_to_join",
            Self::ProfileColumn { .. } => "profile_column_missing",
            Self::OrganizationColumns { .. } => "organization_columns",
            Self::QuoteUnclosed { .. } => "quote_unclosed",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::Nul { .. } | Self::JsonNul { .. } => "nul_byte",
            Self::FieldCount { .. } => "field_count",
            Self::RecordTooLong { .. } => "record_too_long",
            Self::BlankLines { .. } => "blank_lines_too_long",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::Changed { .. } => "file_changed",
        }
    }

    /// Returns what to do next, when there is something better than reading the message again.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Open { .. } | Self::Read(_) => return None,
            Self::Spill(_) => "make room in the temporary folder, or name another one in TMPDIR",
            Self::Spool(_) => "make room on the disk of the jobs' folder",
            Self::NotAFile { .. } => "name a CSV file on a local disk",
            Self::Format { .. } => "save it as plain UTF-8 CSV",
            Self::HeaderMissing | Self::HeaderIsData { .. } => {
                "write the column names in the first line, for example email,first_name,last_name"
            }
            Self::Delimiter { .. } => "save the file with commas between the columns",
            Self::ColumnTwice { .. } => {
                "rename or remove one of them; letter case, spaces, - and _ do not count"
            }
            Self::EmailColumnMissing { nearest, .. } => {
                return Some(nearest.as_ref().map_or_else(
                    || "name the column that holds the email addresses email".to_owned(),
                    |name| format!("rename the column {name} to email if that is the one"),
                ));
            }
            Self::ColumnsNotBuilt { .. } => {
                "remove them from the file; nothing is read and then ignored"
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
            Self::NotUtf8 { .. } => "save the file as UTF-8",
            Self::Nul { .. } => "remove it; if the file is UTF-16, save it as UTF-8",
            Self::FieldCount { .. } => {
                "a cell with a comma, a quote or a line break must stand in quotes"
            }
            Self::RecordTooLong { quote, .. } => {
                return Some(quote.as_ref().map_or_else(
                    || "split or shorten that record".to_owned(),
                    |at| format!("a quote opened at {at} is still open: close it there"),
                ));
            }
            Self::BlankLines { .. } => "remove the blank lines",
            Self::TooManyRows { .. } => "split the file",
            Self::Changed { .. } => {
                "put the file back as it was, or import the new one as a new job"
            }
        };
        Some(hint.to_owned())
    }

    /// Returns where in the file, when there is one place.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Open { .. }
            | Self::Read(_)
            | Self::Spill(_)
            | Self::Spool(_)
            | Self::NotAFile { .. }
            | Self::JsonUnknown
            | Self::JsonNul { .. }
            | Self::Hashes { .. }
            | Self::HashParameters { .. }
            | Self::BesideNothing { .. } => None,
            Self::Json { line, .. } => Some(Place {
                line: *line,
                ..Place::default()
            }),
            Self::Format { .. } | Self::HeaderMissing => Some(Place {
                line: 1,
                ..Place::default()
            }),
            Self::HeaderIsData { at }
            | Self::Delimiter { at, .. }
            | Self::ColumnTwice { at, .. }
            | Self::EmailColumnMissing { at, .. }
            | Self::ColumnsNotBuilt { at, .. }
            | Self::ProfileColumn { at, .. }
            | Self::OrganizationColumns { at, .. }
            | Self::QuoteUnclosed { at }
            | Self::NotUtf8 { at, .. }
            | Self::Nul { at }
            | Self::FieldCount { at, .. }
            | Self::RecordTooLong { at, .. }
            | Self::BlankLines { at }
            | Self::TooManyRows { at }
            | Self::Changed { at, .. } => Some(at.clone()),
        }
    }
}
