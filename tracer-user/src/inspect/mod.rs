//! Looking into a live process from outside: its memory, the goroutines in it, and whether what was read can be right.

pub mod goroutines;
pub mod memory;
pub mod verify;

pub use goroutines::{Goroutine, Goroutines, Limits, WalkError, walk};
pub use memory::{MemoryError, ProcessMemory};
pub use verify::{InspectError, Mismatch, verify, verify_creation, walk_verified};
