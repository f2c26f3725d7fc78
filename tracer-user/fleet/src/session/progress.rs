//! What a scan costs, said before it begins where that is much, and how far it is.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use golife::human;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

/// Less than this is read at once.
const MUCH_BYTES: u64 = 64 << 20;
/// Fewer files than this are read at once.
const MANY_FILES: u64 = 2_000;
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// What a scan reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
}

impl Scan {
    fn is_long(&self) -> bool {
        self.bytes >= MUCH_BYTES || self.files >= MANY_FILES
    }
}

/// Says on standard error what a long scan will read.
pub fn say_cost(scan: &Scan) {
    if scan.is_long() {
        eprintln!(
            "note: reads at most {} files, {}, {} rows",
            human::count(scan.files),
            human::bytes(scan.bytes),
            human::count(scan.rows)
        );
    }
}

/// A bar that goes when this does.
#[derive(Debug)]
pub struct Watch {
    task: JoinHandle<()>,
    bar: ProgressBar,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// Shows on standard error how many rows of a long scan have been read.
pub fn watch(plan: Arc<dyn ExecutionPlan>, scan: Scan) -> Option<Watch> {
    if !scan.is_long() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(scan.rows), ProgressDrawTarget::stderr());
    // The library sums some 25 numbers of each file to say how far it is, which is not done for nobody, nor too often.
    if bar.is_hidden() {
        return None;
    }
    let tick = TICK + Duration::from_millis(scan.files / 20);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} rows, {eta} left") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(tick).await;
            shown.set_position(rows_read(plan.as_ref()));
        }
    });
    Some(Watch { task, bar })
}

/// Rows that the leaves of a plan have given.
fn rows_read(plan: &dyn ExecutionPlan) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        return plan.metrics().and_then(|metrics| metrics.output_rows()).unwrap_or(0) as u64;
    }
    children.into_iter().map(|child| rows_read(child.as_ref())).sum()
}
