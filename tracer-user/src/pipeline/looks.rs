//! Looks at the memory of the traced processes: at attach, now and then, and at the end. They run on threads of their own
//! while records go on arriving.

use super::*;

/// How often the runtime's own list is compared with what the probes have seen.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_secs(60);

/// How soon after records were lost.
pub(super) const AFTER_LOSS: Duration = Duration::from_secs(3);

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
        self.looking -= usize::from(scan.purpose == Purpose::Reconcile);
        if self.session.current(pid).is_none_or(|current| !Arc::ptr_eq(current, &scan.traced)) {
            // Another image or another process by now.
            return;
        }
        match scan.found {
            Ok(look) => {
                self.drain_all();
                let bias = scan.traced.subject.bias;
                let code = |address: u64| if address == 0 { 0 } else { address.wrapping_add(bias) };
                let snapshot = &look.snapshot;
                // What the runtime makes for threads of C comes and goes without a probe's notice.
                let created = snapshot.goroutines.iter().filter(|goroutine| goroutine.gopc != 0);
                let existing = created.map(|goroutine| Existing {
                    g: goroutine.address,
                    goid: goroutine.goid,
                    parent: goroutine.parent.unwrap_or(0),
                    gopc: code(goroutine.gopc),
                    startpc: code(goroutine.startpc),
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
                    self.session.looked(id, look);
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
        let processes: Vec<_> = self.session.processes().cloned().collect();
        for traced in processes {
            let pid = traced.subject.process.pid;
            self.tracker.begin_scan(pid, now_ns());
            let first = self.tracker.current_instance(pid).and_then(|id| self.session.first_places(id));
            jobs.push((traced, first));
        }
        self.looking += jobs.len();
        let scans = self.scans.clone();
        tokio::task::spawn_blocking(move || {
            let deadline = std::time::Instant::now() + MOST_TIME;
            for (traced, first) in jobs {
                let found = Look::settled(&traced.subject, first.as_deref(), deadline);
                if scans.send(Scan { traced, purpose: Purpose::Reconcile, found }).is_err() {
                    break;
                }
            }
        });
    }

    /// The last look, at the end of the window; the ring is read meanwhile.
    pub(super) async fn last_look(&mut self, scanned: &mut mpsc::UnboundedReceiver<Scan>) {
        self.look_at_all();
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
