//! Which layout a program's runtime has: what its own debug information says, or what the table has for its version.

use super::dwarf;
use super::layout::Layout;
use super::layout_table::TABLE;
use super::versions;
use crate::go::file::budget::TooMuch;
use crate::go::file::buildinfo::{BuildInfo, GoVersion};
use crate::go::file::error::GoErrorKind;
use crate::go::file::image::Image;

/// Debug information of more bytes than this (decompressed) is not read where the table has the version: reading costs
/// about 1.2 ms a MB.
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
    /// Whether nobody has ever compared this layout with such a program. What is read with it has to be checked, and the
    /// user has to be told.
    pub fn is_unverified(self) -> bool {
        self == LayoutSource::NewestTable
    }
}

/// `GOEXPERIMENT`s that move no field of [`Layout`], whether they are on or, with `no` before them, off.
///
/// Few of those that Go 1.18 to 1.27 have can move a field: those with files of package runtime that have
/// `goexperiment` in their `go:build` line. Of these, layouts were measured for `allocheaders`, `arenas`,
/// `exectracer2`, `goroutineleakprofile`, `greenteagc`, `pagetrace`, `spinbitmutex`, `staticlockranking`, `swissmap`
/// and `synctest`. The experiments that change the calling convention are left out.
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
    /// The layout from the table. None where it was not measured for this version and these experiments.
    pub fn measured(build: &BuildInfo) -> Option<Layout> {
        let release = !build.version_text.starts_with("devel");
        let harmless = build
            .experiments()
            .all(|name| HARMLESS_EXPERIMENTS.contains(&name.strip_prefix("no").unwrap_or(name)));
        (release && harmless).then(|| Layout::of(build.version)).flatten()
    }

    /// The layout of the version or, where the table does not have it, of the newest one there.
    pub fn nearest(version: GoVersion) -> Layout {
        let newest = TABLE[TABLE.len() - 1].1;
        Layout::of(version).unwrap_or(newest)
    }

    /// Whether the table has the version.
    pub fn has(version: GoVersion) -> bool {
        Layout::of(version).is_some()
    }

    fn of(version: GoVersion) -> Option<Layout> {
        versions::measured_row(&TABLE, version).copied()
    }
}

/// Chooses the program's own debug information where it is cheap to read, or where the table does not have the version;
/// else the table.
///
/// Also returns why the debug information was not read to its end, if that would have told more.
pub(crate) fn choose(image: &Image, build: &BuildInfo) -> (Layout, LayoutSource, Option<TooMuch>) {
    let measured = Layout::measured(build);
    let size = dwarf::info_size(image);
    if let Some(layout) = measured
        && size.is_none_or(|size| size > CHEAP_DWARF)
    {
        return (layout, LayoutSource::Table, None);
    }
    match (dwarf::layout(image), measured) {
        (Ok(Some(layout)), _) => (layout, LayoutSource::Dwarf, None),
        // Debug information that is damaged, or of a kind that is not known, says nothing against the table.
        (_, Some(layout)) => (layout, LayoutSource::Table, None),
        (Err(GoErrorKind::TooMuch(why)), None) => {
            (Layout::nearest(build.version), LayoutSource::NewestTable, Some(why))
        }
        (_, None) => (Layout::nearest(build.version), LayoutSource::NewestTable, None),
    }
}
