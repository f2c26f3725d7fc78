//! The names of tests, each kept once: an event has a number for one.

use std::collections::HashMap;

use tracer_ebpf::NAME_BYTES;

/// Most names that are kept. A fuzz target may name as many subtests as it likes.
const MOST: usize = 1 << 16;

/// A test's name, as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TestName(u32);

impl TestName {
    /// The name could not be read, is none, or is one too many.
    pub const UNKNOWN: TestName = TestName(0);
}

/// All names that there have been.
#[derive(Debug, Default)]
pub struct TestNames {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, TestName>,
}

impl TestNames {
    /// The name with this number; empty where it is unknown. One that was too long for a record ends in `…`.
    pub fn text(&self, name: TestName) -> &str {
        (name.0 as usize).checked_sub(1).and_then(|at| self.names.get(at)).map_or("", |name| name)
    }

    /// The number of this name. Where these bytes are no name, it is unknown.
    pub fn number(&mut self, name: &str) -> TestName {
        if name.is_empty() || name.contains(char::is_control) {
            return TestName::UNKNOWN;
        }
        if let Some(&known) = self.numbers.get(name) {
            return known;
        }
        if self.names.len() >= MOST {
            return TestName::UNKNOWN;
        }
        self.names.push(name.into());
        let number = TestName(self.names.len() as u32);
        self.numbers.insert(name.into(), number);
        number
    }

    /// The number of the name that a record has in these words, of which it has `length` bytes in all.
    pub(super) fn read(&mut self, words: &[u64], length: u64) -> TestName {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let whole = usize::try_from(length).ok().filter(|&length| length <= NAME_BYTES);
        let Some(bytes) = bytes.get(..whole.unwrap_or(NAME_BYTES)) else { return TestName::UNKNOWN };
        let valid = match (std::str::from_utf8(bytes), whole) {
            (Ok(name), Some(_)) => return self.number(name),
            (Ok(name), None) => name,
            // The last character may have been cut.
            (Err(error), None) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
            (Err(_), Some(_)) => return TestName::UNKNOWN,
        };
        self.number(&format!("{valid}…"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<u64> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(NAME_BYTES + 1, b'?');
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_name_has_one_number_and_what_is_no_name_has_none() {
        let mut names = TestNames::default();
        let read = |names: &mut TestNames, text: &str| names.read(&words(text), text.len() as u64);
        let pool = read(&mut names, "TestPool/full");
        assert_eq!((read(&mut names, "TestPool/full"), names.text(pool)), (pool, "TestPool/full"));
        assert_ne!(read(&mut names, "TestPool"), pool);
        assert_eq!(names.read(&words("x"), 0), TestName::UNKNOWN);
        assert_eq!(read(&mut names, "a\u{1b}[2J"), TestName::UNKNOWN);
        assert_eq!(names.read(&[u64::MAX; 32], 9), TestName::UNKNOWN);
        assert_eq!(names.read(&[0x41; 1], 9), TestName::UNKNOWN, "fewer bytes than it says");
        assert_eq!(names.text(TestName::UNKNOWN), "");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let mut names = TestNames::default();
        let long = "é".repeat(200);
        let name = names.read(&words(&long), 400);
        assert_eq!(names.text(name), format!("{}…", "é".repeat(127)));
    }

    #[test]
    fn there_is_a_limit() {
        let mut names = TestNames::default();
        let all: Vec<_> = (0..MOST + 1).map(|n| names.number(&format!("FuzzX/{n}"))).collect();
        assert_eq!((all[MOST], names.number("FuzzX/7")), (TestName::UNKNOWN, all[7]));
    }
}
