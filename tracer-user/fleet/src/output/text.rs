//! An answer for people at a terminal.

use std::io::{self, Write};

use golife::human;

use super::{Answer, Part, Table};

/// The columns of a line where there is no terminal.
pub const WIDTH: usize = 100;
/// Between columns of a table.
const GAP: &str = "  ";
/// No column is cut below this.
const NARROW: usize = 24;

/// The columns of the terminal.
pub fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(WIDTH).max(40)
}

/// Writes it.
///
/// # Errors
/// Writing fails.
pub fn write(answer: &Answer, width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (at, part) in answer.parts.iter().enumerate() {
        if at > 0 && !matches!(answer.parts[at - 1], Part::Heading(_)) {
            writeln!(out)?;
        }
        match part {
            Part::Heading(text) => writeln!(out, "{}", human::clean(text))?,
            Part::Words(text) => {
                for line in human::wrap(&human::clean(text), width) {
                    writeln!(out, "{line}")?;
                }
            }
            Part::Drawn(lines) => {
                for line in lines.lines() {
                    writeln!(out, "{}", human::clean(line))?;
                }
            }
            Part::Table(table) => rows(table, width, out)?,
        }
    }
    if !answer.notes.is_empty() && !answer.parts.is_empty() {
        writeln!(out)?;
    }
    for note in &answer.notes {
        for line in human::wrap(&format!("note: {}", human::clean(note)), width) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn rows(table: &Table, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<String> = table.columns.iter().map(|(name, _)| human::clean(name)).collect();
    let shown: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(super::Cell::shown).collect()).collect();
    let mut widths: Vec<usize> = names.iter().map(|name| human::width(name)).collect();
    for row in &shown {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = (*most).max(human::width(cell));
        }
    }
    // The widest texts give way until a line fits.
    loop {
        let all: usize = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let texts = table.columns.iter().enumerate().filter(|(_, (_, is_number))| !is_number);
        let widest = texts.map(|(at, _)| at).max_by_key(|at| widths[*at]);
        match widest.filter(|at| all > width && widths[*at] > NARROW) {
            Some(at) => widths[at] -= 1,
            None => break,
        }
    }
    for row in std::iter::once(&names).chain(&shown) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let (most, is_number) = (widths[at], table.columns[at].1);
            let cell = if is_number { cell.clone() } else { human::shorten(cell, most) };
            let space = " ".repeat(most.saturating_sub(human::width(&cell)));
            let gap = if at == 0 { "" } else { GAP };
            line += &if is_number { format!("{gap}{space}{cell}") } else { format!("{gap}{cell}{space}") };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
