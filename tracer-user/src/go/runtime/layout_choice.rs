//! Which layout a program's runtime has: its own debug information or the table says it.

use super::dwarf;
use super::layout::Layout;
use super::layout_table::TABLE;
use super::versions;
use crate::go::file::buildinfo::{BuildInfo, GoVersion};
use crate::go::file::image::Image;

/// Debug information of more bytes than this (decompressed) is not read for a version that the table has: reading it
/// costs about 1.2 ms a MB.
const CHEAP_DWARF: u64 = 4 << 20;

/// Where a [`Layout`] is from, and with it how far to trust it before it was checked against live memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutSource {
    /// The program's own debug information.
    Dwarf,
    /// The table, which has this version.
    Table,
    /// The table's newest version, for a program that is newer, or built with a toolchain that nobody measured.
    NewestTable,
}

impl LayoutSource {
    /// Nobody has compared this layout with such a program: what is read with it has to be checked, and said.
    pub fn is_unverified(self) -> bool {
        self == LayoutSource::NewestTable
    }
}

/// `GOEXPERIMENT`s that move no field of [`Layout`], whether they are on or, with `no` before them, off. Of all that Go 1.18
/// to 1.27 have, few bring structs of the runtime in two forms (files of package runtime with `goexperiment` in their
/// `go:build` line); layouts with these were measured: `allocheaders`, `arenas`, `exectracer2`, `goroutineleakprofile`,
/// `greenteagc`, `pagetrace`, `spinbitmutex`, `staticlockranking`, `swissmap`, `synctest`. Not among them are those that
/// change the calling convention.
const HARMLESS_EXPERIMENTS: [&str; 33] = [
    "aliastypeparams",
    "allocheaders",
    "arenas",
    "boringcrypto",
    "cacheprog",
    "cgocheck2",
    "coverageredesign",
    "dwarf5",
    "exectracer2",
    "fieldtrack",
    "goroutineleakprofile",
    "greenteagc",
    "heapminimum512kib",
    "jsonv2",
    "loopvar",
    "mapsplitgroup",
    "newinliner",
    "pacerredesign",
    "pagetrace",
    "preemptibleloops",
    "randomizedheapbase64",
    "range",
    "rangefunc",
    "runtimefreegc",
    "runtimesecret",
    "simd",
    "sizespecializedmalloc",
    "spinbitmutex",
    "staticlockranking",
    "swissmap",
    "synchashtriemap",
    "synctest",
    "unified",
];

impl Layout {
    /// The layout from the table, where it was measured for this version and these experiments.
    pub fn measured(build: &BuildInfo) -> Option<Layout> {
        let release = !build.version_text.starts_with("devel");
        let harmless = build
            .experiments()
            .all(|name| HARMLESS_EXPERIMENTS.contains(&name.strip_prefix("no").unwrap_or(name)));
        (release && harmless).then(|| Layout::of(build.version)).flatten()
    }

    /// The layout of the release or, where it is newer than the table, of the newest one.
    pub fn nearest(version: GoVersion) -> Layout {
        let newest = TABLE[TABLE.len() - 1].1;
        Layout::of(version).unwrap_or(newest)
    }

    /// Whether the table has the release.
    pub fn has(version: GoVersion) -> bool {
        Layout::of(version).is_some()
    }

    fn of(version: GoVersion) -> Option<Layout> {
        versions::measured_row(&TABLE, version).copied()
    }
}

/// The program's own debug information where it is cheap to read or nothing else is known, else the table.
pub(in crate::go) fn choose(image: &Image, build: &BuildInfo) -> (Layout, LayoutSource) {
    let measured = Layout::measured(build);
    let size = dwarf::info_size(image);
    if let Some(layout) = measured
        && size.is_none_or(|size| size > CHEAP_DWARF)
    {
        return (layout, LayoutSource::Table);
    }
    match (dwarf::layout(image), measured) {
        (Ok(Some(layout)), _) => (layout, LayoutSource::Dwarf),
        // Debug information that is damaged, or of a kind that is not known, says nothing against the table.
        (_, Some(layout)) => (layout, LayoutSource::Table),
        (_, None) => (Layout::nearest(build.version), LayoutSource::NewestTable),
    }
}
