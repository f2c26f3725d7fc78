//! The statistics that golife uses: distributions of durations, survival, trends, and the ages of those that live.
//! Numbers go in and numbers come out; nothing here knows about goroutines.

pub mod ages;
pub mod balance;
pub mod compare;
pub mod durations;
pub mod estimate;
pub mod little;
pub mod native;
pub mod pooled;
pub mod random;
pub mod survival;
pub mod trend;
pub mod usl;

pub use ages::{Ages, Eldest};
pub use balance::Balance;
pub use durations::Durations;
pub use estimate::Estimate;
pub use little::Little;
pub use survival::Survival;
pub use trend::Trend;
