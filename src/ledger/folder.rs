//! The checkpoints directory and the job folders in it.
//!
//! A job appears by one rename of a folder that is complete and synced, and disappears by one
//! rename too: no other process ever sees half a job.

use super::error::FolderError;
use super::lock::{JobLock, LOCK_FILE};
use super::store::LEDGER_FILE;
use crate::model::TargetKind;
use crate::model::escape::shown;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest job name, in bytes.
const NAME_MAX: usize = 64;

/// Longest part of a name that comes from the file, so that a hash and a number still fit.
const STEM_MAX: usize = 48;

/// Folders that are being built.
const NEW_PREFIX: &str = ".new-";

/// Folders that are being removed.
const GONE_PREFIX: &str = ".gone-";

/// Disk space that one row may need: its outcome, and its share of log and index.
const ROW_BYTES: u64 = 150;

const MIB: u64 = 1 << 20;

/// The directory that holds every job.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    /// Where it lies on a file system that may or may not be trusted: words for a warning.
    doubt: Option<&'static str>,
}

impl Checkpoints {
    /// Opens the directory, made 0700 where it is missing. Refuses network file systems.
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| FolderError::io("made", dir, error))?;
        let dir = fs::canonicalize(dir).map_err(|error| FolderError::io("found", dir, error))?;
        let doubt = match file_system(&dir)? {
            FileSystem::Local => None,
            FileSystem::Doubtful(kind) => Some(kind),
            FileSystem::Network(kind) => return Err(FolderError::Network { path: dir, kind }),
        };
        Ok(Self { dir, doubt })
    }

    /// Returns where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Returns a sentence when locks and syncs may not work here.
    pub fn warning(&self) -> Option<String> {
        let kind = self.doubt?;
        let dir = shown(&self.dir.to_string_lossy());
        Some(format!(
            "{dir} lies on a {kind} file system: a crash may lose more there than on a local disk"
        ))
    }

    /// Returns every job, by name.
    pub fn list(&self) -> Result<Vec<JobFolder>, FolderError> {
        let mut jobs = Vec::new();
        for name in self.entries()? {
            if let Some(name) = name.to_str().filter(|name| is_job_name(name)) {
                match self.job(name) {
                    Ok(job) => jobs.push(job),
                    Err(FolderError::NoJob { .. } | FolderError::NotAFolder { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        jobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(jobs)
    }

    /// Finds a job by name.
    pub fn job(&self, name: &str) -> Result<JobFolder, FolderError> {
        let path = self.dir.join(checked(name)?);
        let no_job = || FolderError::NoJob {
            name: name.to_owned(),
            dir: self.dir.clone(),
        };
        let kind_of = |path: &Path| match fs::symlink_metadata(path) {
            Ok(meta) => Ok(meta.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_job()),
            Err(error) => Err(FolderError::io("read", path, error)),
        };
        if !kind_of(&path)?.is_dir() {
            return Err(FolderError::NotAFolder { path });
        }
        let has = |file: &str| kind_of(&path.join(file)).is_ok_and(|kind| kind.is_file());
        // A folder with a lock is a job even without a ledger: one whose ledger is lost.
        if !has(LEDGER_FILE) && !has(LOCK_FILE) {
            return Err(no_job());
        }
        Ok(JobFolder {
            name: name.to_owned(),
            path,
        })
    }

    /// Returns `name` when no job has it, otherwise the first of `name-2`, `name-3`, … that is
    /// free.
    pub fn next_free_name(&self, name: &str) -> Result<String, FolderError> {
        let name = checked(name)?;
        for number in 1_u32.. {
            let candidate = numbered(name, number);
            match fs::symlink_metadata(self.dir.join(&candidate)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(candidate),
                Err(error) => return Err(FolderError::io("read", &self.dir, error)),
                Ok(_) => {}
            }
        }
        Err(FolderError::Exists {
            name: name.to_owned(),
            dir: self.dir.clone(),
        })
    }

    /// Makes the folder of a new job, out of sight and locked: fill it, then publish it.
    pub fn begin_job(&self) -> Result<NewFolder, FolderError> {
        let folder = tempfile::Builder::new()
            .prefix(NEW_PREFIX)
            .rand_bytes(8)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(&self.dir)
            .map_err(|error| FolderError::io("written to", &self.dir, error))?;
        let lock = JobLock::try_acquire(folder.path())?;
        Ok(NewFolder {
            folder,
            lock,
            checkpoints: self.dir.clone(),
        })
    }

    /// Removes a job that nobody holds.
    pub fn remove(&self, job: &JobFolder) -> Result<(), FolderError> {
        let _lock = JobLock::try_acquire(&job.path)?;
        let random = tempfile::Builder::new()
            .prefix(GONE_PREFIX)
            .rand_bytes(8)
            .tempdir_in(&self.dir);
        let gone = random.map_err(|error| FolderError::io("written to", &self.dir, error))?;
        // A rename over an empty folder: the job vanishes in one step, its files afterwards.
        fs::rename(&job.path, gone.path())
            .map_err(|error| FolderError::io("removed", &job.path, error))?;
        sync_folder(&self.dir)?;
        gone.close()
            .map_err(|error| FolderError::io("removed", &job.path, error))
    }

    /// Removes what crashes left behind: folders that were being built or removed and that no
    /// process holds. Returns how many.
    pub fn sweep(&self) -> Result<usize, FolderError> {
        let mut swept = 0;
        for name in self.entries()? {
            let bytes = name.as_bytes();
            let is_new = bytes.starts_with(NEW_PREFIX.as_bytes());
            if !is_new && !bytes.starts_with(GONE_PREFIX.as_bytes()) {
                continue;
            }
            let path = self.dir.join(&name);
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            if is_folder && is_abandoned(&path, is_new) && fs::remove_dir_all(&path).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Checks that a job of `rows` rows fits on the disk.
    pub fn check_space(&self, rows: u32) -> Result<Option<SpaceWarning>, FolderError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|errno| FolderError::io("measured", &self.dir, errno))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        judge_space(&self.dir, free, rows)
    }

    fn entries(&self) -> Result<Vec<std::ffi::OsString>, FolderError> {
        let unreadable = |error| FolderError::io("read", &self.dir, error);
        let entries = fs::read_dir(&self.dir).map_err(unreadable)?;
        entries
            .map(|entry| Ok(entry.map_err(unreadable)?.file_name()))
            .collect()
    }
}

/// The folder of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFolder {
    name: String,
    path: PathBuf,
}

impl JobFolder {
    /// Returns the job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where its ledger is.
    pub fn ledger_path(&self) -> PathBuf {
        self.path.join(LEDGER_FILE)
    }
}

/// A job folder in the making. Dropped without being published, it vanishes.
#[derive(Debug)]
pub struct NewFolder {
    folder: tempfile::TempDir,
    lock: JobLock,
    checkpoints: PathBuf,
}

impl NewFolder {
    /// Returns where it is for now.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns where its ledger is to be made.
    pub fn ledger_path(&self) -> PathBuf {
        self.path().join(LEDGER_FILE)
    }

    /// Syncs everything in it and gives it its name in one step. The lock stays held throughout:
    /// nobody can begin the job before its maker.
    pub fn publish(self, name: &str) -> Result<(JobFolder, JobLock), FolderError> {
        let path = self.checkpoints.join(checked(name)?);
        sync_contents(self.path())?;
        rename_new(self.path(), &path).map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR => FolderError::Exists {
                name: name.to_owned(),
                dir: self.checkpoints.clone(),
            },
            errno => FolderError::io("made", &path, errno),
        })?;
        // From here on the folder is a job: it must not vanish with this value.
        let _renamed = self.folder.keep();
        sync_folder(&self.checkpoints)?;
        Ok((
            JobFolder {
                name: name.to_owned(),
                path,
            },
            self.lock,
        ))
    }
}

/// Free space is enough, but not by much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceWarning {
    /// What is free.
    pub free_mib: u64,
    /// What the job may need.
    pub needed_mib: u64,
}

