//! An ELF executable in memory, every access checked. All that golife knows of ELF is here: segments, sections,
//! notes, relocations and where the loader put the file.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};
use object::elf;
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

use super::budget::{Budget, TooMuch};
use super::error::{GoError, GoErrorKind};
use super::{on_disk, truncated};

/// Section headers that are read; no linker writes more.
const MAX_SECTIONS: usize = 4096;
/// Program headers that are read. Linkers write some ten of them.
const MAX_SEGMENTS: usize = 128;
/// Bytes that are searched for what has no name. Loaded segments of the largest Go programs have some 100 MB.
const MAX_SEARCHED: u64 = 512 << 20;
/// The page size that load addresses are rounded to. Larger pages only make the rounding coarser on both sides.
const PAGE: u64 = 4096;

/// The CPU architectures that golife knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// The architecture of this machine.
    pub const HOST: Option<Architecture> = if cfg!(target_arch = "x86_64") {
        Some(Architecture::Amd64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Architecture::Arm64)
    } else {
        None
    };

    /// As the kernel and other tools call it: `x86_64`, `aarch64`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64",
            Architecture::Arm64 => "aarch64",
        }
    }

    /// Bytes that instructions are aligned to (Go calls it `minLC`, the PC quantum).
    pub fn instruction_quantum(self) -> u8 {
        match self {
            Architecture::Amd64 => 1,
            Architecture::Arm64 => 4,
        }
    }
}

/// A loadable part of the file: `PT_LOAD`.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Link-time address.
    pub vaddr: u64,
    /// Size in memory in bytes; what exceeds `file_size` is zero.
    pub size: u64,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many bytes the file has.
    pub file_size: u64,
    /// The loader maps it with the right to execute.
    pub executable: bool,
}

/// Bytes to ask the kernel for at once. It cuts a longer request to what the disk reads ahead or takes at once, which is
/// seldom less than this: `force_page_cache_ra` in
/// <https://github.com/torvalds/linux/blob/v6.12/mm/readahead.c>.
const READ_AHEAD: usize = 128 << 10;

/// A section: a name for a range of the file. Stripped files may have none.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name, `.text` and so on.
    pub name: String,
    /// Link-time address, 0 where it is not loaded.
    pub vaddr: u64,
    /// Where its bytes are in the file; empty for `SHT_NOBITS`.
    pub file: Range<usize>,
    /// `SHF_COMPRESSED`: the bytes begin with a compression header.
    pub compressed: bool,
    kind: u32,
    link: u32,
}

/// An opened executable.
pub struct Image {
    map: Mmap,
    /// Where the file has bytes on the disk, in order. Between them it has zeros that cost nothing but to be read.
    on_disk: Vec<Range<usize>>,
    path: PathBuf,
    architecture: Architecture,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    notes: Vec<Range<usize>>,
    relocations: Relocations,
    interpreter: bool,
}

/// The table of relocations with addends.
#[derive(Clone, Debug, Default)]
struct Relocations {
    /// Where it is in the file.
    file: Range<usize>,
    /// How many entries at its start are RELATIVE and sorted by address (`DT_RELACOUNT`). 0 where the file does not say,
    /// as after Go's own linker.
    sorted: usize,
}

impl Image {
    /// Reads the headers of an executable that is already open. `path` is for messages only: the caller knows
    /// whether it opened a path or `/proc/PID/exe`.
    ///
    /// # Errors
    /// Not an ELF file, truncated, corrupt, 32-bit, of an unknown architecture, or the file cannot be mapped.
    pub fn open(file: &File, path: &Path) -> Result<Image, GoError> {
        Self::read(file, path).map_err(|kind| GoError::new(path, kind))
    }

