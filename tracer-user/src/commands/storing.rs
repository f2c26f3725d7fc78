//! What golife keeps in a store: sweep files of what was found, for `golife fleet`.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::arguments::{Naming, Storing};
use super::{note, say};
use crate::human::{clean, count, plural};
use crate::report::{Report, Selection};
use crate::store::rows::rows;
use crate::store::spool::Spool;
use crate::store::{Delivered, Location, Place, StoreError, SweepFile, Writer};

/// Where what is found is kept.
struct Store {
    writer: Writer,
    host: Option<String>,
    with_hdr: bool,
}

/// The sweep was not stored, and waits.
#[derive(Debug, thiserror::Error)]
#[error("the sweep waits in {spool} for the next golife with this --to: {why}")]
struct Waits {
    why: String,
    spool: String,
}

impl Store {
    /// Opens the store that the user wants, if any, before anything is looked at: a wrong address costs nothing.
    ///
    /// # Errors
    /// The address is none, or holds what looks like a secret.
    fn open(arguments: &Storing) -> anyhow::Result<Option<Store>> {
        let Some(to) = &arguments.to else { return Ok(None) };
        let location = Location::open(to, arguments.store_timeout)?;
        let spool = Spool::new(&spool(arguments.spool.clone()), to, arguments.spool_bytes);
        let (host, with_hdr) = (arguments.host.clone(), arguments.with_hdr);
        Ok(Some(Store { writer: Writer::new(location, spool), host, with_hdr }))
    }

    /// Keeps a report of everything, and waits until it is there.
    ///
    /// # Errors
    /// The store does not take it, in which case it waits in the spool, or the spool does not, either.
    fn keep(&self, report: &Report) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.deliver(report))
    }

    /// Does what [`Store::keep`] does, on the runtime of the caller.
    async fn deliver(&self, report: &Report) -> anyhow::Result<()> {
        let own = report.tool.host.clone();
        let host = self.host.clone().or(own).unwrap_or_else(|| "unknown".into());
        let ended = humantime::parse_rfc3339(&report.window.end).unwrap_or_else(|_| SystemTime::now());
        let time_ms = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let rows = rows(report, &host, time_ms, self.with_hdr).map_err(StoreError::from)?;
        let number = rows.len() as u64;
        let file = SweepFile::new(Place::new(&host, time_ms, random()), rows).map_err(StoreError::from)?;
        let location = self.writer.location().name();
        match self.writer.deliver(&file).await? {
            Delivered::Stored { caught_up } => {
                let (sites, host) = (plural(number, "site", "sites"), clean(&host));
                say(&format!("stored {sites} of {host} in {location}"));
                if caught_up > 0 {
                    say(&format!("sent {} that had waited for it", plural(caught_up, "sweep", "sweeps")));
                }
                Ok(())
            }
            Delivered::Kept { why, waiting, gone } => {
                if gone > 0 {
                    note(&format!(
                        "the spool is full: {} dropped, {} of {} bytes wait (--spool-bytes)",
                        plural(gone, "older sweep was", "older sweeps were"),
                        count(waiting.files),
                        count(waiting.bytes)
                    ));
                }
                let spool = self.writer.spool().folder().display().to_string();
                Err(Waits { why, spool }.into())
            }
        }
    }
}

/// What becomes of a report before it is shown: it is stored whole, and then shown as the user wants it.
pub(super) struct Shaping<'a> {
    store: Option<Store>,
    shown: Selection,
    naming: &'a Naming,
}

impl Shaping<'_> {
    /// Opens the store that the user wants, if any, before anything is looked at.
    ///
    /// # Errors
    /// The address of the store is none.
    pub(super) fn of<'a>(
        storing: &Storing,
        naming: &'a Naming,
        shown: Selection,
    ) -> anyhow::Result<Shaping<'a>> {
        Ok(Shaping { store: Store::open(storing)?, shown, naming })
    }

    /// What is to be in the engine's reports.
    pub(super) fn wanted(&self) -> Selection {
        if self.store.is_some() {
            Selection { top: None, min_age_ns: None, ..self.shown.clone() }
        } else {
            self.shown.clone()
        }
    }

    /// The report of an interval as it is shown.
    pub(super) fn shown<'report>(&self, report: &'report Report) -> Cow<'report, Report> {
        if self.store.is_none() && self.naming.is_default() {
            return Cow::Borrowed(report);
        }
        let mut report = report.clone();
        self.shape(&mut report);
        Cow::Owned(report)
    }

    /// Stores the last report, and leaves what is shown of it.
    ///
    /// # Errors
    /// The store does not take it, in which case it waits in the spool, or the spool does not, either. What is shown is left
    /// all the same.
    pub(super) fn keep(&self, report: &mut Report) -> anyhow::Result<()> {
        name(report, self.naming);
        let stored = self.store.as_ref().map_or(Ok(()), |store| store.keep(report));
        self.shape(report);
        stored
    }

    fn shape(&self, report: &mut Report) {
        name(report, self.naming);
        if self.store.is_some() {
            self.shown.apply(&mut report.processes);
        }
    }
}

/// Tells a sweep that waits for its store from one that is lost.
pub(super) fn waits(error: &anyhow::Error) -> bool {
    error.is::<Waits>()
}

/// Gives the processes of a report the name that the user has for them, and takes out what is not to be said.
fn name(report: &mut Report, naming: &Naming) {
    for process in report.processes.iter_mut().filter(|_| naming.service.is_some()) {
        process.called = naming.service.clone();
    }
    report.redact(&naming.redact);
}

/// A pause of about `every`, so that hosts that have begun at the same time do not stay together: the first is of any length up
/// to that, the others differ by a tenth.
pub(super) fn pause(every: Duration, is_first: bool) -> Duration {
    let part = f64::from(random()) / f64::from(u32::MAX);
    every.mul_f64(if is_first { part } else { 0.9 + 0.2 * part })
}

/// Where files wait unless the user says otherwise.
fn spool(asked: Option<PathBuf>) -> PathBuf {
    let of_user = || {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        Some(state.or_else(home)?.join("golife/spool"))
    };
    let of_root = || PathBuf::from("/var/lib/golife/spool");
    asked.unwrap_or_else(|| {
        if nix::unistd::geteuid().is_root() { of_root() } else { of_user().unwrap_or_else(of_root) }
    })
}

/// A number that differs from host to host and from call to call: the standard library's keys of hash maps come from the system.
fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}
