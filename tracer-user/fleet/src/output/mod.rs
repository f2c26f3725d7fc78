//! An answer as plain data, and one file for each way to show it. All text in it may come from a hostile program, and is made
//! safe where it is written.

pub mod arrow;
pub mod csv;
pub mod html;
pub mod json;
pub mod markdown;
pub mod strips;
pub mod text;

use golife::human;
use serde_json::{Map, Value};

/// What a command has found.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Name and version of the JSON document, such as `golife.fleet/1`.
    pub schema: &'static str,
    /// What it is about.
    pub title: String,
    /// What it says, in order.
    pub parts: Vec<Part>,
    /// What a reader has to know of it, such as which files were left out.
    pub notes: Vec<String>,
    /// What the JSON document holds beside schema and notes.
    pub json: Map<String, Value>,
}

/// A part of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    /// A heading.
    Heading(String),
    /// A paragraph.
    Words(String),
    /// Lines that keep their white space.
    Drawn(String),
    /// A table.
    Table(Table),
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Name of each column, and whether it holds numbers.
    pub columns: Vec<(String, bool)>,
    /// A cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell, which people read in another way than programs do.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Not known.
    Missing,
    /// A text.
    Text(String),
    /// How many.
    Count(u64),
    /// A size in bytes.
    Bytes(u64),
    /// A duration in seconds.
    Seconds(f64),
    /// Any other number.
    Number(f64),
    /// A number with what people have to know of it, such as its interval.
    Shown(String, f64),
}

impl Answer {
    /// Adds a paragraph.
    pub fn words(&mut self, words: impl Into<String>) {
        self.parts.push(Part::Words(words.into()));
    }

    /// Adds lines that keep their white space. In JSON they are `drawn`.
    pub fn drawn(&mut self, lines: String) {
        self.json.insert("drawn".into(), lines.clone().into());
        self.parts.push(Part::Drawn(lines));
    }

    /// Adds a table, with a heading if it has one.
    pub fn table(&mut self, heading: Option<String>, table: Table) {
        self.parts.extend(heading.map(Part::Heading));
        self.parts.push(Part::Table(table));
    }
}

impl Table {
    /// A table without rows.
    pub fn new<Name: Into<String>>(columns: impl IntoIterator<Item = (Name, bool)>) -> Table {
        let columns = columns.into_iter().map(|(name, is_number)| (name.into(), is_number)).collect();
        Table { columns, rows: Vec::new() }
    }
}

impl Cell {
    /// A text, or nothing.
    pub fn text(text: Option<&str>) -> Cell {
        text.map_or(Cell::Missing, |text| Cell::Text(text.to_owned()))
    }

    /// How people read it: safe, and without line breaks.
    pub fn shown(&self) -> String {
        match self {
            Cell::Missing => String::new(),
            Cell::Text(text) | Cell::Shown(text, _) => human::clean(text),
            Cell::Count(count) => human::count(*count),
            Cell::Bytes(bytes) => human::bytes(*bytes),
            Cell::Seconds(seconds) => human::duration((seconds.max(0.0) * 1e9) as u64),
            Cell::Number(number) => rounded(*number),
        }
    }

    /// How programs read it.
    pub fn raw(&self) -> String {
        match self {
            Cell::Missing => String::new(),
            Cell::Text(text) => human::clean(text),
            Cell::Count(number) | Cell::Bytes(number) => number.to_string(),
            Cell::Seconds(number) | Cell::Number(number) | Cell::Shown(_, number) => number.to_string(),
        }
    }
}

/// A number to about three digits.
pub fn rounded(number: f64) -> String {
    match number.abs() {
        size if !size.is_finite() => String::new(),
        size if size >= 100.0 => {
            let sign = if number < 0.0 { "-" } else { "" };
            format!("{sign}{}", human::count(size.round() as u64))
        }
        size if size >= 9.95 => format!("{number:.0}"),
        size if size >= 0.995 => format!("{number:.1}").trim_end_matches(".0").to_owned(),
        size if size >= 0.005 => format!("{number:.2}"),
        size if size > 0.0 => "< 0.01".into(),
        _ => "0".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "<script>alert(1)</script>\u{1b}[31m|\"a\",=\u{202e}\nb";

    fn answer() -> Answer {
        let mut answer = Answer { title: HOSTILE.into(), schema: "golife.test/1", ..Answer::default() };
        answer.words(HOSTILE);
        answer.drawn(HOSTILE.into());
        let mut table = Table::new([(HOSTILE, false), ("n", true)]);
        table.rows.push(vec![Cell::Text(HOSTILE.into()), Cell::Count(12_345)]);
        answer.table(Some(HOSTILE.into()), table);
        answer.notes.push(HOSTILE.into());
        answer
    }

    fn written(write: impl Fn(&Answer, &mut Vec<u8>) -> std::io::Result<()>) -> String {
        let mut text = Vec::new();
        write(&answer(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn no_form_lets_a_name_do_anything() {
        for text in [
            written(|answer, out| text::write(answer, 80, out)),
            written(|answer, out| csv::write(answer, out)),
            written(|answer, out| markdown::write(answer, out)),
            written(|answer, out| html::write(answer, out)),
            written(|answer, out| json::write(answer, out)),
        ] {
            let is_fine = |char: char| char == '\n' || !human::is_unsafe(char);
            assert!(text.chars().all(is_fine), "{text}");
        }
        let html = written(|answer, out| html::write(answer, out));
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        let markdown = written(|answer, out| markdown::write(answer, out));
        assert!(!markdown.contains("<script") && markdown.contains("12,345"), "{markdown}");
        let csv = written(|answer, out| csv::write(answer, out));
        assert!(csv.ends_with(",12345\n") && csv.contains("\"\"a\"\""), "{csv}");
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> =
            [0.0, 0.001, 0.25, 1.0, 2.26, 99.9, 1234.5, -1234.5, f64::NAN].map(rounded).to_vec();
        assert_eq!(shown, ["0", "< 0.01", "0.25", "1", "2.3", "100", "1,235", "-1,235", ""]);
    }
}
