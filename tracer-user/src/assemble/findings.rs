//! Makes findings of the sites of a process.

use crate::go::standard::{is_of_program, package_path};
use crate::report::{Finding, Frame, LedBy, Site};
use crate::stats::Ages;
use crate::tracker::{Instance, SiteId};
use crate::verdict::Wait;
use crate::verdict::findings::{Part, group};

/// The sites of a process in a report, with what else is known of them.
pub(super) struct Reported<'a> {
    pub(super) id: SiteId,
    pub(super) site: Site,
    pub(super) living: &'a Ages,
    /// What its goroutines do; empty if nobody looked.
    pub(super) waits: &'a [Wait],
}

/// The findings, worst first. `window_ns` is how long the process was watched. What follows from a site that is ignored or known is
/// still one finding, of which the next site tells what to do.
pub(super) fn of(
    reported: &[Reported],
    instance: &Instance,
    module: Option<&str>,
    window_ns: u64,
) -> Vec<Finding> {
    let own = |frame: &Frame| is_of_program(&frame.function, module);
    let parts = reported.iter().map(|Reported { id, site, living, waits }| {
        let (line, by) = line(site, module).unzip();
        let most = waits.iter().max_by_key(|wait| wait.count);
        Part {
            number: id.0 as usize,
            verdict: &site.verdict,
            ages: &living.exact,
            line,
            is_exact: by.is_some_and(|by| by != LedBy::Statement),
            creator: creator(*id, instance),
            library: (!own(&site.site)).then(|| library(&site.site.function)),
            waits_in_program: most.is_some_and(|wait| wait.frames.iter().any(own)),
        }
    });
    let parts: Vec<Part> = parts.collect();
    let finding = |mut sites: Vec<usize>| {
        sites.retain(|&at| !reported[at].site.is_silenced());
        let levels = sites.iter().map(|&at| reported[at].site.verdict.level);
        let level = levels.max().unwrap_or_default();
        let first = &reported[*sites.first()?].site;
        let (cause, advice) = (first.verdict.cause, first.verdict.advice.clone());
        let blamed =
            sites.iter().find_map(|&at| line(&reported[at].site, module)).map(|(line, _)| line.clone());
        Some(Finding { level, cause, advice, blamed, sites })
    };
    let mut findings: Vec<Finding> = group(&parts, window_ns).into_iter().filter_map(finding).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

/// The line of the program that most of a site's goroutines go back to, and how that is known.
fn line<'site>(site: &'site Site, module: Option<&str>) -> Option<(&'site Frame, LedBy)> {
    if is_of_program(&site.site.function, module) {
        return Some((&site.site, LedBy::Statement));
    }
    let most = site.blame.as_ref()?.iter().max_by_key(|blamed| blamed.count)?;
    (most.count.saturating_mul(2) > site.live).then_some((&most.frame, most.by))
}

/// The site of most of the creators.
fn creator(id: SiteId, instance: &Instance) -> Option<usize> {
    let counts = instance.sites().get(id.0 as usize)?;
    let parents = counts.window().parents.by_count();
    let all: u64 = parents.iter().map(|&(_, n)| n).sum();
    let &(parent, most) = parents.first()?;
    (most.saturating_mul(2) > all).then_some(parent.0 as usize)
}

/// The library that a function is of, or who made it, by the first two parts of its path.
fn library(function: &str) -> &str {
    let path = package_path(function);
    path.match_indices('/').nth(1).map_or(path, |(end, _)| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::BlamedFrame;

    #[test]
    fn a_library_is_known_by_its_path() {
        assert_eq!(library("github.com/IBM/sarama.(*Broker).Open.func1"), "github.com/IBM");
        assert_eq!(library("google.golang.org/grpc/internal/transport.f"), "google.golang.org/grpc");
        assert_eq!(library("google.golang.org/grpc.f"), "google.golang.org/grpc");
        assert_eq!(library("net/http/internal/http2.(*ClientConn).readLoop"), "net/http");
        assert_eq!(library("context.WithCancel"), "context");
    }

    #[test]
    fn a_minority_is_no_line() {
        let frame = |function: &str| Frame { function: function.into(), ..Frame::default() };
        let blame = |count| {
            Some(vec![BlamedFrame {
                frame: frame("main.f"),
                count,
                by: LedBy::Call,
                ..BlamedFrame::default()
            }])
        };
        let site = |count| Site { site: frame("x.io/y.f"), live: 10, blame: blame(count), ..Site::default() };
        assert_eq!(line(&site(5), Some("example.com/api")), None);
        assert_eq!(line(&site(6), Some("example.com/api")), Some((&frame("main.f"), LedBy::Call)));
        let own = Site { site: frame("main.g"), ..site(6) };
        assert_eq!(line(&own, Some("example.com/api")), Some((&frame("main.g"), LedBy::Statement)));
    }
}
