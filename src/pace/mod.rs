//! The pace room.
