//! The machine that golife runs on, as the kernel shows it: processes and the files that they have mapped, containers,
//! clocks, the kernel's features, and what this process may do. Nothing here knows about Go, probes or reports.

pub mod account;
pub mod capabilities;
pub mod clock;
mod companion;
pub mod container;
pub mod control_group;
pub mod cpu_time;
pub mod destination;
pub mod executed;
pub mod files;
pub mod gate;
pub mod guard;
pub mod keeper;
pub mod kernel;
pub mod launch;
pub mod mapped;
pub mod presence;
pub mod priority;
pub mod process;
pub mod runtimes;
pub mod sockets;
pub mod ssh;

pub use files::FileId;
pub use process::{ProcessError, RunningProcess};
