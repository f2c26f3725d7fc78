//! Looking into a live process from outside: its memory, the goroutines in it, and whether what was read can be right.

pub mod blocked;
mod collect;
mod conds;
pub mod goroutines;
pub mod labels;
pub mod memory;
mod mentions;
mod objects;
pub mod queues;
pub mod scan;
pub mod stacks;
mod stopped;
mod sudogs;
pub mod traceback;
mod unwind;
pub mod verify;
pub mod waits;

pub use blocked::{Blocked, Channel, Cut, Direction, Site, Snapshot, WaitObject};
pub use goroutines::{Goroutine, Goroutines, Limits, WalkError, walk};
pub use labels::Label;
pub use memory::{MemoryError, Place, ProcessMemory};
pub use queues::Queues;
pub use scan::{Depth, scan};
pub use stacks::{StackId, Stacks};
pub use traceback::is_shown;
pub use verify::{InspectError, Mismatch, verify, verify_creation, walk_verified};
pub use waits::{Group, Known, Places, SiteKey, SiteWaits, by_site};

#[cfg(test)]
mod tests;
