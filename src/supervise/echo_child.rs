//! A child that sends every message back: what the pipes of a worker cost without its work.
#![expect(
    clippy::disallowed_methods,
    reason = "this room is the door to processes"
)]

use crate::protocol::{Decoder, FromWorker, encode};
use std::io;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Bytes read at once: as many as are read from a worker.
const READ_BYTES: usize = 64 * 1024;

/// A running child, spoken to as a worker is. It ends with its input, and is killed if it lives on
/// when this is dropped.
#[derive(Debug)]
pub struct EchoChild {
    _child: Child,
    mouth: Mouth,
    ear: Ear,
}

#[derive(Debug)]
struct Mouth {
    input: ChildStdin,
    sequence: u32,
    frame: Vec<u8>,
}

#[derive(Debug)]
struct Ear {
    output: ChildStdout,
    decoder: Decoder,
    block: Vec<u8>,
}

impl EchoChild {
    /// Starts `program` as an echo; belongs into a runtime.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg0("userferry")
            .arg("echo-loop")
            .env_remove("WORKOS_API_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe to the echo is missing");
        let mouth = Mouth {
            input: child.stdin.take().ok_or_else(missing)?,
            sequence: 0,
            frame: Vec::new(),
        };
        let ear = Ear {
            output: child.stdout.take().ok_or_else(missing)?,
            decoder: Decoder::default(),
            block: vec![0; READ_BYTES],
        };
        Ok(Self {
            _child: child,
            mouth,
            ear,
        })
    }

    /// Says something and waits until it comes back.
    ///
    /// # Errors
    /// When the child is gone or its stream is broken.
    pub async fn trip(&mut self, message: &FromWorker) -> io::Result<FromWorker> {
        self.mouth.say(message).await?;
        self.ear.hear().await
    }

    /// Says the same `times` over without waiting, while it comes back; returns how many came.
    ///
    /// # Errors
    /// When the child is gone or its stream is broken.
    pub async fn stream(&mut self, message: &FromWorker, times: u32) -> io::Result<u32> {
        let Self { mouth, ear, .. } = self;
        let say = async {
            for _ in 0..times {
                mouth.say(message).await?;
            }
            Ok::<_, io::Error>(())
        };
        let hear = async {
            let mut came = 0;
            while came < times {
                ear.hear().await?;
                came += 1;
            }
            Ok::<_, io::Error>(came)
        };
        let ((), came) = tokio::try_join!(say, hear)?;
        Ok(came)
    }
}

impl Mouth {
    async fn say(&mut self, message: &FromWorker) -> io::Result<()> {
        self.frame.clear();
        encode(self.sequence, message, &mut self.frame).map_err(io::Error::other)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.input.write_all(&self.frame).await
    }
}

impl Ear {
    async fn hear(&mut self) -> io::Result<FromWorker> {
        loop {
            if let Some(message) = self.decoder.message().map_err(io::Error::other)? {
                return Ok(message);
            }
            let read = self.output.read(&mut self.block).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let bytes = self.block.get(..read).unwrap_or_default();
            self.decoder.push(bytes);
        }
    }
}
