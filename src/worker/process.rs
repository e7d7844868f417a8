//! A worker as a process: its descriptors, its runtime, its exit code.
#![expect(
    clippy::print_stderr,
    reason = "a worker's stderr is its log; the coordinator reads it"
)]

use super::serve::serve;
use crate::model::crash;
use rustix::stdio::{dup2_stdout, stderr, stdin, stdout};
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::LocalOptions;

/// Answers that are read before what they mean is worked out and the next requests are written:
/// with dozens, what the first of them brought has left the processor's caches by then.
const ANSWERS_AT_ONCE: usize = 16;

/// Runs `userferry worker`: serves the coordinator at the other end of stdin and stdout.
pub fn main() -> ExitCode {
    // A task that panics would end alone, and its row would never be heard of again.
    crash::end_on_panic(|place| format!("worker: stopped itself at {place}: a bug"));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let (input, output) = take_pipes().map_err(|error| {
        format!("stdin and stdout are no pipes ({error}); `userferry worker` is started by import")
    })?;
    serve_on(input, output)
}

/// Serves a coordinator of this very process at the other end of two pipes, on this thread.
pub fn on_thread(input: OwnedFd, output: OwnedFd) {
    if let Err(error) = serve_on(input, output) {
        eprintln!("worker: {error}");
    }
}

fn serve_on(input: OwnedFd, output: OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_io_events_per_tick(ANSWERS_AT_ONCE)
        .enable_all()
        .build_local(LocalOptions::default())?;
    let served = runtime.block_on(async {
        let input = Receiver::from_owned_fd(input)?;
        let output = Sender::from_owned_fd(output)?;
        serve(input, output).await.map_err(Into::into)
    });
    // Requests under way are abandoned, not waited for: the coordinator is gone.
    runtime.shutdown_background();
    served
}

/// Says why this process ends, where its log is.
pub(super) fn complain(error: &dyn std::fmt::Display) {
    eprintln!("worker: {error}");
}

/// Moves the protocol away from the standard descriptors: a stray print must not tear it.
pub(super) fn take_pipes() -> io::Result<(OwnedFd, OwnedFd)> {
    let private = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(io::Error::from);
    let input = private(stdin())?;
    let output = private(stdout())?;
    dup2_stdout(stderr())?;
    Ok((input, output))
}
