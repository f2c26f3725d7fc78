//! Which files of a store hold sweeps, and which are left out and why. Files are told by their names; no file is opened.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use futures::{StreamExt, TryStreamExt, stream};
use golife::human;
use golife::store::Place;
use golife::store::place::{EXTENSION, SITES};
use object_store::ObjectMeta;
use sha2::{Digest, Sha256};

use crate::store::{Refused, Store};
use crate::waiting::Waiting;

/// The folder of compacted files.
pub const COMPACT: &str = "compact";
/// The folder of hours of all hosts together.
pub const ROLLUP: &str = "rollup";
/// How many days are listed at once.
const AT_ONCE: usize = 8;
/// One hour in ms.
pub const HOUR_MS: i64 = 3_600_000;
/// Most files that are named in an answer as left out.
const NAMED: usize = 8;

/// A file with sweeps, or with what they come to.
#[derive(Clone, Debug)]
pub struct SweepObject {
    /// Where it is, and how large.
    pub meta: ObjectMeta,
    /// The first and the last moment, in ms since 1970, that its rows can be of.
    pub times: (i64, i64),
    /// The start of the hour whose folder it is in, in ms since 1970.
    pub hour: i64,
    /// What its footer says, once that has been read.
    pub footer: Arc<OnceLock<Footer>>,
}

/// What the footer of a file with sweeps says.
#[derive(Clone, Debug, Default)]
pub struct Footer {
    /// Number of rows.
    pub rows: u64,
    /// The paths of the files that it stands for.
    pub sources: Vec<String>,
    /// Of a roll-up the names of its hosts, as JSON; of others nothing.
    pub hosts: Option<String>,
}

impl SweepObject {
    /// Its path.
    pub fn path(&self) -> &str {
        self.meta.location.as_ref()
    }

    /// Whether a host has written it.
    pub fn is_raw(&self) -> bool {
        self.path().starts_with(SITES)
    }

    /// Number of its rows; 0 unless its footer has been read.
    pub fn rows(&self) -> u64 {
        self.footer.get().map_or(0, |footer| footer.rows)
    }

    /// The paths of the files that it stands for, if there are any and its footer has been read.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.footer.get().into_iter().flat_map(|footer| footer.sources.iter().map(String::as_str))
    }

    /// The folder of its hour, below one of the folders at the top.
    pub fn folder(&self) -> String {
        let text = hour_text(self.hour);
        format!("dt={}/hour={}", &text[..10], &text[11..13])
    }
}

/// The start of an hour, as people read it.
pub fn hour_text(hour: i64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(hour.unsigned_abs());
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Why a file is left out of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is no sweep file, or damaged.
    Broken,
    /// The store does not hand it out, which may be otherwise the next time.
    Refused,
    /// Another one is the same.
    Copy,
}

/// What is left out of an answer: paths, and why.
#[derive(Debug, Default)]
pub struct LeftOut(Mutex<BTreeMap<String, (Why, String)>>);

impl LeftOut {
    /// Leaves out an object.
    pub fn add(&self, path: &str, why: Why, words: impl Into<String>) {
        let mut all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        all.insert(path.to_owned(), (why, words.into()));
    }

    /// Whether an object is left out.
    pub fn has(&self, path: &str) -> bool {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).contains_key(path)
    }

    /// The number of those that are left out for a reason.
    pub fn count(&self, reason: Why) -> usize {
        let all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        all.values().filter(|(why, _)| *why == reason).count()
    }

    /// The number of those that the store does not hand out, and one of them with what it says.
    pub fn refused(&self) -> (usize, Option<(String, String)>) {
        let all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let refused = || all.iter().filter(|(_, (why, _))| *why == Why::Refused);
        (refused().count(), refused().next().map(|(path, (_, words))| (path.clone(), words.clone())))
    }

    /// All of them in words, by why they are left out. Of many for the same reason, the first are named.
    pub fn said(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let mut reasons: BTreeMap<(Why, &str), Vec<&str>> = BTreeMap::new();
        for (path, (why, words)) in all.iter() {
            reasons.entry((*why, words)).or_default().push(path);
        }
        let said = reasons.into_iter().map(|((_, words), paths)| {
            let rest = paths.len().saturating_sub(NAMED);
            let more =
                if rest > 0 { format!(" and {} more", human::count(rest as u64)) } else { String::new() };
            let named: Vec<String> = paths.iter().take(NAMED).map(|path| human::clean(path)).collect();
            format!("left out: {}{more}: {}", named.join(", "), human::clean(words))
        });
        said.collect()
    }
}

/// Lists the files whose sweeps are in a window, in ms since 1970.
///
/// # Errors
/// The store refuses, or does not answer.
pub async fn list(store: &Store, window: Window, left_out: &LeftOut) -> Result<Vec<SweepObject>, Refused> {
    let mut files = below(store, SITES, window, left_out).await?;
    files.extend(below(store, COMPACT, window, left_out).await?);
    Ok(files)
}

/// Lists the roll-ups of the hours that are in a window from their start to their end.
///
/// # Errors
/// The store refuses, or does not answer.
pub async fn rollups(store: &Store, window: Window, left_out: &LeftOut) -> Result<Vec<SweepObject>, Refused> {
    let (since, until) = window;
    let mut files = below(store, ROLLUP, window, left_out).await?;
    files.retain(|file| {
        since.is_none_or(|since| file.hour >= since) && until.is_none_or(|until| file.hour + HOUR_MS <= until)
    });
    Ok(files)
}

