//! Where the fields of the runtime's structs are.

/// Offsets in bytes of the fields of `runtime.g` (and the few of `runtime.m`) that golife reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `g.m`
    pub m: u16,
    /// `g.goid`
    pub goid: u16,
    /// `g.parentGoid`, from Go 1.21 on.
    pub parent: Option<u16>,
    /// `g.gopc`
    pub gopc: u16,
    /// `g.startpc`
    pub startpc: u16,
    /// `m.curg`
    pub curg: u16,
}
