//! Why a goroutine waits: the numbers of `g.waitreason`, which are reordered between Go versions, and their texts.

use super::buildinfo::GoVersion;
use super::wait_reason_table::TABLE;

/// The text of a wait reason as Go's traceback shows it. None for 0, which says that the goroutine does not wait, and
/// for numbers that the version does not have. A newer version is read as the newest known.
pub fn text(version: GoVersion, number: u8) -> Option<&'static str> {
    let (_, texts) = TABLE.iter().rev().find(|(minor, _)| *minor <= version.minor)?;
    texts.get(usize::from(number)).copied().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(minor: u16) -> GoVersion {
        GoVersion { major: 1, minor, patch: 0 }
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
