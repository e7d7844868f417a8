//! The coordinator room.
