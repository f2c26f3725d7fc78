//! Sweep files: what a host knows of its creation sites at one moment, as Parquet in a folder or an object store, where any
//! engine can read it. A host only ever adds files, and asks nobody.
//!
//! Data flows one way: a report becomes rows ([`rows`]), rows become a file ([`mod@file`]), and the file gets its place
//! ([`place`]) in a store ([`location`]). While the store is away, it waits in a spool ([`spool`]).

pub mod columns;
pub mod error;
pub mod file;
pub mod location;
pub mod place;
pub mod row;
pub mod rows;
mod signing;
pub mod spool;
pub mod writer;

pub use error::StoreError;
pub use file::SweepFile;
pub use location::Location;
pub use place::Place;
pub use row::{Counts, Row};
pub use writer::{Delivered, Writer};
