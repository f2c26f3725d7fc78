//! Prints the layout that a Go binary's debug information tells, as Rust source: `go_facts BINARY`. `cargo xtask
//! go-facts` makes `src/go/runtime/layout_table.rs` of it.

use std::{error::Error, fs::File, path::PathBuf};

use golife::go::{Binary, LayoutSource};

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("which binary? go_facts BINARY")?.into();
    let binary = Binary::open_foreign(&File::open(&path)?, &path)?;
    if binary.layout_source() != LayoutSource::Dwarf {
        return Err("its debug information was not used: is it stripped, or too large?".into());
    }
    println!("{:#?}", binary.layout());
    Ok(())
}
