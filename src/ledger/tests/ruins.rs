//! Ledgers that were overwritten, cut short, or lost: refused without a write, and rebuilt.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::sync::LazyLock;

/// The bytes of a ledger at work: the file, and its log with commits that are not in the file yet.
#[derive(Clone)]
struct Original {
    ledger: Vec<u8>,
    log: Vec<u8>,
}

fn original() -> Original {
    static MADE: LazyLock<Original> = LazyLock::new(make_original);
    MADE.clone()
}

fn make_original() -> Original {
    let desk = Desk::new(&NewJob {
        record: record(),
        followers: vec![follower(30, 2, None), follower(31, 2, Some(30))],
        org_names: vec![(7, RowNumber(1)), (9, RowNumber(4))],
        ..job(200, 20)
    });
    let mut ledger = desk.open();
    ledger.begin_run(&Holder::current()).unwrap();
    ledger.commit(&[lease(1, 0, 1), lease(2, 1, 2)]).unwrap();
    let settled: Vec<_> = (1..=25).map(created).collect();
    ledger.commit(&[Change::settle(settled)]).unwrap();
    ledger.checkpoint().unwrap();
    let key = crate::model::OrgKey::External("acme".into());
    let at = ServerMs(5);
    ledger
        .commit(&[lease(3, 2, 3), Change::OrgIntent { key, at }])
        .unwrap();
    let settled = vec![failed(26, Step::User, "x"), parked(27, "y")];
    ledger.commit(&[Change::settle(settled)]).unwrap();
    let mut log = desk.path.clone().into_os_string();
    log.push("-wal");
    Original {
        ledger: fs::read(&desk.path).unwrap(),
        log: fs::read(log).unwrap(),
    }
}

/// A ledger and its log in a folder that vanishes with it.
struct Ruin {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Ruin {
    fn new(ledger: &[u8], log: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(store::LEDGER_FILE);
        fs::write(&path, ledger).unwrap();
        let ruin = Self {
            _folder: folder,
            path,
        };
        fs::write(ruin.log(), log).unwrap();
        ruin
    }

    fn log(&self) -> PathBuf {
        self.path.with_file_name("ledger.sqlite-wal")
    }

    /// Opens it: sound with totals that agree, or refused as damaged with every byte as it was.
    fn judge(&self, ledger: &[u8], log: &[u8]) -> Result<bool, TestCaseError> {
        let is_as_it_was = || {
            fs::read(&self.path).unwrap() == ledger
                && fs::read(self.log()).unwrap_or_default() == log
        };
        let looked = LedgerReader::check(&self.path);
        prop_assert!(is_as_it_was(), "looking wrote");
        match Ledger::open(&self.path) {
            Ok(mut ledger) => {
                prop_assert!(looked.is_ok(), "{looked:?}");
                prop_assert!(ledger.verify_totals().is_ok());
                prop_assert!(ledger.load().is_ok());
                prop_assert!(ledger.record().is_ok());
                Ok(true)
            }
            Err(error) => {
                prop_assert!(is_as_it_was(), "refusing wrote: {error}");
                prop_assert!(error.is_damage(), "{error:?}");
                prop_assert!(looked.is_err_and(|found| found.to_string() == error.to_string()));
                Ok(false)
            }
        }
    }
}

/// What happens to the bytes.
#[derive(Clone, Debug)]
enum Blow {
    Flip(usize, u8),
    Overwrite(usize, Vec<u8>),
    Cut(usize),
}

fn blow() -> impl Strategy<Value = Blow> {
    // Every other blow falls on the first page: header, schema, root.
    let place = || prop_oneof![0..4096_usize, 0..usize::MAX];
    prop_oneof![
        (place(), 1..=255_u8).prop_map(|(at, bits)| Blow::Flip(at, bits)),
        (place(), proptest::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, bytes)| Blow::Overwrite(at, bytes)),
        place().prop_map(Blow::Cut),
    ]
}

