//! The start of the function table, and where to look for it in a file: `pcHeader` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>.

use crate::go::file::budget::TooMuch;
use crate::go::file::error::GoErrorKind;
use crate::go::file::image::{Image, u32_at, u64_at};

/// The magic number of Go 1.18 and 1.19: `pcHeader.magic`.
const MAGIC_118: u32 = 0xffff_fff0;
/// The magic number of Go 1.20 and newer.
const MAGIC_120: u32 = 0xffff_fff1;
/// The magic numbers of Go 1.2 to 1.17, to tell a program that is too old from one that is not Go.
const MAGIC_OLD: [u32; 2] = [0xffff_fffb, 0xffff_fffa];
/// Sections that hold the function table and nothing else.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Sections where linkers put `runtime.firstmoduledata`: from Go 1.26 on, and before.
pub(super) const MODULE_DATA_SECTIONS: [&str; 2] = [".go.module", ".noptrdata"];
/// More functions than any program has; the largest have some 100,000s.
const MAX_FUNCTIONS: u64 = 1 << 24;

/// The start of the function table at the link-time address `vaddr`: how many functions it has, and how many bytes from
/// `vaddr` its parts begin.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) vaddr: u64,
    pub(crate) count: u64,
    pub(crate) funcnames: u64,
    pub(crate) units: u64,
    pub(crate) files: u64,
    pub(crate) pcvalues: u64,
    pub(crate) functions: u64,
    magic: u32,
}

impl Header {
    /// Finds the function table: by the section's name; or by the module data's pointer to it, where another linker than
    /// Go's merged the section into a larger one; or by its first bytes.
    ///
    /// # Errors
    /// [`GoErrorKind::TooOld`] where there is a table of Go 1.17 or older, [`GoErrorKind::NotGo`] where there is none,
    /// [`GoErrorKind::TooMuch`] where there is too much to search.
    pub(crate) fn find(image: &Image) -> Result<Header, GoErrorKind> {
        let named = || {
            let ranges = SECTIONS.iter().filter_map(|name| image.section_vaddr(name));
            ranges.filter_map(|range| Header::parse(image, range.start)).next()
        };
        let pointed = || {
            let ranges = MODULE_DATA_SECTIONS.iter().filter_map(|name| image.section_vaddr(name));
            let pointed_to = ranges.flat_map(|range| image.relocations_in(range));
            // Most pointers lead to code, which is no table: not to read it saves reading most of the file.
            pointed_to.filter(|&(_, to)| !image.is_code(to)).find_map(|(_, to)| Header::parse(image, to))
        };
        let mut old = false;
        let mut scanned = || -> Result<Option<Header>, TooMuch> {
            image.search(
                |_| true,
                |vaddr, bytes| {
                    let skip = (vaddr.wrapping_neg() % 8) as usize;
                    let words = bytes.get(skip..)?.as_chunks::<8>().0.iter().enumerate();
                    let magic = |word: &[u8; 8]| word[1..6] == [0xff, 0xff, 0xff, 0, 0] && word[7] == 8;
                    words.filter(|(_, word)| magic(word)).find_map(|(index, word)| {
                        old |= MAGIC_OLD.map(|magic| magic as u8).contains(&word[0]);
                        Header::parse(image, vaddr + (skip + 8 * index) as u64)
                    })
                },
            )
        };
        let known = named().or_else(pointed).map(|header| Ok(Some(header)));
        match known.unwrap_or_else(&mut scanned)? {
            Some(header) => Ok(header),
            None if old => Err(GoErrorKind::TooOld("Go 1.17 or older".into())),
            None => Err(GoErrorKind::NotGo),
        }
    }

    /// Whether there is a section that should hold the table, readable or not.
    pub(crate) fn has_section(image: &Image) -> bool {
        SECTIONS.iter().any(|name| image.section(name).is_some())
    }

    /// Asks the kernel for the names and the records, which are read as a whole. The numbers between them are needed for
    /// few functions.
    pub(crate) fn prefetch(&self, image: &Image) {
        let Some(start) = image.vaddr_to_file_offset(self.vaddr) else { return };
        let at = |offset: u64| (start + offset) as usize;
        image.prefetch(at(0)..at(self.units));
        // The header does not say where the records end; each takes some 100 bytes.
        image.prefetch(at(self.functions)..at(self.functions + 128 * self.count));
    }

    /// Whether the records of functions and of inlined calls have the form that Go 1.20 brought.
    pub(super) fn is_of_120(&self) -> bool {
        self.magic == MAGIC_120
    }

    fn parse(image: &Image, vaddr: u64) -> Option<Header> {
        let bytes = image.bytes_from(vaddr)?;
        let magic = u32_at(bytes, 0).filter(|magic| [MAGIC_118, MAGIC_120].contains(magic))?;
        let prefix: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        if prefix != [0, 0, image.architecture().instruction_quantum(), 8] {
            return None;
        }
        let word = |index: usize| u64_at(bytes, 8 * index);
        let header = Header {
            vaddr,
            count: word(1).filter(|count| (1..MAX_FUNCTIONS).contains(count))?,
            funcnames: word(4)?,
            units: word(5)?,
            files: word(6)?,
            pcvalues: word(7)?,
            functions: word(8)?,
            magic,
        };
        let ordered = header.funcnames <= header.units
            && header.units <= header.files
            && header.files <= header.pcvalues
            && header.pcvalues <= header.functions
            && header.functions.checked_add(8 * header.count + 4)? <= bytes.len() as u64;
        ordered.then_some(header)
    }
}
