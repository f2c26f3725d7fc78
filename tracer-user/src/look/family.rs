//! Looks at a process and what descends from it, again and again, without probes: each as soon as it runs Go, then as often
//! as costs little. What the last look has found of a process that ends is kept.
//!
//! Who is there is asked for some fifty times a second, since nobody tells. A process that has ended in between was never
//! there for golife, and one that ended before it could be looked at is only counted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime};

use super::seen::{self, Seen};
use crate::go::BuildInfo;
use crate::host::clock::now_ns;
use crate::host::process::{self, Image};
use crate::host::{FileId, ProcessError, cpu_time};
use crate::report::{self, BootWindow, Goroutines, Loss, Report, Run, Selection};
use crate::targets::{Binaries, Children, TargetError, describe};
use crate::verdict::cause::Patterns;

/// How long to wait at least before asking again who is there.
const PAUSE: Duration = Duration::from_millis(15);
/// If asking took a millisecond, the pause is so many, so that it takes a twentieth of the time at most.
const ASKING: u32 = 20;
/// The shortest time between two looks at a process, or glances, and the longest, unless they cost too much. In between it is
/// a hundredth of its age.
const GAPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// What looks at one process may cost beside a hundredth of the time, so that those that live for a moment have some; and the
/// same of glances.
const CREDIT: Duration = Duration::from_millis(50);
/// If looks took a second, they are worth so many.
const BUDGET: u32 = 100;
/// How long to wait after a look that has failed, which doubles up to 256 times that.
const AGAIN: Duration = Duration::from_millis(15);
/// A child that still has its parent's memory is about to execute something. After so long it is taken for a process of its
/// own, since where addresses are not random, it may only look like that.
const ABOUT_TO_EXECUTE: Duration = Duration::from_millis(200);
/// Most processes that are kept beyond their end, and most that cannot be looked at.
const MOST_KEPT: usize = 1024;

/// What limits what is seen of a process.
const NO_PROBES: &str =
    "no probes: who came and went between two looks was not seen, nor how long anybody lived";
/// The same of one that runs tests.
const NO_TESTS: &str = "which test has left what behind is not known";

/// A process with all that descends from it.
pub struct Family {
    root: u32,
    children: Children,
    patterns: Patterns,
    binaries: Binaries,
    start_ns: u64,
    own_cpu: Duration,
    members: HashMap<u32, Member>,
    ended: VecDeque<Ended>,
    /// Go programs that cannot be looked at, by process.
    untraced: BTreeMap<u32, report::Process>,
    /// How many of them have ended of which it was not allowed to see what they execute.
    denied: u64,
    /// Go processes that ended before they could be looked at.
    missed: u64,
    /// Processes that are kept no more.
    forgotten: u64,
    /// Processes of Go's own tools that are left out.
    go_tools: u64,
}

/// A process of the family.
struct Member {
    start_ticks: u64,
    parent: u32,
    /// What it executes; `None` where that is not known.
    runs: Option<Runs>,
    /// Where it is not allowed to see what it executes, the process as a report has it.
    denied: Option<report::Process>,
}

/// What a process executes, from its start or an exec on.
struct Runs {
    file: FileId,
    image: Image,
    is_go: bool,
    /// Whether it is not wanted, as Go's own tools may be.
    is_left_out: bool,
    /// Whether it had its parent's memory when it was last asked.
    is_clone: bool,
    failures: u32,
    looks: Turns,
    /// Glances, which see who is there and nothing more. They cost less than looks, so that there are more of them where a
    /// process is large.
    glances: Turns,
    seen: Option<Seen>,
}

/// When it is the turn of a process.
struct Turns {
    since: Instant,
    spent: Duration,
    next: Instant,
}

/// A process that has ended, or executes something else, and what the last look has found in it.
struct Ended {
    seen: Seen,
    /// When that was noticed, in ns of boot time.
    time_ns: u64,
    before_end: Duration,
}

