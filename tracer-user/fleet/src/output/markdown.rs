//! An answer in Markdown, for issues and chats.

use std::io::{self, Write};

use golife::human;

use super::{Answer, Part, Table};

/// Writes it.
///
/// # Errors
/// Writing fails.
pub fn write(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# {}", escaped(&answer.title))?;
    for part in &answer.parts {
        writeln!(out)?;
        match part {
            Part::Heading(text) => writeln!(out, "## {}", escaped(text))?,
            Part::Words(text) => writeln!(out, "{}", escaped(text))?,
            // An indented block, since lines of the text may end a fenced one.
            Part::Drawn(lines) => {
                for line in lines.lines() {
                    writeln!(out, "    {}", human::clean(line).replace('<', "‹"))?;
                }
            }
            Part::Table(table) => rows(table, out)?,
        }
    }
    for note in &answer.notes {
        writeln!(out, "\n> {}", escaped(note))?;
    }
    Ok(())
}

fn rows(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    writeln!(out, "{}", line(table.columns.iter().map(|(name, _)| escaped(name)).collect()))?;
    let rule = |(_, is_number): &(String, bool)| if *is_number { "--:" } else { "---" }.to_owned();
    writeln!(out, "{}", line(table.columns.iter().map(rule).collect()))?;
    for row in &table.rows {
        writeln!(out, "{}", line(row.iter().map(|cell| escaped(&cell.shown())).collect()))?;
    }
    Ok(())
}

/// Text that means nothing to Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in human::clean(text).chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '!' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(char);
            }
            // GitHub would notify whoever has this name.
            '@' => escaped.push_str("&#64;"),
            char => escaped.push(char),
        }
    }
    escaped
}
