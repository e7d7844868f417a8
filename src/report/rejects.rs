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
}