impl Family {
    /// A process and, of what it will start, the `children` that are wanted. The window of the report begins now.
    pub fn of(root: u32, children: Children, patterns: Patterns) -> Family {
        let mut family = Family {
            root,
            children,
            patterns,
            binaries: Binaries::default(),
            start_ns: now_ns(),
            own_cpu: cpu_time::own(),
            members: HashMap::new(),
            ended: VecDeque::new(),
            untraced: BTreeMap::new(),
            denied: 0,
            missed: 0,
            forgotten: 0,
            go_tools: 0,
        };
        family.join(root, 0);
        family
    }

    /// Reads a program before a process runs it.
    pub fn read_program(&mut self, path: &std::path::Path) {
        self.binaries.read_program(path);
    }

    /// Sees who is there and looks at those whose turn it is. Returns how long to wait until the next time.
    pub fn step(&mut self) -> Duration {
        let begin = Instant::now();
        self.find_children();
        let pids: Vec<u32> = self.members.keys().copied().collect();
        pids.iter().for_each(|&pid| self.follow(pid));
        let asking = begin.elapsed();
        let now = Instant::now();
        for pid in pids {
            let Some(runs) = self.members.get_mut(&pid).and_then(|member| member.runs.as_mut()) else {
                continue;
            };
            if runs.is_left_out {
                continue;
            }
            if runs.looks.next <= now {
                self.look_at(pid);
            } else if runs.glances.next <= now {
                runs.glance();
            }
        }
        PAUSE.max(asking * ASKING)
    }

    /// Looks at all, whatever it costs.
    pub fn look_at_all(&mut self) {
        self.find_children();
        let pids: Vec<u32> = self.members.keys().copied().collect();
        for pid in pids {
            self.follow(pid);
            if self.runs(pid).is_some_and(|runs| runs.is_go) {
                self.look_at(pid);
            }
        }
    }

    /// Number of processes that were looked at and still run.
    pub fn living(&self) -> usize {
        self.members.values().filter_map(Member::seen).count()
    }

    /// Number of processes that ran tests, of those that were looked at.
    pub fn test_binaries(&self) -> usize {
        let ended = self.ended.iter().map(|ended| &ended.seen);
        let all = ended.chain(self.members.values().filter_map(Member::seen));
        all.filter(|seen| seen.subject.binary.is_test()).count()
    }

    /// The build info of each binary that was read.
    pub fn builds(&self) -> Vec<BuildInfo> {
        let planned = self.binaries.all_planned();
        planned.map(|planned| planned.binary.build_info().clone()).collect()
    }

    /// Number of processes of which this user may not see what they execute.
    pub fn denied(&self) -> u64 {
        self.denied + self.members.values().filter(|member| member.denied.is_some()).count() as u64
    }

    /// What the last looks have found.
    pub fn report(&self, selection: &Selection) -> Report {
        let window = BootWindow { start_ns: self.start_ns, end_ns: now_ns(), end: SystemTime::now() };
        let own_ns = cpu_time::own().saturating_sub(self.own_cpu).as_nanos() as u64;
        let denied = self.members.values().filter_map(|member| member.denied.as_ref());
        let run = Run {
            tool: describe::tool(),
            window,
            overhead: report::Overhead { golife_cpu_ns: Some(own_ns), ..report::Overhead::default() },
            untraced: self.untraced.values().chain(denied).cloned().collect(),
        };
        let ended = self.ended.iter().map(|ended| {
            let process = self.process(&ended.seen, selection);
            let before_end_ns = Some(ended.before_end.as_nanos() as u64);
            report::Process {
                ended: Some(window.calendar(ended.time_ns)),
                scan: process.scan.map(|scan| report::Scan { before_end_ns, ..scan }),
                goroutines: Goroutines { states: None, ..process.goroutines },
                stopped: false,
                ..process
            }
        });
        let living = self.members.values().filter_map(Member::seen);
        let mut processes: Vec<_> = ended.chain(living.map(|seen| self.process(seen, selection))).collect();
        processes.sort_by_key(|process| process.pid);
        let loss =
            Loss { missed_processes: self.missed, forgotten_processes: self.forgotten, ..Loss::default() };
        let report = run.report(loss, processes, selection);
        Report { toolchain_processes: self.go_tools, ..report }
    }