fn strike(bytes: &mut Vec<u8>, blow: &Blow) {
    let length = bytes.len().max(1);
    match blow {
        Blow::Flip(at, bits) => {
            if let Some(byte) = bytes.get_mut(at % length) {
                *byte ^= bits;
            }
        }
        Blow::Overwrite(at, new) => {
            let from = at % length;
            for (byte, new) in bytes.iter_mut().skip(from).zip(new) {
                *byte = *new;
            }
        }
        Blow::Cut(at) => bytes.truncate(at % length),
    }
}

proptest! {
    #[test]
    fn a_ledger_struck_anywhere_opens_sound_or_is_refused_untouched(
        blows in proptest::collection::vec((any::<bool>(), blow()), 1..4),
    ) {
        let Original { mut ledger, mut log } = original();
        for (on_log, blow) in &blows {
            strike(if *on_log { &mut log } else { &mut ledger }, blow);
        }
        Ruin::new(&ledger, &log).judge(&ledger, &log)?;
    }
}

/// Found by fuzzing: what then reads as a record of over a gigabyte was told as a broken disk.
#[test]
fn a_page_that_claims_a_giant_record_is_damage() {
    let Original { mut ledger, log } = original();
    let giant = vec![0, 0, 136, 128, 128, 128, 65, 0, 7, 135, 186, 128, 128];
    strike(&mut ledger, &Blow::Overwrite(1001, giant));
    let ruin = Ruin::new(&ledger, &log);
    assert!(!ruin.judge(&ledger, &log).unwrap());
}

#[test]
fn a_copy_that_nobody_struck_is_sound() {
    let Original { ledger, log } = original();
    assert!(!log.is_empty());
    let ruin = Ruin::new(&ledger, &log);
    assert!(ruin.judge(&ledger, &log).unwrap());
    let found = Ledger::open(&ruin.path).unwrap().totals().rows;
    assert_eq!((found.created, found.failed, found.parked), (25, 1, 1));
}

#[test]
fn what_a_page_check_cannot_see_is_found() {
    for sabotage in [
        "UPDATE outcome SET user_origin = 9 WHERE row = 3",
        "UPDATE outcome SET row = 5000 WHERE row = 3",
        "UPDATE chunk SET rows = rows + 1 WHERE id = 4",
        "UPDATE chunk SET hash = x'00'",
        "UPDATE job SET record = '{}'",
        "DELETE FROM job",
        "UPDATE run SET snapshot = NULL; CREATE TABLE extra (a)",
        "CREATE TRIGGER t AFTER INSERT ON lease BEGIN DELETE FROM outcome; END",
        "DROP INDEX lease_by_chunk",
    ] {
        let Original { ledger, log } = original();
        let ruin = Ruin::new(&ledger, &log);
        let open = Ledger::open(&ruin.path).unwrap();
        open.connection().execute_batch(sabotage).unwrap();
        drop(open);
        let (ledger, log) = (fs::read(&ruin.path).unwrap(), Vec::new());
        assert!(!ruin.judge(&ledger, &log).unwrap(), "{sabotage}");
    }
}

fn folder_of(ledger: Option<&Path>) -> (tempfile::TempDir, JobFolder, JobLock) {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::open(dir.path()).unwrap();
    let new = checkpoints.begin_job().unwrap();
    if let Some(ledger) = ledger {
        fs::copy(ledger, new.ledger_path()).unwrap();
    }
    let (folder, lock) = new.publish("users-1f3a9c").unwrap();
    (dir, folder, lock)
}

/// A record as a real job has it.
fn whole_record() -> JobRecord {
    JobRecord {
        source_hash: "ab".repeat(32),
        ..record()
    }
}

