//! All knowledge of Go and its versions: what an executable says about itself ([`binary`] and the modules that it
//! is made of), and what the runtime's numbers mean.

pub mod binary;
pub mod buildinfo;
mod done;
mod dwarf;
pub mod error;
pub mod globals;
pub mod image;
pub mod inline;
pub mod layout;
mod layout_table;
pub mod moduledata;
mod modules;
pub mod pclntab;
mod pcvalue;
pub mod plan;
pub mod probe_sites;
pub mod standard;
pub mod status;
pub mod symbols;
pub mod system;
pub mod truncated;
mod types;
mod wait_reason;
mod wait_reason_table;
mod wrapper;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use binary::Binary;
pub use buildinfo::{BuildInfo, GoVersion};
pub use error::{Error, ErrorKind};
pub use globals::Globals;
pub use image::{Architecture, Image};
pub use inline::Inlined;
pub use layout::{Layout, LayoutSource};
pub use pclntab::{Frame, FrameSize, Function};
pub use status::Status;
pub use wait_reason::WaitReason;
