//! What `recover` needs of this room: what the ruins of a ledger still say, and the step that puts
//! a new ledger in the place of one that cannot be trusted.
//!
//! # Owns
//! The names under which old files are kept, and the order in which they give way.
//! # Never
//! Writes to, or removes, a file of the old ledger: each keeps its bytes under another name. (The
//! library may renew the `-shm` index beside a log that it reads; it holds nothing of its own.)
//! # Invariants
//! I1: nothing that this job may have sent is taken for not sent. `t_lo` is therefore never later
//! than the first request of the job could be.

use super::error::{Fault, FolderError, LedgerError};
use super::folder::{JobFolder, sync_folder};
use super::schema;
use super::settings::{self, Settings};
use super::store::{LEDGER_FILE, Ledger, read_job};
use super::types::{JobRecord, NewJob};
use crate::model::ServerMs;
use rusqlite::Connection;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far our clock may have been from the target's when the job began, and what files and
/// folders may say too late: a wrong time zone (14 h) fits in it twice, almost.
pub const CLOCK_MARGIN_MS: i64 = 24 * 60 * 60 * 1000;

/// The new ledger while it is being made.
const NEW_FILE: &str = "ledger.sqlite.new";

/// What the library keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// More ledgers than this were never set aside in one folder.
const SET_ASIDE_MAX: u32 = 10_000;

/// What could still be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvage {
    /// What the job is, if that is whole.
    pub record: Option<JobRecord>,
    /// When rows were leased, by the target's clock, as far as it can be read. Empty unless the
    /// very first lease is among them: without it, earlier ones may be missing.
    pub leases: Vec<ServerMs>,
    /// What its next run would have kept, if that can be read.
    pub settings: Option<Settings>,
}

impl Salvage {
    /// Returns the earliest time, by the target's clock, at which this job can have sent anything.
    /// `trace_ms` is the oldest trace of the job on this disk, `now_ms` the present, both local.
    ///
    /// A time too late would take what this job made for somebody else's (`linked`, and with
    /// `--on-existing fail` falsely failed); a time too early takes what appeared just before the
    /// job for its own. The first must not happen, so where the leases cannot be read the time is
    /// that of the oldest trace less a day.
    pub fn t_lo(&self, trace_ms: Option<i64>, now_ms: i64) -> ServerMs {
        if let Some(before) = self.record.as_ref().and_then(|record| record.rebuilt_from) {
            return before;
        }
        let made_ms = self.record.as_ref().map(|record| record.created_ms);
        let local = [made_ms, trace_ms]
            .into_iter()
            .flatten()
            .fold(now_ms, i64::min);
        let floor = ServerMs(local.saturating_sub(CLOCK_MARGIN_MS));
        let ceiling = ServerMs(now_ms.saturating_add(CLOCK_MARGIN_MS));
        let possible = |at: &&ServerMs| (floor..=ceiling).contains(*at);
        let first = self.leases.iter().filter(possible).min();
        match (self.leases.first(), first) {
            // A first lease that cannot be true says nothing about the others either.
            (Some(lease), Some(first)) if possible(&lease) => *first,
            _ => floor,
        }
    }
}

/// Reads what the ledger in `folder` still says about the job of that name. Its lock is ours.
///
/// When an earlier attempt was cut short, the old ledger has another name already; then that one
/// is read, once its log has followed it.
pub fn salvage(folder: &JobFolder) -> Result<Salvage, FolderError> {
    reunite(folder)?;
    let path = folder.path();
    let older = (1..SET_ASIDE_MAX)
        .map(|number| path.join(set_aside_name(number)))
        .take_while(|path| fs::symlink_metadata(path).is_ok())
        .collect::<Vec<_>>();
    let candidates = std::iter::once(folder.ledger_path()).chain(older.into_iter().rev());
    let salvaged = candidates
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()))
        .map(|path| salvage_file(&path, folder.name()))
        .find(|salvage| salvage.record.is_some());
    Ok(salvaged.unwrap_or_default())
}

fn salvage_file(path: &Path, name: &str) -> Salvage {
    let Ok(conn) = schema::open_ruin(path) else {
        return Salvage::default();
    };
    let record = read_job(&conn).ok().map(|job| job.record);
    Salvage {
        record: record.filter(|record| is_whole(record, name)),
        leases: leases(&conn),
        settings: settings::read(&conn).ok(),
    }
}

/// Returns whether a record reads like one that was written, not like one that was overwritten.
fn is_whole(record: &JobRecord, name: &str) -> bool {
    let is_hash = record.source_hash.len() == 64
        && record
            .source_hash
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    record.name == name
        && is_hash
        // Stdin has no path.
        && (record.source.is_absolute() || record.source == Path::new("-"))
        && record.created_ms > 0
        && (1..=1000).contains(&record.options.chunk_size)
}