    fn read(file: &File, path: &Path) -> Result<Image, GoErrorKind> {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(GoErrorKind::NotElf);
        }
        truncated::outlive();
        // SAFETY: the mapping is private and read-only, and nothing keeps a reference across a point where it
        // relies on the bytes staying the same, or being there.
        let map = unsafe { Mmap::map(file)? };
        // The kernel would read what is around each page that is touched, on some disks 8 MB, and so most of the file.
        // Parts that are needed as a whole are asked for (`prefetch`, `in_order`).
        let _ = map.advise(Advice::Random);
        let on_disk = on_disk::parts(file, &metadata);
        Self::from_map(map, on_disk, path)
    }

    fn from_map(map: Mmap, on_disk: Vec<Range<usize>>, path: &Path) -> Result<Image, GoErrorKind> {
        let Headers { architecture, segments, sections, notes, relocations, interpreter } =
            Headers::parse(&map)?;
        let path = path.to_owned();
        Ok(Image { map, on_disk, path, architecture, segments, sections, notes, relocations, interpreter })
    }

    /// An executable that is no file, for tests that damage one.
    #[cfg(test)]
    pub(crate) fn from_bytes(data: &[u8], path: &Path) -> Result<Image, GoError> {
        if data.is_empty() {
            return Err(GoError::new(path, GoErrorKind::NotElf));
        }
        let mut map = memmap2::MmapMut::map_anon(data.len()).expect("memory for a copy");
        map.copy_from_slice(data);
        let on_disk = std::iter::once(0..data.len()).collect();
        Self::from_map(map.make_read_only().expect("a private mapping"), on_disk, path)
            .map_err(|kind| GoError::new(path, kind))
    }

    /// The file as the caller called it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The CPU architecture it is made for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Whether it names a dynamic linker (`PT_INTERP`): without one, a program loads no libraries.
    pub fn interpreter(&self) -> bool {
        self.interpreter
    }

    /// Opens a file if a Go linker has marked it: see [`Image::has_go_mark`].
    pub fn of_go(file: &File, path: &Path) -> Option<Image> {
        Image::open(file, path).ok().filter(Image::has_go_mark)
    }

    /// Whether a Go linker has marked the file, by a section for build info or by a note with its build id. All
    /// versions of Go mark libraries and plugins, too.
    pub fn has_go_mark(&self) -> bool {
        self.section(".go.buildinfo").is_some() || self.go_build_id().is_some()
    }

    /// The whole file.
    pub fn data(&self) -> &[u8] {
        &self.map
    }

    /// Asks the kernel to read a part of the file now: one request for many pages, where faults would cost one each.
    pub(crate) fn prefetch(&self, file: Range<usize>) {
        let end = file.end.min(self.map.len());
        for start in (file.start..end).step_by(READ_AHEAD) {
            // This is advice only: where it fails, reading is slower.
            let _ = self.map.advise_range(Advice::WillNeed, start, READ_AHEAD.min(end - start));
        }
    }

    /// Returns a part of the file that is about to be read from its start to its end, and tells the kernel to read ahead.
    pub(crate) fn in_order<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        let start = (bytes.as_ptr() as usize).wrapping_sub(self.map.as_ptr() as usize);
        // This is advice only: where it fails, reading is slower.
        let _ = self.map.advise_range(Advice::Sequential, start, bytes.len());
        bytes
    }

    /// [`Image::prefetch`] for the sections with these names, and for the relocations.
    pub(crate) fn prefetch_sections(&self, names: &[&str]) {
        for section in self.sections.iter().filter(|section| names.contains(&section.name.as_str())) {
            self.prefetch(section.file.clone());
        }
        self.prefetch(self.relocations.file.clone());
    }

    /// The loadable segments, in file order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The link-time addresses of a loaded section's bytes in the file. They are those of the segment that has these
    /// bytes, since the loader goes by segments, and nothing keeps the section's own address true.
    pub fn section_vaddr(&self, name: &str) -> Option<Range<u64>> {
        let file = &self.section(name)?.file;
        let start = self.file_offset_to_vaddr(file.start as u64)?;
        Some(start..start.checked_add(file.len() as u64)?)
    }

    /// The section with this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The bytes that a section has in the file.
    pub fn section_data(&self, section: &Section) -> &[u8] {
        self.map.get(section.file.clone()).unwrap_or_default()
    }

    /// The symbol table and its strings, `.symtab` and `.strtab`. None where the file is stripped.
    pub fn symbol_table(&self) -> Option<(&[u8], &[u8])> {
        self.symbols_of(elf::SHT_SYMTAB)
    }

    /// The symbol table for dynamic linking and its strings, `.dynsym` and `.dynstr`.
    pub fn dynamic_symbol_table(&self) -> Option<(&[u8], &[u8])> {
        self.symbols_of(elf::SHT_DYNSYM)
    }

    fn symbols_of(&self, kind: u32) -> Option<(&[u8], &[u8])> {
        let symbols = self.sections.iter().find(|section| section.kind == kind)?;
        let strings = self.sections.get(symbols.link as usize)?;
        Some((self.in_order(self.section_data(symbols)), self.in_order(self.section_data(strings))))
    }

    /// Where the byte at a link-time address is in the file. None where it is not from the file.
    pub fn vaddr_to_file_offset(&self, vaddr: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let delta = vaddr.checked_sub(segment.vaddr)?;
            (delta < segment.file_size).then(|| segment.offset + delta)
        })
    }

    /// The link-time address of the byte at a place in the file.
    pub fn file_offset_to_vaddr(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let delta = offset.checked_sub(segment.offset)?;
            (delta < segment.file_size).then(|| segment.vaddr.wrapping_add(delta))
        })
    }

    /// The file's bytes from a link-time address to the end of its segment.
    pub fn bytes_from(&self, vaddr: u64) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|segment| {
            vaddr.checked_sub(segment.vaddr).is_some_and(|delta| delta < segment.file_size)
        })?;
        let start = segment.offset + (vaddr - segment.vaddr);
        self.map.get(usize::try_from(start).ok()?..usize::try_from(segment.offset + segment.file_size).ok()?)
    }

    /// Searches what the file has of the segments that are wanted, from start to end: `find` is given pieces with their
    /// link-time addresses. Bytes that several segments have in common are there once, and holes of sparse files not at all.
    ///
    /// # Errors
    /// [`TooMuch`] where it is not in the first bytes of larger segments than any but the largest Go programs have.
    pub(crate) fn search<'a, T>(
        &'a self,
        wanted: impl Fn(&Segment) -> bool,
        mut find: impl FnMut(u64, &'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, TooMuch> {
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|segment| wanted(segment)).collect();
        segments.sort_by_key(|segment| segment.offset);
        let mut budget = Budget::new("its segments", MAX_SEARCHED);
        let mut done = 0;
        for segment in segments {
            let end = segment.offset + segment.file_size;
            let first = self.on_disk.partition_point(|part| part.end as u64 <= segment.offset.max(done));
            for part in self.on_disk.iter().skip(first).take_while(|part| (part.start as u64) < end) {
                let range = segment.offset.max(done).max(part.start as u64)..end.min(part.end as u64);
                let length = range.end.saturating_sub(range.start);
                let last = range.start + length.min(budget.left());
                let bytes = self.map.get(range.start as usize..last as usize).unwrap_or_default();
                if !bytes.is_empty()
                    && let Some(found) =
                        find(segment.vaddr + (range.start - segment.offset), self.in_order(bytes))
                {
                    return Ok(Some(found));
                }
                budget.spend(length)?;
            }
            done = done.max(end);
        }
        Ok(None)
    }

    /// Whether the loader maps a link-time address with the right to execute.
    pub fn is_code(&self, vaddr: u64) -> bool {
        let mut code = self.segments.iter().filter(|segment| segment.executable);
        code.any(|segment| vaddr.checked_sub(segment.vaddr).is_some_and(|delta| delta < segment.size))
    }

    /// The file's bytes in a range of link-time addresses; none where any of them is not in the file.
    pub fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        self.bytes_from(range.start)?.get(..usize::try_from(range.end.checked_sub(range.start)?).ok()?)
    }

    /// `count` words from a link-time address on, as the loader leaves them at load bias 0: a word that the file
    /// has as zero and that a RELATIVE relocation fills (position-independent executables) is its addend.
    pub fn words(&self, vaddr: u64, count: usize) -> Option<Vec<u64>> {
        let end = vaddr.checked_add(8 * count as u64)?;
        let bytes = self.bytes(vaddr..end)?;
        let mut words: Vec<u64> = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0)).collect();
        if words.contains(&0) {
            for (target, addend) in self.relocations_in(vaddr..end) {
                let delta = target - vaddr;
                if delta.is_multiple_of(8)
                    && let Some(word) = words.get_mut((delta / 8) as usize)
                    && *word == 0
                {
                    *word = addend;
                }
            }
        }
        Some(words)
    }

    /// The RELATIVE relocations of the words in a range of addresses: (where, what to put there at load bias 0).
    pub fn relocations_in(&self, range: Range<u64>) -> impl Iterator<Item = (u64, u64)> + '_ {
        let relative = u64::from(match self.architecture {
            Architecture::Amd64 => elf::R_X86_64_RELATIVE,
            Architecture::Arm64 => elf::R_AARCH64_RELATIVE,
        });
        let table = self.map.get(self.relocations.file.clone()).unwrap_or_default();
        let mut entries = table.as_chunks::<24>().0;
        if let Some(sorted) = entries.get(..self.relocations.sorted).filter(|sorted| !sorted.is_empty()) {
            let before =
                |end: u64| sorted.partition_point(|entry| u64_at(entry, 0).is_some_and(|at| at < end));
            entries = sorted.get(before(range.start)..before(range.end)).unwrap_or_default();
        }
        entries.iter().filter_map(move |entry| {
            let target = u64_at(entry, 0).filter(|target| range.contains(target))?;
            (u64_at(entry, 8)? == relative).then_some((target, u64_at(entry, 16)?))
        })
    }

    /// The content of the first note with this owner and type, such as a build id.
    pub fn note(&self, owner: &[u8], kind: u32) -> Option<&[u8]> {
        self.notes.iter().find_map(|range| {
            let mut rest = self.map.get(range.clone())?;
            while rest.len() >= 12 {
                let name_size = u32_at(rest, 0)? as usize;
                let size = u32_at(rest, 4)? as usize;
                let found = u32_at(rest, 8)?;
                let start = 12usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
                let name = rest.get(12..12usize.checked_add(name_size)?)?;
                let description = rest.get(start..start.checked_add(size)?)?;
                if found == kind && name.split(|byte| *byte == 0).next() == Some(owner) {
                    return Some(description);
                }
                rest = rest.get(start.checked_add(size.checked_next_multiple_of(4)?)?..)?;
            }
            None
        })
    }

    /// The build id that the linker wrote for GNU tools, in hexadecimal.
    pub fn gnu_build_id(&self) -> Option<String> {
        let id = self.note(b"GNU", elf::NT_GNU_BUILD_ID).filter(|id| !id.is_empty() && id.len() <= 64)?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The build id of the Go linker: four hashes, separated by slashes.
    pub fn go_build_id(&self) -> Option<String> {
        const NT_GO_BUILD_ID: u32 = 4;
        let id = self.note(b"Go", NT_GO_BUILD_ID).filter(|id| !id.is_empty() && id.len() <= 256)?;
        std::str::from_utf8(id).ok().map(str::to_owned)
    }

    /// The load bias: how many bytes a process has the file above its link-time addresses. It follows from one of the
    /// process's mappings of the file, by the address and the file offset in bytes that `/proc/PID/maps` shows. None
    /// where no segment begins on that page of the file.
    pub fn load_bias(&self, mapped_at: u64, file_offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.offset / PAGE == file_offset / PAGE)?;
        Some(mapped_at.wrapping_sub(segment.vaddr - segment.vaddr % PAGE))
    }
}