/// The first moment that counts and the first that no longer does, in ms since 1970.
pub type Window = (Option<i64>, Option<i64>);

async fn below(
    store: &Store,
    top: &str,
    window: Window,
    left_out: &LeftOut,
) -> Result<Vec<SweepObject>, Refused> {
    let days = store.folders(top).await?.into_iter().filter(|day| may_hold(day, window));
    let days: Vec<String> = days.map(|day| format!("{top}/{day}")).collect();
    let waiting = Waiting::begin(format!("listing {}", store.name()), "files");
    let waiting = &waiting;
    let listed = stream::iter(days).map(|day| async move {
        let (listed, strange) = store.list(&day).await?;
        waiting.add(listed.len() as u64);
        for path in strange {
            left_out.add(&path, Why::Broken, "has a name that no object store can have");
        }
        Ok::<_, Refused>(listed)
    });
    let mut listed = listed.buffered(AT_ONCE);
    let mut files = Vec::new();
    while let Some(objects) = listed.try_next().await? {
        for meta in objects {
            match sorted(meta) {
                Ok(Some(file)) if is_within(file.times, window) => files.push(file),
                Ok(_) => {}
                Err((path, why)) => left_out.add(&path, Why::Broken, why),
            }
        }
    }
    Ok(files)
}

/// Takes copies out of a list, and returns them, too: files of one host and moment that are the same to the last byte, as a host
/// leaves them that was not told that a file has arrived. The first by its name stays. Two programs of one host that sweep at the
/// same moment write different bytes.
pub async fn without_copies(store: &Store, files: Vec<SweepObject>) -> (Vec<SweepObject>, Vec<SweepObject>) {
    let sweep = |file: &SweepObject| {
        file.is_raw().then(|| file.path().rsplit_once('-')).flatten().map(|(sweep, _)| sweep.len())
    };
    let is_same = |a: &SweepObject, b: &SweepObject| match (sweep(a), sweep(b)) {
        (Some(length), Some(other)) => a.path().get(..length) == b.path().get(..other),
        _ => false,
    };
    let mut copies = Vec::new();
    // They are in the order of their names, which begin with host and moment.
    for same in files.chunk_by(is_same).filter(|same| same.len() > 1) {
        let mut known = HashSet::new();
        for file in same {
            if same.iter().filter(|other| other.meta.size == file.meta.size).count() < 2 {
                continue;
            }
            // What cannot be read is told later.
            let Ok(Some(bytes)) = store.get(file.path()).await else { continue };
            if !known.insert(<[u8; 32]>::from(Sha256::digest(&bytes))) {
                copies.push(file.path().to_owned());
            }
        }
    }
    let copies: HashSet<String> = copies.into_iter().collect();
    files.into_iter().partition(|file| !copies.contains(file.path()))
}

fn is_within((first, last): (i64, i64), (since, until): Window) -> bool {
    since.is_none_or(|since| last >= since) && until.is_none_or(|until| first < until)
}

/// Whether a day's folder may hold sweeps of the window. Other folders are listed, so that what is in them is named.
fn may_hold(folder: &str, window: Window) -> bool {
    let day = folder.strip_prefix("dt=").and_then(|day| hour_ms(day, "00"));
    day.is_none_or(|day| is_within((day, day + 24 * HOUR_MS - 1), window))
}

/// The start of an hour in ms since 1970.
fn hour_ms(day: &str, hour: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339(&format!("{day}T{hour}:00:00Z")).ok()?;
    time.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis().try_into().ok()
}

/// What an object is: a file with sweeps, something that other engines leave beside their files, or left out.
fn sorted(meta: ObjectMeta) -> Result<Option<SweepObject>, (String, String)> {
    let path = meta.location.to_string();
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_raw = path.starts_with(SITES);
    let found = if is_raw {
        Place::parse(&path)
            .map(|place| ((place.time_ms, place.time_ms), place.time_ms - place.time_ms % HOUR_MS))
    } else {
        hour_of(&path).map(|hour| ((hour, hour + HOUR_MS - 1), hour))
    };
    let Some((times, hour)) = found else {
        if name.starts_with(['_', '.']) {
            return Ok(None);
        }
        let kind = match path.split('/').next() {
            Some(SITES) => "not named as a sweep file",
            Some(COMPACT) => "not named as a compacted file",
            _ => "not named as a roll-up",
        };
        return Err((path, kind.into()));
    };
    if meta.size == 0 {
        return Err((path, "is empty".into()));
    }
    Ok(Some(SweepObject { meta, times, hour, footer: Arc::default() }))
}

/// The hour of `compact/dt=YYYY-MM-DD/hour=HH/NAME.parquet`.
fn hour_of(path: &str) -> Option<i64> {
    let mut parts = path.strip_suffix(EXTENSION)?.split('/').skip(1);
    let day = parts.next()?.strip_prefix("dt=")?;
    let hour = parts.next()?.strip_prefix("hour=").filter(|hour| hour.len() == 2)?;
    parts.next()?;
    hour_ms(day, hour)
}
