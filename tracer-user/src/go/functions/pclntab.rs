//! The function table that every Go program carries, stripped or not: names, code ranges, files and lines.
//! Its format since Go 1.18: <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go> (`pcHeader`,
//! `_func`, `functab`) and <https://cs.opensource.google/go/go/+/master:src/cmd/link/internal/ld/pcln.go>.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::header::Header;
use super::moduledata::ModuleData;
use super::pcvalue::PcValues;
use crate::go::file::error::GoErrorKind;
use crate::go::file::image::{Image, u32_at};

/// `abi.FuncFlagTopFrame`
const FLAG_TOP_FRAME: u8 = 1;
/// Bytes after which names and paths are cut. No compiler writes longer ones.
const MAX_STRING: usize = 16 * 1024;
/// A function: a body of code with a name. Several can have the same name (a wrapper for another calling
/// convention and the body itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name as Go prints it: `main.(*server).handle.func1`, `main.worker[...]`.
    pub name: String,
    /// Link-time address of its first instruction.
    pub entry: u64,
    /// Where the next function begins; between the last instruction and this there may be padding.
    pub end: u64,
    pub(crate) index: usize,
}

impl Function {
    /// How many bytes its code has, with the padding behind it.
    pub fn size(&self) -> u64 {
        self.end - self.entry
    }
}

/// How much of the stack a call takes, beside its return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// It takes so many bytes, a multiple of 8.
    Bytes(u32),
    /// Nothing called it: the stack ends here.
    Outermost,
}

/// A place in source, as a line of Go's traceback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeFrame {
    /// The function as Go prints it.
    pub function: String,
    /// Its source file as the compiler was told, usually an absolute path; `?` where the table has none.
    pub file: String,
    /// The line, 0 where the table has none.
    pub line: u32,
    /// The function's code is part of the next frame's function.
    pub inlined: bool,
}

/// The record of a function, `_func` in <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>: a fixed
/// part, whose length differs between versions, and lists behind it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'data> {
    /// From the record to the end of the table.
    pub(crate) bytes: &'data [u8],
    /// How many bytes the fixed part has.
    fixed: usize,
}

impl Record<'_> {
    fn word(&self, offset: usize) -> Option<u32> {
        u32_at(self.bytes, offset)
    }

    /// `pcdata[index]`: where the table begins in the numbers of all functions (`pctab`). None where there is no such
    /// table.
    pub(crate) fn pcdata(&self, index: u32) -> Option<u32> {
        let count = self.word(28)?;
        (index < count).then(|| self.word(self.fixed + 4 * index as usize))?.filter(|offset| *offset != 0)
    }

    /// `funcdata[index]`: how many bytes from `moduledata.gofunc` the data begins. None where there is none.
    pub(crate) fn funcdata(&self, index: u8) -> Option<u32> {
        let count = *self.bytes.get(self.fixed - 1)?;
        let pcdata = self.word(28).filter(|count| *count < 64)? as usize;
        let at = self.fixed + 4 * (pcdata + usize::from(index));
        (index < count).then(|| self.word(at))?.filter(|offset| *offset != u32::MAX)
    }

    /// The bits of `abi.FuncFlag`, the third byte from the end of the fixed part.
    fn flag(&self) -> Option<u8> {
        self.bytes.get(self.fixed - 3).copied()
    }

    /// What kind of special function it is (`abi.FuncID`). The numbers differ between versions.
    pub(crate) fn func_id(&self) -> Option<u8> {
        self.bytes.get(self.fixed - 4).copied()
    }
}

/// The function table of a program.
pub struct Pclntab {
    pub(crate) image: Arc<Image>,
    header: Header,
    pub(crate) module: ModuleData,
    runtime: OnceLock<Vec<usize>>,
}

impl Pclntab {
    /// Puts the parts together and checks that the functions are in order, so that a damaged table cannot make a later
    /// search take long.
    ///
    /// # Errors
    /// [`GoErrorKind::Corrupt`] where they are not, or reach beyond the program's code.
    pub(crate) fn new(image: Arc<Image>, header: Header, module: ModuleData) -> Result<Pclntab, GoErrorKind> {
        let table = Pclntab { image, header, module, runtime: OnceLock::new() };
        let ordered = table.rows().is_sorted_by(|a, b| a[0] <= b[0]);
        let size = table.module.text.end - table.module.text.start;
        let end = table.entry_offset(table.count()).map(u64::from);
        if !ordered || end.is_none_or(|end| end > size) {
            return Err(GoErrorKind::Corrupt("the functions in its function table are not in order".into()));
        }
        Ok(table)
    }

    /// How many functions there are.
    pub fn count(&self) -> usize {
        self.header.count as usize
    }

    /// Whether records of functions and of inlined calls have the form that Go 1.20 brought.
    pub(crate) fn since_120(&self) -> bool {
        self.header.is_of_120()
    }

