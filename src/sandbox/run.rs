//! Running a sandbox: as a command, as the child of an import, or on a thread of this process.

use super::SandboxError;
use super::args::SandboxArgs;
use super::server::{Opened, SandboxConfig};
use secrecy::SecretString;
use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Longest line the parent may send as the key.
const KEY_LINE_BYTES_MAX: u64 = 4096;

/// Runs `userferry sandbox` until it is killed, or with `--child` until stdin ends.
pub fn run(args: SandboxArgs) -> Result<(), SandboxError> {
    let is_child = args.child;
    let key = if is_child { Some(read_key()?) } else { None };
    let config = args.into_config(key);
    let runtime = runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let opened = Opened::new(config).await?;
        // A terminal sends Ctrl-C to the child too, but the import still needs it to drain.
        let _deaf = if is_child {
            let hear = |kind| signal(kind).map_err(SandboxError::Runtime);
            Some((hear(SignalKind::interrupt())?, hear(SignalKind::hangup())?))
        } else {
            None
        };
        announce(opened.address())?;
        if is_child {
            let parent_gone = stdin_end();
            tokio::select! {
                never = opened.serve() => match never {},
                _ = parent_gone => Ok(()),
            }
        } else {
            match opened.serve().await {}
        }
    })
}

fn runtime() -> Result<Runtime, SandboxError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SandboxError::Runtime)
}

/// Prints the one line of stdout.
fn announce(address: SocketAddr) -> Result<(), SandboxError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "sandbox listening on http://{address}")
        .and_then(|()| stdout.flush())
        .map_err(SandboxError::Announce)
}

fn read_key() -> Result<SecretString, SandboxError> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(KEY_LINE_BYTES_MAX)
        .read_line(&mut line)
        .map_err(SandboxError::Key)?;
    let key = line.trim();
    if key.is_empty() || !line.ends_with('\n') {
        let why = "the first line of stdin must hold the API key";
        return Err(SandboxError::Key(std::io::Error::other(why)));
    }
    Ok(SecretString::from(key))
}

/// Resolves when stdin ends: the parent is dead or done.
fn stdin_end() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let copied = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        if let Err(error) = copied {
            tracing::warn!(%error, "stdin of the sandbox broke: ending");
        }
        // Nobody listens any more when the sandbox is ending by itself.
        if ended.send(()).is_err() {
            tracing::debug!("the sandbox had ended before its stdin");
        }
    });
    end
}

/// A sandbox on a thread of its own. Dropping it closes its connections and its log.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a sandbox and returns once it listens.
    pub fn start(config: SandboxConfig) -> Result<Self, SandboxError> {
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let served = serve_until(config, stopped, &report);
            if let Err(error) = served
                && report.send(Err(error)).is_err()
            {
                tracing::debug!("nobody waits for the sandbox any more");
            }
        });
        let gone = || SandboxError::Runtime(std::io::Error::other("its thread died"));
        let address = started.recv().map_err(|_| gone())??;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Returns where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropping the sender is the order to stop.
        drop(self.stop.take());
        let joined = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = joined {
            tracing::error!("the thread of the sandbox panicked");
        }
    }
}

fn serve_until(
    config: SandboxConfig,
    stopped: oneshot::Receiver<()>,
    report: &mpsc::Sender<Result<SocketAddr, SandboxError>>,
) -> Result<(), SandboxError> {
    let runtime = runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let opened = Opened::new(config).await?;
        if report.send(Ok(opened.address())).is_err() {
            return Ok(());
        }
        tokio::select! {
            never = opened.serve() => match never {},
            _ = stopped => Ok(()),
        }
    })
}
