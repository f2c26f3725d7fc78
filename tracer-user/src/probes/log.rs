//! What the probes say in words (aya-log): only where they fail, and only a few times, since the target pays for it.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use crate::probes::ProbeError;

/// Lines kept between two looks.
const KEPT: usize = 16;

/// The probes' log, to be looked at now and then.
pub struct ProbeLog {
    reader: EbpfLogger<Lines>,
    lines: Lines,
}

impl ProbeLog {
    /// Takes the log's ring out of the loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<ProbeLog, ProbeError> {
        let lines = Lines::default();
        let reader = EbpfLogger::init_with_logger(ebpf, lines.clone());
        let reader = reader.map_err(|error| ProbeError::Load(format!("the log of the probes: {error}")))?;
        Ok(ProbeLog { reader, lines })
    }

    /// The lines since the last call.
    pub fn take(&mut self) -> Vec<String> {
        self.reader.flush();
        std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < KEPT {
            lines.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}
