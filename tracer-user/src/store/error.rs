//! Why a store cannot be used.

use std::path::PathBuf;

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

use crate::stats::durations::HdrError;

/// Why a store cannot be opened, or a sweep file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text names no store.
    #[error(
        "{location}: {why}; a store is a folder, s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH"
    )]
    Location {
        /// The text, without what may be a secret.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// The text has what looks like a password or a key.
    #[error(
        "{location}: credentials do not belong into a store's address, where every user of this host can see them: golife takes \
         them from the environment (such as AWS_ACCESS_KEY_ID) or from the instance's metadata"
    )]
    Credentials {
        /// The text, without them.
        location: String,
    },
    /// The CPU lacks what encryption needs.
    #[error(
        "{location}: golife cannot encrypt on this CPU, which lacks {lacks}; write to a folder here, and copy that"
    )]
    Cpu {
        /// The store.
        location: String,
        /// The features that are missing.
        lacks: String,
    },
    /// The store answers with an error, or not at all.
    #[error("cannot write to {location}: {why}")]
    Put {
        /// The store.
        location: String,
        /// What it answered, without what may be a secret.
        why: String,
    },
    /// The spool cannot be written or read.
    #[error("cannot use the spool {path}: {source}")]
    Spool {
        /// The folder or file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The rows cannot be encoded.
    #[error("cannot encode the sweep: {0}")]
    Parquet(#[from] ParquetError),
    /// The rows cannot be put into columns.
    #[error("cannot encode the sweep: {0}")]
    Columns(#[from] ArrowError),
    /// A distribution of lifetimes cannot be read.
    #[error("cannot read a distribution of lifetimes: {0}")]
    Lifetimes(#[from] HdrError),
}
