//! Prints a JSON contract as a JSON schema, made from the types that are written: `golife.report/1`, or with the argument
//! `diff` `golife.diff/1`, with `hist` `golife.hist/1`. `cargo xtask tidy` compares it with what is in `docs/`.

use golife::report::{Diff, Hist, Report};

fn main() -> Result<(), serde_json::Error> {
    let schema = match std::env::args().nth(1).as_deref() {
        Some("diff") => schemars::schema_for!(Diff),
        Some("hist") => schemars::schema_for!(Hist),
        _ => schemars::schema_for!(Report),
    };
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
