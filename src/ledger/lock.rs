//! The job lock: one coordinator at a time, and none while a worker of the last one lives.
//!
//! `flock` on `job.lock`. Workers inherit the descriptor, so the kernel keeps the lock until the
//! coordinator *and every orphan* is gone; it is never unlocked by hand, because that would free
//! it for the orphans too. What the file says is for people only.

use super::error::LockError;
use super::holder::Holder;
use crate::model::Mono;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its name in the job folder.
pub const LOCK_FILE: &str = "job.lock";

/// How long the workers of a dead holder may take to notice that they are orphans: they stop
/// within 1 s of the end of their input, unless the machine is very busy.
const ORPHANS_WAIT: Duration = Duration::from_secs(5);

/// How long somebody who does not want to wait still does: a reader that looks whether the lock
/// is held takes it for an instant.
const GLANCE_WAIT: Duration = Duration::from_millis(200);

/// How often the lock is tried meanwhile.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Longest holder record read: a real one has about 200 bytes.
const HOLDER_BYTES_MAX: u64 = 4096;

/// The held lock of a job. It ends with the last descriptor, never before.
#[derive(Debug)]
pub struct JobLock {
    file: File,
}

impl JobLock {
    /// Takes the lock of the job in `folder`. When it is held, but the recorded holder is dead,
    /// waits up to 5 s for the workers it left behind.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        Self::acquire_within(folder, ORPHANS_WAIT)
    }

    /// Takes the lock at once or not at all; does not wait for orphans.
    pub fn try_acquire(folder: &Path) -> Result<Self, LockError> {
        Self::acquire_within(folder, GLANCE_WAIT)
    }

    fn acquire_within(folder: &Path, wait: Duration) -> Result<Self, LockError> {
        let path = folder.join(LOCK_FILE);
        let refused = |source: io::Error| LockError::Io {
            path: path.clone(),
            source,
        };
        let mut file = open(&path).map_err(|errno| refused(errno.into()))?;
        let give_up = Mono::now().after(wait);
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {
                    let holder = read_holder(&mut file);
                    let may_end_soon = holder.as_ref().is_none_or(Holder::is_dead);
                    if !may_end_soon || Mono::now() >= give_up {
                        return Err(LockError::Held {
                            holder: holder.map(Box::new),
                        });
                    }
                    pause(RETRY_EVERY).map_err(refused)?;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(refused(errno.into())),
            }
        }
        if !is_still_at(&file, &path) {
            return Err(LockError::Removed {
                path: folder.to_owned(),
            });
        }
        write_holder(&mut file, &Holder::current()).map_err(refused)?;
        Ok(Self { file })
    }

    /// Returns who holds the job in `folder`, `None` when nobody does. Takes nothing.
    pub fn holder(folder: &Path) -> Result<Option<LockState>, LockError> {
        let path = folder.join(LOCK_FILE);
        let refused_io = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let refused = |errno: Errno| refused_io(errno.into());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(refused(errno)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => {
                let mut state = LockState {
                    holder: read_holder(&mut file),
                };
                if !state.is_led() {
                    // Or somebody has just taken it, and is about to say so.
                    pause(RETRY_EVERY).map_err(refused_io)?;
                    state.holder = read_holder(&mut file);
                }
                Ok(Some(state))
            }
            Err(errno) => Err(refused(errno)),
        }
    }
}

impl AsFd for JobLock {
    /// The descriptor that workers inherit. It is close-on-exec until the spawner says otherwise.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A lock that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockState {
    /// What the holder wrote about itself, if it could be read.
    pub holder: Option<Holder>,
}

impl LockState {
    /// Returns whether the coordinator that took the lock lives, as far as can be known. Without it
    /// the lock is held by its orphans, who end soon and never write the ledger.
    pub fn is_led(&self) -> bool {
        self.holder
            .as_ref()
            .is_none_or(|holder| !holder.ended_here())
    }
}

