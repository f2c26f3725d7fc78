//! The contract of the report in JSON. Its schema is part of the documentation and must be what the types say, so that
//! neither changes unnoticed.

use std::fs;

use anyhow::{Context, Result};

use crate::machine::{self, output};

/// Path of the schema, from the repository's root.
const SCHEMA: &str = "docs/report.schema.json";
/// The example program that prints the schema of the types.
const EXAMPLE: &str = "report_schema";

/// Adds a fault if schema and types differ. `write` writes the schema first.
pub fn check(write: bool, faults: &mut Vec<String>) -> Result<()> {
    let example = format!("tracer-user/examples/{EXAMPLE}.rs");
    if !machine::root().join(&example).is_file() {
        faults.push(format!("{example}: missing: it is to print the schema of the report"));
        return Ok(());
    }
    let schema = match output(machine::cargo().args([
        "run",
        "--quiet",
        "--locked",
        "-p",
        "tracer-user",
        "--example",
        EXAMPLE,
    ])) {
        Ok(schema) => schema,
        Err(error) => {
            faults.push(format!("{example}: {error:#}"));
            return Ok(());
        }
    };
    let file = machine::root().join(SCHEMA);
    if write {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder of {SCHEMA}"))?;
        }
        fs::write(&file, format!("{schema}\n")).with_context(|| format!("cannot write {SCHEMA}"))?;
    }
    // A schema that is missing is not what the types say either.
    if !is_same(&fs::read_to_string(&file).unwrap_or_default(), &schema) {
        faults.push(format!(
            "{SCHEMA} is not what the types say: read the difference, then cargo xtask tidy --write"
        ));
    }
    Ok(())
}

/// Whether both are equal, whatever white space they end with.
fn is_same(committed: &str, schema: &str) -> bool {
    committed.trim_end() == schema.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_file_may_differ() {
        assert!(is_same("{}\n", "{}"));
        assert!(!is_same("", "{}"));
        assert!(!is_same("{ }\n", "{}"));
    }
}
