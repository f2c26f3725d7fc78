//! Finds the lines of the program's own module that led to goroutines which other modules create. Such a leak may be in
//! `net/http`, but the mistake is not.
//!
//! A goroutine is blamed on the nearest frame of the main module on the way back through its creators, dead or alive.
//! At each of them that is a `go` statement of the main module, or else a call of the creation stack, or else a call
//! that the creator was still in when golife looked. Where there is no such frame, the nearest one of a dependency is
//! found in the same way.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::cause::{Blamed, is_of_dependency};
use crate::go::standard::is_of_program;
use crate::report::{BlamedFrame, Frame, LedBy};

/// Most frames that are named for one site.
const MOST: usize = 20;
/// Goroutines that came within a window tell for themselves if there are so many.
const ENOUGH: u64 = 10;

/// The calls that creators were in when golife looked, each with the number of goroutines that it led to. Only creators
/// that were still in the function of the `go` statement are among them. Of each call it is the nearest frame of the
/// program, or else the nearest one of a dependency.
pub type SeenCalls = Vec<(Frame, u64)>;

/// Goroutines of one site that were created in the same way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The number of their site.
    pub site: usize,
    /// The origin of their creators; `None` if it is not known. It comes before this one.
    pub parent: Option<usize>,
    /// How many of them live.
    pub live: u64,
    /// How many of the living at most were created within the window; 0 if nobody has seen any creation.
    pub came: u64,
    /// The creation stack, innermost call first; `None` if it is not known.
    pub stack: Option<&'a [Frame]>,
    /// What a look has seen of their creators.
    pub seen: &'a [(Frame, u64)],
}

/// The blame for the sites of a process, by their numbers.
#[derive(Debug, Default)]
pub struct Blame {
    /// Lines of the main module; for its own sites, their `go` statements.
    program: HashMap<usize, Blamed>,
    /// The same of those that were created within the window.
    came: HashMap<usize, Blamed>,
    /// Lines of dependencies, for sites of the standard library to which no line of the main module is known to lead.
    dependencies: HashMap<usize, Blamed>,
}

impl Blame {
    /// Finds the blame for all sites. `statements` are the `go` statements of the sites, as far as they are known, and
    /// `module` is the path of the main module.
    pub fn of(origins: &[Origin], statements: &[Option<&Frame>], module: Option<&str>) -> Blame {
        let own = |frame: &Frame| is_of_program(&frame.function, module);
        let foreign = |frame: &Frame| is_of_dependency(&frame.function, module);
        let live: Vec<u64> = origins.iter().map(|origin| origin.live).collect();
        let came: Vec<u64> = origins.iter().map(|origin| origin.came).collect();
        let (mut program, unknown) = nearest(origins, statements, &live, own);
        let (came, _) = nearest(origins, statements, &came, own);
        for (site, blamed) in &mut program {
            let of_came = came.get(site).map(|came| &came.lines[..]).unwrap_or_default();
            for line in &mut blamed.lines {
                let same = of_came.iter().find(|came| came.frame == line.frame);
                line.came = same.map_or(0, |came| came.count.min(line.count));
            }
        }
        let (mut dependencies, _) = nearest(origins, statements, &unknown, foreign);
        // The statement of a dependency's own site says as much itself.
        dependencies.retain(|site, _| !statements[*site].is_some_and(foreign));
        Blame { program, came, dependencies }
    }

    /// The lines of the program that led to a site, as a report has them; at most 20.
    pub fn lines(&self, site: usize) -> Vec<BlamedFrame> {
        self.program.get(&site).map(|blamed| blamed.lines.clone()).unwrap_or_default()
    }

    /// The lines of dependencies that led to a site, as a report has them; at most 20.
    pub fn dependencies(&self, site: usize) -> Vec<BlamedFrame> {
        self.dependencies.get(&site).map(|blamed| blamed.lines.clone()).unwrap_or_default()
    }

    /// Of so many living goroutines of a site, those for which no line of the program is known.
    pub fn unknown(&self, site: usize, live: u64) -> u64 {
        live.saturating_sub(self.program.get(&site).map_or(0, |blamed| blamed.known))
    }

    /// Whom to blame for a site, if that is known of most of its living goroutines, or else of most of those that were
    /// created within the window: what was there before may be something else.
    pub fn told(&self, site: usize) -> Option<&Blamed> {
        let of_all = self.program.get(&site).filter(|blamed| blamed.is_told());
        let of_came = || self.came.get(&site).filter(|came| came.is_told() && came.live >= ENOUGH);
        of_all.or_else(of_came)
    }
}

/// A frame by its number, and how it is known.
type Known = (usize, LedBy);

