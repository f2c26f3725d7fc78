//! The lines of text for people: blocks whose items have labels, remarks at the margin, all in as many columns as there are.

use std::io::{self, Write};

use super::style::{DIM, paint};
use crate::human::{fill, wrap};

/// The column at which the text of a block begins.
pub(super) const INDENT: usize = 9;
/// The columns that a label takes within a block.
const LABEL: usize = 11;

/// Writes the items of a block, one on each line, with the label before the first.
pub(super) fn list(
    out: &mut dyn Write,
    columns: usize,
    label: &str,
    items: impl IntoIterator<Item = String>,
) -> io::Result<()> {
    for (at, item) in items.into_iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        for (at, part) in wrap(&item, columns.saturating_sub(INDENT + LABEL)).into_iter().enumerate() {
            let label = paint(DIM, format_args!("{:<LABEL$}", if at == 0 { label } else { "" }));
            writeln!(out, "{:INDENT$}{label}{part}", "")?;
        }
    }
    Ok(())
}

/// Writes parts of a block beside each other, as far as there is room.
pub(super) fn parts(out: &mut dyn Write, columns: usize, parts: &[String]) -> io::Result<()> {
    for part in fill(parts, columns.saturating_sub(INDENT)) {
        writeln!(out, "{:INDENT$}{part}", "")?;
    }
    Ok(())
}

/// Writes lines with a label at the margin before the first.
pub(super) fn remark(
    out: &mut dyn Write,
    label: &str,
    lines: impl IntoIterator<Item = String>,
) -> io::Result<()> {
    for (at, line) in lines.into_iter().enumerate() {
        writeln!(out, "{} {line}", paint(DIM, format_args!("{:<8}", if at == 0 { label } else { "" })))?;
    }
    Ok(())
}