fn names(folder: &JobFolder) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_ledger_doubts_every_row_and_keeps_the_old_files() {
    let (_dir, folder, _lock) = folder_of(None);
    fs::write(folder.ledger_path(), "no ledger").unwrap();
    fs::write(folder.path().join("ledger.sqlite-wal"), "its log").unwrap();
    // Left behind by an attempt that was cut short.
    fs::write(folder.path().join("ledger.sqlite.new"), "half").unwrap();
    let since = ServerMs(77);
    let new = NewJob {
        record: JobRecord {
            rebuilt_from: Some(since),
            ..whole_record()
        },
        conflicts: vec![ExternalIdConflict {
            row: RowNumber(7),
            winner: RowNumber(3),
        }],
        followers: vec![follower(5, 2, None)],
        ..job(25, 10)
    };
    let kept = set_aside_and_replace(&folder, &new).unwrap().unwrap();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "no ledger");
    let expected = [
        "job.lock",
        "ledger.sqlite",
        "ledger.sqlite.damaged-1",
        "ledger.sqlite.damaged-1-wal",
    ];
    assert_eq!(names(&folder), expected);
    let mut ledger = Ledger::open(&folder.ledger_path()).unwrap();
    let image = ledger.load().unwrap();
    assert_eq!(image.every_org_intent, Some(since));
    let suspects: Vec<u32> = image
        .leases
        .values()
        .flat_map(|lease| lease.suspects.iter().map(|row| row.0))
        .collect();
    let all_but_decided: Vec<u32> = (1..=25).filter(|row| *row != 7).collect();
    assert_eq!(suspects, all_but_decided, "followers too");
    assert!(image.leases.values().all(|lease| lease.t_lo == since));
    assert_eq!(image.last_lease, LeaseId(3));
    // A retry of what fails later keeps the doubt and its date.
    ledger
        .commit(&[Change::settle(vec![parked(1, "server_error")])])
        .unwrap();
    ledger.retry(&RetryPick::default()).unwrap();
    let image = ledger.load().unwrap();
    assert_eq!(
        image.carry.values().filter(|carry| carry.suspect).count(),
        24
    );
    assert_eq!(image.leases[&ChunkId(0)].t_lo, since);
    drop(ledger);
    // The same again: the next free number.
    let kept = set_aside_and_replace(&folder, &new).unwrap().unwrap();
    assert!(kept.ends_with("ledger.sqlite.damaged-2"));
}

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let good = Desk::new(&NewJob {
        record: whole_record(),
        ..job(10, 10)
    });
    let (_dir, folder, _lock) = folder_of(None);
    // The ledger was renamed and its log was not.
    let kept = folder.path().join("ledger.sqlite.damaged-1");
    fs::copy(&good.path, &kept).unwrap();
    fs::write(folder.path().join("ledger.sqlite-wal"), "its log").unwrap();
    fs::write(folder.path().join("ledger.sqlite.new"), "whole").unwrap();
    assert!(matches!(
        Ledger::open(&folder.ledger_path()),
        Err(LedgerError::Missing { .. })
    ));
    assert_eq!(salvage(&folder).unwrap().record, Some(whole_record()));
    let new = NewJob {
        record: whole_record(),
        ..job(10, 10)
    };
    assert_eq!(set_aside_and_replace(&folder, &new).unwrap(), None);
    let log = folder.path().join("ledger.sqlite.damaged-1-wal");
    assert_eq!(fs::read_to_string(log).unwrap(), "its log");
    assert!(Ledger::open(&folder.ledger_path()).is_ok());
    // The log of a ledger that somebody deleted belongs to none that is kept.
    fs::remove_file(folder.ledger_path()).unwrap();
    fs::write(folder.path().join("ledger.sqlite-wal"), "another log").unwrap();
    assert_eq!(set_aside_and_replace(&folder, &new).unwrap(), None);
    let log = folder.path().join("ledger.sqlite.damaged-2-wal");
    assert_eq!(fs::read_to_string(log).unwrap(), "another log");
}

