//! The manual page, which has all subcommands on one page. Options that several subcommands share are described once.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::builder::{PossibleValue, Resettable, StyledStr};
use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;

use super::arguments::{Cli, EXAMPLES, EXIT_CODES};

/// What the levels of a verdict mean, as (level, meaning).
const VERDICTS: [(&str, &str); 5] = [
    (
        "proven",
        "Goroutines wait for what can never come: a nil channel, a select without cases, or Go's own mark (Go 1.26 and newer).",
    ),
    (
        "suspect",
        "The measured behaviour of a leak: all through the window more of them stay than end, and goroutines of that age do not end otherwise.",
    ),
    ("watch", "Unusual, and a harmless explanation cannot be excluded."),
    ("healthy", "They end as they should, or stay few."),
    (
        "unknown",
        "The window was too short to tell, or chance could hide a leak. golife says which window would do.",
    ),
];

/// What the lines and columns of a report say, as (word, meaning).
const WORDS: [(&str, &str); 14] = [
    (
        "live",
        "How many goroutines of the statement live at the end of the window; in brackets the change within it.",
    ),
    ("before", "How many of them lived when the window began."),
    ("created, ended", "How many were seen to begin and to end within the window."),
    ("rate", "Creations a second."),
    ("p50, p99", "Half, and 99 of 100, of the lifetimes that were seen whole are at most this long."),
    ("oldest", "The age of the oldest one; \"at least\" or \"≥\" where its birth was not seen."),
    (
        "waits for",
        "What they wait for or do, as Go's traceback calls it, and where; \"moved\": has run since an earlier look.",
    ),
    ("on", "The channel or lock that they wait on, who else waits on it, and who has a pointer to it."),
    ("by", "The statement that created the goroutines that created these."),
    ("blame", "Lines of the program's own module that led to goroutines which a library creates."),
    ("created", "With --creation-stacks, the calls in which the statement was reached."),
    ("because", "The evidence for the verdict."),
    ("do", "What a reviewer would say."),
    ("cost", "What the probes cost the program, what golife took of a CPU, and how many events were lost."),
];

/// Writes the page in roff.
pub(super) fn write(out: &mut dyn Write) -> io::Result<()> {
    let command = Cli::command();
    let page = Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    writeln!(out, ".SH SYNOPSIS\ngolife \\fICOMMAND\\fR [\\fIOPTIONS\\fR]")?;
    page.render_description_section(out)?;
    let visible = || command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let shared = shared(visible());
    for sub in visible() {
        let name = format!("golife {}", sub.get_name());
        writeln!(out, ".SH \"{}\"", name.to_uppercase())?;
        if let Some(about) = sub.get_long_about().or(sub.get_about()) {
            writeln!(out, "{}", escaped(about))?;
        }
        let usage = sub.clone().bin_name(&name).render_usage();
        let usage = escaped(&usage).replace("Usage: ", "");
        writeln!(out, ".PP\n\\fB{}\\fR", usage.trim())?;
        let is_own = |arg: &&Arg| !shared.contains_key(&key(arg)) && !is_help(arg);
        options(out, sub.get_arguments().filter(is_own).cloned())?;
        let others: Vec<String> =
            sub.get_arguments().filter(|arg| shared.contains_key(&key(arg))).map(name_of).collect();
        if !others.is_empty() {
            writeln!(out, ".PP\nAnd, described below: {}.", others.join(", ").replace('-', "\\-"))?;
        }
    }
    writeln!(out, ".SH \"OPTIONS OF SEVERAL COMMANDS\"")?;
    let described = shared.into_values().map(|(arg, commands)| {
        let help = format!("{} ({})", help(&arg), commands.join(", "));
        arg.help(help).long_help(None::<&str>)
    });
    options(out, described)?;
    glossary(out, "VERDICTS", &VERDICTS)?;
    glossary(out, "WORDS OF A REPORT", &WORDS)?;
    // `.nf` keeps the lines as they are, so that the two columns stay columns.
    writeln!(out, ".SH EXAMPLES\n.nf\n{}.fi", EXAMPLES.replace('-', "\\-"))?;
    writeln!(out, ".SH \"EXIT STATUS\"\n{}", EXIT_CODES.trim_start_matches("Exit codes: "))
}

