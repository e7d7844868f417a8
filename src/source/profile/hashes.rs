//! Password hashes in a file of their own, found by user id. Kept in memory: 16 bytes a user. The
//! hashes stay in the file and are read when they are asked for.

use super::json::{Record, cell};
use super::spec::JoinTable;
use crate::source::error::SourceError;
use crate::source::window::{self, read_some};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Longest line of such a file: a real one has a few hundred bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes read first when one line is looked up.
const LOOK_UP_BYTES: usize = 2 << 10;

/// A file of hashes, indexed.
#[derive(Debug)]
pub struct Hashes {
    file: File,
    path: PathBuf,
    rule: JoinTable,
    /// Hash of the user id, and where the line begins; sorted.
    places: Vec<(u64, u64)>,
    found: u64,
}

impl Hashes {
    /// Reads the file at `path` once.
    pub(super) fn open(path: &Path, rule: &JoinTable) -> Result<Self, SourceError> {
        let mut hashes = Self {
            file: window::open(path)?,
            path: path.to_owned(),
            rule: rule.clone(),
            places: Vec::new(),
            found: 0,
        };
        hashes.index()?;
        hashes.places.sort_unstable();
        hashes.refuse_twice()?;
        Ok(hashes)
    }

    /// Returns the hash of the user with that id.
    pub(super) fn find(&mut self, id: &str) -> Result<Option<String>, SourceError> {
        if id.is_empty() {
            return Ok(None);
        }
        let key = key_of(id);
        let first = self.places.partition_point(|(other, _)| *other < key);
        let same = self.places.get(first..).unwrap_or_default();
        for (_, at) in same.iter().take_while(|(other, _)| *other == key) {
            let record = self.record(self.read_line(*at)?.as_slice(), None)?;
            if self.id_of(&record) == id {
                self.found += 1;
                let hash = cell(&record, &self.rule.from).trim().to_owned();
                return Ok(Some(hash).filter(|hash| !hash.is_empty()));
            }
        }
        Ok(None)
    }

