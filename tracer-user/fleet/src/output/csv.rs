//! The tables of an answer as comma-separated values (RFC 4180, with line feeds), for programs and spreadsheets.

use std::io::{self, Write};

use golife::human;

use super::{Answer, Cell, Part};

/// Writes it. Tables after the first come after an empty line.
///
/// # Errors
/// Writing fails.
pub fn write(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let tables = answer.parts.iter().filter_map(|part| match part {
        Part::Table(table) => Some(table),
        _ => None,
    });
    for (at, table) in tables.enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        let names: Vec<String> = table.columns.iter().map(|(name, _)| quoted(&human::clean(name))).collect();
        writeln!(out, "{}", names.join(","))?;
        for row in &table.rows {
            let cells: Vec<String> = row.iter().map(field).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
    }
    Ok(())
}

fn field(cell: &Cell) -> String {
    match cell {
        Cell::Text(_) => {
            let text = cell.raw();
            // Spreadsheets would run what begins like this.
            let is_formula = text.starts_with(['=', '+', '-', '@']);
            quoted(&if is_formula { format!("'{text}") } else { text })
        }
        number => number.raw(),
    }
}

fn quoted(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
