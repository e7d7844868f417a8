//! The rehearsal directory: a real HTTP server on loopback that answers like the live `WorkOS` User
//! Management API, with its limits, and with faults on demand.
//!
//! It is the second implementation of the contract: tests ask *it* what happened.
//!
//! # Owns
//! Its listening socket, its data, its log, its history. Nothing is shared with the importer.
//! # Never
//! Listens anywhere but on loopback; keeps, logs or dumps a password or a hash.
//! # Invariants
//! - A write is in the log before it is answered, and a killed sandbox comes back with exactly the
//!   logged writes.
//! - Email (trimmed, lower case), a user's external id, (user, organization) and an organization's
//!   external id are unique at every instant.
//! - No sliding window of a limit ever holds more requests than it allows.
//! # Tests
//! Beside the code, and `tests/sandbox.rs` over TCP.
//! # See
//! [`args::SandboxArgs`] for the options, `inspect.rs` for the addresses tests ask.

mod api;
pub mod args;
mod directory;
mod faults;
mod history;
mod ids;
mod index;
mod inspect;
mod journal;
mod limit;
mod page;
mod record;
mod rng;
mod run;
mod server;
mod state;
mod stats;
mod store;

pub use self::args::SandboxArgs;
pub use self::faults::{FaultParseError, FaultSpec, Latency, LatencyParseError};
pub use self::journal::JournalError;
pub use self::run::{Server, run};
pub use self::server::SandboxConfig;

use std::net::SocketAddr;

/// Why a sandbox cannot run. The reason of the system is the error's source, not in its text.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is reachable from other machines. A usage error.
    #[error(
        "cannot listen on {0}: the sandbox has no TLS and stays on this machine, use 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be taken.
    #[error("cannot listen on {address}: name another port with --listen, port 0 takes a free one")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The log cannot be used. Disk I/O.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No key on stdin.
    #[error("cannot read the API key from stdin")]
    Key(#[source] std::io::Error),
    /// The listening line cannot be printed.
    #[error("cannot print the address to stdout")]
    Announce(#[source] std::io::Error),
    /// The operating system refuses a thread, a signal handler or a poller.
    #[error("cannot start the sandbox")]
    Runtime(#[source] std::io::Error),
}