    fn process(&self, seen: &Seen, selection: &Selection) -> report::Process {
        let process = seen.report(&self.patterns, selection);
        let is_cut = process.scan.is_some_and(|scan| scan.cut_short);
        let is_test = seen.subject.binary.is_test();
        let parts =
            [process.detail.filter(|_| is_cut), Some(NO_PROBES.into()), is_test.then(|| NO_TESTS.into())];
        let detail = parts.into_iter().flatten().collect::<Vec<String>>().join("; ");
        report::Process { detail: Some(detail), ..process }
    }

    fn runs(&self, pid: u32) -> Option<&Runs> {
        self.members.get(&pid)?.runs.as_ref()
    }

    fn join(&mut self, pid: u32, parent: u32) -> bool {
        let Some(Image { start_ticks, .. }) = process::image(pid) else { return false };
        let member = Member { start_ticks, parent, runs: None, denied: None };
        self.members.insert(pid, member);
        true
    }

    /// Finds those that the members have started, and what those have.
    fn find_children(&mut self) {
        let mut parents: Vec<u32> = self.members.keys().copied().collect();
        while !parents.is_empty() {
            let mut children = process::children(&parents);
            children.retain(|(_, child)| !self.members.contains_key(child));
            children.retain(|&(parent, child)| self.join(child, parent));
            parents = children.into_iter().map(|(_, child)| child).collect();
        }
    }

    /// Takes note of what a member executes now, or that it has ended.
    fn follow(&mut self, pid: u32) {
        let Some(member) = self.members.get_mut(&pid) else { return };
        let Some(image) = process::image(pid).filter(|image| image.start_ticks == member.start_ticks) else {
            let (runs, denied) = (member.runs.take(), member.denied.take());
            self.members.remove(&pid);
            self.denied += u64::from(denied.is_some());
            if let Some(denied) = denied {
                self.refuse(denied);
            }
            return self.end(runs);
        };
        let opened = File::open(format!("/proc/{pid}/exe"));
        match &opened {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let why = ProcessError::Permission { pid };
                member.denied.get_or_insert_with(|| describe::unsupported(pid, &why));
            }
            _ => member.denied = None,
        }
        let Ok(opened) = opened else { return };
        let Ok(file) = FileId::of(&opened) else { return };
        if let Some(runs) = member.runs.as_mut().filter(|runs| runs.file == file) {
            // While it is executing, the place of its stack is not the last one yet.
            if runs.seen.is_none() {
                runs.image = image;
            }
            if runs.image == image {
                return;
            }
        }
        let now = Instant::now();
        let is_go = self.binaries.seems_go(&opened);
        let is_left_out = pid != self.root && self.children.leave_out(|| self.binaries.is_go_tool(&opened));
        self.go_tools += u64::from(is_left_out && self.children == Children::Tests);
        let before = member.runs.replace(Runs {
            file,
            image,
            is_go: is_go && !is_left_out,
            is_left_out,
            is_clone: false,
            failures: 0,
            looks: Turns::from(now),
            glances: Turns::from(now),
            seen: None,
        });
        self.end(before);
        if !is_go
            && self.children == Children::All
            && let Some(error) = TargetError::no_go(pid)
        {
            self.refuse(describe::unsupported(pid, &error));
        }
    }

    /// Keeps what the last look has found of a program that is not executed any more.
    fn end(&mut self, runs: Option<Runs>) {
        let Some(Runs { seen, is_go, is_clone, .. }) = runs else { return };
        let Some(mut seen) = seen else {
            self.missed += u64::from(is_go && !is_clone);
            return;
        };
        seen.conclude();
        let before_end = seen.at_time().elapsed();
        self.ended.push_back(Ended { seen, time_ns: now_ns(), before_end });
        if self.ended.len() > MOST_KEPT {
            self.ended.pop_front();
            self.forgotten += 1;
        }
    }

    /// Takes note of a process that cannot be looked at.
    fn refuse(&mut self, process: report::Process) {
        if self.untraced.len() < MOST_KEPT || self.untraced.contains_key(&process.pid) {
            self.untraced.insert(process.pid, process);
        }
    }

    /// Whether a process has not executed anything since it was forked: its memory is still that of its parent.
    fn is_clone(&self, pid: u32) -> bool {
        let Some(member) = self.members.get(&pid) else { return false };
        let (Some(own), Some(parent)) = (&member.runs, self.runs(member.parent)) else { return false };
        own.looks.since.elapsed() < ABOUT_TO_EXECUTE
            && own.file == parent.file
            && own.image.stack == parent.image.stack
    }

    fn look_at(&mut self, pid: u32) {
        let is_clone = self.is_clone(pid);
        let Some(runs) = self.members.get_mut(&pid).and_then(|member| member.runs.as_mut()) else { return };
        runs.is_clone = is_clone;
        if is_clone {
            return;
        }
        let subject = match &runs.seen {
            Some(seen) => Ok(seen.subject.clone()),
            None => self.binaries.subject(pid),
        };
        let begin = Instant::now();
        let seen = subject.and_then(|subject| Ok(Seen::at(subject, runs.seen.as_mut())?));
        match seen {
            Ok(seen) => {
                if runs.seen.is_none() {
                    // The exec may not have been over yet when the image was noted, but whose goroutines were seen runs.
                    if let Some(image) =
                        process::image(pid).filter(|now| now.start_ticks == runs.image.start_ticks)
                    {
                        runs.image = image;
                    }
                    self.untraced.remove(&pid);
                    self.untraced.extend(seen::others(&seen.subject).map(|other| (pid, other)));
                }
                let is_first = runs.seen.is_none();
                runs.seen = Some(if is_first { seen.with_later_begins() } else { seen });
                runs.looks.took(begin.elapsed());
                runs.glances.rest();
            }
            Err(error) => {
                runs.looks.next = Instant::now() + AGAIN * (1 << runs.failures.min(8));
                runs.failures += 1;
                if is_lasting(&error) {
                    self.refuse(describe::unsupported(pid, &error));
                }
            }
        }
    }
}

