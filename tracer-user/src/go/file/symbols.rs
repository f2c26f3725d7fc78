//! Addresses by name from the symbol table (`.symtab`), which stripped programs lack.

use super::image::{Image, u16_at, u32_at, u64_at};

/// Size of an `Elf64_Sym` in bytes.
const SYMBOL_SIZE: usize = 24;
/// `SHN_UNDEF`: the symbol is defined elsewhere.
const UNDEFINED: u16 = 0;

/// The link-time addresses of the variables and functions with these names, in the order of `names`. None for a name that
/// the symbol table lacks, and so for all names where the program is stripped.
pub fn addresses<const N: usize>(image: &Image, names: [&str; N]) -> [Option<u64>; N] {
    among(all(image), names)
}

/// The link-time addresses of the variables and functions with these names that the program exports: they are in the
/// table for dynamic linking, which stripped programs keep.
pub fn exported<const N: usize>(image: &Image, names: [&str; N]) -> [Option<u64>; N] {
    among(defined(image.dynamic_symbol_table().unwrap_or_default()), names)
}

fn among<'a, const N: usize>(
    symbols: impl Iterator<Item = (&'a [u8], u64)>,
    names: [&str; N],
) -> [Option<u64>; N] {
    let mut found = [None; N];
    for (name, address) in symbols {
        if let Some(index) = names.iter().position(|wanted| wanted.as_bytes() == name) {
            found[index].get_or_insert(address);
            if found.iter().all(Option::is_some) {
                break;
            }
        }
    }
    found
}

/// Whether the program lacks a symbol table.
pub fn is_stripped(image: &Image) -> bool {
    image.symbol_table().is_none_or(|(symbols, _)| symbols.is_empty())
}

/// The defined symbols in the table's order: (name, link-time address).
pub fn all(image: &Image) -> impl Iterator<Item = (&[u8], u64)> {
    defined(image.symbol_table().unwrap_or_default())
}

fn defined<'a>((symbols, strings): (&'a [u8], &'a [u8])) -> impl Iterator<Item = (&'a [u8], u64)> {
    symbols.as_chunks::<SYMBOL_SIZE>().0.iter().filter_map(move |symbol| {
        if u16_at(symbol, 6)? == UNDEFINED {
            return None;
        }
        let name = strings.get(u32_at(symbol, 0)? as usize..)?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some((name, u64_at(symbol, 8)?))
    })
}
