//! Telling the delimiter from the first records.

use super::super::error::SourceError;
use super::super::header;
use super::super::records::{Fields, Scan, blank_lines_len};
use super::super::window;
use super::HEAD_BYTES;
use crate::model::{Delimiter, Rename};
use std::io::Read as _;
use std::path::Path;

/// How many records are compared when the header alone does not tell.
const RECORDS_COMPARED: usize = 100;

/// Tells what separates the cells of the file at `path`: what makes one of the header's cells an
/// email column, or else what splits the first records into equally many cells.
pub fn detect(path: &Path, renames: &[Rename]) -> Result<Delimiter, SourceError> {
    let mut head = Vec::new();
    let file = window::open(path)?;
    file.take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(SourceError::Read)?;
    let whole = head.len() < HEAD_BYTES;
    Ok(of_head(&head, whole, renames))
}

/// Tells what separates the cells of a text that begins with `head`, or is all of it.
pub(super) fn of_head(head: &[u8], whole: bool, renames: &[Rename]) -> Delimiter {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut candidates: Vec<(Delimiter, Shape)> = Delimiter::ALL
        .into_iter()
        .map(|delimiter| (delimiter, shape(head, whole, delimiter, renames)))
        .collect();
    // The first of the best: earlier ones are likelier.
    candidates.reverse();
    let best = candidates.into_iter().max_by_key(|(_, shape)| *shape);
    best.map_or_else(Delimiter::default, |(delimiter, _)| delimiter)
}

/// How well a delimiter fits; the greater the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    /// The header has a column that holds emails.
    has_email: bool,
    /// The header has more than one cell, and every record seen as many.
    is_even: bool,
    /// Cells of the header.
    cells: usize,
}

fn shape(head: &[u8], whole: bool, delimiter: Delimiter, renames: &[Rename]) -> Shape {
    let mut fields = Fields::new(delimiter);
    let mut shape = Shape::default();
    let mut at = 0;
    for record in 0..RECORDS_COMPARED {
        at += blank_lines_len(head.get(at..).unwrap_or_default(), delimiter);
        let rest = head.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        // A record that goes on beyond what was read is seen in part: enough of a header.
        let (length, cut) = match fields.scan(rest, whole || record == 0) {
            Scan::Record(length) => (length, false),
            Scan::More(_) => (rest.len(), true),
        };
        if record == 0 {
            let text = String::from_utf8_lossy(rest.get(..length).unwrap_or_default());
            shape.cells = fields.len();
            shape.is_even = fields.len() > 1;
            shape.has_email = header::has_email(&text, delimiter, renames);
        } else if !cut && fields.len() != shape.cells {
            shape.is_even = false;
        }
        at += length;
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Delimiter {
        of_head(text.as_bytes(), true, &[])
    }

    #[test]
    fn the_email_column_decides() {
        use Delimiter::{Bar, Comma, Semicolon, Tab};
        for (text, expected) in [
            ("email", Comma),
            ("email,name\n", Comma),
            ("email;name\n", Semicolon),
            ("name\tE-Mail\n", Tab),
            ("email|name\n", Bar),
            ("email;last, first;a,b,c,d\n", Semicolon),
            ("\"email\",\"a;b;c;d\"\n", Comma),
            ("\u{feff}\"email\";b\n", Semicolon),
            ("\n\n\"a\nb\";email\n", Semicolon),
            ("email\na@x.org;b\n", Comma),
        ] {
            assert_eq!(of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn without_an_email_column_the_records_decide() {
        use Delimiter::{Comma, Semicolon, Tab};
        assert_eq!(of("mail;name\na@x.org;b, c\nd@x.org;e\n"), Semicolon);
        assert_eq!(of("mail\tname, first\na@x.org\tb\n"), Tab);
        assert_eq!(of("nothing\n"), Comma);
        assert_eq!(of(""), Comma);
    }

    #[test]
    fn a_mapped_column_counts_as_email() {
        let renames = [Rename {
            theirs: "Adresse, dienstlich".to_owned(),
            known: "email".to_owned(),
        }];
        let head = "Name, Titel, Rang;Adresse, dienstlich\n".as_bytes();
        assert_eq!(of_head(head, true, &renames), Delimiter::Semicolon);
    }

    #[test]
    fn a_header_longer_than_the_head_is_seen_in_part() {
        let long = format!("email;{}", "x;".repeat(40_000));
        let head = &long.as_bytes()[..HEAD_BYTES];
        assert_eq!(of_head(head, false, &[]), Delimiter::Semicolon);
    }
}
