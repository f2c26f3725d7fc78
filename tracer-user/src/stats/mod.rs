//! What golife reckons with: distributions of durations, survival, trends, the ages of the living. Numbers in, numbers out;
//! nothing here knows a goroutine.

pub mod ages;
pub mod durations;
pub mod survival;
pub mod trend;

pub use ages::{Ages, Eldest};
pub use durations::Durations;
pub use survival::Survival;
pub use trend::Trend;
