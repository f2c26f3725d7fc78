//! Tables in the README that are made from test runs, each between a pair of comments with its name.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::machine::{self, say};

/// Where a test is to write its table; one of an earlier run is removed.
pub fn draft(name: &str) -> Result<std::path::PathBuf> {
    fs::create_dir_all(machine::target_dir()).context("cannot make the directory of build products")?;
    let table = machine::target_dir().join(format!("{name}.md"));
    let _ = fs::remove_file(&table); // which may not be there
    Ok(table)
}

/// Puts what a test wrote, if it did, in the place of the README's old table.
pub fn adopt(name: &str, draft: &Path) -> Result<()> {
    let Ok(table) = fs::read_to_string(draft) else { return Ok(()) };
    let readme = machine::root().join("README.md");
    let text = fs::read_to_string(&readme).context("cannot read README.md")?;
    fs::write(&readme, with_table(&text, name, &table)?).context("cannot write README.md")?;
    say("README.md has the new table");
    Ok(())
}

/// The README's table of that name as it is.
pub fn table(name: &str) -> Result<String> {
    let readme = machine::root().join("README.md");
    let text = fs::read_to_string(&readme).context("cannot read README.md")?;
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let table = text.split_once(&start).and_then(|(_, rest)| Some(rest.split_once(&end)?.0.to_owned()));
    table.with_context(|| format!("README.md has no `<!-- {name} -->` … `<!-- /{name} -->`"))
}

/// The text with another table between the comments of that name.
fn with_table(text: &str, name: &str, table: &str) -> Result<String> {
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let parts = text.split_once(&start).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        parts.with_context(|| format!("README.md has no `<!-- {name} -->` … `<!-- /{name} -->`"))?;
    Ok(format!("{before}{start}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_comments_changes() {
        let text = "a\n<!-- matrix -->\nold\n<!-- /matrix -->\nb\n";
        let new = with_table(text, "matrix", "new\n").ok();
        assert_eq!(new.as_deref(), Some("a\n<!-- matrix -->\nnew\n<!-- /matrix -->\nb\n"));
        assert!(with_table(text, "kernels", "new\n").is_err());
    }
}
