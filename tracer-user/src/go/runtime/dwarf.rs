//! The layout of the runtime's structs from a program's own debug information. Only the compilation unit of package
//! runtime is looked at, and of the rest no more is held in memory than one unit.

use std::collections::HashMap;
use std::io::Read;

use gimli::{AttributeValue, EndianSlice, LittleEndian};
use object::elf::{ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};

use super::layout::Layout;
use crate::go::file::error::GoErrorKind;
use crate::go::file::image::{Image, u32_at, u64_at};

/// Bytes of debug information that are read, decompressed. More would take seconds.
const MAX_INFO: u64 = 512 << 20;
/// Bytes of abbreviations that are read. Go writes a few kB, a C compiler up to some MB.
const MAX_ABBREVIATIONS: u64 = 64 << 20;

/// A struct of package runtime: its size, and its fields with their offsets, in bytes.
type Struct = (u16, Vec<(String, u16)>);

/// The structs that a [`Layout`] is made of.
const STRUCTS: [&str; 6] =
    ["runtime.g", "runtime.stack", "runtime.gobuf", "runtime.m", "runtime.sudog", "runtime.hchan"];

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

    fn reader(&self, limit: u64) -> Box<dyn Read + 'data> {
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
    let mut reader = info.reader(MAX_INFO);
    let mut unit = Vec::new();
    let mut found = HashMap::new();
    while next_unit(&mut reader, &mut unit).map_err(|e| unreadable(&e))? {
        let debug_info = gimli::DebugInfo::new(&unit, LittleEndian);
        let Some(header) = debug_info.units().next().map_err(|e| unreadable(&e))? else { break };
        let abbreviations = header.abbreviations(&debug_abbrev).map_err(|e| unreadable(&e))?;
        structs_of_unit(&header, &abbreviations, &mut found).map_err(|e| unreadable(&e))?;
        if found.len() == STRUCTS.len() {
            break;
        }
    }
    Ok(found)
}

/// Reads the next unit with the length that stands in front of it. False where there is none.
fn next_unit(reader: &mut dyn Read, unit: &mut Vec<u8>) -> std::io::Result<bool> {
    unit.clear();
    reader.take(4).read_to_end(unit)?;
    let Some(length) = u32_at(unit, 0).filter(|length| *length < 0xffff_fff0) else { return Ok(false) };
    let read = reader.take(u64::from(length)).read_to_end(unit)?;
    Ok(read == length as usize)
}

type Slice<'data> = EndianSlice<'data, LittleEndian>;

/// Collects the wanted structs of a unit, if it is one of package runtime. There are two of these: the assembly code has
/// one of its own.
fn structs_of_unit(
    header: &gimli::UnitHeader<Slice<'_>>,
    abbreviations: &gimli::Abbreviations,
    found: &mut HashMap<&'static str, Struct>,
) -> gimli::Result<()> {
    let mut entries = header.entries_raw(abbreviations, None)?;
    let mut current: Option<(&'static str, isize)> = None;
    let mut depth_of_first = None;
    let mut attributes = Vec::new();
    while !entries.is_empty() && (found.len() < STRUCTS.len() || current.is_some()) {
        let depth = entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
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