/// Finds the nearest frame that is wanted in one walk over all origins. Returns the frames for each site, and how many
/// goroutines of each origin remain without one. `live` says how many there are of each.
fn nearest(
    origins: &[Origin],
    statements: &[Option<&Frame>],
    live: &[u64],
    is_wanted: impl Fn(&Frame) -> bool,
) -> (HashMap<usize, Blamed>, Vec<u64>) {
    let mut names = Names::default();
    let mut first = |frames: &[Frame]| {
        let found = frames.iter().find(|frame| is_wanted(frame));
        found.map(|frame| names.index(frame))
    };
    let statements: Vec<Option<usize>> =
        statements.iter().map(|frame| first(std::slice::from_ref((*frame)?))).collect();
    // Many origins have the same stack, which is at the same address then.
    let mut calls: HashMap<*const Frame, Option<usize>> = HashMap::new();
    let mut nearest: Vec<Option<Known>> = Vec::new();
    let mut counts = Counts::default();
    let mut unknown = Vec::new();
    for (at, origin) in origins.iter().enumerate() {
        let statement = statements[origin.site].map(|frame| (frame, LedBy::Statement));
        let exact = statement.or_else(|| {
            let stack = origin.stack?;
            let call = *calls.entry(stack.as_ptr()).or_insert_with(|| first(stack));
            call.map(|frame| (frame, LedBy::Call))
        });
        let (mut found, mut left) = (exact.or_else(|| nearest[origin.parent?]), live[at]);
        if exact.is_none() {
            let seen = origin.seen.iter();
            let seen: Vec<(usize, u64)> =
                seen.filter_map(|(frame, n)| Some((first(std::slice::from_ref(frame))?, *n))).collect();
            for &(frame, n) in &seen {
                counts.add(origin.site, (frame, LedBy::Look), left.min(n));
                left = left.saturating_sub(n);
            }
            // If most came by one call and none by another, so did probably those whose creators were not seen.
            let is_only = |(frame, _): &(usize, u64)| seen.iter().all(|(other, _)| other == frame);
            if let Some(&(frame, _)) = seen.first().filter(|first| is_only(first) && left < live[at] - left) {
                found = Some((frame, LedBy::Look));
            }
        }
        nearest.push(found);
        if let Some(found) = found {
            counts.add(origin.site, found, left);
        }
        unknown.push(if found.is_none() { left } else { 0 });
    }
    let mut of_site: HashMap<usize, u64> = HashMap::new();
    for (origin, live) in origins.iter().zip(live) {
        *of_site.entry(origin.site).or_default() += live;
    }
    (counts.blamed(&names.frames, &of_site), unknown)
}

/// A line that goroutines go back to, in the form in which lines are ordered: exact ones first, then most first.
type Line<'a> = (LedBy, Reverse<u64>, &'a Frame);

/// How many living goroutines of each site go back to each frame.
#[derive(Default)]
struct Counts(HashMap<(usize, usize), (LedBy, u64)>);

impl Counts {
    fn add(&mut self, site: usize, (frame, by): Known, n: u64) {
        if n > 0 {
            let (known, sum) = self.0.entry((site, frame)).or_insert((by, 0));
            (*known, *sum) = ((*known).min(by), sum.saturating_add(n));
        }
    }

    fn blamed(self, frames: &[Frame], live: &HashMap<usize, u64>) -> HashMap<usize, Blamed> {
        let mut by_site: HashMap<usize, Vec<Line>> = HashMap::new();
        for ((site, frame), (by, count)) in self.0 {
            by_site.entry(site).or_default().push((by, Reverse(count), &frames[frame]));
        }
        let blamed = |(site, mut lines): (usize, Vec<Line>)| {
            lines.sort_unstable();
            let line = |&(by, Reverse(count), frame): &Line| BlamedFrame {
                frame: frame.clone(),
                count,
                came: 0,
                by,
            };
            let known = lines.iter().map(|(_, Reverse(count), _)| count).sum();
            let live = live.get(&site).copied().unwrap_or_default();
            (site, Blamed { lines: lines.iter().take(MOST).map(line).collect(), known, live })
        };
        by_site.into_iter().map(blamed).collect()
    }
}

/// Gives each frame an index, and keeps it once.
#[derive(Default)]
struct Names {
    frames: Vec<Frame>,
    known: HashMap<Frame, usize>,
}

