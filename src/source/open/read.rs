//! From an input to an index: the whole way, with the second try for Windows-1252.

use super::super::error::SourceError;
use super::super::index::{self, Index, IndexOptions};
use super::super::profile::{Beside, Conversion, ProfileChoice};
use super::{Input, Opened, Probe, detect_delimiter};
use crate::model::{Delimiter, Encoding};
use std::path::{Path, PathBuf};

/// What somebody said about a source; the rest is found out.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Its encoding.
    pub encoding: Option<Encoding>,
    /// What stands between two cells.
    pub delimiter: Option<Delimiter>,
    /// Windows-1252 may be taken for granted when the text is not UTF-8. No byte of a file proves
    /// that encoding, so that where people are at stake somebody has to say it.
    pub may_guess: bool,
    /// What was given beside an export.
    pub beside: Beside,
}

/// Opens the input, copies it where rows cannot be read in place, and indexes it. `folder` names
/// the folder of a copy and is called only when there is one; `on_bytes` hears how many bytes of
/// the source were read so far. Of `options`, the delimiter is what `ask` or the source says.
pub fn read<E: From<SourceError>>(
    input: &Input,
    ask: &Ask,
    options: &IndexOptions,
    folder: &mut dyn FnMut() -> Result<PathBuf, E>,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(Opened, Index), E> {
    let probe = Probe::begin(input, ask.encoding)?;
    let head = probe.head_text();
    let delimiter = ask.delimiter.unwrap_or_else(|| probe.delimiter());
    let opened = match Conversion::of(&head, delimiter, &options.profile, &ask.beside)? {
        Some(conversion) => {
            refuse_form(ask, options, &conversion)?;
            converted(probe, conversion, &folder()?, on_bytes)?
        }
        None if probe.is_plain() => probe.in_place(),
        None => probe.spool(&folder()?, None, on_bytes)?,
    };
    match index_of(&opened, ask, options, on_bytes) {
        Err(refused @ SourceError::NotUtf8 { .. }) if is_open(ask, &opened) => {
            opened.must_be_windows_1252(refused, ask.may_guess)?;
            let again = opened.into_windows_1252(&folder()?, on_bytes)?;
            let index = index_of(&again, ask, options, on_bytes);
            let index = index.map_err(|error| again.told(error))?;
            Ok((again, index))
        }
        Err(error) => Err(opened.told(error).into()),
        Ok(index) => Ok((opened, index)),
    }
}

/// Makes rows of ours out of an export.
fn converted(
    probe: Probe,
    mut conversion: Conversion,
    folder: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Opened, SourceError> {
    let opened = probe.spool(
        folder,
        Some(&mut |text, out| conversion.run(text, out)),
        on_bytes,
    )?;
    Ok(Opened {
        converted: Some(conversion.converted()),
        ..opened
    })
}

/// What is said about the cells of a CSV is of no use to an export that is none, and names of
/// columns are the profile's where files are joined.
fn refuse_form(
    ask: &Ask,
    options: &IndexOptions,
    conversion: &Conversion,
) -> Result<(), SourceError> {
    let option = match (ask.delimiter, options.renames.is_empty()) {
        (Some(_), _) if conversion.is_json() => "--delimiter",
        (_, false) => "--map",
        (_, true) => return Ok(()),
    };
    Err(SourceError::BesideNothing {
        option,
        profile: Some(conversion.name().to_owned()),
    })
}

/// Copies the input anew, as it was read the first time.
pub fn copy(
    input: &Input,
    encoding: Encoding,
    folder: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Opened, SourceError> {
    Probe::begin(input, Some(encoding))?.spool(folder, None, on_bytes)
}

/// Returns whether nobody and nothing has said what the encoding is.
fn is_open(ask: &Ask, opened: &Opened) -> bool {
    ask.encoding.is_none() && opened.encoding == Encoding::Utf8 && opened.converted.is_none()
}

fn index_of(
    opened: &Opened,
    ask: &Ask,
    options: &IndexOptions,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Index, SourceError> {
    if opened.converted.is_some() {
        let ours = IndexOptions {
            delimiter: Delimiter::Comma,
            renames: Vec::new(),
            profile: ProfileChoice::Off,
            ..options.clone()
        };
        return index::build(&opened.rows, &ours, on_bytes);
    }
    let delimiter = match ask.delimiter {
        Some(delimiter) => delimiter,
        None => detect_delimiter(&opened.rows, &options.renames)?,
    };
    let options = IndexOptions {
        delimiter,
        ..options.clone()
    };
    index::build(&opened.rows, &options, on_bytes)
}
