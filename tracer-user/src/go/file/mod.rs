//! An executable as a file, before anything of the runtime in it is known: the ELF format, its symbols, what the
//! linker says about the build.

pub mod budget;
pub mod buildinfo;
pub mod error;
pub mod image;
mod on_disk;
pub mod symbols;
pub mod truncated;
