//! `results`: the outcome of every row, as CSV for spreadsheets or as JSON lines for programs.

use crate::model::{RowNumber, RowOutcome, Step};
use serde_json::{Value, json};
use std::io::{self, Write};

/// The columns, in order. Stable: columns are added at the end, never renamed.
pub const COLUMNS: [&str; 16] = [
    "row",
    "line",
    "email",
    "external_id",
    "state",
    "step",
    "user_id",
    "user_origin",
    "org_id",
    "membership_id",
    "membership_state",
    "attempts",
    "error_code",
    "error_message",
    "http_status",
    "request_id",
];

/// One row of the source with what became of it.
#[derive(Clone, Copy, Debug)]
pub struct ResultRow<'a> {
    /// Its number.
    pub row: RowNumber,
    /// The physical line on which it starts.
    pub line: u64,
    /// Its email as written, trimmed.
    pub email: &'a str,
    /// Its external id as written, trimmed.
    pub external_id: &'a str,
    /// What became of it; none while it is pending.
    pub outcome: Option<&'a RowOutcome>,
}

/// Writes results in one of the two forms.
#[derive(Debug)]
pub enum ResultsWriter<W: Write> {
    /// CSV with a header.
    Csv(Box<csv::Writer<W>>),
    /// JSON lines.
    Jsonl(W),
}

impl<W: Write> ResultsWriter<W> {
    /// Starts a CSV: writes the header.
    pub fn csv(out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(COLUMNS).map_err(io_error)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    /// Starts JSON lines.
    pub fn jsonl(out: W) -> Self {
        Self::Jsonl(out)
    }

    /// Writes one row.
    pub fn write(&mut self, row: &ResultRow<'_>) -> io::Result<()> {
        let cells = cells(row);
        match self {
            Self::Csv(writer) => {
                let texts = cells.iter().map(|cell| defused(&text(cell)));
                writer.write_record(texts).map_err(io_error)
            }
            Self::Jsonl(out) => {
                let object: serde_json::Map<String, Value> = COLUMNS
                    .iter()
                    .map(|name| (*name).to_owned())
                    .zip(cells)
                    .collect();
                serde_json::to_writer(&mut *out, &object)?;
                out.write_all(b"\n")
            }
        }
    }

    /// Returns the sink with everything written to it.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Csv(writer) => writer
                .into_inner()
                .map_err(|error| io::Error::new(error.error().kind(), error.to_string())),
            Self::Jsonl(mut out) => {
                out.flush()?;
                Ok(out)
            }
        }
    }
}

fn cells(row: &ResultRow<'_>) -> [Value; 16] {
    let outcome = row.outcome;
    let user = outcome.and_then(|outcome| outcome.user.as_ref());
    let membership = outcome.and_then(|outcome| outcome.membership.as_ref());
    let error = outcome.and_then(|outcome| outcome.error.as_ref());
    let external_id = Some(row.external_id).filter(|id| !id.is_empty());
    [
        json!(row.row),
        json!(row.line),
        json!(row.email),
        json!(external_id),
        json!(outcome.map_or("pending", |outcome| outcome.state.as_str())),
        json!(outcome.and_then(|outcome| outcome.step).map(Step::as_str)),
        json!(user.map(|user| &user.id)),
        json!(user.map(|user| user.origin.as_str())),
        json!(outcome.and_then(|outcome| outcome.org_id.as_ref())),
        json!(membership.and_then(|membership| membership.id.as_ref())),
        json!(membership.map(|membership| membership.state.as_str())),
        json!(outcome.map_or(0, |outcome| outcome.attempts)),
        json!(error.map(|error| &error.code)),
        json!(error.map(|error| &error.message)),
        json!(error.and_then(|error| error.http_status)),
        json!(error.and_then(|error| error.request_id.as_ref())),
    ]
}

fn text(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Puts a `'` before what a spreadsheet would run as a formula (CWE-1236).
pub(super) fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// Unwraps the I/O error inside a CSV error, so that a broken pipe is still one.
pub(super) fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Evidence, MembershipOutcome, MembershipState, Origin, RowError, RowState, UserOutcome,
    };

    fn created() -> RowOutcome {
        RowOutcome {
            row: RowNumber(1),
            state: RowState::Created,
            step: None,
            user: Some(UserOutcome {
                id: "user_1".to_owned(),
                origin: Origin::Made(Evidence::Answered),
            }),
            org_id: Some("org_1".to_owned()),
            membership: Some(MembershipOutcome {
                id: Some("om_1".to_owned()),
                state: MembershipState::Created,
                repeat: false,
            }),
            attempts: 2,
            error: None,
            unknown_role: None,
        }
    }

    fn row<'a>(number: u32, email: &'a str, outcome: Option<&'a RowOutcome>) -> ResultRow<'a> {
        ResultRow {
            row: RowNumber(number),
            line: u64::from(number) + 1,
            email,
            external_id: "",
            outcome,
        }
    }

    #[test]
    fn csv_has_every_column_in_order() {
        let created = created();
        let failed = RowOutcome::failed(
            RowNumber(2),
            Step::Validation,
            RowError::local("email_invalid", "not an address, says the rule"),
        );
        let mut writer = ResultsWriter::csv(Vec::new()).unwrap();
        writer.write(&row(1, "a@x.org", Some(&created))).unwrap();
        writer.write(&row(2, "=cmd|x", Some(&failed))).unwrap();
        writer.write(&row(3, "c@x.org", None)).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "row,line,email,external_id,state,step,user_id,user_origin,org_id,membership_id,\
             membership_state,attempts,error_code,error_message,http_status,request_id\n\
             1,2,a@x.org,,created,,user_1,answered,org_1,om_1,created,2,,,,\n\
             2,3,'=cmd|x,,failed,validation,,,,,,0,email_invalid,\"not an address, says the rule\",,\n\
             3,4,c@x.org,,pending,,,,,,,0,,,,\n"
        );
    }

    #[test]
    fn json_lines_keep_types_and_text() {
        let created = created();
        let mut writer = ResultsWriter::jsonl(Vec::new());
        writer.write(&row(1, "+1@x.org", Some(&created))).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        let value: Value = serde_json::from_str(text.trim_end()).unwrap();
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(names, COLUMNS);
        assert_eq!(value["email"], "+1@x.org");
        assert_eq!(value["attempts"], 2);
        assert_eq!(value["error_code"], Value::Null);
    }

    #[test]
    fn formulas_are_defused() {
        for (cell, safe) in [
            ("=1", "'=1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(defused(cell), safe);
        }
    }
}
