//! Every Go process of the host, looked at from outside: no probes, nothing that the processes could notice.
//!
//! One look says what there is. Two looks say what came, what went, and what has not moved in between; they are two points
//! and no trend, so what grows is watched at most.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::host::clock::boot_time;
use crate::host::files::FileId;
use crate::host::process;
use crate::host::process::Process;
use crate::human::{count, duration};
use crate::inspect::{Places, SiteKey};
use crate::library::Library;
use crate::look::{Findings, Look, MOST_TIME, SiteFindings};
use crate::pipeline::tool;
use crate::progress::Progress;
use crate::report::{self, Frame, Goroutines, Mode, Oldest, Report, Run, Selection, Site, Window};
use crate::session::Error;
use crate::subject::Subject;
use crate::targets::Targets;
use crate::verdict::{Evidence, Level, Standing, Verdict, Wait, judge_standing};

/// What a sweep found.
pub struct Outcome {
    /// The report, with mode `scanned`.
    pub report: Report,
    /// Processes that this user may not look into; whether they are Go programs is not known.
    pub forbidden: u64,
}

/// Looks at all processes that are wanted, twice where asked for, with so much time in between.
///
/// # Errors
/// `/proc` cannot be listed, or a process that was named by its id cannot be looked into.
pub fn sweep(targets: &Targets, twice: Option<Duration>, selection: &Selection) -> Result<Outcome, Error> {
    let start_ns = now_ns();
    let mut sweep = Sweep { targets, library: Library::default(), untraced: Vec::new(), forbidden: 0 };
    let mut seen = sweep.look_at_all(&HashMap::new())?;
    if let Some(between) = twice
        && pause(between)
    {
        let before: HashMap<(u32, u64), Seen> = seen.into_iter().map(|seen| (seen.key(), seen)).collect();
        sweep.untraced.clear();
        sweep.forbidden = 0;
        seen = sweep.look_at_all(&before)?;
    }
    let processes = seen.iter().map(|seen| seen.report(selection)).collect();
    let run = Run {
        tool: tool(),
        window: Window { start_ns, end_ns: now_ns(), end: SystemTime::now() },
        overhead: report::Overhead::default(),
        untraced: sweep.untraced,
    };
    Ok(Outcome { report: report::of_scanned(&run, processes, selection), forbidden: sweep.forbidden })
}

/// Waits for the second look. Returns false where the user has seen enough: Ctrl-C ends with the first look.
fn pause(between: Duration) -> bool {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        std::thread::sleep(between);
        return true;
    };
    let progress = Progress::start(Some(between), true);
    let end = Instant::now() + between;
    let wait = async {
        while Instant::now() < end {
            progress.say("until the second look; Ctrl-C shows the first".into());
            tokio::time::sleep(Duration::from_millis(200).min(end - Instant::now())).await;
        }
    };
    let waited = runtime.block_on(async {
        tokio::select! {
            () = wait => true,
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    progress.finish();
    waited
}

struct Sweep<'a> {
    targets: &'a Targets,
    library: Library,
    untraced: Vec<report::Process>,
    forbidden: u64,
}

/// A process and what one look found in it.
struct Seen {
    subject: Subject,
    scan: report::Scan,
    places: Places,
    sites: HashMap<SiteKey, SiteFindings>,
    /// What the look before found, and how long ago, in ns.
    before: Option<(HashMap<SiteKey, u64>, u64)>,
    at: Instant,
}

impl Sweep<'_> {
    fn look_at_all(&mut self, before: &HashMap<(u32, u64), Seen>) -> Result<Vec<Seen>, Error> {
        let pids = process::all().map_err(|source| Error::File { path: "/proc".into(), source })?;
        let mut seen = Vec::new();
        for pid in pids.into_iter().filter(|pid| *pid != std::process::id()) {
            let named = self.targets.names_pid(pid);
            if !named && !self.is_wanted(pid) {
                continue;
            }
            match self.look_at(pid, before) {
                Ok(one) => seen.push(one),
                Err(error) if named => return Err(error),
                Err(error) if error.is_not_go() => {}
                Err(error) if error.is_permission() => self.forbidden += 1,
                Err(error) => self.untraced.push(unsupported(pid, &error)),
            }
        }
        let missing =
            self.targets.pids.iter().find(|pid| seen.iter().all(|seen| seen.subject.process.pid != **pid));
        match missing {
            Some(pid) => Err(process::ProcessError::NoSuchProcess(*pid).into()),
            None => Ok(seen),
        }
    }

    /// Whether the selectors match, and it may be a Go program.
    fn is_wanted(&mut self, pid: u32) -> bool {
        match Process::open(pid) {
            Ok((process, file)) => FileId::of(&file).is_ok_and(|id| {
                self.targets.match_process(&process, id)
                    || !self.targets.executables.is_empty()
                        && self.library.libraries(pid).0.iter().any(|code| self.targets.names_file(code.id))
            }),
            Err(process::ProcessError::Permission { .. }) => {
                self.forbidden += 1;
                false
            }
            Err(_) => false,
        }
    }

    fn look_at(&mut self, pid: u32, before: &HashMap<(u32, u64), Seen>) -> Result<Seen, Error> {
        let subject = self.library.subject(pid)?;
        let before = before.get(&(pid, subject.process.start_ticks));
        // After an exec, goroutines of the same id are others.
        let before = before.filter(|before| before.subject.binary.is_same_file(&subject.binary));
        self.untraced.extend(subject.about_others().map(|detail| report::Process {
            mode: Mode::Unsupported,
            detail: Some(detail),
            ..subject.describe()
        }));
        let at = Instant::now();
        let earlier = before.map(|before| &before.places);
        let look = Look::at(&subject, earlier, at + MOST_TIME).map_err(Error::from)?;
        let Findings { sites, places, scan, .. } = look.findings;
        Ok(Seen {
            sites,
            scan,
            places,
            before: before.map(|before| {
                let live = before.sites.iter().map(|(key, site)| (*key, site.waits.live));
                (live.collect(), at.duration_since(before.at).as_nanos() as u64)
            }),
            at,
            subject,
        })
    }
}

