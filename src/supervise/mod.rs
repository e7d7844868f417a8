//! The supervise room.
