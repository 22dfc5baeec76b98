//! What can go wrong with a store.

use std::path::PathBuf;

use celeriac::broker::BrokerError;

/// A store that does not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("schedule file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Redis does not answer as it should.
    #[error("schedule in redis: {0}")]
    Redis(BrokerError),
    /// What stands in Redis is of another kind than RedBeat's layout has there.
    #[error(
        "schedule in redis: {0}\nhint: look at the keys under its prefix; something else has written there"
    )]
    Layout(String),
    /// The database does not answer as it should.
    #[error("schedule in the database: {0}")]
    Database(String),
}

impl From<BrokerError> for StoreError {
    fn from(error: BrokerError) -> Self {
        StoreError::Redis(error)
    }
}

impl StoreError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            StoreError::File { .. } | StoreError::Layout(_) => false,
            StoreError::Redis(source) => source.is_retryable(),
            StoreError::Database(_) => true,
        }
    }
}
