//! Encodings: told from the first bytes, read as UTF-8, written back.
//!
//! A byte order mark stays in the text as U+FEFF, so that text written back in its encoding gives
//! the bytes it was read from.

use super::super::error::SourceError;
use super::super::window;
use crate::model::Encoding;
use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252};
use std::io::{self, Read, Write};
use std::path::Path;

const BLOCK_BYTES: usize = 64 << 10;

/// Bytes that Windows-1252 gives no character. Web pages read control characters out of them; a
/// file that holds one is something else.
const UNDEFINED_1252: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// Marks at the start of a text, the longer ones first: UTF-32 LE starts as UTF-16 LE does.
const MARKS: [(&[u8], Option<Encoding>); 5] = [
    (b"\xff\xfe\0\0", None),
    (b"\0\0\xfe\xff", None),
    (b"\xef\xbb\xbf", Some(Encoding::Utf8)),
    (b"\xff\xfe", Some(Encoding::Utf16Le)),
    (b"\xfe\xff", Some(Encoding::Utf16Be)),
];

/// How many bytes are counted to tell UTF-16 without a mark.
const COUNTED_BYTES: usize = 4 << 10;

/// Decides the encoding from the first bytes and from what somebody named. Windows-1252 is never
/// told from a beginning: a file that holds it may well start with plain ASCII.
pub(super) fn decide(head: &[u8], forced: Option<Encoding>) -> Result<Encoding, SourceError> {
    let mark = MARKS.iter().find(|(mark, _)| head.starts_with(mark));
    let marked = match mark {
        Some((_, None)) => {
            return Err(SourceError::Format {
                code: "encoding_utf32",
                what: "UTF-32 text",
            });
        }
        Some((_, marked)) => *marked,
        None => None,
    };
    match (forced, marked) {
        (Some(given), Some(found)) if given != found => {
            Err(SourceError::EncodingContradicted { given, found })
        }
        (Some(given), _) => Ok(given),
        (None, Some(found)) => Ok(found),
        (None, None) => Ok(without_mark(head)),
    }
}

/// Tells UTF-16 without a mark by its NUL bytes: half of the bytes of mostly Latin text.
fn without_mark(head: &[u8]) -> Encoding {
    let counted = head.get(..COUNTED_BYTES).unwrap_or(head);
    let pairs = counted.len() / 2;
    let nuls = |odd: usize| {
        let bytes = counted.iter().skip(odd).step_by(2);
        bytes.filter(|byte| **byte == 0).count()
    };
    let (even, odd) = (nuls(0), nuls(1));
    let is_most = |many: usize, few: usize| many * 5 > pairs * 2 && few * 20 < pairs.max(1);
    if is_most(odd, even) {
        Encoding::Utf16Le
    } else if is_most(even, odd) {
        Encoding::Utf16Be
    } else {
        Encoding::Utf8
    }
}

/// Returns a beginning as text, broken and cut characters replaced.
pub(super) fn lossy(head: &[u8], encoding: Encoding) -> String {
    let text = match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(head),
        Encoding::Utf16Le => UTF_16LE.decode_without_bom_handling(head).0,
        Encoding::Utf16Be => UTF_16BE.decode_without_bom_handling(head).0,
        Encoding::Windows1252 => WINDOWS_1252.decode_without_bom_handling(head).0,
    };
    text.trim_start_matches('\u{feff}').to_owned()
}

/// Returns the line of the first character beyond ASCII that is valid UTF-8, if there is one.
pub(super) fn utf8_line(path: &Path) -> Result<Option<u64>, SourceError> {
    let mut file = window::open(path)?;
    let mut block = vec![0; BLOCK_BYTES];
    let (mut line, mut kept) = (1, 0);
    loop {
        let room = block.get_mut(kept..).unwrap_or_default();
        let read = window::read_some(&mut file, room)?;
        let bytes = block.get(..kept + read).unwrap_or_default();
        let (found, used) = first_character(bytes, read == 0);
        let before = bytes.get(..found.unwrap_or(used)).unwrap_or_default();
        line += super::super::records::lines_in(before);
        if found.is_some() {
            return Ok(Some(line));
        }
        if read == 0 {
            return Ok(None);
        }
        let end = kept + read;
        block.copy_within(used..end, 0);
        kept = end - used;
    }
}

/// Returns where the first valid character beyond ASCII stands, and how many bytes are done with:
/// all but a character that may go on beyond them.
fn first_character(bytes: &[u8], last: bool) -> (Option<usize>, usize) {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(ahead) = rest.iter().position(|byte| !byte.is_ascii()) else {
            return (None, bytes.len());
        };
        at += ahead;
        let rest = bytes.get(at..).unwrap_or_default();
        match std::str::from_utf8(rest) {
            Ok(_) => return (Some(at), at),
            Err(error) if error.valid_up_to() > 0 => return (Some(at), at),
            Err(error) => match error.error_len() {
                Some(broken) => at += broken,
                None if last => return (None, bytes.len()),
                None => return (None, at),
            },
        }
    }
}

