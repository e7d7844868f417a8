//! A worker's pipes without a worker: every message that comes goes back as it is. What `bench pipe`
//! measures at the other end; never part of an import.

use super::process::take_pipes;
use crate::protocol::{Decoder, FrameError, FromWorker, encode};
use std::io;
use std::process::ExitCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};

/// Bytes read at once: as many as a worker reads.
const READ_BYTES: usize = 64 * 1024;

/// Why there is no echo any more.
#[derive(Debug, thiserror::Error)]
enum EchoError {
    #[error("stdin and stdout are no pipes, or they broke ({0}); this is started by `bench pipe`")]
    Pipe(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Runs the hidden `userferry echo-loop`: until stdin ends.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::process::complain(&error);
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<(), EchoError> {
    let (input, output) = take_pipes()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let input = Receiver::from_owned_fd(input)?;
        let output = Sender::from_owned_fd(output)?;
        echo(input, output).await
    })
}

async fn echo(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), EchoError> {
    let mut decoder = Decoder::default();
    let (mut block, mut out) = (vec![0; READ_BYTES], Vec::new());
    let mut sequence = 0_u32;
    loop {
        let read = input.read(&mut block).await?;
        if read == 0 {
            return Ok(decoder.finish()?);
        }
        decoder.push(block.get(..read).unwrap_or_default());
        while let Some(message) = decoder.message::<FromWorker>()? {
            encode(sequence, &message, &mut out)?;
            sequence = sequence.wrapping_add(1);
        }
        output.write_all(&out).await?;
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_message_comes_back_in_order_and_a_torn_one_is_an_error() {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let (input, output) = tokio::io::split(theirs);
        let mut bytes = Vec::new();
        let messages: Vec<_> = (0..50_u32)
            .map(|nonce| FromWorker::Pong { nonce })
            .collect();
        for (sequence, message) in (0..).zip(&messages) {
            encode(sequence, message, &mut bytes).unwrap();
        }
        // Half a frame at the end.
        encode(50, &FromWorker::Credit, &mut bytes).unwrap();
        bytes.pop();
        ours.write_all(&bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let torn = echo(input, output).await.unwrap_err();
        assert!(matches!(torn, EchoError::Frame(FrameError::Torn)), "{torn}");
        let mut back = Vec::new();
        ours.read_to_end(&mut back).await.unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&back);
        for message in messages {
            assert_eq!(decoder.message().unwrap(), Some(message));
        }
        assert_eq!(decoder.message::<FromWorker>().unwrap(), None);
    }
}
