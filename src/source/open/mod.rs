//! From a file or stdin to the UTF-8 text that rows are read from.
//!
//! # Owns
//! Telling packing, encoding and delimiter from the first bytes; the one private copy (the spool)
//! of a source that cannot be read in place: packed, in another encoding, converted, or stdin.
//! # Never
//! Copies a plain UTF-8 file. Reads more than it can bound: unpacked text has a cap, and a ratio.
//! # See
//! [`Probe`] for how a source is opened, [`Opened`] for what came of it.

#[cfg(test)]
mod corpus;
mod delimiter;
mod encoding;
mod place;
mod read;
mod spool;
mod unpack;

pub use delimiter::detect as detect_delimiter;
pub use encoding::Reencoder;
pub use read::{Ask, copy, read};
pub use spool::{Convert, SPOOL_FILE};

use super::error::SourceError;
use super::profile::Converted;
use super::window;
use crate::model::{Delimiter, Encoding, Packing};
use encoding::TextReader;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use unpack::{Meter, Tap, Unpacked};

/// How many of the first bytes are looked at.
const HEAD_BYTES: usize = 64 << 10;

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A regular file.
    File(PathBuf),
    /// The standard input, read once.
    Stdin,
}

impl Input {
    /// Returns the path that stands for it in a job's record.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Stdin => Path::new(STDIN),
        }
    }

    /// Opens it for reading from its first byte.
    pub(super) fn open(&self) -> Result<Box<dyn Read>, SourceError> {
        Ok(match self {
            Self::File(path) => Box::new(window::open(path)?),
            Self::Stdin => Box::new(io::stdin()),
        })
    }

    /// Returns the input a job's record speaks of.
    pub fn of_path(path: &Path) -> Self {
        if path == Path::new(STDIN) {
            Self::Stdin
        } else {
            Self::File(path.to_owned())
        }
    }
}

/// What stands for stdin on the command line and in a record.
const STDIN: &str = "-";

/// A source whose first bytes were looked at.
pub struct Probe {
    input: Input,
    packing: Packing,
    encoding: Encoding,
    head: Vec<u8>,
    /// What follows the head, unpacked.
    rest: Box<dyn Read>,
    meter: Rc<Meter>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe")
            .field("input", &self.input)
            .field("packing", &self.packing)
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Opens the input and looks at its first bytes. `forced` is the encoding somebody named.
    pub fn begin(input: &Input, forced: Option<Encoding>) -> Result<Self, SourceError> {
        let meter = Rc::new(Meter::default());
        let mut raw = Tap::new(input.open()?, Rc::clone(&meter));
        let start = head(&mut raw, &meter, Packing::None)?;
        let packing = unpack::packing_of(&start)?;
        let raw = Cursor::new(start).chain(raw);
        let mut rest: Box<dyn Read> = match unpack::unpacker(packing, raw)? {
            Unpacked::Plain(raw) => raw,
            Unpacked::Packed(text) => Box::new(unpack::Guard::new(text, Rc::clone(&meter))),
        };
        let head = head(&mut rest, &meter, packing)?;
        if packing != Packing::None {
            unpack::refuse_inner(&head)?;
        }
        Ok(Self {
            input: input.clone(),
            packing,
            encoding: encoding::decide(&head, forced)?,
            head,
            rest,
            meter,
        })
    }

    /// Returns whether rows can be read from the file itself.
    pub fn is_plain(&self) -> bool {
        let in_place = matches!(self.input, Input::File(_)) && self.packing == Packing::None;
        in_place && self.encoding == Encoding::Utf8
    }

    /// Returns what the source is wrapped in.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Returns how it writes characters, as far as its first bytes tell.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the beginning as text, up to 64 KiB of the source; what is cut or broken is
    /// replaced.
    pub fn head_text(&self) -> String {
        encoding::lossy(&self.head, self.encoding)
    }

    /// Tells what separates the cells, as far as the beginning tells.
    pub fn delimiter(&self) -> Delimiter {
        let whole = self.head.len() < HEAD_BYTES;
        delimiter::of_head(self.head_text().as_bytes(), whole, &[])
    }

    /// Takes the file as it is: nothing is copied.
    pub fn in_place(self) -> Opened {
        Opened {
            rows: self.input.path().to_owned(),
            encoding: self.encoding,
            packing: self.packing,
            spooled: false,
            converted: None,
            origin: None,
        }
    }

    /// Writes the source as UTF-8 text into `folder`, through `convert` if there is one; calls
    /// `on_bytes` with the bytes of the source read so far.
    pub fn spool(
        self,
        folder: &Path,
        convert: Option<&mut Convert<'_>>,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Opened, SourceError> {
        let bytes = Cursor::new(self.head).chain(self.rest);
        let job = spool::Job {
            text: TextReader::new(Box::new(bytes), self.encoding),
            meter: &self.meter,
            packing: self.packing,
        };
        let rows = job.write(folder, convert, on_bytes)?;
        Ok(Opened {
            rows,
            encoding: self.encoding,
            packing: self.packing,
            spooled: true,
            converted: None,
            origin: Some(self.meter.totals()),
        })
    }
}

/// Reads the first bytes of a stream.
fn head(stream: &mut dyn Read, meter: &Meter, packing: Packing) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let limit = HEAD_BYTES as u64;
    match stream.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(unpack::told(error, meter, packing)),
    }
}

/// A source whose rows can be read.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The file of UTF-8 text that rows are read from.
    pub rows: PathBuf,
    /// How the source writes characters.
    pub encoding: Encoding,
    /// What it is wrapped in.
    pub packing: Packing,
    /// `rows` is a private copy.
    pub spooled: bool,
    /// The copy holds other records than the source: a profile made them.
    pub converted: Option<Converted>,
    /// Size and BLAKE3 (hex) of the source itself when it was copied.
    pub origin: Option<(u64, String)>,
}

impl Opened {
    /// Returns when the source, which `refused` says is not UTF-8, may be read as Windows-1252:
    /// when nothing in it is UTF-8 beyond ASCII, and `may_guess`.
    fn must_be_windows_1252(
        &self,
        refused: SourceError,
        may_guess: bool,
    ) -> Result<(), SourceError> {
        match encoding::utf8_line(&self.rows)? {
            Some(utf8_line) => Err(refused.into_mixed(utf8_line)),
            None if !may_guess => Err(refused.into_unconfirmed()),
            None => Ok(()),
        }
    }

    /// Reads the source again as Windows-1252; the copy goes to `folder`.
    fn into_windows_1252(
        self,
        folder: &Path,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Self, SourceError> {
        let forced = Some(Encoding::Windows1252);
        let probe = Probe::begin(&Input::File(self.rows), forced)?;
        let copy = probe.spool(folder, None, on_bytes)?;
        Ok(Self {
            packing: self.packing,
            origin: self.origin.or(copy.origin),
            ..copy
        })
    }

    /// Makes an error about the copy speak of the source's own bytes.
    pub fn told(&self, mut error: SourceError) -> SourceError {
        if self.converted.is_none() {
            error.each_byte(&mut |byte| {
                // Where it cannot be read again, the place within the copy is better than none.
                if let Ok(own) = place::own_byte(&self.rows, self.encoding, *byte) {
                    *byte = own;
                }
            });
        }
        error
    }
}