impl fmt::Display for SpaceWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            free_mib,
            needed_mib,
        } = self;
        write!(
            f,
            "only {free_mib} MiB are free; this job may need {needed_mib} MiB of them"
        )
    }
}

fn judge_space(dir: &Path, free: u64, rows: u32) -> Result<Option<SpaceWarning>, FolderError> {
    let needed = u64::from(rows) * ROW_BYTES + 16 * MIB;
    let (free_mib, needed_mib) = (free / MIB, needed.div_ceil(MIB));
    if free < needed {
        return Err(FolderError::NoSpace {
            path: dir.to_owned(),
            free_mib,
            needed_mib,
        });
    }
    let is_close = free < needed + 128 * MIB;
    Ok(is_close.then_some(SpaceWarning {
        free_mib,
        needed_mib,
    }))
}

/// Returns the name of the job that carries this file there: the same three always give the same.
/// `source` is absolute.
pub fn job_name_for(source: &Path, target: TargetKind, base_url: Option<&str>) -> String {
    let mut hasher = blake3::Hasher::new();
    // Lengths first: no two triples may read the same.
    for part in [
        source.as_os_str().as_bytes(),
        target.as_str().as_bytes(),
        base_url.unwrap_or_default().as_bytes(),
    ] {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    let hash = hasher.finalize().to_hex();
    format!("{}-{}", stem(source), hash.get(..6).unwrap_or_default())
}

/// Returns the file's name as part of a job name: no extension, nothing that a shell or a file
/// system could misread.
fn stem(source: &Path) -> String {
    let mut name = Path::new(source.file_name().unwrap_or_default());
    let is_packed = |end: &OsStr| end.eq_ignore_ascii_case("gz") || end.eq_ignore_ascii_case("zst");
    if name.extension().is_some_and(is_packed) {
        name = Path::new(name.file_stem().unwrap_or_default());
    }
    let text = if source == Path::new("-") {
        "stdin".into()
    } else {
        name.file_stem().unwrap_or_default().to_string_lossy()
    };
    let clean: String = text
        .chars()
        .map(|c| if is_name_char(c) { c } else { '-' })
        .take(STEM_MAX)
        .collect();
    let clean = clean.trim_matches(|c| matches!(c, '.' | '-'));
    if clean.is_empty() {
        "job".to_owned()
    } else {
        clean.to_owned()
    }
}

fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let suffix = format!("-{number}");
    let kept = name.get(..NAME_MAX - suffix.len()).unwrap_or(name);
    format!("{kept}{suffix}")
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_job_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_name_char)
}