#[test]
fn ruins_say_what_they_can() {
    let desk = Desk::new(&NewJob {
        record: whole_record(),
        ..job(2000, 100)
    });
    let mut ledger = desk.open();
    ledger
        .commit(&[lease(1, 0, 1_000), lease(2, 1, 1_500)])
        .unwrap();
    ledger
        .commit(&[Change::settle((1..=150).map(created).collect::<Vec<_>>())])
        .unwrap();
    drop(ledger);
    // Another program's number in the header: the rest is whole.
    let mut bytes = fs::read(&desk.path).unwrap();
    bytes[68] ^= 1;
    fs::write(&desk.path, &bytes).unwrap();
    let (_dir, folder, _lock) = folder_of(Some(&desk.path));
    assert!(LedgerReader::check(&folder.ledger_path()).is_err());
    let told = salvage(&folder).unwrap();
    assert_eq!(told.record, Some(whole_record()));
    assert_eq!(told.leases, [ServerMs(1_000), ServerMs(1_500)]);
    // Cut short, it still says what its first pages say.
    let bytes = fs::read(&desk.path).unwrap();
    fs::write(folder.ledger_path(), &bytes[..bytes.len() / 10 * 9 + 100]).unwrap();
    assert_eq!(salvage(&folder).unwrap().record, Some(whole_record()));
    // Another job's ledger in this folder, and no ledger at all, say nothing.
    let other = Desk::new(&NewJob {
        record: JobRecord {
            name: "other".into(),
            ..whole_record()
        },
        ..job(10, 10)
    });
    for bytes in [fs::read(&other.path).unwrap(), b"text".repeat(200)] {
        fs::write(folder.ledger_path(), bytes).unwrap();
        assert_eq!(salvage(&folder).unwrap(), Salvage::default());
    }
}

#[test]
fn the_earliest_time_is_never_later_than_the_first_request() {
    const DAY: i64 = rebuild::CLOCK_MARGIN_MS;
    let now = 100 * DAY;
    let with = |created_ms, rebuilt_from, leases: &[i64]| Salvage {
        record: Some(JobRecord {
            created_ms,
            rebuilt_from,
            ..whole_record()
        }),
        leases: leases.iter().copied().map(ServerMs).collect(),
        settings: None,
    };
    let made = 50 * DAY;
    let (trace, later) = (Some(made + 10), Some(now - 5));
    // Leases are exact: the first counts, and the lowest of all if the first was overwritten.
    let leases = [made + 100, made + 90, made + 500];
    assert_eq!(with(made, None, &leases).t_lo(trace, now).0, made + 90);
    // One that cannot be true, or none, leaves the oldest trace less a day.
    for leases in [&[][..], &[0, made + 90], &[now + 2 * DAY, made + 90]] {
        assert_eq!(with(made, None, leases).t_lo(trace, now).0, made - DAY);
    }
    // A folder that was copied says later than the record does.
    assert_eq!(with(made, None, &[]).t_lo(later, now).0, made - DAY);
    let unknown = Salvage::default();
    assert_eq!(unknown.t_lo(trace, now).0, made + 10 - DAY);
    assert_eq!(unknown.t_lo(None, now).0, now - DAY);
    assert_eq!(unknown.t_lo(Some(now + DAY), now).0, now - DAY);
    // A ledger that was rebuilt before knows it.
    let again = with(made, Some(ServerMs(42)), &[made]);
    assert_eq!(again.t_lo(trace, now).0, 42);
}

#[test]
fn a_trace_is_found_even_of_a_ledger_that_is_gone() {
    let (_dir, folder, _lock) = folder_of(None);
    let trace = earliest_trace(&folder).unwrap();
    assert!(trace <= crate::model::clock::wall_ms() + 1000);
    let old = folder.path().join("sandbox.log");
    let file = fs::File::create(old).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    file.set_modified(time).unwrap();
    assert_eq!(earliest_trace(&folder), Some(1_600_000_000_000));
}
