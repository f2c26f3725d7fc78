//! Looks at the memory of the traced processes: at attach, now and then, and at the end. They run on threads of their
//! own while records go on arriving.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::Tracer;
use super::known::Traced;
use super::notices::Notice;
use super::rhythm::Rhythm;
use super::round::round;
use crate::event::Event;
use crate::host::clock::now_ns;
use crate::host::{keeper, priority};
use crate::inspect::{Cut, Places, WalkError};
use crate::look::{Look, MOST_TIME};
use crate::tracker::Existing;

/// How long golife waits before it compares the runtime's list of goroutines with its own. A goroutine whose end was
/// recorded stays on the runtime's list until its thread has run a few more instructions, and that thread may just have
/// lost its CPU.
const SETTLE: Duration = Duration::from_millis(50);

/// What a look into a process has found.
pub(super) struct Scanned {
    traced: Arc<Traced>,
    purpose: Purpose,
    /// None where its turn did not come in time.
    found: Option<Result<Look, WalkError>>,
}

/// A process that is to be looked at again.
struct Due {
    traced: Arc<Traced>,
    /// Where its goroutines were when it was last looked at; `None` if it has not been.
    before: Option<Arc<Places>>,
}

/// What a look at a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To take over the goroutines that existed before the probes were in place.
    Adopt,
    /// To compare what the probes have seen with the goroutines that there are.
    Reconcile,
    /// To know what they wait for, in case the process ends before the next look.
    Glance,
    /// To read the memory that a process has left.
    AtEnd,
}

/// Looks that are under way, and when the next are due.
pub(super) struct Looks {
    pub(super) rhythm: Rhythm,
    done: UnboundedSender<Scanned>,
    pub(super) scanned: UnboundedReceiver<Scanned>,
    /// How many processes are being looked at, or wait for it.
    pub(super) open: usize,
    /// How long the last round of looks took.
    took: Duration,
    /// How many processes were not looked at, or not whole, because the time of the round was over.
    unreached: usize,
    /// The ends of processes that are being looked at for the last time.
    ends: HashMap<u32, Event>,
    /// Who looks at them, where there can be such.
    at_end: Option<std::sync::mpsc::Sender<Due>>,
}

impl Looks {
    /// The looks of a window that begins now.
    pub(super) fn new(window: Option<Duration>) -> Looks {
        let (done, scanned) = unbounded_channel();
        Looks {
            rhythm: Rhythm::new(window),
            done,
            scanned,
            open: 0,
            took: Duration::ZERO,
            unreached: 0,
            ends: HashMap::new(),
            at_end: None,
        }
    }

    /// Whether to look at all processes now. If not, the look is put off, since looks would take too much of the time.
    pub(super) fn is_due(&mut self) -> bool {
        self.rhythm.is_due(self.took)
    }

    /// Looks at the goroutines that a process had before its probes were in place.
    fn adopt(&mut self, traced: Arc<Traced>) {
        self.open += 1;
        let done = self.done.clone();
        tokio::task::spawn_blocking(move || {
            let found = Some(Look::at(&traced.subject, None, std::time::Instant::now() + MOST_TIME));
            // This fails if the engine is gone, and then nobody needs the result.
            let _ = done.send(Scanned { traced, purpose: Purpose::Adopt, found });
        });
    }

    /// Starts the thread that looks at what processes leave. It is there from the start, since a new one would have to wait
    /// for a CPU first.
    pub(super) fn expect_ends(&mut self) {
        let (at_end, due) = std::sync::mpsc::channel::<Due>();
        let done = self.done.clone();
        let work = move || {
            priority::insist();
            for Due { traced, before } in due {
                let deadline = std::time::Instant::now() + keeper::LONGEST;
                let found = Some(Look::at(&traced.subject, before.as_deref(), deadline));
                if done.send(Scanned { traced, purpose: Purpose::AtEnd, found }).is_err() {
                    break;
                }
            }
        };
        self.at_end =
            std::thread::Builder::new().name("last-look".into()).spawn(work).is_ok().then_some(at_end);
    }

