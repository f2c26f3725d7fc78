//! What the goroutines of every traced process do, looked at again and again while it is traced, and once more at the end.

use std::collections::HashMap;
use std::sync::Arc;

use crate::inspect::{self, Depth, WalkError};
use crate::process::boot_time;
use crate::session::Traced;
use crate::verdict::still::Sightings;
use crate::verdict::survey::{self, SiteKey};
use crate::verdict::waits::Wait;

/// One process, as of its last scan.
pub struct Survey {
    traced: Arc<Traced>,
    sightings: Sightings,
    waits: HashMap<SiteKey, Vec<Wait>>,
}

impl Survey {
    /// Nothing was looked at yet.
    fn new(traced: Arc<Traced>) -> Survey {
        Survey { traced, sightings: Sightings::default(), waits: HashMap::new() }
    }

    /// Looks at the process. Takes a second or two for a million goroutines; the process runs on meanwhile.
    ///
    /// # Errors
    /// The goroutines could not be read; what was seen before stays.
    pub fn look(&mut self, limits: inspect::Limits) -> Result<(), WalkError> {
        let traced = &self.traced;
        let memory = inspect::ProcessMemory::new(traced.process.pid as i32);
        let snapshot = inspect::scan(&memory, traced.binary(), traced.bias, limits, Depth::Objects)?;
        let now_ns = boot_time().as_nanos() as u64;
        self.sightings.update(&snapshot, now_ns);
        self.waits = survey::by_site(&snapshot, traced.binary(), &self.sightings, now_ns);
        Ok(())
    }

    /// What the goroutines of a site do. Addresses are the process's.
    pub fn waits(&self, gopc: u64, startpc: u64) -> Option<&[Wait]> {
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(self.traced.bias) };
        self.waits.get(&(code(gopc), code(startpc))).map(Vec::as_slice)
    }

    /// Whether it is of this very process.
    pub fn is_of(&self, traced: &Arc<Traced>) -> bool {
        Arc::ptr_eq(&self.traced, traced)
    }
}

/// The surveys of all processes, by id. One whose process is just being looked at is with whoever looks.
#[derive(Default)]
pub struct Surveys {
    known: HashMap<u32, Option<Survey>>,
}

impl Surveys {
    /// Hands out the survey of a process, to be brought up to date; none while another one is doing that.
    pub fn begin(&mut self, traced: &Arc<Traced>) -> Option<Survey> {
        let new = || Some(Survey::new(traced.clone()));
        let known = self.known.entry(traced.process.pid).or_insert_with(new);
        let survey = known.take()?;
        Some(if survey.is_of(traced) { survey } else { Survey::new(traced.clone()) })
    }

    /// Takes it back.
    pub fn end(&mut self, survey: Survey) {
        self.known.insert(survey.traced.process.pid, Some(survey));
    }

    /// Whether somebody is still looking.
    pub fn are_open(&self) -> bool {
        self.known.values().any(Option::is_none)
    }

    /// The survey of a process; none where there is none yet.
    pub fn of(&self, traced: &Arc<Traced>) -> Option<&Survey> {
        self.known.get(&traced.process.pid)?.as_ref().filter(|survey| survey.is_of(traced))
    }
}