fn checked(name: &str) -> Result<&str, FolderError> {
    if is_job_name(name) {
        Ok(name)
    } else {
        Err(FolderError::BadName { name: shown(name) })
    }
}

/// Returns whether nobody is building or removing this folder: its lock is free. One without a
/// lock yet is being made right now, or was abandoned in the microseconds before; it stays.
fn is_abandoned(path: &Path, is_new: bool) -> bool {
    let has_lock = fs::symlink_metadata(path.join(LOCK_FILE)).is_ok();
    if has_lock {
        JobLock::try_acquire(path).is_ok()
    } else {
        !is_new
    }
}

/// Renames without replacing. Where the system cannot promise that, a plain rename still never
/// replaces a job: a folder that is not empty refuses it.
fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rustix::fs::rename(from, to),
        done => done,
    }
}

fn sync_contents(folder: &Path) -> Result<(), FolderError> {
    let unreadable = |error| FolderError::io("read", folder, error);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let file = File::open(&path).map_err(|error| FolderError::io("opened", &path, error))?;
        file.sync_all()
            .map_err(|error| FolderError::io("synced", &path, error))?;
    }
    sync_folder(folder)
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), FolderError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::open(folder, flags, Mode::empty());
    open.and_then(rustix::fs::fsync)
        .map_err(|errno| FolderError::io("synced", folder, errno))
}

