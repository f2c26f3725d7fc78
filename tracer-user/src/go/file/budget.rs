//! How much work a file may cost. Sizes alone are no bound: a small file can promise much, repeat itself, or have each of
//! its parts look at all others. Steps are counted, not timed, so that the same file always has the same result.

/// Reading a part of a file would take more work than in any real program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} would take more than {limit} steps to read, more than in any real program; the file may be damaged"
)]
pub struct TooMuch {
    /// The part of the file.
    pub what: &'static str,
    /// How many steps are allowed.
    pub limit: u64,
}

/// What is left of the steps that reading a part of a file may take. A step is about what a byte takes.
#[derive(Debug)]
pub(crate) struct Budget {
    what: &'static str,
    limit: u64,
    left: u64,
}

impl Budget {
    /// So many steps for a part of a file.
    pub(crate) fn new(what: &'static str, limit: u64) -> Budget {
        Budget { what, limit, left: limit }
    }

    /// How many steps there are still.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes steps off, before they are made.
    ///
    /// # Errors
    /// There are not so many left.
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(steps).ok_or(TooMuch { what: self.what, limit: self.limit })?;
        Ok(())
    }
}