    fn part(&self, range: Range<u64>) -> &[u8] {
        let bytes = self.image.bytes_from(self.header.vaddr).unwrap_or_default();
        bytes.get(range.start as usize..(range.end.min(bytes.len() as u64)) as usize).unwrap_or_default()
    }

    fn functions(&self) -> &[u8] {
        self.part(self.header.functions..u64::MAX)
    }

    /// The rows of the table, sorted: (offset of the function's entry from the start of Go code, offset of its record).
    fn rows(&self) -> impl ExactSizeIterator<Item = [u32; 2]> + '_ {
        self.functions().as_chunks::<8>().0.iter().take(self.count()).map(|row| {
            let [a, b, c, d, e, f, g, h] = *row;
            [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
        })
    }

    fn entry_offset(&self, index: usize) -> Option<u32> {
        u32_at(self.functions(), 8 * index)
    }

    pub(crate) fn record(&self, index: usize) -> Option<Record<'_>> {
        let functions = self.functions();
        let offset = u32_at(functions, 8 * index + 4).filter(|_| index < self.count())? as usize;
        let fixed = if self.since_120() { 44 } else { 40 };
        let bytes = functions.get(offset..).filter(|bytes| bytes.len() >= fixed)?;
        Some(Record { bytes, fixed })
    }

    /// The name table: names with a zero after each. Those of functions that are only inlined are there, too.
    pub(super) fn names(&self) -> &[u8] {
        self.part(self.header.funcnames..self.header.units)
    }

    /// The string at an offset of the name table.
    pub(crate) fn name_at(&self, offset: u32) -> &[u8] {
        string_at(self.names(), offset as usize)
    }

    /// The name in the table, where generic functions have their shapes spelt out from Go 1.21 on.
    pub(crate) fn symbol(&self, index: usize) -> &[u8] {
        self.record(index).and_then(|record| record.word(4)).map_or(&[], |offset| self.name_at(offset))
    }

    /// Whether the name at an offset of the name table is this one, or with `prefix` begins so. How long the name in the
    /// table is does not matter.
    pub(super) fn is_named(&self, offset: u32, name: &[u8], prefix: bool) -> bool {
        let rest = self.names().get(offset as usize..);
        let rest = rest.and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| prefix || rest.first().is_none_or(|byte| *byte == 0))
    }

    fn begins_with(&self, index: usize, prefix: &[u8]) -> bool {
        let name = self.record(index).and_then(|record| record.word(4));
        name.is_some_and(|name| self.is_named(name, prefix, true))
    }

    /// The link-time addresses of a function's code.
    pub(super) fn range(&self, index: usize) -> Option<Range<u64>> {
        let entry = self.module.text.start + u64::from(self.entry_offset(index)?);
        let end = self.module.text.start + u64::from(self.entry_offset(index + 1)?);
        (index < self.count()).then_some(entry..end)
    }

    pub(crate) fn function(&self, index: usize) -> Option<Function> {
        let Range { start: entry, end } = self.range(index)?;
        Some(Function { name: printed(self.symbol(index)), entry, end, index })
    }

    /// The function whose code is at a link-time address.
    pub fn function_at(&self, pc: u64) -> Option<Function> {
        let offset = u32::try_from(pc.checked_sub(self.module.text.start)?).ok()?;
        let rows = self.functions().as_chunks::<8>().0.get(..self.count())?;
        let after = rows.partition_point(|row| u32_at(row, 0).is_some_and(|entry| entry <= offset));
        self.function(after.checked_sub(1)?).filter(|function| pc < function.end)
    }

    /// Every function with this name, as Go prints it.
    pub fn functions_named(&self, name: &str) -> Vec<Function> {
        let generic = name.contains("[...]");
        let same = |index: &usize| {
            let offset = self.record(*index).and_then(|record| record.word(4));
            offset.is_some_and(|offset| self.is_named(offset, name.as_bytes(), false))
                || (generic && printed(self.symbol(*index)) == name)
        };
        self.functions_of_package(name).filter(same).filter_map(|index| self.function(index)).collect()
    }

    /// The functions that could be in the same package as one of this name. Those of package runtime, which golife asks
    /// for most, are searched for once and then remembered.
    pub(crate) fn functions_of_package(&self, name: &str) -> Box<dyn Iterator<Item = usize> + '_> {
        let prefix = package_prefix(name);
        if prefix == "runtime." {
            return Box::new(self.runtime_functions().iter().copied());
        }
        let prefix = prefix.to_owned();
        Box::new((0..self.count()).filter(move |index| self.begins_with(*index, prefix.as_bytes())))
    }

    fn runtime_functions(&self) -> &[usize] {
        let find = || (0..self.count()).filter(|index| self.begins_with(*index, b"runtime.")).collect();
        self.runtime.get_or_init(find)
    }

    /// One of the function's tables of data, with the bytes that come after it.
    pub(crate) fn data_of(&self, function: &Function, index: u8) -> Option<&[u8]> {
        let offset = self.record(function.index)?.funcdata(index)?;
        self.image.bytes_from(self.module.gofunc.checked_add(offset.into())?)
    }

    /// The numbers of a function's instructions, from the table at this offset of the numbers of all functions (`pctab`).
    pub(crate) fn pcvalues(&self, function: &Function, offset: u32) -> PcValues<'_> {
        let bytes = self.part(self.header.pcvalues..self.header.functions);
        let bytes = bytes.get(offset as usize..).unwrap_or_default();
        PcValues::new(bytes, self.image.architecture().instruction_quantum(), function.size() as u32)
    }

    /// How far the stack pointer is, at an instruction that a call returns to, from where it was at the entry of the
    /// function. Go's own unwinder goes by the same numbers: `funcspdelta` in
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>. None where the table does not say.
    pub fn frame_size(&self, pc: u64) -> Option<FrameSize> {
        let function = self.function_at(pc)?;
        let record = self.record(function.index)?;
        if record.flag()? & FLAG_TOP_FRAME != 0 {
            return Some(FrameSize::Outermost);
        }
        let offset = u32::try_from(pc.checked_sub(function.entry)?).ok()?;
        let table = record.word(16).filter(|table| *table != 0)?;
        let size = u32::try_from(self.pcvalues(&function, table).at(offset)?).ok()?;
        (size % 8 == 0).then_some(FrameSize::Bytes(size))
    }

    /// File and line of an instruction of a function. Where it was inlined, they are those of the innermost call.
    pub(crate) fn file_and_line(&self, function: &Function, pc: u64) -> (String, u32) {
        let found = || {
            let record = self.record(function.index)?;
            let offset = u32::try_from(pc.checked_sub(function.entry)?).ok()?;
            let line = u32::try_from(self.pcvalues(function, record.word(24)?).at(offset)?).ok()?;
            let file = u32::try_from(self.pcvalues(function, record.word(20)?).at(offset)?).ok()?;
            // The compilation unit's list of files, whose entries are offsets into the table of paths.
            let unit = record.word(32)?;
            let units = self.part(self.header.units..self.header.files);
            let path = u32_at(units, 4 * unit.checked_add(file)? as usize)?;
            let files = self.part(self.header.files..self.header.pcvalues);
            Some((String::from_utf8_lossy(string_at(files, path as usize)).into_owned(), line))
        };
        found().unwrap_or_else(|| ("?".to_owned(), 0))
    }

    /// The line of the `func` keyword. None before Go 1.20, whose table does not have it.
    pub fn start_line(&self, function: &Function) -> Option<u32> {
        self.record(function.index)?.word(36).filter(|_| self.since_120())
    }
}

