//! The tables, their migrations, and the one door through which a database is opened.
//!
//! # Locking
//! One writer connection, held by the process that has the job lock. Readers open read-only.
//! # Compatibility
//! A file of a newer format, or of another program, is refused before anything is written to it.
//! Migrations are only ever appended.
//! # Durability
//! `WAL` and `synchronous = FULL`: a commit that returned is on the disk. A ledger that is being made
//! is nobody's yet: it is on the disk as a whole once [`sync`] returned.

use super::error::{Fault, LedgerError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `ufry`: what `file` and we know a ledger by.
pub(super) const APPLICATION_ID: i64 = 0x7566_7279;

/// How long another connection's lock is waited for. There should be none: one writer by design.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Every statement of the room stays prepared.
const STATEMENTS_CACHED: usize = 64;

/// The format's history: entry `n` takes a file from format `n` to `n + 1`. Append-only.
pub(super) const MIGRATIONS: &[&str] = &[FORMAT_1, FORMAT_2];

/// Hashes and row sets are opaque; codes are those of `codes.rs`; times are milliseconds since
/// the Unix epoch. No table holds an email, a name, a password, a key or a raw record.
const FORMAT_1: &str = "
-- What the job is. Exactly one row.
CREATE TABLE job (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    record TEXT NOT NULL,           -- JSON of JobRecord
    source BLOB NOT NULL,           -- path of the file, exact bytes
    hash_key INTEGER NOT NULL,      -- key of the keyed hashes
    rows INTEGER NOT NULL,          -- rows of the file
    generation INTEGER NOT NULL     -- 1, and one more with every retry
) STRICT;

-- Processes that worked on the job.
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    start_time INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,    -- local wall clock, for showing
    ended_ms INTEGER,
    snapshot TEXT                   -- JSON of RunSnapshot
) STRICT;

CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    first_row INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    hash BLOB NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0 CHECK (settled BETWEEN 0 AND rows)
) STRICT;

-- Intents to send requests for rows. Never deleted.
CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    chunk INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    run INTEGER,
    worker INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,         -- the target's clock
    rows BLOB                       -- bit n: the chunk's row n; NULL: every row of it
) STRICT;
CREATE INDEX lease_by_chunk ON lease (chunk);

-- What became of rows. A row without an entry is pending.
CREATE TABLE outcome (
    row INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    step INTEGER,
    user_id TEXT,
    user_origin INTEGER,
    org INTEGER,                    -- org_id.code
    membership INTEGER,
    membership_id TEXT,
    membership_repeat INTEGER,
    attempts INTEGER NOT NULL,
    code TEXT,
    message TEXT,
    http_status INTEGER,
    request_id TEXT
) STRICT;

-- Outcomes that a retry set aside, with the generation that they ended.
CREATE TABLE outcome_history (
    generation INTEGER NOT NULL,
    row INTEGER NOT NULL,
    state INTEGER NOT NULL,
    step INTEGER,
    user_id TEXT,
    user_origin INTEGER,
    org INTEGER,
    membership INTEGER,
    membership_id TEXT,
    membership_repeat INTEGER,
    attempts INTEGER NOT NULL,
    code TEXT,
    message TEXT,
    http_status INTEGER,
    request_id TEXT,
    PRIMARY KEY (row, generation)
) STRICT, WITHOUT ROWID;

-- What a retry knows of rows that it opened again. Counts only while the row is pending.
CREATE TABLE carry (
    row INTEGER PRIMARY KEY,
    user_id TEXT,
    user_origin INTEGER,
    suspect INTEGER NOT NULL
) STRICT;

-- Rows that repeat a lower row's email.
CREATE TABLE follower (
    row INTEGER PRIMARY KEY,
    leader INTEGER NOT NULL,
    previous_pair INTEGER
) STRICT;
CREATE INDEX follower_by_leader ON follower (leader, row);

