//! What the next run of a job keeps of the last one unless it is told otherwise.

use super::error::Fault;
use super::series::has_table;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

/// Options of a run that stay with the job. Texts are those of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Only rows up to this one are worked on.
    pub limit: Option<u32>,
    /// `--rate`.
    pub rate: Option<String>,
    /// `--read-rate`.
    pub read_rate: Option<String>,
    /// `--total-rate`.
    pub total_rate: Option<String>,
    /// `--max-failures`.
    pub max_failures: Option<String>,
}

/// Reads them; a ledger from before there were any has none.
pub(super) fn read(conn: &Connection) -> Result<Settings, Fault> {
    if !has_table(conn, "settings")? {
        return Ok(Settings::default());
    }
    let text: Option<String> = conn
        .query_row("SELECT record FROM settings", [], |row| row.get(0))
        .optional()?;
    text.map_or_else(
        || Ok(Settings::default()),
        |text| {
            serde_json::from_str(&text)
                .map_err(|error| Fault::Stored(format!("the job's settings: {error}")))
        },
    )
}

pub(super) fn write(conn: &Connection, settings: &Settings) -> Result<(), Fault> {
    let text = serde_json::to_string(settings)
        .map_err(|error| Fault::Stored(format!("the job's settings: {error}")))?;
    conn.execute("INSERT OR REPLACE INTO settings VALUES (1, ?1)", [text])?;
    Ok(())
}
