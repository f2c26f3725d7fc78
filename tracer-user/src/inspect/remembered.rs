//! A cache: what was found out once is not looked for again.

use std::collections::HashMap;
use std::hash::Hash;

/// What was found out about keys such as addresses. The last one is kept apart, since a goroutine mostly has the same
/// key as the one before it.
#[derive(Default)]
pub(super) struct Remembered<K, T> {
    last: Option<(K, T)>,
    all: HashMap<K, T>,
}

impl<K: Copy + Eq + Hash, T: Copy> Remembered<K, T> {
    /// Returns what is known about the key. If nothing is known yet, `find` finds it out.
    #[inline]
    pub(super) fn get(&mut self, key: K, find: impl FnOnce() -> T) -> T {
        match self.last {
            Some((last, known)) if last == key => known,
            _ => {
                let known = *self.all.entry(key).or_insert_with(find);
                self.last = Some((key, known));
                known
            }
        }
    }
}
