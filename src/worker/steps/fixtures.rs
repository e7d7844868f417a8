//! Rows for tests.

use crate::model::RowNumber;
use crate::source::SourceRow;

/// A row with names and without external id, credential, organization.
pub fn source_row() -> SourceRow {
    SourceRow {
        number: RowNumber(7),
        first_name: Some("Ann".into()),
        last_name: Some("Lee".into()),
        email_verified: Some(true),
        ..SourceRow::bare("Ann.Lee@x.org")
    }
}
