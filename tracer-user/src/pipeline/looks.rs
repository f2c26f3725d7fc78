//! Looks at the memory of the traced processes: at attach, now and then, and at the end. They run on threads of their own
//! while records go on arriving.

use super::*;

/// How soon after records were lost the runtime's own list is compared with what the probes have seen.
const AFTER_LOSS: Duration = Duration::from_secs(3);

/// A window that is not longer has one look between the first and the last.
const SHORT: Duration = Duration::from_secs(60);
/// Looks take at most this part of the time,
const BUDGET: u32 = 100;
/// or, in a short window, the one between the first and the last of the time since.
const BUDGET_ONCE: u32 = 10;

/// When the runtime's own list is compared with what the probes have seen. Soon after the start, too: what has not moved
/// between two looks is evidence, and a leak may begin after the first.
pub(super) struct Rhythm {
    window: Option<Duration>,
    done: u32,
    last: Instant,
    urgent: bool,
    /// When to look next.
    pub(super) next: Instant,
}

impl Rhythm {
    /// For a window that begins now.
    pub(super) fn new(window: Option<Duration>) -> Rhythm {
        let now = Instant::now();
        let mut rhythm = Rhythm { window, done: 0, last: now, urgent: false, next: now };
        rhythm.next += rhythm.gap();
        rhythm
    }

    fn gap(&self) -> Duration {
        match (self.done, self.window) {
            (0, Some(window)) if window <= SHORT => window / 3,
            (0, _) => Duration::from_secs(5),
            (1, window) if window.is_none_or(|window| window > SHORT) => Duration::from_secs(10),
            _ => Duration::from_secs(60),
        }
    }

    /// Whether to look now that it is time, where the last round took so long. If not, that is put off.
    pub(super) fn is_due(&mut self, took: Duration) -> bool {
        let now = Instant::now();
        let once = self.done == 0 && self.window.is_some_and(|window| window <= SHORT);
        let affordable = self.last + took * if once { BUDGET_ONCE } else { BUDGET };
        if now < affordable && !self.urgent {
            self.next = affordable;
            return false;
        }
        self.urgent = false;
        self.done += 1;
        self.last = now;
        self.next = now + self.gap();
        true
    }

    /// Records were lost: what they would have said is in the process's memory, whatever it costs to look.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
        self.next = Instant::now() + AFTER_LOSS;
    }
}

/// The goroutines that a process had when somebody looked.
pub(super) struct Scan {
    pub(super) traced: Arc<Traced>,
    pub(super) purpose: Purpose,
    pub(super) found: Result<Look, inspect::WalkError>,
}

/// What a look at a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its goroutines existed before its probes.
    Adopt,
    /// What the probes have seen is compared with what there is.
    Reconcile,
}

impl Pipeline {
    pub(super) fn take_scan(&mut self, scan: Scan) {
        let pid = scan.traced.subject.process.pid;
        self.looking -= 1;
        // What was sent before the look ended comes first: it may say that this was the last of that image.
        self.drain_all();
        if self.session.current(pid).is_none_or(|current| !current.is(&scan.traced)) {
            // Another image or another process by now.
            return;
        }
        match scan.found {
            Ok(look) => {
                self.looks_took += look.findings.took;
                let bias = scan.traced.subject.bias;
                let code = |address: u64| if address == 0 { 0 } else { address.wrapping_add(bias) };
                let snapshot = &look.snapshot;
                // What the runtime makes for threads of C comes and goes without a probe's notice.
                let sited = snapshot.goroutines.iter().map(|goroutine| (goroutine, snapshot.site(goroutine)));
                let created = sited.filter(|(_, site)| site.gopc != 0);
                let existing = created.map(|(goroutine, site)| Existing {
                    g: goroutine.address,
                    goid: goroutine.goid,
                    parent: goroutine.parent,
                    gopc: code(site.gopc),
                    startpc: code(site.startpc),
                });
                // A list that is not whole says nothing of those that are not on it.
                if scan.purpose == Purpose::Reconcile && snapshot.cut_short.is_none() {
                    self.tracker.reconcile(pid, existing, now_ns());
                } else {
                    self.tracker.adopt(pid, existing, now_ns());
                }
                if snapshot.cut_short.is_some() {
                    let (found, listed) = (snapshot.goroutines.len(), snapshot.listed);
                    self.session.warn(format!(
                        "process {pid} has too many goroutines to look at all of them in {} s: {found} of the {listed} that its runtime keeps",
                        MOST_TIME.as_secs()
                    ));
                }
                if let Some(id) = self.tracker.current_instance(pid) {
                    self.session.bind(&mut self.tracker);
                    self.session.looked(id, look.findings);
                }
            }
            Err(error) => {
                let what = match scan.purpose {
                    Purpose::Adopt => "goroutines from before tracing are not shown",
                    Purpose::Reconcile => "what goroutines wait for is not shown",
                };
                self.session.warn(format!("{what}: {error}"));
            }
        }
        self.print_warnings();
    }

    /// Looks at all processes, one after the other, on a thread of its own.
    pub(super) fn look_at_all(&mut self) {
        let mut jobs = Vec::new();
        self.session.find_plugins();
        let processes: Vec<_> = self.session.processes().cloned().collect();
        for traced in processes {
            let pid = traced.subject.process.pid;
            self.tracker.begin_scan(pid, now_ns());
            let before = self.tracker.current_instance(pid).and_then(|id| self.session.last_places(id));
            jobs.push((traced, before));
        }
        self.looking += jobs.len();
        self.looks_took = Duration::ZERO;
        let scans = self.scans.clone();
        tokio::task::spawn_blocking(move || {
            let deadline = std::time::Instant::now() + MOST_TIME;
            for (traced, before) in jobs {
                let found = Look::settled(&traced.subject, before.as_deref(), deadline);
                if scans.send(Scan { traced, purpose: Purpose::Reconcile, found }).is_err() {
                    break;
                }
            }
        });
    }

    /// The last look, at the end of the window; the ring is read meanwhile. Looks at the same process do not overlap.
    pub(super) async fn last_look(&mut self, scanned: &mut mpsc::UnboundedReceiver<Scan>) {
        self.end_looks(scanned).await;
        self.look_at_all();
        self.end_looks(scanned).await;
    }

    /// Waits for those that are under way.
    async fn end_looks(&mut self, scanned: &mut mpsc::UnboundedReceiver<Scan>) {
        let deadline = Instant::now() + 2 * MOST_TIME;
        while self.looking > 0 {
            tokio::select! {
                Some(scan) = scanned.recv() => self.take_scan(scan),
                ready = self.ring.ready() => ready,
                () = sleep_until(deadline) => {
                    self.session.warn("looking at the processes takes too long: what goroutines wait for is not shown for all".into());
                    break;
                }
            }
            self.drain_all();
        }
        self.print_warnings();
    }
}
