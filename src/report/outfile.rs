//! Files we write for people: private, never half-written under their final name.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that appears under its name, with mode 0600, when it is complete.
#[derive(Debug)]
pub struct OutFile {
    sink: BufWriter<Sink>,
    path: PathBuf,
    /// Whether it may take the place of a file that is there by the time it is complete.
    replaces: bool,
}

#[derive(Debug)]
enum Sink {
    /// Beside the final name, renamed at the end.
    Renamed(NamedTempFile),
    /// A pipe or device: written directly.
    Direct(File),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Renamed(file) => file.write(bytes),
            Self::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Renamed(file) => file.flush(),
            Self::Direct(file) => file.flush(),
        }
    }
}

impl OutFile {
    /// Starts a file at `path`. Refuses to replace `source`, whatever name it is given by.
    pub fn create(path: &Path, source: Option<&Path>) -> io::Result<Self> {
        if let Some(source) = source
            && same_file(path, source)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is the source file itself",
            ));
        }
        let special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
        let sink = if special {
            Sink::Direct(OpenOptions::new().write(true).open(path)?)
        } else {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            // A folder that is not there is said by the system: the library names its own path in the
            // error, which nobody asked for.
            std::fs::metadata(folder)?;
            let made = NamedTempFile::new_in(folder);
            Sink::Renamed(made.map_err(|error| io::Error::from(error.kind()))?)
        };
        Ok(Self {
            sink: BufWriter::new(sink),
            path: path.to_owned(),
            replaces: true,
        })
    }

    /// The same, for a file that is never put in another one's place, whenever that appears.
    #[must_use]
    pub fn replacing_nothing(self) -> Self {
        Self {
            replaces: false,
            ..self
        }
    }

    /// Completes the file: everything on disk, then the rename.
    pub fn finish(self) -> io::Result<()> {
        match self
            .sink
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
        {
            Sink::Renamed(file) => {
                file.as_file().sync_all()?;
                let persisted = if self.replaces {
                    file.persist(&self.path)
                } else {
                    file.persist_noclobber(&self.path)
                };
                persisted.map_err(|error| error.error)?;
                Ok(())
            }
            Sink::Direct(mut file) => file.flush(),
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Returns whether two paths lead to one file that is there.
pub fn same_file(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Opens a private file to append to (mode 0600, links not followed).
pub fn append_private(path: &Path) -> io::Result<File> {
    let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(no_link)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let mut out = OutFile::create(&path, None).unwrap();
        out.write_all(b"a,b\n").unwrap();
        assert!(!path.exists());
        out.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a,b\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_error_does_not_name_a_temporary_path() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no-such-folder").join("out.csv");
        let error = OutFile::create(&missing, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let words = error.to_string();
        assert!(
            words.starts_with("No such file") && !words.contains(".tmp"),
            "{words}"
        );
    }

    #[test]
    fn the_source_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("users.csv");
        std::fs::write(&source, "email\n").unwrap();
        let other_name = dir.path().join("link.csv");
        std::os::unix::fs::symlink(&source, &other_name).unwrap();
        for name in [&source, &other_name] {
            assert!(OutFile::create(name, Some(&source)).is_err());
        }
        assert_eq!(std::fs::read(&source).unwrap(), b"email\n");
    }

    #[test]
    fn a_link_is_not_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("events");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(append_private(&link).is_err());
        let file = append_private(&dir.path().join("own")).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }
}
