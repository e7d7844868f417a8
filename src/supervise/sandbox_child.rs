//! The automatic sandbox: a child server on a port and a key of its own, ended by its input.
#![expect(
    clippy::disallowed_methods,
    reason = "this room is the door to processes"
)]

use super::pages;
use crate::model::RateLimits;
use secrecy::{ExposeSecret as _, SecretString};
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// What it prints once it listens.
const LISTENING: &str = "sandbox listening on ";

/// Longest line read from it.
const LINE_BYTES_MAX: u64 = 1024;

/// How the sandbox is to behave.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The program, started as `userferry sandbox`.
    pub program: PathBuf,
    /// Where it keeps its data; without it, nowhere.
    pub state: Option<PathBuf>,
    /// Whether it enforces the limits of `WorkOS`.
    pub limits: RateLimits,
    /// Further options of `userferry sandbox`.
    pub more: Vec<OsString>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxChildError {
    /// It cannot be started.
    #[error("the sandbox cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It ended instead of listening.
    #[error("the sandbox ended before it listened; its last words: {0}")]
    Ended(String),
}

/// A running sandbox. Dropping it closes its input, which ends it, and waits for that.
#[derive(Debug)]
pub struct SandboxChild {
    child: Child,
    input: Option<ChildStdin>,
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub base_url: String,
    /// The key it accepts.
    pub key: SecretString,
}

impl SandboxChild {
    /// Starts a sandbox and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started or ends at once.
    pub fn start(options: &SandboxOptions) -> Result<Self, SandboxChildError> {
        // It keeps what it is told, as a server does.
        let mut child = pages::with_large(true, || command(options).spawn())?;
        let missing = || io::Error::other("a pipe to the sandbox is missing");
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let key = SecretString::from(random_key());
        writeln!(input, "{}", key.expose_secret())?;
        input.flush()?;
        let base_url = listening_line(output)?;
        Ok(Self {
            child,
            input: Some(input),
            base_url,
            key,
        })
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for SandboxChild {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "the sandbox could not be waited for");
        }
    }
}

fn command(options: &SandboxOptions) -> Command {
    let mut command = Command::new(&options.program);
    command
        .arg0("userferry")
        .args(["sandbox", "--child", "--listen", "127.0.0.1:0"]);
    if let Some(state) = &options.state {
        command.arg("--state").arg(state);
    }
    if options.limits == RateLimits::WORKOS {
        command.args(["--rate", "workos"]);
    } else if let Some(writes) = options.limits.writes {
        command.args(["--rate", &writes.to_string()]);
    }
    command.args(&options.more);
    // It does not inherit the job lock: descriptors are close-on-exec unless said otherwise.
    command
        .env_remove("WORKOS_API_KEY")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

fn listening_line(output: impl io::Read) -> Result<String, SandboxChildError> {
    let mut line = String::new();
    BufReader::new(output.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    match line.trim_end().strip_prefix(LISTENING) {
        Some(url) => Ok(url.to_owned()),
        None => Err(SandboxChildError::Ended(crate::model::escape::shown(
            line.trim_end(),
        ))),
    }
}

/// Returns a key that nobody else on this machine can guess.
fn random_key() -> String {
    use crate::model::rng::entropy;
    format!("sk_sandbox_{:016x}{:016x}", entropy(), entropy())
}

/// Returns the path of the sandbox's data in a job's folder.
pub fn state_path(folder: &Path) -> PathBuf {
    folder.join("sandbox.log")
}
