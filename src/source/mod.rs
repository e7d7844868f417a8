//! The source file: what it holds, where each chunk lies, and what a record means.
//!
//! # Owns
//! Opening a source in whatever dialect it is, the index pass, header mapping, reading one chunk, the rules of a row, and
//! the writer of rehearsal files.
//! # Never
//! Sends a request, writes a ledger, prints. Keeps a whole file in memory.
//! # Invariants
//! I15: a chunk's bytes hash to what the index says, or nothing of it is used.
//! # See
//! [`index`](mod@index) for the one pass, [`rules`] for what makes a row fail.

mod ahead;
mod cells;
pub mod check;
pub mod chunk;
pub mod error;
pub mod fix;
pub mod generate;
pub mod header;
pub mod index;
mod keyed;
mod marks;
mod meet;
pub mod open;
mod pairs;
pub mod profile;
pub mod records;
pub mod row;
pub mod rules;
mod sorter;
mod window;

pub use cells::KeptCells;
pub use check::{CheckReport, Finding, NewNames, check, check_some};
pub use chunk::{CsvRecord, OpenChunk, find_records, read_chunk};
pub use error::{Place, Ragged, SourceError};
pub use fix::{fix, rewritten};
pub use generate::{GenerateArgs, GenerateError, generate};
pub use header::{Columns, known};
pub use index::{Index, IndexOptions, build, file_hash};
pub use open::{Ask, Input, Opened, Reencoder, SPOOL_FILE, copy, read};
pub use profile::same_name;
pub use records::{RawRecord, records};
pub use row::{Credential, SourceRow, Totp, email_norm};
pub use rules::catalog::{Rule, Severity};
pub use rules::{Problem, Problems, RowRules, parse_row, parse_row_telling};

#[cfg(test)]
mod fixtures;
