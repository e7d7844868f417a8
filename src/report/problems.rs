//! `check`: what is wrong with a file, as text, as one JSON object, as a list of everything.

use super::results::{defused, io_error};
use super::words;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The severity of a repair.
const FIXED: &str = "fixed";

/// One problem with its place.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemLine {
    /// `error`, `warning` or `fixed`.
    pub severity: &'static str,
    /// The rule's stable id.
    pub rule: &'static str,
    /// The row; none for the header.
    pub row: Option<u32>,
    /// The physical line on which the record starts.
    pub line: u64,
    /// The column.
    pub column: String,
    /// The cell, shortened and escaped; none for secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub message: String,
    /// What may have been meant; of a repair, what the cell became.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// A rule that was broken.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemGroup {
    /// Its stable id.
    pub rule: &'static str,
    /// `error`, `warning` or `fixed`.
    pub severity: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// How often it was broken.
    pub count: u64,
    /// The first ones.
    pub examples: Vec<ProblemLine>,
}

/// What `check --json` prints. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct CheckSummary {
    /// The file.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Rows that an import would fail by the file alone.
    pub would_fail: u64,
    /// Problems that fail a row.
    pub errors: u64,
    /// Problems that do not.
    pub warnings: u64,
    /// Repairs made by `--fix`.
    pub fixed: u64,
    /// Sentences about the file as a whole.
    pub notes: Vec<String>,
    /// Problems by rule: errors first, the most frequent first.
    pub problems: Vec<ProblemGroup>,
    /// Seconds since the process began.
    pub elapsed_s: f64,
}

impl CheckSummary {
    /// Returns the last line for people.
    pub fn closing(&self) -> String {
        let parts = [
            (self.errors, "error"),
            (self.warnings, "warning"),
            (self.fixed, "repair"),
        ];
        let told: Vec<String> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, noun)| words::counted(*n, noun))
            .collect();
        let told = if told.is_empty() {
            "nothing to say".to_owned()
        } else {
            told.join(", ")
        };
        let rows = words::counted(self.rows, "row");
        let fails = match self.would_fail {
            0 => "none would fail".to_owned(),
            n => format!("{} would fail", words::count(n)),
        };
        format!("{}: {rows} checked, {fails} · {told}", self.file)
    }
}

/// Returns problems by rule for people; cells are shown only when `values` are wanted.
pub fn text(groups: &[ProblemGroup], values: bool) -> String {
    let mut out = String::new();
    for group in groups {
        let times = words::counted(group.count, "time");
        let ProblemGroup {
            rule,
            severity,
            title,
            ..
        } = group;
        let _infallible = writeln!(out, "{severity}[{rule}] {times}: {title}");
        for line in &group.examples {
            line.write(&mut out, values);
        }
        let more = group.count.saturating_sub(group.examples.len() as u64);
        if more > 0 {
            let _infallible = writeln!(out, "  and {} more", words::count(more));
        }
    }
    out
}

impl ProblemLine {
    fn write(&self, out: &mut String, values: bool) {
        let place = match self.row {
            Some(row) => format!("row {row}, line {}", self.line),
            None => format!("header, line {}", self.line),
        };
        let place = match self.column.as_str() {
            // About the row as a whole.
            "" => place,
            column => format!("{place}, {column}"),
        };
        let value = self.value.as_deref().filter(|_| values);
        let value = value.map_or_else(String::new, |value| format!(" \"{value}\""));
        let suggestion = self.suggestion.as_deref().filter(|_| values);
        let is_repair = self.severity == FIXED;
        let (became, meant) = match suggestion {
            Some(after) if is_repair => (format!(" → \"{after}\""), String::new()),
            Some(meant) => (String::new(), format!(" (did you mean {meant}?)")),
            None => <(String, String)>::default(),
        };
        let message = &self.message;
        let _infallible = writeln!(out, "  {place}{value}{became}: {message}{meant}");
    }
}

/// Writes every problem as it comes, as CSV or as JSON lines.
#[derive(Debug)]
pub enum ProblemsWriter<W: Write> {
    /// CSV with a header.
    Csv(Box<csv::Writer<W>>),
    /// JSON lines.
    Jsonl(W),
}

/// The columns of the CSV form. Stable: columns are added at the end, never renamed.
pub const COLUMNS: [&str; 8] = [
    "severity",
    "rule",
    "row",
    "line",
    "column",
    "value",
    "message",
    "suggestion",
];

impl<W: Write> ProblemsWriter<W> {
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

    /// Writes one problem.
    pub fn write(&mut self, line: &ProblemLine) -> io::Result<()> {
        match self {
            Self::Csv(writer) => {
                let row = line.row.map_or_else(String::new, |row| row.to_string());
                let number = line.line.to_string();
                let texts = [
                    line.severity,
                    line.rule,
                    &row,
                    &number,
                    &line.column,
                    line.value.as_deref().unwrap_or_default(),
                    &line.message,
                    line.suggestion.as_deref().unwrap_or_default(),
                ];
                writer.write_record(texts.map(defused)).map_err(io_error)
            }
            Self::Jsonl(out) => {
                serde_json::to_writer(&mut *out, line)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> ProblemLine {
        ProblemLine {
            severity: "warning",
            rule: "email_domain_typo",
            row: Some(7),
            line: 9,
            column: "email".to_owned(),
            value: Some("=amy@gmial.com".to_owned()),
            message: "one slip away".to_owned(),
            suggestion: Some("amy@gmail.com".to_owned()),
        }
    }

    #[test]
    fn people_see_groups_with_examples_and_how_many_more() {
        let group = ProblemGroup {
            rule: "email_domain_typo",
            severity: "warning",
            title: "a slip",
            count: 3000,
            examples: vec![line()],
        };
        assert_eq!(
            text(std::slice::from_ref(&group), true),
            "warning[email_domain_typo] 3,000 times: a slip\n  \
               row 7, line 9, email \"=amy@gmial.com\": one slip away (did you mean \
               amy@gmail.com?)\n  and 2,999 more\n"
        );
        assert!(!text(&[group], false).contains("amy"));
    }

    #[test]
    fn a_repair_shows_what_was_and_what_is() {
        let repair = ProblemLine {
            severity: FIXED,
            value: Some(" Ann ".to_owned()),
            suggestion: Some("Ann".to_owned()),
            ..line()
        };
        let mut out = String::new();
        repair.write(&mut out, true);
        assert_eq!(
            out,
            "  row 7, line 9, email \" Ann \" → \"Ann\": one slip away\n"
        );
    }

    #[test]
    fn the_list_has_every_field_and_no_formula() {
        let mut csv = ProblemsWriter::csv(Vec::new()).unwrap();
        csv.write(&line()).unwrap();
        assert_eq!(
            String::from_utf8(csv.finish().unwrap()).unwrap(),
            "severity,rule,row,line,column,value,message,suggestion\n\
             warning,email_domain_typo,7,9,email,'=amy@gmial.com,one slip away,amy@gmail.com\n"
        );
        let mut jsonl = ProblemsWriter::jsonl(Vec::new());
        jsonl.write(&line()).unwrap();
        let text = String::from_utf8(jsonl.finish().unwrap()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["row"], 7);
        assert_eq!(value["value"], "=amy@gmial.com");
    }
}
