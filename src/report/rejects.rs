//! `rejects`: failed and parked rows as they stand in the source, under its own header. Bytes are
//! copied, never parsed and written again, so that nothing of a row changes on the way.

use std::io::{self, Write};

/// Writes a header and records, byte for byte.
#[derive(Debug)]
pub struct RejectsWriter<W: Write> {
    out: W,
    line_end: &'static [u8],
    records: u64,
}

impl<W: Write> RejectsWriter<W> {
    /// Starts with the source's header record, its byte order mark included.
    pub fn start(mut out: W, header: &[u8]) -> io::Result<Self> {
        // The source's own line end, for a record that lost its own at the end of the file.
        let line_end: &[u8] = if header.ends_with(b"\r\n") {
            b"\r\n"
        } else {
            b"\n"
        };
        write_ended(&mut out, header, line_end)?;
        Ok(Self {
            out,
            line_end,
            records: 0,
        })
    }

    /// Copies one record.
    pub fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.records += 1;
        write_ended(&mut self.out, record, self.line_end)
    }

    /// Returns the sink with everything written to it, and how many records.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.out.flush()?;
        Ok((self.out, self.records))
    }
}

fn write_ended(out: &mut impl Write, bytes: &[u8], line_end: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    if bytes.ends_with(b"\n") || bytes.ends_with(b"\r") {
        Ok(())
    } else {
        out.write_all(line_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OrgMode;
    use crate::source::chunk::{read_bytes, read_header};
    use crate::source::{IndexOptions, build, records};
    use proptest::prelude::*;

    fn copy(header: &[u8], records: &[&[u8]]) -> Vec<u8> {
        let mut writer = RejectsWriter::start(Vec::new(), header).unwrap();
        for record in records {
            writer.write(record).unwrap();
        }
        let (out, count) = writer.finish().unwrap();
        assert_eq!(count, records.len() as u64);
        out
    }

    #[test]
    fn bytes_are_copied() {
        let header = b"\xef\xbb\xbf\"E mail\" ,n\r\n";
        let record = b"=a@x.org,\"two\nlines\"\"\"\r\n";
        assert_eq!(copy(header, &[record]), [&header[..], record].concat());
    }

    #[test]
    fn a_lost_line_end_is_the_files_own() {
        assert_eq!(
            copy(b"email\r\n", &[b"a@x.org", b"b@x.org\r\n"]),
            b"email\r\na@x.org\r\nb@x.org\r\n"
        );
        assert_eq!(copy(b"email", &[]), b"email\n");
    }

    /// A file of three columns in every style there is, with or without a last line end.
    fn source() -> impl Strategy<Value = String> {
        let cell = prop_oneof![
            "[a-c@é=+ ]{0,6}",
            "[a,\r\n\"é]{0,6}".prop_map(|text| format!("\"{}\"", text.replace('"', "\"\""))),
            "[a\"]{1,3}".prop_map(|text| format!("x{text}")),
        ];
        let end = prop::sample::select(vec!["\n", "\r\n", "\n\n", "\r\n\r\n"]);
        let rows = prop::collection::vec((prop::collection::vec(cell, 3), end.clone()), 0..12);
        (any::<bool>(), end, rows, any::<bool>()).prop_map(|(mark, end, rows, is_cut)| {
            let mut text = String::from(if mark { "\u{feff}" } else { "" });
            text.extend(["email,\"first_name\",last_name", end]);
            for (cells, end) in rows {
                text.extend([&cells.join(","), end]);
            }
            let ended = text.trim_end_matches(['\r', '\n']).len();
            text.truncate(if is_cut { ended } else { text.len() });
            text
        })
    }

    fn by_csv(bytes: &[u8]) -> Vec<csv::StringRecord> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(bytes);
        reader.records().map(Result::unwrap).collect()
    }

    proptest! {
        #[test]
        fn rejects_read_as_the_rows_of_the_source_do(
            text in source(),
            chosen in prop::collection::vec(any::<bool>(), 12),
            chunk_size in 1_u32..5,
        ) {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let options = IndexOptions { chunk_size, org_mode: OrgMode::Columns, hash_key: 1, delimiter: crate::model::Delimiter::Comma, renames: Vec::new(), profile: crate::source::profile::ProfileChoice::Off };
            let index = build(file.path(), &options, &mut |_| {}).unwrap();
            let header = read_header(file.as_file(), &index.columns).unwrap();
            let mut writer = RejectsWriter::start(Vec::new(), &header).unwrap();
            for chunk in &index.chunks {
                let bytes = read_bytes(file.as_file(), chunk).unwrap();
                for record in records(&bytes, chunk, index.columns.delimiter) {
                    if chosen[record.number.0 as usize - 1] {
                        writer.write(record.bytes).unwrap();
                    }
                }
            }
            let (rejects, _) = writer.finish().unwrap();
            let mut source = by_csv(text.as_bytes()).into_iter();
            let mut expected = vec![source.next().unwrap()];
            expected.extend(source.zip(&chosen).filter(|(_, is)| **is).map(|(record, _)| record));
            prop_assert_eq!(by_csv(&rejects), expected);
            prop_assert!(rejects.starts_with(&header));
        }
    }
}