/// What the headers say, checked against the size of the file.
struct Headers {
    architecture: Architecture,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    notes: Vec<Range<usize>>,
    relocations: Relocations,
    interpreter: bool,
}

impl Headers {
    fn parse(data: &[u8]) -> Result<Headers, GoErrorKind> {
        let architecture = architecture(data)?;
        let endian = LittleEndian;
        let header = elf::FileHeader64::<LittleEndian>::parse(data).map_err(corrupt)?;
        let kind = header.e_type(endian);
        if kind != elf::ET_EXEC && kind != elf::ET_DYN {
            return Err(GoErrorKind::NotExecutable(kind));
        }
        let has = data.len() as u64;
        let table = header
            .e_phoff(endian)
            .saturating_add(u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian)));
        if table > has {
            return Err(GoErrorKind::Truncated { what: "the program header table", needs: table, has });
        }
        let programs = header.program_headers(endian, data).map_err(corrupt)?;
        if programs.len() > MAX_SEGMENTS {
            return Err(GoErrorKind::Corrupt(format!("{} program headers", programs.len())));
        }
        let mut segments = Vec::new();
        let mut notes = Vec::new();
        let mut dynamic = None;
        let mut interpreter = false;
        for program in programs {
            let (offset, file_size) = program.file_range(endian);
            let needs = offset.saturating_add(file_size);
            let inside = needs <= has;
            match program.p_type(endian) {
                elf::PT_LOAD => {
                    if !inside {
                        return Err(GoErrorKind::Truncated { what: "a loadable segment", needs, has });
                    }
                    let vaddr = program.p_vaddr(endian);
                    let size = program.p_memsz(endian);
                    if vaddr.checked_add(size).is_none() || size < file_size {
                        return Err(GoErrorKind::Corrupt(format!("a segment of {size} bytes at {vaddr:#x}")));
                    }
                    let executable = program.p_flags(endian) & elf::PF_X != 0;
                    segments.push(Segment { vaddr, size, offset, file_size, executable });
                }
                elf::PT_INTERP => interpreter = true,
                elf::PT_NOTE if inside => notes.push(offset as usize..needs as usize),
                elf::PT_DYNAMIC if inside => dynamic = Some(offset as usize..needs as usize),
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(GoErrorKind::Corrupt("no loadable segment".into()));
        }
        let sections = sections(header, data);
        notes.extend(sections.iter().filter(|s| s.kind == elf::SHT_NOTE).map(|s| s.file.clone()));
        let relocations =
            dynamic.and_then(|dynamic| relocations(data, dynamic, &segments)).unwrap_or_default();
        Ok(Headers { architecture, segments, sections, notes, relocations, interpreter })
    }
}

