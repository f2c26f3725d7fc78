//! What tests have left behind, for those who read why a build failed: a block for each mistake with the tests that it was made
//! in, what else lived and does not count, and how many tests there were.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Write};

use super::blamed;
use super::go_tests::{Alike, GoTest, Group, alike};
use super::lines::{self, INDENT};
use super::names::{function, holds_thread, located, place};
use super::style::{BOLD, of_level, paint};
use super::waited_on;
use crate::go::standard::is_of_program;
use crate::human::{clean, count, duration, shorten, sum, width, wrap};
use crate::report::{Connection, Leaked, Level, Process, Report, Site, TestKind, Waiting};

/// Most tests that get a line each which have left the same behind.
const TESTS: usize = 5;
/// Most names in a line, and most ids of goroutines.
const NAMES: usize = 3;

/// Writes what the tests of a report have left behind; nothing where there were none.
pub(super) fn write(report: &Report, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    let tests = GoTest::all(report);
    if tests.is_empty() {
        return Ok(());
    }
    let mut page = Page { report, columns, shown: HashMap::new() };
    for tests in by_what_is_left(&tests) {
        page.block(&tests, out)?;
        writeln!(out)?;
    }
    for (label, text) in remarks(&tests) {
        lines::remark(out, label, wrap(&text, columns.saturating_sub(INDENT)))?;
    }
    writeln!(out)
}

