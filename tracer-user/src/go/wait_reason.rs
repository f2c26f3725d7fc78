//! Why a goroutine waits: the numbers of `g.waitreason`, which are reordered between Go versions, and their texts.
//! `waitReasonStrings` in <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>; measured: the
//! constants and the array in programs built with 1.18.10, 1.19.13, 1.20.14, 1.21.13, 1.22.12, 1.23.12, 1.24.13, 1.25.5, 1.26.8, 1.27.3.

use std::num::NonZeroU8;

use super::buildinfo::GoVersion;

/// The first and the last minor version of Go 1 in [`REASONS`].
const VERSIONS: [u16; 2] = [18, 27];
/// The version does not have the reason.
const NO: u8 = u8::MAX;

/// Each text with its number in Go 1.18, 1.19 and so on.
#[rustfmt::skip]
const REASONS: [(&str, [u8; 10]); 50] = [
    ("GC assist marking", [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ("IO wait", [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
    ("chan receive (nil chan)", [3, 3, 3, 3, 3, 3, 3, 3, 15, 15]),
    ("chan send (nil chan)", [4, 4, 4, 4, 4, 4, 4, 4, 16, 16]),
    ("dumping heap", [5, 5, 5, 5, 5, 5, 5, 5, 3, 3]),
    ("garbage collection", [6, 6, 6, 6, 6, 6, 6, 6, 4, 4]),
    ("garbage collection scan", [7, 7, 7, 7, 7, 7, 7, 7, 5, 5]),
    ("panicwait", [8, 8, 8, 8, 8, 8, 8, 8, 6, 6]),
    ("select", [9, 9, 9, 9, 9, 9, 9, 9, 18, 18]),
    ("select (no cases)", [10, 10, 10, 10, 10, 10, 10, 10, 17, 17]),
    ("GC assist wait", [11, 11, 11, 11, 11, 11, 11, 11, 7, 7]),
    ("GC sweep wait", [12, 12, 12, 12, 12, 12, 12, 12, 8, 8]),
    ("GC scavenge wait", [13, 13, 13, 13, 13, 13, 13, 13, 9, 9]),
    ("chan receive", [14, 14, 14, 14, 14, 14, 14, 14, 19, 19]),
    ("chan send", [15, 15, 15, 15, 15, 15, 15, 15, 20, 20]),
    ("finalizer wait", [16, 16, 16, 16, 16, 16, 16, 16, 10, 10]),
    ("force gc (idle)", [17, 17, 17, 17, 17, 17, 17, 17, 11, 11]),
    ("semacquire", [18, 18, 18, 18, 18, 18, 18, 19, 13, 13]),
    ("sleep", [19, 19, 19, 19, 19, 19, 19, 20, 14, 14]),
    ("sync.Cond.Wait", [20, 20, 20, 20, 20, 20, 20, 21, 21, 21]),
    ("timer goroutine (idle)", [21, 21, NO, NO, NO, NO, NO, NO, NO, NO]),
    ("trace reader (blocked)", [22, 22, 24, 24, 24, 24, 25, 26, 26, 26]),
    ("wait for GC cycle", [23, 23, 25, 25, 25, 25, 26, 27, 27, 27]),
    ("GC worker (idle)", [24, 24, 26, 26, 26, 26, 27, 28, 28, 28]),
    ("preempted", [25, 25, 28, 28, 28, 28, 29, 30, 30, 30]),
    ("debug call", [26, 26, 29, 29, 29, 29, 30, 31, 31, 31]),
    ("sync.Mutex.Lock", [NO, NO, 21, 21, 21, 21, 21, 22, 22, 22]),
    ("sync.RWMutex.RLock", [NO, NO, 22, 22, 22, 22, 22, 23, 23, 23]),
    ("sync.RWMutex.Lock", [NO, NO, 23, 23, 23, 23, 23, 24, 24, 24]),
    ("GC worker (active)", [NO, NO, 27, 27, 27, 27, 28, 29, 29, 29]),
    ("GC mark termination", [NO, NO, 30, 30, 30, 30, 31, 32, 32, 32]),
    ("stopping the world", [NO, NO, 31, 31, 31, 31, 32, 33, 33, 33]),
    ("flushing proc caches", [NO, NO, NO, NO, 32, 32, 33, 34, 34, 34]),
    ("trace goroutine status", [NO, NO, NO, NO, 33, 33, 34, 35, 35, 35]),
    ("trace proc status", [NO, NO, NO, NO, 34, 34, 35, 36, 36, 36]),
    ("page trace flush", [NO, NO, NO, NO, 35, 35, 36, 37, 37, 37]),
    ("coroutine", [NO, NO, NO, NO, 36, 36, 37, 38, 38, 38]),
    ("GC weak to strong wait", [NO, NO, NO, NO, NO, 37, 38, 39, 39, 39]),
    ("sync.WaitGroup.Wait", [NO, NO, NO, NO, NO, NO, 24, 25, 25, 25]),
    ("synctest.Run", [NO, NO, NO, NO, NO, NO, 39, 40, 40, 40]),
    ("synctest.Wait", [NO, NO, NO, NO, NO, NO, 40, 41, 41, 41]),
    ("chan receive (synctest)", [NO, NO, NO, NO, NO, NO, 41, NO, NO, NO]),
    ("chan send (synctest)", [NO, NO, NO, NO, NO, NO, 42, NO, NO, NO]),
    ("select (synctest)", [NO, NO, NO, NO, NO, NO, 43, NO, NO, NO]),
    ("GOMAXPROCS updater (idle)", [NO, NO, NO, NO, NO, NO, NO, 18, 12, 12]),
    ("chan receive (durable)", [NO, NO, NO, NO, NO, NO, NO, 42, 42, 42]),
    ("chan send (durable)", [NO, NO, NO, NO, NO, NO, NO, 43, 43, 43]),
    ("select (durable)", [NO, NO, NO, NO, NO, NO, NO, 44, 44, 44]),
    ("sync.WaitGroup.Wait (durable)", [NO, NO, NO, NO, NO, NO, NO, 45, 45, 45]),
    ("cleanup wait", [NO, NO, NO, NO, NO, NO, NO, 46, 46, 46]),
];

/// A wait reason, the same whatever number a version gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitReason(
    /// The place among all, counted from 1.
    NonZeroU8,
);

impl WaitReason {
    /// What a number means. None for 0, which says that the goroutine does not wait, and for numbers that the version
    /// does not have. A newer version is read as the newest known.
    pub fn from_number(version: GoVersion, number: u8) -> Option<WaitReason> {
        let [first, last] = VERSIONS;
        let column = usize::from(version.minor.checked_sub(first)?.min(last - first));
        let is_it = |(_, numbers): &(&str, [u8; 10])| number != NO && numbers[column] == number;
        let place = REASONS.iter().position(is_it)?;
        NonZeroU8::new(u8::try_from(place + 1).ok()?).map(WaitReason)
    }

    /// As Go's traceback shows it.
    pub fn text(self) -> &'static str {
        REASONS[usize::from(self.0.get()) - 1].0
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

    #[test]
    fn a_number_has_one_text() {
        for column in 0..10 {
            let mut numbers: Vec<u8> =
                REASONS.iter().map(|(_, numbers)| numbers[column]).filter(|n| *n != NO).collect();
            let before = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), before);
        }
    }
}
