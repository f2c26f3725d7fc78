//! Plugins: more Go code that a process has loaded into the runtime of its executable. Each has a function table of its
//! own (the runtime chains them by `moduledata.next`:
//! <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>), and is loaded where the dynamic linker likes.
//!
//! Everybody else sees the executable and its plugins as one program, whose link-time addresses are the executable's: an
//! address of a plugin is where it would be if the executable were loaded where it was linked.

use std::sync::Arc;

use crate::go::file::image::Image;

/// A plugin as one process has loaded it, and what is known of its file.
#[derive(Clone)]
pub(super) struct Module<T> {
    /// The lowest address of its segments, among the executable's link-time addresses, and how many bytes they span.
    start: u64,
    size: u64,
    /// What to add to one of the executable's link-time addresses to get the plugin's own.
    shift: u64,
    content: Arc<T>,
}

impl<T> Module<T> {
    /// `bias` is how far the executable is loaded from its link-time addresses, `loaded` how far the plugin is.
    pub(super) fn new(content: Arc<T>, image: &Image, loaded: u64, bias: u64) -> Module<T> {
        let segments = image.segments();
        let start = segments.iter().map(|segment| segment.vaddr).min().unwrap_or(0);
        let end = segments.iter().map(|segment| segment.vaddr + segment.size).max().unwrap_or(0);
        let shift = bias.wrapping_sub(loaded);
        Module { start: start.wrapping_sub(shift), size: end - start, shift, content }
    }

    /// The plugin that an address belongs to, and the address as the plugin was linked. None for the executable's own.
    pub(super) fn owner(modules: &[Module<T>], address: u64) -> Option<(&T, u64)> {
        let module = modules.iter().find(|module| address.wrapping_sub(module.start) < module.size)?;
        Some((&module.content, address.wrapping_add(module.shift)))
    }
}
