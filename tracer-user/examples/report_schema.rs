//! Prints the JSON contract `golife.report/1` as a JSON schema, made from the types that are written. `cargo xtask
//! tidy` compares it with `docs/report.schema.json`.

use golife::report::Report;

fn main() -> Result<(), serde_json::Error> {
    let schema = schemars::schema_for!(Report);
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