    /// Looks at what a process has left. Returns whether there is somebody to do so.
    fn look_at_end(&mut self, due: Due) -> bool {
        let is_due = self.at_end.as_ref().is_some_and(|at_end| at_end.send(due).is_ok());
        self.open += usize::from(is_due);
        is_due
    }

    /// Looks at the processes; to compare the lists of the runtimes with what the probes have seen, after a moment.
    fn round(&mut self, processes: Vec<Due>, purpose: Purpose) {
        self.open += processes.len();
        self.took = Duration::ZERO;
        let done = self.done.clone();
        tokio::task::spawn_blocking(move || {
            if purpose == Purpose::Reconcile {
                std::thread::sleep(SETTLE);
            }
            let deadline = std::time::Instant::now() + MOST_TIME;
            let look = |due: &Due| Look::at(&due.traced.subject, due.before.as_deref(), deadline);
            round(processes, deadline, look, |Due { traced, .. }, found| {
                done.send(Scanned { traced, purpose, found }).is_ok()
            });
        });
    }
}

impl Tracer {
    /// Reads the goroutines that a process had before its probes were in place.
    pub(super) fn look_at_existing(&mut self, traced: Arc<Traced>) {
        self.tracker.begin_scan(traced.subject.process.pid, now_ns());
        self.looks.adopt(traced);
    }

    /// Looks at all processes.
    pub(super) fn look_at_all(&mut self) {
        self.session.find_plugins();
        let mut processes = Vec::new();
        for traced in self.session.processes().cloned().collect::<Vec<_>>() {
            self.tracker.begin_scan(traced.subject.process.pid, now_ns());
            processes.push(self.due(traced));
        }
        // A round takes a moment in which nothing happens, and golife would wait for it at its end.
        if !processes.is_empty() {
            self.looks.round(processes, Purpose::Reconcile);
        }
    }

    /// Glances at all processes that may end without leaving their memory.
    pub(super) fn glance_at_all(&mut self) {
        self.looks.rhythm.glanced();
        let is_held = |traced: &&Arc<Traced>| self.session.holds.of(traced.subject.process.pid).is_some();
        let processes: Vec<_> = self.session.processes().filter(|traced| !is_held(traced)).cloned().collect();
        if !processes.is_empty() {
            let processes = processes.into_iter().map(|traced| self.due(traced)).collect();
            self.looks.round(processes, Purpose::Glance);
        }
    }

    /// Looks at the memory that a process has left.
    pub(super) fn look_at_end(&mut self, end: &Event) {
        let Some(traced) = self.session.current(end.pid).cloned() else { return self.end_held(end) };
        self.tracker.begin_scan(end.pid, end.time_ns);
        match self.looks.look_at_end(self.due(traced)) {
            true => _ = self.looks.ends.insert(end.pid, *end),
            false => self.end_held(end),
        }
    }

    fn due(&self, traced: Arc<Traced>) -> Due {
        let instance = self.tracker.current_instance(traced.subject.process.pid);
        Due { before: instance.and_then(|id| self.session.last_places(id)), traced }
    }

    /// Takes in what a look has found.
    pub(super) fn take_scanned(&mut self, Scanned { traced, purpose, found }: Scanned) {
        let pid = traced.subject.process.pid;
        self.looks.open -= 1;
        // Records that were sent before the look ended come first, since they may say that the process has ended or
        // executes something else.
        self.drain_all();
        if self.session.current(pid).is_none_or(|current| !current.is(&traced)) {
            // The pid belongs to another image or another process by now, so what was found is out of date.
            return;
        }
        match (found, purpose) {
            (Some(Ok(look)), _) => self.take_look(&traced, purpose, look),
            // The process has ended meanwhile, or its memory had to be let go.
            (_, Purpose::Glance | Purpose::AtEnd) => {}
            (None, _) => {
                self.looks.unreached += 1;
                self.say_unreached();
            }
            (Some(Err(error)), Purpose::Adopt) => self.session.say(Notice::NotAdopted(error.to_string())),
            (Some(Err(error)), Purpose::Reconcile) => {
                self.session.say(Notice::NotLooked(error.to_string()));
            }
        }
        if purpose == Purpose::AtEnd
            && let Some(end) = self.looks.ends.remove(&pid)
        {
            self.end_held(&end);
        }
    }

