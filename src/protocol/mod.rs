//! What coordinator and worker say to each other.
//!
//! # Owns
//! [`ToWorker`] and [`FromWorker`], the frame around them, the version.
//! # Never
//! Touches a pipe by itself: the decoder takes bytes, the encoder gives bytes.
//! # Invariants
//! A frame's length is checked before anything is allocated; any defect is an error, and an error
//! costs the peer its life. The first frame each way is a hello.
//! # See
//! `docs/ARCHITECTURE.md`, "Frames".

pub mod frame;
pub mod message;

pub use frame::{Decoder, FRAME_BYTES_MAX, FrameError, encode};
pub use message::{
    FromWorker, Grant, HelloFromWorker, HelloToWorker, NameAt, OrgAnswer, OrgVerdict, ProbeResult,
    RoleList, RowContext, SamplePick, SlotLease, StatsDelta, ToWorker, WorkerConfig,
};

/// The version of the messages; a worker of another version is not talked to.
pub const PROTOCOL_VERSION: u32 = 4;

/// The build both sides must share: workers are the coordinator's own executable.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
