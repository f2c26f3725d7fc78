//! Plugins: more Go code that a process has loaded into the runtime of its executable. Each has a function table of its own
//! (the runtime chains them by `moduledata.next`: <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>),
//! and is loaded where the dynamic linker likes.
//!
//! To everybody else the executable and its plugins are one [`Binary`], whose link-time addresses are the executable's: an
//! address of a plugin is where it would be if the executable were loaded where it was linked.

use std::sync::Arc;

use super::Binary;

/// A plugin as one process has loaded it.
#[derive(Clone)]
pub(super) struct Module {
    /// The lowest address of its segments, as the executable counts, and their size.
    start: u64,
    size: u64,
    /// What to add to that to get the plugin's own link-time address.
    shift: u64,
    binary: Arc<Binary>,
}

impl Binary {
    /// The program as it is in a process, together with its plugins, each with its load bias. `bias` is the program's own.
    pub fn with_modules(&self, bias: u64, plugins: &[(Arc<Binary>, u64)]) -> Binary {
        let module = |(binary, loaded): &(Arc<Binary>, u64)| {
            let segments = binary.image().segments();
            let start = segments.iter().map(|segment| segment.vaddr).min().unwrap_or(0);
            let end = segments.iter().map(|segment| segment.vaddr + segment.size).max().unwrap_or(0);
            let shift = bias.wrapping_sub(*loaded);
            Module { start: start.wrapping_sub(shift), size: end - start, shift, binary: binary.clone() }
        };
        let mut whole = self.clone();
        whole.modules = plugins.iter().map(module).collect();
        whole
    }

    /// How many plugins it has.
    pub fn plugins(&self) -> usize {
        self.modules.len()
    }

    /// Whether it brings its own runtime: a plugin does not, it uses that of the program which opens it.
    pub fn has_runtime(&self) -> bool {
        !self.functions_named("runtime.main").is_empty()
    }

    /// Whether it is a library for programs that are not written in Go (`-buildmode=c-shared` and `c-archive`). Its
    /// `runtime.main` returns before it comes to `main.main`, and goroutine 1 ends.
    pub fn is_library(&self) -> bool {
        const ENTRIES: [&str; 2] = ["_rt0_amd64_linux_lib", "_rt0_arm64_linux_lib"];
        ENTRIES.iter().any(|entry| !self.functions_named(entry).is_empty())
    }

    /// Whether Go code is at this address, the plugins' included.
    pub fn is_code(&self, pc: u64) -> bool {
        let (binary, pc) = self.owner(pc);
        binary.text_range().contains(&pc)
    }

    /// The plugin or program that an address belongs to, and the address as it was linked.
    pub(super) fn owner(&self, address: u64) -> (&Binary, u64) {
        let module = self.modules.iter().find(|module| address.wrapping_sub(module.start) < module.size);
        module.map_or((self, address), |module| (&module.binary, address.wrapping_add(module.shift)))
    }
}