-- Organizations: an intent, a state, or both. Write-once within a generation.
CREATE TABLE org (
    kind INTEGER NOT NULL,          -- 0: the target's id, 1: the source system's
    key TEXT NOT NULL,
    intent_ms INTEGER,              -- the target's clock
    id TEXT,                        -- ready
    origin INTEGER,                 -- ready
    code TEXT,                      -- failed
    message TEXT,
    http_status INTEGER,
    parked INTEGER,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- The target's organization ids, so that a row needs a small number only.
CREATE TABLE org_id (
    code INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;

-- The lowest row that names an organization, by keyed hash of the organization.
CREATE TABLE org_name (
    row INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL
) STRICT;

-- Totals over the job, changed in the transaction that changes what they count.
CREATE TABLE tally (
    name TEXT PRIMARY KEY,
    n INTEGER NOT NULL CHECK (n >= 0)
) STRICT, WITHOUT ROWID;
";

/// How runs went over time, and what the next run keeps of the last.
const FORMAT_2: &str = "
-- Counters of a run at the end of an interval that begins `at_s` seconds after the process did;
-- at most 600 a run.
CREATE TABLE sample (
    run INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    writes INTEGER NOT NULL,
    reads INTEGER NOT NULL,
    throttled INTEGER NOT NULL,
    p50_ms REAL NOT NULL,
    p99_ms REAL NOT NULL,
    PRIMARY KEY (run, at_s)
) STRICT, WITHOUT ROWID;

-- Options that stay with the job from run to run, as JSON of Settings. At most one row.
CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    record TEXT NOT NULL
) STRICT;
";

/// Makes the file 0600 and the tables in it; refuses to touch a file that is there. What this
/// connection commits may be lost with the power until the file is closed and [`sync`]ed.
pub(super) fn create(path: &Path) -> Result<Connection, LedgerError> {
    create_with(path, prepare_new)
}

/// The same for a ledger that is thrown away.
pub(super) fn create_rehearsal(path: &Path) -> Result<Connection, LedgerError> {
    create_with(path, prepare_rehearsal)
}

/// Puts a file that was made and closed on the disk.
pub(super) fn sync(path: &Path) -> Result<(), LedgerError> {
    let file = File::open(path).and_then(|file| file.sync_all());
    file.map_err(|error| io_error(path, &error))
}

fn create_with(
    path: &Path,
    prepare: fn(&Connection) -> Result<(), Fault>,
) -> Result<Connection, LedgerError> {
    let path = &resolved(path)?;
    match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(LedgerError::Exists { path: path.clone() });
        }
        Err(error) => return Err(io_error(path, &error)),
    }
    let connect = || -> Result<Connection, Fault> {
        let mut conn = Connection::open_with_flags(path, flags(true))?;
        prepare(&conn)?;
        migrate(&mut conn, MIGRATIONS)?;
        Ok(conn)
    };
    connect().map_err(|fault| fault.at(path))
}

/// Opens a ledger for writing, older formats brought up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, LedgerError> {
    let path = &resolved(path)?;
    check_header(path)?;
    let mut conn = Connection::open_with_flags(path, flags(true))
        .map_err(|error| Fault::from(error).at(path))?;
    check_format(&conn, path)?;
    let mut ready = || -> Result<(), Fault> {
        prepare(&conn)?;
        if migrate(&mut conn, MIGRATIONS)? {
            // The header says the new format from now on, also to a reader that sees no log.
            checkpoint(&conn)?;
        }
        Ok(())
    };
    ready().map_err(|fault| fault.at(path))?;
    Ok(conn)
}

/// Opens a ledger for reading only; works while a writer is at work.
pub(super) fn open_reader(path: &Path) -> Result<Connection, LedgerError> {
    // Migrations only added tables so far: what an older format lacks reads as empty.
    Ok(open_any_format(path)?.0)
}

/// Opens a ledger of this or an older format for reading only; returns the format too.
pub(super) fn open_any_format(path: &Path) -> Result<(Connection, i64), LedgerError> {
    let path = &resolved(path)?;
    check_header(path)?;
    let conn = connect_read_only(path).map_err(|fault| fault.at(path))?;
    let found = check_format(&conn, path)?;
    Ok((conn, found))
}

