//! What documents say of the columns and of the options is what there is.

use clap::CommandFactory;
use golife::store::columns;
use golife_fleet::arguments::Cli;

fn document(name: &str) -> String {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn each_column_is_documented_in_its_order() {
    let text = document("fleet-columns.md");
    let (sweeps, rollups) = text.split_once("# The columns of a roll-up").unwrap();
    for (text, schema) in [(sweeps, columns::schema()), (rollups, golife_fleet::rollup::columns::schema())] {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: Vec<&str> = rows.map(|(name, _)| name).collect();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(documented, columns);
        for field in schema.fields() {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{}`", field.name()))).unwrap();
            assert_eq!(row.contains("may be null"), field.is_nullable(), "{row}");
        }
    }
}

#[test]
fn each_command_is_documented_and_each_option_exists() {
    let text = document("fleet.md");
    let command = Cli::command();
    for known in command.get_subcommands() {
        assert!(text.contains(&format!("golife fleet {}", known.get_name())), "{}", known.get_name());
    }
    let options: Vec<&str> = command
        .get_subcommands()
        .flat_map(|known| known.get_arguments().filter_map(|argument| argument.get_long()))
        .collect();
    let runbook = document("fleet-runbook.md");
    let of_fleet = runbook.lines().filter(|line| line.contains("golife fleet"));
    let words = text
        .lines()
        .chain(of_fleet)
        .flat_map(|line| line.split(|char: char| !char.is_ascii_alphanumeric() && char != '-'));
    for word in words {
        // `--to` and the like are those of golife and of its benchmarks.
        let Some(name) = word.strip_prefix("--").filter(|name| name.starts_with(char::is_alphabetic)) else {
            continue;
        };
        assert!(options.contains(&name) || ["to", "every", "long"].contains(&name), "--{name}");
    }
}
