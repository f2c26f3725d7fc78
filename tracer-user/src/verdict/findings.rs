//! One mistake, one finding: which of the sites that leak do so together, and which of them tells what to do.
//!
//! A library that is not closed leaves goroutines of many statements behind, and who waits for a goroutine that is stuck
//! is stuck as well. Such sites grow alike: their goroutines come at the same times, so many for each. But anything that
//! is made at a steady pace grows alike, so there has to be more that they have in common: that the ones create the
//! others, or that they are of one library and go back to one line of the program, or where no line is known to one
//! creator.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::report::{Cause, Frame, Level, Verdict};

/// Fewest goroutines of a site that came in the window, for them to tell when.
const FEWEST: u64 = 5;
/// By how much the shares of those that came until some time may differ.
const APART: f64 = 0.15;
/// Most groups with something in common that a site is compared with.
const MOST: usize = 16;
/// Most creators that are gone back through to one that leaks as well.
const STEPS: usize = 16;

/// What is known of a site.
#[derive(Clone, Debug)]
pub struct Part<'report> {
    /// The site's number, which `creator` names it by.
    pub number: usize,
    /// Its verdict.
    pub verdict: &'report Verdict,
    /// The ages of its living goroutines whose birth was seen, as (age in ns, count), youngest first.
    pub ages: &'report [(u64, u64)],
    /// The line of the program that most of its goroutines go back to: its own statement, or that of who is blamed.
    pub line: Option<&'report Frame>,
    /// Whether that line is the call that led to them. A `go` statement leads to more than one thing.
    pub is_exact: bool,
    /// The number of the site that most of its goroutines' creators are of.
    pub creator: Option<usize>,
    /// The library that creates the goroutines, by the begin of its path; `None` for the program itself.
    pub library: Option<&'report str>,
    /// Whether a call of the program itself waits.
    pub waits_in_program: bool,
}

/// Puts the sites that leak into groups, by their indices. In each group, the site comes first whose wait tells what
/// to do, and the others follow from it. `window_ns` is how long they were watched.
pub fn group(parts: &[Part], window_ns: u64) -> Vec<Vec<usize>> {
    let leaking = |part: &Part| part.verdict.level >= Level::Watch;
    let births = parts.iter().map(|part| Births::of(if leaking(part) { part.ages } else { &[] }, window_ns));
    let births: Vec<Births> = births.collect();
    let mut groups = Groups::new(parts.len());
    let by_number: HashMap<usize, usize> =
        parts.iter().enumerate().map(|(at, part)| (part.number, at)).collect();
    let mut known: HashMap<Common, Vec<usize>> = HashMap::new();
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| leaking(part)) {
        let creator = creator_of(at, parts, &by_number, |creator| leaking(&parts[creator]));
        if let Some(creator) = creator.filter(|&creator| births[at].are_like(&births[creator])) {
            groups.join(at, creator);
        }
        let Some(common) = Common::of(part) else { continue };
        let others = known.entry(common).or_default();
        match others.iter().find(|&&other| births[at].are_like(&births[other])) {
            Some(&other) => groups.join(at, other),
            None if others.len() < MOST => others.push(at),
            None => {}
        }
    }
    let roots: Vec<usize> = (0..parts.len()).map(|at| groups.root(at)).collect();
    let mut found: HashMap<usize, Vec<usize>> = HashMap::new();
    for at in (0..parts.len()).filter(|&at| leaking(&parts[at])) {
        found.entry(roots[at]).or_default().push(at);
    }
    let mut found: Vec<Vec<usize>> = found.into_values().collect();
    for group in &mut found {
        let generation = |at: usize| generation(at, parts, &by_number, &roots);
        group.sort_by_cached_key(|&at| rank(&parts[at], generation(at), &births[at], at));
    }
    found.sort_unstable();
    found
}

/// In which order the parts of a finding tell what to do. The worst comes first; then the program's own wait before that
/// of a library, a dependency's before that of Go's own libraries, which it uses for the program; what blocks before what
/// only waits to be told to end, and who waits for nobody else of them before its creators.
fn rank(part: &Part, generation: usize, births: &Births, at: usize) -> impl Ord {
    // Paths of the standard library have no domain, and so no dot in their first part.
    let is_standard = |library: &str| !library.split('/').next().is_some_and(|first| first.contains('.'));
    let is_of_go =
        part.library.is_some_and(|library| is_standard(library) || library.starts_with("golang.org/x"));
    let waits_for_word = matches!(part.verdict.cause, Some(Cause::Timer | Cause::Context) | None);
    let (level, age_ns) = (Reverse(part.verdict.level), Reverse(births.mean_age_ns));
    (level, !part.waits_in_program, is_of_go, waits_for_word, Reverse(generation), age_ns, at)
}