/// Whether another attempt would fail for the same reason, so that it is worth to be told.
fn is_lasting(error: &TargetError) -> bool {
    let of_binary = matches!(error, TargetError::Go(_) | TargetError::Unverified { .. });
    error.is_permission() || of_binary && !error.is_not_go()
}

impl Member {
    fn seen(&self) -> Option<&Seen> {
        self.runs.as_ref()?.seen.as_ref()
    }
}

impl Runs {
    fn glance(&mut self) {
        let Some(seen) = &mut self.seen else { return self.glances.rest() };
        let begin = Instant::now();
        seen.glance();
        self.glances.took(begin.elapsed());
    }
}

impl Turns {
    fn from(now: Instant) -> Turns {
        Turns { since: now, spent: Duration::ZERO, next: now }
    }

    /// Takes note of what the last turn has cost.
    fn took(&mut self, took: Duration) {
        self.spent += took;
        self.rest();
    }

    /// Waits for the next turn from now on.
    fn rest(&mut self) {
        let age = self.since.elapsed();
        let (shortest, longest) = GAPS;
        let worth = self.spent.saturating_sub(CREDIT) * BUDGET;
        let pause = (age / BUDGET).clamp(shortest, longest).max(worth.saturating_sub(age));
        self.next = Instant::now() + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_cost_is_a_hundredth_of_the_time() {
        let turns = |age_s: u64, spent_ms: u64| {
            let since =
                Instant::now().checked_sub(Duration::from_secs(age_s)).expect("the machine runs longer");
            let mut turns = Turns { since, spent: Duration::ZERO, next: since };
            turns.took(Duration::from_millis(spent_ms));
            turns.next.duration_since(since + Duration::from_secs(age_s)).as_millis()
        };
        let near =
            |is: u128, expected: u128| assert!((expected..expected + 90).contains(&is), "{is} {expected}");
        near(turns(0, 40), 100);
        near(turns(30, 40), 300);
        near(turns(600, 40), 1_000);
        near(turns(1, 100), 4_000);
        near(turns(0, 1_050), 100_000);
    }
}
