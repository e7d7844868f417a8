//! Why a file is refused.

/// Why a file is refused, with where.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Placeholder.
    #[error("changed")]
    Changed,
}