/// Opens what may be the ruins of a ledger, for reading only: its format is not asked.
pub(super) fn open_ruin(path: &Path) -> Result<Connection, LedgerError> {
    let path = &resolved(path)?;
    let open = || -> Result<Connection, Fault> {
        let conn = connect_read_only(path)?;
        // Makes the library read what is left of a file that was cut short; nothing can be
        // written through this connection either way.
        set(&conn, "writable_schema", 1)?;
        Ok(conn)
    };
    open().map_err(|fault| fault.at(path))
}

fn connect_read_only(path: &Path) -> Result<Connection, Fault> {
    let conn = Connection::open_with_flags(path, flags(false))?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    keep_statements(&conn)?;
    set(&conn, "trusted_schema", 0)?;
    set(&conn, "mmap_size", 0)?;
    set(&conn, "query_only", 1)?;
    Ok(conn)
}

/// Has every statement prepared once. With the statistics that the library is built with, it would
/// otherwise plan a look-up anew whenever it is for another row, at ten times the cost of the
/// look-up (`SQLITE_DBCONFIG_ENABLE_QPSG`).
fn keep_statements(conn: &Connection) -> Result<(), Fault> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Compares the tables of a database with those that its format has: a definition that was
/// overwritten would make everything read through it mean something else.
pub(super) fn check_definitions(conn: &Connection, format: i64) -> Result<(), Fault> {
    let mut fresh = Connection::open_in_memory()?;
    let known = usize::try_from(format)
        .ok()
        .and_then(|format| MIGRATIONS.get(..format))
        .unwrap_or(MIGRATIONS);
    migrate(&mut fresh, known)?;
    if definitions(conn)? == definitions(&fresh)? {
        Ok(())
    } else {
        Err(Fault::Stored(format!(
            "its tables are not those of format {format}"
        )))
    }
}

fn definitions(conn: &Connection) -> Result<Vec<(String, String, Option<String>)>, Fault> {
    let mut read = conn.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?;
    let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Moves the write-ahead log into the file and empties it.
pub(super) fn checkpoint(conn: &Connection) -> Result<(), Fault> {
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    // A reader of the moment is no error: the log stays and the next opener finds it.
    tracing::trace!(busy, "ledger checkpoint");
    Ok(())
}

fn flags(write: bool) -> OpenFlags {
    let access = if write {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

/// Returns the path with links in its folders resolved: `NOFOLLOW` would refuse those too, and
/// only the file itself must not be one.
fn resolved(path: &Path) -> Result<PathBuf, LedgerError> {
    let missing = || LedgerError::Missing {
        path: path.to_owned(),
    };
    let name = path.file_name().ok_or_else(missing)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            missing()
        } else {
            io_error(path, &error)
        }
    })?;
    Ok(folder.join(name))
}

fn io_error(path: &Path, error: &std::io::Error) -> LedgerError {
    let path = path.to_owned();
    match error.kind() {
        std::io::ErrorKind::NotFound => LedgerError::Missing { path },
        std::io::ErrorKind::StorageFull => LedgerError::Full { path },
        _ => LedgerError::Io {
            path,
            detail: error.to_string(),
        },
    }
}

/// Reads the file's own first 100 bytes: `SQLite` itself would create files beside it, and might
/// replay a log into it, before it could tell us that it is not ours.
fn check_header(path: &Path) -> Result<(), LedgerError> {
    let meta = fs::symlink_metadata(path).map_err(|error| io_error(path, &error))?;
    let not_ours = |detail: &str| LedgerError::NotALedger {
        path: path.to_owned(),
        detail: detail.to_owned(),
    };
    if !meta.is_file() {
        return Err(not_ours("it is not a regular file"));
    }
    let mut header = [0_u8; 100];
    let mut file = File::open(path).map_err(|error| io_error(path, &error))?;
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(not_ours("it is too short"));
        }
        Err(error) => return Err(io_error(path, &error)),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(not_ours("it is not an SQLite database"));
    }
    judge_format(path, be32(&header, 68), be32(&header, 60))
}

