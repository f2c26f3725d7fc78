//! An answer as one page that asks for nothing else: no script, no image, no style sheet of others.

use std::io::{self, Write};

use golife::human;

use super::{Answer, Part, Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:110em;padding:0 1em;color:#222;\
background:#fff}table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}th,td{padding:.3em .7em;\
border-bottom:1px solid #ddd;text-align:left;vertical-align:top}.n{text-align:right;font-variant-numeric:tabular-nums}\
pre{overflow-x:auto;background:#f6f6f6;padding:1em}.note{color:#777}@media(prefers-color-scheme:dark){body{color:#ddd;\
background:#181818}th,td{border-color:#444}pre{background:#222}}";

/// Writes it.
///
/// # Errors
/// Writing fails.
pub fn write(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let title = escaped(&answer.title);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>"
    )?;
    for part in &answer.parts {
        match part {
            Part::Heading(text) => writeln!(out, "<h2>{}</h2>", escaped(text))?,
            Part::Words(text) => writeln!(out, "<p>{}</p>", escaped(text))?,
            Part::Drawn(lines) => {
                let lines: Vec<String> = lines.lines().map(escaped).collect();
                writeln!(out, "<pre>{}</pre>", lines.join("\n"))?;
            }
            Part::Table(table) => rows(table, out)?,
        }
    }
    for note in &answer.notes {
        writeln!(out, "<p class=\"note\">{}</p>", escaped(note))?;
    }
    writeln!(out, "</body></html>")
}

fn rows(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    let class =
        |at: usize| if table.columns.get(at).is_some_and(|(_, is)| *is) { " class=\"n\"" } else { "" };
    let line = |kind: &str, cells: Vec<String>| {
        let cells = cells.iter().enumerate();
        let cells: String = cells.map(|(at, cell)| format!("<{kind}{}>{cell}</{kind}>", class(at))).collect();
        format!("<tr>{cells}</tr>")
    };
    writeln!(out, "<table>")?;
    writeln!(out, "{}", line("th", table.columns.iter().map(|(name, _)| escaped(name)).collect()))?;
    for row in &table.rows {
        writeln!(out, "{}", line("td", row.iter().map(|cell| escaped(&cell.shown())).collect()))?;
    }
    writeln!(out, "</table>")
}

/// Text that means nothing to HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in human::clean(text).chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char => escaped.push(char),
        }
    }
    escaped
}
