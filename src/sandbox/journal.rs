//! The log of applied writes: what a killed sandbox is rebuilt from.
//!
//! # Format
//! [`MAGIC`], then records: length (u32, little endian), CRC-32 of the body (u32), body. A body is
//! an encoded change; this module does not look into it.
//! # Durability
//! A record is handed to the kernel in one write before the request is answered, so it survives the
//! death of the process, not of the machine: there is no fsync.
//! # Locking
//! The file is locked exclusively for as long as the journal is open; a successor waits a little.

use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first bytes of the file; the digit is the version of the format.
const MAGIC: &[u8] = b"userferry sandbox log 1\n";

/// Bytes before each body.
const HEADER_BYTES: usize = 8;

/// Longest body: a request body of 1 MiB cannot make a longer record.
const BODY_BYTES_MAX: usize = 2 << 20;

/// How long a successor waits for the lock of a sandbox that is going away.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How often it looks.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} the sandbox log {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another sandbox holds the file.
    #[error(
        "another sandbox still uses the log {} after 5 s of waiting: stop it, or name another file with --state",
        .0.display()
    )]
    Held(PathBuf),
    /// The file is something else.
    #[error("{} is not a sandbox log of this version: name another file with --state", .0.display())]
    Foreign(PathBuf),
    /// A record in the middle of the file is damaged.
    #[error(
        "the sandbox log {} is damaged at byte {offset}: {why}; restore it, or remove it to start empty",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record starts.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// An open, locked log.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes of complete records, the magic included.
    length: u64,
    frame: Vec<u8>,
    /// Half a record could not be cut off: nothing may follow it.
    is_broken: bool,
}

impl Journal {
    /// Opens or creates the log, waits for its lock, and hands every record to `apply`. A torn last
    /// record is cut off: its request was never answered.
    pub async fn open(
        path: &Path,
        apply: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Self, JournalError> {
        let failed = |action| move |source| io_error(action, path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(failed("open"))?;
        if !file.metadata().map_err(failed("read"))?.is_file() {
            return Err(JournalError::Foreign(path.to_owned()));
        }
        lock(&file, path, LOCK_WAIT).await?;
        let scan = scan(BufReader::with_capacity(1 << 20, &file), apply);
        let length = match scan {
            Ok(length) => length,
            Err(ScanError::Io(source)) => return Err(io_error("read", path, source)),
            Err(ScanError::Foreign) => return Err(JournalError::Foreign(path.to_owned())),
            Err(ScanError::Damaged { offset, why }) => {
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    offset,
                    why,
                });
            }
        };
        file.set_len(length).map_err(failed("shorten"))?;
        file.seek(SeekFrom::End(0)).map_err(failed("read"))?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            length,
            frame: Vec::new(),
            is_broken: false,
        };
        if length == 0 {
            journal.write(MAGIC)?;
        }
        Ok(journal)
    }

    /// Appends one record. On an error nothing of it stays behind.
    pub fn append(&mut self, body: &[u8]) -> Result<(), JournalError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        encode(body, &mut frame);
        let written = self.write(&frame);
        self.frame = frame;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        if self.is_broken {
            let why = io::Error::other("an earlier write failed half-way");
            return Err(io_error("write", &self.path, why));
        }
        if let Err(source) = self.file.write_all(bytes) {
            // Half a record in the middle would be damage; at the end it is only torn.
            self.is_broken = self.file.set_len(self.length).is_err();
            return Err(io_error("write", &self.path, source));
        }
        self.length += u64::try_from(bytes.len()).unwrap_or_default();
        Ok(())
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

async fn lock(file: &File, path: &Path, wait: Duration) -> Result<(), JournalError> {
    let polls = wait.as_millis() / LOCK_POLL.as_millis();
    for _ in 0..=polls {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io_error("lock", path, errno.into())),
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
    Err(JournalError::Held(path.to_owned()))
}

fn encode(body: &[u8], frame: &mut Vec<u8>) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    frame.extend_from_slice(body);
}

#[derive(Debug)]
enum ScanError {
    Io(io::Error),
    Foreign,
    Damaged { offset: u64, why: String },
}