/// The block of one test, without styles.
pub(super) fn block(report: &Report, test: &GoTest, columns: usize) -> String {
    let mut page = Page { report, columns, shown: HashMap::new() };
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = page.block(&[test], &mut anstream::StripStream::new(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How much a test has left behind, such as `3 goroutines outlived it in 10 runs`.
pub(super) fn outlived(test: &GoTest) -> String {
    let runs = if test.runs > 1 { format!(" in {} runs", count(test.runs)) } else { String::new() };
    format!("{} outlived it{runs}", goroutines(test.left))
}

/// What a group of goroutines is, such as `2 × pool.work`, and where they were created.
pub(super) fn what(group: &Group) -> [String; 2] {
    let (site, entry, ..) = group.alike;
    let n = count(group.leaked.len() as u64);
    [format!("{n} × {}", function(entry)), format!("created at {}", located(site))]
}

/// The first of some names, and how many more there are.
fn few(names: &[&str]) -> String {
    let named: Vec<String> = names.iter().take(NAMES).map(|name| clean(name)).collect();
    match names.len().saturating_sub(NAMES) {
        0 => named.join(", "),
        more => format!("{} and {} more", named.join(", "), count(more as u64)),
    }
}

/// How many goroutines, in words.
pub(super) fn goroutines(n: u64) -> String {
    format!("{} {}", count(n), if n == 1 { "goroutine" } else { "goroutines" })
}

/// The tests that leak, with those together that have left the same behind, in the order of the first of each.
fn by_what_is_left<'tests, 'report>(tests: &'tests [GoTest<'report>]) -> Vec<Vec<&'tests GoTest<'report>>> {
    let mut together: Vec<Vec<&GoTest>> = Vec::new();
    let mut known: BTreeMap<Vec<Alike>, usize> = BTreeMap::new();
    for test in tests.iter().filter(|test| test.fails()) {
        let mut left: Vec<Alike> =
            Group::of(test.leaked.iter().copied()).iter().map(|group| group.alike).collect();
        left.sort();
        let at = *known.entry(left).or_insert(together.len());
        match together.get_mut(at) {
            Some(tests) => tests.push(test),
            None => together.push(vec![test]),
        }
    }
    together
}

struct Page<'report> {
    report: &'report Report,
    columns: usize,
    /// What was shown already, and of which test.
    shown: HashMap<Alike<'report>, &'report str>,
}

impl<'report> Page<'report> {
    /// Writes the tests that have left the same behind, and what that is.
    fn block(&mut self, tests: &[&GoTest<'report>], out: &mut dyn Write) -> io::Result<()> {
        let Some(&first) = tests.first() else { return Ok(()) };
        for test in tests.iter().take(TESTS) {
            self.head(test, out)?;
        }
        let rest: Vec<&str> = tests.iter().skip(TESTS).map(|test| test.name).collect();
        if !rest.is_empty() {
            let noun = if rest.len() == 1 { "test leaves" } else { "tests leave" };
            let rest =
                format!("and {} more {noun} the same behind: {}", count(rest.len() as u64), few(&rest));
            lines::parts(out, self.columns, &[rest])?;
        }
        for group in Group::of(tests.iter().flat_map(|test| test.leaked.iter().copied())) {
            self.group(&group, tests, out)?;
            self.shown.entry(group.alike).or_insert(first.name);
        }
        let listed = tests.iter().map(|test| test.leaked.len() as u64);
        let more = sum(tests.iter().map(|test| test.left)).saturating_sub(sum(listed));
        let more = (more > 0).then(|| format!("and {} that the report does not list", goroutines(more)));
        let silenced = sum(tests.iter().map(|test| test.silenced));
        let silenced = (silenced > 0)
            .then(|| format!("beside {}, silenced by --ignore or --baseline", goroutines(silenced)));
        let more: Vec<String> = more.into_iter().chain(silenced).collect();
        lines::parts(out, self.columns, &more)
    }

    fn head(&self, test: &GoTest, out: &mut dyn Write) -> io::Result<()> {
        let room = self.columns.saturating_sub(INDENT);
        let name = shorten(&clean(test.name), room);
        let name = if name.is_empty() { "an unknown test".into() } else { name };
        let about: Vec<String> = test.package.map(clean).into_iter().chain([outlived(test)]).collect();
        let label = paint(of_level(Level::Suspect), format_args!("{:<8}", "leak"));
        let line = about.join("   ");
        if width(&name) + 3 + width(&line) <= room {
            return writeln!(out, "{label} {}   {line}", paint(BOLD, name));
        }
        writeln!(out, "{label} {}", paint(BOLD, name))?;
        lines::parts(out, self.columns, &about)
    }

    fn group(&self, group: &Group, tests: &[&GoTest], out: &mut dyn Write) -> io::Result<()> {
        let [n, created] = what(group);
        if let Some(test) = self.shown.get(&group.alike) {
            return lines::parts(out, self.columns, &[n, created, format!("as in {}", clean(test))]);
        }
        lines::parts(out, self.columns, &[n, created, ids(group, tests)])?;
        let list = |out: &mut dyn Write, label, items| lines::list(out, self.columns, label, items);
        let first = group.leaked.iter().find_map(|leaked| leaked.waiting.as_ref());
        let waits = first.map_or("not known: nobody could look".into(), |waiting| self.waits(waiting, tests));
        list(out, "waits for", vec![waits])?;
        list(out, "on", first.and_then(waited_on::of).into_iter().collect())?;
        list(out, "outlived", vec![how_long(&group.leaked, tests.len())])?;
        let site = self.site(group, tests);
        list(out, "blame", site.map(|site| blamed::lines(site, site.live)).unwrap_or_default())?;
        let mut advice: Vec<String> = Vec::new();
        for text in group.leaked.iter().filter_map(|leaked| leaked.advice.as_deref()).map(clean) {
            if !advice.contains(&text) {
                advice.push(text);
            }
        }
        advice.truncate(NAMES);
        list(out, "do", advice)
    }

    fn processes(&self, tests: &[&GoTest]) -> impl Iterator<Item = &'report Process> {
        let pids: HashSet<u32> = tests.iter().flat_map(|test| test.pids.iter().copied()).collect();
        self.report.processes.iter().filter(move |process| pids.contains(&process.pid))
    }

    /// What goroutines wait for and where; also in which call of the program, where that is in a library.
    fn waits(&self, waiting: &Waiting, tests: &[&GoTest]) -> String {
        let of_tests = self.processes(tests).next();
        let module = of_tests.and_then(|process| process.go.as_ref()?.module.as_deref());
        let own = waiting.at.iter().position(|frame| is_of_program(&frame.function, module));
        let own = own.filter(|&at| at > 0).map(|at| format!(", called at {}", located(&waiting.at[at])));
        let at = waiting.at.first().map(|frame| format!(" at {}", place(frame))).unwrap_or_default();
        let connection = waiting.connection.and_then(Connection::name);
        let connection = connection.map(|name| format!(", {name}")).unwrap_or_default();
        let thread = if holds_thread(waiting) { "; each holds a thread" } else { "" };
        format!("{}{at}{}{connection}{thread}", clean(&waiting.reason), own.unwrap_or_default())
    }

    /// The site of a group, if no goroutines live of it but those of the group, so that what is said of the one is true of the
    /// other.
    fn site(&self, group: &Group, tests: &[&GoTest]) -> Option<&'report Site> {
        let (created, entry, ..) = group.alike;
        let mut sites = self.processes(tests).flat_map(|process| &process.sites);
        let living = group.leaked.iter().filter(|leaked| !leaked.ended).count() as u64;
        sites.find(|site| site.site == *created && site.entry == *entry && site.live == living)
    }
}

/// The ids of a few goroutines, as examples; of which test they are, where there are several.
fn ids(group: &Group, tests: &[&GoTest]) -> String {
    let (of, leaked) = match tests {
        [first, _, ..] => {
            let one = first.leaked.iter().find(|leaked| alike(leaked) == group.alike);
            (format!(" of {}", clean(first.name)), one.copied().into_iter().collect())
        }
        _ => (String::new(), group.leaked.clone()),
    };
    // Those of several processes may have the same.
    let ids: BTreeSet<u64> = leaked.iter().map(|leaked| leaked.goid).collect();
    let more = if ids.len() > NAMES { ", …" } else { "" };
    let noun = if ids.len() == 1 { "goroutine" } else { "goroutines" };
    let ids: Vec<String> = ids.iter().take(NAMES).map(u64::to_string).collect();
    format!("{noun} {}{more}{of}", ids.join(", "))
}

