//! All knowledge of Go and its versions, in folders of which each knows only those before it:
//!
//! - `file`: the executable as a file, and what the linker says about the build;
//! - `runtime`: what the numbers in the runtime's memory mean;
//! - `plan`: what machine code does, and on which instruction a probe sits;
//! - `functions`: the function table.
//!
//! [`Binary`] puts all of it together for one executable.

pub mod binary;
mod done;
pub mod file;
pub mod functions;
pub mod globals;
mod locks;
mod modules;
pub mod plan;
pub mod probe_sites;
pub mod runtime;
pub mod source_root;
pub mod standard;
mod statements;
mod types;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use binary::Binary;
pub use file::buildinfo::{BuildInfo, GoVersion};
pub use file::error::{GoError, GoErrorKind};
pub use file::image::{Architecture, Image};
pub use file::{buildinfo, error, image, symbols, truncated};
pub use functions::inline::Inlined;
pub use functions::pclntab::{CodeFrame, FrameSize, Function};
pub use functions::{inline, moduledata, pclntab};
pub use globals::Globals;
pub use locks::{Deferred, Releases};
pub use runtime::activity::Activity;
pub use runtime::layout::Layout;
pub use runtime::layout_choice::LayoutSource;
pub use runtime::status::Status;
pub use runtime::wait_reason::WaitReason;
pub use runtime::{layout, releases, status, system, versions};
