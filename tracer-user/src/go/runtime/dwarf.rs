//! The layout of the runtime's structs from a program's own debug information. Only the compilation unit of package
//! runtime is looked at, and of the rest no more is held in memory than one unit.

use std::collections::HashMap;
use std::io::Read;

use gimli::{AttributeValue, EndianSlice, LittleEndian, Reader};
use object::elf::{ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};

use super::layout::Layout;
use crate::go::file::budget::{Budget, TooMuch};
use crate::go::file::error::GoErrorKind;
use crate::go::file::image::{Image, u32_at, u64_at};

/// Bytes of debug information that are read, decompressed. More would take seconds.
const MAX_INFO: u64 = 512 << 20;
/// Bytes of one unit that are held in memory. That of package runtime, the only one that is wanted, has some 100 kB.
const MAX_UNIT: u32 = 32 << 20;
/// Bytes of abbreviations that are read. Go writes a few kB, a C compiler up to some MB.
const MAX_ABBREVIATIONS: u64 = 64 << 20;
/// Bytes of one table of abbreviations, of which there may be one for each unit. Go writes one for all, of a few kB.
const MAX_TABLE: usize = 1 << 20;
/// Steps that reading takes: bytes of tables of abbreviations, entries with their attributes, and units.
const MAX_STEPS: u64 = 1 << 25;

/// A struct of package runtime: its size, and its fields with their offsets, in bytes.
type Struct = (u16, Vec<(String, u16)>);

/// The structs that a [`Layout`] is made of.
const STRUCTS: [&str; 7] = [
    "runtime.g",
    "runtime.stack",
    "runtime.gobuf",
    "runtime.m",
    "runtime.sudog",
    "runtime.hchan",
    "runtime.pollDesc",
];

/// A debug section as it is in the file.
struct DebugSection<'data> {
    bytes: &'data [u8],
    zlib: bool,
    /// Its size in bytes when decompressed.
    size: u64,
}

impl<'data> DebugSection<'data> {
    /// Finds `.debug_NAME`, which from Go 1.19 on may be compressed as ELF says, or `.zdebug_NAME`, which is how older
    /// linkers call a compressed one.
    fn find(image: &'data Image, name: &str) -> Result<Option<DebugSection<'data>>, GoErrorKind> {
        let cut_off = || GoErrorKind::Corrupt(format!("its section .debug_{name} is cut off"));
        if let Some(section) = image.section(&format!(".debug_{name}")) {
            let bytes = image.section_data(section);
            if !section.compressed {
                return Ok((!bytes.is_empty()).then_some(DebugSection {
                    bytes,
                    zlib: false,
                    size: bytes.len() as u64,
                }));
            }
            // Elf64_Chdr: type, reserved, size, alignment.
            let size = u64_at(bytes, 8).ok_or_else(cut_off)?;
            let rest = bytes.get(24..).ok_or_else(cut_off)?;
            return match u32_at(bytes, 0) {
                Some(ELFCOMPRESS_ZLIB) => Ok(Some(DebugSection { bytes: rest, zlib: true, size })),
                Some(ELFCOMPRESS_ZSTD) => Err(GoErrorKind::Missing {
                    what: "debug information that can be read".into(),
                    why: format!("its section .debug_{name} is compressed with zstd"),
                }),
                _ => Err(cut_off()),
            };
        }
        let Some(section) = image.section(&format!(".zdebug_{name}")) else { return Ok(None) };
        let bytes = image.section_data(section);
        let size = bytes.get(4..12).filter(|_| bytes.starts_with(b"ZLIB")).ok_or_else(cut_off)?;
        let size = size.iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte));
        Ok(Some(DebugSection { bytes: &bytes[12..], zlib: true, size }))
    }

    /// The bytes, decompressed: no more than the file says there are, since little can be inflated to much.
    fn reader(&self, limit: u64) -> Box<dyn Read + 'data> {
        let limit = limit.min(self.size);
        if self.zlib {
            Box::new(flate2::read::ZlibDecoder::new(self.bytes).take(limit))
        } else {
            Box::new(self.bytes.take(limit))
        }
    }
}

/// How many bytes of debug information there are, decompressed. None for a program without.
pub(crate) fn info_size(image: &Image) -> Option<u64> {
    DebugSection::find(image, "info").ok().flatten().map(|section| section.size)
}

/// Reads the layout. None where the program has no debug information.
///
/// # Errors
/// The debug information cannot be read, or lacks a struct or a field.
pub(crate) fn layout(image: &Image) -> Result<Option<Layout>, GoErrorKind> {
    let (Some(info), Some(abbreviations)) =
        (DebugSection::find(image, "info")?, DebugSection::find(image, "abbrev")?)
    else {
        return Ok(None);
    };
    image.in_order(info.bytes);
    image.in_order(abbreviations.bytes);
    let structs = structs(&info, &abbreviations)?;
    let offset = |name: &str, path: &str| -> Option<u16> {
        let (size, fields) = structs.get(name)?;
        if path.is_empty() {
            return Some(*size);
        }
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let outer = fields.iter().find(|(field, _)| field == first)?.1;
        let Some(rest) = rest else { return Some(outer) };
        let nested = if first == "stack" { "runtime.stack" } else { "runtime.gobuf" };
        Some(outer + structs.get(nested)?.1.iter().find(|(field, _)| field == rest)?.1)
    };
    Layout::from_structs(offset).map(Some).map_err(|(of, field)| GoErrorKind::Missing {
        what: format!("the field {field:?} of {of}"),
        why: "its debug information does not have it".into(),
    })
}

