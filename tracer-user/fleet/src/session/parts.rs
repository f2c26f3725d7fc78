//! The table `parts`: what can be summed, from roll-ups for hours that have one and from sweeps for all else. Each sweep is in it
//! once.

use std::collections::HashSet;
use std::sync::Arc;

use super::Session;
use super::progress::Scan;
use super::sites::Sites;
use crate::listing::SweepObject;
use crate::rollup::choice::{self, Choice};

/// The table of the sweeps in the window that no roll-up stands for.
pub const REST: &str = "rest";
/// The table of the roll-ups that are read in the place of sweeps. It is there only if there are any.
pub const ROLLUPS: &str = "rollups";
/// The table of both, which has in common what can be summed.
pub const PARTS: &str = "parts";

/// The columns of [`PARTS`], and what they are of a sweep; of a roll-up each is the column of that name.
const COLUMNS: [(&str, &str); 17] = [
    ("service", "service"),
    ("module", "module"),
    ("function", "function"),
    ("ordinal", "ordinal"),
    ("entry", "entry"),
    ("version", "version"),
    ("first_sweep", "sweep_time"),
    ("sweeps", "CAST(1 AS BIGINT)"),
    ("created", "created"),
    ("live", "live"),
    ("stack_bytes", "stack_bytes"),
    ("stack_sweeps", "CAST(CASE WHEN stack_bytes IS NULL THEN 0 ELSE 1 END AS BIGINT)"),
    ("window_ns", "window_ns"),
    ("lifetime", "lifetime"),
    ("lifetime_count", "lifetime_count"),
    ("lifetime_sum_s", "lifetime_sum_s"),
    ("incomplete", "CAST(CASE WHEN counts = 'incomplete' THEN 1 ELSE 0 END AS BIGINT)"),
];

impl Session {
    /// Chooses among roll-ups that can be read, and makes the tables.
    pub(super) async fn arrange(&self) -> anyhow::Result<()> {
        let mut choice = self.choose().await?;
        let files = std::mem::take(&mut choice.rest);
        let rest = self.sites.with(files);
        let rolled = self.rollups.with(choice.rollups.clone());
        self.register(REST, rest.clone()).await?;
        let of_sweeps = COLUMNS.map(|(name, of_sweep)| format!("{of_sweep} AS {name}")).join(", ");
        let mut sql = format!("SELECT {of_sweeps} FROM {REST}");
        self.context.deregister_table(ROLLUPS)?;
        if !choice.rollups.is_empty() {
            self.context.register_table(ROLLUPS, rolled.clone())?;
            sql += &format!(" UNION ALL SELECT {} FROM {ROLLUPS}", COLUMNS.map(|(name, _)| name).join(", "));
        }
        let table = self.context.sql(&sql).await?;
        self.context.deregister_table(PARTS)?;
        self.context.register_table(PARTS, table.into_view())?;
        *self.parts.lock().unwrap_or_else(|broken| broken.into_inner()) = (choice, vec![rest, rolled]);
        Ok(())
    }

    async fn choose(&self) -> anyhow::Result<Choice> {
        let (files, rollups) = (self.sites.files(), self.rollups.files());
        if rollups.is_empty() {
            return Ok(Choice { rest: files.to_vec(), ..Choice::default() });
        }
        let runtime = self.context.runtime_env();
        let rollups = self.rollups_of(rollups.to_vec()).await?;
        let hours: HashSet<i64> = rollups.iter().map(|rollup| rollup.hour).collect();
        let compacted = files.iter().filter(|file| !file.is_raw() && hours.contains(&file.hour)).cloned();
        let compacted = self.sites.with_footers(&runtime, compacted.collect()).await?;
        Ok(choice::choose(files, &compacted, &rollups))
    }

    /// All roll-ups of hours that are in the window.
    pub fn rollups(&self) -> &[SweepObject] {
        self.rollups.files()
    }

    /// Which roll-ups are read.
    pub fn choice(&self) -> Choice {
        self.parts.lock().unwrap_or_else(|broken| broken.into_inner()).0.clone()
    }

    /// The hosts of each roll-up that is read, by the start of its hour in ms since 1970.
    ///
    /// # Errors
    /// The store does not answer, or one does not say its hosts.
    pub async fn rolled_hosts(&self) -> anyhow::Result<Vec<(i64, Vec<String>)>> {
        let rollups = self.rollups_of(self.choice().rollups).await?;
        let hosts = rollups.iter().map(|rollup| {
            let names = rollup.footer.get().and_then(|footer| footer.hosts.as_deref()).unwrap_or_default();
            let names = serde_json::from_str(names)
                .map_err(|_| anyhow::anyhow!("{} does not say its hosts", rollup.path()))?;
            Ok((rollup.hour, names))
        });
        hosts.collect()
    }

    /// Those of these roll-ups that can be read, with their footers.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn rollups_of(&self, files: Vec<SweepObject>) -> anyhow::Result<Vec<SweepObject>> {
        Ok(self.rollups.with_footers(&self.context.runtime_env(), files).await?)
    }

    /// The tables that a query may read.
    pub(super) fn tables(&self) -> impl Iterator<Item = Arc<Sites>> {
        let parts = self.parts.lock().unwrap_or_else(|broken| broken.into_inner()).1.clone();
        std::iter::once(self.sites.clone()).chain(parts)
    }

    /// What the query reads that was planned last.
    pub(super) fn last_scan(&self) -> Scan {
        self.tables().map(|table| table.last_scan()).fold(Scan::default(), |sum, scan| Scan {
            files: sum.files + scan.files,
            bytes: sum.bytes + scan.bytes,
            rows: sum.rows + scan.rows,
        })
    }

    /// Reads all of the files that the last query read, and leaves out those that cannot be read to their end. Returns how many.
    pub(super) async fn leave_out_broken(&self) -> anyhow::Result<usize> {
        let mut broken = 0;
        for table in self.tables() {
            broken += table.look_for_broken(&self.context).await;
        }
        if broken > 0 {
            // A roll-up that is left out no longer stands for its sweeps.
            self.arrange().await?;
        }
        Ok(broken)
    }
}
