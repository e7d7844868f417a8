//! Why the ledger refuses or fails.

/// Why the ledger refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk is full.
    #[error("the disk is full")]
    Full,
}