/// Bytes that are no text in their encoding.
#[derive(Debug, thiserror::Error)]
#[error("bytes that are no {encoding} text")]
pub(super) struct Malformed {
    pub(super) encoding: Encoding,
    /// Offset of the first of them in the source, unpacked.
    pub(super) byte: u64,
    /// Bytes of UTF-8 text before them.
    pub(super) text_bytes: u64,
    /// The line they are on, from 1.
    pub(super) line: u64,
}

/// Reads bytes of an encoding as UTF-8. UTF-8 passes as it is: the index judges it.
pub(super) struct TextReader {
    bytes: Box<dyn Read>,
    encoding: Encoding,
    /// `None` for UTF-8.
    decoder: Option<Decoder>,
    /// Bytes not decoded yet: `block[at..filled]`.
    block: Vec<u8>,
    at: usize,
    filled: usize,
    ended: bool,
    /// Text not taken yet: `text[taken..]`.
    text: Vec<u8>,
    taken: usize,
    read_bytes: u64,
    text_bytes: u64,
    lines: u64,
    malformed: Option<Malformed>,
}

impl TextReader {
    pub(super) fn new(bytes: Box<dyn Read>, encoding: Encoding) -> Self {
        let from = match encoding {
            Encoding::Utf8 => None,
            Encoding::Utf16Le => Some(UTF_16LE),
            Encoding::Utf16Be => Some(UTF_16BE),
            Encoding::Windows1252 => Some(WINDOWS_1252),
        };
        Self {
            bytes,
            encoding,
            decoder: from.map(encoding_rs::Encoding::new_decoder_without_bom_handling),
            block: vec![0; BLOCK_BYTES],
            at: 0,
            filled: 0,
            ended: false,
            text: Vec::new(),
            taken: 0,
            read_bytes: 0,
            text_bytes: 0,
            lines: 0,
            malformed: None,
        }
    }

    /// Decodes one more block; the text is empty at the end only.
    fn decode(&mut self, decoder: &mut Decoder) -> io::Result<()> {
        self.taken = 0;
        self.text.clear();
        while self.text.is_empty() && self.malformed.is_none() {
            if self.at == self.filled {
                if self.ended {
                    return Ok(());
                }
                self.filled = self.bytes.read(&mut self.block)?;
                self.at = 0;
                self.ended = self.filled == 0;
            }
            self.decode_block(decoder);
        }
        Ok(())
    }

    fn decode_block(&mut self, decoder: &mut Decoder) {
        let mut block = self.block.get(self.at..self.filled).unwrap_or_default();
        let undefined = undefined_1252(block, self.encoding);
        if let Some(at) = undefined {
            block = block.get(..at).unwrap_or_default();
        }
        // Three bytes of text for one of Windows-1252 at most, and fewer for UTF-16.
        self.text.resize(3 * block.len() + 16, 0);
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(block, &mut self.text, self.ended);
        self.text.truncate(written);
        self.at += read;
        self.read_bytes += read as u64;
        self.text_bytes += written as u64;
        self.lines += super::super::records::lines_in(&self.text);
        let behind = match result {
            DecoderResult::Malformed(length, after) => u64::from(length) + u64::from(after),
            DecoderResult::InputEmpty if undefined.is_some() => 0,
            DecoderResult::InputEmpty | DecoderResult::OutputFull => return,
        };
        self.malformed = Some(Malformed {
            encoding: self.encoding,
            byte: self.read_bytes.saturating_sub(behind),
            text_bytes: self.text_bytes,
            line: self.lines + 1,
        });
    }
}

fn undefined_1252(block: &[u8], encoding: Encoding) -> Option<usize> {
    if encoding != Encoding::Windows1252 {
        return None;
    }
    block.iter().position(|byte| UNDEFINED_1252.contains(byte))
}

impl Read for TextReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut decoder) = self.decoder.take() else {
            return self.bytes.read(buffer);
        };
        let mut done = Ok(());
        if self.taken == self.text.len() && self.malformed.is_none() {
            done = self.decode(&mut decoder);
        }
        self.decoder = Some(decoder);
        done?;
        let rest = self.text.get(self.taken..).unwrap_or_default();
        if rest.is_empty()
            && let Some(malformed) = self.malformed.take()
        {
            return Err(io::Error::other(malformed));
        }
        let length = rest.len().min(buffer.len());
        let (to, _) = buffer.split_at_mut(length);
        to.copy_from_slice(rest.get(..length).unwrap_or_default());
        self.taken += length;
        Ok(length)
    }
}

/// Writes UTF-8 text back in the encoding it was read from. Takes whole characters only.
#[derive(Debug)]
pub struct Reencoder<W> {
    out: W,
    encoding: Encoding,
}

impl<W: Write> Reencoder<W> {
    /// Starts.
    pub fn new(out: W, encoding: Encoding) -> Self {
        Self { out, encoding }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        match self.encoding {
            Encoding::Utf8 => self.out.write_all(text.as_bytes()),
            Encoding::Utf16Le => self.put_units(text, u16::to_le_bytes),
            Encoding::Utf16Be => self.put_units(text, u16::to_be_bytes),
            Encoding::Windows1252 => self.out.write_all(&WINDOWS_1252.encode(text).0),
        }
    }

