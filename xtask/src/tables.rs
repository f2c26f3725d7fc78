//! Tables in the documents that are not written by hand, each between a pair of comments with its name: what test runs
//! found, in `docs/`, and what the code says of itself, in ARCHITECTURE.md.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::machine::{self, say};

/// The document that says on what golife was tested: Go versions, programs, kernels.
pub const TESTED: &str = "docs/tested.md";

/// The file that a test is to write its table to. The table of an earlier run is removed.
pub fn draft(name: &str) -> Result<std::path::PathBuf> {
    fs::create_dir_all(machine::target_dir()).context("cannot make the directory of build products")?;
    let table = machine::target_dir().join(format!("{name}.md"));
    let _ = fs::remove_file(&table); // which may not be there
    Ok(table)
}

/// Puts the table that a test wrote in the place of the document's old one. If it wrote none, the old one stays.
pub fn adopt(document: &str, name: &str, draft: &Path) -> Result<()> {
    let Ok(table) = fs::read_to_string(draft) else { return Ok(()) };
    put(document, name, &table)?;
    say(format!("{document} has the new table"));
    Ok(())
}

/// The table of that name in a document, as it is.
pub fn table(document: &str, name: &str) -> Result<String> {
    let text = read(document)?;
    let (_, table, _) = parts(&text, name).with_context(|| missing(document, name))?;
    Ok(table.to_owned())
}

/// Puts another table between the comments of that name in a document.
pub fn put(document: &str, name: &str, table: &str) -> Result<()> {
    let text = with_table(&read(document)?, name, table).with_context(|| missing(document, name))?;
    fs::write(machine::root().join(document), text).with_context(|| format!("cannot write {document}"))
}

fn read(document: &str) -> Result<String> {
    fs::read_to_string(machine::root().join(document)).with_context(|| format!("cannot read {document}"))
}

fn missing(document: &str, name: &str) -> String {
    format!("{document} has no `<!-- {name} -->` … `<!-- /{name} -->`")
}

/// The text with another table between the comments of that name, if they are there.
fn with_table(text: &str, name: &str, table: &str) -> Option<String> {
    let (before, _, after) = parts(text, name)?;
    Some(format!("{before}{table}{after}"))
}

/// What comes before the table, with the comment that opens it, the table, and the rest.
fn parts<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let opening = format!("<!-- {name} -->\n");
    let start = text.find(&opening)? + opening.len();
    let end = start + text[start..].find(&format!("<!-- /{name} -->"))?;
    Some((&text[..start], &text[start..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_comments_changes() {
        let text = "a\n<!-- matrix -->\nold\n<!-- /matrix -->\nb\n";
        let new = with_table(text, "matrix", "new\n");
        assert_eq!(new.as_deref(), Some("a\n<!-- matrix -->\nnew\n<!-- /matrix -->\nb\n"));
        assert_eq!(parts(text, "matrix").map(|(_, table, _)| table), Some("old\n"));
        assert!(with_table(text, "kernels", "new\n").is_none());
    }
}