impl Seen {
    fn key(&self) -> (u32, u64) {
        (self.subject.process.pid, self.subject.process.start_ticks)
    }

    fn report(&self, selection: &Selection) -> report::Process {
        let mut totals = Goroutines { at_attach: Some(0), ..Goroutines::default() };
        let mut sites = Vec::new();
        for (key, found) in &self.sites {
            let site = self.site(*key, found);
            if site.system {
                totals.system += site.live;
            } else {
                totals.live += site.live;
                totals.created += site.created;
                totals.exited += site.exited;
                totals.at_attach = totals.at_attach.map(|sum| sum + site.at_attach);
            }
            if !site.system || selection.include_system {
                sites.push(site);
            }
        }
        let detail = if self.scan.cut_short {
            "too many goroutines to look at all of them in time"
        } else {
            "memory read, no probes"
        };
        report::Process {
            mode: Mode::Scanned,
            detail: Some(detail.into()),
            scan: Some(self.scan),
            goroutines: totals,
            sites,
            ..self.subject.describe()
        }
    }

    /// With one look, all existed before; with two, those that only the second found were created in between.
    fn site(&self, key: SiteKey, SiteFindings { waits: found, waiting, judged }: &SiteFindings) -> Site {
        let binary = &self.subject.binary;
        let created = found.new.unwrap_or(0);
        let between_ns = self.before.as_ref().map(|(_, between_ns)| *between_ns);
        let at_first =
            self.before.as_ref().map_or(found.live, |(live, _)| live.get(&key).copied().unwrap_or(0));
        let exited = (at_first + created).saturating_sub(found.live);
        let old_ns = between_ns.filter(|_| found.live > created);
        let age_ns = found.longest_wait_ns.max(old_ns);
        Site {
            site: frame_of(key.0, binary.go_statement(key.0)),
            entry: frame_of(key.1, binary.entry_function(key.1)),
            created,
            exited,
            live: found.live,
            at_attach: at_first,
            oldest: age_ns.map(|age_ns| Oldest { age_ns, at_least: true }),
            stack_bytes: Some(found.stack_bytes),
            waiting: Some(waiting.clone()),
            verdict: self.judge(judged, found.live, at_first, exited),
            peak_live: found.live.max(at_first),
            system: binary.is_system(key.1),
            ..Site::default()
        }
    }

    /// Two looks are no trend.
    fn judge(&self, waits: &[Wait], live: u64, at_first: u64, exited: u64) -> Verdict {
        let between_ns = self.before.as_ref().map(|(_, between_ns)| *between_ns);
        let module = self.subject.binary.build_info().module.as_deref();
        let standing = Standing { window_ns: between_ns.unwrap_or(0), live, waits, module, blamed: None };
        let grew = between_ns.filter(|_| live > at_first && exited == 0 && !self.scan.cut_short);
        let growth = grew.map(|time| {
            let text =
                format!("live grew by {} in {}, and none ended", count(live - at_first), duration(time));
            (Level::Watch, Evidence::new("growth", text))
        });
        judge_standing(&standing, growth.into_iter().collect())
    }
}

fn frame_of(address: u64, frame: Option<crate::go::Frame>) -> Frame {
    let unnamed = || Frame { function: format!("{address:#x}"), file: None, line: None };
    frame.map_or_else(unnamed, |frame| Frame::from(&frame))
}

fn unsupported(pid: u32, error: &Error) -> report::Process {
    let process = Process::look(pid).ok();
    report::Process {
        pid,
        exe: process.as_ref().map(|process| process.exe.to_string_lossy().into_owned()),
        command: process.map(|process| process.command),
        mode: Mode::Unsupported,
        detail: Some(error.to_string()),
        ..report::Process::default()
    }
}

fn now_ns() -> u64 {
    boot_time().as_nanos() as u64
}
