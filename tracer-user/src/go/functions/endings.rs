//! Methods whose names say that they end something, as far as they are in the program. The linker leaves out what is never
//! called, so a type may have a method that is not among them.

use std::collections::BTreeSet;

use super::pclntab::{Pclntab, without_types};

/// Names of methods that end what they belong to, those first that do so with most certainty.
pub const ENDINGS: [&str; 12] = [
    "Close",
    "Stop",
    "Shutdown",
    "Unsubscribe",
    "Cancel",
    "Disconnect",
    "Release",
    "Terminate",
    "Destroy",
    "Quit",
    "Finish",
    "Return",
];

/// Most methods that are kept.
const MOST: usize = 1 << 16;

impl Pclntab {
    /// The methods with pointer receivers that have one of these names, sorted and without the types of generics, such as
    /// `net/http.(*Server).Close`.
    pub(crate) fn ending_methods(&self) -> Vec<String> {
        let names = self.names().split(|byte| *byte == 0).filter_map(ending_method);
        names.take(MOST).collect::<BTreeSet<String>>().into_iter().collect()
    }
}

fn ending_method(name: &[u8]) -> Option<String> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let is_ending = ENDINGS.iter().any(|ending| ending.as_bytes() == &name[dot + 1..]);
    if !is_ending || !name[..dot].ends_with(b")") {
        return None;
    }
    Some(without_types(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_that_end_something() {
        let found = |name: &str| ending_method(name.as_bytes());
        assert_eq!(found("net/http.(*Server).Close").as_deref(), Some("net/http.(*Server).Close"));
        assert_eq!(
            found("x.io/pool.(*Pool[go.shape.struct { x.io/a.B }]).Close").as_deref(),
            Some("x.io/pool.(*Pool).Close")
        );
        for other in ["os.Close", "main.(*T).Closed", "main.(*T).Close.func1", "Close", "", "main.T.close"] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