impl Names {
    fn index(&mut self, frame: &Frame) -> usize {
        if let Some(&known) = self.known.get(frame) {
            return known;
        }
        self.frames.push(frame.clone());
        let index = self.frames.len() - 1;
        self.known.insert(frame.clone(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: Option<&str> = Some("example.com/api");

    fn frame(function: &str, line: u32) -> Frame {
        Frame { function: function.into(), file: Some("/src/f.go".into()), line: Some(line) }
    }

    /// The lines of a site, with how they are known and for how many.
    fn lines(found: &[BlamedFrame]) -> Vec<(u32, LedBy, u64)> {
        found.iter().map(|line| (line.frame.line.unwrap(), line.by, line.count)).collect()
    }

    fn goroutines(site: usize, parent: Option<usize>, live: u64) -> Origin<'static> {
        Origin { site, parent, live, ..Origin::default() }
    }

    #[test]
    fn a_coarse_line_does_not_outvote_an_exact_one() {
        let [go, made] = [frame("main.main", 73), frame("github.com/x/db.Watch", 139)];
        let stack = [made.clone(), frame("main.loop", 47), frame("main.main", 74)];
        let before = goroutines(1, Some(0), 60);
        let seen = Origin { stack: Some(&stack), ..goroutines(1, Some(0), 40) };
        let origins = [goroutines(0, None, 1), before, seen];
        let blame = Blame::of(&origins, &[Some(&go), Some(&made)], MODULE);
        assert_eq!(lines(&blame.lines(1)), [(47, LedBy::Call, 40), (73, LedBy::Statement, 60)]);
        assert_eq!(blame.unknown(1, 100), 0);
        assert_eq!(lines(&blame.told(0).unwrap().lines), [(73, LedBy::Statement, 1)]);
    }

    #[test]
    fn nobody_is_told_for_a_majority_that_is_not_known() {
        let [go, serve] = [frame("main.start", 94), frame("net/http.(*Server).Serve", 3464)];
        let origins = [goroutines(0, None, 1), goroutines(1, Some(0), 6), goroutines(1, None, 82)];
        let blame = Blame::of(&origins, &[Some(&go), Some(&serve)], MODULE);
        assert_eq!((blame.told(1), blame.unknown(1, 88)), (None, 82));
        assert_eq!(
            lines(&blame.lines(1)),
            [(94, LedBy::Statement, 6)],
            "the numbers are reported all the same"
        );
        // Those that came within the window tell for themselves.
        let came = |came| {
            [goroutines(0, None, 1), Origin { came, ..goroutines(1, Some(0), 40) }, goroutines(1, None, 48)]
        };
        let blame = |origins: &[Origin]| Blame::of(origins, &[Some(&go), Some(&serve)], MODULE);
        assert_eq!(blame(&came(9)).told(1), None);
        let told = blame(&came(30));
        let told_of = told.told(1).expect("all 30 that came");
        assert_eq!((told_of.live, told_of.unknown(), told_of.lines[0].count), (30, 0, 30));
        assert_eq!((told.lines(1)[0].count, told.lines(1)[0].came), (40, 30));
        let most = [goroutines(0, None, 1), goroutines(1, Some(0), 83), goroutines(1, None, 5)];
        let blame = Blame::of(&most, &[Some(&go), Some(&serve)], MODULE);
        assert_eq!(blame.told(1).map(Blamed::unknown), Some(5));
    }

    #[test]
    fn what_a_look_saw_is_better_than_a_statement_and_worse_than_a_stack() {
        let [go, serve] = [frame("main.main", 9), frame("net/http.(*Server).Serve", 3464)];
        let seen = [(frame("main.api", 55), 30), (frame("main.admin", 61), 6)];
        let before = Origin { seen: &seen, ..goroutines(1, Some(0), 40) };
        let stack = [serve.clone(), frame("main.other", 70)];
        let exact = Origin { stack: Some(&stack), ..before };
        let sites = [Some(&go), Some(&serve)];
        let blame = Blame::of(&[goroutines(0, None, 1), before], &sites, MODULE);
        let expected = [(55, LedBy::Look, 30), (61, LedBy::Look, 6), (9, LedBy::Statement, 4)];
        assert_eq!(lines(&blame.lines(1)), expected);
        let blame = Blame::of(&[goroutines(0, None, 1), exact], &sites, MODULE);
        assert_eq!(lines(&blame.lines(1)), [(70, LedBy::Call, 40)]);
    }

    /// What a look saw of the creators of most is taken for those of all, and for what these have created.
    #[test]
    fn what_a_look_saw_holds_for_those_whose_creators_are_gone() {
        let [serve, read] = [frame("net/http.(*Server).Serve", 3464), frame("net/http.(*conn).serve", 700)];
        let seen = [(frame("main.api", 55), 6)];
        let blame = |live| {
            let served = Origin { seen: &seen, ..goroutines(0, None, live) };
            let blame = Blame::of(&[served, goroutines(1, Some(0), 3)], &[Some(&serve), Some(&read)], MODULE);
            (lines(&blame.lines(0)), lines(&blame.lines(1)), blame.unknown(0, live))
        };
        assert_eq!(blame(11), (vec![(55, LedBy::Look, 11)], vec![(55, LedBy::Look, 3)], 0));
        assert_eq!(blame(12), (vec![(55, LedBy::Look, 6)], vec![], 6));
    }

    #[test]
    fn the_nearest_dependency_is_named_where_the_program_has_no_line() {
        let [dial, work] = [frame("net/http.dial", 1628), frame("github.com/x/sentry.Configure", 311)];
        let stack = [dial.clone(), frame("net/http.send", 264), frame("github.com/x/sentry.work", 345)];
        let known = Origin { stack: Some(&stack), ..goroutines(0, Some(1), 40) };
        let origins = [goroutines(1, None, 1), goroutines(0, Some(0), 8), known, goroutines(0, None, 300)];
        let blame = Blame::of(&origins, &[Some(&dial), Some(&work)], MODULE);
        assert_eq!((lines(&blame.lines(0)), blame.unknown(0, 348)), (vec![], 348));
        let expected = [(345, LedBy::Call, 40), (311, LedBy::Statement, 8)];
        assert_eq!(lines(&blame.dependencies(0)), expected);
        assert_eq!(blame.dependencies(1), [], "its own place says it");
    }
}