fn be32(header: &[u8; 100], at: usize) -> i64 {
    let bytes = header
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, |bytes| i64::from(i32::from_be_bytes(bytes)))
}

/// Asks the database, whose log may be newer than the file's header.
fn check_format(conn: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let ask = |name| get(conn, name).map_err(|fault| fault.at(path));
    let found = ask("user_version")?;
    judge_format(path, ask("application_id")?, found)?;
    Ok(found)
}

fn judge_format(path: &Path, application: i64, found: i64) -> Result<(), LedgerError> {
    let path = path.to_owned();
    if application != APPLICATION_ID {
        let detail = "another program made this database".to_owned();
        return Err(LedgerError::NotALedger { path, detail });
    }
    let known = format_known();
    if found > known {
        return Err(LedgerError::Newer { path, found, known });
    }
    if found < 1 {
        let detail = format!("its format {found} never existed");
        return Err(LedgerError::NotALedger { path, detail });
    }
    Ok(())
}

pub(super) fn format_known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Sets what the writer of a job needs, and reads each back: a pragma that is not understood is
/// silent.
fn prepare(conn: &Connection) -> Result<(), Fault> {
    prepare_log(conn)?;
    // `FULL`.
    set(conn, "synchronous", 2)?;
    prepare_any(conn)
}

/// Sets what the maker of a ledger needs: a file that a crash left unfinished is thrown away, so
/// nothing in it has to be on the disk before all of it is.
fn prepare_new(conn: &Connection) -> Result<(), Fault> {
    set(conn, "synchronous", 0)?;
    prepare_log(conn)?;
    prepare_any(conn)
}

fn prepare_log(conn: &Connection) -> Result<(), Fault> {
    // The switch itself may have to wait.
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // Stepped to its end: a fresh file answers `wal` first and commits the change afterwards, and
    // a disk that fails then must be heard.
    let mode: String = conn.query_one("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Invariant(
            "I1",
            format!("journal_mode is `{mode}`, not wal"),
        ));
    }
    Ok(())
}

/// Sets what a writer needs whose file is thrown away: a commit is all or nothing still, but it is in
/// no hurry to the disk, and no other connection is expected.
fn prepare_rehearsal(conn: &Connection) -> Result<(), Fault> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String = conn.query_one("PRAGMA journal_mode = MEMORY", [], |row| row.get(0))?;
    if mode != "memory" {
        return Err(Fault::Invariant(
            "I14",
            format!("journal_mode is `{mode}`, not memory"),
        ));
    }
    conn.query_one("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    set(conn, "synchronous", 0)?;
    // Fewer and larger writes; a page that is half written harms nobody here.
    set(conn, "page_size", REHEARSAL_PAGE_BYTES)?;
    prepare_any(conn)
}

fn prepare_any(conn: &Connection) -> Result<(), Fault> {
    keep_statements(conn)?;
    for (name, value) in PRAGMAS {
        set(conn, name, *value)?;
    }
    let timeout = get(conn, "busy_timeout")?;
    if u128::try_from(timeout) != Ok(BUSY_TIMEOUT.as_millis()) {
        return Err(Fault::Invariant("I1", format!("busy_timeout is {timeout}")));
    }
    Ok(())
}

/// The page of a ledger that is thrown away.
const REHEARSAL_PAGE_BYTES: i64 = 16 << 10;

/// Numeric pragmas of a writer. `temp_store` 2 is memory.
const PRAGMAS: &[(&str, i64)] = &[
    ("mmap_size", 0),
    ("trusted_schema", 0),
    ("foreign_keys", 1),
    ("temp_store", 2),
];

fn set(conn: &Connection, name: &str, value: i64) -> Result<(), Fault> {
    conn.pragma_update(None, name, value)?;
    let found = get(conn, name)?;
    if found == value {
        Ok(())
    } else {
        Err(Fault::Invariant(
            "I1",
            format!("{name} is {found}, not {value}"),
        ))
    }
}

