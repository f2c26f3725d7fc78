//! Looks at the memory of the traced processes: at attach, now and then, and at the end. They run on threads of their
//! own while records go on arriving.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::Tracer;
use super::notices::Notice;
use super::rhythm::Rhythm;
use super::round::round;
use super::session::Traced;
use crate::host::clock::now_ns;
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
}

impl Looks {
    /// The looks of a window that begins now.
    pub(super) fn new(window: Option<Duration>) -> Looks {
        let (done, scanned) = unbounded_channel();
        Looks { rhythm: Rhythm::new(window), done, scanned, open: 0, took: Duration::ZERO, unreached: 0 }
    }

    /// Whether to look at all processes now. If not, the look is put off, since looks would take too much of the time.
    pub(super) fn is_due(&mut self) -> bool {
        self.rhythm.is_due(self.took)
    }

    fn adopt(&mut self, traced: Arc<Traced>) {
        self.open += 1;
        let done = self.done.clone();
        tokio::task::spawn_blocking(move || {
            let found = Some(Look::at(&traced.subject, None, std::time::Instant::now() + MOST_TIME));
            // This fails if the engine is gone, and then nobody needs the result.
            let _ = done.send(Scanned { traced, purpose: Purpose::Adopt, found });
        });
    }

    /// Looks at the processes after a moment, so that the lists of the runtimes can be compared with what the probes have
    /// seen.
    fn reconcile(&mut self, processes: Vec<Due>) {
        self.open += processes.len();
        self.took = Duration::ZERO;
        let done = self.done.clone();
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(SETTLE);
            let deadline = std::time::Instant::now() + MOST_TIME;
            let look = |due: &Due| Look::at(&due.traced.subject, due.before.as_deref(), deadline);
            round(processes, deadline, look, |Due { traced, .. }, found| {
                done.send(Scanned { traced, purpose: Purpose::Reconcile, found }).is_ok()
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
            let pid = traced.subject.process.pid;
            self.tracker.begin_scan(pid, now_ns());
            let before = self.tracker.current_instance(pid).and_then(|id| self.session.last_places(id));
            processes.push(Due { traced, before });
        }
        self.looks.reconcile(processes);
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
        let Some(found) = found else {
            self.looks.unreached += 1;
            return self.say_unreached();
        };
        let look = match (found, purpose) {
            (Ok(look), _) => look,
            (Err(error), Purpose::Adopt) => return self.session.say(Notice::NotAdopted(error.to_string())),
            (Err(error), Purpose::Reconcile) => {
                return self.session.say(Notice::NotLooked(error.to_string()));
            }
        };
        self.looks.took += look.findings.took;
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
        // An incomplete list says nothing about goroutines that are not on it.
        if purpose == Purpose::Reconcile && snapshot.cut_short.is_none() {
            self.tracker.reconcile(pid, existing, now_ns());
        } else {
            self.tracker.adopt(pid, existing, now_ns());
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