fn open(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Returns whether the locked file is the one that has this name now: a job removed between
/// opening and locking leaves us with a lock that nobody else will ever see.
fn is_still_at(file: &File, path: &PathBuf) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => held.dev() == named.dev() && held.ino() == named.ino(),
        _ => false,
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut text = String::new();
    Read::by_ref(file)
        .take(HOLDER_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(file: &mut File, holder: &Holder) -> io::Result<()> {
    let mut text = serde_json::to_string(holder).map_err(io::Error::other)?;
    text.push('\n');
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

/// Waits without an event to wait for: nobody announces the end of a lock.
fn pause(duration: Duration) -> io::Result<()> {
    let timeout = rustix::time::Timespec::try_from(duration).map_err(io::Error::other)?;
    match rustix::event::poll(&mut [], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// Takes the lock as the workers of another process would hold it: their own description,
    /// and `holder` as its record.
    fn held_by(folder: &Path, holder: &Holder) -> File {
        let mut file = open(&folder.join(LOCK_FILE)).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        write_holder(&mut file, holder).unwrap();
        file
    }

    fn dead() -> Holder {
        Holder {
            pid: u32::MAX - 1,
            ..Holder::current()
        }
    }

    #[test]
    fn a_second_taker_is_told_who_holds_it_at_once() {
        let folder = folder();
        let _lock = JobLock::acquire(folder.path()).unwrap();
        let before = Mono::now();
        let error = JobLock::acquire(folder.path()).unwrap_err();
        assert!(Mono::now().since(before) < ORPHANS_WAIT / 2);
        let LockError::Held {
            holder: Some(holder),
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(holder.pid, std::process::id());
        assert!(
            error
                .to_string()
                .contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
    }

    #[test]
    fn the_lock_ends_with_its_last_descriptor() {
        let folder = folder();
        let lock = JobLock::acquire(folder.path()).unwrap();
        let inherited = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        let short = Duration::from_millis(1);
        assert!(JobLock::acquire_within(folder.path(), short).is_err());
        drop(inherited);
        assert!(JobLock::acquire_within(folder.path(), short).is_ok());
    }

    #[test]
    fn orphans_of_a_dead_holder_are_waited_for() {
        let folder = folder();
        let orphan = held_by(folder.path(), &dead());
        let path = folder.path().to_owned();
        let taker = std::thread::spawn(move || JobLock::acquire(&path).map(|_| ()));
        pause(RETRY_EVERY * 2).unwrap();
        drop(orphan);
        assert!(taker.join().unwrap().is_ok());
    }

    #[test]
    fn orphans_are_not_led() {
        let folder = folder();
        let is_led = || JobLock::holder(folder.path()).unwrap().unwrap().is_led();
        let mut held = held_by(folder.path(), &dead());
        assert!(!is_led());
        write_holder(&mut held, &Holder::current()).unwrap();
        assert!(is_led());
        // Who is out of sight may live, and so may who cannot be read.
        let elsewhere = Holder {
            host: "elsewhere".to_owned(),
            ..dead()
        };
        write_holder(&mut held, &elsewhere).unwrap();
        assert!(is_led());
        let in_container = Holder {
            pid_space: "pid:[1]".to_owned(),
            ..dead()
        };
        write_holder(&mut held, &in_container).unwrap();
        assert!(is_led());
        held.set_len(0).unwrap();
        assert!(is_led());
    }

    #[test]
    fn orphans_that_stay_keep_the_lock() {
        let folder = folder();
        let _orphan = held_by(folder.path(), &dead());
        let error = JobLock::acquire_within(folder.path(), RETRY_EVERY * 2).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "{error}");
    }

    #[test]
    fn a_record_nobody_can_read_never_frees_the_lock() {
        let folder = folder();
        let mut file = held_by(folder.path(), &dead());
        file.set_len(0).unwrap();
        file.write_all(b"{half").unwrap();
        let error = JobLock::try_acquire(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "the job is held by another process");
    }

    #[test]
    fn looking_takes_nothing() {
        let folder = folder();
        assert_eq!(JobLock::holder(folder.path()).unwrap(), None);
        let lock = JobLock::acquire(folder.path()).unwrap();
        let state = JobLock::holder(folder.path()).unwrap().unwrap();
        assert_eq!(state.holder.unwrap().pid, std::process::id());
        drop(lock);
        assert_eq!(JobLock::holder(folder.path()).unwrap(), None);
    }

    #[test]
    fn the_file_is_private_and_never_a_link() {
        let folder = folder();
        let lock = JobLock::acquire(folder.path()).unwrap();
        let path = folder.path().join(LOCK_FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(lock);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let error = JobLock::acquire(folder.path()).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }
}