/// Collects the structs from the units up to that of package runtime, with one unit in memory at a time.
fn structs(
    info: &DebugSection<'_>,
    abbreviations: &DebugSection<'_>,
) -> Result<HashMap<&'static str, Struct>, GoErrorKind> {
    let unreadable =
        |error: &dyn std::fmt::Display| GoErrorKind::Corrupt(format!("its debug information: {error}"));
    let mut abbreviation_bytes = Vec::new();
    abbreviations
        .reader(MAX_ABBREVIATIONS)
        .read_to_end(&mut abbreviation_bytes)
        .map_err(|e| unreadable(&e))?;
    let debug_abbrev = gimli::DebugAbbrev::new(&abbreviation_bytes, LittleEndian);
    let mut budget = Budget::new("its debug information", MAX_STEPS);
    let mut reader = info.reader(MAX_INFO);
    let mut unit = Vec::new();
    let mut found = HashMap::new();
    // Go's units share one table of abbreviations; those of a C compiler have one each.
    let mut table: Option<(gimli::DebugAbbrevOffset, gimli::Abbreviations)> = None;
    while next_unit(&mut reader, &mut unit).map_err(|e| unreadable(&e))? {
        budget.spend(UNIT)?;
        if unit.is_empty() {
            continue;
        }
        let debug_info = gimli::DebugInfo::new(&unit, LittleEndian);
        let Some(header) = debug_info.units().next().map_err(|e| unreadable(&e))? else { break };
        let offset = header.debug_abbrev_offset();
        let abbreviations = match table.take().filter(|(of, _)| *of == offset) {
            Some((_, abbreviations)) => abbreviations,
            None => {
                let bytes = abbreviation_bytes.get(offset.0..).unwrap_or_default();
                let size = table_size(&bytes[..bytes.len().min(MAX_TABLE)]).map_err(|e| unreadable(&e))?;
                budget.spend(size as u64)?;
                header.abbreviations(&debug_abbrev).map_err(|e| unreadable(&e))?
            }
        };
        let abbreviations = &table.insert((offset, abbreviations)).1;
        structs_of_unit(&header, abbreviations, &mut found, &mut budget).map_err(|error| match error {
            UnitError::TooMuch(error) => error.into(),
            UnitError::Unreadable(error) => unreadable(&error),
        })?;
        if found.len() == STRUCTS.len() {
            break;
        }
    }
    Ok(found)
}

/// Steps that a unit takes beside its entries.
const UNIT: u64 = 16;

/// How many bytes a table of abbreviations has, up to the zero that ends it.
fn table_size(bytes: &[u8]) -> gimli::Result<usize> {
    let mut rest = Slice::new(bytes, LittleEndian);
    while rest.read_uleb128()? != 0 {
        let (_tag, _has_children) = (rest.read_uleb128()?, rest.read_u8()?);
        loop {
            let (name, form) = (rest.read_uleb128()?, rest.read_uleb128()?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                rest.read_sleb128()?;
            }
            if (name, form) == (0, 0) {
                break;
            }
        }
    }
    Ok(bytes.len() - rest.len())
}

/// Reads the next unit with the length that stands in front of it. False where there is none. One that is too large to be
/// that of package runtime is passed over, and `unit` is empty.
fn next_unit(reader: &mut dyn Read, unit: &mut Vec<u8>) -> std::io::Result<bool> {
    unit.clear();
    reader.take(4).read_to_end(unit)?;
    let Some(length) = u32_at(unit, 0).filter(|length| *length < 0xffff_fff0) else { return Ok(false) };
    let mut rest = reader.take(u64::from(length));
    if length > MAX_UNIT {
        unit.clear();
        return Ok(std::io::copy(&mut rest, &mut std::io::sink())? == u64::from(length));
    }
    Ok(rest.read_to_end(unit)? == length as usize)
}

type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// Why a unit cannot be read.
enum UnitError {
    TooMuch(TooMuch),
    Unreadable(gimli::Error),
}

impl From<TooMuch> for UnitError {
    fn from(error: TooMuch) -> UnitError {
        UnitError::TooMuch(error)
    }
}

impl From<gimli::Error> for UnitError {
    fn from(error: gimli::Error) -> UnitError {
        UnitError::Unreadable(error)
    }
}

