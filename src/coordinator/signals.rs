//! The signals that end a run.

use super::config::StopSignal;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Installed handlers. A signal that could not be installed keeps its default: it kills.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Option<Signal>,
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Installs the handlers; must run inside a runtime. A hangup that was ignored when the
    /// program started (`nohup`) stays ignored.
    pub(super) fn install() -> Self {
        let hangup = if hangup_is_ignored() {
            None
        } else {
            signal(SignalKind::hangup()).ok()
        };
        Self {
            hangup,
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            () = wait(&mut self.hangup) => StopSignal::Hangup,
            () = wait(&mut self.interrupt) => StopSignal::Interrupt,
            () = wait(&mut self.terminate) => StopSignal::Terminate,
        }
    }
}

async fn wait(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Linux tells in `/proc/self/status`; elsewhere a hangup ends the run.
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask & 1 == 1
}
