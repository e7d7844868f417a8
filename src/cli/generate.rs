//! `generate`.