/// Reads leases until the first that cannot be read; the first of all, or none.
fn leases(conn: &Connection) -> Vec<ServerMs> {
    let mut leases = Vec::new();
    let mut read = || -> Result<(), Fault> {
        let mut statement = conn.prepare("SELECT id, at_ms FROM lease ORDER BY id")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let (id, at): (i64, i64) = (row.get(0)?, row.get(1)?);
            if leases.is_empty() && id != 1 {
                break;
            }
            leases.push(ServerMs(at));
        }
        Ok(())
    };
    if let Err(fault) = read() {
        tracing::debug!(
            ?fault,
            "leases of the old ledger can be read so far and no further"
        );
    }
    leases
}

/// Returns the oldest time that the job's folder and its files bear: local wall clock in
/// milliseconds. To be asked before the lock is taken, which writes to its file.
pub fn earliest_trace(folder: &JobFolder) -> Option<i64> {
    let files = fs::read_dir(folder.path()).into_iter().flatten().flatten();
    let paths = files.map(|entry| entry.path());
    std::iter::once(folder.path().to_owned())
        .chain(paths)
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .flat_map(|meta| [meta.created().ok(), meta.modified().ok()])
        .flatten()
        .map(wall_ms_of)
        // Some file systems say the epoch when they do not know.
        .filter(|ms| *ms > 0)
        .min()
}

fn wall_ms_of(time: SystemTime) -> i64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Makes the ledger of `job` beside the old one, gives the old files other names and puts the new
/// one in their place. The job's lock is ours. Returns what the old ledger is called now, if it
/// was there.
///
/// A crash leaves either the old ledger, or none and the old files under their new names: both are
/// refused by everything but `recover`. In no order of events does an old log meet a new ledger.
pub fn set_aside_and_replace(
    folder: &JobFolder,
    job: &NewJob,
) -> Result<Option<PathBuf>, ReplaceError> {
    reunite(folder)?;
    let new = folder.path().join(NEW_FILE);
    for path in std::iter::once(new.clone()).chain(companions(&new)) {
        remove_leftover(&path)?;
    }
    Ledger::create(&new, job)?;
    let kept = set_aside(folder)?;
    let path = folder.ledger_path();
    rename(&new, &path)?;
    sync_folder(folder.path())?;
    Ok(kept)
}

/// Why the new ledger is not in its place.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It could not be made.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Files could not be renamed.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

fn set_aside(folder: &JobFolder) -> Result<Option<PathBuf>, FolderError> {
    let old = folder.ledger_path();
    let has_ledger = is_there(&old);
    let beside: Vec<PathBuf> = companions(&old).filter(|path| is_there(path)).collect();
    if !has_ledger && beside.is_empty() {
        return Ok(None);
    }
    let name = free_name(folder.path())?;
    // The ledger first: without its log it would look sound and older than it is.
    if has_ledger {
        rename(&old, &name)?;
        sync_folder(folder.path())?;
    }
    rename_companions(&old, &name)?;
    sync_folder(folder.path())?;
    Ok(has_ledger.then_some(name))
}

/// Finishes the renaming that a crash cut short: a log whose ledger has its new name follows it.
/// That it was so, and the ledger is not merely gone, the unused new ledger tells.
fn reunite(folder: &JobFolder) -> Result<(), FolderError> {
    let old = folder.ledger_path();
    if is_there(&old) || !is_there(&folder.path().join(NEW_FILE)) {
        return Ok(());
    }
    let last = (1..SET_ASIDE_MAX)
        .map(|number| folder.path().join(set_aside_name(number)))
        .take_while(|name| is_there(name))
        .last();
    match last.filter(|name| !companions(name).any(|path| is_there(&path))) {
        Some(name) => rename_companions(&old, &name),
        None => Ok(()),
    }
}

fn rename_companions(old: &Path, name: &Path) -> Result<(), FolderError> {
    for (from, to) in companions(old).zip(companions(name)) {
        if is_there(&from) {
            rename(&from, &to)?;
        }
    }
    Ok(())
}

/// Returns the first name under which nothing is kept: the files of one ledger stay together.
fn free_name(folder: &Path) -> Result<PathBuf, FolderError> {
    (1..SET_ASIDE_MAX)
        .map(|number| folder.join(set_aside_name(number)))
        .find(|name| !is_there(name) && !companions(name).any(|path| is_there(&path)))
        .ok_or_else(|| {
            let error = io::Error::other("too many old ledgers are kept here");
            FolderError::io("renamed", &folder.join(LEDGER_FILE), error)
        })
}

fn set_aside_name(number: u32) -> String {
    format!("{LEDGER_FILE}.damaged-{number}")
}

fn companions(ledger: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let ledger = ledger.as_os_str().to_owned();
    COMPANIONS.iter().map(move |suffix| {
        let mut path = ledger.clone();
        path.push(suffix);
        PathBuf::from(path)
    })
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Renames within the folder, never over anything: the caller made sure, and the lock is ours.
fn rename(from: &Path, to: &Path) -> Result<(), FolderError> {
    fs::rename(from, to).map_err(|error| FolderError::io("renamed", from, error))
}

fn remove_leftover(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FolderError::io("removed", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
