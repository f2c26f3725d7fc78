//! Why a goroutine waits: the numbers of `g.waitreason`, which are reordered between Go versions, and their texts.

use std::num::NonZeroU8;

use super::versions;
use super::wait_reason_table::TABLE;
use crate::go::file::buildinfo::GoVersion;

/// A wait reason of one version of Go. It equals none of another version, not even one with the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitReason {
    /// The row of its version in the table.
    version: u8,
    number: NonZeroU8,
}

impl WaitReason {
    /// The texts of all reasons that the newest Go has, as far as it has a text for them.
    pub fn texts() -> impl Iterator<Item = &'static str> {
        let newest = TABLE.last().map(|(_, texts)| *texts).unwrap_or_default();
        newest.iter().copied().filter(|text| !text.is_empty())
    }

    /// What a number means. None for 0, which says that the goroutine does not wait, and for numbers that the version
    /// does not have. A newer version is read as the newest known.
    pub fn from_number(version: GoVersion, number: u8) -> Option<WaitReason> {
        let version = versions::row_at_most(&TABLE, version)?;
        let (_, texts) = TABLE[version];
        let is_known = texts.get(usize::from(number)).is_some_and(|text| !text.is_empty());
        let number = NonZeroU8::new(number).filter(|_| is_known)?;
        Some(WaitReason { version: u8::try_from(version).ok()?, number })
    }

    /// The text that Go's traceback shows for it, such as `chan receive`.
    pub fn text(self) -> &'static str {
        TABLE[usize::from(self.version)].1[usize::from(self.number.get())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(minor: u16) -> GoVersion {
        GoVersion { major: 1, minor, patch: 0 }
    }

    fn text(version: GoVersion, number: u8) -> Option<&'static str> {
        WaitReason::from_number(version, number).map(WaitReason::text)
    }

    #[test]
    fn the_numbers_move_between_versions() {
        assert_eq!(text(go(18), 14), Some("chan receive"));
        assert_eq!(text(go(25), 14), Some("chan receive"));
        assert_eq!(text(go(26), 19), Some("chan receive"));
        assert_eq!(text(go(18), 21), Some("timer goroutine (idle)"));
        assert_eq!(text(go(20), 21), Some("sync.Mutex.Lock"));
        assert_eq!(text(go(27), 44), Some("select (durable)"));
        assert_eq!(text(go(99), 44), Some("select (durable)"));
    }

    #[test]
    fn unknown_numbers_have_no_text() {
        for minor in 18..30 {
            assert_eq!(text(go(minor), 0), None);
            assert_eq!(text(go(minor), 47), None);
            assert_eq!(text(go(minor), u8::MAX), None);
        }
        assert_eq!(text(go(17), 14), None);
    }
}
