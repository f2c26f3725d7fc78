//! What a report for people shows as one: a finding with its parts, or a site that cannot be told yet.

use super::names::{function, is_of_timer, located, place};
use crate::assemble::alike::{self, Alike, Program};
use crate::go::standard::is_of_program;
use crate::human::{clean, count, sum};
use crate::report::{BlamedFrame, Frame, Level, Report, Site, Sort, StaticCheck, Summary};

/// Most parts of a finding that are named.
const PARTS: usize = 12;

/// Sites that are shown in one block.
pub(super) struct Shown<'report> {
    pub(super) program: &'report Program,
    /// The site whose wait tells what to do.
    pub(super) alike: &'report Alike,
    /// The sites that follow from it.
    pub(super) following: Vec<&'report Alike>,
    /// The worst verdict of them all.
    pub(super) level: Level,
}

impl<'report> Shown<'report> {
    /// What is worth a block of its own, in the order of the sites.
    pub(super) fn of(program: &'report Program) -> Vec<Shown<'report>> {
        let untold = |at: &usize| {
            let site = &program.sites[*at].site;
            site.verdict.level == Level::Unknown && !site.is_silenced() && is_worth_a_look(site)
        };
        let untold = (0..program.sites.len()).filter(untold).map(|at| vec![at]);
        let mut blocks: Vec<Vec<usize>> = program.findings.iter().cloned().chain(untold).collect();
        blocks.sort_by_key(|block| block.iter().min().copied());
        let shown = |block: &Vec<usize>| {
            let sites: Vec<&Alike> = block.iter().filter_map(|&at| program.sites.get(at)).collect();
            let (&alike, following) = sites.split_first()?;
            let level = sites.iter().map(|alike| alike.site.verdict.level).max()?;
            Some(Shown { program, alike, following: following.to_vec(), level })
        };
        blocks.iter().filter_map(shown).collect()
    }

    /// What is `watch` or worse, in the order of the sites.
    pub(super) fn findings(program: &'report Program) -> impl Iterator<Item = Shown<'report>> {
        Shown::of(program).into_iter().filter(|shown| shown.level >= Level::Watch)
    }

    /// A single site of a program.
    pub(super) fn alone(program: &'report Program, alike: &'report Alike) -> Shown<'report> {
        Shown { program, alike, following: Vec::new(), level: alike.site.verdict.level }
    }

    /// What is left of it without some sites; `None` if nothing is.
    pub(super) fn without(self, is_left_out: impl Fn(&Site) -> bool) -> Option<Shown<'report>> {
        let sites = std::iter::once(self.alike).chain(self.following);
        let mut left = sites.filter(|alike| !is_left_out(&alike.site));
        let alike = left.next()?;
        let following: Vec<_> = left.collect();
        let all = std::iter::once(&alike).chain(&following);
        let level = all.map(|alike| alike.site.verdict.level).max()?;
        Some(Shown { alike, following, level, ..self })
    }

    /// The line at which a reviewer would look: the `go` statement where that is the program's own; else the line of the
    /// program that most of the goroutines go back to, and the `go` statement where none is known. A timer's function has no
    /// statement, so that is the function itself.
    pub(super) fn line(&self) -> &'report Frame {
        let site = &self.alike.site;
        let module = self.program.process.go.as_ref().and_then(|go| go.module.as_deref());
        let created = if is_of_timer(&site.site) { &site.entry } else { &site.site };
        let is_own = is_of_program(&created.function, module);
        self.blamed().map(|blamed| &blamed.frame).filter(|_| !is_own).unwrap_or(created)
    }

    /// The line of the program that most of the goroutines go back to, if it is not that of the `go` statement.
    pub(super) fn blamed(&self) -> Option<&'report BlamedFrame> {
        let Alike { site, live_of_most: live, .. } = self.alike;
        let most = site.blame.iter().flatten().max_by_key(|line| line.count)?;
        (most.count.saturating_mul(2) > *live && most.frame.file.is_some()).then_some(most)
    }

    /// What is wrong, in one line: how many goroutines, of which function, and how it is known.
    pub(super) fn what(&self) -> String {
        let site = &self.alike.site;
        let (noun, end) = match site.live {
            1 => ("goroutine", ["cannot end", "leaks", "may leak"]),
            _ => ("goroutines", ["cannot end", "leak", "may leak"]),
        };
        let end = match self.level {
            Level::Proven => end[0],
            Level::Suspect => end[1],
            _ => end[2],
        };
        format!("{} {noun} of {} {end}", count(site.live), function(&site.entry))
    }

    /// The check of source code that reports such mistakes: that of the site whose wait tells what to do, or else of one that
    /// follows from it.
    pub(super) fn static_check(&self) -> Option<StaticCheck> {
        let mut sites = std::iter::once(&self.alike).chain(&self.following);
        sites.find_map(|alike| alike.site.verdict.static_check)
    }

    /// What that check reports, for people to read.
    pub(super) fn check_reports(&self) -> Option<&'static str> {
        self.static_check()?.reports()
    }

    /// The sites that follow from the first one, a line each.
    pub(super) fn following(&self) -> impl Iterator<Item = String> {
        let all = self.following.len() as u64;
        let live = self.following.iter().fold(0u64, |sum, alike| sum.saturating_add(alike.site.live));
        let noun = if all == 1 { "statement follows" } else { "statements follow" };
        let head = (all > 0).then(|| format!("{} more {noun} from it, live {}:", count(all), count(live)));
        let left_out = self.following.len().saturating_sub(PARTS);
        let rest = (left_out > 0).then(|| format!("and {} more", count(left_out as u64)));
        head.into_iter().chain(self.following.iter().take(PARTS).map(|alike| part(&alike.site))).chain(rest)
    }
}

