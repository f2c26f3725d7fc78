//! Which processes to look into or to trace: what the user asks for, the binaries that were read for it, and the
//! processes that they run in.

pub mod binaries;
pub mod describe;
mod error;
mod go_tools;
mod mapped_binary;
mod read_ahead;
mod selectors;
pub mod subject;
pub mod wanted;

pub use binaries::{Binaries, PlannedBinary, Remark};
pub use error::TargetError;
pub use mapped_binary::MappedBinary;
pub use read_ahead::{ReadAhead, running_kernel};
pub use selectors::{Children, Selectors};
pub use subject::{OtherRuntime, Subject};
pub use wanted::{Executable, SelectorError, Wanted};
