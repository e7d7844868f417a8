//! Where something stands in the source, when rows are read from a copy in another encoding.

use super::super::error::{Place, SourceError};
use super::super::records::Fields;
use super::super::window::{self, Window, read_some};
use super::detect_delimiter;
use super::encoding::Malformed;
use crate::model::{Encoding, RowNumber};
use std::io::Read as _;
use std::path::Path;

const BLOCK_BYTES: usize = 64 << 10;

/// Returns the offset in the (unpacked) source of what stands at offset `byte` of its copy.
pub(super) fn own_byte(copy: &Path, encoding: Encoding, byte: u64) -> Result<u64, SourceError> {
    let unit = match encoding {
        Encoding::Utf8 => return Ok(byte),
        Encoding::Windows1252 => 1,
        Encoding::Utf16Le | Encoding::Utf16Be => 2,
    };
    let mut text = window::open(copy)?.take(byte);
    let mut block = vec![0; BLOCK_BYTES];
    let mut units = 0;
    loop {
        let read = read_some(&mut text, &mut block)?;
        if read == 0 {
            return Ok(units * unit);
        }
        let bytes = block.get(..read).unwrap_or_default();
        units += bytes
            .iter()
            .map(|byte| units_of(*byte, encoding))
            .sum::<u64>();
    }
}

/// Counts code units at the first byte of each character: two for one beyond the basic plane,
/// which only UTF-16 sources hold.
fn units_of(byte: u8, encoding: Encoding) -> u64 {
    match byte {
        0x80..=0xbf => 0,
        0xf0..=0xff if encoding != Encoding::Windows1252 => 2,
        _ => 1,
    }
}

/// Returns the place of bytes that are no text; `copied` is the text before them.
pub(super) fn of_malformed(copied: Option<&Path>, malformed: &Malformed) -> Place {
    let found = copied.and_then(|path| at_end(path, malformed.text_bytes).ok());
    Place {
        line: malformed.line,
        byte: malformed.byte,
        ..found.unwrap_or_default()
    }
}

/// Returns row and column of the end of a text that was cut there.
fn at_end(path: &Path, end: u64) -> Result<Place, SourceError> {
    let delimiter = detect_delimiter(path, &[])?;
    let mut window = Window::new(window::open(path)?);
    let mut fields = Fields::new(delimiter);
    let mut names: Vec<String> = Vec::new();
    window.begin(&mut |_| {})?;
    let mut row = 0;
    while let Ok(Some(length)) = window.next_record(&mut fields, &mut |_| {}) {
        let Ok(text) = window.record(length) else {
            break;
        };
        let is_cut = window.offset() + length as u64 == end && !text.ends_with(['\n', '\r']);
        if is_cut {
            let column = fields.len().checked_sub(1);
            let column = column.and_then(|last| names.get(last).cloned());
            return Ok(Place {
                row: (row > 0).then_some(RowNumber(row)),
                column,
                ..Place::default()
            });
        }
        if names.is_empty() {
            names = super::super::header::shown_names(text, &fields);
        }
        window.advance(length);
        row += 1;
    }
    Ok(Place {
        row: (row > 0).then_some(RowNumber(row)),
        ..Place::default()
    })
}
