//! The report as a document: one a run (`json`), or one a line and tick (`jsonl`). What [`read`] reads.

use std::io::{self, Write};

use crate::report::{Report, SCHEMA};

/// Why a saved report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not JSON, or not a report.
    #[error("not a golife report: {0}")]
    Json(#[from] serde_json::Error),
    /// A report of another schema.
    #[error("report of schema {0:?}, this golife reads {SCHEMA}")]
    Schema(String),
    /// Nothing in it.
    #[error("no report in it")]
    Empty,
}

/// Writes a report as one indented document.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// Writes a report as one line.
pub fn write_line(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, report)?;
    writeln!(out)
}

/// Reads a saved report: a document, or lines of which the last one counts, since each covers the time since the start.
pub fn read(text: &str) -> Result<Report, ReadError> {
    let mut last = None;
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        last = Some(value?);
    }
    let value = last.ok_or(ReadError::Empty)?;
    let schema = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or_default();
    if schema != SCHEMA {
        return Err(ReadError::Schema(schema.chars().take(80).collect()));
    }
    Ok(serde_json::from_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_report_is_refused() {
        assert!(matches!(read(""), Err(ReadError::Empty)));
        assert!(matches!(read("{"), Err(ReadError::Json(_))));
        assert!(matches!(read("{\"schema\": \"golife.report/9\"}"), Err(ReadError::Schema(_))));
        assert!(matches!(read("{\"schema\": \"golife.report/1\"}"), Err(ReadError::Json(_))));
    }
}
