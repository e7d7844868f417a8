//! Rows for tests.

use crate::model::RowNumber;
use crate::source::SourceRow;

/// A row with names and without external id, credential, organization.
pub fn source_row() -> SourceRow {
    SourceRow {
        number: RowNumber(7),
        email: "Ann.Lee@x.org".to_owned(),
        email_norm: "ann.lee@x.org".to_owned(),
        first_name: Some("Ann".to_owned()),
        last_name: Some("Lee".to_owned()),
        email_verified: Some(true),
        external_id: None,
        locale: None,
        credential: None,
        totp: None,
        metadata: Vec::new(),
        org: None,
        org_name: None,
        role_slugs: Vec::new(),
    }
}
