//! A full disk, a damaged file.

use super::*;
use std::fs;
use std::os::unix::fs::FileExt;

/// Lets the file grow by no more than a few pages.
fn fill_disk(ledger: &Ledger) {
    let conn = ledger.connection();
    let pages: i64 = conn
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    conn.pragma_update_and_check(None, "max_page_count", pages + 4, |row| {
        row.get::<_, i64>(0)
    })
    .unwrap();
}

#[test]
fn a_full_disk_loses_nothing_and_closes_the_connection() {
    let desk = Desk::new(&job(2000, 100));
    let mut ledger = desk.open();
    ledger
        .commit(&[lease(1, 0, 1), Change::settle(vec![created(1)])])
        .unwrap();
    fill_disk(&ledger);
    let many = || [Change::settle((2..=2000).map(created).collect::<Vec<_>>())];
    let error = ledger.commit(&many()).unwrap_err();
    assert!(matches!(error, LedgerError::Full { .. }), "{error}");
    for again in [
        ledger.commit(&[]).map(drop),
        ledger.checkpoint(),
        ledger.load().map(drop),
    ] {
        assert!(matches!(again, Err(LedgerError::Poisoned { .. })));
    }
    assert_eq!(ledger.totals().rows.created, 1);
    drop(ledger);

    let mut ledger = desk.open();
    ledger.verify_totals().unwrap();
    assert_eq!(ledger.totals().rows.created, 1);
    assert_eq!(
        ledger.load().unwrap().leases[&ChunkId(0)].suspects.len(),
        99
    );
    ledger.commit(&many()).unwrap();
    ledger.verify_totals().unwrap();
}

#[test]
fn a_closed_connection_does_not_even_write_when_it_is_dropped() {
    let desk = Desk::new(&job(2000, 100));
    let mut ledger = desk.open();
    ledger.commit(&[lease(1, 0, 1)]).unwrap();
    fill_disk(&ledger);
    ledger
        .commit(&[Change::settle((1..=2000).map(created).collect::<Vec<_>>())])
        .unwrap_err();
    let before = fs::read(&desk.path).unwrap();
    drop(ledger);
    assert_eq!(fs::read(&desk.path).unwrap(), before);
}

/// Overwrites the middle of the file, its first page spared.
fn damage(path: &Path) -> Vec<u8> {
    let length = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xA5; length - 4096], 4096).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let desk = Desk::new(&job(2000, 100));
    let mut ledger = desk.open();
    ledger
        .commit(&[Change::settle((1..=1500).map(created).collect::<Vec<_>>())])
        .unwrap();
    ledger.checkpoint().unwrap();
    drop(ledger);
    let bytes = damage(&desk.path);
    let error = Ledger::open(&desk.path).unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error}");
    let error = LedgerReader::open(&desk.path)
        .and_then(|reader| reader.summary())
        .unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&desk.path).unwrap(), bytes);
}

#[test]
fn a_value_that_is_none_of_ours_is_damage() {
    let desk = Desk::new(&job(10, 10));
    let mut ledger = desk.open();
    ledger.commit(&[Change::settle(vec![created(1)])]).unwrap();
    ledger
        .connection()
        .execute("UPDATE outcome SET state = 42", [])
        .unwrap();
    let error = ledger.verify_totals().unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt { .. }), "{error}");
}

#[test]
fn totals_that_disagree_with_rows_are_found() {
    for sabotage in [
        "UPDATE tally SET n = n + 1 WHERE name = 'rows.created'",
        "UPDATE tally SET n = 0 WHERE name = 'memberships.created'",
        "UPDATE chunk SET settled = 2",
        "DELETE FROM outcome WHERE row = 1",
        "INSERT INTO org (kind, key, id, origin) VALUES (1, 'a', 'org_1', 1)",
    ] {
        let desk = Desk::new(&job(10, 10));
        let mut ledger = desk.open();
        ledger.commit(&[Change::settle(vec![created(1)])]).unwrap();
        ledger.verify_totals().unwrap();
        ledger.connection().execute(sabotage, []).unwrap();
        let error = ledger.verify_totals().unwrap_err();
        assert!(
            matches!(error, LedgerError::Invariant { id: "I14", .. }),
            "{sabotage}: {error}"
        );
        drop(ledger);
        let error = Ledger::open(&desk.path).unwrap_err();
        assert!(error.is_damage(), "{sabotage}: {error}");
    }
}

#[test]
fn no_word_of_a_person_is_in_the_files() {
    // The only free words of an outcome are its error's, and those are cleaned by who makes them;
    // everything else is a number, a code or an id.
    let desk = Desk::new(&job(10, 10));
    let mut ledger = desk.open();
    let columns: Vec<String> = {
        let conn = ledger.connection();
        let sql = "SELECT m.name || '.' || c.name FROM sqlite_schema AS m,
                   pragma_table_info(m.name) AS c WHERE m.type = 'table'";
        let mut read = conn.prepare(sql).unwrap();
        read.query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    for word in ["email", "name", "password", "metadata", "secret", "api_key"] {
        let found: Vec<&String> = columns
            .iter()
            .filter(|column| column.ends_with(&format!(".{word}")))
            .collect();
        assert!(found.is_empty() || found == ["tally.name"], "{found:?}");
    }
    ledger.checkpoint().unwrap();
}