/// Tells an option from others: by its name, its values, and what it says, since one name may mean different things.
fn key(arg: &Arg) -> [String; 3] {
    let values: Vec<String> = values(arg).iter().map(|value| value.get_name().to_owned()).collect();
    [arg.get_id().to_string(), values.join(" "), help(arg)]
}

fn help(arg: &Arg) -> String {
    arg.get_long_help().or(arg.get_help()).map(StyledStr::to_string).unwrap_or_default()
}

/// The values that an option may have, if these are words.
fn values(arg: &Arg) -> Vec<PossibleValue> {
    if arg.get_action().takes_values() { arg.get_possible_values() } else { Vec::new() }
}

fn is_help(arg: &Arg) -> bool {
    arg.get_id() == "help" || arg.is_hide_set()
}

fn name_of(arg: &Arg) -> String {
    arg.get_long().map_or_else(|| arg.get_id().to_string(), |long| format!("--{long}"))
}

/// The options that several commands have, with the commands' names.
fn shared<'a>(commands: impl Iterator<Item = &'a Command>) -> BTreeMap<[String; 3], (Arg, Vec<String>)> {
    let mut all: BTreeMap<[String; 3], (Arg, Vec<String>)> = BTreeMap::new();
    for command in commands {
        for arg in command.get_arguments().filter(|arg| !is_help(arg)) {
            let (_, names) = all.entry(key(arg)).or_insert_with(|| (arg.clone(), Vec::new()));
            names.push(command.get_name().to_owned());
        }
    }
    all.retain(|_, (_, names)| names.len() > 1);
    all
}

/// Describes options, one paragraph each. Values that need no words of their own are named in a line.
fn options(out: &mut dyn Write, options: impl Iterator<Item = Arg>) -> io::Result<()> {
    let short = |arg: Arg| {
        // What it goes together with may not be among these.
        let arg = arg.conflicts_with(Resettable::Reset).requires(Resettable::Reset);
        let values = values(&arg);
        if values.is_empty() || values.iter().any(|value| value.get_help().is_some()) {
            return arg;
        }
        let names: Vec<&str> =
            values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
        let help = help(&arg);
        let help = format!("{help}: {}", names.join(", "));
        arg.help(help).long_help(None::<&str>).hide_possible_values(true)
    };
    let options = Command::new("golife").disable_help_flag(true).args(options.map(short));
    let mut section = Vec::new();
    Man::new(options).render_options_section(&mut section)?;
    // The section has a heading of its own already.
    out.write_all(String::from_utf8_lossy(&section).replace(".SH OPTIONS\n", "").as_bytes())
}

fn glossary(out: &mut dyn Write, heading: &str, words: &[(&str, &str)]) -> io::Result<()> {
    writeln!(out, ".SH \"{heading}\"")?;
    for (word, meaning) in words {
        writeln!(out, ".TP\n\\fB{word}\\fR\n{}", meaning.replace('-', "\\-"))?;
    }
    Ok(())
}

fn escaped(text: &StyledStr) -> String {
    text.to_string().replace('\\', "\\\\").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_described_once_for_all_that_share_it() {
        let mut page = Vec::new();
        write(&mut page).expect("writing to memory");
        let page = String::from_utf8(page).expect("it is text");
        let command = Cli::command();
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let named = visible.flat_map(Command::get_arguments).filter(|arg| !is_help(arg));
        let mut keys: Vec<_> = named.filter_map(|arg| Some((arg.get_long()?, key(arg)))).collect();
        keys.sort();
        keys.dedup();
        for (long, _) in &keys {
            let wanted = keys.iter().filter(|(other, _)| other == long).count();
            let described = page.matches(&format!("\\-\\-{}\\fR", long.replace('-', "\\-"))).count();
            assert_eq!(described, wanted, "--{long}");
        }
        assert!(keys.len() > 20 && page.contains("\\-\\-creation\\-stacks\\fR"));
    }
}
