//! The reasons beside `rejects`: why each of its records was not imported, one line a record.

use super::results::defused;
use crate::model::{RowOutcome, Step};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The columns, in order. Stable: columns are added at the end, never renamed.
pub const COLUMNS: [&str; 9] = [
    "record",
    "row",
    "line",
    "state",
    "step",
    "error_code",
    "error_message",
    "http_status",
    "request_id",
];

/// Returns where the reasons of `rejects` go: `rejects.csv` has `rejects.reasons.csv` beside it.
pub fn path_beside(rejects: &Path) -> PathBuf {
    rejects.with_extension("reasons.csv")
}

/// Writes reasons as CSV. Cells that a spreadsheet would run are defused.
#[derive(Debug)]
pub struct ReasonsWriter<W: Write> {
    out: csv::Writer<W>,
    records: u64,
}

impl<W: Write> ReasonsWriter<W> {
    /// Starts with the header.
    pub fn start(out: W) -> io::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(COLUMNS)
            .map_err(super::results::io_error)?;
        Ok(Self { out, records: 0 })
    }

    /// Says why the next record of the rejects is there; it starts on `line` of the source.
    pub fn write(&mut self, outcome: &RowOutcome, line: u64) -> io::Result<()> {
        self.records += 1;
        let error = outcome.error.as_ref();
        let status = error.and_then(|error| error.http_status);
        let text = |text: Option<&str>| defused(text.unwrap_or_default());
        let cells = [
            self.records.to_string(),
            outcome.row.to_string(),
            line.to_string(),
            outcome.state.as_str().to_owned(),
            text(outcome.step.map(Step::as_str)),
            text(error.map(|error| error.code.as_str())),
            text(error.map(|error| error.message.as_str())),
            status.map(|status| status.to_string()).unwrap_or_default(),
            text(error.and_then(|error| error.request_id.as_deref())),
        ];
        self.out
            .write_record(cells)
            .map_err(super::results::io_error)
    }

    /// Returns the sink with everything written to it.
    pub fn finish(self) -> io::Result<W> {
        self.out
            .into_inner()
            .map_err(|error| io::Error::new(error.error().kind(), error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RowError, RowNumber};

    #[test]
    fn every_record_has_its_reason() {
        let mut writer = ReasonsWriter::start(Vec::new()).unwrap();
        let error = RowError {
            http_status: Some(422),
            request_id: Some("req_1".to_owned()),
            ..RowError::local("invalid_role", "=the role, says the target")
        };
        let failed = RowOutcome::failed(RowNumber(7), Step::Membership, error);
        writer.write(&failed, 9).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        assert_eq!(
            text,
            "record,row,line,state,step,error_code,error_message,http_status,request_id\n\
             1,7,9,failed,membership,invalid_role,\"'=the role, says the target\",422,req_1\n"
        );
    }

    #[test]
    fn reasons_lie_beside_the_rejects() {
        for (rejects, reasons) in [
            ("rejects.csv", "rejects.reasons.csv"),
            ("/a/b.c.csv", "/a/b.c.reasons.csv"),
            ("rejects", "rejects.reasons.csv"),
        ] {
            assert_eq!(path_beside(Path::new(rejects)), Path::new(reasons));
        }
    }
}