/// What kind of file system a folder lies on, as far as locks and syncs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileSystem {
    Local,
    /// Somebody's program answers: it may lock and sync, or not.
    Doubtful(&'static str),
    Network(&'static str),
}

#[cfg(target_os = "linux")]
fn file_system(dir: &Path) -> Result<FileSystem, FolderError> {
    let stat = rustix::fs::statfs(dir).map_err(|errno| FolderError::io("measured", dir, errno))?;
    // The magic is 32 bits in a word whose width and sign differ between machines.
    let magic = i128::from(stat.f_type) & 0xffff_ffff;
    Ok(by_magic(u32::try_from(magic).unwrap_or_default()))
}

/// Numbers from the kernel's `linux/magic.h` and the file systems' own sources.
#[cfg(target_os = "linux")]
fn by_magic(magic: u32) -> FileSystem {
    match magic {
        0x6969 => FileSystem::Network("NFS"),
        0x517b => FileSystem::Network("SMB"),
        0xff53_4d42 => FileSystem::Network("CIFS"),
        0xfe53_4d42 => FileSystem::Network("SMB2"),
        0x6573_5546 => FileSystem::Doubtful("FUSE"),
        0x0102_1997 => FileSystem::Doubtful("9P"),
        _ => FileSystem::Local,
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(dir: &Path) -> Result<FileSystem, FolderError> {
    let stat = rustix::fs::statfs(dir).map_err(|errno| FolderError::io("measured", dir, errno))?;
    let name: Vec<u8> = stat
        .f_fstypename
        .iter()
        .map(|c| c.cast_unsigned())
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(by_name(&name))
}

#[cfg(not(target_os = "linux"))]
fn by_name(name: &[u8]) -> FileSystem {
    match name {
        b"nfs" => FileSystem::Network("NFS"),
        b"smbfs" => FileSystem::Network("SMB"),
        b"cifs" => FileSystem::Network("CIFS"),
        b"afpfs" => FileSystem::Network("AFP"),
        b"webdav" => FileSystem::Network("WebDAV"),
        b"macfuse" | b"osxfuse" => FileSystem::Doubtful("FUSE"),
        _ => FileSystem::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn checkpoints() -> (tempfile::TempDir, Checkpoints) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(&dir.path().join("checkpoints")).unwrap();
        (dir, checkpoints)
    }

    fn published(checkpoints: &Checkpoints, name: &str) -> JobFolder {
        let new = checkpoints.begin_job().unwrap();
        fs::write(new.ledger_path(), "x").unwrap();
        new.publish(name).unwrap().0
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_job_appears_whole_private_and_locked() {
        let (_dir, checkpoints) = checkpoints();
        assert_eq!(mode(checkpoints.path()), 0o700);
        let new = checkpoints.begin_job().unwrap();
        fs::write(new.ledger_path(), "x").unwrap();
        assert!(checkpoints.list().unwrap().is_empty());
        let (job, lock) = new.publish("users-1f3a9c").unwrap();
        assert_eq!(mode(job.path()), 0o700);
        assert_eq!(checkpoints.list().unwrap(), std::slice::from_ref(&job));
        assert!(JobLock::try_acquire(job.path()).is_err());
        drop(lock);
        assert!(JobLock::try_acquire(job.path()).is_ok());
    }

    #[test]
    fn a_job_that_was_not_published_leaves_nothing() {
        let (_dir, checkpoints) = checkpoints();
        drop(checkpoints.begin_job().unwrap());
        assert_eq!(fs::read_dir(checkpoints.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_that_is_taken_is_never_replaced() {
        let (_dir, checkpoints) = checkpoints();
        let job = published(&checkpoints, "a");
        let new = checkpoints.begin_job().unwrap();
        fs::write(new.ledger_path(), "other").unwrap();
        assert!(matches!(new.publish("a"), Err(FolderError::Exists { .. })));
        assert_eq!(fs::read_to_string(job.ledger_path()).unwrap(), "x");
        assert_eq!(checkpoints.next_free_name("a").unwrap(), "a-2");
        published(&checkpoints, "a-2");
        assert_eq!(checkpoints.next_free_name("a").unwrap(), "a-3");
        assert_eq!(checkpoints.next_free_name("b").unwrap(), "b");
    }

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        let (_dir, checkpoints) = checkpoints();
        let long = "x".repeat(65);
        for name in [
            "", ".", "..", ".new-1", "a/b", "../a", "a b", "é", "a\0", &long,
        ] {
            let error = checkpoints.job(name).unwrap_err();
            assert!(
                matches!(error, FolderError::BadName { .. }),
                "{name}: {error}"
            );
        }
        let longest = "x".repeat(64);
        assert!(matches!(
            checkpoints.job(&longest),
            Err(FolderError::NoJob { .. })
        ));
        assert_eq!(numbered(&longest, 12).len(), 64);
    }

    #[test]
    fn links_and_strangers_are_no_jobs() {
        let (dir, checkpoints) = checkpoints();
        let job = published(&checkpoints, "real");
        std::os::unix::fs::symlink(job.path(), checkpoints.path().join("link")).unwrap();
        fs::create_dir(checkpoints.path().join("empty")).unwrap();
        fs::write(checkpoints.path().join("README.md"), "").unwrap();
        assert_eq!(checkpoints.list().unwrap(), [job]);
        assert!(matches!(
            checkpoints.job("link"),
            Err(FolderError::NotAFolder { .. })
        ));
        assert!(matches!(
            checkpoints.job("empty"),
            Err(FolderError::NoJob { .. })
        ));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Checkpoints::open(&file).is_err());
    }

    #[test]
    fn a_held_job_is_not_removed() {
        let (_dir, checkpoints) = checkpoints();
        let job = published(&checkpoints, "a");
        let lock = JobLock::acquire(job.path()).unwrap();
        assert!(matches!(
            checkpoints.remove(&job),
            Err(FolderError::Lock(_))
        ));
        drop(lock);
        checkpoints.remove(&job).unwrap();
        assert_eq!(fs::read_dir(checkpoints.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_abandoned_leftovers_are_swept() {
        let (_dir, checkpoints) = checkpoints();
        let live = checkpoints.begin_job().unwrap();
        let dead = checkpoints.begin_job().unwrap();
        let NewFolder { folder, lock, .. } = dead;
        let dead = folder.keep();
        drop(lock);
        fs::create_dir(checkpoints.path().join(".gone-1")).unwrap();
        fs::create_dir(checkpoints.path().join(".mine")).unwrap();
        published(&checkpoints, "job");
        assert_eq!(checkpoints.sweep().unwrap(), 2);
        assert!(live.path().is_dir());
        assert!(!dead.exists());
        assert!(checkpoints.path().join(".mine").is_dir());
        assert_eq!(checkpoints.list().unwrap().len(), 1);
    }

    #[test]
    fn space_is_refused_warned_of_or_enough() {
        let dir = Path::new("/c");
        let needed = 150 * 1_000_000 + 16 * MIB;
        let judge = |free| judge_space(dir, free, 1_000_000);
        assert!(matches!(
            judge(needed - 1),
            Err(FolderError::NoSpace { .. })
        ));
        assert!(judge(needed).unwrap().is_some());
        assert!(judge(needed + 128 * MIB - 1).unwrap().is_some());
        assert_eq!(judge(needed + 128 * MIB).unwrap(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn network_file_systems_are_known() {
        for magic in [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42] {
            assert!(matches!(by_magic(magic), FileSystem::Network(_)));
        }
        assert_eq!(by_magic(0x6573_5546), FileSystem::Doubtful("FUSE"));
        assert_eq!(by_magic(0xef53), FileSystem::Local);
    }

    #[test]
    fn a_name_says_which_file_and_where_to() {
        let name = |path: &str, url| job_name_for(Path::new(path), TargetKind::Workos, url);
        let users = name("/data/users.csv", None);
        assert!(users.starts_with("users-"));
        assert_eq!(users, name("/data/users.csv", None));
        assert_ne!(users, name("/data2/users.csv", None));
        assert_ne!(users, name("/data/users.csv", Some("http://127.0.0.1:1")));
        assert_ne!(
            users,
            job_name_for(Path::new("/data/users.csv"), TargetKind::Sandbox, None)
        );
        assert!(name("/data/users.csv.GZ", None).starts_with("users-"));
        assert!(name("/data/Müller & co.csv", None).starts_with("M-ller---co-"));
        assert!(name("/data/.hidden", None).starts_with("hidden-"));
        assert!(name("/data/-", None).starts_with("job-"));
    }

    proptest! {
        #[test]
        fn every_file_gives_a_job_name(file in "[^/\0]{1,120}", number in 1..u32::MAX) {
            let name = job_name_for(&Path::new("/d").join(file), TargetKind::Sandbox, None);
            prop_assert!(is_job_name(&name), "{}", name);
            prop_assert!(is_job_name(&numbered(&name, number)));
        }
    }
}
