//! The contracts in JSON, of reports, of what has changed between two, and of lifetimes. Their schemas are part of the documentation and must
//! be what the types say, so that neither changes unnoticed.

use std::fs;

use anyhow::{Context, Result};

use crate::machine::{self, output};

/// The documents, each with the path of its schema from the repository's root.
const SCHEMAS: [(&str, &str); 3] = [
    ("report", "docs/report.schema.json"),
    ("diff", "docs/diff.schema.json"),
    ("hist", "docs/hist.schema.json"),
];
/// The example program that prints the schema of a document's types.
const EXAMPLE: &str = "report_schema";

/// Adds a fault for each schema that differs from the types. `write` writes them first.
pub fn check(write: bool, faults: &mut Vec<String>) -> Result<()> {
    let example = format!("tracer-user/examples/{EXAMPLE}.rs");
    if !machine::root().join(&example).is_file() {
        faults.push(format!("{example}: missing: it is to print the schemas of documents"));
        return Ok(());
    }
    SCHEMAS.iter().try_for_each(|(document, path)| check_one(document, path, write, faults))
}

fn check_one(document: &str, path: &str, write: bool, faults: &mut Vec<String>) -> Result<()> {
    let schema = match output(machine::cargo().args([
        "run",
        "--quiet",
        "--locked",
        "-p",
        "tracer-user",
        "--example",
        EXAMPLE,
        document,
    ])) {
        Ok(schema) => schema,
        Err(error) => {
            faults.push(format!("{path}: {error:#}"));
            return Ok(());
        }
    };
    let file = machine::root().join(path);
    if write {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder of {path}"))?;
        }
        fs::write(&file, format!("{schema}\n")).with_context(|| format!("cannot write {path}"))?;
    }
    // A schema that is missing is not what the types say either.
    if !is_same(&fs::read_to_string(&file).unwrap_or_default(), &schema) {
        faults.push(format!(
            "{path} is not what the types say: read the difference, then cargo xtask tidy --write"
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
