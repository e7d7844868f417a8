//! Packed sources: what they are wrapped in, and how much of them is believed.

use super::super::error::SourceError;
use crate::model::Packing;
use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

/// The most text that is taken out of one source, or read from stdin: 64 GiB. Ten million long
/// rows are a quarter of it.
pub(super) const TEXT_BYTES_MAX: u64 = 64 << 30;

/// The most bytes of text one packed byte may hold. Tables of people pack 3 to 30 times.
const RATIO_MAX: u64 = 200;

/// The ratio counts from here on: a small file may be as dense as it likes.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// What the first bytes tell: code, words, hint, bytes.
const ARCHIVES: &[(&str, &str, &[u8])] = &[
    (
        "archive",
        "a zip archive or an Excel workbook",
        b"PK\x03\x04",
    ),
    (
        "archive",
        "an old Excel workbook",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    ),
    ("archive", "packed with xz", b"\xfd7zXZ\0"),
    ("archive", "packed with bzip2", b"BZh"),
    ("archive", "a 7-zip archive", b"7z\xbc\xaf\x27\x1c"),
];

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Tells what a source is wrapped in; refuses what is not unpacked here.
pub(super) fn packing_of(head: &[u8]) -> Result<Packing, SourceError> {
    if head.starts_with(GZIP) {
        return Ok(Packing::Gzip);
    }
    if head.starts_with(ZSTD) {
        return Ok(Packing::Zstd);
    }
    for (code, what, magic) in ARCHIVES {
        if head.starts_with(magic) {
            return Err(SourceError::Format { code, what });
        }
    }
    Ok(Packing::None)
}

/// Refuses what is packed twice.
pub(super) fn refuse_inner(head: &[u8]) -> Result<(), SourceError> {
    match packing_of(head)? {
        Packing::None => Ok(()),
        Packing::Gzip | Packing::Zstd => Err(SourceError::Format {
            code: "packed_twice",
            what: "packed twice",
        }),
    }
}

/// Size, hash and mishaps of the bytes read from a source.
#[derive(Debug, Default)]
pub(super) struct Meter {
    bytes: Cell<u64>,
    failed: Cell<bool>,
    hasher: RefCell<blake3::Hasher>,
}

impl Meter {
    /// Returns how many bytes were read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Returns size and hash (hex) of what was read.
    pub(super) fn totals(&self) -> (u64, String) {
        let hash = self.hasher.borrow().finalize().to_hex().to_string();
        (self.bytes.get(), hash)
    }
}

/// A source that is measured while it is read.
pub(super) struct Tap {
    inner: Box<dyn Read>,
    meter: Rc<Meter>,
}

impl Tap {
    pub(super) fn new(inner: Box<dyn Read>, meter: Rc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).inspect_err(|error| {
            let is_pause = error.kind() == io::ErrorKind::Interrupted;
            self.meter.failed.set(!is_pause);
        })?;
        let bytes = buffer.get(..read).unwrap_or_default();
        self.meter.hasher.borrow_mut().update(bytes);
        self.meter.bytes.set(self.meter.bytes.get() + read as u64);
        Ok(read)
    }
}

/// A stream, unpacked if it was packed.
pub(super) enum Unpacked {
    /// It was not.
    Plain(Box<dyn Read>),
    /// It was.
    Packed(Box<dyn Read>),
}

/// Starts to unpack a stream. Files of several parts, as `cat a.gz b.gz` makes them, are read to
/// their end.
pub(super) fn unpacker(
    packing: Packing,
    raw: impl Read + 'static,
) -> Result<Unpacked, SourceError> {
    Ok(match packing {
        Packing::None => Unpacked::Plain(Box::new(raw)),
        Packing::Gzip => Unpacked::Packed(Box::new(flate2::read::MultiGzDecoder::new(raw))),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(raw).map_err(SourceError::Read)?;
            Unpacked::Packed(Box::new(decoder))
        }
    })
}

/// Why no more text is taken out of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cap {
    /// More text than packed bytes can honestly hold.
    #[error("unpacks to more than {RATIO_MAX} times its size")]
    Ratio,
    /// More text than is ever taken.
    #[error("holds more than {} GiB of text", TEXT_BYTES_MAX >> 30)]
    Size,
}

/// Unpacked text, stopped when it grows beyond what is believed.
pub(super) struct Guard {
    text: Box<dyn Read>,
    meter: Rc<Meter>,
    bytes: u64,
}

impl Guard {
    pub(super) fn new(text: Box<dyn Read>, meter: Rc<Meter>) -> Self {
        Self {
            text,
            meter,
            bytes: 0,
        }
    }
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        self.bytes += read as u64;
        match cap(self.bytes, self.meter.bytes()) {
            Some(cap) => Err(io::Error::other(cap)),
            None => Ok(read),
        }
    }
}

/// Returns why `text` bytes out of `packed` bytes are too many, if they are.
fn cap(text: u64, packed: u64) -> Option<Cap> {
    if text > TEXT_BYTES_MAX {
        return Some(Cap::Size);
    }
    let is_dense = text > RATIO_FREE_BYTES && text / RATIO_MAX > packed;
    is_dense.then_some(Cap::Ratio)
}

/// Says in words why a stream could not be read to its end.
pub(super) fn told(error: io::Error, meter: &Meter, packing: Packing) -> SourceError {
    let cap = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Cap>());
    match (cap, packing) {
        (Some(cap), _) => SourceError::UnpackedTooLarge {
            what: cap.to_string(),
        },
        (None, Packing::None) => SourceError::Read(error),
        (None, _) if meter.failed.get() => SourceError::Read(error),
        (None, packing) => SourceError::Unpack {
            packing,
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_packing() {
        assert_eq!(packing_of(b"email,a\n").unwrap(), Packing::None);
        assert_eq!(packing_of(b"\x1f\x8b\x08").unwrap(), Packing::Gzip);
        assert_eq!(packing_of(b"\x28\xb5\x2f\xfd\x04").unwrap(), Packing::Zstd);
        assert_eq!(packing_of(b"PK\x03\x04").unwrap_err().code(), "archive");
        assert_eq!(
            refuse_inner(b"\x1f\x8b").unwrap_err().code(),
            "packed_twice"
        );
    }

    #[test]
    fn what_unpacks_to_more_than_it_can_hold_is_capped() {
        assert_eq!(cap(RATIO_FREE_BYTES, 1), None);
        assert_eq!(cap(RATIO_FREE_BYTES + RATIO_MAX, 1), Some(Cap::Ratio));
        assert_eq!(cap(10 << 30, 1 << 30), None);
        assert_eq!(cap(TEXT_BYTES_MAX + 1, TEXT_BYTES_MAX), Some(Cap::Size));
    }
}