    fn take_look(&mut self, traced: &Traced, purpose: Purpose, look: Look) {
        let pid = traced.subject.process.pid;
        if purpose != Purpose::AtEnd {
            self.looks.took += look.findings.took;
            self.looks.rhythm.put_off_glance(self.looks.took);
        }
        self.see_parked(traced, &look);
        if purpose == Purpose::Glance {
            if let Some(id) = self.tracker.current_instance(pid) {
                self.session.glanced(id, look.findings);
            }
            return;
        }
        let bias = traced.subject.bias;
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_add(bias) };
        let snapshot = &look.snapshot;
        // Goroutines that the runtime makes for threads of C have no `go` statement, and the probes do not see them
        // come and go.
        let sited = snapshot.goroutines.iter().map(|goroutine| (goroutine, snapshot.site(goroutine)));
        let created = sited.filter(|(_, site)| site.gopc != 0);
        let existing = created.map(|(goroutine, site)| Existing {
            g: goroutine.address,
            goid: goroutine.goid,
            parent: goroutine.parent,
            gopc: code(site.gopc),
            startpc: code(site.startpc),
        });
        let now_ns = self.looks.ends.get(&pid).map_or_else(now_ns, |end| end.time_ns);
        // An incomplete list says nothing about goroutines that are not on it.
        if purpose != Purpose::Adopt && snapshot.cut_short.is_none() {
            self.tracker.reconcile(pid, existing, now_ns);
        } else {
            self.tracker.adopt(pid, existing, now_ns);
        }
        // Where others of the round have taken the time, it is no fault of this process.
        if snapshot.cut_short == Some(Cut::Time) && look.findings.took < MOST_TIME / 2 {
            self.looks.unreached += 1;
        } else if snapshot.cut_short.is_some() {
            let (found, listed) = (snapshot.goroutines.len() as u64, snapshot.listed);
            self.session.say(Notice::TooManyGoroutines { pid, found, listed });
        }
        if let Some(id) = self.tracker.current_instance(pid) {
            self.session.bind(&mut self.tracker);
            let instance = self.tracker.instance(id);
            let calls = look.seen.by(|goid| instance?.lineage(goid));
            self.session.looked(id, look.findings, calls);
        }
        self.say_unreached();
    }

    /// Takes note of what goroutines are doing that tests may have left behind.
    fn see_parked(&mut self, traced: &Traced, look: &Look) {
        let pid = traced.subject.process.pid;
        let Some(id) = self.tracker.current_instance(pid) else { return };
        let Some(instance) = self.tracker.instance(id).filter(|instance| instance.test_runs().is_some())
        else {
            return;
        };
        let left = instance.descendants(now_ns()).into_iter().filter(|one| one.outlived_ns.is_some());
        let parked = look.parked(traced.binary(), left.map(|one| one.goid));
        self.session.saw_parked(id, parked);
    }

    /// Says at the end of a round how many processes it could not look at.
    fn say_unreached(&mut self) {
        if self.looks.open == 0 && self.looks.unreached > 0 {
            let processes = std::mem::take(&mut self.looks.unreached);
            self.session.say(Notice::NotReached { processes });
        }
    }

    /// Takes the last look at the end of the window, and reads the ring meanwhile. It begins when earlier looks have
    /// ended, so that looks at the same process do not overlap.
    pub(super) async fn last_look(&mut self) {
        while let Ok(scanned) = self.looks.scanned.try_recv() {
            self.take_scanned(scanned);
        }
        self.drain_all();
        self.end_looks().await;
        self.look_at_all();
        self.end_looks().await;
    }

    /// Waits for the looks that are under way, with a limit.
    async fn end_looks(&mut self) {
        let deadline = Instant::now() + 2 * MOST_TIME;
        while self.looks.open > 0 {
            tokio::select! {
                Some(scanned) = self.looks.scanned.recv() => self.take_scanned(scanned),
                () = self.ring.ready() => {}
                () = sleep_until(deadline) => {
                    self.session.say(Notice::LooksTooSlow);
                    break;
                }
            }
            self.drain_all();
        }
    }
}