/// The string that begins at an offset of a table, without the zero that ends it.
fn string_at(table: &[u8], offset: usize) -> &[u8] {
    let rest = table.get(offset..).unwrap_or_default();
    let rest = rest.get(..rest.len().min(MAX_STRING)).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A name as Go's traceback prints it: what stands between the outermost brackets is left out
/// (`funcNameForPrint` in runtime/symtab.go).
pub(crate) fn printed(symbol: &[u8]) -> String {
    let name: Cow<'_, str> = String::from_utf8_lossy(symbol);
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => format!("{}[...]{}", &name[..open], &name[close + 1..]),
        _ => name.into_owned(),
    }
}

/// A name without the types that a generic function or receiver was made for.
pub(super) fn without_types(symbol: &[u8]) -> String {
    let name = String::from_utf8_lossy(symbol);
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => format!("{}{}", &name[..open], &name[close + 1..]),
        _ => name.into_owned(),
    }
}

/// The package part of a function's name, with the dot: `net/http.` of `net/http.(*conn).serve`.
fn package_prefix(name: &str) -> &str {
    let path = name.find('[').map_or(name, |bracket| &name[..bracket]);
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    path[last..].find('.').map_or(name, |dot| &name[..last + dot + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_as_go_prints_them() {
        assert_eq!(printed(b"main.worker[go.shape.string]"), "main.worker[...]");
        assert_eq!(printed(b"main.(*list[go.shape.[]uint8]).push.func1"), "main.(*list[...]).push.func1");
        assert_eq!(printed(b"main.worker[...]"), "main.worker[...]");
        assert_eq!(printed(b"main.]["), "main.][");
        assert_eq!(printed(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn the_package_of_a_name() {
        assert_eq!(package_prefix("runtime.newproc1"), "runtime.");
        assert_eq!(package_prefix("runtime.(*mheap).init"), "runtime.");
        assert_eq!(package_prefix("net/http.(*conn).serve"), "net/http.");
        assert_eq!(package_prefix("main.f[example.com/a.T]"), "main.");
        assert_eq!(package_prefix("gopkg.in/yaml%2ev3.parse"), "gopkg.in/yaml%2ev3.");
        assert_eq!(package_prefix("_rt0_amd64_linux"), "_rt0_amd64_linux");
    }
}