/// Reads all complete records and returns the bytes they and the magic take. A record that the end
/// of the file cuts off is left out; one that is wrong although it is whole is damage, unless it is
/// the last.
fn scan(
    mut reader: impl Read,
    mut apply: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<u64, ScanError> {
    let mut head = [0; MAGIC.len()];
    let got = fill(&mut reader, &mut head)?;
    if !MAGIC.starts_with(&head[..got]) {
        return Err(ScanError::Foreign);
    }
    if got < MAGIC.len() {
        return Ok(0);
    }
    let mut offset = u64::try_from(got).unwrap_or_default();
    let mut body = Vec::new();
    loop {
        let damaged = |why: String| ScanError::Damaged { offset, why };
        let mut header = [0; HEADER_BYTES];
        if fill(&mut reader, &mut header)? < HEADER_BYTES {
            return Ok(offset);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = header;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > BODY_BYTES_MAX {
            return Err(damaged(format!("a record of {length} bytes")));
        }
        body.resize(length, 0);
        if fill(&mut reader, &mut body)? < length {
            return Ok(offset);
        }
        if crc32fast::hash(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            let is_last = fill(&mut reader, &mut [0])? == 0;
            return if is_last {
                Ok(offset)
            } else {
                Err(damaged("the checksum is wrong".to_owned()))
            };
        }
        apply(&body).map_err(damaged)?;
        offset += u64::try_from(HEADER_BYTES + length).unwrap_or_default();
    }
}

/// Reads until `buffer` is full or the input ends, and returns how much there was.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ScanError> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ScanError::Io(error)),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log_of(bodies: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = MAGIC.to_vec();
        let mut ends = Vec::new();
        for body in bodies {
            encode(body, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), ScanError> {
        let mut seen = Vec::new();
        let length = scan(bytes, |body| {
            seen.push(body.to_vec());
            Ok(())
        })?;
        Ok((seen, length))
    }

    proptest! {
        #[test]
        fn a_cut_at_any_byte_drops_only_the_last_record(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6),
        ) {
            let (bytes, ends) = log_of(&bodies);
            for cut in 0..=bytes.len() {
                let (seen, length) = read(&bytes[..cut]).unwrap();
                let whole = ends.iter().filter(|end| **end <= cut).count();
                prop_assert_eq!(&seen[..], &bodies[..whole]);
                let kept = match (whole, cut >= MAGIC.len()) {
                    (_, false) => 0,
                    (0, true) => MAGIC.len(),
                    (n, true) => ends[n - 1],
                };
                prop_assert_eq!(length, u64::try_from(kept).unwrap());
            }
        }

        #[test]
        fn a_flipped_bit_never_yields_a_wrong_record(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 2..6),
            at: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let (mut bytes, _) = log_of(&bodies);
            let at = MAGIC.len() + at.index(bytes.len() - MAGIC.len());
            bytes[at] ^= 1 << bit;
            if let Ok((seen, _)) = read(&bytes) {
                prop_assert!(seen.len() < bodies.len());
                prop_assert_eq!(&seen[..], &bodies[..seen.len()]);
            }
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_that_says_where() {
        let (mut bytes, ends) = log_of(&[vec![1; 5], vec![2; 5], vec![3; 5]]);
        bytes[ends[0] + HEADER_BYTES] ^= 1;
        let Err(ScanError::Damaged { offset, .. }) = read(&bytes) else {
            panic!("damage must be found");
        };
        assert_eq!(offset, u64::try_from(ends[0]).unwrap());
    }

    #[test]
    fn another_file_is_left_alone() {
        assert!(matches!(
            read(b"email,first_name\n"),
            Err(ScanError::Foreign)
        ));
    }

    #[tokio::test]
    async fn the_file_is_private_and_held_by_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sandbox.log");
        let mut journal = Journal::open(&path, |_| Ok(())).await.unwrap();
        journal.append(b"one").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let second = lock(&File::open(&path).unwrap(), &path, Duration::ZERO).await;
        assert!(matches!(second, Err(JournalError::Held(held)) if held == path));
        drop(journal);

        let mut seen = Vec::new();
        let keep = |body: &[u8]| {
            seen.push(body.to_vec());
            Ok(())
        };
        let mut again = Journal::open(&path, keep).await.unwrap();
        again.append(b"two").unwrap();
        assert_eq!(seen, [b"one".to_vec()]);
        let (all, _) = read(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(all, [b"one".to_vec(), b"two".to_vec()]);
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_off_before_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sandbox.log");
        let (bytes, _) = log_of(&[vec![1; 5], vec![2; 5]]);
        std::fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
        let mut journal = Journal::open(&path, |_| Ok(())).await.unwrap();
        journal.append(b"next").unwrap();
        let (all, _) = read(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(all, [vec![1; 5], b"next".to_vec()]);
    }

    #[test]
    fn after_half_a_record_that_cannot_be_cut_off_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sandbox.log");
        std::fs::write(&path, MAGIC).unwrap();
        // Neither writing nor shortening works on a file opened for reading.
        let mut journal = Journal {
            file: File::open(&path).unwrap(),
            path: path.clone(),
            length: 0,
            frame: Vec::new(),
            is_broken: false,
        };
        let first = journal.append(b"one").unwrap_err().to_string();
        assert!(first.contains("cannot write the sandbox log"), "{first}");
        journal.file = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(journal.append(b"two").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), MAGIC);
    }

    #[tokio::test]
    async fn what_is_not_a_regular_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let null = Journal::open(Path::new("/dev/null"), |_| Ok(())).await;
        assert!(matches!(null, Err(JournalError::Foreign(_))));
        let target = folder.path().join("target");
        std::fs::write(&target, "").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let linked = Journal::open(&link, |_| Ok(())).await;
        assert!(matches!(
            linked,
            Err(JournalError::Io { action: "open", .. })
        ));
    }
}
