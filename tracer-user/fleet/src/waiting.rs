//! What takes long says so: after some seconds, and then ever more rarely, so that a log stays short and nobody takes waiting for
//! hanging.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use golife::human;
use tokio::task::JoinHandle;

/// After how long something is said. Each time it takes twice as long.
const FIRST: Duration = Duration::from_secs(5);

/// Says what goes on, until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    task: JoinHandle<()>,
    done: Arc<AtomicU64>,
}

impl Waiting {
    /// Something begins, of which so many `things` will have been done. It must be called within a runtime.
    pub fn begin(what: String, things: &'static str) -> Waiting {
        let done: Arc<AtomicU64> = Arc::default();
        let so_far = done.clone();
        let task = tokio::spawn(async move {
            let mut pause = FIRST;
            loop {
                tokio::time::sleep(pause).await;
                let count = human::count(so_far.load(Ordering::Relaxed));
                let what = human::clean(&what);
                // Nobody may be there to read it.
                let _ = writeln!(std::io::stderr(), "note: {what}: {count} {things} so far");
                pause *= 2;
            }
        });
        Waiting { task, done }
    }

    /// So many more are done.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}