fn get(conn: &Connection, name: &str) -> Result<i64, Fault> {
    Ok(conn.pragma_query_value(None, name, |row| row.get(0))?)
}

/// Brings a database to the last format of `migrations` in one transaction; returns whether
/// anything was to do.
fn migrate(conn: &mut Connection, migrations: &[&str]) -> Result<bool, Fault> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = usize::try_from(get(&tx, "user_version")?).unwrap_or(usize::MAX);
    let Some(missing) = migrations
        .get(found..)
        .filter(|missing| !missing.is_empty())
    else {
        return Ok(false);
    };
    for migration in missing {
        tx.execute_batch(&without_comments(migration))?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(
        None,
        "user_version",
        i64::try_from(migrations.len()).unwrap_or(i64::MAX),
    )?;
    tx.commit()?;
    Ok(true)
}

/// The database keeps the text of its tables. Without comments it fits into the first page, and
/// what is left of a file that was cut short can still be read.
fn without_comments(sql: &str) -> String {
    let lines = sql
        .lines()
        .filter_map(|line| line.split("--").next())
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_described_on_the_first_page() {
        let dir = tempfile::tempdir().unwrap();
        let conn = create(&dir.path().join("ledger.sqlite")).unwrap();
        let pages: i64 = conn
            .query_row("SELECT count(*) FROM pragma_page_size JOIN (SELECT sum(length(sql) + length(name) + length(tbl_name) + 20) AS bytes FROM sqlite_schema) WHERE bytes > page_size", [], |row| row.get(0))
            .unwrap();
        assert_eq!(pages, 0, "the schema needs more than a page");
    }

    use std::os::unix::fs::PermissionsExt;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        drop(create(&path).unwrap());
        (folder, path)
    }

    #[test]
    fn what_was_set_is_what_is() {
        let (_folder, path) = fresh();
        let conn = open_writer(&path).unwrap();
        let text = |name: &str| -> String {
            conn.pragma_query_value(None, name, |row| row.get(0))
                .unwrap()
        };
        assert_eq!(text("journal_mode"), "wal");
        assert_eq!(get(&conn, "synchronous").unwrap(), 2);
        for (name, value) in PRAGMAS {
            assert_eq!(get(&conn, name).unwrap(), *value, "{name}");
        }
        assert_eq!(get(&conn, "busy_timeout").unwrap(), 5000);
        assert_eq!(get(&conn, "application_id").unwrap(), APPLICATION_ID);
        assert_eq!(get(&conn, "user_version").unwrap(), format_known());
    }

    /// The switch to `WAL` is a transaction of its own in a fresh file. `SQLite` answers before it
    /// commits it.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "this file is the door")]
    fn a_switch_of_the_journal_that_is_not_committed_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut conn = Connection::open(folder.path().join("ledger")).unwrap();
        conn.commit_hook(Some(|| true)).unwrap();
        assert!(matches!(prepare(&conn), Err(Fault::Sqlite(_))));
        conn.commit_hook(None::<fn() -> bool>).unwrap();
        prepare(&conn).unwrap();
    }

    #[test]
    fn every_file_is_private_whatever_the_umask() {
        let (folder, path) = fresh();
        let conn = open_writer(&path).unwrap();
        conn.execute("INSERT INTO org_name VALUES (1, 1)", [])
            .unwrap();
        let mut files = 0;
        for entry in fs::read_dir(folder.path()).unwrap() {
            let meta = entry.unwrap().metadata().unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            files += 1;
        }
        assert_eq!(files, 3, "the ledger, its log, its shared memory");
    }

    #[test]
    fn the_library_has_no_known_log_bug() {
        assert!(
            rusqlite::version_number() >= 3_051_003,
            "{}",
            rusqlite::version()
        );
    }

    #[test]
    fn a_ledger_is_never_made_over_another() {
        let (_folder, path) = fresh();
        assert!(matches!(create(&path), Err(LedgerError::Exists { .. })));
    }

    /// Formats on disks cannot be edited: if this fails, append a migration instead.
    #[test]
    fn the_history_of_the_format_is_only_appended_to() {
        let known = ["c825ac7383b3d7e8", "92c059b2f93577a4"];
        for (migration, hash) in MIGRATIONS.iter().zip(known) {
            assert_eq!(blake3::hash(migration.as_bytes()).to_hex()[..16], *hash);
        }
        assert_eq!(MIGRATIONS.len(), known.len());
    }

    #[test]
    fn an_older_file_is_migrated_once_and_keeps_its_rows() {
        let (_folder, path) = fresh();
        let mut conn = open_writer(&path).unwrap();
        conn.execute("INSERT INTO org_name VALUES (7, 70)", [])
            .unwrap();
        let next = [
            FORMAT_1,
            FORMAT_2,
            "ALTER TABLE org_name ADD COLUMN extra INTEGER;",
        ];
        assert!(migrate(&mut conn, &next).unwrap());
        assert!(!migrate(&mut conn, &next).unwrap());
        let kept: (i64, i64, Option<i64>) = conn
            .query_row("SELECT * FROM org_name", [], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?))
            })
            .unwrap();
        assert_eq!(kept, (7, 70, None));
        assert_eq!(get(&conn, "user_version").unwrap(), 3);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_file_as_it_was() {
        let (_folder, path) = fresh();
        let mut conn = open_writer(&path).unwrap();
        let broken = [
            FORMAT_1,
            FORMAT_2,
            "CREATE TABLE half (a INTEGER) STRICT; CREATE NONSENSE;",
        ];
        assert!(migrate(&mut conn, &broken).is_err());
        assert_eq!(get(&conn, "user_version").unwrap(), 2);
        assert!(conn.prepare("SELECT a FROM half").is_err());
    }

    /// Opens `path` both ways; returns the refusal, having checked that no byte changed and no
    /// file appeared.
    fn refusal(path: &Path) -> LedgerError {
        let bytes = fs::read(path).unwrap();
        let names = || fs::read_dir(path.parent().unwrap()).unwrap().count();
        let before = names();
        let error = open_writer(path).unwrap_err();
        assert_eq!(
            error.to_string(),
            open_reader(path).unwrap_err().to_string()
        );
        assert_eq!(fs::read(path).unwrap(), bytes);
        assert_eq!(names(), before);
        error
    }

    #[test]
    fn a_newer_format_is_refused_untouched() {
        let (_folder, path) = fresh();
        let conn = open_writer(&path).unwrap();
        conn.pragma_update(None, "user_version", 9).unwrap();
        drop(conn);
        let error = refusal(&path);
        assert!(
            matches!(error, LedgerError::Newer { found: 9, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_newer_format_still_in_the_log_is_refused() {
        let (_folder, path) = fresh();
        let writer = open_writer(&path).unwrap();
        writer.pragma_update(None, "user_version", 9).unwrap();
        let error = open_writer(&path).unwrap_err();
        assert!(
            matches!(error, LedgerError::Newer { found: 9, .. }),
            "{error}"
        );
    }

    #[test]
    fn files_of_others_are_refused_untouched() {
        let (folder, path) = fresh();
        let conn = open_writer(&path).unwrap();
        conn.pragma_update(None, "application_id", 5).unwrap();
        drop(conn);
        assert!(matches!(refusal(&path), LedgerError::NotALedger { .. }));
        let text = folder.path().join("text");
        fs::write(&text, "email,first_name\n".repeat(20)).unwrap();
        assert!(matches!(refusal(&text), LedgerError::NotALedger { .. }));
        fs::write(&text, "").unwrap();
        assert!(matches!(refusal(&text), LedgerError::NotALedger { .. }));
    }

    #[test]
    fn no_file_and_no_link_is_opened() {
        let (folder, path) = fresh();
        let gone = folder.path().join("gone");
        assert!(matches!(
            open_writer(&gone),
            Err(LedgerError::Missing { .. })
        ));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(
            open_writer(&link),
            Err(LedgerError::NotALedger { .. })
        ));
    }
}
