//! What there is in place of a [`super::Tracer`] where there are no probes: a thread that looks at a process and what it
//! starts, again and again.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Command, Ending, Happened, Notice, TraceError};
use crate::go::BuildInfo;
use crate::look::family::Family;
use crate::report::{Report, Selection};
use crate::targets::Children;
use crate::verdict::cause::Patterns;

/// Looks at a family of processes. Dropping this ends it.
pub struct Scanner {
    family: Arc<Mutex<Family>>,
    thread: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    ticks: Interval,
    notices: VecDeque<Notice>,
}

impl Scanner {
    /// Begins to look at a process, which need not have executed its program yet.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(
        root: u32,
        program: &Path,
        children: Children,
        patterns: Patterns,
        interval: Duration,
    ) -> Result<Scanner, TraceError> {
        let mut family = Family::of(root, children, patterns);
        family.read_program(program);
        let family = Arc::new(Mutex::new(family));
        let is_over = Arc::new(AtomicBool::new(false));
        let work = {
            let (family, is_over) = (family.clone(), is_over.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    let pause = locked(&family).step();
                    std::thread::park_timeout(pause);
                }
            }
        };
        let thread = std::thread::Builder::new().name("looks".into()).spawn(work);
        let thread = thread.map_err(|source| TraceError::System { what: "start a thread", source })?;
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Scanner { family, thread: Some(thread), is_over, ticks, notices: VecDeque::new() })
    }

    /// Adds a notice.
    pub(super) fn say(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    pub(super) async fn next(&mut self) -> Happened {
        if let Some(notice) = self.notices.pop_front() {
            return Happened::Notice(notice);
        }
        self.ticks.tick().await;
        Happened::Interval
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }

    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Look => locked(&self.family).look_at_all(),
            Command::CountCpuTime => {}
        }
    }

    pub(super) fn report(&self, selection: &Selection) -> Report {
        locked(&self.family).report(selection)
    }

    /// Looks for the last time at what still runs.
    pub(super) fn stop(mut self, selection: &Selection) -> Ending {
        self.end();
        let mut family = locked(&self.family);
        family.look_at_all();
        let (report, processes) = (family.report(selection), family.denied());
        let test_binaries = family.test_binaries();
        drop(family);
        if processes > 0 {
            self.say(Notice::Denied { processes });
        }
        Ending { report, test_binaries, notices: self.take_notices() }
    }

    pub(super) fn process_count(&self) -> usize {
        locked(&self.family).living()
    }

    pub(super) fn builds(&self) -> Vec<BuildInfo> {
        locked(&self.family).builds()
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Where it has panicked, that is on standard error already.
            let _ = thread.join();
        }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.end();
    }
}

fn locked(family: &Mutex<Family>) -> MutexGuard<'_, Family> {
    family.lock().unwrap_or_else(PoisonError::into_inner)
}
