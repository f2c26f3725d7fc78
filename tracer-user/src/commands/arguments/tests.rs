//! Checks the command line, and that the texts show what it has.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_target_is_required() {
    assert!(Cli::try_parse_from(["golife", "trace"]).is_err());
    assert!(Cli::try_parse_from(["golife", "trace", "--pid", "0"]).is_err());
    assert!(Cli::try_parse_from(["golife", "leaks", "--pid", "1", "--pid", "2", "--for", "5s"]).is_ok());
    assert!(Cli::try_parse_from(["golife", "hist", "a.json", "b.json", "--scale", "2x"]).is_ok());
    assert!(Cli::try_parse_from(["golife", "hist", "a.json", "--pid", "3"]).is_err());
    assert!(Cli::try_parse_from(["golife", "hist", "a.json", "--for", "3s"]).is_err());
    assert!(Cli::try_parse_from(["golife", "hist", "--pid", "3", "--for", "3s"]).is_ok());
    assert!(Cli::try_parse_from(["golife", "run", "--", "ls", "-l"]).is_ok());
    assert!(Cli::try_parse_from(["golife", "run"]).is_err());
}

#[test]
fn the_grace_is_a_second_unless_said() {
    let grace = |more: &[&str]| {
        let parsed = Cli::try_parse_from([&["golife", "run"], more, &["--", "ls"]].concat());
        parsed.ok().map(|cli| match cli.command {
            Command::Run(run) => run.grace,
            other => panic!("not run: {other:?}"),
        })
    };
    assert_eq!(grace(&[]), Some(Duration::from_secs(1)));
    assert_eq!(grace(&["--grace", "250ms"]), Some(Duration::from_millis(250)));
    assert_eq!(grace(&["--grace", "soon"]), None);
}

#[test]
fn other_hosts_are_reached_by_ssh_alone() {
    let parsed = |more: &[&str]| {
        let parsed = Cli::try_parse_from([&["golife", "sweep"], more].concat());
        parsed.ok().map(|cli| match cli.command {
            Command::Sweep(sweep) => sweep.hosts,
            other => panic!("not sweep: {other:?}"),
        })
    };
    let hosts = parsed(&["--hosts", "hosts.txt", "--ssh", "--sudo", "--parallel", "3"]).unwrap();
    assert_eq!((hosts.parallel, hosts.host_timeout, hosts.sudo), (3, Duration::from_secs(60), true));
    assert!(parsed(&["--hosts", "-", "--ssh"]).is_some());
    assert!(parsed(&["--hosts", "hosts.txt"]).is_none(), "how is not said");
    for alone in [&["--ssh"][..], &["--sudo"], &["--parallel", "3"], &["--ssh-config", "x"]] {
        assert!(parsed(alone).is_none(), "{alone:?} means nothing on this host");
    }
    assert!(parsed(&["--hosts", "-", "--ssh", "--pid", "1"]).is_none(), "of which host?");
    assert!(parsed(&["--hosts", "-", "--ssh", "--parallel", "0"]).is_none());
}

/// The documents and all sources of golife, which contain everything that it prints.
fn texts() -> Vec<(std::path::PathBuf, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = vec![root.join("src")];
    open.extend(
        ["../README.md", "../ARCHITECTURE.md", "../CHANGELOG.md", "../docs"].map(|name| root.join(name)),
    );
    let mut texts = Vec::new();
    while let Some(path) = open.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => open.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => texts.extend(std::fs::read_to_string(&path).ok().map(|text| (path, text))),
        }
    }
    assert!(texts.len() > 50, "{}", texts.len());
    texts
}

#[test]
fn every_option_that_a_text_names_exists() {
    /// Options of other programs that the texts name.
    const OF_OTHERS: [&str; 10] = [
        "--arch",
        "--format-version",
        "--locked",
        "--long",
        "--offline",
        "--pdi",
        "--port",
        "--release",
        "--test",
        "--write",
    ];
    let mut cli = Cli::command();
    cli.build();
    let is_known = |option: &str| {
        let has = |command: &clap::Command| {
            command.get_arguments().any(|argument| argument.get_long() == option.strip_prefix("--"))
        };
        has(&cli) || cli.get_subcommands().any(has)
    };
    let pattern = Regex::new("(?:^|[^-a-z0-9])(--[a-z][a-z0-9-]*)").unwrap();
    let mut named = 0;
    // Those of golife-fleet are compared with what that has, by its own tests.
    let is_of_fleet = |line: &&str| line.contains("golife fleet") || line.contains("golife-fleet");
    for (path, text) in texts().into_iter().filter(|(path, _)| !path.ends_with("docs/fleet.md")) {
        let ours: String =
            text.lines().filter(|line| !is_of_fleet(line)).map(|line| format!("{line}\n")).collect();
        for option in pattern.captures_iter(&ours).map(|found| found[1].to_owned()) {
            let exists = is_known(&option) || OF_OTHERS.contains(&option.as_str());
            assert!(exists, "{}: golife has no option {option}", path.display());
            named += 1;
        }
    }
    assert!(named > 50, "{named}: the texts name no options any more?");
}

#[test]
fn every_command_line_that_a_text_shows_can_be_run() {
    let mut shown = 0;
    for (path, text) in
        texts().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "md"))
    {
        let in_line = text.split('`').skip(1).step_by(2);
        let in_block = text.split("```").skip(1).step_by(2).flat_map(str::lines);
        for line in in_line.chain(in_block).chain(EXAMPLES.lines()) {
            let line = line.trim_start_matches(['$', ' ']);
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            // The command ends where a comment or the column with its description begins.
            let line = line.split(" # ").next().and_then(|line| line.split("  ").next()).unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            // Some texts only name a subcommand.
            if words.first() != Some(&"golife") || words.len() < 3 {
                continue;
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                // A table may leave out whom to trace, or name an option without a value.
                let kind = error.kind();
                let is_open = words.last().is_some_and(|word| word.starts_with("--"));
                let is_part = kind == clap::error::ErrorKind::MissingRequiredArgument
                    || is_open && kind == clap::error::ErrorKind::InvalidValue;
                assert!(is_part, "{}: {line}: {error}", path.display());
            }
            shown += 1;
        }
    }
    assert!(shown > 15, "{shown}");
}

#[test]
fn durations_and_factors() {
    assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
    assert!(parse_duration("0s").is_err());
    assert!(parse_interval("1ms").is_err());
    assert!(parse_window("1ns").unwrap_err().contains("too short"));
    assert_eq!(parse_factor("2.5x"), Ok(2.5));
    assert!(parse_factor("-1x").is_err());
    assert!(parse_factor("NaN").is_err());
}
