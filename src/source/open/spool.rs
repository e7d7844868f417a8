//! The private copy: UTF-8 text in a folder of ours, mode 0600, under its name when it is whole.

use super::super::error::SourceError;
use super::super::window;
use super::encoding::{Malformed, TextReader};
use super::place;
use super::unpack::{self, Cap, Meter, TEXT_BYTES_MAX};
use crate::model::Packing;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Name of the copy in its folder.
pub const SPOOL_FILE: &str = "source.csv";

/// Its name while it is written.
const UNFINISHED: &str = "source.csv.new";

const BLOCK_BYTES: usize = 256 << 10;

/// Turns the text of a source that is no CSV into CSV: reads UTF-8, writes records with a header.
/// A failure to read is returned as [`SourceError::Read`], one to write as [`SourceError::Spool`].
pub type Convert<'a> = dyn FnMut(&mut dyn BufRead, &mut dyn Write) -> Result<(), SourceError> + 'a;

/// A source on its way into a copy.
pub(super) struct Job<'a> {
    pub(super) text: TextReader,
    pub(super) meter: &'a Meter,
    pub(super) packing: Packing,
}

impl Job<'_> {
    /// Writes the copy into `folder` and returns its path.
    pub(super) fn write(
        self,
        folder: &Path,
        convert: Option<&mut Convert<'_>>,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<PathBuf, SourceError> {
        let path = folder.join(UNFINISHED);
        let mut out = Capped::create(&path).map_err(SourceError::Spool)?;
        let converted = convert.is_some();
        let mut text = Watched {
            text: self.text,
            meter: self.meter,
            on_bytes,
        };
        let done = match convert {
            None => copy(&mut text, &mut out),
            Some(convert) => convert(&mut BufReader::with_capacity(BLOCK_BYTES, text), &mut out),
        };
        let whole = out.finish().map_err(SourceError::Spool);
        let result = done
            .map_err(|error| {
                let copied = (!converted).then_some(path.as_path());
                told(error, copied, self.meter, self.packing)
            })
            .and(whole)
            .and_then(|()| {
                let named = folder.join(SPOOL_FILE);
                std::fs::rename(&path, &named).map_err(SourceError::Spool)?;
                Ok(named)
            });
        if result.is_err() {
            // What is left of the copy is of no use to anybody.
            let _unfinished = std::fs::remove_file(&path);
        }
        result
    }
}

/// Says in words why a source could not be copied; `copied` is the text before the fault.
fn told(error: SourceError, copied: Option<&Path>, meter: &Meter, packing: Packing) -> SourceError {
    let error = match error {
        SourceError::Read(error) => error,
        SourceError::Spool(error) if is_cap(&error) => error,
        other => return other,
    };
    let malformed = error.get_ref().and_then(|e| e.downcast_ref::<Malformed>());
    match malformed {
        Some(malformed) => SourceError::NotText {
            encoding: malformed.encoding,
            at: place::of_malformed(copied, malformed),
        },
        None => unpack::told(error, meter, packing),
    }
}

fn is_cap(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Cap>())
        .is_some()
}

fn copy(mut text: &mut dyn Read, out: &mut dyn Write) -> Result<(), SourceError> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = window::read_some(&mut text, &mut block)?;
        if read == 0 {
            return Ok(());
        }
        let bytes = block.get(..read).unwrap_or_default();
        out.write_all(bytes).map_err(SourceError::Spool)?;
    }
}

/// Text that tells how far its source was read.
struct Watched<'a> {
    text: TextReader,
    meter: &'a Meter,
    on_bytes: &'a mut dyn FnMut(u64),
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        (self.on_bytes)(self.meter.bytes());
        Ok(read)
    }
}

/// A private file that grows to a limit only.
struct Capped {
    file: BufWriter<File>,
    bytes: u64,
}

impl Capped {
    /// Makes the file anew; what an interrupted run left under its name goes.
    fn create(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file: BufWriter::with_capacity(BLOCK_BYTES, file),
            bytes: 0,
        })
    }

    /// Puts everything on the disk.
    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        if self.bytes > TEXT_BYTES_MAX {
            return Err(io::Error::other(Cap::Size));
        }
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
