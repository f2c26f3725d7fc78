//! Looks into a live process from outside: reads its memory, finds the goroutines in it, and checks whether what was
//! read can be right.

pub mod ancestors;
mod collect;
mod conds;
mod holders;
pub mod io;
pub mod labels;
pub mod limits;
pub mod memory;
mod mentions;
mod objects;
pub mod queues;
mod remembered;
pub mod scan;
pub mod snapshot;
pub mod stacks;
mod stopped;
mod sudogs;
pub mod traceback;
mod unwind;
pub mod verify;
mod waiter;
pub mod waits;
pub mod walk;

pub use ancestors::Ancestor;
pub use io::Polled;
pub use labels::Label;
pub use limits::{Cut, Depth, WalkError, WalkLimits};
pub use memory::{MemoryError, Place, ProcessMemory};
pub use queues::Queues;
pub use scan::{scan, scan_unnamed};
pub use snapshot::{Channel, CreationSite, Direction, Goroutine, Holding, Snapshot, WaitObject};
pub use stacks::{StackId, Stacks};
pub use traceback::is_shown;
pub use verify::{InspectError, Mismatch, verify, verify_creation, walk_verified};
pub use waits::{Group, Grown, Known, Places, SiteKey, SiteWaits, Turnover, by_site};
pub use walk::{G, Walk, walk};

#[cfg(test)]
mod tests;