/// The nearest creator that is wanted, back through others.
fn creator_of(
    at: usize,
    parts: &[Part],
    by_number: &HashMap<usize, usize>,
    is_wanted: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut current = at;
    for _ in 0..STEPS {
        current = *by_number.get(&parts[current].creator?)?;
        if current != at && is_wanted(current) {
            return Some(current);
        }
    }
    None
}

/// How many sites of the same group created one another until they created this one. `roots` says which site stands for the
/// group of each.
fn generation(at: usize, parts: &[Part], by_number: &HashMap<usize, usize>, roots: &[usize]) -> usize {
    let is_of_group = |creator: usize| creator != at && roots[creator] == roots[at];
    let mut current = at;
    for generation in 0..STEPS {
        match creator_of(current, parts, by_number, is_of_group) {
            Some(creator) => current = creator,
            None => return generation,
        }
    }
    // They create each other in a circle.
    0
}

/// What sites may have in common.
#[derive(PartialEq, Eq, Hash)]
enum Common<'report> {
    Line(&'report Frame, Option<&'report str>),
    Creator(usize, &'report str),
}

impl<'report> Common<'report> {
    fn of(part: &Part<'report>) -> Option<Common<'report>> {
        match part.line {
            Some(line) => Some(Common::Line(line, part.library.filter(|_| !part.is_exact))),
            None => Some(Common::Creator(part.creator?, part.library?)),
        }
    }
}

/// When those that live came in the window.
struct Births {
    /// How many came since, for each age, youngest first.
    until: Vec<(u64, u64)>,
    all: u64,
    mean_age_ns: u64,
    /// By how much two births of the same occasion may be apart, in ns.
    near_ns: u64,
}

impl Births {
    fn of(ages: &[(u64, u64)], window_ns: u64) -> Births {
        let (mut all, mut sum_ns) = (0, 0u128);
        let of_window = ages.iter().take_while(|&&(age_ns, _)| age_ns <= window_ns);
        let until = of_window.map(|&(age_ns, n)| {
            all += n;
            sum_ns += u128::from(age_ns) * u128::from(n);
            (age_ns, all)
        });
        let until = until.collect();
        let mean_age_ns = (sum_ns / u128::from(all.max(1))) as u64;
        Births { until, all, mean_age_ns, near_ns: (window_ns / 20).min(1_000_000_000) }
    }

    /// Whether both came at the same times, so many of the one for each of the other.
    fn are_like(&self, other: &Births) -> bool {
        let (few, many) = (self.all.min(other.all), self.all.max(other.all));
        if few < FEWEST {
            return false;
        }
        let ratio = many as f64 / few as f64;
        let is_whole = (ratio - ratio.round()).abs() <= 0.1 + 2.0 / few as f64;
        is_whole && self.come_no_later(other) && other.come_no_later(self)
    }

    fn come_no_later(&self, other: &Births) -> bool {
        self.until.iter().all(|&(age_ns, n)| {
            // Ages are known to 1 %.
            let near = age_ns.saturating_add(self.near_ns).saturating_add(age_ns / 50);
            n as f64 / self.all as f64 <= other.share_until(near) + APART
        })
    }

    fn share_until(&self, age_ns: u64) -> f64 {
        let at = self.until.partition_point(|&(age, _)| age <= age_ns);
        let n = at.checked_sub(1).map_or(0, |last| self.until[last].1);
        n as f64 / self.all.max(1) as f64
    }
}

/// Disjoint sets of indices.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Groups {
        Groups((0..count).collect())
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn verdict(level: Level, cause: Cause) -> Verdict {
        Verdict { level, cause: Some(cause), ..Verdict::default() }
    }

    fn frame(line: u32) -> Frame {
        Frame { function: "main.f".into(), file: Some("/main.go".into()), line: Some(line) }
    }

    /// Ages of those that came each `step_ms`, beginning `first_ms` ago, `each` at a time.
    fn steady(first_ms: u64, step_ms: u64, each: u64) -> Vec<(u64, u64)> {
        (0..)
            .map(|n| first_ms + n * step_ms)
            .take_while(|&ms| ms < 30_000)
            .map(|ms| (ms * S / 1_000, each))
            .collect()
    }

    fn part<'a>(number: usize, verdict: &'a Verdict, ages: &'a [(u64, u64)]) -> Part<'a> {
        Part {
            number,
            verdict,
            ages,
            line: None,
            is_exact: false,
            creator: None,
            library: None,
            waits_in_program: false,
        }
    }

