//! The processes of a family whose memory is kept beyond their end, until one look at it is done. Nothing else is ever
//! kept.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use crate::host::executed::Executed;
use crate::host::keeper::{Keeper, Kept};
use crate::targets::Binaries;

/// A process whose memory is kept.
pub struct Held {
    /// What it executes.
    pub executed: Executed,
    /// Its memory.
    pub kept: Kept,
}

/// All processes whose memory is kept.
#[derive(Default)]
pub struct Holds {
    keeper: Option<Arc<Keeper>>,
    held: HashMap<u32, Held>,
}

impl Holds {
    /// No process is kept yet. Without a keeper, as by default, none will be.
    pub fn new(keeper: Keeper) -> Holds {
        Holds { keeper: Some(Arc::new(keeper)), held: HashMap::new() }
    }

    /// Whether there is a keeper.
    pub fn are_possible(&self) -> bool {
        self.keeper.is_some()
    }

    /// Begins to keep the memory of a process that has just executed something, if that is a Go program. What its memory
    /// was before is let go.
    pub(super) fn begin(&mut self, pid: u32, binaries: &Binaries) {
        self.held.remove(&pid);
        let Some(keeper) = &self.keeper else { return };
        let is_go = File::open(format!("/proc/{pid}/exe")).is_ok_and(|file| binaries.seems_go(&file));
        let Some(executed) = Executed::look(pid).ok().filter(|_| is_go) else { return };
        let Some(first) = executed.mappings.first() else { return };
        if let Ok(kept) = keeper.keep(pid, first.start) {
            self.held.insert(pid, Held { executed, kept });
        }
    }

    /// The process with this id, if its memory is kept.
    pub fn of(&self, pid: u32) -> Option<&Held> {
        self.held.get(&pid)
    }

    /// Lets go of the memory of a process.
    pub fn let_go(&mut self, pid: u32) {
        self.held.remove(&pid);
    }
}
