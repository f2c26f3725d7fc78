//! The rows that two engines answer with, compared. Sums of fractions depend on the order of their parts, so that these may differ
//! by the last digits; nothing else may.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// By how much a fraction may differ.
const RELATIVE: f64 = 1e-9;

/// What an engine answers to a query.
pub struct Answer {
    /// The name of the query.
    pub query: String,
    /// How long that took.
    pub seconds: f64,
    rows: Vec<Map<String, Value>>,
}

impl Answer {
    /// Reads a line of the job.
    pub fn of_spark(line: &str) -> Result<Answer> {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let query = value["query"].as_str().context("no query")?.to_owned();
        Ok(Answer { query, seconds: value["seconds"].as_f64().unwrap_or(0.0), rows: rows(&value)? })
    }

    /// Reads a document of golife-fleet.
    pub fn of_golife(query: &str, text: &str) -> Result<Answer> {
        let value: Value = serde_json::from_str(text).with_context(|| query.to_owned())?;
        Ok(Answer { query: query.to_owned(), seconds: 0.0, rows: rows(&value)? })
    }
}

/// What is null may be left out.
fn rows(value: &Value) -> Result<Vec<Map<String, Value>>> {
    let rows = value["rows"].as_array().context("no rows")?.iter().map(|row| {
        let row = row.as_object().context("no row")?;
        Ok(row
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    });
    rows.collect()
}

/// Compares the answers to the same queries, in whichever order their rows are.
///
/// # Errors
/// The first row that differs, or that an answer is empty, which would say nothing.
pub fn same(expected: &[Answer], found: &[Answer]) -> Result<()> {
    ensure!(expected.len() == found.len(), "{} answers, not {}", found.len(), expected.len());
    for (expected, found) in expected.iter().zip(found) {
        let query = &expected.query;
        ensure!(*query == found.query, "{}, not {query}", found.query);
        ensure!(!expected.rows.is_empty(), "{query}: no rows to compare");
        let (a, b) = (expected.rows.len(), found.rows.len());
        ensure!(a == b, "{query}: {b} rows, not {a}");
        for (a, b) in sorted(&expected.rows).into_iter().zip(sorted(&found.rows)) {
            let is_same =
                a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_alike(a, b)));
            if !is_same {
                bail!("{query}: {}\nin place of {}", Value::Object(b.clone()), Value::Object(a.clone()));
            }
        }
    }
    Ok(())
}

fn sorted(rows: &[Map<String, Value>]) -> Vec<&Map<String, Value>> {
    // Fractions have no say in the order. No two rows of these queries differ in them alone.
    let key = |row: &&Map<String, Value>| {
        let is_whole = |value: &Value| !value.is_number() || whole(value).is_some();
        let mut cells: Vec<String> = Vec::new();
        for (name, value) in row.iter().filter(|(_, value)| is_whole(value)) {
            cells.push(
                whole(value).map_or_else(|| format!("{name}={value}"), |number| format!("{name}={number}")),
            );
        }
        cells.sort();
        cells.join("\n")
    };
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_cached_key(key);
    sorted
}

/// A number that is whole, as which a fraction without a remainder counts, too.
fn whole(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64))
}

fn is_alike(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= RELATIVE * a.abs().max(b.abs()).max(1.0),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &str) -> [Answer; 1] {
        [Answer::of_golife("q", &format!("{{\"rows\": {rows}}}")).unwrap()]
    }

    #[test]
    fn rows_are_the_same_in_any_order_and_but_for_the_last_digit() {
        let a = of(r#"[{"n": 1, "x": 0.1}, {"n": 2, "s": "b", "none": null}]"#);
        assert!(same(&a, &of(r#"[{"s": "b", "n": 2.0}, {"x": 0.10000000000000002, "n": 1}]"#)).is_ok());
        for other in [
            r#"[{"n": 1, "x": 0.1}]"#,
            r#"[{"n": 1, "x": 0.1001}, {"n": 2, "s": "b"}]"#,
            r#"[{"n": 1, "x": 0.1}, {"n": 2, "s": "c"}]"#,
            r#"[{"n": 1, "x": 0.1}, {"n": 3, "s": "b"}]"#,
        ] {
            assert!(same(&a, &of(other)).is_err(), "{other}");
        }
        assert!(same(&of("[]"), &of("[]")).is_err(), "nothing says nothing");
    }
}
