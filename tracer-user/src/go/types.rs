//! Names of types, from the descriptions that the linker puts into every binary.
//! <https://cs.opensource.google/go/go/+/master:src/internal/abi/type.go>, `type Type` and `type Name`.

use super::binary::Binary;
use crate::go::file::image::u32_at;

/// `abi.Type.TFlag`, and its bit that says that the name has a `*` too many.
const TFLAG: usize = 20;
const EXTRA_STAR: u8 = 1 << 1;
/// `abi.Type.Str`: offset of the name.
const STR: usize = 40;
/// Names longer than this are not worth showing.
const LONGEST: usize = 512;

impl Binary {
    /// The name of the type that is described at this link-time address, as Go prints it: `time.Time`, `struct {}`. None
    /// where there is no such description in the binary, as of types that a program makes while it runs.
    pub fn type_name(&self, vaddr: u64) -> Option<String> {
        let (owner, vaddr) = self.owner(vaddr);
        if !self.is_same_file(owner) {
            return owner.type_name(vaddr);
        }
        let description = self.image().bytes(vaddr..vaddr.checked_add(48)?)?;
        let offset = u32_at(description, STR)? as i32;
        let name = self.module_data().types.checked_add_signed(offset.into())?;
        // One byte of flags, the length in groups of seven bits, the name.
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
