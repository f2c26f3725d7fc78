//! The log lines that the probes write (through aya-log). They write only where they fail, and only a few times, since
//! the target pays for each line.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::error::ProbeError;

/// Most lines that are kept until somebody takes them.
const KEPT: usize = 16;

/// The log of the probes, from which lines are to be taken now and then.
pub struct ProbeLog {
    reader: EbpfLogger<Lines>,
    lines: Lines,
}

impl ProbeLog {
    /// Takes the log's ring out of the loaded object.
    ///
    /// # Errors
    /// [`ProbeError::Load`] if the object has no such ring.
    pub fn new(ebpf: &mut Ebpf) -> Result<ProbeLog, ProbeError> {
        let lines = Lines::default();
        let reader = EbpfLogger::init_with_logger(ebpf, lines.clone());
        let reader = reader.map_err(|error| ProbeError::Load(format!("the log of the probes: {error}")))?;
        Ok(ProbeLog { reader, lines })
    }

    /// Takes the lines that were written since the last call. There are 16 at most; further ones are dropped.
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
