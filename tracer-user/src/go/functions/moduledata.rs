//! `runtime.firstmoduledata`: where the linker put text, data and tables. It is found by its content, so that golife
//! needs no symbols for it: `type moduledata` in <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>.

use std::ops::Range;

use super::header::{Header, MODULE_DATA_SECTIONS};
use crate::go::file::budget::TooMuch;
use crate::go::file::buildinfo::GoVersion;
use crate::go::file::error::GoErrorKind;
use crate::go::file::image::Image;
use crate::go::runtime::versions;

/// Words of moduledata that are read.
const WORDS: usize = versions::MODULE_DATA_SIZE / 8;

/// The fields that golife needs, as link-time addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleData {
    /// Address of the struct itself.
    pub vaddr: u64,
    /// Go code. All offsets in pclntab count from its start, which is not that of `.text` where C code is linked.
    pub text: Range<u64>,
    /// Initialised data with pointers, and zeroed data with pointers, which follows it.
    pub data: Range<u64>,
    /// Zeroed data with pointers.
    pub bss: Range<u64>,
    /// Zeroed data without pointers.
    pub noptrbss: Range<u64>,
    /// Base of the offsets of function data, such as inline trees.
    pub gofunc: u64,
    /// Base of the offsets of names of types.
    pub types: u64,
}

impl ModuleData {
    /// Finds the module data that belongs to a function table.
    ///
    /// # Errors
    /// [`GoErrorKind::Missing`] where nothing points at the table as module data does, [`GoErrorKind::Corrupt`] where
    /// what does is nonsense, [`GoErrorKind::TooMuch`] where there is too much to search.
    pub(crate) fn find(
        image: &Image,
        version: GoVersion,
        header: &Header,
    ) -> Result<ModuleData, GoErrorKind> {
        let offsets = versions::module_data_offsets(version);
        let (vaddr, words) = locate(image, header)?.ok_or_else(|| GoErrorKind::Missing {
            what: "runtime.firstmoduledata".into(),
            why: "nothing in the data points at the function table".into(),
        })?;
        let word = |offset: usize| words.get(offset / 8).copied().unwrap_or(0);
        let module = ModuleData {
            vaddr,
            text: word(176)..word(184),
            data: word(208)..word(216),
            bss: word(224)..word(232),
            noptrbss: word(240)..word(248),
            gofunc: word(offsets.gofunc),
            types: word(offsets.types),
        };
        let code = image.segments().iter().any(|segment| {
            segment.executable
                && module.text.start >= segment.vaddr
                && module.text.end <= segment.vaddr + segment.size
                && module.text.start < module.text.end
        });
        if !code {
            return Err(GoErrorKind::Corrupt(format!(
                "its module data says that Go code is at {:#x} to {:#x}, where no code is",
                module.text.start, module.text.end
            )));
        }
        Ok(module)
    }
}

/// Finds the moduledata of this function table: its link-time address, and its words.
fn locate(image: &Image, header: &Header) -> Result<Option<(u64, Vec<u64>)>, TooMuch> {
    let check = |vaddr: u64| {
        let words = image.words(vaddr, WORDS)?;
        header.belongs_to(&words).then_some((vaddr, words))
    };
    let in_bytes = |data: &[u8], vaddr: u64| {
        let skip = (vaddr.wrapping_neg() % 8) as usize;
        let words = data.get(skip..)?.as_chunks::<8>().0;
        let hits = words.iter().enumerate().filter(|(_, word)| u64::from_le_bytes(**word) == header.vaddr);
        hits.take(MAX_CANDIDATES).find_map(|(index, _)| check(vaddr + (skip + 8 * index) as u64))
    };
    let by_relocations = |range: Range<u64>| {
        let hits = image.relocations_in(range).filter(|(_, addend)| *addend == header.vaddr);
        hits.take(MAX_CANDIDATES).find_map(|(target, _)| check(target))
    };
    let in_sections = || {
        MODULE_DATA_SECTIONS.iter().filter_map(|name| image.section_vaddr(name)).find_map(|range| {
            in_bytes(image.bytes(range.clone())?, range.start).or_else(|| by_relocations(range))
        })
    };
    let in_segments = || image.search(|segment| !segment.executable, |vaddr, bytes| in_bytes(bytes, vaddr));
    match in_sections().or_else(|| by_relocations(0..u64::MAX)) {
        None => in_segments(),
        found => Ok(found),
    }
}

/// Words equal to the address of the function table that are looked at. Programs have few; a file that has many was
/// made to take time.
const MAX_CANDIDATES: usize = 16;

impl Header {
    /// Whether these are the words of a moduledata with this table, which has pointers to all of its parts.
    fn belongs_to(&self, words: &[u64]) -> bool {
        let word = |offset: usize| words.get(offset / 8).copied();
        let at = |offset: u64| Some(self.vaddr.wrapping_add(offset));
        word(0) == Some(self.vaddr)
            && word(8) == at(self.funcnames)
            && word(32) == at(self.units)
            && word(56) == at(self.files)
            && word(80) == at(self.pcvalues)
            && word(104) == at(self.functions)
            && word(128) == at(self.functions)
            && word(136) == Some(self.count + 1)
    }
}
