//! Reads a file ahead, on a thread of its own, and hashes it there: a third of the index pass that
//! needs nothing of the rest.
//!
//! A few blocks go round between the two threads: all the memory that this takes.

use super::SourceError;
use super::window::{BLOCK_BYTES, read_patiently};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope};

/// Blocks that go round: one is read, one is hashed or waits, one is looked at.
const BLOCKS: usize = 3;

/// What the thread says.
enum Piece {
    /// The next bytes of the file: that many of the block's first.
    Bytes(Vec<u8>, usize),
    /// There are no more; the hash of all.
    End(blake3::Hash),
    Failed(io::Error),
}

/// The reading end.
pub(super) struct Ahead {
    pieces: Receiver<Piece>,
    used: Sender<Vec<u8>>,
    block: Vec<u8>,
    filled: usize,
    at: usize,
    hash: Option<blake3::Hash>,
}

impl Ahead {
    /// Starts reading `file`; ends with it, or when the reading end is dropped.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        file: impl Read + Send + 'scope,
    ) -> Result<Self, SourceError> {
        let (say, pieces) = sync_channel(BLOCKS);
        let (used, blocks) = channel();
        for _ in 1..BLOCKS {
            if used.send(vec![0; BLOCK_BYTES]).is_err() {
                // Cannot be: the other end is below.
            }
        }
        Builder::new()
            .name("read-ahead".to_owned())
            .spawn_scoped(scope, move || read_all(file, &blocks, &say))
            .map_err(|error| unstarted(&error))?;
        Ok(Self {
            pieces,
            used,
            block: vec![0; BLOCK_BYTES],
            filled: 0,
            at: 0,
            hash: None,
        })
    }

    /// Returns the hash of the whole file; an error before its end was read.
    pub(super) fn hash(&self) -> Result<blake3::Hash, SourceError> {
        let unread = || SourceError::Read(io::Error::other("the file was not read to its end"));
        self.hash.ok_or_else(unread)
    }

    /// Takes the next block, if there is one.
    fn turn(&mut self) -> io::Result<()> {
        if self.hash.is_some() {
            return Ok(());
        }
        match self.pieces.recv() {
            Ok(Piece::Bytes(block, filled)) => {
                let used = std::mem::replace(&mut self.block, block);
                if self.used.send(used).is_err() {
                    // A thread that is gone has read to the end, or failed, and said so.
                }
                (self.filled, self.at) = (filled, 0);
                Ok(())
            }
            Ok(Piece::End(hash)) => {
                self.hash = Some(hash);
                Ok(())
            }
            Ok(Piece::Failed(error)) => Err(error),
            Err(_) => Err(io::Error::other("the thread that reads the file is gone")),
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.filled {
            self.turn()?;
        }
        let rest = self.block.get(self.at..self.filled).unwrap_or_default();
        let read = (&*rest).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

fn unstarted(error: &io::Error) -> SourceError {
    let words = format!("no thread could be started for it: {error}");
    SourceError::Read(io::Error::new(error.kind(), words))
}

/// Reads until the end, an error, or nobody listens any more.
fn read_all(mut file: impl Read, blocks: &Receiver<Vec<u8>>, say: &SyncSender<Piece>) {
    let mut hasher = blake3::Hasher::new();
    while let Ok(mut block) = blocks.recv() {
        let piece = match read_patiently(&mut file, &mut block) {
            Ok(0) => Piece::End(hasher.finalize()),
            Ok(read) => {
                hasher.update(block.get(..read).unwrap_or_default());
                Piece::Bytes(block, read)
            }
            Err(error) => Piece::Failed(error),
        };
        let goes_on = matches!(piece, Piece::Bytes(..));
        if say.send(piece).is_err() || !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn all_of_a_file_arrives_with_its_hash() {
        for length in [0, 1, BLOCK_BYTES, BLOCK_BYTES * 7 + 5] {
            let file: Vec<u8> = (0..=250).cycle().take(length).collect();
            let (read, hash) = std::thread::scope(|scope| {
                let mut ahead = Ahead::start(scope, Cursor::new(&file)).unwrap();
                assert!(ahead.hash().is_err());
                let mut read = Vec::new();
                ahead.read_to_end(&mut read).unwrap();
                assert_eq!(ahead.read(&mut [0; 9]).unwrap(), 0, "the end stays");
                (read, ahead.hash().unwrap())
            });
            assert_eq!(hash, blake3::hash(&file));
            assert!(read == file, "{length}");
        }
    }

    /// Fails after its bytes.
    struct Torn(Cursor<Vec<u8>>);

    impl Read for Torn {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("torn")),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn an_error_is_told_behind_the_bytes_before_it() {
        std::thread::scope(|scope| {
            let torn = Torn(Cursor::new(vec![7; BLOCK_BYTES + 1]));
            let mut ahead = Ahead::start(scope, torn).unwrap();
            let mut read = Vec::new();
            let error = ahead.read_to_end(&mut read).unwrap_err();
            assert_eq!(
                (error.to_string().as_str(), read.len()),
                ("torn", BLOCK_BYTES + 1)
            );
            assert!(ahead.hash().is_err());
        });
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_thread() {
        // The scope would wait for it without end.
        std::thread::scope(|scope| {
            let endless = io::repeat(b'a');
            let mut ahead = Ahead::start(scope, endless).unwrap();
            assert_eq!(ahead.read(&mut [0; 3]).unwrap(), 3);
        });
    }
}