    #[test]
    fn what_goes_back_to_one_line_and_grows_alike_is_one() {
        let suspect = verdict(Level::Suspect, Cause::ChanReceive);
        let (one, two, other) = (steady(100, 1_000, 1), steady(400, 1_000, 2), steady(100, 1_430, 1));
        let (main, elsewhere) = (frame(40), frame(41));
        let library = Some("x.io/y");
        let at = |number, ages, line| Part { line: Some(line), library, ..part(number, &suspect, ages) };
        let parts = [at(0, &one, &main), at(1, &two, &main), at(2, &one, &elsewhere), at(3, &other, &main)];
        assert_eq!(group(&parts, 30 * S), [vec![1, 0], vec![2], vec![3]], "the older first");
        let of_another = Part { library: Some("net/http"), ..parts[1].clone() };
        let two = [parts[0].clone(), of_another];
        assert_eq!(group(&two, 30 * S).len(), 2, "a go statement may lead to two mistakes");
        let by_call = two.map(|part| Part { is_exact: true, ..part });
        assert_eq!(group(&by_call, 30 * S).len(), 1, "a call that makes two things is one");
    }

    #[test]
    fn a_burst_is_not_like_a_stream() {
        let suspect = verdict(Level::Suspect, Cause::ChanReceive);
        let (stream, burst, few) = (steady(0, 1_000, 1), vec![(15 * S, 30)], vec![(3 * S, 2), (9 * S, 2)]);
        let line = frame(40);
        let parts =
            [&stream, &burst, &few, &few].map(|ages| Part { line: Some(&line), ..part(0, &suspect, ages) });
        assert_eq!(group(&parts, 30 * S).len(), 4);
    }

    #[test]
    fn who_waits_for_what_it_created_follows_from_it() {
        let (waits, blocked, timer) = (
            verdict(Level::Suspect, Cause::WaitGroup),
            verdict(Level::Suspect, Cause::ChanSend),
            verdict(Level::Suspect, Cause::Timer),
        );
        let ages = steady(100, 500, 1);
        let parts = [
            part(7, &waits, &ages),
            Part { creator: Some(7), ..part(8, &blocked, &ages) },
            Part { creator: Some(8), ..part(9, &timer, &ages) },
        ];
        assert_eq!(group(&parts, 30 * S), [vec![1, 0, 2]]);
        // Creators in between may have ended.
        let healthy = verdict(Level::Healthy, Cause::Io);
        let ended = Part { creator: Some(7), ..part(11, &healthy, &[]) };
        let through = [parts[0].clone(), ended, Part { creator: Some(11), ..part(12, &blocked, &ages) }];
        assert_eq!(group(&through, 30 * S), [vec![2, 0]]);
        // The program's own wait tells more than that of a library.
        let own = [Part { waits_in_program: true, ..parts[0].clone() }, parts[1].clone()];
        assert_eq!(group(&own, 30 * S), [vec![0, 1]]);
        // So does what is worse.
        let watch = verdict(Level::Watch, Cause::ChanSend);
        let excused = [parts[0].clone(), Part { verdict: &watch, ..parts[1].clone() }];
        assert_eq!(group(&excused, 30 * S), [vec![0, 1]]);
        // What is healthy is no part of it.
        let child = [Part { verdict: &healthy, ..parts[0].clone() }, parts[1].clone()];
        assert_eq!(group(&child, 30 * S), [vec![1]]);
    }

    #[test]
    fn what_one_creator_makes_of_one_library_is_one() {
        let suspect = verdict(Level::Suspect, Cause::Select);
        let ages = steady(100, 500, 1);
        let of = |number, library| Part { creator: Some(1), library, ..part(number, &suspect, &ages) };
        let parts = [of(2, Some("net")), of(3, Some("x.io/y")), of(4, Some("net")), of(5, None), of(6, None)];
        assert_eq!(group(&parts, 30 * S), [vec![0, 2], vec![1], vec![3], vec![4]]);
    }

    #[test]
    fn what_go_itself_is_used_for_follows_from_who_uses_it() {
        let (body, word) =
            (verdict(Level::Suspect, Cause::HttpBody), verdict(Level::Suspect, Cause::Context));
        let (ages, line) = (steady(100, 500, 1), frame(40));
        let made = Part { line: Some(&line), is_exact: true, ..part(0, &body, &ages) };
        let of = |library| Part { library: Some(library), ..made.clone() };
        let watch = Part { verdict: &word, ..of("k8s.io/apimachinery") };
        let parts = [of("net/http"), of("golang.org/x/net"), watch];
        assert_eq!(group(&parts, 30 * S), [vec![2, 0, 1]]);
    }

    #[test]
    fn circles_of_creators_end() {
        let suspect = verdict(Level::Suspect, Cause::Select);
        let ages = steady(100, 500, 1);
        let of = |number, creator| Part { creator: Some(creator), ..part(number, &suspect, &ages) };
        assert_eq!(group(&[of(1, 2), of(2, 1), of(3, 3)], 30 * S), [vec![0, 1], vec![2]]);
    }
}
