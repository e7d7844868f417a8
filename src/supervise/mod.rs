//! Processes: starting them, listening to them, ending them, reaping them.
//!
//! # Owns
//! `Command`, signals to children, their pipes, the inheritance of the job lock.
//! # Never
//! Decides who lives: it does what it is told and says what happened.
//! # Invariants
//! A worker's death is reported after everything it said. A process id is signalled only while it
//! is not reaped.

pub mod echo_child;
pub mod measured;
pub mod pages;
pub mod sandbox_child;
pub mod worker_process;
mod worker_thread;

pub use echo_child::EchoChild;
pub use measured::{Ended, Measured, Running, Usage};
pub use sandbox_child::{SandboxChild, SandboxChildError, SandboxOptions};
pub use worker_process::{Input, Spawner, WorkerHandle};
pub use worker_thread::ThreadEntry;