/// Which CPU the file is for, from the first 20 bytes.
fn architecture(data: &[u8]) -> Result<Architecture, GoErrorKind> {
    if data.get(..4) != Some(&elf::ELFMAG) {
        return Err(GoErrorKind::NotElf);
    }
    let Some(&[class, encoding]) = data.get(4..6) else {
        return Err(GoErrorKind::Truncated { what: "the ELF header", needs: 64, has: data.len() as u64 });
    };
    if class == elf::ELFCLASS32 {
        return Err(GoErrorKind::Bits32);
    }
    if data.len() < 64 {
        return Err(GoErrorKind::Truncated { what: "the ELF header", needs: 64, has: data.len() as u64 });
    }
    let bytes = [data[18], data[19]];
    let machine =
        if encoding == elf::ELFDATA2MSB { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let found = match machine {
        elf::EM_X86_64 if encoding == elf::ELFDATA2LSB => return Ok(Architecture::Amd64),
        elf::EM_AARCH64 if encoding == elf::ELFDATA2LSB => return Ok(Architecture::Arm64),
        elf::EM_S390 => "s390x".to_owned(),
        elf::EM_PPC64 => "ppc64".to_owned(),
        elf::EM_RISCV => "riscv64".to_owned(),
        elf::EM_LOONGARCH => "loong64".to_owned(),
        elf::EM_MIPS => "mips64".to_owned(),
        other => format!("an unknown CPU (e_machine {other})"),
    };
    Err(GoErrorKind::OtherArchitecture { found, host: std::env::consts::ARCH })
}

/// The sections as far as they are inside the file. Nothing here fails: a program runs without sections, too.
fn sections(header: &elf::FileHeader64<LittleEndian>, data: &[u8]) -> Vec<Section> {
    let endian = LittleEndian;
    let Ok(table) = header.sections(endian, data) else { return Vec::new() };
    if table.len() > MAX_SECTIONS {
        return Vec::new();
    }
    let section = |section: &elf::SectionHeader64<LittleEndian>| {
        let name = table.section_name(endian, section).unwrap_or_default();
        let file = section.file_range(endian).and_then(|(offset, size)| {
            let end = offset.checked_add(size).filter(|end| *end <= data.len() as u64)?;
            Some(offset as usize..end as usize)
        });
        Section {
            name: String::from_utf8_lossy(name.get(..name.len().min(64)).unwrap_or_default()).into_owned(),
            vaddr: section.sh_addr(endian),
            file: file.unwrap_or_default(),
            compressed: section.sh_flags(endian) & u64::from(elf::SHF_COMPRESSED) != 0,
            kind: section.sh_type(endian),
            link: section.sh_link(endian),
        }
    };
    table.iter().map(section).collect()
}

/// Finds the table of relocations with addends (`DT_RELA`).
fn relocations(data: &[u8], dynamic: Range<usize>, segments: &[Segment]) -> Option<Relocations> {
    let (mut address, mut size, mut sorted) = (None, None, 0);
    for entry in data.get(dynamic)?.as_chunks::<16>().0 {
        match (u64_at(entry, 0)? as i64, u64_at(entry, 8)?) {
            (elf::DT_NULL, _) => break,
            (elf::DT_RELA, value) => address = Some(value),
            (elf::DT_RELASZ, value) => size = Some(value),
            (elf::DT_RELACOUNT, value) => sorted = usize::try_from(value).ok()?,
            _ => {}
        }
    }
    let (address, size) = (address?, size?);
    let segment = segments.iter().find(|s| address.checked_sub(s.vaddr).is_some_and(|d| d < s.file_size))?;
    let start = segment.offset + (address - segment.vaddr);
    let end = start.checked_add(size).filter(|end| *end <= segment.offset + segment.file_size)?;
    Some(Relocations { file: start as usize..end as usize, sorted })
}

fn corrupt(error: object::Error) -> GoErrorKind {
    GoErrorKind::Corrupt(error.to_string())
}

/// A little-endian number at a place, where there are enough bytes.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

/// A little-endian number at a place, where there are enough bytes.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// A little-endian number at a place, where there are enough bytes.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