/// A line such as `72 created at broker.go:256: chan receive at broker.go:1121 in sarama.(*Broker).responseReceiver`.
fn part(site: &Site) -> String {
    let what = match site.waiting.iter().flatten().next() {
        Some(waiting) => {
            let at = waiting.at.first().map(|frame| format!(" at {}", located(frame))).unwrap_or_default();
            format!("{}{at}", clean(&waiting.reason))
        }
        None => function(&site.entry),
    };
    format!("{} created at {}: {what}", count(site.live), place(&site.site))
}

/// Whether a site that cannot be told yet may be a leak: more than one of its goroutines came and stayed, or stands still.
fn is_worth_a_look(site: &Site) -> bool {
    let stayed = site.created.saturating_sub(site.exited.saturating_add(site.reconciled));
    let still: u64 = sum(site.waiting.iter().flatten().filter_map(|waiting| waiting.unmoved));
    site.live > 0 && (stayed > 1 || still > 1)
}

/// How many findings or else sites have a verdict.
pub(super) fn found(summary: &Summary, level: Level) -> u64 {
    summary.findings.and_then(|findings| findings.of(level)).unwrap_or(summary.of(level))
}

/// How many sites with each verdict of a finding are not among `programs`, because --min-age or --top hides them.
pub(super) fn hidden(summary: &Summary, programs: &[Program]) -> impl Iterator<Item = (u64, Level)> {
    [Level::Proven, Level::Suspect, Level::Watch].into_iter().filter_map(|level| {
        let sites = programs.iter().flat_map(|program| &program.sites);
        let shown = sites.filter(|alike| !alike.site.is_silenced() && alike.site.verdict.level == level);
        let shown: u64 = shown.map(|alike| alike.rows as u64).sum();
        let hidden = summary.of(level).saturating_sub(shown);
        (hidden > 0).then_some((hidden, level))
    })
}

/// Says how many sites with a finding a report does not show, for outputs of which nobody reads the end.
pub fn not_shown(report: &Report) -> Option<String> {
    let programs = alike::programs(&report.processes, Sort::Verdict);
    let levels = hidden(&report.summary, &programs);
    let levels: Vec<String> = levels.map(|(n, level)| format!("{} {}", count(n), level.name())).collect();
    (!levels.is_empty()).then(|| format!("not shown: {}, by --min-age or --top", levels.join(", ")))
}

/// Says it where several sites are one finding.
pub(super) fn together(summary: &Summary) -> Option<String> {
    let findings = summary.findings?;
    let findings = findings.proven.saturating_add(findings.suspect).saturating_add(findings.watch);
    let sites = summary.proven.saturating_add(summary.suspect).saturating_add(summary.watch);
    let noun = if findings == 1 { "finding" } else { "findings" };
    (findings < sites).then(|| format!("({} sites are {} {noun})", count(sites), count(findings)))
}

/// How a site is silenced.
pub fn silenced_how(site: &Site) -> Option<&'static str> {
    match (site.ignored, site.known) {
        (true, _) => Some("silenced by --ignore"),
        (false, true) => Some("known by --baseline"),
        (false, false) => None,
    }
}

/// Says how many sites are silenced, so that nobody takes them for good news.
pub(super) fn silenced(summary: &Summary) -> Option<String> {
    let of = |number: u64, how: &str| {
        let noun = if number == 1 { "site is" } else { "sites are" };
        (number > 0).then(|| format!("{} {noun} {how}", count(number)))
    };
    let all = [of(summary.ignored, "silenced by --ignore"), of(summary.known, "known by --baseline")];
    all.into_iter().flatten().reduce(|ignored, known| format!("{ignored}; {known}"))
}
