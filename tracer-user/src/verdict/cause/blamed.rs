//! Who led to goroutines that another module creates, in the words of the advice.
//!
//! Who led to a goroutine need not be at fault: a connection that was dialled for one caller is used by others. So a
//! line is named as a fact only if all of the goroutines go back to it. Several are named with their shares, and none is
//! if most goroutines come from where nobody knows.

use super::position;
use crate::human::count;
use crate::report::{BlamedFrame, LedBy};

/// Most lines that a sentence names.
const MOST: usize = 3;

/// The lines of the main module that most goroutines of a site go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blamed {
    /// The lines, in the order of a report.
    pub lines: Vec<BlamedFrame>,
    /// Number of living goroutines for which a line is known.
    pub known: u64,
    /// Number of all living goroutines.
    pub live: u64,
}

impl Blamed {
    /// Number of living goroutines for which no line is known.
    pub fn unknown(&self) -> u64 {
        self.live.saturating_sub(self.known)
    }

    /// Whether a line is known for more than half of the goroutines. If not, those that are known say nothing about the
    /// others.
    pub fn is_told(&self) -> bool {
        self.known > self.unknown()
    }

    /// What follows a noun such as `a request`: a verb with its place, such as ` made at main.go:40`.
    pub(super) fn did(&self, verb: &str) -> String {
        match &self.lines[..] {
            [all] if self.unknown() == 0 && all.by != LedBy::Statement => {
                format!(" {verb} at {}", position(&all.frame))
            }
            [all] if self.unknown() == 0 => format!(" {verb} by {}", who(all)),
            _ => format!(" {verb} ({})", self.shares("by")),
        }
    }

    /// What follows a place, in brackets: `started from main.go:40`.
    pub(super) fn started(&self) -> String {
        match &self.lines[..] {
            [all] if self.unknown() == 0 => format!("started from {}", position(&all.frame)),
            _ => self.shares("started by"),
        }
    }

    /// `of 204: 178 by main.go:40, 26 by main.go:61`, with other words for the first `by`.
    fn shares(&self, by: &str) -> String {
        let named = self.lines.iter().take(MOST);
        let others = self.known.saturating_sub(named.clone().map(|line| line.count).sum());
        let named = named.enumerate().map(|(at, line)| {
            let by = if at == 0 { by } else { "by" };
            format!("{} {by} {}", count(line.count), who(line))
        });
        let others = (others > 0).then(|| format!("{} by other lines", count(others)));
        let unknown = (self.unknown() > 0).then(|| format!("unknown for {}", count(self.unknown())));
        let all: Vec<String> = named.chain(others).chain(unknown).collect();
        format!("of {}: {}", count(self.live), all.join(", "))
    }
}

/// Who it was: a line, or the goroutines of a `go` statement.
fn who(line: &BlamedFrame) -> String {
    let place = position(&line.frame);
    if line.by == LedBy::Statement { format!("goroutines from {place}") } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Frame;

    fn line(number: u32, by: LedBy, count: u64) -> BlamedFrame {
        let file = Some("/src/main.go".into());
        BlamedFrame {
            frame: Frame { function: "main.f".into(), file, line: Some(number) },
            by,
            count,
            came: 0,
        }
    }

    fn blamed(lines: Vec<BlamedFrame>, live: u64) -> Blamed {
        Blamed { known: lines.iter().map(|line| line.count).sum(), lines, live }
    }

    #[test]
    fn a_single_line_with_all_is_a_fact() {
        let call = blamed(vec![line(40, LedBy::Call, 9)], 9);
        assert_eq!(
            (call.did("made"), call.started()),
            (" made at main.go:40".into(), "started from main.go:40".into())
        );
        let look = blamed(vec![line(40, LedBy::Look, 9)], 9);
        assert_eq!(look.did("made"), " made at main.go:40");
        let statement = blamed(vec![line(40, LedBy::Statement, 9)], 9);
        assert_eq!(statement.did("made"), " made by goroutines from main.go:40");
    }

    #[test]
    fn several_lines_are_candidates_with_shares() {
        let two = blamed(vec![line(40, LedBy::Call, 178), line(61, LedBy::Call, 26)], 204);
        assert_eq!(two.did("made"), " made (of 204: 178 by main.go:40, 26 by main.go:61)");
        assert_eq!(two.started(), "of 204: 178 started by main.go:40, 26 by main.go:61");
        let part = blamed(vec![line(40, LedBy::Call, 40), line(73, LedBy::Statement, 10)], 60);
        assert_eq!(
            part.started(),
            "of 60: 40 started by main.go:40, 10 by goroutines from main.go:73, unknown for 10"
        );
        let many = blamed((1..=5).map(|at| line(at, LedBy::Call, 2)).collect(), 10);
        assert!(many.started().ends_with("2 by main.go:3, 4 by other lines"), "{}", many.started());
    }

    #[test]
    fn no_majority_tells_nothing() {
        assert!(!blamed(vec![line(94, LedBy::Call, 6)], 88).is_told());
        assert!(!blamed(vec![line(94, LedBy::Call, 44)], 88).is_told());
        assert!(blamed(vec![line(94, LedBy::Call, 45)], 88).is_told());
        assert!(!Blamed::default().is_told());
    }
}