/// Collects the wanted structs of a unit, if it is one of package runtime. There are two of these: the assembly code has
/// one of its own.
fn structs_of_unit(
    header: &gimli::UnitHeader<Slice<'_>>,
    abbreviations: &gimli::Abbreviations,
    found: &mut HashMap<&'static str, Struct>,
    budget: &mut Budget,
) -> Result<(), UnitError> {
    let mut entries = header.entries_raw(abbreviations, None)?;
    let mut current: Option<(&'static str, isize)> = None;
    let mut depth_of_first = None;
    let mut attributes = Vec::new();
    while !entries.is_empty() && (found.len() < STRUCTS.len() || current.is_some()) {
        let depth = entries.next_depth();
        let abbreviation = entries.read_abbreviation()?;
        budget.spend(1 + abbreviation.map_or(0, |abbreviation| abbreviation.attributes().len() as u64))?;
        let Some(abbreviation) = abbreviation else { continue };
        if let Some((_, of)) = current
            && depth <= of
        {
            current = None;
        }
        let first = depth_of_first.is_none();
        depth_of_first.get_or_insert(depth);
        let member = abbreviation.tag() == gimli::DW_TAG_member && current.is_some();
        let structure = abbreviation.tag() == gimli::DW_TAG_structure_type;
        if !first && !member && !structure {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        entries.read_attributes(abbreviation.attributes(), &mut attributes)?;
        let attribute = |name| attributes.iter().find(|attribute| attribute.name() == name);
        let number = |name| attribute(name)?.udata_value().and_then(|value| u16::try_from(value).ok());
        let name = match attribute(gimli::DW_AT_name).map(gimli::Attribute::value) {
            Some(AttributeValue::String(name)) => name.slice(),
            _ => b"",
        };
        if first {
            if name != b"runtime" {
                return Ok(());
            }
        } else if structure {
            if let Some(wanted) = STRUCTS.into_iter().find(|wanted| wanted.as_bytes() == name) {
                found.insert(wanted, (number(gimli::DW_AT_byte_size).unwrap_or(0), Vec::new()));
                current = Some((wanted, depth));
            }
        } else if let (Some((of, _)), Some(offset)) = (current, number(gimli::DW_AT_data_member_location))
            && let Some((_, fields)) = found.get_mut(of)
        {
            fields.push((String::from_utf8_lossy(name).into_owned(), offset));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(bytes: &[u8]) -> DebugSection<'_> {
        DebugSection { bytes, zlib: false, size: bytes.len() as u64 }
    }

    /// A table of so many abbreviations without attributes, in 6 bytes each.
    fn table(count: u32) -> Vec<u8> {
        let entry = |code: u32| {
            let code = [code as u8 | 0x80, (code >> 7) as u8 | 0x80, (code >> 14) as u8];
            [&code[..], &[0x2e, 0, 0, 0]].concat()
        };
        (1..=count).flat_map(entry).chain([0]).collect()
    }

    /// So many units without entries, each with its table at an offset.
    fn units(count: u32, table_of: impl Fn(u32) -> u32) -> Vec<u8> {
        let unit = |number| {
            let offset = table_of(number).to_le_bytes();
            [&9u32.to_le_bytes()[..], &4u16.to_le_bytes(), &offset, &[8, 0, 0]].concat()
        };
        (0..count).flat_map(unit).collect()
    }

    #[test]
    fn a_table_of_abbreviations_is_read_once_for_all_units_that_share_it() {
        let (long, count) = (table(20_000), 20_000);
        assert!(long.len() > 100_000);
        assert!(structs(&section(&units(count, |_| 0)), &section(&long)).unwrap().is_empty());
        // Each unit has a table of its own, which is all that follows in the long one.
        let apart = structs(&section(&units(count, |number| 7 * number)), &section(&long));
        assert!(matches!(apart, Err(GoErrorKind::TooMuch(_))), "{apart:?}");
    }

    #[test]
    fn a_unit_that_is_too_large_is_passed_over_and_not_held() {
        let large = [(MAX_UNIT + 1).to_le_bytes().to_vec(), vec![0; MAX_UNIT as usize + 1]].concat();
        let both = [large, units(1, |_| 0)].concat();
        let (mut rest, mut unit) = (both.as_slice(), Vec::new());
        assert!(next_unit(&mut rest, &mut unit).unwrap() && unit.is_empty());
        assert!(unit.capacity() < 1000, "{}", unit.capacity());
        assert!(next_unit(&mut rest, &mut unit).unwrap() && unit.len() == 13);
        assert!(!next_unit(&mut rest, &mut unit).unwrap());
    }

    #[test]
    fn no_more_is_inflated_than_the_file_says() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut zlib, &vec![0; 64 << 20]).unwrap();
        let bytes = zlib.finish().unwrap();
        let mut read = Vec::new();
        let section = DebugSection { bytes: &bytes, zlib: true, size: 100 };
        section.reader(MAX_INFO).read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), 100);
    }

    #[test]
    fn the_end_of_a_table_of_abbreviations_is_found() {
        let implicit = [1, 0x34, 0, 3, 0x21, 0x7f, 0, 0, 0, 9, 9];
        assert_eq!(table_size(&implicit).unwrap(), 9);
        assert_eq!(table_size(&table(3)).unwrap(), table(3).len());
        assert!(table_size(&[1, 2]).is_err());
    }
}