    /// Returns how many hashes there are, and how many of them were asked for.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.places.len() as u64, self.found)
    }

    fn index(&mut self) -> Result<(), SourceError> {
        let mut buffer = Vec::new();
        let mut block = vec![0; BLOCK_BYTES];
        let (mut base, mut line) = (0, 0);
        loop {
            let read = read_some(&mut self.file, &mut block)?;
            buffer.extend_from_slice(block.get(..read).unwrap_or_default());
            let mut at = 0;
            while let Some(rest) = buffer.get(at..).filter(|rest| !rest.is_empty()) {
                let length = match memchr::memchr(b'\n', rest) {
                    Some(end) => end + 1,
                    None if read == 0 => rest.len(),
                    None => break,
                };
                line += 1;
                let text = rest.get(..length).unwrap_or_default();
                self.note(text, base + at as u64, line)?;
                at += length;
            }
            buffer.drain(..at);
            base += at as u64;
            if buffer.len() > LINE_BYTES_MAX {
                return Err(self.refused(line + 1, "the line is longer than 1 MiB"));
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn note(&mut self, text: &[u8], at: u64, line: u64) -> Result<(), SourceError> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let record = self.record(text, Some(line))?;
        let id = self.id_of(&record);
        if id.is_empty() {
            return Err(self.refused(line, "the record has no user id"));
        }
        self.places.push((key_of(&id), at));
        Ok(())
    }

    /// Two hashes of one user: whichever were taken, somebody could not sign in.
    fn refuse_twice(&self) -> Result<(), SourceError> {
        for (one, other) in self.places.iter().zip(self.places.iter().skip(1)) {
            if one.0 != other.0 {
                continue;
            }
            let [a, b] = [one.1, other.1].map(|at| self.read_line(at));
            let [a, b] = [self.record(&a?, None)?, self.record(&b?, None)?];
            if self.id_of(&a) == self.id_of(&b) {
                let line = 1 + self.lines_before(other.1)?;
                return Err(self.refused(line, "an earlier line has the same user id"));
            }
        }
        Ok(())
    }

    fn lines_before(&self, at: u64) -> Result<u64, SourceError> {
        let mut block = vec![0; BLOCK_BYTES];
        let (mut done, mut lines) = (0, 0);
        while done < at {
            let want = block
                .len()
                .min(usize::try_from(at - done).unwrap_or(block.len()));
            let part = block.get_mut(..want).unwrap_or_default();
            let read = self.file.read_at(part, done).map_err(SourceError::Read)?;
            if read == 0 {
                break;
            }
            lines += crate::source::records::lines_in(part.get(..read).unwrap_or_default());
            done += read as u64;
        }
        Ok(lines)
    }

    /// Reads the line that begins at `at`.
    fn read_line(&self, at: u64) -> Result<Vec<u8>, SourceError> {
        let mut line = Vec::new();
        let mut want = LOOK_UP_BYTES;
        loop {
            line.resize(want, 0);
            let read = self
                .file
                .read_at(&mut line, at)
                .map_err(SourceError::Read)?;
            let filled = line.get(..read).unwrap_or_default();
            let end = memchr::memchr(b'\n', filled);
            if end.is_some() || read < want || want > LINE_BYTES_MAX {
                line.truncate(end.unwrap_or(read));
                return Ok(line);
            }
            want *= 2;
        }
    }

    /// Reads a record; `line` is known while the file is read in order.
    fn record(&self, text: &[u8], line: Option<u64>) -> Result<Record, SourceError> {
        serde_json::from_slice(text).map_err(|_| match line {
            Some(line) => self.refused(line, "this is not a JSON object"),
            None => SourceError::Read(io::Error::other(format!(
                "{} changed while it was read",
                self.path.display()
            ))),
        })
    }

    /// Returns the user id of a record; empty when it has none.
    fn id_of(&self, record: &Record) -> String {
        let names = self.rule.id.iter();
        let mut ids = names.map(|name| cell(record, name).trim().to_owned());
        match ids.find(|id| !id.is_empty()) {
            Some(id) => format!("{}{id}", self.rule.prefix),
            None => String::new(),
        }
    }

    fn refused(&self, line: u64, what: &'static str) -> SourceError {
        SourceError::Hashes {
            path: self.path.clone(),
            line,
            what,
        }
    }
}

/// Returns 64 bits of an id; equal ones are compared in full.
fn key_of(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    let (first, _) = hash.as_bytes().split_at(8);
    first
        .iter()
        .fold(0, |key, byte| (key << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::io::Write as _;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn rule() -> JoinTable {
        super::super::named("auth0").unwrap().join.clone().unwrap()
    }

    #[test]
    fn a_hash_is_found_by_user_id_and_by_nothing_else() {
        let mut text = String::new();
        for n in 0..3000 {
            let alias = if n % 7 == 0 {
                format!("\"alt_id\":\"alias{n}\",")
            } else {
                String::new()
            };
            let padding = "x".repeat(n % 50 * 100);
            writeln!(text, "{{\"_id\":{{\"$oid\":\"{n:024}\"}},{alias}\"email\":\"a@x.org\",\"p\":\"{padding}\",\"passwordHash\":\"h{n}\"}}").unwrap();
        }
        let file = file(text.trim_end());
        let mut hashes = Hashes::open(file.path(), &rule()).unwrap();
        for n in 0..3000 {
            let plain = hashes.find(&format!("auth0|{n:024}")).unwrap();
            let alias = hashes.find(&format!("auth0|alias{n}")).unwrap();
            let (mine, other) = if n % 7 == 0 {
                (alias, plain)
            } else {
                (plain, alias)
            };
            assert_eq!((mine, other), (Some(format!("h{n}")), None));
        }
        assert_eq!(hashes.find("a@x.org").unwrap(), None);
        assert_eq!(hashes.find("").unwrap(), None);
        assert_eq!(hashes.counts(), (3000, 3000));
    }

    #[test]
    fn a_file_that_cannot_be_trusted_is_refused_with_its_line() {
        let record = "{\"_id\":{\"$oid\":\"1\"},\"passwordHash\":\"h\"}\n";
        for (text, line, word) in [
            (format!("{record}\n{record}"), 3, "same user id"),
            (
                format!("{record}{{\"passwordHash\":\"h\"}}"),
                2,
                "no user id",
            ),
            (format!("{record}[1]\n"), 2, "not a JSON object"),
            ("x".repeat(LINE_BYTES_MAX + BLOCK_BYTES), 1, "longer"),
        ] {
            let file = file(&text);
            match Hashes::open(file.path(), &rule()).unwrap_err() {
                SourceError::Hashes {
                    line: told, what, ..
                } => {
                    assert_eq!(told, line, "{word}");
                    assert!(what.contains(word), "{what}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
