//! What was found out once is not looked for again.

use std::collections::HashMap;
use std::hash::Hash;

/// What was found out about an address, or several. Neighbours are mostly alike, so the last one is at hand.
#[derive(Default)]
pub(super) struct Remembered<K, T> {
    last: Option<(K, T)>,
    all: HashMap<K, T>,
}

impl<K: Copy + Eq + Hash, T: Copy> Remembered<K, T> {
    /// What is known of it; finds it out where nothing is.
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