/// For how long goroutines have outlived their tests, and how many of them have ended in the end.
fn how_long(leaked: &[&Leaked], tests: usize) -> String {
    let whose = if tests == 1 { "its test" } else { "their tests" };
    let whose = if leaked.len() == 1 || tests > 1 { whose } else { "their test" };
    let times = leaked.iter().map(|leaked| leaked.outlived_ns);
    let (least, most) = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
    let (least, most) = (duration(least), duration(most));
    let range = if least == most { least } else { format!("{least} to {most}") };
    let ended = leaked.iter().filter(|leaked| leaked.ended).count();
    let ended = match ended {
        0 => String::new(),
        _ if ended == leaked.len() && ended == 1 => ", then ended".into(),
        _ if ended == leaked.len() => ", then all ended".into(),
        _ => format!("; {} of them ended", count(ended as u64)),
    };
    format!("{whose} by {range}{ended}")
}

/// What lived and does not count, and how many tests there were, each with its label.
fn remarks(tests: &[GoTest]) -> Vec<(&'static str, String)> {
    let of = |is: fn(&GoTest) -> bool| tests.iter().filter(move |test| is(test)).collect::<Vec<_>>();
    let mut all = Vec::new();
    let ending = of(|test| test.ending > 0 && test.is_test());
    if !ending.is_empty() {
        let n = sum(ending.iter().map(|test| test.ending));
        let text = "still ran at the end of the process: not counted";
        all.push(("ending", format!("{} of {} {text}", goroutines(n), named(&ending))));
    }
    let young = of(|test| test.living > 0 && test.unfinished == 0 && test.is_test());
    if !young.is_empty() {
        let n = sum(young.iter().map(|test| test.living));
        let (outlive, are) = if n == 1 { ("outlives", "is") } else { ("outlive", "are") };
        // Those of a process that has ended would count if it were known that they were blocked.
        let text = format!(
            "{} {outlive} {} by less than --grace and {are} not known to stay: not counted",
            goroutines(n),
            named(&young)
        );
        all.push(("young", text));
    }
    all.extend(kept(tests).map(|text| ("kept", text)));
    let unknown = sum(tests.iter().filter(|test| test.kind == TestKind::Unknown).map(lived));
    if unknown > 0 {
        let text = "that no test is known to have led to, as those of time.AfterFunc: not counted";
        all.push(("other", format!("{} {text}", goroutines(unknown))));
    }
    let cut = of(|test| test.unfinished > 0 && test.is_test());
    if !cut.is_empty() {
        let what = if cut.len() == 1 { "it" } else { "they" };
        let text = "had not ended when the process did, or golife stopped";
        all.push(("cut off", format!("{} {text}: what {what} started is not counted", named(&cut))));
    }
    all.extend(result(tests).map(|text| ("tests", text)));
    all
}

/// How many goroutines live of what is no test.
pub(super) fn lived(test: &GoTest) -> u64 {
    sum([test.living, test.ending])
}

/// What package-level code has started and kept; `None` if nothing.
fn kept(tests: &[GoTest]) -> Option<String> {
    let of = |kind| {
        let kept: Vec<_> = tests.iter().filter(|test| test.kind == kind && lived(test) > 0).collect();
        (sum(kept.iter().map(|test| lived(test))), kept)
    };
    let kinds = [("init", of(TestKind::Init)), ("TestMain", of(TestKind::TestMain))];
    let started: Vec<_> = kinds
        .into_iter()
        .filter(|(_, (n, _))| *n > 0)
        .map(|(who, (n, kept))| {
            let packages: Vec<&str> = kept.iter().filter_map(|test| test.package).collect();
            let of = if packages.is_empty() { String::new() } else { format!(" of {}", few(&packages)) };
            format!("{} by {who}{of}", count(n))
        })
        .collect();
    (!started.is_empty()).then(|| format!("started outside of tests and kept: {}", started.join("; ")))
}

fn named(tests: &[&GoTest]) -> String {
    few(&tests.iter().map(|test| test.name).collect::<Vec<_>>())
}

/// How many tests there were and how many of them leak; `None` if there were none.
fn result(tests: &[GoTest]) -> Option<String> {
    let ran: Vec<_> = tests.iter().filter(|test| test.is_test()).collect();
    let mut packages: Vec<_> =
        ran.iter().map(|test| (test.package, test.package.is_none().then_some(&test.pids))).collect();
    packages.sort_unstable();
    packages.dedup();
    let noun = |n: usize, noun: &str| format!("{} {noun}{}", count(n as u64), if n == 1 { "" } else { "s" });
    let all = format!("{} of {}", noun(ran.len(), "test"), noun(packages.len(), "package"));
    let leak = ran.iter().filter(|test| test.fails()).count();
    let silenced = ran.iter().any(|test| test.silenced > 0);
    match (ran.len(), leak) {
        (0, _) => None,
        (_, 0) if silenced => Some(format!("{all} ran, none left a goroutine behind that is not silenced")),
        (1, 0) => Some(format!("{all} ran, and left no goroutine behind")),
        (_, 0) => Some(format!("{all} ran, none left a goroutine behind")),
        (_, leak) => Some(format!("{} of {all} left goroutines behind", count(leak as u64))),
    }
}

#[cfg(test)]
mod tests;
