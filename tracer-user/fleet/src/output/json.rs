//! An answer as one JSON document.

use std::io::{self, Write};

use golife::human;
use serde_json::{Map, Value};

use super::Answer;

/// Writes it: `schema`, what the command has found, and `notes`. Characters that could control a terminal are escaped as JSON
/// escapes others.
///
/// # Errors
/// Writing fails.
pub fn write(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let mut document = Map::new();
    document.insert("schema".into(), answer.schema.into());
    document.extend(answer.json.clone());
    document.insert("notes".into(), answer.notes.iter().map(|note| human::clean(note)).collect());
    let text = serde_json::to_string_pretty(&Value::Object(document))?;
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char != '\n' && human::is_unsafe(char) {
            let mut units = [0; 2];
            char.encode_utf16(&mut units).iter().for_each(|unit| safe += &format!("\\u{unit:04x}"));
        } else {
            safe.push(char);
        }
    }
    writeln!(out, "{safe}")
}