    fn put_units(&mut self, text: &str, to_bytes: fn(u16) -> [u8; 2]) -> io::Result<()> {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(to_bytes).collect();
        self.out.write_all(&bytes)
    }
}

impl<W: Write> Write for Reencoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.encoding == Encoding::Utf8 {
            return self.out.write(bytes);
        }
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        self.put(text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Encoding; 4] = [
        Encoding::Utf8,
        Encoding::Utf16Le,
        Encoding::Utf16Be,
        Encoding::Windows1252,
    ];

    /// Gives a few bytes at a time.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let now: Vec<u8> = self.0.drain(..length).collect();
            buffer[..length].copy_from_slice(&now);
            Ok(length)
        }
    }

    fn read(bytes: &[u8], encoding: Encoding, step: usize) -> io::Result<String> {
        let mut text = String::new();
        TextReader::new(Box::new(Trickle(bytes.to_vec(), step)), encoding)
            .read_to_string(&mut text)?;
        Ok(text)
    }

    fn malformed(bytes: &[u8], encoding: Encoding) -> Malformed {
        let error = read(bytes, encoding, 3).unwrap_err();
        let inner = error.into_inner().unwrap();
        *inner.downcast::<Malformed>().unwrap()
    }

    proptest! {
        #[test]
        fn text_comes_back_in_its_own_bytes(text in "[ab,\r\nä€😀\u{feff}]{0,80}", step in 1usize..9) {
            for encoding in ALL {
                if encoding == Encoding::Windows1252 && text.contains(['😀', '\u{feff}']) {
                    continue;
                }
                let mut out = Reencoder::new(Vec::new(), encoding);
                out.write_all(text.as_bytes()).unwrap();
                prop_assert_eq!(&read(&out.out, encoding, step).unwrap(), &text);
            }
        }

        #[test]
        fn every_byte_of_windows_1252_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|b| !UNDEFINED_1252.contains(b)).collect();
            let text = read(&bytes, Encoding::Windows1252, 7).unwrap();
            let mut out = Reencoder::new(Vec::new(), Encoding::Windows1252);
            out.write_all(text.as_bytes()).unwrap();
            prop_assert_eq!(out.out, bytes);
        }

        #[test]
        fn where_utf8_begins_does_not_depend_on_blocks(soup in proptest::collection::vec(
            prop_oneof![Just(b'a'), Just(b'\n'), Just(0xc3), Just(0xa4), Just(0xe2), Just(0x82), Just(0xac)],
            0..40,
        )) {
            let (whole, _) = first_character(&soup, true);
            let mut done = 0;
            let mut found = None;
            for end in 0..=soup.len() {
                let last = end == soup.len();
                let (at, used) = first_character(&soup[done..end], last);
                if let Some(at) = at {
                    found = Some(done + at);
                    break;
                }
                done += used;
            }
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn marks_and_nul_bytes_tell_the_encoding() {
        let le = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<u8>>()
        };
        let be = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect::<Vec<u8>>()
        };
        for (bytes, expected) in [
            (b"email,a\n".to_vec(), Encoding::Utf8),
            (b"\xef\xbb\xbfemail".to_vec(), Encoding::Utf8),
            (Vec::new(), Encoding::Utf8),
            (le("\u{feff}email"), Encoding::Utf16Le),
            (be("\u{feff}email"), Encoding::Utf16Be),
            (le("email,näme\nä@x.org,€\n"), Encoding::Utf16Le),
            (be("email,näme\nä@x.org,€\n"), Encoding::Utf16Be),
            (b"email,a\0b\n".to_vec(), Encoding::Utf8),
        ] {
            assert_eq!(decide(&bytes, None).unwrap(), expected, "{bytes:?}");
        }
        assert_eq!(
            decide(b"\xff\xfe\0\0", None).unwrap_err().code(),
            "encoding_utf32"
        );
        let error = decide(b"\xff\xfee\0", Some(Encoding::Utf8)).unwrap_err();
        assert_eq!(error.code(), "encoding_contradicted");
        let forced = decide(b"email", Some(Encoding::Windows1252)).unwrap();
        assert_eq!(forced, Encoding::Windows1252);
    }

    #[test]
    fn what_is_no_text_is_told_with_its_offset() {
        let broken = malformed(b"a\n\x80b\x81c", Encoding::Windows1252);
        assert_eq!((broken.byte, broken.text_bytes, broken.line), (4, 6, 2));
        let broken = malformed(b"a\0\n\0\x00\xd8b\0", Encoding::Utf16Le);
        assert_eq!((broken.byte, broken.text_bytes, broken.line), (4, 2, 2));
        let broken = malformed(b"a\0b", Encoding::Utf16Le);
        assert_eq!((broken.byte, broken.line), (2, 1));
    }
}
