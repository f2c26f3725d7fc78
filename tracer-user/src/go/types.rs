//! Names of types, from the descriptions that the linker puts into every binary.
//! <https://cs.opensource.google/go/go/+/master:src/internal/abi/type.go>, `type Type` and `type Name`.

use super::binary::Binary;
use crate::go::file::image::u32_at;

/// Offset of `abi.Type.TFlag`.
const TFLAG: usize = 20;
/// `abi.TFlagExtraStar`: the name begins with a `*` that does not belong to it.
const EXTRA_STAR: u8 = 1 << 1;
/// Offset of `abi.Type.Str`, which is the offset of the name from the start of all types.
const STR: usize = 40;
/// Bytes after which a name is cut.
const LONGEST: usize = 512;

impl Binary {
    /// The name of the type that is described at this link-time address, as Go prints it: `time.Time`, `struct {}`. None
    /// where the binary has no description there. Types that a program makes while it runs have none.
    pub fn type_name(&self, vaddr: u64) -> Option<String> {
        let (owner, vaddr) = self.owner(vaddr);
        if !self.is_same_file(owner) {
            return owner.type_name(vaddr);
        }
        let description = self.image().bytes(vaddr..vaddr.checked_add(48)?)?;
        let offset = u32_at(description, STR)? as i32;
        let name = self.module_data().types.checked_add_signed(offset.into())?;
        // A name has a byte of flags, its length in groups of seven bits, and its text.
        let name = self.image().bytes_from(name)?;
        let [low, high] = name.get(1..3)?.try_into().ok()?;
        let (length, start): (usize, usize) = match (low, high) {
            (low, _) if low < 0x80 => (usize::from(low), 2),
            (low, high) if high < 0x80 => (usize::from(low & 0x7f) | usize::from(high) << 7, 3),
            _ => return None,
        };
        let text = std::str::from_utf8(name.get(start..start.checked_add(length.min(LONGEST))?)?).ok()?;
        let has_star = description.get(TFLAG)? & EXTRA_STAR != 0;
        Some(text.strip_prefix('*').filter(|_| has_star).unwrap_or(text).to_owned())
    }
}
